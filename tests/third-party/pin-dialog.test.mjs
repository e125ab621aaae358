// PINs where players have dialogs (1.21.6 on): asked for in the configuration, before any backend hears of the player.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { offline } from './backend.mjs'
import { warm } from './client.mjs'
import { commandNames } from './commands.mjs'
import { click, compound, handIn, nested, readDialog } from './dialogs.mjs'
import { assertNowhere, newCode, order, PATIENT, settle, TEXTS } from './pins.mjs'
import { leave, Stage } from './stage.mjs'
import { named } from './versions.mjs'
import { within } from './waiting.mjs'
import { exchange } from './wire.mjs'

const LIMIT = { timeout: 120_000 }
const STEPS = { concurrency: 5, ...LIMIT }
/** What one player does, it does one after the other. */
const IN_TURN = { concurrency: false, ...LIMIT }
/** The threshold that the proxy sets where it knows none of the backend's. */
const GUESS = 256
const MOMENT = 300

const ASKED = ['1.21.6', '1.21.8', '1.21.9', '1.21.11', '26.1'].map(named)
/** Backends of each version's own, so that one can tell who connected, by what they compress from. */
const THRESHOLDS = { same: GUESS, lower: 64, higher: 1024, off: null }
const COOKIE = 'third:cookie'
const CRUMBS = Buffer.from('crumbs')
const CHANNELS = Buffer.from('third:party\0third:mod')

function backendOf (version, kind) {
  return `${kind}${version.protocol}`
}

warm(ASKED)

describe('PINs where there are dialogs', { concurrency: 3, ...LIMIT }, () => {
  describe('PINs in a dialog', IN_TURN, shown)
  describe('PINs in a dialog, in the course of time', IN_TURN, inTime)
  describe('PINs of players whose login finds out that there is an outage', IN_TURN, inPlace)
})

