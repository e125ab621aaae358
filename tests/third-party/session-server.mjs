// A stand-in for Mojang's session server (and for the public keys of its services) on a port of this machine.

import { createServer } from 'node:http'
import { randomBytes, randomUUID } from 'node:crypto'

/** How a kind of call is answered. `up` is the honest answer. */
export const ANSWERS = ['up', 'reset', 'unavailable', 'throttled', 'garbage']

export class SessionServer {
  /** What joins (the client's call) and checks (the proxy's call) are answered with: one of ANSWERS each. */
  joins = 'up'
  checks = 'up'
  /** Base64 DER of the keys published for player certificates. */
  playerCertificateKeys = []
  /** Every call, in order: `{ name, answer }`. */
  joinCalls = []
  checkCalls = []

  #profiles = new Map()
  #joined = new Map()
  #server = createServer((request, response) => this.#serve(request, response))

  static async start () {
    const self = new SessionServer()
    await new Promise(resolve => self.#server.listen(0, '127.0.0.1', resolve))
    return self
  }

  get url () { return `http://127.0.0.1:${this.#server.address().port}` }

  async stop () {
    this.#server.closeAllConnections()
    await new Promise(resolve => this.#server.close(resolve))
  }

  /** Both kinds of call answer alike from now on. */
  answer (how) {
    this.joins = how
    this.checks = how
  }

  /** A player with an account of its own: random id, access token and textures. */
  register (name) {
    const id = randomUUID()
    const textures = { timestamp: Date.now(), profileName: name, textures: { SKIN: { url: `http://textures.invalid/${randomBytes(32).toString('hex')}` } } }
    const player = {
      name,
      id,
      accessToken: randomBytes(24).toString('hex'),
      properties: [{
        name: 'textures',
        value: Buffer.from(JSON.stringify(textures)).toString('base64'),
        signature: randomBytes(512).toString('base64')
      }]
    }
    this.#profiles.set(player.accessToken, player)
    return player
  }

  async #serve (request, response) {
    const url = new URL(request.url, 'http://stand-in')
    let body = ''
    for await (const chunk of request) body += chunk
    if (request.method === 'POST' && url.pathname === '/session/minecraft/join') this.#join(JSON.parse(body), response)
    else if (request.method === 'GET' && url.pathname === '/session/minecraft/hasJoined') this.#hasJoined(url.searchParams, response)
    else if (request.method === 'GET' && url.pathname === '/publickeys') this.#publicKeys(response)
    else this.#reply(response, 404, { error: 'Not Found' })
  }

  #join ({ accessToken, selectedProfile, serverId }, response) {
    const player = this.#profiles.get(accessToken)
    const honest = player !== undefined && selectedProfile === undashed(player.id)
    this.joinCalls.push({ name: player?.name, answer: this.joins })
    if (this.#misbehave(this.joins, response)) return
    if (!honest) return this.#reply(response, 403, { error: 'ForbiddenOperationException', errorMessage: 'Invalid token' })
    this.#joined.set(serverId, player)
    this.#reply(response, 204)
  }

  #hasJoined (query, response) {
    const name = query.get('username') ?? ''
    this.checkCalls.push({ name, answer: this.checks })
    if (this.#misbehave(this.checks, response)) return
    const player = this.#joined.get(query.get('serverId'))
    if (player?.name.toLowerCase() !== name.toLowerCase()) return this.#reply(response, 204)
    this.#reply(response, 200, { id: undashed(player.id), name: player.name, properties: player.properties, profileActions: [] })
  }

  #publicKeys (response) {
    const playerCertificateKeys = this.playerCertificateKeys.map(publicKey => ({ publicKey }))
    this.#reply(response, 200, { profilePropertyKeys: [], playerCertificateKeys })
  }

  #misbehave (how, response) {
    switch (how) {
      case 'up': return false
      case 'reset': response.socket.resetAndDestroy(); return true
      case 'unavailable': this.#reply(response, 503, { error: 'Service Unavailable', errorMessage: 'down' }); return true
      // Without Retry-After, which the proxy would honour for every login that follows.
      case 'throttled': this.#reply(response, 429, { error: 'TooManyRequestsException' }); return true
      case 'garbage': response.writeHead(200, { 'Content-Type': 'text/html' }).end('<html>Blocked by your provider</html>'); return true
      default: throw new Error(`no such answer: ${how}`)
    }
  }

  #reply (response, status, json) {
    if (json === undefined) response.writeHead(status).end()
    else response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(json))
  }
}

export function undashed (id) {
  return id.replaceAll('-', '')
}
