// The console page in a real browser, served by the real proxy.

import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { after, afterEach, before, describe, it } from 'node:test'
import { launch, shoot, visit } from './browser.mjs'
import { join, warm } from './client.mjs'
import { freePort } from './proxy.mjs'
import { Stage } from './stage.mjs'
import { named } from './versions.mjs'
import { STEP } from './waiting.mjs'

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js')
const LIMIT = { timeout: 90_000 }
const VERSION = named('1.21.8')
/** Text that would run if it were taken for markup anywhere. */
const HOSTILE = '<img src=x onerror="window.owned=1"><script>window.owned=1</script>'
/** What the browser itself notes about an answer that says no. */
const NOTED = /^Failed to load resource: the server responded with a status of (401|422)/

warm([VERSION])

let browser

before(async () => { browser = await launch() }, LIMIT)
after(() => browser?.close())

/** A proxy with a console, and a page of it. `keys` are further ones of its admin section. */
async function open ({ keys = {}, sections = {} } = {}) {
  const port = await freePort()
  const stage = await Stage.start({
    forwarding: 'modern',
    kinds: { lobby: { threshold: 256 } },
    sections: { admin: { listen: `127.0.0.1:${port}`, ...keys }, 'try': ['lobby'], ...sections }
  })
  return { stage, origin: `http://127.0.0.1:${port}` }
}

function headline (page, name) {
  return page.getByRole('heading', { level: 1, name }).waitFor({ timeout: STEP })
}

function text (page, selector, words) {
  return page.locator(selector).filter({ hasText: words }).first().waitFor({ timeout: STEP })
}

function row (page, name) {
  return page.getByRole('table', { name: 'Players' }).getByRole('row').filter({ has: page.getByRole('rowheader', { name, exact: true }) })
}

/** Types the token where it is asked for. */
async function giveToken (page, token) {
  const dialog = page.getByRole('dialog', { name: 'Token' })
  await dialog.getByLabel('Token', { exact: true }).fill(token)
  await dialog.getByRole('button', { name: 'Use it' }).click()
}

/** Nobody but the interface was asked, nothing went wrong, and no foreign text was taken for more than text. */
async function assertQuiet ({ page, seen }, origin, expected = []) {
  assert.deepEqual(seen.requests.filter(url => !url.startsWith(`${origin}/`) && !url.startsWith('data:image/svg+xml,')), [])
  assert.deepEqual(seen.errors.filter(error => !expected.some(pattern => pattern.test(error))), [])
  assert.deepEqual(seen.boxes, [])
  const state = await page.evaluate(() => ({
    owned: window.owned, images: document.querySelectorAll('img, iframe, object, embed').length, scripts: document.scripts.length
  }))
  assert.deepEqual(state, { owned: undefined, images: 0, scripts: 1 })
}

