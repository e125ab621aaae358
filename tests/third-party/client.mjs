// A player: minecraft-protocol's own client with its own encryption and its own call to the session server.

import { connect } from 'node:net'
import minecraft from 'minecraft-protocol'
import minecraftData from 'minecraft-data'
import { undashed } from './session-server.mjs'
import { readText } from './text.mjs'
import { BARE_COMMAND, COMMAND_TREE, CONFIGURATION, PING, PLAYER_LOADED, SIGNED_CHAT, TELEPORT_CONFIRM } from './versions.mjs'
import { Chronicle, Inbox, STEP, within } from './waiting.mjs'
import { watchFrames } from './wire.mjs'

const { createClient, states } = minecraft

/**
 * Tries to join `127.0.0.1:port` as `player` (`{ name, id, accessToken }`) and resolves once the outcome is clear:
 *   { kind: 'admitted', player: Player }   login success
 *   { kind: 'refused', text, state }       a disconnect, readable
 *   { kind: 'left', error, state }         the client gave up, as a real one does whose call to the session server failed
 *   { kind: 'closed', errors, state }      the connection ended without a word
 * each with `login`, what was seen on the way: `{ encrypted, shouldAuthenticate, joined, channels }`.
 *
 * `from` is the address of this machine (any of 127.0.0.0/8) to connect from, `host` the one that the player typed.
 * `joins: false` is a client that does not talk to the session server at all (an account it does not own). `answer` replies
 * to login plugin messages: (channel, data) => Buffer, or undefined for "not understood". `profileKeys` are the player's
 * signed chat keys, if it has any, `cookies` what servers stored with it: key => Buffer.
 */
export async function join ({ port, version, player, sessions, host = 'play.test', joins = true, answer = echo, from = '127.0.0.1', profileKeys, cookies = {} }) {
  const login = { encrypted: false, shouldAuthenticate: undefined, joined: false, channels: [], threshold: null }
  const errors = []
  let faults = []
  const options = {
    version: version.name,
    username: player.name,
    host,
    port: 25565,
    sessionServer: sessions?.url,
    hideErrors: true,
    connect: client => client.setSocket(connect({ port, host: '127.0.0.1', localAddress: from })),
    auth (client, options) {
      client.username = player.name
      client.profileKeys = profileKeys
      client.session = { accessToken: player.accessToken, selectedProfile: { id: undashed(player.id), name: player.name } }
      options.accessToken = player.accessToken
      options.haveCredentials = joins
      faults = watchFrames(client, () => login.threshold)
      // Before the library's own listeners, which act on what is noted here. It does not know the flag: the game
      // answers such a request without calling anybody.
      client.once('encryption_begin', packet => {
        login.encrypted = true
        login.shouldAuthenticate = packet.shouldAuthenticate
        if (packet.shouldAuthenticate === false) options.haveCredentials = false
        login.joined = options.haveCredentials
      })
      client.once('compress', packet => { login.threshold = packet.threshold })
      options.connect(client)
    }
  }
  const client = createClient(options)
  client.on('error', error => errors.push(error))
  client.removeAllListeners('login_plugin_request')
  client.on('login_plugin_request', ({ messageId, channel, data }) => {
    login.channels.push(channel)
    client.write('login_plugin_response', { messageId, data: answer(channel, data) })
  })

  client.on('cookie_request', ({ cookie }) => client.write('cookie_response', { key: cookie, value: cookies[cookie] }))

  const joined = new Player(client, version, faults, errors)
  const outcome = new Promise(resolve => {
    client.once('success', ({ uuid, username, properties }) => {
      joined.id = uuid
      joined.name = username
      joined.properties = properties
      resolve({ kind: 'admitted', player: joined })
    })
    joined.ended.then(({ text, state, reason }) => {
      if (text !== null) resolve({ kind: 'refused', text, state })
      else if (reason === 'encryptionLoginError') resolve({ kind: 'left', error: errors[0], state })
      else resolve({ kind: 'closed', errors, state })
    })
  })
  try {
    return { ...await within(outcome, `an outcome for ${player.name} (${version.name})`, 2 * STEP), login }
  } catch (error) {
    client.socket.destroy()
    throw error
  }
}

/**
 * Has minecraft-protocol build what it needs for `versions`. It does so when first asked, for most of a second each, and
 * nothing else goes on here meanwhile: with several versions at a time the session server would seem to be down.
 */
