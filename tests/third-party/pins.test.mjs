// PINs typed as commands: set in health, asked for in an outage, below the versions that have dialogs.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import { warm } from './client.mjs'
import { commandNames, commandTree } from './commands.mjs'
import { assertKeptBack, assertNowhere, assertOnlyAllowed, breath, newCode, order, PATIENT, settle, TEXTS } from './pins.mjs'
import { leave, Stage } from './stage.mjs'
import { BUNDLES, CHAT_SENDER, COMMAND_TREE, COMPRESSION, CONFIGURATION, DIALOGS, LOGIN_PLUGIN, named, VERSIONS } from './versions.mjs'
import { STEP, within } from './waiting.mjs'
import { exchange } from './wire.mjs'

const LIMIT = { timeout: 120_000 }
const STEPS = { concurrency: 12, ...LIMIT }
/** What one player or one proxy goes through, it does in turn. */
const IN_TURN = { concurrency: false, ...LIMIT }

const HELD = VERSIONS.filter(version => version.protocol < DIALOGS)
/** Its players have dialogs. */
const NEWER = named('1.21.8')
/** What never reaches a backend, typed or half typed. */
const OURS = ['/pin', '/PIN 1', '/minecraft:pin 2', ' /pin 3', '   /SetPin 4', '/resetpin', '/setpin', '/postern:ResetPin x']
/** What only looks like it. */
const OTHERS = ['/pins', '/pint 1', '/spin 2', '/help pin', 'my /pin is', '/set pin', '/minecraft:pinned']
/** Ways to type a command that mean the same; each version's players have one of their own. */
const SPELLINGS = ['setpin', 'SETPIN', 'minecraft:setpin', 'SetPin', 'postern:SETPIN']

/** Milliseconds after which who is held is asked again. */
const PROMPTS = 3000

const KINDS = { packed: { threshold: 256 }, old: { threshold: 256, forwarding: 'none' } }

function brandOf (version) {
  return version.protocol < COMMAND_TREE ? 'MC|Brand' : 'minecraft:brand'
}

/** The backend for players of a version. */
function home (version) {
  return version.protocol < LOGIN_PLUGIN ? 'old' : 'packed'
}

warm([...HELD, NEWER])

describe('PINs', { concurrency: 3, ...LIMIT }, () => {
  describe('PINs as commands', IN_TURN, typed)
  describe('PINs in the course of time', IN_TURN, inTime)
  describe('PINs switched off', IN_TURN, switchedOff)
})

