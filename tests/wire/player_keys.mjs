#!/usr/bin/env node
// Writes player_keys.json with Node's OpenSSL: players' keys as Mojang signs them for 1.19 to 1.19.2, and as it does not.
// The private keys are thrown away, so every run makes other bytes.

import { constants, createHash, generateKeyPairSync, privateEncrypt, sign } from 'node:crypto'
import { writeFileSync } from 'node:fs'

const EXPIRES = 1_700_000_000_123n
const ID = '069a79f444e94726a5befca90e38aaf5'
const OTHER_ID = '853c80ef3c3749fdaa49938b674adae6'

const rsa = bits => generateKeyPairSync('rsa', { modulusLength: bits })
const spki = pair => pair.publicKey.export({ type: 'spki', format: 'der' })
const signed = (pair, message, hash = 'RSA-SHA1') => sign(hash, message, pair.privateKey)

/** 1.19: the time in decimal, then the key as text. */
function text (der, { expires = EXPIRES, width = 76, end = '\n', label = 'RSA PUBLIC KEY' } = {}) {
  const base64 = der.toString('base64')
  const lines = []
  for (let at = 0; at < base64.length; at += width) lines.push(base64.slice(at, at + width))
  return Buffer.from(`${expires}-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----${end}`, 'ascii')
}

/** 1.19.1 and 1.19.2: id, time, key. */
function bound (der, { expires = EXPIRES, id = ID } = {}) {
  const time = Buffer.alloc(8)
  time.writeBigInt64BE(expires)
  return Buffer.concat([Buffer.from(id, 'hex'), time, der])
}

const mojang = rsa(4096)
const second = rsa(2048)
const nobody = rsa(4096)
const small = rsa(1024)

const published = [
  ['4096_bits', true, spki(mojang).toString('base64')],
  ['1024_bits', false, spki(small).toString('base64')],
  ['elliptic_curve', false, spki(generateKeyPairSync('ec', { namedCurve: 'P-256' })).toString('base64')],
  ['cut', false, spki(mojang).subarray(0, -1).toString('base64')],
  ['something_behind_it', false, Buffer.concat([spki(mojang), Buffer.of(0)]).toString('base64')],
  ['pkcs1', false, mojang.publicKey.export({ type: 'pkcs1', format: 'der' }).toString('base64')],
  ['no_base64', false, '<html>'],
  ['empty', false, ''],
  ['2048_bits', true, spki(second).toString('base64')]
].map(([name, usable, key]) => ({ case: name, usable, key }))

const player = rsa(2048)
const key = spki(player)
const entries = []
function entry (name, form, outcome, signature, fields = {}) {
  entries.push({
    case: name, form, outcome, id: ID, expires: String(EXPIRES), key: key.toString('hex'), signature: signature.toString('hex'), ...fields
  })
}

/** The same key with its outermost length in one byte more than needed. */
function longer (der) {
  if (der[0] !== 0x30 || der[1] !== 0x82) throw new Error('not a long sequence')
  return Buffer.concat([Buffer.of(0x30, 0x83, 0), der.subarray(2)])
}

for (const [form, message] of [['held', text], ['belongs-to', bound]]) {
  const good = signed(mojang, message(key))
  entry('good', form, 'proven', good)
  entry('second_key', form, 'proven', signed(second, message(key)))
  entry('signed_by_somebody', form, 'bad-signature', signed(nobody, message(key)))
  entry('signed_by_the_player', form, 'bad-signature', signed(player, message(key)))
  entry('signed_by_a_key_too_small', form, 'bad-signature', signed(small, message(key)))
  entry('sha256', form, 'bad-signature', signed(mojang, message(key), 'RSA-SHA256'))
  entry('another_time', form, 'bad-signature', good, { expires: String(EXPIRES + 1n) })
  entry('another_key', form, 'bad-signature', good, { key: spki(second).toString('hex') })
  entry('zero_before_the_signature', form, 'bad-signature', Buffer.concat([Buffer.of(0), good]))
  entry('zero_behind_the_signature', form, 'bad-signature', Buffer.concat([good, Buffer.of(0)]))
  entry('no_signature', form, 'bad-signature', Buffer.alloc(0))
  entry('all_ones', form, 'bad-signature', Buffer.alloc(512, 0xff))
  // Right hash and padding, but no name of the hash before it, as some lenient checks let pass.
  const hash = createHash('sha1').update(message(key)).digest()
  entry('hash_unnamed', form, 'bad-signature', privateEncrypt({ key: mojang.privateKey, padding: constants.RSA_PKCS1_PADDING }, hash))
  // Signed by Mojang, and still no player's key.
  for (const [name, der] of [
    ['1024_bits', spki(small)],
    ['4096_bits', spki(nobody)],
    ['2056_bits', spki(rsa(2056))],
    ['longer_length', longer(key)],
    ['something_behind_it', Buffer.concat([key, Buffer.of(0)])],
    ['pkcs1', player.publicKey.export({ type: 'pkcs1', format: 'der' })],
    ['elliptic_curve', spki(generateKeyPairSync('ec', { namedCurve: 'P-256' }))],
    ['empty', Buffer.alloc(0)]
  ]) {
    entry(`key_${name}`, form, 'bad-key', signed(mojang, message(der)), { key: der.toString('hex') })
  }
}
entry('signed_as_bound', 'held', 'bad-signature', signed(mojang, bound(key)))
entry('lines_of_64', 'held', 'bad-signature', signed(mojang, text(key, { width: 64 })))
entry('no_last_line_end', 'held', 'bad-signature', signed(mojang, text(key, { end: '' })))
entry('another_label', 'held', 'bad-signature', signed(mojang, text(key, { label: 'PUBLIC KEY' })))
entry('signed_as_text', 'belongs-to', 'bad-signature', signed(mojang, text(key)))
entry('another_player', 'belongs-to', 'bad-signature', signed(mojang, bound(key)), { id: OTHER_ID })

const group = (name, list) => `${JSON.stringify(name)}: [\n${list.map(item => JSON.stringify(item)).join(',\n')}\n]`
writeFileSync(new URL('player_keys.json', import.meta.url), `{\n${group('published', published)},\n${group('keys', entries)}\n}\n`)