function shown () {
  const players = new Map()
  let stage

  before(async () => {
    const kinds = {}
    for (const version of ASKED) {
      for (const [kind, threshold] of Object.entries(THRESHOLDS)) {
        kinds[backendOf(version, kind)] = { threshold, cookie: kind === 'higher' ? COOKIE : undefined }
      }
    }
    for (const forwarding of ['legacy', 'bungeeguard']) kinds[forwarding] = { threshold: 64, forwarding }
    kinds.offline = { threshold: GUESS, forwarding: 'none' }
    kinds.whitelisted = { threshold: GUESS, fault: 'whitelists' }
    stage = await Stage.start({
      forwarding: 'modern',
      kinds,
      backends: { nowhere: { address: '127.0.0.1:1' } },
      hosts: { 'spare.test': ['nowhere', backendOf(ASKED.at(-1), 'same')] },
      sections: {
        ...PATIENT,
        security: { 'pin-timeout-seconds': 60, 'max-failed-attempts': 50 },
        network: { ...PATIENT.network, 'compression-threshold': GUESS }
      },
      logging: 'trace'
    })
    for (const [index, version] of ASKED.entries()) {
      players.set(version, known(stage, `D_${version.name.replaceAll('.', '_')}`, `127.4.${index + 1}.1`))
    }
  }, LIMIT)
  after(() => stage?.stop())

  describe('while the session server answers', STEPS, () => {
    for (const version of ASKED) {
      it(`${version.name}: sets a PIN`, LIMIT, async () => {
        const player = players.get(version)
        const visit = await settle(await stage.enter(version, player, backendOf(version, 'same')))
        await order(visit.joined, `setpin ${player.code}`, TEXTS.saved)
        assert.match(await stage.proxy.stored(player.id), /\$argon2id\$/)
        assert.deepEqual(visit.world.words, [])
        await leave(visit)
      })
    }
  })

  describe('during an outage', () => {
    before(() => stage.become('reset', 'down'), LIMIT)

    describe('each player', STEPS, () => {
      for (const version of ASKED) {
        describe(version.name, IN_TURN, () => {
          for (const [kind, threshold] of Object.entries(THRESHOLDS)) {
            it(`${version.name}: fails once, and then plays where frames are compressed from ${threshold ?? 'no size'} on`, LIMIT, () => {
              return passes(stage, version, players.get(version), backendOf(version, kind), { threshold: GUESS })
            })
          }

          for (const kind of version === ASKED.at(-1) ? ['lower', 'off'] : []) {
            it(`${version.name}: is met with the threshold of that backend the next time (${kind})`, LIMIT, () => {
              return passes(stage, version, players.get(version), backendOf(version, kind), { threshold: THRESHOLDS[kind] })
            })
          }

          it(`${version.name}: is thrown out after three wrong codes`, LIMIT, async () => {
            await unseen(stage, version, players.get(version), async ({ joined, dialog, mark }) => {
              for (let wrong = 1; wrong < 3; wrong++) dialog = await wrongCode(joined, dialog)
              handIn(joined, dialog, newCode())
              const end = await joined.ended
              assert.match(end.text ?? '', TEXTS.failure)
              assert.equal(end.state, 'configuration')
              assert.equal((await stage.proxy.event(mark, { event: 'login.refused', player: joined.name })).reason, 'pin-failed')
            })
          })

          it(`${version.name}: leaves by the button`, LIMIT, async () => {
            await unseen(stage, version, players.get(version), async ({ joined, dialog }) => {
              click(joined, dialog.leave.id, compound({ [dialog.inputs[0].key]: '' }))
              assert.equal((await joined.ended).state, 'configuration')
            })
          })

          it(`${version.name}: leaves without a word`, LIMIT, async () => {
            await unseen(stage, version, players.get(version), ({ joined }) => joined.leave())
          })
        })
      }
    })

    describe('at backends that learn in other ways who it is', IN_TURN, () => {
      for (const at of ['legacy', 'bungeeguard']) {
        it(`plays with ${at} forwarding`, LIMIT, () => passes(stage, ASKED[0], players.get(ASKED[0]), at, { threshold: GUESS }))
      }
    })

    describe('what is the matter with the backend', IN_TURN, () => {
      const version = ASKED.at(-1)
      const comesTo = async (at, story) => {
        const player = players.get(version)
        const { joined, dialog, mark } = await asked(stage, version, player, at, { threshold: GUESS })
        handIn(joined, dialog, player.code)
        try {
          await story({ joined, player, mark })
        } finally {
          if (!joined.client.ended) await joined.leave()
        }
      }

      for (const [at, text] of [['nowhere', /^The game server is not answering right now/], ['whitelisted', /^You are not on the list here$/]]) {
        it(`is told to the player, whose code was right (${at})`, LIMIT, () => comesTo(at, async ({ joined }) => {
          const end = await joined.ended
          assert.match(end.text ?? '', text)
          assert.equal(end.state, 'configuration')
        }))
      }

      it('does not matter if there is another', LIMIT, () => comesTo('spare', async ({ joined, player }) => {
        const seat = await stage.backends[backendOf(version, 'same')].joined(player.name)
        await leave(await settle({ joined, seat }))
      }))

      it('which makes ids of its own: the player has that of the backend, as at any other time', LIMIT, () => comesTo('offline', async ({ joined, player }) => {
        const seat = await stage.backends.offline.joined(player.name)
        assert.deepEqual(seat.identity, offline(player.name))
        const { world } = await settle({ joined, seat })
        joined.say('hello')
        await world.said('hello')
        // Servers throw out who comes with a key that was signed for another id, and the game sends the key of its own.
        assert.deepEqual([joined.id, world.signs], [seat.identity.id, false])
        await leave({ joined, seat })
      }))
    })

    describe('answers that are none', IN_TURN, () => {
      const version = ASKED.at(-1)
      const broken = compound({ code: 'cut off' }).subarray(0, -5)
      const answers = {
        'of a button that is not there': dialog => ['third:button', compound({ [dialog.inputs[0].key]: 'code' })],
        'without anything typed': dialog => [dialog.submit.id],
        'with the field missing': dialog => [dialog.submit.id, compound({ other: 'code' })],
        'that end early': dialog => [dialog.submit.id, broken],
        'that are too deep': dialog => [dialog.submit.id, nested(600)],
        'that are too long': dialog => [dialog.submit.id, compound(Object.fromEntries(Array.from({ length: 4 }, (_, at) => [`${at}`, 'x'.repeat(20_000)])))]
      }
      for (const [what, answer] of Object.entries(answers)) {
        it(`refuses those ${what}`, LIMIT, async () => {
          await unseen(stage, version, players.get(version), async ({ joined, dialog }) => {
            click(joined, ...answer(dialog))
            const end = await within(joined.ended, 'the end')
            assert.notEqual(end.text, null, 'a text for the player')
            assert.equal(end.state, 'configuration')
          })
        })
      }

      it('and the player still gets in afterwards', LIMIT, () => {
        return passes(stage, version, players.get(version), backendOf(version, 'same'), { threshold: GUESS })
      })
    })
  })

  it('no code stands in the log, in audit.log or anywhere else', LIMIT, () => assertNowhere(stage.proxy))
}

