// The postern binary: started with a configuration of its own in a folder of its own, watched through audit.log.

import { spawn } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { STEP, within } from './waiting.mjs'

const HERE = fileURLToPath(new URL('.', import.meta.url))
/** The binary under test. */
export const BINARY = resolve(HERE, process.env.POSTERN_BIN ?? '../../target/debug/postern')

const POLL = 20
const KEPT_OUTPUT = 4 * 1024 * 1024

/** Block YAML of nested plain objects; lists and scalars are written as JSON, which YAML reads alike. */
function yaml (value, indent = '') {
  return Object.entries(value).map(([key, item]) => {
    const nested = typeof item === 'object' && !Array.isArray(item) && Object.keys(item).length > 0
    return nested ? `${indent}${key}:\n${yaml(item, indent + '  ')}` : `${indent}${key}: ${JSON.stringify(item)}\n`
  }).join('')
}

/** A port of this machine that is free now. */
export async function freePort () {
  const server = createServer()
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address()
  await new Promise(resolve => server.close(resolve))
  return port
}

export class Proxy {
  /** What the binary wrote to standard error, its end if there was much. */
  log = ''
  /** What it wrote to standard output. */
  output = ''
  port
  #child
  #folder
  #config
  #logging
  #exit

  /**
   * Starts a proxy and waits until it listens. `backends` as in the configuration; `sections` are merged over the defaults
   * chosen here, which make an outage visible within a second and let addresses of this machine count as evidence. `logging`
   * is how much it tells on standard error, as in RUST_LOG.
   */
  static async start ({ sessions, backends, secret, sections = {}, logging }) {
    const folder = await mkdtemp(join(tmpdir(), 'postern-third-party-'))
    const self = new Proxy()
    self.#folder = folder
    self.#logging = logging
    const config = {
      bind: '127.0.0.1:0',
      backends,
      auth: { 'session-server': sessions.url, services: sessions.url, timeout: 2000, 'unknown-logins-per-minute': 0 },
      'session-cache': { directory: 'sessions' },
      security: { 'min-login-history': 1, 'trust-private-addresses': true, 'enable-geo-checks': false },
      monitoring: {
        'health-check-interval': 1,
        'failure-threshold': 2,
        'recovery-threshold': 2,
        'probe-retry-interval': 100,
        'audit-log': 'audit.log'
      },
      network: { 'login-ratelimit': 0, 'connection-timeout': 2000, 'shutdown-grace': 5 },
      admin: { listen: '' }
    }
    for (const [section, keys] of Object.entries(sections)) {
      config[section] = Array.isArray(keys) ? keys : { ...config[section], ...keys }
    }
    await writeFile(join(folder, 'forwarding.secret'), secret, { mode: 0o600 })
    self.#config = config
    await writeFile(join(folder, 'config.yml'), yaml(config))
    await self.#spawn()
    return self
  }