function typed () {
  const players = new Map()
  let stage, guessable

  function player (name, network) {
    return { ...stage.sessions.register(name), from: `127.1.${network}.1`, code: newCode() }
  }

  before(async () => {
    stage = await Stage.start({
      forwarding: 'modern',
      kinds: KINDS,
      sections: { ...PATIENT, security: { 'require-pin-on-fallback': true, 'pin-timeout-seconds': 90 } },
      logging: 'trace'
    })
    for (const [index, version] of [...HELD, NEWER].entries()) {
      players.set(version, player(`C_${version.name.replaceAll('.', '_')}`, index + 1))
    }
  }, LIMIT)
  after(() => stage?.stop())

  describe('while the session server answers', STEPS, () => {
    for (const [index, version] of HELD.entries()) {
      it(`${version.name}: sets a PIN, which /pin does not replace`, LIMIT, async () => {
        const player = players.get(version)
        const visit = await settle(await stage.enter(version, player, home(version)))
        const { joined, seat, world } = visit
        await joined.reads(TEXTS.required, { kind: 'system' })
        if (version.protocol >= COMMAND_TREE) assertTree(version, await joined.packet('declare_commands'))

        joined.command(`${SPELLINGS[index % SPELLINGS.length]} ${player.code}`)
        joined.command(`pin ${newCode()}`)
        await joined.reads(TEXTS.saved, { kind: 'system' })
        const stored = await stage.proxy.stored(player.id)
        assert.match(stored, /\$argon2id\$/, 'on disk when the player reads that it is saved')
        await joined.reads(TEXTS.hasty, { kind: 'system' })
        await breath()
        await order(joined, `pin ${newCode()}`, TEXTS.exists)
        assert.equal(await stage.proxy.stored(player.id), stored)

        for (const [swallowed, typed] of [[true, OURS], [false, OTHERS]]) {
          const from = world.words.length
          for (const text of typed) {
            if (text.startsWith('/')) joined.command(text.slice(1))
            else joined.say(text)
            joined.complete(text)
          }
          await seat.keepAlive()
          // Keep-alives and what is typed come in the order in which they were sent.
          assert.deepEqual(world.words.slice(from), swallowed ? [] : typed.flatMap(text => [text, text]))
        }
        joined.say('pin it there')
        await world.said('pin it there')
        if (version.protocol >= COMMAND_TREE) {
          const from = joined.packets.mark
          world.declare()
          assertTree(version, await joined.packet('declare_commands', { from }))
        }
        await leave(visit)
        await stage.proxy.event(visit.mark, { event: 'pin.set', player: player.name, id: player.id })
      })
    }

    it(`${NEWER.name}: sets a PIN`, LIMIT, async () => {
      const player = players.get(NEWER)
      const visit = await settle(await stage.enter(NEWER, player, 'packed'))
      await order(visit.joined, `pin ${player.code}`, TEXTS.saved)
      await leave(visit)
    })

    it('refuses codes that are easily guessed', LIMIT, async () => {
      guessable = player('Guessable', 40)
      const visit = await settle(await stage.enter(named('1.20.4'), guessable, 'packed'))
      for (const weak of ['123456', 'aaaaaaaa']) {
        await order(visit.joined, `setpin ${weak}`, TEXTS.weak)
        await breath()
      }
      await order(visit.joined, 'resetpin', TEXTS.none)
      assert.deepEqual(visit.world.words, [])
      await leave(visit)
    })
  })

  describe('during an outage', () => {
    before(() => stage.become('reset', 'down'), LIMIT)

    describe('with the right code', STEPS, () => {
      for (const version of HELD) {
        it(`${version.name}: is held, fails once, and then plays`, LIMIT, () => passes(stage, version, players.get(version)))
      }
    })

    describe('without it', STEPS, () => {
      for (const version of HELD) {
        it(`${version.name}: is thrown out after three wrong codes`, LIMIT, () => fails(stage, version, players.get(version)))
      }
    })

    describe('after an attempt that ended unproven', STEPS, () => {
      for (const version of HELD) {
        it(`${version.name}: comes in from the very address that is known, and from no other`, LIMIT, async () => {
          const player = players.get(version)
          const neighbour = { ...player, from: player.from.replace(/\.1$/, '.77') }
          await stage.assertKeptOut(version, neighbour, home(version), { reason: 'pin-failed', text: TEXTS.failure })
          const visit = await enterHeld(stage, version, player)
          await order(visit.joined, `pin ${player.code}`, TEXTS.success)
          await leave(visit)
        })
      }
    })

    it('keeps a player out who has no PIN', LIMIT, async () => {
      await stage.assertKeptOut(named('1.20.4'), guessable, 'packed', { reason: 'pin-not-set', text: /^PINs are required during outages/ })
    })

    it('does not let a player with an older version in who always had a newer one', LIMIT, async () => {
      const text = /^This server needs a newer Minecraft version\./
      await stage.assertKeptOut(named('1.20.4'), players.get(NEWER), 'packed', { reason: 'weaker-client', text })
    })
  })

  describe('after the outage', STEPS, () => {
    before(() => stage.become('up', 'up'), LIMIT)

    for (const version of [HELD[1], HELD.at(-1)]) {
      it(`${version.name}: replaces the PIN, and removes it`, LIMIT, async () => {
        const player = players.get(version)
        const visit = await settle(await stage.enter(version, player, home(version)))
        const { joined, world } = visit
        const before = await stage.proxy.stored(player.id)
        const code = newCode()
        await order(joined, `setpin ${code}`, TEXTS.saved)
        assert.notEqual(await stage.proxy.stored(player.id), before)
        await breath()
        await order(joined, 'resetpin', TEXTS.removed)
        assert.doesNotMatch(await stage.proxy.stored(player.id), /argon2/)
        await breath()
        await order(joined, 'resetpin', TEXTS.none)
        assert.deepEqual(world.words, [])
        await leave(visit)
      })
    }
  })

  it('no code stands in the log, in audit.log or anywhere else', LIMIT, () => assertNowhere(stage.proxy))
}

