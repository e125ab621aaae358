// A backend server for every version: minecraft-protocol's packets and connection, with a login of our own, because the one
// that comes with the library knows no forwarding.

import { createHash, constants, generateKeyPairSync, privateDecrypt, randomBytes, randomInt } from 'node:crypto'
import { createServer } from 'node:net'
import minecraft from 'minecraft-protocol'
import { dashed, readLegacy, readModern, Unreadable } from './forwarding.mjs'
import { writeText } from './text.mjs'
import { COMPRESSION, CONFIGURATION, COOKIES, LOGIN_PLUGIN, SUCCESS_PROPERTIES, VERSIONS, versionOf, WIDE_KEEP_ALIVE } from './versions.mjs'
import { Chronicle, Inbox, within } from './waiting.mjs'
import { watchFrames } from './wire.mjs'

const { Client, states } = minecraft

const NEWEST = VERSIONS.at(-1)
const TICK = 50
const BEAT = 10_000

/** Channels on which a backend trusts whoever is connected to be its proxy: none of a player's messages may arrive on them. */
const PROXY_CHANNELS = /^(bungeecord|bungeecord:main|velocity:.*)$/i

/**
 * Options: `forwarding` none | modern | legacy | bungeeguard, `secret` for the last three, `threshold` for compression (null
 * is off), `vague` to say the same of an answer that it cannot read as of one that is signed wrongly, `asks` the highest forwarding version asked for (null asks with an empty body), `cookie` the key of one to ask for
 * (where there are cookies), `hurries` to wait neither for the client's answer nor for a tick before letting it in, and one `fault`
 * (`speaks` is the one protocol number that it then says it speaks, where it is to be a server of one version):
 *   'encrypts'    sends an encryption request, as a backend in online mode does (with `sessions`, a SessionServer, it is one,
 *                 and lets in whom that vouches for)
 *   'never-asks'  reaches login success without asking for an identity
 *   'renames'     admits the player under another id than the one forwarded
 *   'throttles'   refuses who comes within `pause` milliseconds of the one before, as Bukkit does by address
 *   'outdated'    refuses the version, as the game does
 *   'whitelists'  refuses everybody it was told of, in words of its own
 */
export class Backend {
  /** Every connection that came as far as a login start, admitted or not. */
  seats = []
  /** Every connection that was taken, a ping too. */
  accepted = 0
  #options
  #joined = new Map()
  #sockets = new Set()
  #keys
  #last = 0
  #server = createServer(socket => this.#accept(socket))

