// Remakes fixtures.json, frames.json and cipher.json. Run as
//
//   node make.mjs <folder with node_modules>
//
// Every packet layouts.py encodes is encoded again by minecraft-protocol where that knows the protocol, and the two
// must agree: a difference that knownDifference does not name ends the run.

import { execFileSync } from 'node:child_process'
import { createCipheriv, createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { deflateSync } from 'node:zlib'

const here = dirname(fileURLToPath(import.meta.url))
const require = createRequire(join(resolve(process.argv[2] ?? here), 'package.json'))
const { createSerializer, createDeserializer, states } = require('minecraft-protocol')
const encoderName = ['minecraft-protocol', 'minecraft-data'].map(p => `${p} ${require(`${p}/package.json`).version}`).join(' / ')

// The game version by which minecraft-data knows a protocol. It has none for 4 (its 1.7 is protocol 5), 776 and 777.
const VERSIONS = {
  5: '1.7', 47: '1.8.8', 107: '1.9', 210: '1.10.2', 315: '1.11', 340: '1.12.2', 393: '1.13', 404: '1.13.2', 573: '1.15', 578: '1.15.2', 735: '1.16',
  736: '1.16.1', 754: '1.16.5', 755: '1.17', 756: '1.17.1', 757: '1.18', 758: '1.18.2', 759: '1.19', 760: '1.19.2',
  761: '1.19.3', 762: '1.19.4', 763: '1.20.1', 764: '1.20.2', 765: '1.20.4', 766: '1.20.6', 767: '1.21.1', 768: '1.21.3',
  769: '1.21.4', 770: '1.21.5', 771: '1.21.6', 772: '1.21.8', 773: '1.21.9', 774: '1.21.11', 775: '26.1'
}

// Where minecraft-protocol is held to be wrong; these fixtures are layouts.py's alone.
function knownDifference ({ protocol, state, packet, case: name }) {
  // It writes an optional tag; on the wire there is a length with one tag (or the byte 0) in it.
  if (packet === 'custom_click_action') return true
  // It writes NBT strings in plain UTF-8; the game reads them with Java's readUTF, which knows no sequences of four bytes.
  return name === 'beyond_bmp' && state !== 'login' && protocol >= 765
}

const bytes = hex => Buffer.from(hex, 'hex')
const orNone = (value, map) => value === null ? undefined : map(value)
const long = text => BigInt(text)

// Where it makes room for a byte and leaves in it what was there before: right or wrong by chance. These are layouts.py's
// alone, too.
function isLeftToChance ({ state, packet, case: name }) {
  // The 0 in front of a dialog that is written out, which its own reader wants.
  if (packet === 'show_dialog' && state === 'play') return true
  // The 0 in front of a chat type that is written out.
  return packet === 'player_chat' && name === 'type_inside'
}

function tag (value) {
  if (typeof value === 'string') return { type: 'string', value }
  if (typeof value === 'boolean') return { type: 'byte', value: value ? 1 : 0 }
  if (typeof value === 'number') return { type: 'int', value }
  if (Array.isArray(value)) {
    const items = value.map(tag)
    return { type: 'list', value: { type: items[0].type, value: items.map(item => item.value) } }
  }
  const inner = Object.fromEntries(Object.entries(value).map(([key, v]) => [key, tag(v)]))
  return { type: 'compound', value: inner }
}

const jsonText = component => JSON.stringify(component)
const text = (protocol, component) => protocol <= 764 ? jsonText(component) : tag(component)
const seen = (sender, signature) => entry => ({ [sender]: entry.sender, [signature]: bytes(entry.signature) })
const acknowledgement = f => ({
  previousMessages: f.last_seen?.map(seen('messageSender', 'messageSignature')),
  lastRejectedMessage: f.last_received ? seen('sender', 'signature')(f.last_received) : undefined
})
const chatType = (type, protocol) => {
  if (protocol <= 766) return type
  if (typeof type === 'number') return { chatType: type }
  const part = f => ({ translationKey: f.translation_key, parameters: f.parameters.map(p => ['content', 'sender', 'target'][p]), style: tag(f.style) })
  return { data: { chat: part(type.chat), narration: part(type.narration) } }
}
const earlyPlayerChat = (f, protocol) => ({
  signedChatContent: f.content && jsonText(f.content),
  unsignedChatContent: orNone(f.unsigned, jsonText),
  type: f.type,
  senderUuid: f.sender,
  senderName: jsonText(f.name),
  senderTeam: orNone(f.team ?? null, jsonText),
  previousSignature: orNone(f.previous ?? null, bytes),
  signature: bytes(f.signature),
  plainMessage: f.message,
  formattedMessage: orNone(f.formatted ?? null, jsonText),
  timestamp: long(f.timestamp),
  salt: long(f.salt),
  previousMessages: f.last_seen?.map(seen('messageSender', 'messageSignature')),
  filterType: 0,
  networkName: jsonText(f.name),
  networkTargetName: orNone(f.target ?? null, jsonText)
})
// The same words of 64 bits as pairs of signed halves.
const mask = hidden => {
  const bits = hidden.reduce((sum, at) => sum | 1n << BigInt(at), 0n)
  const words = []
  for (let at = 0n; bits >> at; at += 64n) words.push([Number(BigInt.asIntN(32, bits >> at + 32n)), Number(BigInt.asIntN(32, bits >> at))])
  return words
}
const packs = f => ({ packs: f.packs })

const signedCommand = (f, protocol) => ({
  command: f.command,
  timestamp: orNone(f.timestamp ?? null, long),
  salt: orNone(f.salt ?? null, long),
  argumentSignatures: f.arguments?.map(a => ({ argumentName: a.name, signature: bytes(a.signature) })),
  signedPreview: f.signed_preview,
  messageCount: f.message_count,
  acknowledged: f.acknowledged && bytes(f.acknowledged),
  // The same byte; minecraft-data calls it signed in this one protocol.
  checksum: protocol === 774 ? f.checksum << 24 >> 24 : f.checksum,
  ...acknowledgement(f)
})

const information = (f, protocol) => ({
  locale: f.locale,
  viewDistance: f.view_distance,
  chatFlags: f.chat_mode,
  chatColors: f.chat_colors,
  difficulty: f.difficulty,
  showCape: f.show_cape,
  skinParts: f.skin_parts,
  mainHand: f.main_hand,
  // The same bool at the same place; 755 and 756 name it for its opposite.
  [protocol <= 756 ? 'disableTextFiltering' : 'enableTextFiltering']: f.text_filtering,
  enableServerListing: f.allow_listing,
  particleStatus: ['all', 'decreased', 'minimal'][f.particles]
})

const keepAlive = (f, protocol) => ({ keepAliveId: protocol <= 338 ? Number(f.id) : long(f.id) })
const pluginMessage = f => ({ channel: f.channel, data: bytes(f.data) })
const cookieResponse = f => ({ key: f.key, value: orNone(f.payload, bytes) })
const none = () => ({})

// direction/packet or state/direction/packet -> [minecraft-protocol's name, its parameters]
const PACKETS = {
  'serverbound/intention': ['set_protocol', f => ({ protocolVersion: f.protocol, serverHost: f.host, serverPort: f.port, nextState: f.intent })],
  'serverbound/status_request': ['ping_start', none],
  'serverbound/ping_request': ['ping', f => ({ time: long(f.payload) })],
  'clientbound/status_response': ['server_info', f => ({ response: f.json })],
  'clientbound/pong_response': ['ping', f => ({ time: long(f.payload) })],
  'serverbound/login_start': ['login_start', f => ({
    username: f.name,
    signature: f.key && { timestamp: long(f.key.expiry), publicKey: bytes(f.key.public_key), signature: bytes(f.key.signature) },
    playerUUID: f.uuid ?? undefined
  })],
  'serverbound/encryption_response': ['encryption_begin', f => ({
    sharedSecret: bytes(f.shared_secret),
    verifyToken: f.verify_token && bytes(f.verify_token),
    hasVerifyToken: f.verify_token !== undefined,
    crypto: f.verify_token
      ? { verifyToken: bytes(f.verify_token) }
      : { salt: orNone(f.salt ?? null, long), messageSignature: f.signature && bytes(f.signature) }
  })],
  'serverbound/login_plugin_response': ['login_plugin_response', f => ({ messageId: f.message_id, data: orNone(f.data, bytes) })],
  'serverbound/login_acknowledged': ['login_acknowledged', none],
  'serverbound/cookie_response': ['cookie_response', cookieResponse],
  'login/clientbound/disconnect': ['disconnect', f => ({ reason: jsonText(f.reason) })],
  'configuration/clientbound/disconnect': ['disconnect', (f, p) => ({ reason: text(p, f.reason) })],
  'play/clientbound/disconnect': ['kick_disconnect', (f, p) => ({ reason: text(p, f.reason) })],
  'clientbound/encryption_request': ['encryption_begin', f => ({
    serverId: f.server_id,
    publicKey: bytes(f.public_key),
    verifyToken: bytes(f.verify_token),
    shouldAuthenticate: f.should_authenticate
  })],
  'clientbound/login_success': ['success', f => ({
    uuid: f.uuid,
    username: f.name,
    properties: f.properties?.map(p => ({ ...p, signature: p.signature ?? undefined })),
    strictErrorHandling: f.strict_error_handling
  })],
  'clientbound/set_compression': ['compress', f => ({ threshold: f.threshold })],
  'clientbound/login_plugin_request': ['login_plugin_request', f => ({ messageId: f.message_id, channel: f.channel, data: bytes(f.data) })],
  'clientbound/cookie_request': ['cookie_request', f => ({ cookie: f.key })],
  'clientbound/store_cookie': ['store_cookie', f => ({ key: f.key, value: bytes(f.payload) })],
  'clientbound/transfer': ['transfer', f => f],
  'clientbound/plugin_message': ['custom_payload', pluginMessage],
  'serverbound/plugin_message': ['custom_payload', pluginMessage],
  'clientbound/keep_alive': ['keep_alive', keepAlive],
  'serverbound/keep_alive': ['keep_alive', keepAlive],
  'clientbound/ping': ['ping', f => f],
  'serverbound/pong': ['pong', f => f],
  'serverbound/client_information': ['settings', information],
  'clientbound/select_known_packs': ['select_known_packs', packs],
  'serverbound/select_known_packs': ['select_known_packs', packs],
  'clientbound/finish_configuration': ['finish_configuration', none],
  'serverbound/acknowledge_finish_configuration': ['finish_configuration', none],
  'clientbound/start_configuration': ['start_configuration', none],
  'serverbound/configuration_acknowledged': ['configuration_acknowledged', none],
  'configuration/clientbound/show_dialog': ['show_dialog', f => ({ dialog: tag(f.dialog) })],
  'play/clientbound/show_dialog': ['show_dialog', f => ({ dialog: { data: tag(f.dialog) } })],
  'clientbound/clear_dialog': ['clear_dialog', none],
  'serverbound/custom_click_action': ['custom_click_action', f => ({ id: f.id, nbt: orNone(f.payload, tag) })],
  'clientbound/chat_message': ['chat', f => ({ message: jsonText(f.message), position: f.position, sender: f.sender })],
  'clientbound/player_chat': ['player_chat', (f, p) => p <= 760 ? earlyPlayerChat(f, p) : ({
    globalIndex: f.global_index,
    senderUuid: f.sender,
    index: f.index,
    signature: orNone(f.signature, bytes),
    plainMessage: f.message,
    timestamp: long(f.timestamp),
    salt: long(f.salt),
    previousMessages: f.seen.map(s => typeof s === 'number' ? { id: s + 1 } : { id: 0, signature: bytes(s) }),
    unsignedChatContent: orNone(f.unsigned, u => text(p, u)),
    filterType: ['nothing', 'all'].includes(f.filter) ? ['nothing', 'all'].indexOf(f.filter) : 2,
    filterTypeMask: Array.isArray(f.filter) ? mask(f.filter) : undefined,
    type: chatType(f.type, p),
    networkName: text(p, f.name),
    networkTargetName: orNone(f.target, t => text(p, t))
  })],
  'clientbound/player_chat_header': ['message_header', f => {
    const number = value => { const raw = Buffer.alloc(8); raw.writeBigInt64BE(value); return raw }
    const hash = createHash('sha256').update(number(long(f.salt))).update(number(long(f.timestamp) / 1000n)).update(f.message, 'utf8').update('F')
    for (const { sender, signature } of f.last_seen) hash.update('F').update(bytes(sender.replaceAll('-', ''))).update(bytes(signature))
    return { previousSignature: orNone(f.previous, bytes), senderUuid: f.sender, signature: bytes(f.signature), messageHash: hash.digest() }
  }],
  'clientbound/disguised_chat': ['profileless_chat', (f, p) => ({
    message: text(p, f.message),
    type: chatType(f.type, p),
    name: text(p, f.name),
    target: orNone(f.target, t => text(p, t))
  })],
  'clientbound/title_legacy': ['title', f => ({ action: f.action, text: jsonText(f.text) })],
  'clientbound/set_action_bar_text': ['action_bar', (f, p) => ({ text: text(p, f.text) })],
  'clientbound/system_chat': ['system_chat', (f, p) => ({ content: text(p, f.content), type: f.type, isActionBar: f.overlay })],
  'serverbound/chat_message': ['chat_message', (f, p) => ({
    ...signedCommand(f, p),
    checksum: f.checksum,
    message: f.message,
    signature: orNone(f.signature ?? null, bytes),
    offset: f.message_count
  })],
  'serverbound/chat_command': ['chat_command', signedCommand],
  'serverbound/chat_command_signed': ['chat_command_signed', signedCommand],
  'serverbound/chat_ack': ['message_acknowledgement', f => ({ count: f.message_count, ...acknowledgement(f) })],
  'serverbound/chat_session_update': ['chat_session_update', f => ({
    sessionUUID: f.session,
    expireTime: long(f.expiry),
    publicKey: bytes(f.public_key),
    signature: bytes(f.signature)
  })],
  'serverbound/command_suggestions_request': ['tab_complete', f => {
    const block = orNone(f.position ?? null, position => {
      const bits = BigInt.asIntN(64, long(position))
      return { x: Number(bits >> 38n), y: Number(BigInt.asIntN(12, bits >> 26n)), z: Number(BigInt.asIntN(26, bits)) }
    })
    return { transactionId: f.transaction, text: f.text, assumeCommand: f.assume_command, block, lookedAtBlock: block }
  }]
}

const STATES = {
  handshake: states.HANDSHAKING,
  status: states.STATUS,
  login: states.LOGIN,
  configuration: states.CONFIGURATION,
  play: states.PLAY
}

const codecs = new Map()

function codec (protocol, state, direction) {
  const key = `${protocol}/${state}/${direction}`
  if (!codecs.has(key)) {
    const version = VERSIONS[protocol]
    const options = { state: STATES[state], version }
    codecs.set(key, {
      serializer: createSerializer({ ...options, isServer: direction === 'clientbound' }),
      deserializer: createDeserializer({ ...options, isServer: direction === 'serverbound', noErrorLogging: true })
    })
  }
  return codecs.get(key)
}

function encodeAgain ({ protocol, state, direction, packet, fields }) {
  const found = PACKETS[`${state}/${direction}/${packet}`] ?? PACKETS[`${direction}/${packet}`]
  if (!found) throw new Error(`no mapping for ${state}/${direction}/${packet}`)
  let [name, parameters] = found
  if (name === 'chat_message' && protocol <= 758) name = 'chat'
  const params = parameters(fields, protocol)
  const { serializer, deserializer } = codec(protocol, state, direction)
  const raw = serializer.createPacketBuffer({ name, params })
  // It must also read what it wrote, to the last byte, as that packet.
  const back = deserializer.parsePacketBuffer(raw)
  if (back.data.name !== name || back.metadata.size !== raw.length) throw new Error('does not read back')
  return raw.toString('hex')
}

function fixtures () {
  const python = execFileSync('python3', [join(here, 'layouts.py')], { maxBuffer: 1 << 26, encoding: 'utf8' })
  const all = JSON.parse(python)
  const tally = { both: 0, 'layouts.py': 0 }
  const differences = []
  for (const fixture of all) {
    if (VERSIONS[fixture.protocol] && !isLeftToChance(fixture)) {
      let again
      try {
        again = encodeAgain(fixture)
      } catch (error) {
        again = `error: ${error.message}`
      }
      if (again === fixture.hex) {
        fixture.encoder = 'both'
      } else if (!knownDifference(fixture)) {
        const { protocol, state, direction, packet, case: name } = fixture
        differences.push(`${protocol} ${state} ${direction} ${packet} ${name}\n  layouts.py ${fixture.hex}\n  other      ${again}`)
      }
    }
    tally[fixture.encoder]++
  }
  console.log(`fixtures: ${tally.both} made alike by layouts.py and ${encoderName}, ${tally['layouts.py']} by layouts.py alone`)
  if (differences.length) {
    console.error(differences.join('\n'))
    console.error(`${differences.length} differences`)
    process.exit(1)
  }
  return all
}

// --- Frames -----------------------------------------------------------------------------------------------

function varint (value) {
  const out = []
  value >>>= 0
  do {
    out.push((value & 0x7f) | (value > 0x7f ? 0x80 : 0))
    value >>>= 7
  } while (value)
  return Buffer.from(out)
}

const frame = body => Buffer.concat([varint(body.length), body])
const plain = packet => frame(Buffer.concat([varint(0), packet]))
const squeezed = (packet, declared = packet.length, level = 6) =>
  frame(Buffer.concat([varint(declared), deflateSync(packet, { level })]))

/** A packet of `length` bytes with id 0x17; every byte is a function of where it stands. */
const packetOf = length => Buffer.from(Array.from({ length }, (_, i) => i === 0 ? 0x17 : (i * i + (i >> 3)) & 0xff))
const hex = buffer => buffer.toString('hex')

function frames () {
  const good = []
  for (const length of [1, 2, 127, 128, 300, 16384]) {
    const packet = packetOf(length)
    good.push({ case: `plain_${length}`, threshold: null, packet: hex(packet), frame: hex(frame(packet)) })
  }
  for (const threshold of [64, 256]) {
    for (const length of [1, threshold - 1, threshold, threshold + 1, threshold * 10]) {
      const packet = packetOf(length)
      const bytes = length < threshold ? plain(packet) : squeezed(packet)
      good.push({ case: `threshold_${threshold}_length_${length}`, threshold, packet: hex(packet), frame: hex(bytes) })
    }
  }
  const zero = packetOf(5)
  good.push({ case: 'threshold_0_length_5', threshold: 0, packet: hex(zero), frame: hex(squeezed(zero)) })
  const packet = packetOf(400)
  good.push({ case: 'stored_blocks', threshold: 64, packet: hex(packet), frame: hex(squeezed(packet, 400, 0)) })
  good.push({ case: 'best_compression', threshold: 64, packet: hex(packet), frame: hex(squeezed(packet, 400, 9)) })
  // Lengths written in three bytes although one would do: padded VarInts are legal, and some proxies send them.
  const small = packetOf(5)
  good.push({
    case: 'padded_length',
    threshold: null,
    packet: hex(small),
    frame: hex(Buffer.concat([Buffer.from([0x85, 0x80, 0x00]), small]))
  })

  const bad = [
    // Lengths no frame can have.
    { case: 'length_negative', threshold: null, why: 'a length of -1', frame: 'ffffffff0f' },
    { case: 'length_four_bytes', threshold: null, why: 'a frame length has at most three bytes', frame: '8080800117' },
    { case: 'length_never_ends', threshold: null, why: 'a VarInt that never ends', frame: 'ffffffffffffffff' },
    { case: 'uncompressed_length_negative', threshold: 256, why: 'an uncompressed length of -1', frame: hex(frame(Buffer.from('ffffffff0f789c', 'hex'))) },
    { case: 'uncompressed_length_too_large', threshold: 256, why: 'an uncompressed length above 8 MiB', frame: hex(squeezed(packet, 8388609)) },
    // Bodies that are not what they say.
    { case: 'inflates_to_less', threshold: 256, why: 'fewer bytes than declared', frame: hex(squeezed(packet, 401)) },
    { case: 'not_zlib', threshold: 256, why: 'not a zlib stream', frame: hex(frame(Buffer.concat([varint(400), packet]))) },
    {
      case: 'zlib_cut_short',
      threshold: 256,
      why: 'the zlib stream ends early',
      frame: hex(frame(Buffer.concat([varint(400), deflateSync(packet).subarray(0, 60)])))
    }
  ]
  // Readers differ here. One may refuse the frame, or read it as exactly this packet ('' is: as no packet), but no more.
  const zeros = Buffer.alloc(1 << 20)
  const wrongSum = Buffer.concat([varint(400), deflateSync(packet).subarray(0, -4), Buffer.alloc(4)])
  const doubtful = [
    { case: 'length_zero', threshold: null, why: 'no packet id', packet: '', frame: '00' },
    { case: 'empty_inside', threshold: 256, why: 'no packet id behind the uncompressed length', packet: '', frame: '0100' },
    { case: 'compressed_below_threshold', threshold: 256, why: 'compressed although shorter than the threshold', packet: hex(packetOf(100)), frame: hex(squeezed(packetOf(100))) },
    { case: 'plain_above_threshold', threshold: 256, why: 'not compressed although longer than the threshold', packet: hex(packet), frame: hex(plain(packet)) },
    { case: 'inflates_to_more', threshold: 256, why: 'more bytes than declared', packet: hex(packet.subarray(0, 399)), frame: hex(squeezed(packet, 399)) },
    { case: 'bomb', threshold: 256, why: '1 MiB of zeros behind a declared length of 300', packet: hex(zeros.subarray(0, 300)), frame: hex(squeezed(zeros, 300)) },
    { case: 'zlib_checksum', threshold: 256, why: 'the Adler-32 at the end is wrong', packet: hex(packet), frame: hex(frame(wrongSum)) }
  ]
  const parts = [packetOf(3), packetOf(300), packetOf(1)]
  const streams = [
    { case: 'plain', threshold: null, packets: parts.map(hex), stream: hex(Buffer.concat(parts.map(frame))) },
    { case: 'compressed', threshold: 256, packets: parts.map(hex), stream: hex(Buffer.concat([plain(parts[0]), squeezed(parts[1]), plain(parts[2])])) }
  ]
  return { good, doubtful, bad, streams }
}

// --- Cipher -----------------------------------------------------------------------------------------------

const cfb8 = (key, plaintext, iv = key) => createCipheriv('aes-128-cfb8', key, iv).update(plaintext)

/** CFB8 put together from single AES blocks: each byte is masked by the block of the 16 bytes of ciphertext before it. */
function cfb8ByHand (key, plaintext, iv = key) {
  const register = Buffer.from(iv)
  return Buffer.from(plaintext.map(byte => {
    const mask = createCipheriv('aes-128-ecb', key, null).setAutoPadding(false).update(register)[0]
    register.copyWithin(0, 1)
    register[15] = byte ^ mask
    return byte ^ mask
  }))
}

function cipher () {
  // NIST SP 800-38A, F.3.7. Its IV is not its key, so it stays out of the file.
  const nist = cfb8(bytes('2b7e151628aed2a6abf7158809cf4f3c'), bytes('6bc1bee22e409f96e93d7e117393172aae2d'), bytes('000102030405060708090a0b0c0d0e0f'))
  if (hex(nist) !== '3b79424c9c0dd436bace9e0ed4586a4f32b9') throw new Error('not CFB8')
  const keys = ['00000000000000000000000000000000', '2b7e151628aed2a6abf7158809cf4f3c', 'ff80017ffe00aa5510fedcba98765432']
  const out = []
  for (const key of keys) {
    for (const length of [0, 1, 15, 16, 17, 64, 1000]) {
      const plaintext = packetOf(length)
      const ciphertext = cfb8(bytes(key), plaintext)
      if (!ciphertext.equals(cfb8ByHand(bytes(key), plaintext))) throw new Error('two makings of CFB8 differ')
      out.push({ key, length, plaintext: hex(plaintext), ciphertext: hex(ciphertext) })
    }
  }
  return out
}

// --- Files ------------------------------------------------------------------------------------------------

/** One line per entry, so that a change shows as the lines it changed. Non-ASCII is escaped. */
const ascii = value => JSON.stringify(value).replace(/[\u007f-\uffff]/g, c => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0'))
const lines = entries => '[\n' + entries.map(ascii).join(',\n') + '\n]'
const groups = object => '{\n' + Object.entries(object).map(([key, list]) => `${JSON.stringify(key)}: ${lines(list)}`).join(',\n') + '\n}'

writeFileSync(join(here, 'fixtures.json'), lines(fixtures()) + '\n')
writeFileSync(join(here, 'frames.json'), groups(frames()) + '\n')
writeFileSync(join(here, 'cipher.json'), lines(cipher()) + '\n')