function inTime () {
  const [HOLD, BANNED_AFTER] = [8, 3]
  const [OLD, NEW] = [named('1.12.2'), named('1.21.4')]
  const players = {}
  const staff = {}
  let stage, told

  /** Verified, with a PIN if `pin`, and gone again. */
  async function known (name, version, { pin = true, from = `127.2.${Object.keys(players).length + 1}.1` } = {}) {
    const player = { ...stage.sessions.register(name), from, code: newCode() }
    players[name] = player
    const visit = await settle(await stage.enter(version, player, home(version)))
    if (pin) await order(visit.joined, `pin ${player.code}`, TEXTS.saved)
    await leave(visit)
  }

  before(async () => {
    stage = await Stage.start({
      forwarding: 'modern',
      kinds: KINDS,
      sections: {
        ...PATIENT,
        security: { 'pin-timeout-seconds': HOLD, 'max-failed-attempts': BANNED_AFTER },
        alerts: { staff: ['Boss', 'chief', 'Deputy'] }
      }
    })
    await Promise.all([
      known('Patient', OLD), known('Leaver', NEW), known('Chief', NEW), known('Deputy', NEW, { pin: false }), known('Friend', NEW, { pin: false }),
      known('Neighbour', NEW, { pin: false, from: '127.2.2.9' }), known('Guest', NEW)
    ])
    staff.Boss = await settle(await stage.enter(NEW, { ...stage.sessions.register('Boss'), from: '127.2.9.1' }, 'packed'))
    await stage.become('unavailable', 'down')
  }, LIMIT)
  after(() => stage?.stop())

  it('tells staff of the outage', LIMIT, () => staff.Boss.joined.reads(/^\[Postern\] .*authentication servers.*\bdown\b/i, { kind: 'system', ms: 15_000 }))

  it('lets staff in by policy, and by a PIN', LIMIT, async () => {
    staff.Deputy = await settle(await stage.enter(NEW, players.Deputy, 'packed'))
    staff.Chief = await enterHeld(stage, NEW, players.Chief)
    await order(staff.Chief.joined, `pin ${players.Chief.code}`, TEXTS.success)
    await staff.Boss.joined.reads(/^\[Postern\] (Chief joined without Mojang|and more: .* without Mojang)/, { kind: 'system', ms: 15_000 })
    told = Date.now()
  })

  it('throws a player out whose time is over', LIMIT, async () => {
    const { joined, seat, world, mark } = await enterHeld(stage, OLD, players.Patient)
    const began = Date.now()
    await joined.reads(TEXTS.prompt, { kind: 'bar' })
    const end = await within(joined.ended, 'the end of the time', (HOLD + 5) * 1000)
    assert.match(end.text ?? '', TEXTS.failure)
    assert.ok(Date.now() - began > (HOLD - 2) * 1000, `after ${Date.now() - began} ms`)
    await seat.ended
    assert.equal((await stage.proxy.event(mark, { event: 'login.refused', player: 'Patient' })).reason, 'pin-timeout')
    assertOnlyAllowed(seat)
    assert.deepEqual(world.words, [])
  })

  it('tells verified staff and those who proved their PIN who was let in, and nobody else', LIMIT, async () => {
    // Staff get three lines within ten seconds, and then one that sums up.
    await new Promise(resolve => setTimeout(resolve, told + 10_500 - Date.now()))
    const friend = await settle(await stage.enter(NEW, players.Friend, 'packed'))
    assert.match((await friend.joined.reads(/./, { kind: 'system' })).text, TEXTS.cached)
    for (const name of ['Boss', 'Chief']) await staff[name].joined.reads(/^\[Postern\] Friend joined without Mojang from 127\.2\.5\.1: /, { kind: 'system' })
    // Nobody who is in unproven can give itself what proves it the next time.
    await order(friend.joined, `setpin ${newCode()}`, TEXTS.notNow)
    await breath()
    await order(friend.joined, `pin ${newCode()}`, TEXTS.notNow)
    assert.doesNotMatch(await stage.proxy.stored(players.Friend.id), /argon2/)
    staff.Deputy.world.tell('nothing more')
    await staff.Deputy.joined.reads(/^nothing more$/)
    for (const { joined } of [staff.Deputy, friend]) {
      assert.deepEqual(joined.lines.items.filter(({ text }) => text.includes('[Postern]')), [])
    }
    await leave(friend)
  })

  it('counts attempts that end unproven towards the ban of an address, from which the player itself is still let in', LIMIT, async () => {
    const mark = await stage.proxy.mark()
    for (let count = 0; count < BANNED_AFTER; count++) {
      const visit = await enterHeld(stage, NEW, players.Leaver)
      await visit.joined.reads(TEXTS.prompt, { kind: 'system' })
      await leave(visit)
      assert.equal((await stage.proxy.event(visit.mark, { event: 'login.refused', player: 'Leaver' })).reason, 'client-left')
    }
    await stage.proxy.event(mark, { event: 'ban.added' })
    await staff.Boss.joined.reads(/^\[Postern\] (banned|and more: .*\bban)/, { kind: 'system', ms: 15_000 })
    const neighbour = { ...players.Neighbour, from: players.Leaver.from }
    await stage.assertKeptOut(NEW, neighbour, 'packed', { reason: 'banned', text: /^Too many failed attempts\./ })
    const visit = await enterHeld(stage, NEW, players.Leaver)
    await order(visit.joined, `pin ${players.Leaver.code}`, TEXTS.success)
    await leave(visit)
  })

  it('lets those change their PIN who proved who they are, and nobody remove it', LIMIT, async () => {
    const { Boss, Chief } = staff
    await order(Boss.joined, `setpin ${newCode()}`, TEXTS.saved)
    await breath()
    await order(Boss.joined, 'resetpin', TEXTS.resetLater)
    const code = newCode()
    await order(Chief.joined, `setpin ${code}`, TEXTS.saved)
    await breath()
    await order(Chief.joined, 'resetpin', TEXTS.notNow)
    await leave(Chief)
    const { joined, seat } = await enterHeld(stage, NEW, players.Chief)
    await order(joined, `pin ${players.Chief.code}`, TEXTS.failure)
    await breath()
    await order(joined, `pin ${code}`, TEXTS.success)
    await leave({ joined, seat })
  })

  it('bans nobody whom its backend sent away, but asks only where the player is known then', LIMIT, async () => {
    const first = await enterHeld(stage, NEW, players.Guest)
    await first.joined.reads(TEXTS.prompt, { kind: 'system' })
    first.seat.kick('We are full')
    assert.equal((await first.joined.ended).text, 'We are full')
    assert.equal((await stage.proxy.event(first.mark, { event: 'login.refused', player: 'Guest' })).reason, 'backend-unavailable')
    const neighbour = { ...players.Guest, from: players.Guest.from.replace(/\.1$/, '.77') }
    await stage.assertKeptOut(NEW, neighbour, 'packed', { reason: 'pin-failed', text: TEXTS.failure })
    const { joined, seat } = await enterHeld(stage, NEW, players.Guest)
    await order(joined, `pin ${players.Guest.code}`, TEXTS.success)
    await leave({ joined, seat })
  })

  it('has the first of two who are held stay, and the other read why', LIMIT, async () => {
    const first = await enterHeld(stage, NEW, players.Leaver)
    await first.joined.reads(TEXTS.prompt, { kind: 'system' })
    await stage.assertKeptOut(NEW, players.Leaver, 'packed', { reason: 'already-online', text: /^You are already connected/ })
    await order(first.joined, `pin ${players.Leaver.code}`, TEXTS.success)
    await leave(first)
  })

  it('lets nobody in by a PIN once the session server answers again, and a proven login takes over', LIMIT, async () => {
    const [late, overtaken] = await Promise.all([enterHeld(stage, OLD, players.Patient), enterHeld(stage, NEW, players.Leaver)])
    await stage.become('up', 'up')
    const again = await settle(await stage.enter(NEW, players.Leaver, 'packed'))
    assert.match((await overtaken.joined.ended).text ?? '', /^You logged in from another place\./)
    late.joined.command(`pin ${players.Patient.code}`)
    assert.match((await late.joined.ended).text ?? '', TEXTS.tryAgain)
    assert.equal((await stage.proxy.events()).slice(late.mark).some(({ event, player }) => event === 'login.fallback' && player === 'Patient'), false)
    await leave(again)
    await staff.Boss.joined.reads(/^\[Postern\] .*authentication servers.*\bup\b/i, { kind: 'system', ms: 15_000 })
    await leave(staff.Boss)
    await leave(staff.Deputy)
  })

  it('no code stands in the log, in audit.log or anywhere else', LIMIT, () => assertNowhere(stage.proxy))
}

