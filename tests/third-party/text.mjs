// Text components, as JSON or as NBT, to plain text and back.

import { NBT_TEXT } from './versions.mjs'

/** A tag as minecraft-protocol reads it, without the types. */
export function plainNbt (tag) {
  if (tag === null || typeof tag !== 'object' || !('type' in tag)) return tag
  if (tag.type === 'compound') return Object.fromEntries(Object.entries(tag.value).map(([key, value]) => [key, plainNbt(value)]))
  if (tag.type === 'list') return tag.value.value.map(value => plainNbt({ type: tag.value.type, value }))
  return tag.value
}

function flatten (component) {
  if (component === null || component === undefined) return ''
  if (Array.isArray(component)) return component.map(flatten).join('')
  if (typeof component !== 'object') return String(component)
  return (component.text ?? component[''] ?? component.translate ?? '') + flatten(component.extra)
}

/** The words of a disconnect reason, without colours. */
export function readText (reason) {
  return wordsOf(typeof reason === 'string' ? JSON.parse(reason) : plainNbt(reason))
}

/** The words of a component that is plain data already. */
export function wordsOf (component) {
  return flatten(component).replace(/§[0-9a-fk-orx]/gi, '')
}

/** A text as the packets of `protocol` carry it outside the login state. */
export function writeText (text, protocol) {
  if (protocol < NBT_TEXT) return JSON.stringify({ text })
  return { type: 'compound', name: '', value: { text: { type: 'string', value: text } } }
}