function inTime () {
  const HOLD = 14
  const [LATE, DOUBLE, SLOW] = ['1.21.8', '1.21.11', '26.1'].map(named)
  const players = new Map()
  let stage

  before(async () => {
    const names = [...[LATE, DOUBLE, SLOW].map(version => backendOf(version, 'same')), backendOf(DOUBLE, 'other')]
    const kinds = Object.fromEntries(names.map(name => [name, { threshold: GUESS }]))
    stage = await Stage.start({
      forwarding: 'modern',
      kinds,
      sections: { ...PATIENT, security: { 'pin-timeout-seconds': HOLD } }
    })
    for (const [index, version] of [LATE, DOUBLE, SLOW].entries()) {
      const player = known(stage, `T_${version.protocol}`, `127.5.${index + 1}.1`)
      players.set(version, player)
      const visit = await settle(await stage.enter(version, player, backendOf(version, 'same')))
      await order(visit.joined, `pin ${player.code}`, TEXTS.saved)
      await leave(visit)
    }
    await stage.become('unavailable', 'down')
  }, LIMIT)
  after(() => stage?.stop())

  describe('players who take their time', STEPS, () => {
    it('one who never answers is thrown out, and sees it', LIMIT, async () => {
      await unseen(stage, LATE, players.get(LATE), async ({ joined, mark }) => {
        joined.answersPings = false
        await joined.packet('keep_alive', { ms: HOLD * 1000 })
        await assertThrownOut(joined, 0)
        assert.match((await joined.ended).text, TEXTS.failure)
        assert.equal((await stage.proxy.event(mark, { event: 'login.refused', player: joined.name })).reason, 'pin-timeout')
      })
    })

    it('one who is overtaken by himself sees who did it', LIMIT, async () => {
      const player = players.get(DOUBLE)
      await unseen(stage, DOUBLE, player, async ({ joined }) => {
        joined.answersPings = false
        const second = await asked(stage, DOUBLE, player, backendOf(DOUBLE, 'other'), { threshold: GUESS })
        handIn(second.joined, second.dialog, player.code)
        await stage.backends[backendOf(DOUBLE, 'other')].joined(player.name)
        await assertThrownOut(joined, 0)
        assert.match((await joined.ended).text, /^You logged in from another place\./)
        await second.joined.leave()
      })
    })

    it('one who answers late is kept connected, and gets in', LIMIT, () => {
      return passes(stage, SLOW, players.get(SLOW), backendOf(SLOW, 'same'), { threshold: GUESS, before: joined => joined.packet('keep_alive', { ms: HOLD * 1000 }) })
    })
  })

  it('nobody gets in by a PIN once the session server answers again', LIMIT, async () => {
    await unseen(stage, LATE, players.get(LATE), async ({ joined, dialog }) => {
      await stage.become('up', 'up')
      handIn(joined, dialog, players.get(LATE).code)
      assert.match((await joined.ended).text ?? '', TEXTS.tryAgain)
    })
    await stage.become('reset', 'down')
  })

  it('those who are asked when the proxy stops are told so', LIMIT, async () => {
    const { joined } = await asked(stage, LATE, players.get(LATE), backendOf(LATE, 'same'), { threshold: GUESS })
    const end = stage.proxy.stop()
    const { text, state } = await joined.ended
    assert.match(text ?? '', /^The server is restarting\./)
    assert.equal(state, 'configuration')
    const names = joined.packets.items.map(({ name }) => name)
    assert.ok(names.lastIndexOf('clear_dialog') > names.lastIndexOf('show_dialog'))
    assert.deepEqual(await end, { code: 0, signal: null })
  })
}