describe('the console page', () => {
  let stage, origin, visitor
  const players = {}

  function enter (player) { return stage.enter(VERSION, player, 'lobby') }

  before(async () => {
    ({ stage, origin } = await open())
    for (const [index, name] of ['Anna', 'Bert', 'Cleo', 'Dora'].entries()) {
      players[name] = { ...stage.sessions.register(name), from: `127.3.${index + 1}.1` }
    }
  }, LIMIT)
  after(() => stage?.stop())
  afterEach(async () => {
    await visitor?.context.close()
    visitor = undefined
    // What failed in an outage leaves none behind.
    stage.sessions.answer('up')
  })

  async function look (options) {
    visitor = await visit(browser, origin, options)
    await text(visitor.page, '#link-words', 'Live')
    return visitor.page
  }

  it('follows an outage from its start to its end without being loaded again', LIMIT, async () => {
    const page = await look()
    await page.evaluate(() => { window.stayed = true })
    await headline(page, 'Mojang answers')
    await page.getByText('Nobody is connected.').waitFor()
    const first = await enter(players.Anna)
    await row(page, 'Anna').getByRole('cell', { name: 'Mojang' }).waitFor()
    await row(page, 'Anna').getByRole('cell', { name: players.Anna.from, exact: true }).waitFor()
    await text(page, '#events li', `Anna joined on lobby from ${players.Anna.from}, proven by Mojang`)
    await text(page, '#spark-words', 'The last 1 login')
    await first.joined.leave()
    await page.getByText('Nobody is connected.').waitFor()

    await stage.become('reset', 'down')
    await headline(page, /^Outage since \d\d:\d\d$/)
    assert.match(await page.title(), /^Outage/)
    await text(page, '#tally', '0 friends admitted, 0 refused')
    await text(page, '#events li', /degraded → down|up → down/)

    const second = await enter(players.Anna)
    await text(page, '#tally', '1 friend admitted, 0 refused')
    await row(page, 'Anna').getByRole('cell', { name: 'policy alone' }).waitFor()
    await text(page, '#events li', `Anna joined on lobby from ${players.Anna.from} by policy`)
    await stage.assertKeptOut(VERSION, players.Dora, 'lobby', { reason: 'no-session', text: /No cached session found/, firstOnline: true })
    await text(page, '#tally', '1 friend admitted, 1 refused')
    await text(page, '#events li', 'Refused')
    await text(page, '#events li', /never seen here.* \(left before it could be told\)/)
    await page.locator('#n-players').filter({ hasText: '1' }).waitFor()
    assert.match(await page.locator('#week li').first().getByRole('img').getAttribute('aria-label'), /: outage .*\d\d:\d\d to now$/)
    await shoot(page, 'real-outage')

    await stage.become('up', 'up')
    await headline(page, 'Mojang answers')
    await page.getByText('Outages one by one').click()
    const outage = page.getByRole('table', { name: 'Outages' }).locator('tbody').getByRole('row').filter({ hasText: /\d:\d\d\s*\d+ s/ }).first()
    await outage.waitFor()
    assert.match((await outage.innerText()).replaceAll(/\s+/g, ' '), /^\d\d:\d\d \d+ s 1 1: 1 /)
    assert.equal(await page.evaluate(() => window.stayed), true, 'the same document all along')
    await second.joined.leave()
    await assertQuiet(visitor, origin)
  })

  it('shows foreign text as text', LIMIT, async () => {
    const page = await look()
    const player = players.Bert
    const attempt = await join({ port: stage.proxy.port, version: VERSION, player, sessions: stage.sessions, host: HOSTILE, from: player.from })
    assert.equal(attempt.kind, 'admitted')
    await stage.backends.lobby.joined('Bert')
    await row(page, 'Bert').getByRole('cell', { name: 'onerror' }).waitFor()
    assert.match(await row(page, 'Bert').innerText(), /<img src=x onerror="window\.owned=1">/i)
    await page.locator('#events summary').filter({ hasText: 'Bert joined' }).first().click()
    await text(page, '#events pre', 'onerror')
    await attempt.player.leave()
    await assertQuiet(visitor, origin)
  })

  it('shows foreign text as text whatever the proxy should say', LIMIT, async () => {
    const status = await (await fetch(`${origin}/api/status`)).json()
    const event = kind => ({
      ts: HOSTILE, event: kind, player: HOSTILE, id: HOSTILE, address: HOSTILE, host: HOSTILE, backend: HOSTILE, reason: HOSTILE, cause: HOSTILE, from: HOSTILE,
      to: HOSTILE, target: HOSTILE, until: HOSTILE, text: HOSTILE, version: HOSTILE, listening: [HOSTILE], changed: [HOSTILE], failures: HOSTILE, count: HOSTILE, tries_left: HOSTILE
    })
    const kinds = [
      'login.verified', 'login.fallback', 'login.refused', 'auth.state', 'geo.changed', 'pin.failed', 'ban.added', 'backend.error', 'player.kicked', 'config.reloaded',
      'proxy.started', 'session.locked', 'audit.dropped', HOSTILE, 'constructor', '__proto__'
    ]
    const told = {
      ...status, version: HOSTILE, stage: HOSTILE,
      auth: { ...status.auth, override: { mode: 'down', until: HOSTILE }, last_probe: { at: HOSTILE, outcome: HOSTILE }, fallback: HOSTILE },
      outage: { started: HOSTILE, admitted: HOSTILE, refused: { [HOSTILE]: 1 } },
      logins: { since: HOSTILE, verified: HOSTILE, fallback: 1, refused: 1, refused_by_reason: { [HOSTILE]: 3, constructor: 1 } },
      recent_logins: [{ at: HOSTILE, ms: HOSTILE, proof: HOSTILE }],
      outages: { count: 1, seconds: 1, newest: [{ started: HOSTILE, ended: HOSTILE, seconds: 1, admitted: HOSTILE, refused: { [HOSTILE]: 2 } }] }
    }
    const player = { name: HOSTILE, id: HOSTILE, proof: HOSTILE, address: HOSTILE, protocol: 1, version: HOSTILE, backend: HOSTILE, host: HOSTILE, since: HOSTILE }
    const cost = {
      reason: HOSTILE, rule: HOSTILE, first: 3, any: 3, alone: 1, hint: HOSTILE, players: [HOSTILE],
      relaxations: [{ key: HOSTILE, value: HOSTILE, alone: 0, ready: 1, gives_up: HOSTILE }]
    }
    const report = { considered: 1, ready: 0, must_enter_pin: 0, not_ready: 1, unrehearsed: 0, reasons: [cost] }
    const answers = {
      '/api/players': { total: 1, players: [player] },
      '/api/readiness': { at: HOSTILE, current: { file: HOSTILE, fallback: HOSTILE, report } },
      '/api/reload': { changed: [HOSTILE], restart_needed: [HOSTILE], warnings: [HOSTILE] },
      '/api/status': told
    }
    const lines = kinds.map(kind => `event: audit\ndata: ${JSON.stringify(event(kind))}\n\n`).join('')
    visitor = await visit(browser, 'about:blank')
    const { page } = visitor
    await page.route('**/api/**', (route, request) => {
      const { pathname } = new URL(request.url())
      if (pathname !== '/api/events') return route.fulfill({ json: answers[pathname] })
      const body = `${lines}event: status\ndata: ${JSON.stringify(told)}\n\nevent: missed\ndata: {"lines":${JSON.stringify(HOSTILE)}}\n\n`
      return route.fulfill({ contentType: 'text/event-stream', body })
    })
    await page.goto(origin)
    await headline(page, /^Forced down until <img/)
    await text(page, '#events .what', HOSTILE)
    await row(page, HOSTILE).waitFor()
    await text(page, '#reasons', HOSTILE)
    assert.equal(await page.locator('#events > li').count(), kinds.length)
    for (const summary of await page.locator('summary').all()) await summary.evaluate(element => { element.parentElement.open = true })
    await row(page, HOSTILE).getByRole('button').click()
    await page.getByRole('heading', { name: `Kick ${HOSTILE} from ${HOSTILE}?` }).waitFor()
    await page.keyboard.press('Escape')
    await page.getByRole('button', { name: 'Reload configuration' }).click()
    await page.getByRole('button', { name: 'Reload', exact: true }).click()
    await giveToken(page, HOSTILE)
    await text(page, '#reload-result li', HOSTILE)
    await assertQuiet(visitor, origin)
  })

  it('forces the verdict with the token, for as long as was chosen', LIMIT, async () => {
    const page = await look()
    const mark = await stage.proxy.mark()
    await page.getByRole('button', { name: 'Force down…' }).click()
    const dialog = page.getByRole('dialog', { name: 'Force an outage?' })
    await dialog.getByText(/Ends by itself at \d\d:\d\d/).waitFor()
    // The shortest choice there is takes longer than a test should.
    await dialog.getByLabel('For how long').evaluate(select => { select.options[0].value = '6' })
    await dialog.getByLabel('For how long').selectOption({ index: 0 })
    await dialog.getByRole('button', { name: 'Force down' }).click()
    await giveToken(page, 'not the token')
    await page.getByRole('alert').filter({ hasText: 'That is not this proxy’s token.' }).waitFor()
    assert.equal((await (await fetch(`${origin}/api/status`)).json()).auth.override, null, 'nothing is forced with a wrong one')
    await giveToken(page, await stage.proxy.token())
    await headline(page, /^Forced down until \d\d:\d\d$/)
    await page.getByRole('button', { name: 'Forced down', pressed: true }).waitFor()
    await stage.proxy.event(mark, { event: 'auth.override', change: 'set', verdict: 'down' })
    await text(page, '#events li', 'Forced down until')
    await headline(page, 'Mojang answers')
    await stage.proxy.event(mark, { event: 'auth.override', change: 'expired' })
    await text(page, '#events li', 'The override came to its end')

    await page.getByRole('button', { name: 'Force up…' }).click()
    await page.getByRole('dialog', { name: 'Force Mojang to count as up?' }).getByRole('button', { name: 'Force up' }).click()
    await headline(page, /^Forced up until/)
    await page.getByRole('button', { name: 'Automatic' }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'End the override' }).click()
    await headline(page, 'Mojang answers')
    await assertQuiet(visitor, origin, [NOTED])
    await page.getByRole('button', { name: 'Forget token' }).click()
    await page.getByRole('button', { name: 'Enter token' }).waitFor()
  })

  it('remembers the token only in the tab, and only if told to', LIMIT, async () => {
    const page = await look()
    const kept = () => page.evaluate(() => [sessionStorage.length, localStorage.length, document.cookie])
    await page.getByRole('button', { name: 'Enter token' }).click()
    await giveToken(page, await stage.proxy.token())
    await page.getByRole('button', { name: 'Forget token' }).click()
    assert.deepEqual(await kept(), [0, 0, ''])
    await page.getByRole('button', { name: 'Enter token' }).click()
    await page.getByLabel('Remember it in this tab').check()
    await giveToken(page, await stage.proxy.token())
    await page.getByRole('button', { name: 'Forget token' }).waitFor()
    assert.deepEqual(await kept(), [1, 0, ''])
    await page.reload()
    await page.getByRole('button', { name: 'Forget token' }).click()
    assert.deepEqual(await kept(), [0, 0, ''])
  })

  it('kicks a player, who reads why', LIMIT, async () => {
    const page = await look()
    const visits = [await enter(players.Cleo), await enter(players.Bert)]
    await visits[0].seat.play()
    await row(page, 'Bert').waitFor()
    await page.getByLabel('Find').fill('cle')
    await text(page, '#players-words', '1 of 2 players')
    await row(page, 'Bert').waitFor({ state: 'detached' })
    await row(page, 'Cleo').getByRole('button', { name: 'Kick Cleo from 127.3.3.1' }).click()
    const dialog = page.getByRole('dialog', { name: 'Kick Cleo from 127.3.3.1?' })
    await dialog.getByLabel('What the player reads').fill('Come back tomorrow.')
    await dialog.getByRole('button', { name: 'Kick' }).click()
    await giveToken(page, await stage.proxy.token())
    assert.equal((await visits[0].joined.ended).text, 'Come back tomorrow.')
    await row(page, 'Cleo').waitFor({ state: 'detached' })
    await text(page, '#events li', 'Cleo from 127.3.3.1 was kicked: Come back tomorrow.')
    await page.getByLabel('Find').fill('')
    await row(page, 'Bert').waitFor()
    await visits[1].joined.leave()
    await assertQuiet(visitor, origin)
  })

  it('reloads the configuration, and says what is wrong with it', LIMIT, async () => {
    const page = await look()
    await stage.proxy.rewrite({ auth: { timeout: 'soon' } })
    await page.getByRole('button', { name: 'Reload configuration' }).click()
    const dialog = page.getByRole('dialog', { name: 'Reload the configuration' })
    await dialog.getByRole('button', { name: 'Reload', exact: true }).click()
    await giveToken(page, await stage.proxy.token())
    await dialog.getByRole('heading', { name: 'Problems' }).waitFor()
    assert.match(await dialog.locator('#reload-result').innerText(), /auth\.timeout/)
    await stage.proxy.rewrite({ auth: { timeout: 1500 } })
    await dialog.getByRole('button', { name: 'Reload again' }).click()
    await dialog.getByText('Reloaded.').waitFor()
    assert.match(await dialog.locator('#reload-result').innerText(), /auth\.timeout: 2000 -> 1500/)
    await dialog.getByRole('button', { name: 'Close' }).click()
    await text(page, '#events li', 'Configuration reloaded: auth.timeout')
    await stage.proxy.rewrite({})
    await assertQuiet(visitor, origin, [NOTED])
  })

  it('lets the events be filtered, paused and read on', LIMIT, async () => {
    const page = await look()
    await page.getByLabel('Show').selectOption('login')
    const before = await page.locator('#events > li').count()
    assert.ok(before > 0)
    await page.getByRole('button', { name: 'Pause' }).click()
    const { joined } = await enter(players.Anna)
    await text(page, '#events-words', /^Paused: \d+ new event/)
    assert.equal(await page.locator('#events > li').count(), before)
    await page.getByRole('button', { name: 'Go on' }).click()
    await page.locator('#events > li').nth(before).waitFor()
    await joined.leave()
    await assertQuiet(visitor, origin)
  })

  it('can be used by keyboard alone', LIMIT, async () => {
    const { joined } = await enter(players.Anna)
    const page = await look()
    await row(page, 'Anna').waitFor()
    const focused = () => page.evaluate(() => document.activeElement?.getAttribute('aria-label') ?? document.activeElement?.textContent?.trim())
    const tabTo = async name => {
      for (let presses = 0; presses < 40; presses++) {
        await page.keyboard.press('Tab')
        if (name.test(await focused() ?? '')) return
      }
      assert.fail(`${name} cannot be reached`)
    }
    await page.keyboard.press('Tab')
    assert.equal(await focused(), 'Skip to the content')
    await page.keyboard.press('Enter')
    await tabTo(/^Force down/)
    const ring = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle)
    assert.equal(ring, 'solid', 'where the focus is can be seen')
    await page.keyboard.press('Enter')
    await page.getByRole('dialog', { name: 'Force an outage?' }).waitFor()
    await page.keyboard.press('Escape')
    assert.match(await focused(), /^Force down/, 'back where it was')
    await tabTo(/^Kick Anna from/)
    // Figures come every two seconds, and with them all that is drawn: the focus stays.
    const other = await enter(players.Bert)
    await row(page, 'Bert').waitFor()
    assert.equal(await focused(), 'Kick Anna from 127.3.1.1')
    await page.keyboard.press('Enter')
    await page.getByRole('dialog', { name: 'Kick Anna from 127.3.1.1?' }).waitFor()
    await page.keyboard.type('By keyboard')
    await page.keyboard.press('Enter')
    await page.getByRole('dialog', { name: 'Token' }).waitFor()
    await page.keyboard.type(await stage.proxy.token())
    await page.keyboard.press('Enter')
    assert.equal((await joined.ended).text, 'By keyboard')
    await row(page, 'Anna').waitFor({ state: 'detached' })
    assert.equal(await focused(), 'Players', 'the row is gone, the reader is not lost')
    await other.joined.leave()
    await assertQuiet(visitor, origin)
  })

  it('says who could join', LIMIT, async () => {
    const page = await look()
    // One look through the sessions serves for half a minute: before the first player there was nobody to judge.
    const judged = page.locator('#ready-words').filter({ hasText: /^[1-9]\d* of [1-9]\d* could join$/ })
    for (let tries = 0; tries < 40 && await judged.count() === 0; tries++) {
      await page.getByRole('button', { name: 'Judge again' }).click()
      await judged.waitFor({ timeout: 1000 }).catch(() => {})
    }
    assert.equal(await judged.count(), 1)
    assert.match(await page.locator('#ready-at').innerText(), /^Judged at \d\d:\d\d\.$/)
    await assertQuiet(visitor, origin)
  })

  it('has the landmarks, names and states that a screen reader tells', LIMIT, async () => {
    const { joined } = await enter(players.Anna)
    const page = await look()
    await row(page, 'Anna').waitFor()
    const tree = await page.locator('body').ariaSnapshot()
    for (const part of [
      /- banner:/, /- main:/, /- contentinfo:/, /- heading "Mojang answers" \[level=1\]/, /- region "Outages":/, /- region "If Mojang went down now":/, /- region "Players":/,
      /- region "What happens":/, /- group "Who decides":/, /- button "Automatic" \[pressed\]/, /- table "Players":/, /- columnheader "Proven by"/, /- rowheader "Anna"/,
      /- button "Kick Anna from 127\.3\.1\.1"/, /- searchbox "Find"/, /- combobox "Proven by"/, /img "[A-Z][a-z]{2},? \d+ [A-Z][a-z]{2}: outage/, /- status:/
    ]) assert.match(tree, part)
    await joined.leave()
  })

  for (const [scheme, width] of [['light', 1280], ['dark', 1280], ['light', 375], ['dark', 375], ['light', 360]]) {
    it(`breaks no rule of accessibility, and nothing sticks out: ${scheme}, ${width} pixels wide`, LIMIT, async () => {
      const { joined } = await enter(players.Anna)
      // What checks the page is a script of its own, which the page's policy would not let in.
      const page = await look({ scheme, width, bypassCSP: true })
      await row(page, 'Anna').waitFor()
      await page.locator('#reasons li, #ready-at time').first().waitFor()
      await shoot(page, `real-${scheme}-${width}`)
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)
      assert.equal(wide, 0, 'nothing to scroll sideways')
      await page.addScriptTag({ path: AXE })
      const broken = async () => (await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] })))
        .violations.map(({ id, nodes }) => `${id}: ${nodes.map(node => `${node.target} ${node.any.map(check => check.message)}`).join('; ')}`)
      assert.deepEqual(await broken(), [])
      for (const name of ['Reload configuration', 'Enter token', 'Force up…', 'Kick Anna']) {
        await page.getByRole('button', { name }).click()
        await page.getByRole('dialog').waitFor()
        assert.deepEqual(await broken(), [], name)
        await page.keyboard.press('Escape')
      }
      await joined.leave()
    })
  }

  it('says when it has lost the proxy, and how old is what it shows', LIMIT, async () => {
    const page = await look()
    await headline(page, 'Mojang answers')
    await stage.proxy.stop()
    await text(page, '#link-words', 'Not connected')
    await page.getByText(/What you see is \d+ s old\./).waitFor()
    await page.getByRole('button', { name: 'Try again now' }).waitFor()
    await headline(page, 'Mojang answers')
    await shoot(page, 'real-lost')
  })
})