export function warm (versions) {
  for (const { name } of versions) {
    for (const isServer of [false, true]) {
      const client = new minecraft.Client(isServer, name, undefined, true)
      for (const state of Object.values(states)) {
        if (minecraftData(name).protocol[state] !== undefined) client.state = state
      }
    }
  }
}

/** As `join`, for a login that has to succeed. */
export async function joinAdmitted (options) {
  const attempt = await join(options)
  if (attempt.kind === 'admitted') return attempt
  const why = attempt.text ?? attempt.error?.message ?? attempt.errors.map(error => error.message).join('; ')
  throw new Error(`${options.player.name} (${options.version.name}) was not admitted: ${attempt.kind}: ${why}`)
}

const SETTINGS = {
  locale: 'en_us',
  viewDistance: 10,
  chatFlags: 0,
  chatColors: true,
  skinParts: 127,
  mainHand: 1,
  enableTextFiltering: false,
  enableServerListing: true
}

/** Actions of the title packet before 1.17 that are above the hotbar; its number is that of a title in 1.8 to 1.10. */
const TITLE_BAR = 2

/** What a packet has the player read, if anything. */
function lineOf (name, data) {
  switch (name) {
    case 'chat': return { kind: { 0: 'chat', 2: 'bar' }[data.position] ?? 'system', text: readText(data.message) }
    case 'system_chat': return { kind: data.isActionBar || data.type === 2 ? 'bar' : 'system', text: readText(data.content) }
    case 'action_bar': return { kind: 'bar', text: readText(data.text) }
    case 'title': return data.action === TITLE_BAR && data.text !== undefined ? { kind: 'bar', text: readText(data.text) } : undefined
    case 'player_chat': return { kind: 'player', text: data.plainMessage ?? readText(data.signedChatContent) }
    case 'profileless_chat': return { kind: 'disguised', text: readText(data.message) }
    default: return undefined
  }
}

/** Answers a backend's question with the question reversed. */
function echo (channel, data) {
  return channel.startsWith('third:') ? Buffer.from(data).reverse() : undefined
}

/** A player past login success. */
class Player {
  id
  name
  properties
  /** Plugin messages as they arrive: `{ channel, data }`. */
  messages = new Inbox()
  /** Every packet of the server's: `{ name, state, data }`. */
  packets = new Chronicle()
  /** Every line that the player reads: `{ kind, text }`, the kind system, bar (above the hotbar), player, disguised (a player's, without
   * proof), or chat for those of old that do not tell. */
  lines = new Chronicle()
  answersPings = true
  /** Resolves when the connection is over: `{ text, state, reason }`, the text null if nothing was said. */
  ended

  constructor (client, version, faults, errors) {
    this.client = client
    this.version = version
    this.faults = faults
    this.errors = errors
    client.on('packet', (data, { name, state }) => {
      this.packets.put({ name, state, data })
      const line = lineOf(name, data)
      if (line !== undefined) this.lines.put(line)
    })
    this.#mendChecksums()
    this.#play()
    let text = null
    let state = states.HANDSHAKING
    const said = ({ reason }) => {
      text = readText(reason)
      state = client.state
    }
    client.on('disconnect', said)
    client.on('kick_disconnect', said)
    client.on('custom_payload', ({ channel, data }) => this.messages.put({ channel, data: Buffer.from(data) }))
    this.ended = new Promise(resolve => client.once('end', reason => {
      resolve({ text, state: text === null ? client.state : state, reason })
    }))
  }

  get state () { return this.client.state }

