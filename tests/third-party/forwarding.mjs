// How proxies hand a player's identity to a backend, read and written from the published formats with node's own crypto.

import { createHmac, timingSafeEqual } from 'node:crypto'

const SIGNATURE = 32

class Reader {
  #at = 0
  constructor (buffer) { this.buffer = buffer }

  bytes (length) {
    if (length < 0 || this.#at + length > this.buffer.length) throw new Error('the forwarded data ends early')
    this.#at += length
    return this.buffer.subarray(this.#at - length, this.#at)
  }

  varint () {
    let value = 0
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.bytes(1)[0]
      value |= (byte & 0x7f) << shift
      if ((byte & 0x80) === 0) return value
    }
    throw new Error('varint of more than five bytes')
  }

  /** Bytes behind their length, as one can read them in a failed comparison. */
  hex () { return this.bytes(this.varint()).toString('hex') }
  string () { return this.bytes(this.varint()).toString('utf8') }
  bool () { return this.bytes(1)[0] !== 0 }
  long () { return this.bytes(8).readBigInt64BE() }
  id () { return dashed(this.bytes(16).toString('hex')) }
  get left () { return this.buffer.length - this.#at }
}

export function dashed (hex) {
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

/** What a good signature signs, and nobody can read. */
export class Unreadable extends Error {}

/** The highest version of the answer. */
const NEWEST = 4

/** Reads the answer to `velocity:player_info`; throws if the secret does not fit, and Unreadable if anything is missing or left over. */
export function readModern (answer, secret) {
  if (answer === undefined) throw new Error('not understood')
  const signature = answer.subarray(0, SIGNATURE)
  const data = answer.subarray(SIGNATURE)
  const expected = createHmac('sha256', secret).update(data).digest()
  if (signature.length !== SIGNATURE || !timingSafeEqual(signature, expected)) throw new Error('wrong signature')
  try {
    return readIdentity(new Reader(data))
  } catch (error) {
    throw new Unreadable(error.message, { cause: error })
  }
}

function readIdentity (reader) {
  const version = reader.varint()
  if (version > NEWEST) throw new Error(`unsupported forwarding version ${version}`)
  const identity = { version, address: reader.string(), id: reader.id(), name: reader.string(), properties: [] }
  for (let left = reader.varint(); left > 0; left--) {
    const property = { name: reader.string(), value: reader.string() }
    if (reader.bool()) property.signature = reader.string()
    identity.properties.push(property)
  }
  if (version === 2 || version === 3) {
    identity.key = { expiry: reader.long(), publicKey: reader.hex(), signature: reader.hex() }
    if (version === 3 && reader.bool()) identity.key.holder = reader.id()
  }
  if (reader.left !== 0) throw new Error(`${reader.left} bytes left over`)
  return identity
}

/** Writes the answer to `velocity:player_info` as version 1: what a proxy would send. Only for proving `readModern`'s caller. */
export function writeModern ({ address, id, name, properties }, secret) {
  const varint = value => {
    const bytes = []
    for (; value > 0x7f; value >>>= 7) bytes.push((value & 0x7f) | 0x80)
    return Buffer.from([...bytes, value])
  }
  const string = text => Buffer.concat([varint(Buffer.byteLength(text)), Buffer.from(text)])
  const data = Buffer.concat([
    varint(1), string(address), Buffer.from(id.replaceAll('-', ''), 'hex'), string(name), varint(properties.length),
    ...properties.flatMap(property => [
      string(property.name), string(property.value),
      ...(property.signature === undefined ? [Buffer.from([0])] : [Buffer.from([1]), string(property.signature)])
    ])
  ])
  return Buffer.concat([createHmac('sha256', secret).update(data).digest(), data])
}

/** Reads BungeeCord's host field: host, address, undashed id and, if there are any, properties, parted by NUL. */
export function readLegacy (host, name) {
  const parts = host.split('\0')
  if (parts.length !== 3 && parts.length !== 4) throw new Error(`${parts.length} parts in the host field`)
  const [cleaned, address, id, properties] = parts
  return { host: cleaned, address, id: dashed(id), name, properties: properties === undefined ? [] : JSON.parse(properties) }
}
