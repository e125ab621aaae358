// A proxy with its session server and backends, and the steps that the tests are told in.

import assert from 'node:assert/strict'
import { Backend, offline } from './backend.mjs'
import { join, joinAdmitted } from './client.mjs'
import { KeyAuthority } from './player-keys.mjs'
import { Proxy } from './proxy.mjs'
import { SessionServer } from './session-server.mjs'
import { AUTHENTICATE_FLAG, COMPRESSION, CONFIGURATION, KEY_WITHOUT_OWNER, LAZY_SESSION, LOGIN_PLUGIN, SUCCESS_PROPERTIES } from './versions.mjs'

export const SECRET = 'a secret of the third-party tests'

export class Stage {
  /** Starts everything. `kinds` are the backends by name, each the options of a Backend; NAME.test is the host that leads there; `hosts` are further ones. */
  static async start ({ forwarding, kinds, sections = {}, backends = {}, hosts: further = {}, logging }) {
    const self = new Stage()
    self.sessions = await SessionServer.start()
    self.authority = new KeyAuthority()
    self.sessions.playerCertificateKeys = [self.authority.publicKey]
    self.backends = {}
    const entries = { ...backends }
    for (const [name, options] of Object.entries(kinds)) {
      self.backends[name] = await Backend.start({ motd: name, forwarding, secret: SECRET, ...options })
      entries[name] = { address: self.backends[name].address, forwarding: options.forwarding ?? forwarding }
    }
    const hosts = { ...Object.fromEntries(Object.keys(entries).map(name => [`${name}.test`, [name]])), ...further }
    try {
      self.proxy = await Proxy.start({
        sessions: self.sessions,
        secret: SECRET,
        backends: entries,
        logging,
        sections: { forwarding: { mode: forwarding, 'secret-file': 'forwarding.secret' }, 'forced-hosts': hosts, ...sections }
      })
      await self.proxy.verdict(0, 'up')
    } catch (error) {
      await self.stop()
      throw error
    }
    return self
  }

  async stop () {
    await this.proxy?.dispose()
    await Promise.all([this.sessions, ...Object.values(this.backends)].map(part => part.stop()))
  }

  /** The session server answers `how` from now on; resolves when the proxy's verdict is `state`. */
  async become (how, state) {
    const mark = await this.proxy.mark()
    this.sessions.answer(how)
    return this.proxy.verdict(mark, state)
  }

  /** One try to join the backend called `at`. */
  attempt (version, player, at, options = {}) {
    return join({ port: this.proxy.port, version, player, sessions: this.sessions, host: `${at}.test`, from: player.from, ...options })
  }

  /**
   * Joins the backend called `at`, and checks what both ends were told. With `keyForwarded`, a modern backend must have been
   * told of the key in `profileKeys`, and without it of none. Whoever is `held` there answers no questions of mods.
   */
  async enter (version, player, at, options = {}) {
    const backend = this.backends[at]
    const host = options.host ?? `${at}.test`
    const key = options.keyForwarded ? forwardedKey(version, player, options.profileKeys) : undefined
    const mark = await this.proxy.mark()
    const { player: joined, login } = await joinAdmitted({
      port: this.proxy.port, version, player, sessions: this.sessions, from: player.from, ...options, host
    })
    const seat = await backend.joined(player.name)
    assert.equal(seat.protocol, version.protocol)
    assert.equal(seat.handshake.host.split('\0')[0], host)
    this.checkIdentity(version, player, backend, seat, key)
    assert.equal(joined.id, seat.identity.id, 'the id of login success')
    assert.equal(joined.name, player.name)
    if (version.protocol >= SUCCESS_PROPERTIES) assert.deepEqual(joined.properties, seat.identity.properties)
    assert.equal(login.threshold, version.protocol >= COMPRESSION ? backend.threshold : null, 'the compression threshold')
    if (version.protocol >= LOGIN_PLUGIN) {
      // Before a client is let in that owes an answer, the proxy asks whether it has read what came before.
      const channels = options.held ? [] : backend.hurries ? ['third:query', 'postern:fence'] : ['third:query']
      assert.deepEqual(login.channels, channels, 'the login plugin messages that reach the client')
      const tooLate = backend.hurries && version.protocol < CONFIGURATION
      const answer = tooLate || options.held ? undefined : [...player.name].reverse().join('')
      assert.equal(seat.query?.toString(), answer, "the client's answer to the backend")
    }
    await joined.settled()
    return { joined, seat, login, mark }
  }

