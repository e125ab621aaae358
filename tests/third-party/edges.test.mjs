// What must not open the door, what a wrongly set up backend does to its players, and the other ways to forward an identity.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { after, afterEach, before, describe, it } from 'node:test'
import { KeyAuthority } from './player-keys.mjs'
import { kick, leave, SECRET, Stage } from './stage.mjs'
import { KEY_WITHOUT_OWNER, VERSIONS } from './versions.mjs'
import { exchange } from './wire.mjs'

const LIMIT = { timeout: 60_000 }
const byName = name => VERSIONS.find(version => version.name === name)
const NEWEST = VERSIONS.at(-1)
/** One version of each way that a login can run: plaintext, without and with configuration, and encrypted fallback. */
const KINDS = [byName('1.19.4'), byName('1.20.4'), NEWEST]

describe('edges', () => {
  let stage
  let serial = 0
  before(async () => {
    stage = await Stage.start({
      forwarding: 'modern',
      kinds: {
        sound: { threshold: 256 },
        bare: { threshold: 64, asks: null },
        online: { fault: 'encrypts' },
        open: { fault: 'never-asks' },
        renamer: { fault: 'renames' },
        stale: { secret: 'the secret of last year' },
        hasty: { threshold: 64, hurries: true },
        curious: { threshold: 256, cookie: 'third:cookie' },
        bungee: { forwarding: 'legacy', threshold: 256 },
        guarded: { forwarding: 'bungeeguard', threshold: null }
      },
      backends: { gone: { address: `127.0.0.1:${await unusedPort()}` } },
      sections: { try: ['sound'] }
    })
  }, LIMIT)
  after(() => stage?.stop())

  /** A player with an address of its own. */
  function newcomer (name) {
    serial += 1
    return { ...stage.sessions.register(`${name}${serial}`), from: `127.1.${serial}.1` }
  }

  /** A player who has been here before. */
  async function regular (version) {
    const player = newcomer('Regular')
    await leave(await stage.enter(version, player, 'sound'))
    return player
  }

  describe('answers of the session server that open nothing', () => {
    afterEach(() => stage.sessions.answer('up'))

    for (const version of KINDS) {
      for (const [checks, reason, text] of [
        ['throttled', 'throttled', /authentication servers are busy/],
        ['garbage', 'unexpected', /could not be checked just now/]
      ]) {
        it(`${version.name}: ${checks}`, LIMIT, async () => {
          const player = await regular(version)
          const began = stage.attempts(player.name)
          const mark = await stage.proxy.mark()
          stage.sessions.checks = checks
          const attempt = await stage.attempt(version, player, 'sound')
          assert.equal(attempt.kind, 'refused')
          assert.match(attempt.text, text)
          const line = await stage.proxy.event(mark, { event: 'login.refused', player: player.name })
          assert.equal(line.reason, reason)
          assert.equal(stage.attempts(player.name), began)
        })
      }

      it(`${version.name}: a known name without the account`, LIMIT, async () => {
        const player = await regular(version)
        const began = stage.attempts(player.name)
        const mark = await stage.proxy.mark()
        const attempt = await stage.attempt(version, player, 'sound', { joins: false })
        assert.equal(attempt.kind, 'refused')
        assert.match(attempt.text, /Failed to verify username! Restart your game and launcher/)
        const line = await stage.proxy.event(mark, { event: 'login.refused', player: player.name })
        assert.equal(line.reason, 'not-joined')
        assert.equal(stage.attempts(player.name), began)
      })
    }
  })

  describe('a session server that fails in the middle of a login', () => {
    afterEach(async () => {
      const mark = await stage.proxy.mark()
      stage.sessions.answer('up')
      await stage.proxy.verdict(mark, 'up')
    })

    for (const version of KINDS) {
      it(`${version.name}: judges the player in place, encrypted as it is`, LIMIT, async () => {
        const player = await regular(version)
        stage.sessions.checks = 'unavailable'
        const visit = await stage.enter(version, player, 'sound')
        assert.equal(visit.login.encrypted, true)
        assert.equal(visit.login.joined, true)
        const line = await stage.proxy.event(visit.mark, { event: 'login.fallback', player: player.name })
        assert.equal(line.id, player.id)
        await exchange(visit.joined, visit.seat)
        await leave(visit)
      })

      it(`${version.name}: and refuses a stranger, readably`, LIMIT, async () => {
        const stranger = newcomer('Stranger')
        const mark = await stage.proxy.mark()
        stage.sessions.checks = 'unavailable'
        const attempt = await stage.attempt(version, stranger, 'sound')
        assert.equal(attempt.kind, 'refused')
        assert.match(attempt.text, /No cached session found/)
        assert.equal(attempt.login.encrypted, true)
        const line = await stage.proxy.event(mark, { event: 'login.refused', player: stranger.name })
        assert.equal(line.reason, 'no-session')
        assert.equal(stage.attempts(stranger.name), 0)
      })
    }
  })

  describe('backends that are not set up for the proxy', () => {
    const misconfigured = /not set up for this proxy/
    const cases = [
      ['online', 'is in online mode', 'backend-misconfigured', misconfigured],
      ['open', 'does not ask for the identity', 'backend-misconfigured', misconfigured],
      ['renamer', 'admits the player under another id', 'backend-misconfigured', misconfigured],
      ['stale', 'has another secret', 'backend-misconfigured', misconfigured],
      ['gone', 'does not listen', 'backend-unavailable', /not answering right now/]
    ]
    for (const [at, what, reason, text] of cases) {
      for (const version of KINDS) {
        it(`${version.name}: the backend ${what}`, LIMIT, async () => {
          const player = newcomer('Guest')
          const mark = await stage.proxy.mark()
          const attempt = await stage.attempt(version, player, at)
          assert.equal(attempt.kind, 'refused')
          assert.match(attempt.text, text)
          await stage.proxy.event(mark, { event: 'backend.error', backend: at })
          const line = await stage.proxy.event(mark, { event: 'login.refused', player: player.name })
          assert.equal(line.reason, reason)
        })
      }
    }
  })

  describe('other ways to forward', () => {
    for (const at of ['bungee', 'guarded']) {
      for (const version of [byName('1.8.8'), byName('1.13.2'), NEWEST]) {
        it(`${version.name}: ${at}`, LIMIT, async () => {
          const player = newcomer('Bungee')
          const visit = await stage.enter(version, player, at)
          await stage.assertVerified(version, player, at, visit)
          await exchange(visit.joined, visit.seat)
          await leave(visit)
        })
      }
    }

    it('modern, for a backend that asks as the first ones did', LIMIT, async () => {
      const player = newcomer('Early')
      await leave(await stage.enter(NEWEST, player, 'bare'))
    })

    it('modern is nothing for versions without login plugin messages', LIMIT, async () => {
      const player = newcomer('Old')
      const attempt = await stage.attempt(byName('1.8.8'), player, 'sound')
      assert.equal(attempt.kind, 'refused')
      assert.match(attempt.text, /needs a newer Minecraft version/)
      assert.equal(stage.attempts(player.name), 0)
    })
  })

  for (const version of [byName('1.19'), byName('1.19.2')]) {
    describe(`${version.name}: players who sign with a key of their own`, () => {
      /** Joins `at` and leaves; returns what audit.log says of the key. */
      async function visit (player, at, options) {
        const visit = await stage.enter(version, player, at, options)
        const event = options.event ?? 'login.verified'
        const line = await stage.proxy.event(visit.mark, { event, player: player.name })
        await exchange(visit.joined, visit.seat)
        await leave(visit)
        return line.facts.player_key
      }

      // That the keys are published does not mean that the proxy has read them.
      before(async () => {
        const player = newcomer('Waiting')
        for (let tries = 0; ; tries++) {
          const mark = await stage.proxy.mark()
          const attempt = await stage.attempt(version, player, 'guarded', { profileKeys: stage.authority.certify(player) })
          assert.equal(attempt.kind, 'admitted')
          await attempt.player.leave()
          const line = await stage.proxy.event(mark, { event: 'login.verified', player: player.name })
          if (line.facts.player_key !== 'no-mojang-keys') break
          assert.ok(tries < 1000, 'the proxy never read the published keys')
        }
      }, LIMIT)

      for (const at of ['sound', 'bungee', 'guarded']) {
        it(`the key is forwarded to ${at}`, LIMIT, async () => {
          const player = newcomer('Signed')
          const profileKeys = stage.authority.certify(player)
          assert.equal(await visit(player, at, { profileKeys, keyForwarded: true }), 'proven')
        })
      }

      it('and not to a backend that knows the first forwarding alone', LIMIT, async () => {
        const player = newcomer('Early')
        assert.equal(await visit(player, 'bare', { profileKeys: stage.authority.certify(player) }), 'proven')
      })

      it('not if somebody else signed it', LIMIT, async () => {
        const player = newcomer('Forger')
        const profileKeys = new KeyAuthority().certify(player)
        for (const at of ['sound', 'bungee']) assert.equal(await visit(player, at, { profileKeys }), 'bad-signature')
      })

      it('not if it has expired', LIMIT, async () => {
        const player = newcomer('Late')
        const profileKeys = stage.authority.certify(player, { hours: -1 })
        assert.equal(await visit(player, 'sound', { profileKeys }), 'expired')
      })

      it(version.protocol === KEY_WITHOUT_OWNER ? 'also if Mojang named nobody' : "not if it is somebody else's", LIMIT, async () => {
        const player = newcomer('Borrower')
        const profileKeys = stage.authority.certify(newcomer('Lender'))
        const keyForwarded = version.protocol === KEY_WITHOUT_OWNER
        assert.equal(await visit(player, 'sound', { profileKeys, keyForwarded }), keyForwarded ? 'proven' : 'bad-signature')
      })

      it('nobody comes in with a key and without its private half', LIMIT, async () => {
        const player = newcomer('Thief')
        const { private: own } = stage.authority.certify(player)
        const profileKeys = { ...stage.authority.certify(player), private: own }
        const attempt = await stage.attempt(version, player, 'sound', { profileKeys })
        assert.equal(attempt.kind, 'refused')
        assert.equal(stage.attempts(player.name), 0)
      })
    })
  }

  describe('what backends and clients say to each other before the player is in', () => {
    for (const version of [byName('1.13.2'), ...KINDS]) {
      it(`${version.name}: an answer that is on its way while the backend lets the player in already`, LIMIT, async () => {
        const visit = await stage.enter(version, newcomer('Hasty'), 'hasty')
        await exchange(visit.joined, visit.seat)
        await leave(visit)
      })
    }

    for (const version of [byName('1.20.6'), NEWEST]) {
      for (const [what, cookie] of [['no cookie', null], ['an empty cookie', Buffer.alloc(0)], ['the largest cookie', Buffer.alloc(5120, 7)]]) {
        it(`${version.name}: ${what}`, LIMIT, async () => {
          const cookies = { 'third:cookie': cookie ?? undefined, 'third:other': Buffer.from('not asked for') }
          const visit = await stage.enter(version, newcomer('Cookie'), 'curious', { cookies })
          assert.deepEqual(visit.seat.cookie, cookie)
          await leave(visit)
        })
      }
    }
  })

  it('a handshake whose frame begins like a legacy ping is a handshake', LIMIT, async () => {
    // 246 characters make the frame 254 bytes long, and its length prefix FE 01.
    const host = `${'long-label.'.repeat(22)}test`
    assert.equal(host.length, 246)
    await leave(await stage.enter(NEWEST, newcomer('Long'), 'sound', { host }))
  })

  describe('two connections of one player', () => {
    for (const version of KINDS) {
      it(`${version.name}: the newer proven login takes the place of the older`, LIMIT, async () => {
        const player = newcomer('Twice')
        const first = await stage.enter(version, player, 'sound')
        await first.seat.play()
        const second = await stage.enter(version, player, 'sound')
        const { text } = await first.joined.ended
        assert.match(text ?? '', /logged in from another place/)
        await first.seat.ended
        await exchange(second.joined, second.seat)
        await kick(second, 'Both are gone now')
      })
    }
  })

  it('keeps secrets out of everything it writes', LIMIT, async () => {
    const written = [stage.proxy.log, stage.proxy.output, await readFile(stage.proxy.auditLog, 'utf8')].join('\n')
    assert.match(written, /login\.verified/)
    assert.equal(written.includes(SECRET), false)
  })
})

/** A port that nobody listens on. */
async function unusedPort () {
  const server = createServer()
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address()
  await new Promise(resolve => server.close(resolve))
  return port
}
