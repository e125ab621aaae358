// Signed chat (1.19.3 on) past swallowed commands and past a quarantine: servers of these versions throw out whoever reports
// wrongly what it has seen, or whose signatures do not follow on each other.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { warm } from './client.mjs'
import { assertKeptBack, assertOnlyAllowed, breath, newCode, order, PATIENT, settle, TEXTS } from './pins.mjs'
import { leave, Stage } from './stage.mjs'
import { AUTHENTICATE_FLAG, BARE_COMMAND, CONFIGURATION, named } from './versions.mjs'

const LIMIT = { timeout: 120_000 }
const STEPS = { concurrency: 6, ...LIMIT }

const SIGNING = ['1.19.4', '1.20.1', '1.20.4', '1.20.6', '1.21.4', '1.21.5'].map(named)
/** Those whose players sign in an outage too: earlier ones do only on an encrypted connection, and theirs is not. */
const SIGNING_ALWAYS = SIGNING.filter(version => version.protocol >= AUTHENTICATE_FLAG)

/** Its players sign in any case, with the key that they name at login. */
const CHAINED = named('1.19.2')

warm([...SIGNING, CHAINED])

describe('signed chat', () => {
  const players = new Map()
  let stage
  let held = false

  before(async () => {
    stage = await Stage.start({ forwarding: 'modern', kinds: { packed: { threshold: 256 } }, sections: PATIENT })
    for (const [index, version] of [...SIGNING, CHAINED].entries()) {
      const player = stage.sessions.register(`G_${version.name.replaceAll('.', '_')}`)
      players.set(version, { ...player, from: `127.3.${index + 1}.1`, code: newCode(), profileKeys: stage.authority.certify(player) })
    }
  }, LIMIT)
  after(() => stage?.stop())

  async function enter (version, { settles = true } = {}) {
    const player = players.get(version)
    const visit = await stage.enter(version, player, 'packed', { held, profileKeys: player.profileKeys, keyForwarded: version === CHAINED })
    if (version.protocol >= CONFIGURATION) visit.joined.introduce()
    return settles ? settle(visit) : visit
  }

  /** The player hears `count` signed lines. */
  async function hears ({ joined, world }, count, word) {
    const from = joined.lines.mark
    for (let at = 1; at <= count; at++) world.hear(`${word} ${at}`)
    return joined.reads(new RegExp(`^${word} ${count}$`), { from })
  }

  it(`${CHAINED.name}: is known, and has a PIN`, LIMIT, async () => {
    const visit = await enter(CHAINED)
    await order(visit.joined, `pin ${players.get(CHAINED).code}`, TEXTS.saved)
    visit.joined.say('hello')
    assert.ok((await visit.world.said('hello')).signature.length > 0)
    await leave(visit)
  })

  describe('past a swallowed command', STEPS, () => {
    for (const version of SIGNING) {
      it(`${version.name}: goes on as if it had never been typed`, LIMIT, async () => {
        const player = players.get(version)
        const visit = await enter(version)
        const { joined, seat, world } = visit
        await seat.packet('chat_session_update')
        assert.ok(world.signs)
        assert.equal((await hears(visit, 3, 'morning')).kind, 'player')

        // What the swallowed packet reports as seen must be reported all the same.
        let from = seat.packets.mark
        await order(joined, `setpin ${player.code}`, TEXTS.saved, { signed: true })
        await seat.packet('message_acknowledgement', { from, fits: ({ count }) => count === 3 })
        assert.equal(world.unreported, 0)
        joined.say('good morning')
        await world.said('good morning')

        await hears(visit, 2, 'noon')
        joined.command('me nods', { signed: true })
        await world.commanded('me nods')
        await hears(visit, 4, 'evening')
        await breath()
        await order(joined, `pin ${newCode()}`, TEXTS.exists, { signed: true })
        from = seat.packets.mark
        joined.say('good evening')
        await world.said('good evening')
        assert.equal(world.unreported, 0)

        if (version.protocol >= BARE_COMMAND) {
          // This one reports nothing, and the next one reports all.
          await hears(visit, 5, 'night')
          await breath()
          await order(joined, `pin ${newCode()}`, TEXTS.exists)
          assert.equal(world.unreported, 5)
          joined.say('good night')
          await world.said('good night')
        }
        assert.equal(world.words.some(word => /pin/i.test(word)), false)
        await leave(visit)
      })
    }
  })

  describe('past a quarantine', () => {
    before(async () => {
      await stage.become('reset', 'down')
      held = true
    }, LIMIT)

    describe('of a player who waits', STEPS, () => {
      for (const version of SIGNING) {
        it(`${version.name}: works once the PIN was right`, LIMIT, async () => {
          const visit = await enter(version)
          const { joined, seat, world } = visit
          await joined.reads(TEXTS.prompt, { kind: 'system' })
          if (version.protocol >= AUTHENTICATE_FLAG) await seat.packet('chat_session_update')

          // The server counts what it sent, so what the player does not get is reported for it, with the player's next packet.
          for (let at = 1; at <= 3; at++) world.hear('overheard')
          await seat.keepAlive()
          await seat.packet('message_acknowledgement')
          assert.equal(world.unreported, 0)
          assertKeptBack(joined)
          assertOnlyAllowed(seat)

          await order(joined, `pin ${players.get(version).code}`, TEXTS.success, { signed: version.protocol >= AUTHENTICATE_FLAG })
          await hears(visit, 4, 'welcome')
          joined.say('thank you')
          await world.said('thank you')
          await hears(visit, 2, 'well')
          await seat.keepAlive()
          joined.say('goodbye')
          await world.said('goodbye')
          assert.deepEqual(world.words, ['thank you', 'goodbye'])
          assert.deepEqual(joined.lines.items.filter(({ text }) => TEXTS.rejoin.test(text)), [])
          await leave(visit)
        })
      }
    })

    describe('of a player who chats', STEPS, () => {
      for (const version of [CHAINED, ...SIGNING_ALWAYS]) {
        it(`${version.name}: takes another visit, as the player is told`, LIMIT, async () => {
          const { code } = players.get(version)
          const visit = await enter(version)
          const { joined, seat, world } = visit
          await joined.reads(TEXTS.prompt, { kind: 'system' })
          joined.say('is anybody there?')
          await order(joined, `pin ${code}`, TEXTS.success)
          await joined.reads(TEXTS.rejoin, { kind: 'system' })
          joined.say('hello?')
          await seat.keepAlive()
          assert.deepEqual(world.words, [])
          await leave(visit)

          const again = await enter(version)
          await order(again.joined, `pin ${code}`, TEXTS.success)
          again.joined.say('here I am')
          await again.world.said('here I am')
          await leave(again)
        })
      }
    })
  })
})
