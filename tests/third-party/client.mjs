// A player: minecraft-protocol's own client with its own encryption and its own call to the session server.

import { connect } from 'node:net'
import minecraft from 'minecraft-protocol'
import { undashed } from './session-server.mjs'
import { readText } from './text.mjs'
import { CONFIGURATION } from './versions.mjs'
import { Inbox, STEP, within } from './waiting.mjs'
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

/** As `join`, for a login that has to succeed. */
export async function joinAdmitted (options) {
  const attempt = await join(options)
  if (attempt.kind === 'admitted') return attempt
  const why = attempt.text ?? attempt.error?.message ?? attempt.errors.map(error => error.message).join('; ')
  throw new Error(`${options.player.name} (${options.version.name}) was not admitted: ${attempt.kind}: ${why}`)
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
  /** Resolves when the connection is over: `{ text, state, reason }`, the text null if nothing was said. */
  ended

  constructor (client, version, faults, errors) {
    this.client = client
    this.version = version
    this.faults = faults
    this.errors = errors
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
