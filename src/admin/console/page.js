// What the page shows and does. Whatever comes from the proxy may hold what a stranger typed: it is put in as text (`say`,
// `make`), never as markup. Names of attributes and elements are ours alone.

/**
 * @typedef {{ mode: 'down' | 'up', until: string }} Override
 * @typedef {{ started: string, ended?: string | null, seconds?: number, admitted?: number, refused?: Object<string, number> }} Outage
 * @typedef {{ at: string, ms: number, proof: string }} Login
 * @typedef {{ name: string, id: string, connection: string, proof: string, address: string, protocol: number | null, version: string | null,
 *   backend: string | null, host: string | null, since: string }} Player
 * @typedef {Object<string, any>} Dict
 */

/** The bytes of a stream end so long after the last sign of life: the proxy sends its figures every 2 s. */
const SILENCE = 12_000
/** Pauses between attempts to reach the proxy again, in ms; the last one stays. */
const PAUSES = [500, 1000, 2000, 4000, 8000, 15_000]
const DAY = 86_400_000
const DAYS_SHOWN = 7
const MOST_EVENTS = 200
/** Players shown at first, and further ones each time more are asked for. */
const ROWS = 20
const MORE_ROWS = 100
const LOCKED = 'This proxy shows its figures to whoever has its token.'
const TOKEN_KEY = 'postern-token'

/** Reason codes in plain words: what kept a player out. */
const REASONS = {
  'banned': 'banned after too many failed attempts',
  'mojang-required': 'on your list of players who need Mojang’s word',
  'no-session': 'never seen here, or the name is somebody else’s now',
  'id-mismatch': 'claims another account than the one known by this name',
  'locked': 'locked by you until the next login through Mojang',
  'session-expired': 'last login through Mojang is too long ago',
  'inactive': 'has not played here lately',
  'short-history': 'has logged in too few times',
  'private-address': 'comes from a private address, which proves nothing',
  'shared-address': 'too many players share the address',
  'address-changed': 'comes from another address than before',
  'blocked-asn': 'comes from a network you block, or an unknown one',
  'geo-changed': 'comes from another country or network than before',
  'geo-unknown': 'country and network cannot be found out',
  'already-online': 'is connected already',
  'weaker-client': 'uses an older game than before, which cannot ask for the PIN safely',
  'pin-not-set': 'needs a PIN and has none',
  'pin-failed': 'typed a wrong PIN',
  'pin-timeout': 'typed no right PIN in time',
  'not-joined': 'Mojang says this account did not join',
  'throttled': 'Mojang limits how often this machine may ask',
  'unreachable': 'Mojang did not answer',
  'unexpected': 'Mojang’s answer made no sense',
  'local': 'a limit of this machine was hit',
  'rate-limited': 'too many logins in a short time',
  'too-many-connections': 'too many connections',
  'bad-handshake': 'did not speak as the game does',
  'bad-name': 'the name is not a possible one',
  'newer-version-needed': 'needs a newer version of the game',
  'transfer-refused': 'was sent here by another server, which you do not allow',
  'client-left': 'left before the login was over',
  'client-timeout': 'did not answer in time',
  'backend-unavailable': 'no backend answered',
  'backend-misconfigured': 'the backend is not set up for this proxy',
  'displaced': 'another connection of the same player took the place',
  'kicked': 'kicked by the owner',
  'shutting-down': 'the proxy was stopping'
}
/** The same, of players whose last login is judged as if it had been in an outage. */
const REHEARSED = { ...REASONS, 'address-changed': 'has come from this address once only, or from others before' }
const PROOFS = { verified: 'Mojang', fallback: 'policy alone', pinned: 'policy and PIN', held: 'nothing yet (held)' }
const PROBES = {
  'verified': 'it answered as it should', 'not-joined': 'it answered as it should', 'throttled': 'it limits how often this machine may ask',
  'unreachable': 'no answer', 'unexpected': 'the answer made no sense', 'local': 'this machine itself was at its limits'
}
/** Kinds of events: the word on the tag, its tone, and what it is filtered by. */
const KINDS = {
  'login.verified': ['Joined', 'good', 'login'], 'login.fallback': ['Fallback', 'doubt', 'login'], 'login.refused': ['Refused', 'bad', 'refused'],
  'auth.state': ['Mojang', 'forced', 'auth'], 'auth.override': ['Override', 'forced', 'auth'],
  'pin.prompted': ['PIN', '', 'pin'], 'pin.verified': ['PIN', 'good', 'pin'], 'pin.failed': ['PIN', 'bad', 'pin'],
  'pin.set': ['PIN', '', 'pin'], 'pin.reset': ['PIN', '', 'pin'],
  'ban.added': ['Ban', 'bad', 'ban'], 'ban.expired': ['Ban', '', 'ban'], 'ban.lifted': ['Ban', '', 'ban'],
  'geo.changed': ['Place', 'doubt', 'other'], 'backend.error': ['Backend', 'bad', 'other'], 'player.kicked': ['Kick', 'doubt', 'other'],
  'audit.dropped': ['Log', 'bad', 'other'], 'config.reloaded': ['Config', '', 'other'],
  'proxy.started': ['Proxy', '', 'other'], 'proxy.stopped': ['Proxy', 'doubt', 'other'],
  'session.locked': ['Session', '', 'other'], 'session.forgotten': ['Session', '', 'other'], 'session.imported': ['Session', '', 'other']
}
/** What can be ordered: the question, what it means, and the button. */
const ORDERS = {
  auto: ['Back to automatic?', 'The override ends now. From then on Postern’s own checks decide whether Mojang answers.', 'End the override'],
  down: ['Force an outage?', 'Postern acts as if Mojang did not answer: players it knows are judged by your rules and let in without ' +
    'Mojang’s word, everybody else is refused. Meant for when Mojang is broken in a way the checks do not see.', 'Force down'],
  up: ['Force Mojang to count as up?', 'Postern acts as if Mojang answered: nobody comes in without Mojang’s word, not even while Mojang is silent.',
    'Force up']
}
/** Drawings of the verdict, so that its tone is not told by colour alone. */
const SIGNS = {
  good: ['M24 3a21 21 0 1 0 0 42 21 21 0 0 0 0-42zm-3.5 31L11 24.5l3.3-3.3 6.2 6.2L33.7 14l3.3 3.3z'],
  bad: ['M15.5 3h17L45 15.500v17L32.500 45h-17L3 32.500v-17zM17 14l-3 3 7 7-7 7 3 3 7-7 7 7 3-3-7-7 7-7-3-3-7 7z'],
  doubt: ['M24 4 2.500 43h43zM21.700 18h4.600l-.7 13h-3.200zM24 33.500a2.600 2.600 0 1 1 0 5.200 2.600 2.600 0 0 1 0-5.200z'],
  forced: ['M14 20v-5a10 10 0 0 1 20 0v5h3a2 2 0 0 1 2 2v20a2 2 0 0 1-2 2H11a2 2 0 0 1-2-2V22a2 2 0 0 1 2-2zm5 0h10v-5a5 5 0 0 0-10 0zm5 7a3 3 0 0 0-1.500 5.600V38h3v-5.400A3 3 0 0 0 24 27z'],
  none: ['M24 5a19 19 0 1 0 0 38 19 19 0 0 0 0-38zm0 5a14 14 0 1 1 0 28 14 14 0 0 1 0-28z']
}

