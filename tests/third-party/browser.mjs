// A real browser: Chromium as it is installed, driven by playwright-core.

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { chromium } from 'playwright-core'

/** The browser to use: what CHROMIUM names, or else where the packages of the distributions put it. */
const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome-stable', '/usr/bin/google-chrome']
/** It runs as whoever runs the tests, root in containers, and calls nobody but the page's own server. */
const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--disable-dev-shm-usage'
]

export async function launch () {
  const executablePath = process.env.CHROMIUM ?? PLACES.find(place => existsSync(place))
  if (executablePath === undefined) throw new Error('there is no browser: install Debian\'s package chromium, or name one in CHROMIUM')
  return chromium.launch({ executablePath, args: FLAGS })
}

/** A page, and what it did: `requests` are the addresses it asked, `errors` what it complained of, `boxes` what would have stopped it. */
export async function visit (browser, url, { width = 1280, height = 900, scheme = 'light', ...options } = {}) {
  const context = await browser.newContext({
    viewport: { width, height }, colorScheme: scheme, timezoneId: 'Europe/Berlin', reducedMotion: 'reduce', ...options
  })
  const page = await context.newPage()
  const seen = { requests: [], errors: [], boxes: [] }
  page.on('request', request => seen.requests.push(request.url()))
  page.on('pageerror', error => seen.errors.push(error.message))
  page.on('console', message => { if (['error', 'warning'].includes(message.type())) seen.errors.push(message.text()) })
  page.on('dialog', box => { seen.boxes.push(box.message()); void box.dismiss() })
  await page.goto(url)
  return { page, context, seen }
}

/** Takes a picture into the folder that POSTERN_SHOTS names, if it names one. */
export async function shoot (page, name) {
  const folder = process.env.POSTERN_SHOTS
  if (folder !== undefined) await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true })
}