function switchedOff () {
  const version = named('1.20.4')
  let stage

  before(async () => {
    stage = await Stage.start({ forwarding: 'modern', kinds: KINDS, sections: { ...PATIENT, security: { 'pin-commands': false } } })
  }, LIMIT)
  after(() => stage?.stop())

  it('leaves the commands to the backends, and their trees as they are', LIMIT, async () => {
    const player = { ...stage.sessions.register('Plain'), from: '127.7.1.1' }
    const { joined, seat, world } = await settle(await stage.enter(version, player, 'packed'))
    assert.deepEqual(commandNames(await joined.packet('declare_commands')), commandNames(commandTree(version.name)))
    for (const text of ['setpin Abc123xyz', 'pin Abc123xyz', 'resetpin']) joined.command(text)
    await world.commanded('resetpin')
    assert.deepEqual(world.words, ['/setpin Abc123xyz', '/pin Abc123xyz', '/resetpin'])
    await leave({ joined, seat })
    assert.doesNotMatch(await stage.proxy.stored(player.id), /argon2/)
  })
}

/** Joins as a player who is held, and goes through the world of the backend, which such a player must be able to. */
async function enterHeld (stage, version, player, options) {
  const visit = await stage.enter(version, player, home(version), { held: true, ...options })
  if (version.protocol >= CONFIGURATION) visit.joined.introduce()
  return settle(visit)
}

