// Remakes trees.json and names.json from minecraft-data, by minecraft-protocol. Run as
//
//   node play.mjs <folder with node_modules>

import { writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))
const require = createRequire(join(resolve(process.argv[2] ?? here), 'package.json'))
const { createSerializer, createDeserializer, states } = require('minecraft-protocol')
const data = require('minecraft-data')

// The game version by which minecraft-data knows a protocol.
const VERSIONS = {
  5: '1.7.10', 47: '1.8.8', 107: '1.9', 109: '1.9.2', 110: '1.9.4', 210: '1.10.2', 315: '1.11', 316: '1.11.2',
  335: '1.12', 338: '1.12.1', 340: '1.12.2', 393: '1.13', 401: '1.13.1', 404: '1.13.2', 477: '1.14', 480: '1.14.1',
  490: '1.14.3', 498: '1.14.4', 573: '1.15', 575: '1.15.1', 578: '1.15.2', 735: '1.16', 736: '1.16.1', 751: '1.16.2',
  753: '1.16.3', 754: '1.16.5', 755: '1.17', 756: '1.17.1', 757: '1.18.1', 758: '1.18.2', 759: '1.19', 760: '1.19.2',
  761: '1.19.3', 762: '1.19.4', 763: '1.20.1', 764: '1.20.2', 765: '1.20.4', 766: '1.20.6', 767: '1.21.1', 768: '1.21.3',
  769: '1.21.4', 770: '1.21.5', 771: '1.21.6', 772: '1.21.8', 773: '1.21.9', 774: '1.21.11', 775: '26.1'
}

// --- Names ------------------------------------------------------------------------------------------------

function names () {
  const out = []
  for (const [protocol, version] of Object.entries(VERSIONS)) {
    const { protocol: layouts, version: { version: number } } = data(version)
    if (number !== Number(protocol)) throw new Error(`${version} is ${number}`)
    for (const state of ['configuration', 'play']) {
      for (const [direction, key] of [['serverbound', 'toServer'], ['clientbound', 'toClient']]) {
        const packet = layouts[state]?.[key]?.types?.packet
        if (!packet) continue
        const mappings = packet[1][0].type[1].mappings
        const byId = []
        for (const [id, name] of Object.entries(mappings)) byId[Number(id)] = name
        out.push({ protocol: number, state, direction, names: Array.from(byId, name => name ?? '-').join(' ') })
      }
    }
  }
  return out
}

// --- Trees ------------------------------------------------------------------------------------------------

// Of the game's own commands. The others show nothing new; `execute`, which goes round in a circle, is in the whole one.
const SOME = ['ban', 'gamemode', 'give', 'msg', 'tell', 'time', 'tp', 'teleport']
const WHOLE = [765]
const ROOT = 0
const LITERAL = 1
const ARGUMENT = 2

/** The report of the commands that minecraft-data has for a version, or the nearest that it has. */
function report (protocol) {
  const nearest = protocol < 477 ? '1.13' : protocol < 735 ? '1.14.4' : protocol < 759 ? '1.16.2' : protocol < 765 ? '1.20.2' : '1.20.4'
  return data(nearest).commands.root
}

const flags = (type, command = false, more = {}) => ({
  unused: 0,
  allows_restricted: 0,
  has_custom_suggestions: 0,
  has_redirect_node: 0,
  has_command: command ? 1 : 0,
  command_node_type: type,
  ...more
})

function properties (parser, modifier) {
  const between = () => ({
    flags: { unused: 0, max_present: modifier?.max === undefined ? 0 : 1, min_present: modifier?.min === undefined ? 0 : 1 },
    min: modifier?.min,
    max: modifier?.max
  })
  switch (parser) {
    case 'brigadier:float': case 'brigadier:double': case 'brigadier:integer': case 'brigadier:long': return between()
    case 'brigadier:string': return { word: 'SINGLE_WORD', phrase: 'QUOTABLE_PHRASE', greedy: 'GREEDY_PHRASE' }[modifier.type]
    case 'minecraft:entity': return { unused: 0, onlyAllowPlayers: modifier.type === 'players' ? 1 : 0, onlyAllowEntities: modifier.amount === 'single' ? 1 : 0 }
    case 'minecraft:score_holder': return { unused: 0, allowMultiple: modifier.amount === 'multiple' ? 1 : 0 }
    case 'minecraft:time': return { min: 0 }
    case 'minecraft:range': return { allowDecimals: false }
    default: return modifier ?? undefined
  }
}

