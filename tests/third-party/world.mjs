// What a backend does with a player it has let in, as the game's own servers do it: a full configuration with the version's
// registries, a world to stand in, commands, chat, and the checks on what a player signs. Every packet that comes is kept.

import { randomBytes, randomInt, randomUUID } from 'node:crypto'
import minecraft from 'minecraft-protocol'
import minecraftData from 'minecraft-data'
import { commandTree } from './commands.mjs'
import { Seen, SignedChain } from './seen.mjs'
import { writeText } from './text.mjs'
import {
  BARE_COMMAND, CHAT_CHECKSUM, CHAT_SENDER, CHAT_SESSION, CHAT_TYPE_HOLDER, COMMAND_TREE, CONDUCT, CONFIGURATION, KNOWN_PACKS, NBT_TEXT, PING, SIGNED_CHAT,
  TELEPORT_CONFIRM, versionOf
} from './versions.mjs'

const { states } = minecraft

const NOBODY = '00000000-0000-0000-0000-000000000000'
const SIGNATURE = 256

/** Takes a player whose login is over through configuration and into a world. `keyed` players sign what they say. */
export async function inhabit (seat) {
  const world = new World(seat)
  await world.configure()
  await world.join()
  seat.beat()
  return world
}

export class World {
  /** Whom the players hear talking. */
  speaker = { id: randomUUID(), name: 'Speaker' }
  #seen = new Seen()
  #chain
  #spoken = 0