const state = {
  token: stored(), status: /** @type {Dict | null} */ (null), heard: 0, skew: 0,
  link: 'connecting', fault: '', retryAt: 0, attempt: 0,
  players: /** @type {Player[]} */ ([]), playersKnown: false, rows: ROWS,
  events: /** @type {Dict[]} */ ([]), seen: new Set(), paused: false, waiting: 0,
  ready: /** @type {Dict | null} */ (null), stage: '', painting: false
}

// --- Small tools ---------------------------------------------------------------------------------------------------

/** @param {string} id @returns {any} */
function at (id) { return document.getElementById(id) }

/** Puts `text` in, if it is not there already: what is unchanged is neither read out again nor drawn anew. */
function say (/** @type {Element} */ element, /** @type {unknown} */ text) {
  const words = String(text)
  if (element.textContent !== words) element.textContent = words
}

/** A new element. Children that are texts stay texts. */
function make (/** @type {string} */ tag, /** @type {Object<string, string>} */ attributes = {}, /** @type {(Node | string)[]} */ ...children) {
  const element = document.createElement(tag)
  set(element, attributes)
  element.append(...children)
  return element
}

/** A new element of a drawing. */
function draw (/** @type {string} */ tag, /** @type {Object<string, any>} */ attributes) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag)
  set(element, attributes)
  return element
}

function set (/** @type {Element} */ element, /** @type {Object<string, any>} */ attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value))
  }
}

/**
 * Brings the children of `parent` in line with `items`: who stays keeps its element, and with it the focus.
 * @template T
 * @param {Element} parent
 * @param {T[]} items
 * @param {(item: T) => string} keyOf
 * @param {(item: T) => HTMLElement} create
 * @param {(element: any, item: T) => void} [update]
 */
function reconcile (parent, items, keyOf, create, update = () => {}) {
  const old = new Map([...parent.children].map(child => [/** @type {HTMLElement} */ (child).dataset.key, child]))
  let next = /** @type {any} */ (parent.firstElementChild)
  for (const item of items) {
    const key = keyOf(item)
    let element = /** @type {any} */ (old.get(key))
    old.delete(key)
    if (element === undefined) {
      element = create(item)
      element.dataset.key = key
    }
    update(element, item)
    // Moving an element takes the focus from it, so the others move round it.
    if (element === next) next = next.nextElementSibling
    else if (element.contains(document.activeElement) && element.parentNode === parent) {
      while (next !== null && next !== element) { const after = next.nextElementSibling; parent.append(next); next = after }
      next = element.nextElementSibling
    } else parent.insertBefore(element, next)
  }
  for (const element of old.values()) element.remove()
}

const integer = new Intl.NumberFormat('en')
/** @param {unknown} value */
function count (value) { return integer.format(Number(value) || 0) }
/** @param {number} n */
function many (n, /** @type {string} */ one, /** @type {string} */ more = one + 's') { return `${count(n)} ${n === 1 ? one : more}` }

/** The time by the proxy's clock. */
function now () { return Date.now() + state.skew }

const CLOCK = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' })
const SECONDS = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' })
const DATE = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' })
const WEEKDAY = new Intl.DateTimeFormat('en-GB', { weekday: 'short', day: 'numeric', month: 'short' })
const EXACT = new Intl.DateTimeFormat('en-GB', { dateStyle: 'full', timeStyle: 'long' })

/** A moment in few words: the time of today, with the day if it was another one. */
function moment (/** @type {string | number} */ when, clock = CLOCK) {
  const date = new Date(when)
  if (Number.isNaN(date.getTime())) return String(when)
  const time = clock.format(date)
  return date.toDateString() === new Date(now()).toDateString() ? time : `${DATE.format(date)}, ${time}`
}

function exact (/** @type {string | number} */ when) {
  const date = new Date(when)
  return Number.isNaN(date.getTime()) ? String(when) : EXACT.format(date)
}

/** A `<time>` that says the exact one too. */
function time (/** @type {string} */ when, clock = CLOCK) {
  return make('time', { datetime: when, title: exact(when) }, moment(when, clock))
}

/** A length of time, in seconds, in words. */
function span (/** @type {number} */ seconds) {
  const s = Math.max(0, Math.round(seconds))
  if (s < 60) return `${s} s`
  if (s < 3600) return `${Math.floor(s / 60)} min`
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${String(Math.floor(s % 3600 / 60)).padStart(2, '0')} min`
  return `${many(Math.floor(s / 86_400), 'day')} ${Math.floor(s % 86_400 / 3600)} h`
}

function since (/** @type {string} */ when) { return span((now() - Date.parse(when)) / 1000) }
function milliseconds (/** @type {number} */ ms) { return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s` }
function sum (/** @type {Object<string, number> | undefined} */ counts) { return Object.values(counts ?? {}).reduce((all, one) => all + one, 0) }
function reason (/** @type {string} */ code) { return Object.hasOwn(REASONS, code) ? /** @type {Dict} */ (REASONS)[code] : code }
/** @param {Dict} table @param {string} key */
function word (table, key) { return Object.hasOwn(table, key) ? table[key] : key }

/** The sign of how somebody was proven; the words stand beside it. */
function mark (/** @type {string} */ proof) { return make('span', { class: 'mark', 'data-proof': proof, 'aria-hidden': 'true' }) }

/** Names and values side by side. */
function pairs (/** @type {Element} */ list, /** @type {[string, string, string?][]} */ rows) {
  const parts = rows.flatMap(([name, value, proof]) => [{ tag: 'dt', text: name, name, proof }, { tag: 'dd', text: value, name, proof: undefined }])
  reconcile(list, parts, part => part.tag + part.name,
    part => part.proof ? make(part.tag, {}, mark(part.proof), part.text) : make(part.tag),
    (element, part) => { if (!part.proof) say(element, part.text) })
}

function toast (/** @type {string} */ text) {
  const line = make('p', {}, text)
  at('toasts').append(line)
  setTimeout(() => line.remove(), 7000)
}

// --- Asking the proxy ----------------------------------------------------------------------------------------------

/** An answer that is none. */
class Refused extends Error {
  constructor (/** @type {number} */ status, /** @type {string} */ message, /** @type {string[]} */ problems = []) {
    super(message)
    this.status = status
    this.problems = problems
  }
}

function stored () {
  try { return sessionStorage.getItem(TOKEN_KEY) ?? '' } catch { return '' }
}

function keep (/** @type {string} */ token, /** @type {boolean} */ remember) {
  state.token = token
  try {
    if (remember) sessionStorage.setItem(TOKEN_KEY, token)
    else sessionStorage.removeItem(TOKEN_KEY)
  } catch { /* A browser that keeps nothing: it is asked for again. */ }
  say(at('token-open'), token === '' ? 'Enter token' : 'Forget token')
}