function inPlace () {
  const [HELD, ASKED] = ['1.20.4', '26.1'].map(named)
  const players = new Map()
  let stage

  before(async () => {
    stage = await Stage.start({
      forwarding: 'modern',
      kinds: { [backendOf(HELD, 'same')]: { threshold: GUESS }, [backendOf(ASKED, 'same')]: { threshold: GUESS } },
      // It takes the proxy longer to be sure of an outage than these logins take.
      sections: { ...PATIENT, monitoring: { 'health-check-interval': 3600, 'failure-threshold': 100, 'probe-retry-interval': 1000, 'recovery-threshold': 1 } }
    })
    for (const [index, version] of [HELD, ASKED].entries()) {
      const player = known(stage, `I_${version.protocol}`, `127.6.${index + 1}.1`)
      players.set(version, player)
      const visit = await settle(await stage.enter(version, player, backendOf(version, 'same')))
      await order(visit.joined, `pin ${player.code}`, TEXTS.saved)
      await leave(visit)
    }
    // The players' own calls are answered, and the proxy's are not.
    stage.sessions.checks = 'unavailable'
  }, LIMIT)
  after(() => stage?.stop())

  for (const version of [HELD, ASKED]) {
    it(`${version.name}: is asked for the PIN behind the encryption that there is already`, LIMIT, async () => {
      const player = players.get(version)
      const at = backendOf(version, 'same')
      const mark = await stage.proxy.mark()
      let visit
      if (version === ASKED) {
        const { joined, dialog } = await asked(stage, version, player, at, { threshold: GUESS, proven: true })
        assert.equal(stage.backends[at].accepted, 1)
        handIn(joined, await wrongCode(joined, dialog), player.code)
        visit = await settle({ joined, seat: await stage.backends[at].joined(player.name) })
      } else {
        visit = await stage.enter(version, player, at, { held: true })
        assert.deepEqual([visit.login.encrypted, visit.login.joined], [true, true])
        visit.joined.introduce()
        await settle(visit)
        await order(visit.joined, `pin ${player.code}`, TEXTS.success)
      }
      await stage.proxy.event(mark, { event: 'login.fallback', player: player.name })
      visit.joined.say('here I am')
      await visit.world.said('here I am')
      await leave(visit)
    })
  }
}

/** A player with a code of its own, and with keys to sign chat. */
function known (stage, name, from) {
  const player = stage.sessions.register(name)
  return { ...player, from, code: newCode(), profileKeys: stage.authority.certify(player) }
}

/**
 * Joins during an outage as somebody who has a PIN, and reads the dialog. Nobody but the proxy has seen the player then.
 * With `proven` the session server saw it, but did not tell the proxy.
 */
async function asked (stage, version, player, at, { threshold, proven = false }) {
  const mark = await stage.proxy.mark()
  const attempt = await stage.attempt(version, player, at, { cookies: { [COOKIE]: CRUMBS }, profileKeys: player.profileKeys })
  assert.equal(attempt.kind, 'admitted', attempt.text)
  const { player: joined, login } = attempt
  joined.introduce()
  joined.send('minecraft:register', CHANNELS)
  if (at !== 'offline') assert.deepEqual([joined.id, joined.properties], [player.id, player.properties])
  assert.equal(joined.name, player.name)
  assert.deepEqual([login.encrypted, login.shouldAuthenticate, login.joined], [true, proven, proven])
  assert.equal(login.threshold, threshold)
  assert.deepEqual(login.channels, [])

  const dialog = readDialog(await joined.packet('show_dialog'))
  assert.equal(dialog.title, 'Verify your identity')
  const seconds = /Enter your PIN to join as (\w+)\. You have (\d+) seconds\./.exec(dialog.body.map(({ text }) => text).join(' '))
  assert.equal(seconds?.[1], player.name)
  assert.ok(Number(seconds[2]) > 0 && Number(seconds[2]) <= 60, seconds[0])
  assert.equal(dialog.inputs.length, 1)
  assert.equal(dialog.inputs[0].type, 'minecraft:text')
  assert.equal(dialog.inputs[0].label, 'PIN')
  assert.ok(dialog.inputs[0].max_length >= 32)
  for (const [button, label] of [[dialog.submit, 'Join'], [dialog.leave, 'Leave']]) {
    assert.deepEqual([button.type, button.label], ['minecraft:dynamic/custom', label])
  }
  await stage.proxy.event(mark, { event: 'pin.prompted', player: player.name })
  return { joined, dialog, mark }
}

/** Hands in a wrong code; the dialog that follows says so. */
async function wrongCode (joined, dialog) {
  const from = joined.packets.mark
  handIn(joined, dialog, newCode())
  const next = readDialog(await joined.packet('show_dialog', { from }))
  assert.ok(next.body.some(({ text }) => TEXTS.failure.test(text)), 'the dialog says that the code was wrong')
  return next
}