  /** Checks whom the proxy said this is, as `enter` does. */
  checkIdentity (version, player, backend, seat, key) {
    const proven = { id: player.id, name: player.name, properties: player.properties }
    const newestForwarding = version.protocol >= LAZY_SESSION && backend.asks !== null
    switch (backend.forwarding) {
      case 'none':
        assert.equal(seat.loginKey, undefined)
        assert.equal(seat.handshake.host.includes('\0'), false)
        return assert.deepEqual(seat.identity, offline(player.name))
      case 'modern':
        assert.equal(seat.loginKey, undefined)
        if (key !== undefined) {
          const keyed = version.protocol === KEY_WITHOUT_OWNER ? 2 : 3
          return assert.deepEqual(seat.identity, { ...proven, version: keyed, address: player.from, key })
        }
        return assert.deepEqual(seat.identity, { ...proven, version: newestForwarding ? 4 : 1, address: player.from })
      default:
        assert.deepEqual(seat.loginKey, key === undefined ? undefined : { ...key, holder: undefined })
        return assert.deepEqual(seat.identity, { ...proven, host: seat.handshake.host.split('\0')[0], address: player.from })
    }
  }

  /** Tells that a login was proven by the session server, on the client, in audit.log and on the wire. */
  async assertVerified (version, player, at, { login, mark }) {
    assert.equal(login.encrypted, true)
    assert.equal(login.joined, true)
    assert.equal(login.shouldAuthenticate, version.protocol >= AUTHENTICATE_FLAG ? true : undefined)
    await this.#assertAudited('login.verified', version, player, at, mark)
  }

  /** Tells that a login was admitted by policy: encrypted where the version can be without Mojang, and nobody was asked. */
  async assertFallback (version, player, at, { login, mark }) {
    assert.equal(login.joined, false)
    assert.equal(login.encrypted, version.protocol >= AUTHENTICATE_FLAG)
    assert.equal(login.shouldAuthenticate, version.protocol >= AUTHENTICATE_FLAG ? false : undefined)
    await this.#assertAudited('login.fallback', version, player, at, mark)
  }

  async #assertAudited (event, version, player, at, mark) {
    const line = await this.proxy.event(mark, { event, player: player.name })
    assert.equal(line.id, player.id)
    assert.equal(line.address, player.from)
    assert.equal(line.protocol, version.protocol)
    assert.equal(line.host, `${at}.test`)
    assert.equal(line.backend, at)
  }

  /**
   * Tries to join during an outage as somebody whom the proxy must not let in, and checks that the text arrives. With
   * `firstOnline` the proxy first runs the usual online login, in which the client's own call fails: it leaves, and reads
   * why at its next try.
   */
  async assertKeptOut (version, player, at, { reason, text, firstOnline }) {
    const mark = await this.proxy.mark()
    const began = this.attempts(player.name)
    if (firstOnline) {
      const first = await this.attempt(version, player, at)
      assert.equal(first.kind, 'left', `the first try ended otherwise: ${first.text}`)
      assert.notEqual(first.login.shouldAuthenticate, false)
      await this.proxy.event(mark, { event: 'login.refused', player: player.name })
    }
    const next = await this.proxy.mark()
    const attempt = await this.attempt(version, player, at)
    assert.equal(attempt.kind, 'refused')
    assert.match(attempt.text, text)
    assert.equal(attempt.state, 'login')
    const line = await this.proxy.event(next, { event: 'login.refused', player: player.name })
    assert.equal(line.reason, reason)
    assert.equal(this.attempts(player.name), began, 'no backend saw the player')
  }

  /** How often a player called `name` began a login at any backend. */
  attempts (name) {
    return Object.values(this.backends).reduce((sum, backend) => sum + backend.attempts(name), 0)
  }
}

/** What a backend is told of a proven key. */
function forwardedKey (version, player, { expiresOn, public: publicKey, signature, signatureV2 }) {
  const key = { expiry: BigInt(expiresOn.getTime()), publicKey: publicKey.export({ type: 'spki', format: 'der' }).toString('hex') }
  if (version.protocol === KEY_WITHOUT_OWNER) return { ...key, signature: signature.toString('hex') }
  return { ...key, signature: signatureV2.toString('hex'), holder: player.id }
}

/** Ends a visit from the client's side and checks that nothing went wrong on either. */
export async function leave ({ joined, seat }) {
  await joined.leave()
  await seat.ended
  assertClean({ joined, seat })
}

/** Ends a visit from the backend's side; the player must read why. */
export async function kick ({ joined, seat }, text) {
  const { state } = seat
  seat.kick(text)
  const end = await joined.ended
  assert.equal(end.text, text)
  assert.equal(end.state, state)
  await seat.ended
  assertClean({ joined, seat })
}

function assertClean ({ joined, seat }) {
  assert.deepEqual({ client: joined.complaints, backend: seat.faults }, { client: [], backend: [] })
  assert.deepEqual(seat.reserved, [], 'messages on channels that are reserved for proxies')
}
