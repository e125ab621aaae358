// The tools proven without the proxy: minecraft-protocol's client against the backend and the stand-in for the session
// server, directly. What fails here is the harness's fault and not the proxy's.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { Backend, offline } from './backend.mjs'
import { join, joinAdmitted, ping } from './client.mjs'
import { writeModern } from './forwarding.mjs'
import { SessionServer } from './session-server.mjs'
import { COMPRESSION, CONFIGURATION, LOGIN_PLUGIN, SUCCESS_PROPERTIES, VERSIONS } from './versions.mjs'
import { exchange } from './wire.mjs'

const SECRET = 'between the harness and itself'

/** The oldest version driven that speaks `protocol` or a later one. */
function firstWith (protocol) {
  return VERSIONS.find(version => version.protocol >= protocol)
}

describe('the harness without the proxy', () => {
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

  it('knows the id of an unproven player', () => {
    assert.equal(offline('Notch').id, 'b50ad385-829d-3141-a216-7e7d7539ba7f')
  })
})
