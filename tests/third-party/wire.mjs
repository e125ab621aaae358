// What both ends of a connection check and exchange, whoever plays them.

import { randomBytes } from 'node:crypto'
import assert from 'node:assert/strict'
import { COMPRESSION } from './versions.mjs'

const MAX_INFLATED = 8 * 1024 * 1024

function readVarint (buffer) {
  let value = 0
  for (let at = 0; at < 5; at++) {
    value |= (buffer[at] & 0x7f) << (7 * at)
    if ((buffer[at] & 0x80) === 0) return { value, size: at + 1 }
  }
  throw new Error('varint of more than five bytes')
}

/**
 * Notes every incoming frame that a strict peer would refuse: compressed although shorter than the threshold (the vanilla
 * server disconnects), or sent plain although longer (other proxies do). `client` is a minecraft-protocol Client of either
 * side; `threshold()` is the one now in force. Must be called before any data flows.
 */
export function watchFrames (client, threshold) {
  const faults = []
  // Prepended: the frame that switches compression on must be seen before its own effect.
  client.splitter.prependListener('data', frame => {
    if (client.decompressor === null) return
    const { value: inflated, size } = readVarint(frame)
    const limit = threshold()
    if (inflated === 0 && frame.length - size > limit) faults.push(`plain frame of ${frame.length - size} bytes over the threshold ${limit}`)
    if (inflated !== 0 && inflated < limit) faults.push(`compressed frame of ${inflated} bytes under the threshold ${limit}`)
    if (inflated > MAX_INFLATED) faults.push(`frame of ${inflated} bytes`)
  })
  return faults
}

/** Payloads below, around and far above every threshold in use, some that compress well and some that do not. */
export function samples (protocol, toServer) {
  const sizes = [0, 1, 40, 200, 240, 256, 300, 2000, 30_000]
  // The length of a plugin message is 16 bits wide in 1.7, and serverbound ones end at 32767 bytes everywhere.
  if (!toServer && protocol >= COMPRESSION) sizes.push(300_000)
  return [...sizes.map(size => randomBytes(size)), Buffer.alloc(31_000, 'postern ')]
}

/** Sends plugin messages and keep-alives both ways between the two ends of one connection and compares every byte. */
export async function exchange (player, seat) {
  const { protocol } = seat
  const up = samples(protocol, true)
  const down = samples(protocol, false)
  for (const data of up) player.send('third:party', data)
  for (const data of down) seat.send('third:party', data)
  for (const [side, expected] of [[seat, up], [player, down]]) {
    for (const data of expected) {
      const message = await side.messages.take(`a plugin message of ${data.length} bytes in ${seat.state}`)
      assert.equal(message.channel, 'third:party')
      assert.ok(message.data.equals(data), `${data.length} bytes arrived unchanged`)
    }
  }
  for (let round = 0; round < 3; round++) await seat.keepAlive()
}