/** Headers carry bytes: those of the text in UTF-8. @returns {Object<string, string>} */
function bearer (token = state.token) {
  return token === '' ? {} : { Authorization: 'Bearer ' + String.fromCharCode(...new TextEncoder().encode(token)) }
}

/** Asks; an answer that says no is thrown. */
async function ask (/** @type {string} */ path, /** @type {RequestInit} */ init = {}) {
  const signal = init.signal ?? AbortSignal.timeout(60_000)
  const headers = { ...bearer(), ...init.headers }
  let answer
  try {
    answer = await fetch(path, { cache: 'no-store', credentials: 'omit', redirect: 'error', ...init, signal, headers })
  } catch (error) {
    throw new Refused(0, /** @type {Error} */ (error).name === 'TimeoutError' ? 'The proxy takes too long to answer.' : 'The proxy does not answer.')
  }
  if (answer.ok) return answer
  const said = await answer.json().catch(() => ({}))
  const problems = Array.isArray(said.problems) ? said.problems.map(String) : []
  throw new Refused(answer.status, String(said.error ?? `The proxy answered ${answer.status}.`), problems)
}

/** @returns {Promise<any>} */
async function read (/** @type {string} */ path) { return (await ask(path)).json() }

/** Has the proxy do something. Asks for the token first if there is none, and again if it is wrong. @returns {Promise<any>} */
async function order (/** @type {string} */ path, /** @type {Dict} */ content) {
  const init = { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(content) }
  let why = 'Whatever changes something needs this proxy’s token.'
  for (;;) {
    if (state.token === '' && !await askToken(why)) throw new Refused(401, 'Nothing was done: it needs the token.')
    try {
      return await (await ask(path, init)).json()
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 401) throw error
      keep('', false)
      why = 'The token was not taken. Nothing was done yet.'
    }
  }
}

// --- Dialogs -------------------------------------------------------------------------------------------------------

/** Shows a dialog. Every way out but `submit` closes it; `submit` says whether it may close. Resolves to whether it was submitted. */
function open (/** @type {string} */ id, /** @type {() => Promise<boolean>} */ submit) {
  const dialog = /** @type {HTMLDialogElement} */ (at(id))
  const form = /** @type {HTMLFormElement} */ (dialog.querySelector('form'))
  const button = /** @type {HTMLButtonElement} */ (form.querySelector('[type=submit]'))
  let busy = false
  let done = false
  dialog.dataset.open = ''
  form.onsubmit = async event => {
    event.preventDefault()
    if (busy) return
    busy = true
    button.setAttribute('aria-disabled', 'true')
    try { done = await submit() } finally {
      busy = false
      button.removeAttribute('aria-disabled')
    }
    if (done) dialog.close()
  }
  for (const closer of /** @type {NodeListOf<HTMLElement>} */ (dialog.querySelectorAll('[data-close]'))) closer.onclick = () => dialog.close()
  dialog.showModal()
  return new Promise(resolve => { dialog.onclose = () => { delete dialog.dataset.open; resolve(done) } })
}

/** Says in `id` what went wrong with `work`; whether nothing did. */
async function trying (/** @type {string} */ id, /** @type {() => Promise<void>} */ work) {
  say(at(id), '')
  try {
    await work()
    return true
  } catch (error) {
    say(at(id), /** @type {Error} */ (error).message)
    return false
  }
}

let asking = /** @type {Promise<boolean> | null} */ (null)

/** Asks for the token, and tries it before it is taken. Resolves to whether there is one. */
function askToken (/** @type {string} */ why) {
  asking ??= (async () => {
    const field = at('token')
    say(at('token-why'), why)
    say(at('token-wrong'), '')
    field.value = ''
    const given = await open('token-dialog', () => trying('token-wrong', async () => {
      const token = field.value.trim()
      field.setAttribute('aria-invalid', 'false')
      try {
        await ask('/api/status', { headers: bearer(token) })
      } catch (error) {
        field.setAttribute('aria-invalid', 'true')
        field.select()
        if (error instanceof Refused && error.status === 401) throw new Error('That is not this proxy’s token.')
        throw error
      }
      keep(token, at('token-keep').checked)
    }))
    field.value = ''
    asking = null
    if (given && state.link === 'locked') retryNow()
    return given
  })()
  return asking
}

async function askOverride (/** @type {'auto' | 'down' | 'up'} */ mode) {
  const status = state.status
  if (mode === 'auto' && status !== null && status.auth.override === null) return toast('Postern decides by its own checks already.')
  for (const [index, id] of ['override-asked', 'override-means', 'override-do'].entries()) say(at(id), ORDERS[mode][index])
  const caution = mode === 'down' ? modeNote(String(status?.auth.fallback)) : ''
  say(at('override-caution'), caution)
  at('override-caution').hidden = caution === ''
  at('override-time').hidden = mode === 'auto'
  say(at('override-wrong'), '')
  showUntil()
  await open('override-dialog', () => trying('override-wrong', async () => {
    const told = await order('/api/auth', mode === 'auto' ? { mode } : { mode, for_seconds: Number(at('override-for').value) })
    if (state.status !== null && told.auth) hear({ ...state.status, auth: told.auth })
    toast(mode === 'auto' ? 'Automatic again.' : `Forced ${mode} until ${moment(told.auth?.override?.until ?? '')}.`)
  }))
}

function showUntil () {
  say(at('override-until'), `Ends by itself at ${moment(now() + 1000 * Number(at('override-for').value))}.`)
}

async function askKick (/** @type {Player} */ player) {
  const whom = `${player.name} from ${player.address}`
  say(at('kick-title'), `Kick ${whom}?`)
  say(at('kick-wrong'), '')
  at('kick-reason').value = ''
  const kicked = await open('kick-dialog', () => trying('kick-wrong', async () => {
    const why = at('kick-reason').value.trim()
    // Not by the id alone: somebody else may be held for the PIN under it. Nor by the number alone: it begins anew with
    // each run of the proxy.
    const { connection, id } = player
    await order('/api/players/kick', why === '' ? { connection, player: id } : { connection, player: id, reason: why })
    toast(`${whom} was kicked.`)
  }))
  // The row is about to go, or is gone, and with it the focus.
  if (kicked || document.activeElement === document.body) at('players-title').focus()
  if (kicked) void readPlayers()
}

/** Lists under a heading, if there is anything to list. @returns {Node[]} */
function listed (/** @type {string} */ title, /** @type {unknown} */ items) {
  if (!Array.isArray(items) || items.length === 0) return []
  return [make('h3', {}, title), make('ul', {}, ...items.map(item => make('li', {}, String(item))))]
}