  /** The checksum of what was seen is a byte without a sign to minecraft-protocol, but to its packets not in all versions. */
  #mendChecksums () {
    const { client, version } = this
    const { types } = minecraftData(version.name).protocol.play.toServer
    const write = client.write.bind(client)
    client.write = (name, packet) => {
      const signed = packet?.checksum > 127 && types[`packet_${name}`]?.[1].some(field => field.name === 'checksum' && field.type === 'i8')
      write(name, signed ? { ...packet, checksum: packet.checksum - 256 } : packet)
    }
  }

  /** What the game does by itself, beyond what minecraft-protocol does (keep-alives, acknowledgements and signatures). */
  #play () {
    const { client, version: { protocol } } = this
    client.on('ping', ({ id }) => { if (this.answersPings) client.write('pong', { id }) })
    client.on('position', ({ teleportId, x, y, z, yaw, pitch }) => {
      if (protocol >= TELEPORT_CONFIRM) client.write('teleport_confirm', { teleportId })
      client.write('position_look', { x, y, z, yaw, pitch, onGround: false, flags: {} })
      if (protocol >= PLAYER_LOADED) client.write('player_loaded', {})
    })
    client.once('login', () => {
      if (protocol >= CONFIGURATION) return
      this.introduce()
      client.write('settings', SETTINGS)
    })
  }

  /** Says what client this is, as each does when it comes into configuration, or into play where there is none. */
  introduce () {
    this.send(this.version.protocol < COMMAND_TREE ? 'MC|Brand' : 'minecraft:brand', Buffer.from('\u0007vanilla'))
  }

  /** Waits until the player is in the world. */
  async inWorld () {
    await this.packet('login')
  }

  /** The first packet called `name` that `fits`, from the place `from` of `packets` on. */
  async packet (name, { from = 0, fits = () => true, ms = STEP } = {}) {
    const wanted = packet => packet.name === name && fits(packet.data)
    const there = this.packets.since(from).find(wanted)
    if (there !== undefined) return there.data
    const over = this.ended.then(({ text }) => { throw new Error(`${this.name} was thrown out before ${name}: ${text}`) })
    return (await Promise.race([this.packets.first(wanted, `${name} for ${this.name}`, { from, ms }), over])).data
  }

  /** The first line that `pattern` fits, from the place `from` of `lines` on; of `kind` if one is named. */
  async reads (pattern, { from = 0, kind, ms = STEP } = {}) {
    const wanted = line => pattern.test(line.text) && (kind === undefined || line.kind === kind)
    const there = this.lines.since(from).find(wanted)
    if (there !== undefined) return there
    const over = this.ended.then(({ text }) => { throw new Error(`${this.name} was thrown out before reading ${pattern}: ${text}`) })
    return Promise.race([this.lines.first(wanted, `${pattern} for ${this.name} (${this.version.name})`, { from, ms }), over])
  }

  say (text) {
    this.client.chat(text)
  }

  /** Types `/text`. From 1.20.5 on such a command is in a packet without signatures, unless it is to be `signed`. */
  command (text, { signed = false } = {}) {
    if (this.version.protocol >= BARE_COMMAND && !signed) this.client.write('chat_command', { command: text })
    else this.client.chat(`/${text}`)
  }

  /** Has begun to type `text`, and asks how it could go on. */
  complete (text) {
    this.client.write('tab_complete', { transactionId: 1, text, assumeCommand: false, block: undefined, lookedAtBlock: undefined })
  }

  /** Moves about, looks round, swings and reaches for things: all that somebody does who plays. */
  act () {
    const { client, version: { protocol } } = this
    client.write('position', { x: 1, y: 81, z: 1, onGround: false, flags: {} })
    client.write('look', { yaw: 1, pitch: 1, onGround: false, flags: {} })
    client.write('held_item_slot', { slotId: 3 })
    client.write('arm_animation', { hand: protocol >= 775 ? 'main_hand' : 0 })
    client.write('client_command', { actionId: 1, payload: 1 })
    this.send('third:party', Buffer.from('of a mod'))
  }

  send (channel, data) {
    this.client.write('custom_payload', { channel, data })
  }

  /** Waits until the client has reached configuration, or play where there is none. */
  async settled () {
    const state = this.version.protocol >= CONFIGURATION ? states.CONFIGURATION : states.PLAY
    if (this.client.state !== state) await within(new Promise(resolve => this.client.once('state', resolve)), state)
  }

  async leave () {
    this.client.end('left')
    await within(this.ended, `the end of ${this.name}'s connection`)
  }

  /** What went wrong on this side of the wire. */
  get complaints () {
    return [...this.faults, ...this.errors.map(error => error.message)]
  }
}

/** The answer to a server list ping, with `latency` in milliseconds if the pong came. */
export function ping ({ port, version, host = 'play.test' }) {
  return within(minecraft.ping({
    version: version.name,
    host,
    connect: client => client.setSocket(connect(port, '127.0.0.1'))
  }), `a ping (${version.name})`)
}