async function passes (stage, version, player) {
  const { joined, seat, world, mark } = await enterHeld(stage, version, player)
  assert.match((await joined.reads(/./, { kind: 'system' })).text, TEXTS.cached)
  const first = await joined.reads(TEXTS.prompt, { kind: 'system' })
  const again = version.protocol >= COMPRESSION ? 'bar' : 'system'
  await joined.reads(TEXTS.prompt, { kind: again })
  const secondsOf = ({ text }) => Number(TEXTS.prompt.exec(text)[1])
  assert.ok(secondsOf(first) > 0 && secondsOf(first) <= 90, first.text)

  // While it is held nothing of what it does arrives, and nothing of what others say; what keeps it connected does.
  const down = joined.packets.mark
  joined.say('let me out')
  joined.command('help me')
  joined.command('msg Speaker help')
  joined.complete('/he')
  joined.act()
  world.intrude('third:mod')
  if (version.protocol >= CHAT_SENDER) {
    world.tell('closed at ten')
    await joined.reads(/^closed at ten$/, { kind: 'system' })
  }
  if (version.protocol >= COMPRESSION) {
    world.tell('look up', { overlay: true })
    await joined.reads(/^look up$/, { kind: 'bar' })
  }
  const long = randomBytes(20_000)
  seat.send(brandOf(version), long)
  await joined.packet('custom_payload', { from: down, fits: ({ data }) => long.equals(data) })
  joined.send('third:party', randomBytes(30_000))
  await seat.keepAlive()
  if (version.protocol >= CONFIGURATION) {
    await world.reconfigure(() => seat.send('third:mod', Buffer.from('in configuration')))
  }

  await order(joined, `setpin ${player.code}`, TEXTS.prompt)
  if (version.protocol >= BUNDLES) await assertBundlesWhole(joined, world)
  else await breath()
  await order(joined, `pin ${newCode()}`, TEXTS.failure)
  const later = await joined.reads(TEXTS.prompt, { from: joined.lines.mark, kind: again, ms: 2 * STEP })
  assert.ok(secondsOf(later) < secondsOf(first), `${later.text} after ${first.text}`)
  await seat.keepAlive()
  assertOnlyAllowed(seat)
  assertKeptBack(joined)
  assert.deepEqual(world.words, [])
  assert.equal(joined.packets.since(down).some(({ name }) => name === 'tab_complete'), false)
  assert.equal((await stage.proxy.events()).slice(mark).some(({ event, player: name }) => event === 'login.fallback' && name === player.name), false)

  await breath()
  await order(joined, `pin ${player.code}`, TEXTS.success)
  const entry = await stage.proxy.event(mark, { event: 'login.fallback', player: player.name })
  assert.equal(entry.id, player.id)
  await stage.proxy.event(mark, { event: 'pin.verified', player: player.name })

  const up = seat.packets.mark
  joined.say('here I am')
  await world.said('here I am')
  joined.command('help me')
  await world.commanded('help me')
  joined.act()
  for (const name of ['position', 'look', 'held_item_slot', 'arm_animation', 'client_command']) await seat.packet(name, { from: up })
  await seat.packet('custom_payload', { from: up, fits: ({ channel }) => channel === 'third:party' })
  world.hear('welcome', { signed: false })
  await joined.reads(/^welcome$/)
  seat.send('third:mod', Buffer.from('ready?'))
  await joined.packet('custom_payload', { from: down, fits: ({ channel, data }) => channel === 'third:mod' && Buffer.from(data).toString() === 'ready?' })
  assert.deepEqual(world.words, ['here I am', '/help me'])
  for (const { messages } of [joined, seat]) messages.clear()
  await exchange(joined, seat)
  if (version.protocol >= CONFIGURATION) await world.reconfigure()
  await breath()
  await order(joined, `pin ${newCode()}`, TEXTS.exists)
  assert.deepEqual(world.words, ['here I am', '/help me'])
  await leave({ joined, seat })
}