async function askReload () {
  const result = at('reload-result')
  result.replaceChildren()
  say(at('reload-wrong'), '')
  say(at('reload-close'), 'Cancel')
  say(at('reload-do'), 'Reload')
  await open('reload-dialog', async () => {
    result.replaceChildren()
    say(at('reload-wrong'), '')
    try {
      const told = await order('/api/reload', {})
      const nothing = told.changed.length === 0 && told.restart_needed.length === 0
      result.replaceChildren(make('p', {}, make('strong', {}, nothing ? 'Nothing changed.' : 'Reloaded.')),
        ...listed('In force now', told.changed), ...listed('Needs a restart', told.restart_needed), ...listed('To be minded', told.warnings))
    } catch (error) {
      say(at('reload-wrong'), /** @type {Error} */ (error).message)
      if (error instanceof Refused) result.replaceChildren(...listed('Problems', error.problems))
    }
    say(at('reload-close'), 'Close')
    say(at('reload-do'), 'Reload again')
    return false
  })
}

// --- The verdict ---------------------------------------------------------------------------------------------------

/** How the fallback's mode changes what an outage means. */
function modeNote (/** @type {string} */ fallback) {
  if (fallback === 'dry-run') return 'The fallback is a dry run: in an outage logins are judged and written down, and nobody is let in.'
  if (fallback === 'disabled') return 'The fallback is disabled: in an outage nobody can join.'
  return ''
}

/** What has become of the outage so far, in words. */
function tallyOf (/** @type {Dict} */ status) {
  const { outage } = status
  if (outage === null || outage === undefined) return ''
  const { admitted, refused, refused_by_reason: why } = outage
  const nobody = admitted > 0 ? undefined : { 'dry-run': 'nobody admitted (dry run)', 'disabled': 'nobody admitted (fallback disabled)' }[String(status.auth.fallback)]
  return `${nobody ?? `${many(admitted, 'friend')} admitted`}, ${count(typeof refused === 'number' ? refused : sum(why ?? refused))} refused`
}

/** The verdict in words: its tone, the headline, that in short for the tab, what came of it, and what it means. */
function verdictOf (/** @type {Dict} */ status) {
  const { auth, outage } = status
  const forced = auth.override
  const tally = tallyOf(status)
  if (forced?.mode === 'down') {
    const detail = 'Postern acts as if Mojang did not answer, whatever it does: players it knows are judged by your rules.'
    return { tone: 'forced', title: `Forced down until ${moment(forced.until)}`, short: 'Forced down', tally, detail }
  }
  if (forced) {
    const detail = 'Postern acts as if Mojang answered: nobody comes in without its word.'
    return { tone: 'forced', title: `Forced up until ${moment(forced.until)}`, short: 'Forced up', tally: '', detail }
  }
  if (auth.state === 'down') {
    const began = outage?.started ?? auth.since
    const detail = `Mojang’s session servers have not answered for ${since(began)}.`
    return { tone: 'bad', title: `Outage since ${moment(began)}`, short: 'Outage', tally, detail }
  }
  if (auth.state === 'up') {
    const detail = `For ${since(auth.since)} now. Every login is proven by Mojang.`
    return { tone: 'good', title: 'Mojang answers', short: 'Mojang answers', tally: '', detail }
  }
  if (!auth.last_probe) {
    const detail = 'No check has ended yet. Logins go through Mojang.'
    return { tone: 'none', title: 'Asking Mojang…', short: 'Asking Mojang', tally: '', detail }
  }
  const detail = `For ${since(auth.since)}. Logins still go through Mojang; the fallback opens only in an outage.`
  return { tone: 'doubt', title: 'Mojang answers now and then', short: 'Now and then', tally: '', detail }
}

/** What the owner should not miss. @returns {string[]} */
function notesOf (/** @type {Dict} */ status) {
  const notes = []
  if (status.stage === 'starting') notes.push('Postern is starting: it takes no players yet.')
  if (status.stage === 'stopping') notes.push('Postern is stopping: it takes no players any more.')
  const mode = modeNote(status.auth.fallback)
  if (mode !== '') notes.push(mode)
  const { audit, webhooks, connections } = status
  if (audit?.failing) notes.push('audit.log cannot be written. Players are not held up; look at the disk.')
  if (audit?.dropped > 0) notes.push(`${many(audit.dropped, 'line')} of audit.log ${audit.dropped === 1 ? 'was' : 'were'} lost.`)
  if (webhooks?.failing) notes.push('A webhook does not take messages.')
  if (webhooks?.dropped > 0) notes.push(`${many(webhooks.dropped, 'message')} to webhooks ${webhooks.dropped === 1 ? 'was' : 'were'} dropped.`)
  if (connections?.max > 0 && connections.open >= connections.max * .75) notes.push('Connections are getting scarce: known players are let in first.')
  return notes
}

function paintVerdict (/** @type {Dict} */ status) {
  const { tone, title, short, tally, detail } = verdictOf(status)
  const section = at('verdict')
  if (section.dataset.tone !== tone || at('sign').childElementCount === 0) {
    section.dataset.tone = tone
    at('sign').replaceChildren(draw('path', { d: /** @type {Dict} */ (SIGNS)[tone][0], fill: 'currentColor', 'fill-rule': 'evenodd' }))
  }
  say(at('headline'), title)
  set(at('headline'), { title: `Since ${exact(status.auth.since)}` })
  say(at('tally'), tally)
  at('tally').hidden = tally === ''
  const probe = status.auth.last_probe
  say(at('detail'), [detail, probe ? `Last check ${since(probe.at)} ago: ${word(PROBES, probe.outcome)}.` : ''].filter(Boolean).join(' '))
  const notes = notesOf(status)
  at('notes').hidden = notes.length === 0
  reconcile(at('notes'), notes, note => note.replace(/\d+/g, ''), () => make('li', {}, make('span')), (item, note) => say(item.firstChild, note))
  paintOverride(status.auth)
  const name = `${short} · Postern`
  if (document.title !== name) document.title = name
  if (state.stage !== tone) paintIcon(state.stage = tone)
}

function paintOverride (/** @type {Dict} */ auth) {
  const mode = auth.override?.mode ?? 'auto'
  for (const button of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('[data-mode]'))) {
    const isOn = button.dataset.mode === mode
    set(button, { 'aria-pressed': isOn })
    if (button.dataset.mode !== 'auto') say(button, isOn ? `Forced ${mode}` : `Force ${button.dataset.mode}…`)
  }
  const left = auth.override ? span((Date.parse(auth.override.until) - now()) / 1000) : ''
  say(at('override-hint'), auth.override ? `Automatic again at ${moment(auth.override.until)}, in ${left}.` : 'Postern’s own checks decide.')
}

/** The sign of the verdict in the browser's tab too. */
function paintIcon (/** @type {string} */ tone) {
  const colour = { good: '#1a8a57', bad: '#c8342b', doubt: '#b87400', forced: '#6b4bc0' }[tone] ?? '#77828f'
  const path = /** @type {Dict} */ (SIGNS)[tone][0]
  const drawing = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 48 48"><path fill="${colour}" fill-rule="evenodd" d="${path}"/></svg>`
  at('icon').href = 'data:image/svg+xml,' + encodeURIComponent(drawing)
}

// --- Figures -------------------------------------------------------------------------------------------------------