/** The names of the parsers that a version has. */
function parsers (protocol) {
  const fields = JSON.stringify(data(VERSIONS[protocol]).protocol.types.command_node)
  const numbered = fields.match(/"parser","type":\["mapper",\{"type":"varint","mappings":(\{[^}]*\})/)
  const known = new Set(Array.from(fields.matchAll(/"((?:minecraft|brigadier):[a-z_]+)":/g), match => match[1]))
  if (!numbered) return known
  const byNumber = JSON.parse(numbered[1])
  if (byNumber[5] !== 'brigadier:string') throw new Error(`${protocol}: brigadier:string is not 5`)
  return new Set(Object.values(byNumber).filter(name => known.has(name)))
}

/** Nodes in the order in which the game writes them: the root, its children, theirs, … */
function nodes (protocol) {
  const known = parsers(protocol)
  const usable = node => !node.parser || known.has(node.parser.parser)
  const root = report(protocol)
  const commands = root.children.filter(child => WHOLE.includes(protocol) || SOME.includes(child.name))
  // As Bukkit sends the command of a plugin.
  const plugin = {
    type: 'literal',
    name: 'login',
    executable: true,
    children: [{ type: 'argument', name: 'args', executable: true, children: [], asks: true, parser: { parser: 'brigadier:string', modifier: { type: 'greedy' } } }]
  }
  const queue = [{ ...root, children: [...commands, plugin] }]
  const numbers = new Map()
  for (let at = 0; at < queue.length; at++) {
    numbers.set(queue[at], at)
    queue.push(...(queue[at].children ?? []).filter(usable))
  }
  return queue.map(node => {
    const target = node.redirects?.[0] && queue[0].children.find(child => child.name === node.redirects[0])
    const children = (node.children ?? []).filter(usable).map(child => numbers.get(child))
    const type = node.type === 'root' ? ROOT : node.type === 'literal' ? LITERAL : ARGUMENT
    const made = { flags: flags(type, node.executable), children, extraNodeData: { name: node.name } }
    if (type === ROOT) made.extraNodeData = undefined
    if (target) {
      made.flags.has_redirect_node = 1
      made.redirectNode = numbers.get(target)
    }
    if (type === ARGUMENT) {
      made.extraNodeData.parser = node.parser.parser
      made.extraNodeData.properties = properties(node.parser.parser, node.parser.modifier)
      if (node.asks) {
        made.flags.has_custom_suggestions = 1
        made.extraNodeData.suggestionType = 'minecraft:ask_server'
      }
    }
    return made
  })
}

/** The same with the commands about PINs behind all others. */
function withPins (before) {
  const code = before.length
  const [root, ...others] = before
  const literal = (name, children, command) => ({ flags: flags(LITERAL, command), children, extraNodeData: { name } })
  return [
    { ...root, children: [...root.children, code + 1, code + 2, code + 3] },
    ...others,
    { flags: flags(ARGUMENT, true), children: [], extraNodeData: { name: 'code', parser: 'brigadier:string', properties: 'SINGLE_WORD' } },
    literal('setpin', [code], false),
    literal('pin', [code], false),
    literal('resetpin', [], true)
  ]
}

function trees () {
  const out = []
  for (const protocol of Object.keys(VERSIONS).map(Number).filter(protocol => protocol >= 393)) {
    const options = { state: states.PLAY, version: VERSIONS[protocol] }
    const serializer = createSerializer({ ...options, isServer: true })
    const deserializer = createDeserializer({ ...options, isServer: false, noErrorLogging: true })
    const write = nodes => {
      const raw = serializer.createPacketBuffer({ name: 'declare_commands', params: { nodes, rootIndex: 0 } })
      const back = deserializer.parsePacketBuffer(raw)
      if (back.metadata.size !== raw.length || back.data.params.nodes.length !== nodes.length) throw new Error('does not read back')
      for (const [at, node] of nodes.entries()) {
        const read = back.data.params.nodes[at]
        if (String(read.children) !== String(node.children) || read.extraNodeData?.name !== node.extraNodeData?.name) {
          throw new Error(`node ${at} does not read back`)
        }
      }
      return raw
    }
    const before = nodes(protocol)
    const number = data(VERSIONS[protocol]).version.version
    out.push({ protocol: number, case: WHOLE.includes(protocol) ? 'whole' : 'some', before: write(before).toString('hex'), after: write(withPins(before)).toString('hex') })
    // A backend with a command of the same name, one without any, and one with no commands.
    const own = [
      { flags: flags(ROOT), children: [1] },
      { flags: flags(LITERAL), children: [2], extraNodeData: { name: 'pin' } },
      { flags: flags(ARGUMENT, true), children: [], extraNodeData: { name: 'words', parser: 'minecraft:message' } }
    ]
    out.push({ protocol: number, case: 'own_pin', before: write(own).toString('hex'), after: write(withPins(own)).toString('hex') })
    const none = [{ flags: flags(ROOT), children: [] }]
    out.push({ protocol: number, case: 'none', before: write(none).toString('hex'), after: write(withPins(none)).toString('hex') })
  }
  return out
}

const lines = entries => '[\n' + entries.map(entry => JSON.stringify(entry)).join(',\n') + '\n]\n'
writeFileSync(join(here, 'names.json'), lines(names()))
writeFileSync(join(here, 'trees.json'), lines(trees()))