  static async start (options = {}) {
    const self = new Backend(options)
    await new Promise(resolve => self.#server.listen(0, '127.0.0.1', resolve))
    return self
  }

  constructor (options) {
    this.#options = { motd: 'a backend', forwarding: 'none', threshold: null, asks: 4, ...options }
  }

  get address () { return `127.0.0.1:${this.port}` }
  get port () { return this.#server.address().port }
  get motd () { return this.#options.motd }
  get threshold () { return this.#options.threshold }
  get forwarding () { return this.#options.forwarding }
  get asks () { return this.#options.asks }
  get hurries () { return this.#options.hurries === true }
  /** One key for all connections, made when first needed. */
  get keys () { return (this.#keys ??= generateKeyPairSync('rsa', { modulusLength: 1024 })) }

  async stop () {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise(resolve => this.#server.close(resolve))
  }

  /** The next connection of a player called `name` that reaches configuration, or play where there is none. */
  joined (name) {
    return this.#inbox(name).take(`${name} at ${this.motd}`)
  }

  /** How often a player called `name` began a login here. */
  attempts (name) {
    return this.seats.filter(seat => seat.name === name).length
  }

  /** Milliseconds since this was last asked. */
  sinceLast () {
    const now = Date.now()
    const since = now - this.#last
    this.#last = now
    return since
  }

  #inbox (name) {
    if (!this.#joined.has(name)) this.#joined.set(name, new Inbox())
    return this.#joined.get(name)
  }

  #accept (socket) {
    this.accepted++
    this.#sockets.add(socket)
    socket.on('close', () => this.#sockets.delete(socket))
    const seat = new Seat(socket, this.#options)
    seat.client.once('login_start', packet => {
      seat.name = packet.username
      seat.loginKey = keyOf(packet.signature)
      this.seats.push(seat)
      seat.login(this).then(() => this.#inbox(seat.name).put(seat), error => seat.refuse(error))
    })
  }
}

/** One player's connection as the backend sees it. */
class Seat {
  /** `{ host, port, protocol, intent }` of the handshake. */
  handshake
  /** The name of login start. */
  name
  /** Who the proxy says this is: `{ id, name, properties, address, version, key }`. */
  identity
  /** The player's own key in login start: `{ expiry, publicKey, signature, holder }`, the last undefined. */
  loginKey
  /** Plugin messages as they arrive: `{ channel, data }`. */
  messages = new Inbox()
  /** Channels reserved for proxies on which messages arrived. */
  reserved = []
  /** The answer to a login plugin message that is not the proxy's: undefined if it was not understood. */
  query = undefined
  /** The cookie asked for: null if the client has none. */
  cookie = undefined
  /** Every packet of the client's: `{ name, state, data }`. */
  packets = new Chronicle()
  /** What a real server would have disconnected for. */
  faults
  #options
  #threshold = null

  constructor (socket, options) {
    this.#options = options
    // Any version reads the handshake; what follows is read as the version that it names.
    this.client = new Client(true, '1.8.8', undefined, true)
    // A handshake of 254 bytes begins like a legacy ping (FE 01), and the library would wait for the rest of that.
    this.client.splitter.recognizeLegacyPing = false
    this.faults = watchFrames(this.client, () => this.#threshold)
    this.ended = new Promise(resolve => this.client.once('end', resolve))
    this.client.on('error', error => this.faults.push(error.message))
    this.client.on('packet', (data, { name, state }) => this.packets.put({ name, state, data }))
    this.client.once('set_protocol', packet => this.#handshake(packet))
    this.client.on('custom_payload', ({ channel, data }) => {
      if (PROXY_CHANNELS.test(channel)) this.reserved.push(channel)
      this.messages.put({ channel, data: Buffer.from(data) })
    })
    this.client.setSocket(socket)
  }

  get protocol () { return this.handshake.protocol }
  get state () { return this.client.state }

  #handshake ({ protocolVersion, serverHost, serverPort, nextState }) {
    this.handshake = { protocol: protocolVersion, host: serverHost, port: serverPort, intent: nextState }
    const version = versionOf(protocolVersion)
    // To a ping in a version that nobody speaks a server answers with its own.
    if (version === undefined && nextState !== 1) return this.client.socket.destroy()
    this.client.version = version ?? NEWEST.name
    this.client.state = nextState === 1 ? states.STATUS : states.LOGIN
    if (nextState === 1) this.#status()
  }

  #status () {
    this.client.once('ping_start', () => {
      const response = {
        version: this.#spoken(),
        players: { max: 20, online: 3, sample: [] },
        description: { text: this.#options.motd }
      }
      this.client.write('server_info', { response: JSON.stringify(response) })
    })
    this.client.once('ping', ({ time }) => {
      this.client.write('ping', { time })
      this.client.end()
    })
  }

  /** The version of the ping, if it is known; with `speaks`, always that one. */
  #spoken () {
    const { speaks } = this.#options
    const protocol = speaks ?? (versionOf(this.protocol) === undefined ? NEWEST.protocol : this.protocol)
    return { name: versionOf(protocol), protocol }
  }

  /** Login from login start to configuration (or play); throws what the player is refused for. */
  async login (backend) {
    const { forwarding, fault, secret, threshold, sessions, pause } = this.#options
    if (fault === 'throttles' && backend.sinceLast() < pause) {
      throw new Refusal('Connection throttled! Please wait before reconnecting.')
    }
    if (fault === 'outdated') throw new Refusal({ translate: 'multiplayer.disconnect.incompatible', with: ['1.21.4'] })
    this.identity = offline(this.name)
    if (fault === 'encrypts') {
      const { sharedSecret, publicKey } = await this.#encrypt(backend)
      this.client.setEncryption(sharedSecret)
      this.identity = await sessionOf(sessions, this.name, sharedSecret, publicKey)
    } else if (forwarding === 'modern' && fault !== 'never-asks') {
      const body = this.#options.asks === null ? Buffer.alloc(0) : Buffer.from([this.#options.asks])
      const answer = await this.#ask('velocity:player_info', body)
      if (answer === undefined) throw new Refusal('This server requires you to connect with Velocity.')
      try {
        this.identity = readModern(answer, secret)
      } catch (error) {
        // Servers look at the signature first, then read; most have other words for what they cannot read.
        const text = error instanceof Unreadable && !this.#options.vague ? `Internal Exception: ${error.message}` : 'Unable to verify player details'
        throw new Refusal(text, error)
      }
    } else if (forwarding === 'legacy' || forwarding === 'bungeeguard') {
      if (!this.handshake.host.includes('\0')) {
        throw new Refusal(forwarding === 'legacy'
          ? 'If you wish to use IP forwarding, please enable it in your BungeeCord config as well!'
          : '§cUnable to authenticate - no data was forwarded by the proxy.')
      }
      this.identity = readLegacy(this.handshake.host, this.name)
      if (forwarding === 'bungeeguard') this.#takeToken(secret)
    }
    if (fault === 'whitelists') throw new Refusal({ text: 'You are not on the list', color: 'red', extra: [{ text: ' here' }] })
    if (this.protocol >= COOKIES && this.#options.cookie !== undefined) this.cookie = await this.#askCookie(this.#options.cookie)
    // Question and success leave in one piece, so that no answer can be there before the success is: nobody could tell in
    // which kind of frame that would come.
    if (this.#options.hurries) this.client.socket.cork()
    const query = this.protocol >= LOGIN_PLUGIN && fault === undefined ? this.#ask('third:query', Buffer.from(this.name)) : undefined
    if (!this.#options.hurries) {
      this.query = await query
      // Servers let players in when their next tick comes.
      await Promise.race([new Promise(resolve => setTimeout(resolve, TICK)), this.ended])
    }
    if (this.client.ended) throw new Refusal('left before it was let in')
    if (threshold !== null && this.protocol >= COMPRESSION) {
      this.client.write('compress', { threshold })
      this.client.compressionThreshold = threshold
      this.#threshold = threshold
    }
    this.#succeed(fault === 'renames' ? offline(this.name) : this.identity)
    if (this.#options.hurries) setImmediate(() => this.client.socket.uncork())
    if (this.protocol < CONFIGURATION) {
      // The player is in play, and its answer, which was on its way, would be read as a packet of that.
      query?.catch(() => {})
      this.client.state = states.PLAY
      return
    }
    // At once, for the client goes on without waiting: what comes next is a packet of the configuration.
    this.client.once('login_acknowledged', () => { this.client.state = states.CONFIGURATION })
    const acknowledged = this.#next('login_acknowledged')
    this.query ??= await query
    await acknowledged
  }

  #takeToken (secret) {
    const tokens = this.identity.properties.filter(property => property.name === 'bungeeguard-token')
    if (tokens.length !== 1 || tokens[0].value !== secret) throw new Refusal('§cUnable to authenticate.')
    this.identity.properties = this.identity.properties.filter(property => property.name !== 'bungeeguard-token')
  }

  #succeed ({ id, name, properties }) {
    const success = { uuid: id, username: name }
    if (this.protocol >= SUCCESS_PROPERTIES) Object.assign(success, { properties, strictErrorHandling: true })
    this.client.write('success', success)
  }

  async #encrypt ({ keys }) {
    const publicKey = keys.publicKey.export({ type: 'spki', format: 'der' })
    const verifyToken = randomBytes(4)
    this.client.write('encryption_begin', { serverId: '', publicKey, verifyToken, shouldAuthenticate: true })
    const answer = await this.#next('encryption_begin')
    const token = answer.hasVerifyToken === true ? answer.crypto.verifyToken : answer.verifyToken
    if (!decrypt(keys.privateKey, token).equals(verifyToken)) throw new Refusal('Wrong verify token')
    return { publicKey, sharedSecret: decrypt(keys.privateKey, answer.sharedSecret) }
  }

  async #ask (channel, data) {
    const messageId = randomInt(1 << 30)
    this.client.write('login_plugin_request', { messageId, channel, data })
    const answer = await this.#next('login_plugin_response')
    if (answer.messageId !== messageId) throw new Refusal('Wrong plugin message id')
    return answer.data === undefined || answer.data === null ? undefined : Buffer.from(answer.data)
  }

  async #askCookie (cookie) {
    this.client.write('cookie_request', { cookie })
    const { key, value } = await this.#next('cookie_response')
    if (key !== cookie) throw new Refusal('Wrong cookie')
    return value === undefined || value === null ? null : Buffer.from(value)
  }

  /** Whether the player got into the world, or into configuration on the way there. */
  get wasIn () { return this.state !== states.LOGIN }

  #next (packet) {
    const left = this.ended.then(() => { throw new Refusal(`left before ${packet}`) })
    return within(Promise.race([new Promise(resolve => this.client.once(packet, resolve)), left]), `${packet} of ${this.name}`)
  }

  /** Turns the player away in the login state. */
  refuse (error) {
    this.refusal = error
    if (this.client.ended) return
    this.client.write('disconnect', { reason: JSON.stringify(error.component ?? { text: error.message }) })
    this.client.end()
  }

  send (channel, data) {
    this.client.write('custom_payload', { channel, data })
  }

  /** The next packet called `name` that `fits`, from the place `from` of `packets` on. */
  async packet (name, { from = 0, fits = () => true } = {}) {
    const wanted = packet => packet.name === name && fits(packet.data)
    const there = this.packets.since(from).find(wanted)
    if (there !== undefined) return there.data
    const left = this.ended.then(() => { throw new Refusal(`${this.name} left before ${name}`) })
    return (await Promise.race([this.packets.first(wanted, `${name} of ${this.name}`, { from }), left])).data
  }

  /** Sends a keep-alive and waits until it has come back. */
  async keepAlive () {
    const wide = this.protocol >= WIDE_KEEP_ALIVE
    const keepAliveId = wide ? [randomInt(1 << 30), randomInt(1 << 30)] : randomInt(1 << 30)
    const from = this.packets.mark
    this.client.write('keep_alive', { keepAliveId })
    const long = id => wide ? (BigInt(id[0]) << 32n) | BigInt(id[1] >>> 0) : BigInt(id)
    await this.packet('keep_alive', { from, fits: echo => long(echo.keepAliveId) === long(keepAliveId) })
  }

  /** Keeps the connection alive in play for as long as it lasts, as servers do. */
  beat () {
    const timer = setInterval(() => {
      if (this.state === states.PLAY) this.keepAlive().catch(error => { if (!this.client.ended) this.faults.push(error.message) })
    }, BEAT)
    this.ended.then(() => clearInterval(timer))
  }

  /** Moves from configuration to play, where there is a configuration. */
  async play () {
    if (this.state !== states.CONFIGURATION) return
    this.client.write('finish_configuration', {})
    this.client.once('finish_configuration', () => { this.client.state = states.PLAY })
    await this.#next('finish_configuration')
  }

  kick (text) {
    const packet = this.state === states.PLAY ? 'kick_disconnect' : 'disconnect'
    this.client.write(packet, { reason: writeText(text, this.protocol) })
    this.client.end()
  }
}

/** The key of login start as minecraft-protocol reads it; what it calls the timestamp is the expiry. */
function keyOf (field) {
  if (field === undefined || field === null) return undefined
  const [publicKey, signature] = [field.publicKey, field.signature].map(bytes => bytes.toString('hex'))
  return { expiry: BigInt(field.timestamp), publicKey, signature, holder: undefined }
}

class Refusal extends Error {
  /** `reason` is a text or a component. */
  constructor (reason, cause) {
    super(typeof reason === 'string' ? reason : JSON.stringify(reason), { cause })
    this.component = typeof reason === 'string' ? { text: reason } : reason
  }
}

/** The identity of a player whom nobody vouches for. */
export function offline (name) {
  const hash = createHash('md5').update(`OfflinePlayer:${name}`).digest()
  hash[6] = (hash[6] & 0x0f) | 0x30
  hash[8] = (hash[8] & 0x3f) | 0x80
  return { id: dashed(hash.toString('hex')), name, properties: [] }
}

/** RSA with PKCS #1 v1.5 padding, taken off here because node no longer does it for private keys. */
function decrypt (key, data) {
  const block = privateDecrypt({ key, padding: constants.RSA_NO_PADDING }, data)
  const end = block.indexOf(0, 2)
  if (block[0] !== 0 || block[1] !== 2 || end < 10) throw new Refusal('Bad padding')
  return block.subarray(end + 1)
}

async function sessionOf (sessions, name, sharedSecret, publicKey) {
  if (sessions === undefined) throw new Refusal('Failed to verify username!')
  const digest = createHash('sha1').update('').update(sharedSecret).update(publicKey).digest('hex')
  const serverId = BigInt.asIntN(160, BigInt(`0x${digest}`)).toString(16)
  const answer = await fetch(`${sessions.url}/session/minecraft/hasJoined?username=${name}&serverId=${serverId}`)
  if (answer.status !== 200) throw new Refusal('Failed to verify username!')
  const profile = await answer.json()
  return { id: dashed(profile.id), name: profile.name, properties: profile.properties }
}