/** A large figure, with what it is of in small. */
function big (/** @type {string} */ id, /** @type {string} */ figure, /** @type {string} */ rest = '') {
  const element = at(id)
  if (element.dataset.is === `${figure} ${rest}`) return
  element.dataset.is = `${figure} ${rest}`
  element.replaceChildren(figure, ...(rest === '' ? [] : [' ', make('small', {}, rest)]))
}

function paintFigures (/** @type {Dict} */ status) {
  const { players, connections, logins } = status
  const proofs = [['verified', 'proven by Mojang'], ['fallback', 'by policy (fallback)'], ['pinned', 'by policy and PIN'], ['held', 'held, PIN awaited']]
  big('n-players', count(players.total))
  pairs(at('players-pairs'), proofs.map(([key, name]) => [name, count(players[key]), key]))
  reconcile(at('players-bar'), proofs.filter(([key]) => players[key] > 0), ([key]) => key, ([key]) => make('span', { 'data-proof': key }),
    (part, [key]) => { part.style.flexGrow = players[key] })
  big('n-open', count(connections.open), `open of ${count(connections.max)}`)
  at('gauge').firstElementChild.style.width = `${Math.min(100, 100 * connections.open / Math.max(1, connections.max))}%`
  pairs(at('load-pairs'), [
    ['logins going on', `${count(connections.pending_logins)} of ${count(connections.max_pending_logins)}`],
    ['players remembered', count(status.sessions)], ['bans', count(status.bans)], ['running for', span(status.uptime_seconds)]
  ])
  paintLogins(logins)
  paintSpark(status.recent_logins ?? [])
}

function byReason (/** @type {Object<string, number>} */ counts) {
  return Object.entries(counts ?? {}).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1])
}

function paintLogins (/** @type {Dict | null} */ logins) {
  at('refused-all').hidden = !logins || sum(logins.refused_by_reason) === 0
  if (!logins) {
    big('n-logins', '–')
    return say(at('logins-since'), 'Statistics are switched off.')
  }
  big('n-logins', count(logins.verified + logins.fallback), 'let in')
  pairs(at('logins-pairs'), [['proven by Mojang', count(logins.verified)], ['by policy', count(logins.fallback)], ['refused', count(logins.refused)]])
  pairs(at('refused-pairs'), byReason(logins.refused_by_reason).map(([code, n]) => [reason(code), count(n)]))
  say(at('logins-since'), `Since ${moment(logins.since)}.`)
  set(at('logins-since'), { title: exact(logins.since) })
}

/** The newest logins, a stroke each: as high as it took long. */
function paintSpark (/** @type {Login[]} */ logins) {
  const spark = at('spark')
  const shown = logins.filter(({ ms }) => Number.isFinite(ms)).slice(-60)
  const newest = shown.at(-1)
  const key = `${shown.length} ${newest?.at} ${newest?.ms}`
  if (spark.dataset.is === key) return
  spark.dataset.is = key
  if (newest === undefined) return
  const sorted = shown.map(login => login.ms).sort((a, b) => a - b)
  const most = Math.max(1, sorted[sorted.length - 1])
  const half = sorted[Math.floor(sorted.length / 2)]
  const step = 300 / Math.max(24, shown.length)
  const strokes = shown.map(({ ms, proof }, index) => {
    const x = 300 - (shown.length - index - .5) * step
    return draw('line', { x1: x, x2: x, y1: 54, y2: 53 - 50 * Math.sqrt(ms / most), class: proof === 'verified' ? 'mojang' : 'policy' })
  })
  spark.replaceChildren(draw('line', { x1: 0, x2: 300, y1: 55, y2: 55, class: 'floor' }), ...strokes)
  big('n-login', milliseconds(half), 'as a rule')
  const policy = shown.filter(login => login.proof !== 'verified').length
  const dashed = policy > 0 ? `, ${count(policy)} by policy (dashed)` : ''
  const words = `The last ${many(shown.length, 'login')}: ${milliseconds(sorted[0])} to ${milliseconds(most)}${dashed}.`
  say(at('spark-words'), words)
  set(spark, { 'aria-label': `${words} Half took less than ${milliseconds(half)}.` })
}

// --- Outages -------------------------------------------------------------------------------------------------------

/** Beginnings of the last days by the viewer's clock, newest first; not all are 24 hours long. */
function daysBack () {
  const today = new Date(now())
  return Array.from({ length: DAYS_SHOWN }, (_, back) => new Date(today.getFullYear(), today.getMonth(), today.getDate() - back))
}

/** Whether it still lasts. The verdict is told a moment before the end is written down. */
function lasts (/** @type {Outage} */ outage) { return !outage.ended && Boolean(state.status?.outage) }

function endOf (/** @type {Outage} */ outage) {
  if (lasts(outage)) return now()
  return outage.ended ? Date.parse(outage.ended) : Date.parse(outage.started) + 1000 * (outage.seconds ?? 0)
}

function lengthOf (/** @type {Outage} */ outage) { return span((endOf(outage) - Date.parse(outage.started)) / 1000) }

function paintOutages (/** @type {Dict} */ status) {
  const outages = /** @type {Outage[]} */ (status.outages?.newest ?? [])
  // Without statistics nothing of the past is known.
  const recorded = status.logins ? Date.parse(status.logins.since) : now()
  const days = daysBack()
  const from = days[days.length - 1].getTime()
  const lately = outages.filter(outage => endOf(outage) > from)
  const lasted = lately.reduce((all, outage) => all + endOf(outage) - Math.max(from, Date.parse(outage.started)), 0)
  const all = status.outages?.count ?? 0
  const before = all > lately.length ? `${count(all)} in all.` : ''
  const some = `${count(lately.length)} in the last ${DAYS_SHOWN} days, ${span(lasted / 1000)} together. ${before}`
  const none = `None in the last ${DAYS_SHOWN} days. ${before}`
  say(at('outages-words'), !status.logins ? 'Statistics are switched off: outages are not recorded.' : lately.length > 0 ? some : none)
  reconcile(at('week'), days, day => day.toDateString(), newDay, (row, day) => paintDay(row, day, outages, recorded))
  at('outages-more').hidden = outages.length === 0
  reconcile(at('outages').tBodies[0], [...outages].reverse(), outage => outage.started, newOutage, paintOutage)
}

function newDay (/** @type {Date} */ day) {
  const row = make('li', {}, make('span', { 'aria-hidden': 'true' }, WEEKDAY.format(day)))
  row.append(draw('svg', { role: 'img', viewBox: '0 0 1440 10', preserveAspectRatio: 'none' }))
  return row
}

