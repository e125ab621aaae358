// What a server of 1.19.3 and later demands of a signing client: that it says which of the messages sent to it it has seen,
// and that what it signs follows on what it signed before.

import { verify } from 'node:crypto'
import { CHAT_CHECKSUM } from './versions.mjs'

/** How many messages a client can say it has seen. */
const WINDOW = 20

/**
 * The messages whose receipt a server still awaits. A client reports how many it has received since its last report (the
 * offset), which of the last 20 before that point it accepted (a bit each, the oldest first) and, from 1.21.5 on, a checksum.
 */
export class Seen {
  /** One entry for every place: null, or `{ signature, acknowledged }`. */
  #places = Array(WINDOW).fill(null)
  #last

  /** A signed message went out. The same one twice in a row is one. */
  sent (signature) {
    if (this.#last?.equals(signature)) return
    this.#places.push({ signature, acknowledged: false })
    this.#last = signature
  }

  /** How many went out that no report covers yet. */
  get unreported () { return this.#places.length - WINDOW }

  advance (offset) {
    if (offset < 0 || offset > this.unreported) {
      throw new Error(`Advanced last seen window by ${offset} messages, but expected at most ${this.unreported}`)
    }
    this.#places.splice(0, offset)
  }

  /** The signatures of the messages that a report says were accepted, the oldest first. */
  report (protocol, { offset, acknowledged, checksum }) {
    this.advance(offset)
    if (acknowledged.length !== 3 || acknowledged[2] >> 4 !== 0) throw new Error('the set has more than 20 bits')
    const signatures = []
    for (let at = 0; at < WINDOW; at++) {
      const set = (acknowledged[at >> 3] >> (at & 7)) & 1
      const place = this.#places[at]
      if (set === 1) {
        if (place === null) throw new Error('Last seen update acknowledged unknown or previously ignored message')
        place.acknowledged = true
        signatures.push(place.signature)
      } else if (place?.acknowledged) {
        throw new Error('Last seen update ignored previously acknowledged message')
      } else {
        this.#places[at] = null
      }
    }
    if (protocol >= CHAT_CHECKSUM && checksum !== 0 && (checksum & 0xff) !== checksumOf(signatures)) {
      throw new Error(`Checksum mismatch on last seen update: ${checksum} of ${signatures.length} messages`)
    }
    return signatures
  }
}

function checksumOf (signatures) {
  const hash = bytes => bytes.reduce((sum, byte) => (Math.imul(31, sum) + (byte << 24 >> 24)) | 0, 1)
  const sum = signatures.reduce((sum, signature) => (Math.imul(31, sum) + hash(signature)) | 0, 1) & 0xff
  return sum === 0 ? 1 : sum
}

/** A client's chat session: each thing that it signs carries the next number, which the signature covers. */
export class SignedChain {
  #index = 0

  constructor (sender, { sessionUUID, publicKey }) {
    this.sender = sender
    this.session = sessionUUID
    this.key = { key: publicKey, format: 'der', type: 'spki' }
  }

  /** Throws if `signature` is not that of the chain's next link. */
  next (content, signature, { timestamp, salt }, lastSeen) {
    const body = Buffer.from(content)
    const head = Buffer.alloc(4 + 16 + 16 + 4 + 8 + 8 + 4)
    head.writeInt32BE(1, 0)
    Buffer.from(this.sender.replaceAll('-', ''), 'hex').copy(head, 4)
    Buffer.from(this.session.replaceAll('-', ''), 'hex').copy(head, 20)
    head.writeInt32BE(this.#index, 36)
    head.writeBigInt64BE(wide(salt), 40)
    head.writeBigInt64BE(wide(timestamp) / 1000n, 48)
    head.writeInt32BE(body.length, 56)
    const count = Buffer.alloc(4)
    count.writeInt32BE(lastSeen.length)
    const signed = Buffer.concat([head, body, count, ...lastSeen])
    if (!verify('RSA-SHA256', signed, this.key, signature)) {
      throw new Error(`Chat message with invalid signature: link ${this.#index} of ${this.session}`)
    }
    this.#index++
  }
}

/** A 64 bit number as minecraft-protocol reads it: a pair of halves that is also a BigInt. */
export function wide (value) {
  return BigInt.asIntN(64, BigInt(value))
}