async function passes (stage, version, player, at, { threshold, before }) {
  const backend = stage.backends[at]
  const connections = backend.accepted
  const { joined, dialog, mark } = await asked(stage, version, player, at, { threshold })
  await before?.(joined)
  const again = await wrongCode(joined, dialog)
  await stage.proxy.event(mark, { event: 'pin.failed', player: player.name })
  assert.equal(backend.accepted, connections, 'connections before the code was right')
  handIn(joined, again, player.code)
  const seat = await backend.joined(player.name)
  assert.equal(backend.accepted, connections + 1)
  stage.checkIdentity(version, player, backend, seat)
  assert.equal(seat.query, undefined, 'the answer to what the client can no longer be asked')
  if (seat.cookie !== undefined) assert.deepEqual(seat.cookie, CRUMBS)
  await stage.proxy.event(mark, { event: 'pin.verified', player: player.name })
  await stage.proxy.event(mark, { event: 'login.fallback', player: player.name, id: player.id, backend: at })

  // What the client says once in configuration, before there was a backend.
  await seat.packet('settings')
  assert.match((await seat.messages.take('the brand')).channel, /brand/)
  assert.deepEqual(await seat.messages.take('the channels'), { channel: 'minecraft:register', data: CHANNELS })
  await exchange(joined, seat)
  const visit = await settle({ joined, seat })
  const { world } = visit
  const told = seat.packets.items.filter(({ name, state }) => state === 'configuration' && (name === 'settings' || name === 'custom_payload'))
  assert.deepEqual(told.filter(({ data }) => data.channel !== 'third:party').map(({ name }) => name).sort(), ['custom_payload', 'custom_payload', 'settings'])

  const shape = registries => registries.map(({ id, entries }) => [id, entries.map(({ key }) => key)])
  const sent = Object.values(world.data.loginPacket.dimensionCodec)
  const came = joined.packets.items.filter(({ name }) => name === 'registry_data').map(({ data }) => data)
  assert.deepEqual(shape(came), shape(sent))
  for (const name of ['feature_flags', 'select_known_packs', 'tags', 'finish_configuration']) {
    assert.equal(joined.packets.items.filter(packet => packet.name === name).length, 1, name)
  }

  assert.match((await joined.reads(/./, { kind: 'system' })).text, TEXTS.cached)
  assert.ok(['pin', 'resetpin', 'setpin'].every(name => commandNames(joined.packets.items.find(packet => packet.name === 'declare_commands').data).includes(name)))
  joined.say('here I am')
  await world.said('here I am')
  joined.command('help me')
  await world.commanded('help me')
  assert.ok(world.signs)
  world.hear('welcome')
  assert.equal((await joined.reads(/^welcome$/)).kind, 'player')
  joined.say('thank you')
  await world.said('thank you')
  assert.equal(world.unreported, 0)
  assert.match((await joined.messages.take('the brand')).channel, /brand/)
  await exchange(joined, seat)
  assert.deepEqual(world.words, ['here I am', '/help me', 'thank you'])
  if (backend.threshold !== null && backend.threshold !== threshold) {
    // Since 1.17.1 the game takes frames that its threshold does not fit; servers do not.
    assert.deepEqual(joined.faults.filter(fault => !/^(plain|compressed) frame of/.test(fault)), [])
    joined.faults.length = 0
  }
  await leave(visit)
}

/** Whatever a player does that is asked for its PIN in `story`: its backend hears nothing of it. */
async function unseen (stage, version, player, story) {
  const at = backendOf(version, 'same')
  const connections = stage.backends[at].accepted
  const scene = await asked(stage, version, player, at, { threshold: GUESS })
  await story(scene)
  await scene.joined.ended
  await stage.proxy.event(scene.mark, { event: 'login.refused', player: player.name })
  assert.equal(stage.backends[at].accepted, connections, 'connections to the backend')
}

/**
 * A game that shows a dialog does not show why it is thrown out: the dialog must go first, and only when the game has read
 * that (it answers a ping) may the reason follow.
 */
async function assertThrownOut (joined, from) {
  const { id } = await joined.packet('ping', { from, ms: 20_000 })
  await new Promise(resolve => setTimeout(resolve, MOMENT))
  const steps = () => joined.packets.since(from).map(({ name }) => name).filter(name => ['clear_dialog', 'ping', 'disconnect'].includes(name))
  assert.deepEqual(steps(), ['clear_dialog', 'ping'])
  joined.client.write('pong', { id })
  const end = await joined.ended
  assert.deepEqual(steps(), ['clear_dialog', 'ping', 'disconnect'])
  assert.equal(end.state, 'configuration')
}