function paintDay (/** @type {HTMLElement} */ row, /** @type {Date} */ day, /** @type {Outage[]} */ outages, /** @type {number} */ recorded) {
  const start = day.getTime()
  const end = new Date(day.getFullYear(), day.getMonth(), day.getDate() + 1).getTime()
  const isToday = now() < end && now() >= start
  row.firstElementChild?.classList.toggle('today', isToday)
  /** @type {(a: number, b: number, kind: string, least: number, title?: string) => any} */
  const bar = (a, b, kind, least, title) => {
    const [x, to] = [Math.max(a, start), Math.min(b, end)].map(moment => 1440 * (moment - start) / (end - start))
    if (to < x) return null
    const width = Math.max(least, to - x)
    const rect = draw('rect', { x: Math.min(x, 1440 - width), y: 0, width, height: 10, class: kind })
    if (title) rect.append(Object.assign(draw('title', {}), { textContent: title }))
    return rect
  }
  const here = outages.filter(outage => Date.parse(outage.started) < end && endOf(outage) > start)
  const words = here.map(outage => {
    const until = endOf(outage) >= end ? '24:00' : lasts(outage) ? 'now' : CLOCK.format(endOf(outage))
    return `${CLOCK.format(Math.max(start, Date.parse(outage.started)))} to ${until}`
  })
  const name = `${WEEKDAY.format(day)}: ${here.length > 0 ? `outage ${words.join(', ')}` : recorded >= end ? 'not recorded' : 'no outage seen'}`
  const drawing = /** @type {SVGElement} */ (row.lastElementChild)
  // Anew once a minute, and when something happened.
  const key = `${name} ${isToday ? Math.floor(now() / 60_000) : ''}`
  if (drawing.dataset.is === key) return
  drawing.dataset.is = key
  set(drawing, { 'aria-label': name })
  drawing.replaceChildren(...[
    recorded > start ? bar(start, Math.min(recorded, now()), 'unknown', 0) : null, isToday ? bar(now(), end, 'later', 0) : null,
    ...here.map((outage, index) => bar(Date.parse(outage.started), endOf(outage), 'out', 7, `${words[index]}, ${lengthOf(outage)} in all`))
  ].filter(Boolean))
}

function newOutage (/** @type {Outage} */ outage) {
  const cells = [0, 1, 2].map(() => make('td', { role: 'cell' }))
  return make('tr', { role: 'row' }, make('th', { role: 'rowheader', scope: 'row' }, time(outage.started)), ...cells)
}

function paintOutage (/** @type {HTMLElement} */ row, /** @type {Outage} */ outage) {
  const cells = row.children
  say(cells[1], lasts(outage) ? `going on, ${lengthOf(outage)}` : lengthOf(outage))
  say(cells[2], outage.admitted === undefined ? '–' : count(outage.admitted))
  const why = byReason(outage.refused ?? {}).map(([code, n]) => `${count(n)} ${reason(code)}`).join('; ')
  say(cells[3], why === '' ? count(0) : `${count(sum(outage.refused))}: ${why}`)
}

// --- Readiness -----------------------------------------------------------------------------------------------------

async function readReadiness () {
  const button = at('judge')
  if (button.getAttribute('aria-disabled') === 'true') return
  button.setAttribute('aria-disabled', 'true')
  try {
    state.ready = await read('/api/readiness')
    paintReadiness()
  } catch (error) {
    say(at('ready-at'), `Could not be judged: ${/** @type {Error} */ (error).message}`)
  } finally {
    button.removeAttribute('aria-disabled')
  }
}

function paintReadiness () {
  if (state.ready === null) return
  const { at: judged, current: { report, fallback } } = /** @type {any} */ (state.ready)
  const { considered, ready, must_enter_pin: pin, unrehearsed, reasons } = report
  const lead = at('ready-words')
  if (considered === 0) lead.replaceChildren('Nobody has been seen in the last 30 days: there is nobody to judge.')
  else lead.replaceChildren(make('strong', {}, `${count(ready)} of ${count(considered)}`), ' could join')
  at('ready-bar').hidden = considered === 0
  at('ready-bar').firstElementChild.style.width = `${100 * ready / Math.max(1, considered)}%`
  const more = []
  if (considered > 0) more.push('Counted are players seen in the last 30 days, judged as if the last login of each had been in an outage, by what was known before it: a friend seen once counts as new.')
  if (pin > 0) more.push(`${count(pin)} of those who could must enter their PIN.`)
  if (unrehearsed > 0) more.push(`Of ${many(unrehearsed, 'player')} the newest address is not on record.`)
  if (fallback !== 'enabled') more.push(modeNote(fallback))
  say(at('ready-more'), more.join(' '))
  reconcile(at('reasons'), reasons, cost => cost.reason, newReason, paintReason)
  at('ready-at').replaceChildren('Judged at ', time(judged), '.')
}

function newReason () {
  return make('li', {}, make('details', {}, make('summary', {}, make('span'), make('b')), make('ul', { class: 'more' })))
}

function paintReason (/** @type {HTMLElement} */ item, /** @type {Dict} */ cost) {
  const [summary, more] = /** @type {any} */ (item.firstElementChild?.children)
  say(summary.children[0], word(REHEARSED, cost.reason))
  say(summary.children[1], many(cost.any, 'player'))
  const lines = [cost.alone > 0 ? `For ${count(cost.alone)} of them this alone stands in the way.` : 'Nobody is kept out by this alone.']
  if (cost.hint) lines.push(`What helps: ${cost.hint}.`)
  for (const { key, value, ready, gives_up: price } of cost.relaxations ?? []) {
    lines.push(`With ${key}: ${JSON.stringify(value)}, ${count(ready)} could join. Given up by that: ${price}.`)
  }
  const named = cost.players ?? []
  const unnamed = cost.first > named.length ? ` and ${count(cost.first - named.length)} more` : ''
  if (named.length > 0) lines.push(`Among them: ${named.join(', ')}${unnamed}.`)
  lines.push(`Rule: ${cost.rule}. Code: ${cost.reason}.`)
  more.replaceChildren(...lines.map(line => make('li', {}, line)))
}

// --- Players -------------------------------------------------------------------------------------------------------

let readingPlayers = false
let readPlayersAgain = false

async function readPlayers () {
  if (readingPlayers) { readPlayersAgain = true; return }
  readingPlayers = true
  try {
    state.players = (await read('/api/players')).players
    state.playersKnown = true
    paintPlayers()
  } catch { /* The stream says that there is no connection; the next change asks again. */ }
  readingPlayers = false
  if (readPlayersAgain) { readPlayersAgain = false; soonPlayers() }
}

let soon = 0
function soonPlayers () {
  clearTimeout(soon)
  soon = setTimeout(() => void readPlayers(), 250)
}

function fits (/** @type {Player} */ player) {
  const wanted = at('find').value.trim().toLowerCase()
  const proof = at('proof').value
  if (proof !== '' && player.proof !== proof) return false
  const { name, address, backend, host, id, version } = player
  return wanted === '' || [name, address, backend, host, id, version].some(text => String(text ?? '').toLowerCase().includes(wanted))
}

