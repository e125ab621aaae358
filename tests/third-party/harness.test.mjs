// The tools proven without the proxy: minecraft-protocol's client against the backend and the stand-in for the session
// server, directly. What fails here is the harness's fault and not the proxy's.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { Backend, offline } from './backend.mjs'
import { join, joinAdmitted, ping } from './client.mjs'
import { commandNames, commandTree } from './commands.mjs'
import { handIn, readDialog } from './dialogs.mjs'
import { writeModern } from './forwarding.mjs'
import { KeyAuthority } from './player-keys.mjs'
import { Seen } from './seen.mjs'
import { SessionServer } from './session-server.mjs'
import { plainNbt } from './text.mjs'
import { CHAT_SESSION, COMMAND_TREE, COMPRESSION, CONFIGURATION, DIALOGS, LOGIN_PLUGIN, SUCCESS_PROPERTIES, VERSIONS } from './versions.mjs'
import { exchange } from './wire.mjs'
import { inhabit } from './world.mjs'

const SECRET = 'between the harness and itself'

/** The oldest version driven that speaks `protocol` or a later one. */
function firstWith (protocol) {
  return VERSIONS.find(version => version.protocol >= protocol)
}

describe('the harness without the proxy', () => {
  const authority = new KeyAuthority()
  let sessions, online, modern
  before(async () => {
    sessions = await SessionServer.start()
    online = await Backend.start({ motd: 'online', fault: 'encrypts', sessions, threshold: 256 })
    modern = await Backend.start({ motd: 'modern', forwarding: 'modern', secret: SECRET, threshold: null })
  })
  after(() => Promise.all([sessions.stop(), online.stop(), modern.stop()]))

  for (const version of VERSIONS) {
    it(`${version.name}: encrypts, joins and exchanges packets`, { timeout: 30_000 }, async () => {
      const player = sessions.register(`H_${version.name.replaceAll('.', '_')}`)
      const { player: joined, login } = await joinAdmitted({ port: online.port, version, player, sessions })
      const seat = await online.joined(player.name)
      assert.deepEqual(seat.identity, { id: player.id, name: player.name, properties: player.properties })
      assert.equal(joined.id, player.id)
      if (version.protocol >= SUCCESS_PROPERTIES) assert.deepEqual(joined.properties, player.properties)
      assert.equal(login.joined, true)
      assert.equal(login.threshold, version.protocol >= COMPRESSION ? 256 : null)
      await joined.settled()
      await exchange(joined, seat)
      await seat.play()
      if (version.protocol >= CONFIGURATION) await exchange(joined, seat)
      seat.kick('Enough of that')
      const { text } = await joined.ended
      assert.equal(text, 'Enough of that')
      await seat.ended
      assert.deepEqual([...joined.complaints, ...seat.faults], [])
    })
  }

  describe('in a world', { concurrency: 4 }, () => {
    for (const version of VERSIONS) {
      it(`${version.name}: comes through the configuration, plays and talks`, { timeout: 60_000 }, async () => {
        const player = sessions.register(`W_${version.name.replaceAll('.', '_')}`)
        const profileKeys = version.protocol >= CHAT_SESSION ? authority.certify(player) : undefined
        const { player: joined } = await joinAdmitted({ port: online.port, version, player, sessions, profileKeys })
        const seat = await online.joined(player.name)
        if (version.protocol >= CONFIGURATION) joined.introduce()
        const [world] = await Promise.all([inhabit(seat), joined.inWorld()])
        if (version.protocol >= COMMAND_TREE) assert.deepEqual(commandNames(await joined.packet('declare_commands')), commandNames(commandTree(version.name)))
        await seat.packet('settings')
        assert.match((await seat.packet('custom_payload')).channel, /brand/i)

        joined.say('good day')
        await world.said('good day')
        joined.command('help me')
        await world.commanded('help me')
        joined.act()
        joined.complete('/hel')
        await seat.packet('tab_complete')
        for (const name of ['position', 'look', 'held_item_slot', 'arm_animation']) await seat.packet(name)
        world.tell('a notice')
        await joined.reads(/^a notice$/, { kind: 'system' })
        if (version.protocol >= COMPRESSION) {
          world.tell('a hint', { overlay: true })
          await joined.reads(/^a hint$/, { kind: 'bar' })
        }
        for (let count = 0; count < 3; count++) world.hear(`word ${count}`)
        await joined.reads(/^word 2$/)
        if (version.protocol >= CHAT_SESSION) {
          await seat.packet('chat_session_update')
          assert.equal(world.unreported, 3)
          joined.say('I heard that')
          await world.said('I heard that')
          assert.equal(world.unreported, 0)
          world.hear('and more')
          await joined.reads(/^and more$/)
          joined.command('me nods', { signed: true })
          await world.commanded('me nods')
          joined.say('again')
          await world.said('again')
        }
        await joined.leave()
        await seat.ended
        assert.deepEqual([...joined.complaints, ...seat.faults], [])
      })
    }
  })

  for (const version of [LOGIN_PLUGIN, SUCCESS_PROPERTIES, CONFIGURATION].map(firstWith)) {
    it(`${version.name}: takes a forwarded identity, and no forged one`, { timeout: 30_000 }, async () => {
      const player = sessions.register(`F_${version.name.replaceAll('.', '_')}`)
      const forward = secret => (channel, data) => {
        if (channel === 'third:query') return Buffer.from(data).reverse()
        assert.deepEqual([channel, [...data]], ['velocity:player_info', [4]])
        return writeModern({ ...player, address: '192.0.2.7' }, secret)
      }
      const { player: joined } = await joinAdmitted({ port: modern.port, version, player, answer: forward(SECRET) })
      const seat = await modern.joined(player.name)
      assert.deepEqual(seat.identity, { version: 1, address: '192.0.2.7', id: player.id, name: player.name, properties: player.properties })
      assert.equal(seat.query.toString(), [...player.name].reverse().join(''))
      assert.equal(joined.id, player.id)
      await joined.leave()
      await seat.ended

      const forged = await join({ port: modern.port, version, player, answer: forward('guessed') })
      assert.equal(forged.kind, 'refused')
      assert.equal(forged.text, 'Unable to verify player details')
    })
  }

  it('answers pings', async () => {
    for (const version of VERSIONS) {
      const answer = await ping({ port: modern.port, version })
      assert.equal(answer.description.text, 'modern')
      assert.equal(answer.version.protocol, version.protocol)
      assert.equal(typeof answer.latency, 'number')
    }
  })

  it('lets nobody in whom the session server does not vouch for', async () => {
    const version = VERSIONS.at(-1)
    const player = sessions.register('NeverJoined')
    const unproven = await join({ port: online.port, version, player, sessions, joins: false })
    assert.equal(unproven.kind, 'refused')
    assert.equal(unproven.text, 'Failed to verify username!')
    for (const how of ['reset', 'unavailable']) {
      sessions.answer(how)
      const attempt = await join({ port: online.port, version, player, sessions })
      sessions.answer('up')
      assert.equal(attempt.kind, 'left', how)
    }
  })

  it('notices wrong reports of what was seen', () => {
    const signatures = Array.from({ length: 3 }, (_, at) => Buffer.alloc(256, at + 1))
    const seen = new Seen()
    for (const signature of signatures) seen.sent(signature)
    assert.throws(() => seen.advance(4), /expected at most 3/)
    const report = (offset, bits) => seen.report(769, { offset, acknowledged: Buffer.from([bits & 0xff, (bits >> 8) & 0xff, bits >> 16]) })
    assert.throws(() => report(2, 1 << 17), /unknown/)
    assert.deepEqual(report(0, 0b11 << 18), signatures.slice(0, 2))
    assert.throws(() => report(0, 0b01 << 18), /previously acknowledged/)
    assert.throws(() => report(2, 0b111 << 17), /at most 1/)
    assert.deepEqual(report(1, 0b111 << 17), signatures)
    assert.throws(() => seen.report(770, { offset: 0, acknowledged: Buffer.from([0, 0, 0b1110]), checksum: 77 }), /Checksum/)
  })

  it('notices what is signed out of turn, or reports too much', { timeout: 30_000 }, async () => {
    for (const [tamper, fault] of [
      [client => { client._session.index++ }, /invalid signature: link 1 /],
      [client => { client._lastSeenMessages.pending = 7 }, /by 7 messages, but expected at most 0/]
    ]) {
      const player = sessions.register('Tamperer')
      const { player: joined } = await joinAdmitted({ port: online.port, version: firstWith(CHAT_SESSION), player, sessions, profileKeys: authority.certify(player) })
      const seat = await online.joined(player.name)
      const [world] = await Promise.all([inhabit(seat), joined.inWorld()])
      joined.say('first')
      await world.said('first')
      assert.deepEqual(seat.faults, [])
      tamper(joined.client)
      joined.say('second')
      await world.said('second')
      assert.equal(seat.faults.length, 1)
      assert.match(seat.faults[0], fault)
      await joined.leave()
      await seat.ended
    }
  })

  it('shows dialogs, and answers them', { timeout: 30_000 }, async () => {
    const version = firstWith(DIALOGS)
    const player = sessions.register('Clicker')
    const { player: joined } = await joinAdmitted({ port: online.port, version, player, sessions })
    const seat = await online.joined(player.name)
    const text = value => ({ type: 'string', value })
    const compoundOf = value => ({ type: 'compound', value })
    const button = (label, id) => compoundOf({ label: text(label), action: compoundOf({ type: text('minecraft:dynamic/custom'), id: text(id) }) })
    seat.client.write('show_dialog', {
      dialog: compoundOf({
        type: text('minecraft:confirmation'),
        title: compoundOf({ text: text('Who?') }),
        body: compoundOf({ type: text('minecraft:plain_message'), contents: text('Tell.') }),
        inputs: { type: 'list', value: { type: 'compound', value: [{ type: text('minecraft:text'), key: text('name'), label: text('Name') }] } },
        yes: button('Me', 'third:yes'),
        no: button('Nobody', 'third:no')
      })
    })
    const dialog = readDialog(await joined.packet('show_dialog'))
    assert.deepEqual([dialog.title, dialog.body, dialog.submit.id, dialog.leave.label], ['Who?', [{ type: 'minecraft:plain_message', text: 'Tell.' }], 'third:yes', 'Nobody'])
    handIn(joined, dialog, 'Clicker')
    // The length of a short payload is read as a flag that is set, so what follows is read as it is meant.
    const { id, nbt } = await seat.packet('custom_click_action')
    assert.deepEqual([id, plainNbt(nbt)], ['third:yes', { name: 'Clicker' }])
    await joined.leave()
    await seat.ended
  })

  it('knows the id of an unproven player', () => {
    assert.equal(offline('Notch').id, 'b50ad385-829d-3141-a216-7e7d7539ba7f')
  })
})
