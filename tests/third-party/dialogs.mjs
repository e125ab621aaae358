// Dialogs as the game shows and answers them. The answer is written byte by byte: minecraft-protocol takes the length of its
// payload for a flag.

import minecraftData from 'minecraft-data'
import { plainNbt, wordsOf } from './text.mjs'

const [END, STRING, COMPOUND] = [0, 8, 10]

/** What a `show_dialog` packet of the configuration shows: `{ title, body, inputs, submit, leave }`, the buttons `{ label, id }`. */
export function readDialog ({ dialog }) {
  const { type, title, body, inputs, ...rest } = plainNbt(dialog)
  const [submit, leave] = {
    'minecraft:confirmation': [rest.yes, rest.no],
    'minecraft:multi_action': [rest.actions?.[0], rest.exit_action ?? rest.actions?.[1]]
  }[type] ?? []
  return {
    ...rest,
    title: wordsOf(title),
    body: [body].flat().map(({ type, contents }) => ({ type, text: wordsOf(contents) })),
    inputs: inputs.map(input => ({ ...input, label: wordsOf(input.label) })),
    submit: button(submit),
    leave: button(leave)
  }
}

function button ({ label, action }) {
  return { label: wordsOf(label), type: action.type, id: action.id }
}

function varint (value) {
  const bytes = []
  for (; value > 0x7f; value >>>= 7) bytes.push((value & 0x7f) | 0x80)
  return Buffer.from([...bytes, value])
}

function nbtString (text) {
  const length = Buffer.alloc(2)
  length.writeUInt16BE(Buffer.byteLength(text))
  return Buffer.concat([length, Buffer.from(text)])
}

/** A compound of strings, as network NBT. */
export function compound (fields) {
  const tags = Object.entries(fields).flatMap(([key, value]) => [Buffer.from([STRING]), nbtString(key), nbtString(value)])
  return Buffer.concat([Buffer.from([COMPOUND]), ...tags, Buffer.from([END])])
}

/** Compounds in one another. */
export function nested (depth) {
  const open = Buffer.concat([Buffer.from([COMPOUND]), nbtString('a')])
  return Buffer.concat([Buffer.from([COMPOUND]), ...Array(depth).fill(open), Buffer.alloc(depth + 1, END)])
}

/** The player pressed the button called `id`; `payload` is NBT, by default what stands for none. */
export function click (joined, id, payload = Buffer.from([END])) {
  const { mappings } = minecraftData(joined.version.name).protocol.configuration.toServer.types.packet[1][0].type[1]
  const [number] = Object.entries(mappings).find(([, name]) => name === 'custom_click_action')
  joined.client.writeRaw(Buffer.concat([varint(Number(number)), varint(Buffer.byteLength(id)), Buffer.from(id), varint(payload.length), payload]))
}

/** The player typed `code` into the dialog and pressed its button. */
export function handIn (joined, dialog, code) {
  click(joined, dialog.submit.id, compound({ [dialog.inputs[0].key]: code }))
}