function paintPlayers () {
  if (!state.playersKnown) return
  const found = state.players.filter(fits).sort((a, b) => Date.parse(b.since) - Date.parse(a.since) || a.name.localeCompare(b.name))
  const shown = found.slice(0, state.rows)
  const held = document.activeElement
  const inTable = at('players').contains(held)
  const all = state.players.length
  const part = found.length === all ? many(all, 'player') : `${count(found.length)} of ${many(all, 'player')}`
  const newest = shown.length < found.length ? `; the newest ${count(shown.length)} are shown` : ''
  say(at('players-words'), all === 0 ? 'Nobody is connected.' : found.length === 0 ? `None of ${many(all, 'player')} fits.` : `${part}${newest}.`)
  at('players').hidden = shown.length === 0
  at('players-more').hidden = shown.length === found.length
  reconcile(at('players').tBodies[0], shown, player => `${player.connection} ${player.since}`, newPlayer, paintPlayer)
  if (inTable && document.activeElement !== held) at('players-title').focus()
}

function newPlayer (/** @type {Player} */ player) {
  /** @type {(label: string, child?: Node | string) => Element} */
  const cell = (label, child = '') => make('td', { role: 'cell', 'data-label': label }, child)
  const kick = make('button', { type: 'button', 'aria-label': `Kick ${player.name} from ${player.address}` }, 'Kick…')
  kick.addEventListener('click', () => void askKick(player))
  return make('tr', { role: 'row' }, make('th', { role: 'rowheader', scope: 'row', title: player.id }, player.name),
    cell('Proven by'), cell('Address', player.address), cell('Game', player.version ?? `protocol ${player.protocol}`), cell('Backend'),
    cell('Host typed', player.host ?? ''), cell('Since', time(player.since)), make('td', { role: 'cell' }, kick))
}

function paintPlayer (/** @type {HTMLElement} */ row, /** @type {Player} */ player) {
  const [, proof, , , backend] = row.children
  if (row.dataset.proof !== player.proof) {
    row.dataset.proof = player.proof
    proof.replaceChildren(make('span', { class: 'word' }, mark(player.proof), word(PROOFS, player.proof)))
  }
  say(backend, player.backend ?? '–')
}

// --- Events --------------------------------------------------------------------------------------------------------

/** The word on the tag, its tone, and what it is filtered by. @returns {string[]} */
function kindOf (/** @type {Dict} */ event) {
  return Object.hasOwn(KINDS, event.event) ? /** @type {Dict} */ (KINDS)[event.event] : ['Other', '', 'other']
}

/** Why somebody is not in. Who did not wait to hear what the rules say is kept out by that all the same. */
function whyOf (/** @type {Dict} */ event) {
  const ruled = event.facts?.refused_as
  if (ruled === undefined) return reason(event.reason)
  return `${reason(ruled)} (${event.reason === 'client-left' ? 'left before it could be told' : reason(event.reason)})`
}

/** One event in a sentence. */
function tell (/** @type {Dict} */ event) {
  const who = event.player ?? 'Somebody'
  const from = event.address ? ` from ${event.address}` : ''
  const to = event.backend ? ` on ${event.backend}` : ''
  const times = event.count > 1 ? ` (${count(event.count)} times)` : ''
  switch (event.event) {
    case 'login.verified': return `${who} joined${to}${from}, proven by Mojang`
    case 'login.fallback': return `${who} joined${to}${from} by policy${event.proof === 'pinned' ? ' and PIN' : ''}`
    case 'login.refused': return `${event.clients ? 'Many clients' : who}${from}: ${whyOf(event)}${times}`
    case 'auth.state': return `${event.from} → ${event.to}: ${event.cause ?? ''}`
    case 'auth.override':
      if (event.change === 'set') return `Forced ${event.verdict} until ${moment(event.until)}`
      return event.change === 'expired' ? 'The override came to its end' : 'The override was ended'
    case 'geo.changed': return `${who}${from} comes from another country or network than before`
    case 'pin.prompted': return `${who}${from} is asked for the PIN`
    case 'pin.verified': return `${who}${from} entered the right PIN`
    case 'pin.failed': return `${who}${from} entered a wrong PIN, ${many(event.tries_left ?? 0, 'try', 'tries')} left`
    case 'pin.set': return `${who} ${event.replaced ? 'changed the' : 'set a'} PIN`
    case 'pin.reset': return `${who} removed the PIN`
    case 'ban.added': return `${event.target} is banned until ${moment(event.until)} after ${many(event.failures, 'failed attempt')}`
    case 'ban.expired': return `The ban of ${event.target} came to its end`
    case 'ban.lifted': return `The ban of ${event.target} was lifted`
    case 'session.locked': return `${who} must log in through Mojang next time`
    case 'session.forgotten': return `${who} was forgotten`
    case 'session.imported': return `${who} was imported`
    case 'backend.error': return `${event.backend ?? 'A backend'}: ${event.cause ?? event.reason ?? 'error'}`
    case 'player.kicked': return `${who}${from} was kicked${event.text ? `: ${event.text}` : ''}`
    case 'config.reloaded':
      if (event.result === 'failed') return `Configuration not reloaded: ${many(event.problems, 'problem')}, nothing of it was taken over`
      return `Configuration reloaded: ${[event.changed].flat().join('; ') || 'nothing changed'}`
    case 'proxy.started': return `Postern ${event.version ?? ''} listens on ${[event.listening].flat().join(', ')}`
    case 'proxy.stopped': return 'Postern stopped'
    case 'audit.dropped': return `${many(event.count ?? 0, 'event')} before this one could not be written`
    default: return String(event.event)
  }
}

/** Takes a line of the log in, once: after a pause in the connection the last ones come again. */
function take (/** @type {string} */ line) {
  if (state.seen.has(line)) return
  let event
  try { event = JSON.parse(line) } catch { return }
  state.seen.add(line)
  state.events.unshift({ ...event, line })
  for (const old of state.events.splice(MOST_EVENTS)) state.seen.delete(old.line)
  if (/^(login\.(verified|fallback)|pin\.verified|player\.kicked)$/.test(event.event)) soonPlayers()
  if (state.paused) state.waiting++
  paintSoon()
}

function paintEvents () {
  say(at('pause'), state.paused ? 'Go on' : 'Pause')
  const kind = at('kinds').value
  if (state.paused) return say(at('events-words'), `Paused${state.waiting > 0 ? `: ${many(state.waiting, 'new event')}` : ''}.`)
  const shown = state.events.filter(event => kind === '' || kindOf(event)[2] === kind)
  const words = `The newest ${count(shown.length)}, newest first. Open one for everything that is known of it.`
  say(at('events-words'), shown.length === 0 ? 'Nothing yet.' : words)
  at('events').hidden = shown.length === 0
  // The list stays where somebody is reading it.
  const list = at('events')
  const before = list.scrollHeight
  const place = list.scrollTop
  reconcile(list, shown, event => event.line, newEvent)
  if (place > 0) list.scrollTop = place + list.scrollHeight - before
}

function newEvent (/** @type {Dict} */ event) {
  const [name, tone] = kindOf(event)
  const tag = make('span', { class: 'tag', 'data-tone': tone, title: String(event.event) }, name)
  const details = make('details', {}, make('summary', {}, time(event.ts, SECONDS), tag, make('span', { class: 'what' }, tell(event))))
  details.addEventListener('toggle', () => {
    const { line, ...fields } = event
    if (details.childElementCount === 1) details.append(make('pre', {}, JSON.stringify(fields, null, 2)))
  })
  return make('li', {}, details)
}

