// Backends that are not set up for the proxy: each one recognised by `postern doctor`, and by the login of a player. The
// servers are minecraft-protocol's own where they can be what is needed, else ours over its packets.

import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { after, before, describe, it } from 'node:test'
import minecraft from 'minecraft-protocol'
import { Backend } from './backend.mjs'
import { leave, SECRET, Stage } from './stage.mjs'
import { VERSIONS } from './versions.mjs'
import { within } from './waiting.mjs'

const LIMIT = { timeout: 90_000 }
const PROBE = 'PosternDoctor'
const byName = name => VERSIONS.find(version => version.name === name)
const NEW = byName('1.21.4')
const OLD = byName('1.20.1')
const ANCIENT = byName('1.12.2')

const NOT_SET_UP = /not set up for this proxy/
const NOT_ANSWERING = /not answering right now/
const VELOCITY_ON = /set `proxies\.velocity\.enabled: true` and `proxies\.velocity\.secret` in its config\/paper-global\.yml/
const BUNGEE_ON = /set `settings\.bungeecord: true` in its spigot\.yml.*; it may listen on all addresses.*set `server-ip=127\.0\.0\.1` in its server\.properties/
const OWN_IDS = /makes ids of its own: look for one that changes UUIDs/
const ONLINE_OFF = /set `online-mode=false` in its server\.properties/
const SAME_SECRET = /put the same secret on both sides: `proxies\.velocity\.secret`/
const SET_MODERN = /set `forwarding: modern` and its secret .* for this backend here/
const SET_BUNGEE = /set `settings\.bungeecord: false` in its spigot\.yml and `proxies\.velocity\.enabled: true`.*; or `forwarding: legacy`/

/** minecraft-protocol's own server: what it does in a login is its authors' idea of one. */
class LibraryServer {
  /** Names that got as far as login success, and those that got into play. */
  logins = []
  joins = []
  #server