describe('a console that others than this machine may reach', () => {
  let stage, origin, visitor

  before(async () => { ({ stage, origin } = await open({ keys: { 'allowed-hosts': ['console.test'] }, sections: { auth: { fallback: 'dry-run' } } })) }, LIMIT)
  after(async () => {
    await visitor?.context.close()
    await stage?.stop()
  })

  it('shows nothing before the token, and then how the fallback is set', LIMIT, async () => {
    visitor = await visit(browser, origin)
    const { page } = visitor
    await headline(page, 'Token needed')
    await page.getByRole('dialog', { name: 'Token' }).waitFor()
    await giveToken(page, 'wrong')
    await page.getByRole('alert').filter({ hasText: 'That is not this proxy’s token.' }).waitFor()
    assert.equal(await page.locator('#events > li').count(), 0)
    await page.keyboard.press('Escape')
    await page.getByRole('button', { name: 'Enter the token' }).click()
    await giveToken(page, await stage.proxy.token())
    await text(page, '#link-words', 'Live')
    await headline(page, 'Mojang answers')
    await page.getByText('The fallback is a dry run').first().waitFor()
    await stage.become('unavailable', 'down')
    await headline(page, /^Outage since/)
    await text(page, '#tally', 'nobody admitted (dry run), 0 refused')
    await assertQuiet(visitor, origin, [NOTED])
  })
})