  async #spawn () {
    const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => !/^(POSTERN|VELOCITY)_/.test(key)))
    if (this.#logging !== undefined) env.RUST_LOG = this.#logging
    const child = spawn(BINARY, ['run', '--config', join(this.#folder, 'config.yml')], { env, cwd: this.#folder, stdio: ['ignore', 'pipe', 'pipe'] })
    this.#child = child
    this.#exit = new Promise(resolve => {
      child.once('exit', (code, signal) => resolve({ code, signal }))
      child.once('error', error => resolve({ error }))
    })
    child.stderr.setEncoding('utf8').on('data', text => {
      this.log = (this.log + text).slice(-KEPT_OUTPUT)
      if (process.env.POSTERN_TEST_LOG) process.stderr.write(text)
    })
    const listening = new Promise(resolve => {
      child.stdout.setEncoding('utf8').on('data', text => {
        this.output += text
        const line = /^Done \([^)]*\)! Listening on 127\.0\.0\.1:(\d+)$/m.exec(this.output)
        if (line) resolve(Number(line[1]))
      })
    })
    const died = this.#exit.then(({ code, signal, error }) => {
      throw new Error(`${BINARY} ended before it listened (${error?.message ?? signal ?? `code ${code}`})\n${this.log}`)
    })
    try {
      this.port = await within(Promise.race([listening, died]), `"Done (…)! Listening on …" from ${BINARY}`)
    } catch (error) {
      await this.dispose()
      throw error
    }
  }

  /** What `postern doctor --json` finds with this proxy's configuration: `{ code, report, text }`. */
  async doctor (ms = 6 * STEP) {
    const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => !/^(POSTERN|VELOCITY)_/.test(key)))
    const args = ['doctor', '--config', join(this.#folder, 'config.yml'), '--json']
    const child = spawn(BINARY, args, { env, cwd: this.#folder, stdio: ['ignore', 'pipe', 'pipe'] })
    const written = { stdout: '', stderr: '' }
    for (const stream of ['stdout', 'stderr']) {
      child[stream].setEncoding('utf8').on('data', text => { written[stream] += text })
    }
    const ended = new Promise((resolve, reject) => {
      child.once('close', resolve)
      child.once('error', reject)
    })
    try {
      const code = await within(ended, 'the end of postern doctor', ms)
      return { code, report: JSON.parse(written.stdout), text: written.stdout + written.stderr }
    } finally {
      child.kill('SIGKILL')
    }
  }

  /** Writes another configuration: `sections` are merged over those it was started with. It is read when the proxy is told to. */
  async rewrite (sections) {
    const config = { ...this.#config }
    for (const [section, keys] of Object.entries(sections)) config[section] = { ...config[section], ...keys }
    await writeFile(join(this.#folder, 'config.yml'), yaml(config))
  }

  /** The token of the admin interface. */
  async token () {
    return (await readFile(join(this.#folder, 'admin.token'), 'utf8')).trim()
  }

  get auditLog () { return join(this.#folder, 'audit.log') }

  /** What the session store holds of the player with this id: its JSON as it stands on disk. */
  async stored (id) {
    for (const entry of await readdir(join(this.#folder, 'sessions'), { recursive: true, withFileTypes: true })) {
      if (!entry.isFile() || !entry.name.endsWith('.json')) continue
      const text = await readFile(join(entry.parentPath ?? entry.path, entry.name), 'utf8').catch(() => '')
      if (text.includes(id)) return text
    }
    return undefined
  }

  /** Everything it wrote so far, to its folder and to its output: text by where it stands. */
  async written () {
    const texts = { 'standard error': this.log, 'standard output': this.output }
    for (const entry of await readdir(this.#folder, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue
      const path = join(entry.parentPath ?? entry.path, entry.name)
      texts[path] = await readFile(path, 'latin1').catch(() => '')
    }
    return texts
  }

  /** Every audit event so far, in order. A line still being written is left out. */
  async events () {
    const text = await readFile(this.auditLog, 'utf8').catch(error => {
      if (error.code === 'ENOENT') return ''
      throw error
    })
    return text.split('\n').slice(0, -1).map(line => JSON.parse(line))
  }

  /** A place in audit.log: pass it to `event` to see only what comes after. */
  async mark () {
    return (await this.events()).length
  }

  /** The first event from `mark` on that has all of `fields` (a function tests a value); waits for it. */
  async event (mark, fields, ms = STEP) {
    const fits = event => Object.entries(fields).every(([key, value]) =>
      typeof value === 'function' ? value(event[key], event) : event[key] === value)
    const deadline = Date.now() + ms
    for (;;) {
      const events = (await this.events()).slice(mark)
      const found = events.find(fits)
      if (found !== undefined) return found
      if (Date.now() > deadline) {
        const lines = events.slice(-20).map(event => JSON.stringify(event)).join('\n')
        throw new Error(`waited ${ms} ms for the audit event ${JSON.stringify(fields)}; came:\n${lines}\nlog:\n${this.log.slice(-4000)}`)
      }
      await new Promise(resolve => setTimeout(resolve, POLL))
    }
  }

  /** Waits until the verdict on the session server has become `state` after `mark`. */
  verdict (mark, state, ms = 2 * STEP) {
    return this.event(mark, { event: 'auth.state', facts: (facts, event) => verdictOf(event) === state }, ms)
  }

  /** Asks the proxy to stop and waits for its end: `{ code, signal }`. */
  async stop () {
    this.#child.kill('SIGTERM')
    return within(this.#exit, 'the end of the proxy')
  }

  /** Ends it whatever it does, and removes its folder. */
  async dispose () {
    this.#child.kill('SIGKILL')
    await this.#exit
    await rm(this.#folder, { recursive: true, force: true })
  }
}

/** The new state that an `auth.state` event tells of. */
function verdictOf (event) {
  const state = event.state ?? event.to ?? event.facts?.state ?? event.facts?.to ?? event.reason
  return String(state).toLowerCase()
}