  static async start (version, onlineMode) {
    const self = new LibraryServer()
    self.#server = minecraft.createServer({
      host: '127.0.0.1', port: 0, version: version.name, 'online-mode': onlineMode, hideErrors: true, motd: 'a library', errorHandler () {}
    })
    // A handshake of 254 bytes (and of 128 more, and so on) begins like a legacy ping, and the library would wait for the rest.
    self.#server.on('connection', client => { client.splitter.recognizeLegacyPing = false })
    self.#server.on('login', client => self.logins.push(client.username))
    self.#server.on('playerJoin', client => self.joins.push(client.username))
    await within(new Promise(resolve => self.#server.once('listening', resolve)), 'the library to listen')
    return self
  }

  get port () { return this.#server.socketServer.address().port }
  get address () { return `127.0.0.1:${this.port}` }
  stop () { this.#server.close() }
}

/**
 * Every way to be set up. `forwarding` is what the proxy's configuration says. `findings` are what the doctor has to say by
 * check: verdict, then patterns for cause and mend. `login` is what a player's login comes to: the reason of `backend.error`,
 * patterns for its cause and mend, and for the text that the player reads; without `fault` the player gets in. A `tickless`
 * server lets players in while it reads their login, and before 1.20.2 nothing can be found out about it without that.
 */
const CASES = {
  sound: {
    server: () => Backend.start({ forwarding: 'modern', secret: SECRET, speaks: NEW.protocol }),
    findings: {
      resolve: ['ok'],
      connect: ['ok'],
      status: ['ok', /3 of 20 players/],
      protocol: ['ok', /speaks 1\.21\.4 \(protocol 769\)$/],
      forwarding: ['ok', /asks who the player is/],
      secret: ['ok', /accepts our forwarding secret/],
      'wrong-secret': ['ok', /refuses a wrong forwarding secret/],
      'plain-login': ['ok', /refuses a login without forwarding: "This server requires you to connect with Velocity\."/],
      'online-mode': ['ok', /is in offline mode/]
    },
    login: {}
  },
  'sound-old': {
    version: OLD,
    server: () => Backend.start({ forwarding: 'modern', secret: SECRET, speaks: OLD.protocol }),
    findings: {
      protocol: ['ok', /speaks 1\.20\.1 \(protocol 763\)$/],
      forwarding: ['ok'],
      secret: ['ok', /accepts our forwarding secret .*unsupported forwarding version/],
      'wrong-secret': ['ok', /refuses a wrong forwarding secret/],
      'plain-login': ['ok', /lets nobody in before its question is answered/],
      'online-mode': ['ok']
    },
    login: {}
  },
  'vague-old': {
    version: OLD,
    server: () => Backend.start({ forwarding: 'modern', secret: SECRET, speaks: OLD.protocol, vague: true }),
    findings: {
      forwarding: ['ok'],
      secret: ['warning', /most likely does not accept .* before 1\.20\.2; the first real login tells/, SAME_SECRET],
      'wrong-secret': ['skipped', /before 1\.20\.2/],
      'plain-login': ['ok']
    },
    login: {}
  },
  vague: {
    server: () => Backend.start({ forwarding: 'modern', secret: SECRET, speaks: NEW.protocol, vague: true }),
    findings: { secret: ['ok'], 'wrong-secret': ['ok'] },
    login: {}
  },
  renames: {
    server: () => Backend.start({ forwarding: 'modern', secret: SECRET, speaks: NEW.protocol, fault: 'renames' }),
    findings: {
      forwarding: ['error', /ignored the forwarded player and gave it the id 800759cf-.*, one made from its name/, OWN_IDS],
      secret: ['ok'],
      'wrong-secret': ['ok'],
      'plain-login': ['ok']
    },
    login: { fault: 'wrong-identity', cause: /ignored the forwarded player/, mend: OWN_IDS, text: NOT_SET_UP }
  },
  translating: {
    server: () => Backend.start({ forwarding: 'modern', secret: SECRET }),
    findings: { protocol: ['ok', /speaks 26\.1 \(protocol 775\); takes games from 1\.18\.2 to 26\.1/], secret: ['ok'], 'plain-login': ['ok'] },
    login: {}
  },
  online: {
    server: () => LibraryServer.start(NEW, true),
    findings: {
      protocol: ['ok', /speaks 1\.21\.4/],
      'online-mode': ['error', /is in online mode/, ONLINE_OFF],
      forwarding: ['skipped', /it is in online mode/],
      secret: ['skipped'],
      'plain-login': ['skipped']
    },
    login: { fault: 'online-mode', cause: /is in online mode/, mend: ONLINE_OFF, text: NOT_SET_UP }
  },
  'online-old': {
    version: OLD,
    server: () => LibraryServer.start(OLD, true),
    findings: { 'online-mode': ['error', /is in online mode/, ONLINE_OFF], forwarding: ['skipped'] },
    login: { fault: 'online-mode', cause: /is in online mode/, mend: ONLINE_OFF, text: NOT_SET_UP }
  },
  'online-ancient': {
    version: ANCIENT,
    forwarding: 'legacy',
    server: () => LibraryServer.start(ANCIENT, true),
    findings: { 'online-mode': ['error', /is in online mode/, ONLINE_OFF], unsigned: ['skipped', /it is in online mode/] },
    login: { fault: 'online-mode', cause: /is in online mode/, mend: ONLINE_OFF, text: NOT_SET_UP }
  },
  open: {
    server: () => LibraryServer.start(NEW, false),
    findings: {
      forwarding: ['error', /does not ask who the player is/, VELOCITY_ON],
      'plain-login': ['error', /lets in whoever connects, under any name/, 'exposed'],
      secret: ['skipped'],
      'online-mode': ['ok']
    },
    login: { fault: 'forwarding-not-asked', cause: /does not ask who the player is/, mend: VELOCITY_ON, text: NOT_SET_UP, exposed: true }
  },
  'open-old': {
    version: OLD,
    server: () => LibraryServer.start(OLD, false),
    tickless: true,
    findings: {
      forwarding: ['error', /does not ask who the player is/, VELOCITY_ON],
      'plain-login': ['error', /lets in whoever connects/, 'exposed']
    },
    login: { fault: 'forwarding-not-asked', cause: /does not ask who the player is/, mend: VELOCITY_ON, text: NOT_SET_UP, exposed: true }
  },
  'open-old-ticking': {
    version: OLD,
    server: () => Backend.start({ speaks: OLD.protocol }),
    findings: {
      forwarding: ['warning', /did not ask at once who the player is/, VELOCITY_ON],
      'plain-login': ['warning', /most likely lets anyone in/, 'exposed']
    },
    login: { fault: 'forwarding-not-asked', cause: /does not ask who the player is/, mend: VELOCITY_ON, text: NOT_SET_UP, exposed: true }
  },
  'open-for-bungee': {
    forwarding: 'legacy',
    server: () => LibraryServer.start(NEW, false),
    findings: {
      forwarding: ['error', /ignored the forwarded player/, BUNGEE_ON],
      'plain-login': ['error', /lets in whoever connects/, 'exposed'],
      unsigned: ['skipped']
    },
    login: { fault: 'wrong-identity', cause: /ignored the forwarded player/, mend: BUNGEE_ON, text: NOT_SET_UP, exposed: true }
  },
  'open-for-guarded': {
    forwarding: 'bungeeguard',
    server: () => LibraryServer.start(NEW, false),
    findings: {
      forwarding: ['error', /ignored the forwarded player/, BUNGEE_ON],
      'plain-login': ['error', /lets in whoever connects/, 'exposed'],
      secret: ['skipped'],
      'wrong-secret': ['skipped']
    },
    login: { fault: 'wrong-identity', cause: /ignored the forwarded player/, mend: BUNGEE_ON, text: NOT_SET_UP, exposed: true }
  },
  'open-ancient': {
    version: ANCIENT,
    forwarding: 'legacy',
    server: () => LibraryServer.start(ANCIENT, false),
    tickless: true,
    findings: {
      protocol: ['ok', /speaks 1\.12\.2 \(protocol 340\)/],
      forwarding: ['error', /ignored the forwarded player/, BUNGEE_ON],
      'plain-login': ['error', /lets in whoever connects/, 'exposed']
    },
    login: { fault: 'wrong-identity', cause: /ignored the forwarded player/, mend: BUNGEE_ON, text: NOT_SET_UP, exposed: true }
  },
  'too-old': {
    version: ANCIENT,
    server: () => LibraryServer.start(ANCIENT, false),
    untouched: true,
    findings: {
      protocol: ['error', /speaks 1\.12\.2 \(protocol 340\): modern forwarding needs 1\.13 or later/, /set `forwarding: bungeeguard` or `legacy` for this backend here/],
      forwarding: ['skipped', /modern forwarding cannot work in its version/]
    },
    login: { reason: 'newer-version-needed', text: /needs a newer Minecraft version/ }
  },
  stale: {
    server: () => Backend.start({ forwarding: 'modern', secret: 'the secret of last year', speaks: NEW.protocol }),
    findings: {
      forwarding: ['ok'],
      secret: ['error', /does not accept our forwarding secret/, SAME_SECRET],
      'wrong-secret': ['ok'],
      'plain-login': ['ok']
    },
    login: { fault: 'wrong-secret', cause: /does not accept our forwarding secret/, mend: SAME_SECRET, text: NOT_SET_UP }
  },
  'bungee-for-modern': {
    server: () => Backend.start({ forwarding: 'legacy', speaks: NEW.protocol }),
    findings: {
      forwarding: ['error', /expects BungeeCord forwarding/, SET_BUNGEE],
      secret: ['skipped', /it expects another kind of forwarding/],
      'plain-login': ['ok', /If you wish to use IP forwarding/]
    },
    login: { fault: 'forwarding-expected', cause: /expects BungeeCord forwarding/, mend: SET_BUNGEE, text: NOT_SET_UP }
  },
  'modern-for-bungee': {
    forwarding: 'legacy',
    server: () => Backend.start({ forwarding: 'modern', secret: SECRET, speaks: NEW.protocol }),
    findings: { forwarding: ['error', /expects modern \(Velocity\) forwarding/, SET_MODERN], unsigned: ['skipped'] },
    login: { fault: 'forwarding-expected', cause: /expects modern \(Velocity\) forwarding/, mend: SET_MODERN, text: NOT_SET_UP }
  },
  'modern-for-none': {
    forwarding: 'none',
    server: () => Backend.start({ forwarding: 'modern', secret: SECRET, speaks: NEW.protocol }),
    findings: { forwarding: ['error', /expects modern \(Velocity\) forwarding/, SET_MODERN], 'plain-login': ['ok', /requires you to connect with Velocity/] },
    login: { fault: 'forwarding-expected', cause: /expects modern \(Velocity\) forwarding/, mend: SET_MODERN, text: NOT_SET_UP }
  },
  bungee: {
    forwarding: 'legacy',
    server: () => Backend.start({ forwarding: 'legacy', speaks: NEW.protocol }),
    findings: {
      forwarding: ['ok', /takes BungeeCord forwarding/],
      'plain-login': ['ok', /If you wish to use IP forwarding/],
      unsigned: ['warning', /not signed/, 'exposed'],
      'online-mode': ['ok']
    },
    login: {}
  },
  'bungee-ancient': {
    version: ANCIENT,
    forwarding: 'legacy',
    server: () => Backend.start({ forwarding: 'legacy', speaks: ANCIENT.protocol }),
    findings: { forwarding: ['ok'], 'plain-login': ['ok', /If you wish to use IP forwarding/], unsigned: ['warning'] },
    login: {}
  },
  guarded: {
    forwarding: 'bungeeguard',
    server: () => Backend.start({ forwarding: 'bungeeguard', secret: SECRET, speaks: NEW.protocol }),
    findings: {
      secret: ['ok'],
      'wrong-secret': ['ok', /refuses a wrong token/],
      'plain-login': ['ok', /no data was forwarded/]
    },
    login: {}
  },
  'guarded-stale': {
    forwarding: 'bungeeguard',
    server: () => Backend.start({ forwarding: 'bungeeguard', secret: 'another token', speaks: NEW.protocol }),
    findings: { secret: ['error', /does not accept our forwarding secret/, /`allowed-tokens`/], 'wrong-secret': ['ok'] },
    login: { fault: 'wrong-secret', cause: /does not accept our forwarding secret/, mend: /`allowed-tokens`/, text: NOT_SET_UP }
  },
  'guarded-for-bungee': {
    forwarding: 'legacy',
    server: () => Backend.start({ forwarding: 'bungeeguard', secret: SECRET, speaks: NEW.protocol }),
    findings: { forwarding: ['error', /expects BungeeGuard forwarding/, /set `forwarding: bungeeguard`/], 'plain-login': ['ok'] },
    login: { fault: 'forwarding-expected', cause: /expects BungeeGuard forwarding/, mend: /set `forwarding: bungeeguard`/, text: NOT_SET_UP }
  },
  none: {
    forwarding: 'none',
    server: () => Backend.start({ speaks: NEW.protocol }),
    findings: { forwarding: ['ok'], 'plain-login': ['warning', /as `forwarding: none`/, 'exposed'], 'online-mode': ['ok'] },
    login: {}
  },
  throttling: {
    server: () => Backend.start({ forwarding: 'modern', secret: SECRET, speaks: NEW.protocol, fault: 'throttles', pause: 4000 }),
    findings: {
      secret: ['ok'],
      'wrong-secret': ['ok'],
      throttle: ['warning', /throttles connections/, /set `settings\.connection-throttle: -1` in its bukkit\.yml/]
    },
    login: {
      fault: 'throttled',
      cause: /throttles connections, and all players come from this proxy's address/,
      mend: /set `settings\.connection-throttle: -1` in its bukkit\.yml/,
      reason: 'backend-unavailable',
      text: /^Connection throttled! Please wait before reconnecting\.$/
    }
  },
  outdated: {
    server: () => Backend.start({ forwarding: 'modern', secret: SECRET, speaks: NEW.protocol, fault: 'outdated' }),
    findings: { forwarding: ['error', /does not accept this protocol version/], secret: ['skipped'] },
    login: {
      fault: 'wrong-version', cause: /does not accept this protocol version/, mend: /ViaVersion/, text: /^multiplayer\.disconnect\.incompatible$/
    }
  },
  gone: {
    server: () => unusedPort(),
    findings: {
      resolve: ['ok'],
      connect: ['error', /cannot be reached/, /`server-port` and `server-ip`/],
      status: ['skipped', /cannot be reached/],
      'online-mode': ['skipped']
    },
    login: { fault: 'unreachable', cause: /cannot be reached/, mend: /firewalls/, reason: 'backend-unavailable', text: NOT_ANSWERING }
  }
}

describe('postern doctor and wrongly set up backends', () => {
  const servers = {}
  let stage
  let examined
  before(async () => {
    const backends = {}
    for (const [name, { server, forwarding = 'modern' }] of Object.entries(CASES)) {
      servers[name] = await server()
      backends[name] = { address: servers[name].address, forwarding }
    }
    stage = await Stage.start({ forwarding: 'modern', kinds: {}, backends, sections: { try: ['sound'] } })
    examined = await stage.proxy.doctor()
  }, LIMIT)
  after(async () => {
    await stage?.stop()
    await Promise.all(Object.values(servers).map(server => server.stop()))
  })

  const exposed = name => new RegExp(`anyone who can reach 127\\.0\\.0\\.1:${servers[name].port} can be anyone: firewall it or enable forwarding`)
  const subject = name => `${name} (${servers[name].address})`

  it('tells its verdict by exit code, and no secret', LIMIT, () => {
    assert.equal(examined.report.verdict, 'error')
    assert.equal(examined.code, 2)
    assert.equal(examined.text.includes(SECRET), false)
    const subjects = examined.report.findings.filter(finding => finding.area === 'backend').map(finding => finding.subject)
    assert.deepEqual([...new Set(subjects)], Object.keys(CASES).map(subject))
  })

  for (const [name, { findings }] of Object.entries(CASES)) {
    it(`${name}: the doctor`, LIMIT, () => {
      const found = examined.report.findings.filter(finding => finding.subject === subject(name))
      for (const [check, [verdict, cause = /./, mend]] of Object.entries(findings)) {
        const finding = found.find(finding => finding.check === check)
        assert.equal(finding?.verdict, verdict, `${check}: ${JSON.stringify(found, null, 1)}`)
        assert.match(finding.cause, cause)
        if (mend !== undefined) assert.match(finding.mend, mend === 'exposed' ? exposed(name) : mend)
      }
    })
  }

  it('none of its logins got into the world of a server with ticks, or since 1.20.2', LIMIT, () => {
    for (const [name, server] of Object.entries(servers)) {
      if (server instanceof LibraryServer) {
        if (!CASES[name].tickless) assert.deepEqual(server.joins, [], name)
        else assert.deepEqual([...new Set(server.joins)], [PROBE], name)
        if (CASES[name].untouched) assert.deepEqual(server.logins, [], name)
      } else if (server instanceof Backend) {
        assert.ok(server.seats.length > 0, name)
        for (const seat of server.seats) {
          assert.equal(seat.name, PROBE)
          assert.equal(seat.wasIn, false, `${name}: ${seat.state}`)
        }
      }
    }
  })

  for (const [name, { version = NEW, login }] of Object.entries(CASES)) {
    it(`${name}: a player's login`, LIMIT, async () => {
      const serial = Object.keys(CASES).indexOf(name)
      const player = { ...stage.sessions.register(`Player${serial}`), from: `127.2.${serial}.1` }
      // The throttle counts from the last login.
      if (name === 'throttling') servers[name].sinceLast()
      const mark = await stage.proxy.mark()
      const attempt = await stage.attempt(version, player, name)
      if (login.text === undefined) {
        assert.equal(attempt.kind, 'admitted', attempt.text)
        const seat = await servers[name].joined(player.name)
        await attempt.player.settled()
        return leave({ joined: attempt.player, seat })
      }
      assert.equal(attempt.kind, 'refused')
      assert.match(attempt.text, login.text)
      const refused = await stage.proxy.event(mark, { event: 'login.refused', player: player.name })
      assert.equal(refused.reason, login.reason ?? 'backend-misconfigured')
      if (login.fault === undefined) return
      const line = await stage.proxy.event(mark, { event: 'backend.error', backend: name })
      assert.equal(line.reason, login.fault)
      assert.match(line.cause, login.cause)
      assert.match(line.mend, login.mend)
      if (login.exposed) assert.match(line.mend, exposed(name))
    })
  }
})

/** A port that nobody listens on. */
async function unusedPort () {
  const server = createServer()
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address()
  await new Promise(resolve => server.close(resolve))
  return { port, address: `127.0.0.1:${port}`, stop () {} }
}