  constructor (seat) {
    this.seat = seat
    this.client = seat.client
    this.protocol = seat.protocol
    this.version = versionOf(seat.protocol)
    this.data = minecraftData(this.version)
    const checked = handler => packet => {
      try {
        handler(packet)
      } catch (error) {
        seat.faults.push(error.message)
      }
    }
    if (this.protocol < CHAT_SESSION) return
    this.client.on('chat_session_update', packet => { this.#chain = new SignedChain(seat.identity.id, packet) })
    this.client.on('message_acknowledgement', checked(({ count }) => this.#seen.advance(count)))
    this.client.on('chat_message', checked(packet => this.#heed(packet, packet.offset, [packet])))
    this.client.on(this.protocol < BARE_COMMAND ? 'chat_command' : 'chat_command_signed', checked(packet => {
      const words = packet.argumentSignatures.map(({ argumentName, signature }) => ({ message: this.#argument(packet.command, argumentName), signature }))
      this.#heed(packet, packet.messageCount, words)
    }))
  }

  /** Checks one packet that says what was seen, and the words in it that are signed. */
  #heed (packet, offset, signed) {
    const { acknowledged, checksum } = packet
    const lastSeen = this.#seen.report(this.protocol, { offset, acknowledged, checksum })
    for (const { message, signature } of signed) {
      if (signature === undefined || signature === null) continue
      if (this.#chain === undefined) throw new Error('signed words of a player without a session')
      this.#chain.next(message, signature, packet, lastSeen)
    }
  }

  /** The words behind `/me` and `/msg`, the commands with signed ones. */
  #argument (command, name) {
    const words = command.split(' ')
    return words.slice(name === 'action' ? 1 : 2).join(' ')
  }

  /** Whether the player announced a key to sign with. */
  get signs () { return this.#chain !== undefined }
  /** How many signed messages the player has not reported yet. */
  get unreported () { return this.#seen.unreported }
  /** All that came from the player since it was let in. */
  get packets () { return this.seat.packets }

  write (name, packet) {
    this.client.write(name, packet)
  }

  /** The configuration phase; nothing to do in versions without one. */
  async configure () {
    if (this.protocol < CONFIGURATION) return
    this.#brand()
    this.write('feature_flags', { features: ['minecraft:vanilla'] })
    const { dimensionCodec } = this.data.loginPacket
    if (this.protocol >= KNOWN_PACKS) {
      const from = this.packets.mark
      this.write('select_known_packs', { packs: [{ namespace: 'minecraft', id: 'core', version: this.version }] })
      await this.seat.packet('select_known_packs', { from })
      for (const registry of Object.values(dimensionCodec)) this.write('registry_data', registry)
    } else {
      this.write('registry_data', { codec: dimensionCodec })
    }
    this.write('tags', { tags: [{ tagType: 'minecraft:worldgen/biome', tags: [{ tagName: 'minecraft:is_ocean', entries: [1, 2, 3] }] }] })
    if (this.protocol >= CONDUCT) {
      const from = this.packets.mark
      this.write('code_of_conduct', { contents: 'Be kind.' })
      await this.seat.packet('accept_code_of_conduct', { from })
    }
    await this.seat.keepAlive()
    await this.#ping()
    await this.seat.play()
  }

  /** Takes the player back to configuration, and into a world again; `between` is done in configuration. */
  async reconfigure (between = () => {}) {
    const from = this.packets.mark
    this.write('start_configuration', {})
    this.client.once('configuration_acknowledged', () => { this.client.state = states.CONFIGURATION })
    await this.seat.packet('configuration_acknowledged', { from })
    await between()
    await this.configure()
    await this.join()
  }

  /** Join Game and what follows it. */
  async join () {
    const { dimensionCodec, ...late } = this.data.loginPacket ?? {}
    const old = { entityId: 7, gameMode: 0, dimension: 0, difficulty: 1, maxPlayers: 20, levelType: 'default', reducedDebugInfo: false }
    this.write('login', this.data.loginPacket === undefined ? old : this.protocol < CONFIGURATION ? { ...late, dimensionCodec } : late)
    if (this.protocol < CONFIGURATION) this.#brand()
    this.declare()
    const from = this.packets.mark
    this.#move()
    if (this.protocol >= TELEPORT_CONFIRM) await this.seat.packet('teleport_confirm', { from })
    await this.seat.keepAlive()
    if (this.protocol >= PING) await this.#ping()
  }

  /** Tells the player which commands there are. */
  declare () {
    if (this.protocol >= COMMAND_TREE) this.write('declare_commands', commandTree(this.version))
  }

  /** Puts the player somewhere else. */
  #move () {
    const place = { x: 0.5, y: 80, z: 0.5, yaw: 0, pitch: 0, dx: 0, dy: 0, dz: 0, flags: this.protocol >= 768 ? {} : 0, teleportId: randomInt(1 << 20), dismountVehicle: false }
    this.write('position', place)
  }

  async #ping () {
    const id = randomInt(1 << 30)
    const from = this.packets.mark
    this.write('ping', { id })
    await this.seat.packet('pong', { from, fits: packet => packet.id === id })
  }

  #brand () {
    const brand = Buffer.from('third party')
    this.write('custom_payload', { channel: this.protocol < COMMAND_TREE ? 'MC|Brand' : 'minecraft:brand', data: Buffer.concat([Buffer.from([brand.length]), brand]) })
  }

  /** A line of the server's own. */
  tell (text, { overlay = false } = {}) {
    const content = writeText(text, this.protocol)
    if (this.protocol < SIGNED_CHAT) this.write('chat', { message: content, position: overlay ? 2 : 1, sender: NOBODY })
    else this.write('system_chat', { content, type: overlay ? 2 : 1, isActionBar: overlay })
  }

  /** A line of another player's, signed where there are sessions unless `signed` is false. */
  hear (text, { signed = true } = {}) {
    const { id, name } = this.speaker
    const json = JSON.stringify({ text })
    if (this.protocol < SIGNED_CHAT) return this.write('chat', { message: json, position: 0, sender: this.protocol < CHAT_SENDER ? undefined : id })
    const networkName = this.protocol < NBT_TEXT ? JSON.stringify({ text: name }) : writeText(name, this.protocol)
    const line = { senderUuid: id, timestamp: BigInt(Date.now()), salt: 1n, previousMessages: [], filterType: 0, networkName }
    if (this.protocol < 760) return this.write('player_chat', { ...line, signedChatContent: json, type: 0, senderName: networkName, signature: Buffer.alloc(0) })
    if (this.protocol < CHAT_SESSION) return this.write('player_chat', { ...line, plainMessage: text, type: 0, signature: Buffer.alloc(0) })
    const signature = signed ? randomBytes(SIGNATURE) : undefined
    const globalIndex = this.#spoken++
    if (signed) this.#seen.sent(signature)
    this.write('player_chat', { ...line, globalIndex: this.protocol >= CHAT_CHECKSUM ? globalIndex : undefined, index: globalIndex, signature, plainMessage: text, type: this.protocol >= CHAT_TYPE_HOLDER ? { chatType: 0 } : 0 })
  }

  /** The player says `text` here, from `from` on. */
  async said (text, { from = 0 } = {}) {
    const name = this.protocol < SIGNED_CHAT ? 'chat' : 'chat_message'
    return this.seat.packet(name, { from, fits: packet => packet.message === text })
  }

  /** The player's command `text` (without its slash) arrives here. */
  async commanded (text, { from = 0 } = {}) {
    if (this.protocol < SIGNED_CHAT) return this.said(`/${text}`, { from })
    const fits = ({ name, data }) => /^chat_command(_signed)?$/.test(name) && data.command === text
    return (await this.packets.first(fits, `/${text} of ${this.seat.name}`, { from })).data
  }

  /** All words and commands that came, as they were typed. */
  get words () {
    return this.packets.items.flatMap(({ name, data }) => {
      if (name === 'chat' || name === 'chat_message') return [data.message]
      if (name === 'chat_command' || name === 'chat_command_signed') return [`/${data.command}`]
      return name === 'tab_complete' ? [data.text] : []
    })
  }

  /** What packets of the server's may do to a held player: nothing of this may reach it. */
  intrude (channel) {
    this.hear('overheard')
    this.seat.send(channel, Buffer.from('for a mod'))
    if (this.protocol < KNOWN_PACKS) return
    this.write('store_cookie', { key: 'third:cookie', value: Buffer.from('crumbs') })
    this.write('transfer', { host: 'elsewhere.test', port: 25565 })
  }

  get inPlay () { return this.client.state === states.PLAY }
}
