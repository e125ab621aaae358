// Every version through the proxy with a client and a backend that others wrote: joining while the session server answers,
// during an outage, and after it.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { ping } from './client.mjs'
import { readText } from './text.mjs'
import { kick, leave, Stage } from './stage.mjs'
import { CLAIMED_ID, CONFIGURATION, LOGIN_PLUGIN, VERSIONS } from './versions.mjs'
import { exchange } from './wire.mjs'

const NO_SESSION = /No cached session found/
const LIMIT = { timeout: 60_000 }

const GROUPS = [
  {
    forwarding: 'none',
    versions: VERSIONS.filter(version => version.protocol < LOGIN_PLUGIN),
    outage: 'unavailable',
    firstOnline: false
  },
  {
    forwarding: 'modern',
    versions: VERSIONS.filter(version => version.protocol >= LOGIN_PLUGIN),
    outage: 'reset',
    firstOnline: true
  }
]

for (const { forwarding, versions, outage, firstOnline } of GROUPS) {
  describe(`forwarding ${forwarding}`, () => {
    const players = new Map()
    let stage
    before(async () => {
      stage = await Stage.start({
        forwarding,
        kinds: { packed: { threshold: 256 }, plain: { threshold: null } },
        sections: { auth: { 'online-attempt-when-ineligible': firstOnline } }
      })
      for (const [index, version] of versions.entries()) {
        const player = stage.sessions.register(`P_${version.name.replaceAll('.', '_')}`)
        // An address of its own, so that nobody's refusals are counted towards somebody else.
        players.set(version, { ...player, from: `127.0.${index + 1}.1` })
      }
    }, LIMIT)
    after(() => stage?.stop())

    describe('while the session server answers', () => {
      for (const version of versions) {
        it(`${version.name}: joins with compression, and leaves`, LIMIT, async () => {
          const player = players.get(version)
          const visit = await stage.enter(version, player, 'packed')
          await stage.assertVerified(version, player, 'packed', visit)
          await exchangeThroughout(visit)
          await leave(visit)
        })

        it(`${version.name}: joins without compression, and is kicked`, LIMIT, async () => {
          const player = players.get(version)
          const visit = await stage.enter(version, player, 'plain')
          await stage.assertVerified(version, player, 'plain', visit)
          await exchangeThroughout(visit)
          await kick(visit, 'The plain backend has had enough')
        })

        it(`${version.name}: reads the server list entry of each backend`, LIMIT, async () => {
          for (const at of ['packed', 'plain']) {
            const answer = await ping({ port: stage.proxy.port, version, host: `${at}.test` })
            assert.equal(readText(JSON.stringify(answer.description)), at)
            assert.equal(answer.version.protocol, version.protocol)
            assert.equal(answer.players.online, 3)
            assert.equal(typeof answer.latency, 'number', 'the pong')
          }
        })
      }
    })

    describe('during an outage', () => {
      before(() => stage.become(outage, 'down'), LIMIT)

      for (const version of versions) {
        it(`${version.name}: lets the known player in`, LIMIT, async () => {
          const player = players.get(version)
          const asked = stage.sessions.joinCalls.filter(call => call.name === player.name).length
          const checked = stage.sessions.checkCalls.filter(call => call.name === player.name).length
          const visit = await stage.enter(version, player, 'packed')
          await stage.assertFallback(version, player, 'packed', visit)
          assert.equal(stage.sessions.joinCalls.filter(call => call.name === player.name).length, asked)
          assert.equal(stage.sessions.checkCalls.filter(call => call.name === player.name).length, checked)
          await exchangeThroughout(visit)
          await leave(visit)
        })

        it(`${version.name}: keeps a stranger out who comes from the same address`, LIMIT, async () => {
          const stranger = stage.sessions.register(`S_${version.name.replaceAll('.', '_')}`)
          stranger.from = players.get(version).from
          await stage.assertKeptOut(version, stranger, 'packed', { reason: 'no-session', text: NO_SESSION, firstOnline })
        })

        if (version.protocol >= CLAIMED_ID) {
          it(`${version.name}: keeps somebody else of the same name out, and still not the player`, LIMIT, async () => {
            const player = players.get(version)
            const impostor = { ...stage.sessions.register(player.name), from: player.from }
            await stage.assertKeptOut(version, impostor, 'plain', { reason: 'id-mismatch', text: NO_SESSION, firstOnline })
            const visit = await stage.enter(version, player, 'plain')
            await stage.assertFallback(version, player, 'plain', visit)
            await kick(visit, 'Kicked during the outage')
          })
        }
      }

      it('keeps the known name and id out when they come from another network', LIMIT, async () => {
        const version = versions.at(-1)
        const spoofed = { ...players.get(version), from: '127.99.0.1' }
        const text = /connecting from a new network address/
        await stage.assertKeptOut(version, spoofed, 'packed', { reason: 'address-changed', text, firstOnline })
      })

      it('says so in the server list', LIMIT, async () => {
        const { description } = await ping({ port: stage.proxy.port, version: versions.at(-1), host: 'packed.test' })
        assert.match(readText(JSON.stringify(description)), /^packed\n.*appear to be down/)
      })
    })

    describe('after the outage', () => {
      before(() => stage.become('up', 'up'), LIMIT)

      for (const version of versions) {
        it(`${version.name}: asks the session server again`, LIMIT, async () => {
          const player = players.get(version)
          const visit = await stage.enter(version, player, 'packed')
          await stage.assertVerified(version, player, 'packed', visit)
          await visit.seat.keepAlive()
          await leave(visit)
        })
      }
    })

    it('stops when it is asked to, and tells the players', LIMIT, async () => {
      const visits = []
      for (const version of [versions[0], versions.at(-1)]) {
        const visit = await stage.enter(version, players.get(version), 'plain')
        await visit.seat.play()
        visits.push(visit)
      }
      const mark = await stage.proxy.mark()
      const end = await stage.proxy.stop()
      for (const { joined } of visits) assert.match((await joined.ended).text ?? '', /server is restarting/)
      assert.deepEqual(end, { code: 0, signal: null })
      await stage.proxy.event(mark, { event: 'proxy.stopped' })
    })
  })
}

/** Exchanges packets in every state between login and the end, and tries the channels that are reserved for proxies. */
async function exchangeThroughout (visit) {
  const { joined, seat } = visit
  await tryReserved(joined, seat)
  await exchange(joined, seat)
  if (seat.protocol < CONFIGURATION) return
  await seat.play()
  await tryReserved(joined, seat)
  await exchange(joined, seat)
}

async function tryReserved (joined, seat) {
  for (const channel of ['BungeeCord', 'bungeecord:main', 'velocity:player_info']) joined.send(channel, Buffer.from('Forward'))
  // A name that only begins like one of them is nobody's business; and messages arrive in order.
  joined.send('bungeecord:mainly', Buffer.alloc(0))
  const message = await seat.messages.take('the message after the reserved ones')
  assert.equal(message.channel, 'bungeecord:mainly')
}