// --- The stream ----------------------------------------------------------------------------------------------------

/** New figures have come. */
function hear (/** @type {Dict} */ status) {
  const before = state.status
  state.status = status
  state.heard = Date.now()
  const sent = Date.parse(status.now)
  if (!Number.isNaN(sent)) state.skew = sent - Date.now()
  const figures = (/** @type {Dict | null} */ of) => JSON.stringify(of?.players)
  if (before === null || figures(before) !== figures(status)) soonPlayers()
  // In a tab that is not looked at nothing is drawn, but its title is read.
  if (document.hidden) paintVerdict(status)
  paintSoon()
}

function paintSoon () {
  if (state.painting) return
  state.painting = true
  requestAnimationFrame(() => {
    state.painting = false
    if (state.status !== null) paintStatus(state.status)
    paintEvents()
  })
}

function paintStatus (/** @type {Dict} */ status) {
  say(at('version'), status.version)
  paintVerdict(status)
  paintFigures(status)
  paintOutages(status)
}

/** Says how the connection is; out loud only when that changes. */
function link (/** @type {string} */ how, /** @type {string} */ fault = '') {
  const before = state.link
  state.link = how
  state.fault = fault
  document.body.dataset.link = how
  const words = { live: 'Live', connecting: 'Connecting…', lost: 'Not connected', locked: 'Token needed' }[how] ?? how
  say(at('link-words'), words)
  const gone = how === 'lost' || how === 'locked'
  if (state.status === null) say(at('headline'), { locked: 'Token needed', lost: 'The proxy does not answer' }[how] ?? 'Asking the proxy…')
  at('lost').hidden = !gone
  say(at('retry'), how === 'locked' ? 'Enter the token' : 'Try again now')
  say(at('lost-words'), how === 'locked' ? LOCKED : fault)
  if (before !== how && before !== 'connecting') say(at('spoken'), gone ? `${words}. ${fault}` : how === 'live' ? 'Connected again.' : '')
  tick()
}

/** Ages go on while nothing comes. */
function tick () {
  if (state.link === 'lost') {
    const wait = Math.max(0, Math.ceil((state.retryAt - Date.now()) / 1000))
    const age = state.heard === 0 ? '' : `What you see is ${span((Date.now() - state.heard) / 1000)} old. `
    say(at('lost-age'), `${age}${wait > 0 ? `Next try in ${wait} s.` : 'Trying…'}`)
  } else say(at('lost-age'), '')
  if (state.link === 'live' && state.status !== null) paintSoon()
}

/** Reads server-sent events to their end. The last signs of life are noted by `alive`. */
async function listen (/** @type {ReadableStream<Uint8Array>} */ body, /** @type {() => void} */ alive) {
  const reader = body.pipeThrough(/** @type {any} */ (new TextDecoderStream())).getReader()
  let rest = ''
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    alive()
    const blocks = (rest + value).split('\n\n')
    rest = /** @type {string} */ (blocks.pop())
    for (const block of blocks) dispatch(block)
  }
}

/** One server-sent event. */
function dispatch (/** @type {string} */ block) {
  let kind = 'message'
  const data = []
  for (const line of block.split('\n')) {
    const [, field, value] = /^([^:]*)(?:: ?(.*))?$/.exec(line.replace(/\r$/, '')) ?? []
    if (field === 'event') kind = value ?? ''
    if (field === 'data') data.push(value ?? '')
  }
  if (data.length === 0) return
  const text = data.join('\n')
  if (kind === 'audit') return take(text)
  try {
    if (kind === 'status') hear(JSON.parse(text))
    if (kind === 'missed') toast(`${many(JSON.parse(text).lines, 'event')} came faster than this page could read.`)
  } catch (error) { console.error('what came cannot be shown', error) }
}

let waking = () => {}

function retryNow () { waking() }

/** Waits until it is time, or somebody asks. */
function pause (/** @type {number} */ ms) {
  state.retryAt = Date.now() + ms
  return /** @type {Promise<void>} */ (new Promise(resolve => {
    const timer = setTimeout(resolve, ms)
    waking = () => { clearTimeout(timer); resolve() }
  }))
}

/** Keeps a stream open, for ever. */
async function stay () {
  for (;;) {
    const ending = new AbortController()
    let watch = 0
    const alive = () => {
      clearTimeout(watch)
      watch = setTimeout(() => ending.abort(), SILENCE)
    }
    let fault = 'The connection to the proxy ended.'
    try {
      alive()
      const answer = await ask(`/api/events?last=${MOST_EVENTS}`, { signal: ending.signal })
      state.attempt = 0
      link('live')
      if (state.ready === null) void readReadiness()
      await listen(/** @type {ReadableStream<Uint8Array>} */ (answer.body), alive)
    } catch (error) {
      if (error instanceof Refused) {
        fault = error.message
        if (error.status === 401) { await locked(); continue }
        if (error.status === 503) await read('/api/status').then(hear).catch(() => {})
      }
    } finally {
      clearTimeout(watch)
      ending.abort()
    }
    const most = PAUSES[Math.min(state.attempt++, PAUSES.length - 1)]
    const waiting = pause(most * (.75 + Math.random() / 2))
    link('lost', fault)
    await waiting
  }
}

/** No figures without the token. */
async function locked () {
  if (state.token !== '') {
    // On the proxy's own machine its figures can be had without one.
    keep('', false)
    return toast('The token was not taken, and is forgotten.')
  }
  const waiting = pause(2 ** 31 - 1)
  link('locked')
  void askToken(LOCKED)
  await waiting
  if (state.token !== '') link('connecting')
}

// --- The beginning -------------------------------------------------------------------------------------------------

function begin () {
  keep(state.token, state.token !== '')
  at('retry').onclick = () => state.link === 'locked' ? void askToken(LOCKED) : retryNow()
  at('token-open').onclick = () => {
    if (state.token === '') void askToken('With it you can change things here.')
    else { keep('', false); toast('The token is forgotten.') }
  }
  at('reload').onclick = () => void askReload()
  for (const button of /** @type {NodeListOf<any>} */ (document.querySelectorAll('[data-mode]'))) {
    button.onclick = () => void askOverride(button.dataset.mode)
  }
  at('override-for').onchange = showUntil
  at('judge').onclick = () => void readReadiness()
  at('players-more').onclick = () => { state.rows += MORE_ROWS; paintPlayers() }
  at('find').oninput = paintPlayers
  at('proof').onchange = paintPlayers
  at('kinds').onchange = paintEvents
  at('pause').onclick = () => {
    state.paused = !state.paused
    state.waiting = 0
    paintEvents()
  }
  setInterval(tick, 1000)
  setInterval(() => { if (!document.hidden && state.link === 'live') void readReadiness() }, 120_000)
  addEventListener('online', retryNow)
  document.addEventListener('visibilitychange', () => { if (!document.hidden && state.link === 'lost') retryNow() })
  void stay()
}

begin()
