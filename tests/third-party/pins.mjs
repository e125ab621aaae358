// The steps in which the tests of PINs are told.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { inhabit } from './world.mjs'

/** The built-in texts, as they are read. */
export const TEXTS = {
  prompt: /^Please verify your identity: use \/pin <code> within (\d+)s$/,
  cached: /^Authentication servers are down\. Using cached session\.$/,
  success: /^Verification successful\.$/,
  failure: /^Incorrect PIN\.$/,
  saved: /^Your PIN is saved\./,
  exists: /^You have a PIN already\./,
  removed: /^Your PIN is removed\.$/,
  none: /^You have no PIN\.$/,
  weak: /^That PIN cannot be used: .+\.$/,
  tryAgain: /^Your login could not be checked just now\./,
  notNow: /^That works only after you joined while/,
  resetLater: /^Your PIN can be removed only while the authentication servers are online/,
  required: /^Pins are required during auth outages\./,
  hasty: /^Not so fast\./,
  usage: /^Use \/setpin <code> to set a PIN/,
  rejoin: /^Something you wrote could not be passed on/
}

/**
 * Sections of the configuration: several players at a time are slow here, and that must not look like an outage; whom the
 * rules refuse reads so at once.
 */
export const PATIENT = {
  auth: { timeout: 10_000, 'online-attempt-when-ineligible': false },
  network: { 'connection-timeout': 10_000 }
}

/** The proxy hears a command of a connection only once in two seconds. */
const PACE = 2100

export function breath () {
  return new Promise(resolve => setTimeout(resolve, PACE))
}

/** What a player may send to a server that holds it, by the names of minecraft-protocol. */
export const LET_UP = new Set([
  'login_acknowledged', 'finish_configuration', 'configuration_acknowledged', 'select_known_packs', 'keep_alive', 'pong',
  'teleport_confirm', 'transaction', 'settings', 'resource_pack_receive', 'chunk_batch_received', 'player_loaded', 'tick_end',
  'chat_session_update', 'message_acknowledgement', 'cookie_response', 'accept_code_of_conduct'
])

/** What a player who is held must not get, by the names of minecraft-protocol. */
const KEPT_BACK = new Set(['player_chat', 'profileless_chat', 'message_header', 'store_cookie', 'transfer'])
const BRANDS = /^(MC\|Brand|minecraft:brand|c:version|REGISTER|UNREGISTER|minecraft:(un)?register|c:register)$/

/** Every code that was made, right and wrong ones. */
const codes = []

/** A code nobody uses twice, which can be looked for in everything that is written. */
export function newCode () {
  const code = `Pin${randomBytes(6).toString('hex')}7z`
  codes.push(code)
  return code
}

/** Goes through the world of a visit, whose player is past login. */
export async function settle (visit) {
  const [world] = await Promise.all([inhabit(visit.seat), visit.joined.inWorld()])
  return Object.assign(visit, { world })
}

/** Types a PIN command and waits for the line that answers it. */
export async function order (joined, text, answer, options = {}) {
  const from = joined.lines.mark
  joined.command(text, options)
  return joined.reads(answer, { from, kind: 'system' })
}

/** Everything that came to the backend from the place `from` on is of what may come from a held player. */
export function assertOnlyAllowed (seat, from = 0) {
  const others = seat.packets.since(from).filter(({ name, state, data }) => {
    if (state === 'handshaking' || state === 'login') return false
    return name === 'custom_payload' ? !BRANDS.test(data.channel) : !LET_UP.has(name)
  })
  assert.deepEqual(others.map(({ name, data }) => `${name} ${data.channel ?? ''}`), [], 'what a held player sent and its backend saw')
}

/** Nothing came to the player from the place `from` on that is kept from those who are held. */
export function assertKeptBack (joined, from = 0) {
  const got = joined.packets.since(from).filter(({ name, state, data }) => {
    if (state === 'login') return false
    return name === 'custom_payload' ? !BRANDS.test(data.channel) : KEPT_BACK.has(name)
  })
  assert.deepEqual(got.map(({ name, data }) => `${name} ${data.channel ?? ''}`), [], 'what a held player got')
  assert.deepEqual(joined.lines.items.filter(({ text }) => text === 'overheard'), [])
}

/** Neither in its log, nor in audit.log, nor anywhere in its folder did the proxy write a code. */
export async function assertNowhere (proxy) {
  for (const [where, text] of Object.entries(await proxy.written())) {
    const lower = text.toLowerCase()
    for (const code of codes) assert.equal(lower.includes(code.toLowerCase()), false, `a code in ${where}`)
  }
}