/** What a server sends between two delimiters the game takes as one: no prompt may come between. */
async function assertBundlesWhole (joined, world) {
  world.write('bundle_delimiter', {})
  world.tell('first of two')
  await new Promise(resolve => setTimeout(resolve, PROMPTS + 200))
  world.tell('second of two')
  world.write('bundle_delimiter', {})
  const first = await joined.reads(/^first of two$/)
  const second = await joined.reads(/^second of two$/)
  const { items } = joined.lines
  assert.equal(items.indexOf(second), items.indexOf(first) + 1, 'lines in a bundle')
}

async function fails (stage, version, player) {
  const { joined, seat, world, mark } = await enterHeld(stage, version, player)
  await joined.reads(TEXTS.prompt, { kind: 'system' })
  for (const attempt of [1, 2]) {
    await order(joined, `pin ${newCode()}`, TEXTS.failure)
    await stage.proxy.event(mark, { event: 'pin.failed', player: player.name })
    await breath()
    assert.equal(joined.client.ended, false, `after ${attempt}`)
  }
  joined.command(`pin ${newCode()}`)
  const end = await joined.ended
  assert.match(end.text ?? '', TEXTS.failure)
  await seat.ended
  const refused = await stage.proxy.event(mark, { event: 'login.refused', player: player.name })
  assert.equal(refused.reason, 'pin-failed')
  assertOnlyAllowed(seat)
  assertKeptBack(joined)
  assert.deepEqual(world.words, [])
}

/** The backend's own tree arrived whole, and with it the commands that are the proxy's. */
function assertTree (version, tree) {
  const original = commandTree(version.name)
  assert.deepEqual(commandNames(tree), [...commandNames(original), 'pin', 'resetpin', 'setpin'].sort())
  assert.equal(tree.rootIndex, original.rootIndex)
  const others = ({ nodes, rootIndex }) => nodes.slice(0, original.nodes.length).filter((node, at) => at !== rootIndex)
    .map(({ flags, children, redirectNode, extraNodeData: data }) => JSON.stringify([flags.has_command, flags.command_node_type, children, redirectNode, data?.name, data?.parser, data?.properties]))
  assert.deepEqual(others(tree), others(original))
}
