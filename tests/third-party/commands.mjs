// Command trees as servers send them: the game's own, where minecraft-data has it, else a small one.

import minecraftData from 'minecraft-data'

const [ROOT, LITERAL, ARGUMENT] = [0, 1, 2]
const STRINGS = { word: 'SINGLE_WORD', phrase: 'QUOTABLE_PHRASE', greedy: 'GREEDY_PHRASE' }
const NUMBERS = ['brigadier:float', 'brigadier:double', 'brigadier:integer', 'brigadier:long']

const SMALL = {
  children: [
    literal('help', [argument('command', 'brigadier:string', { type: 'greedy' })]),
    literal('me', [argument('action', 'minecraft:message')]),
    literal('msg', [argument('targets', 'minecraft:entity', { type: 'players', amount: 'multiple' }, [argument('message', 'minecraft:message')])])
  ]
}

function literal (name, children = []) {
  return { type: 'literal', name, executable: children.length === 0, redirects: [], children }
}

function argument (name, parser, modifier = null, children = []) {
  return { type: 'argument', name, executable: children.length === 0, redirects: [], children, parser: { parser, modifier } }
}

const trees = new Map()

/** The `declare_commands` packet of a version. */
export function commandTree (name) {
  if (!trees.has(name)) trees.set(name, pack((minecraftData(name).commands ?? { root: SMALL }).root))
  return trees.get(name)
}

/** The names right below the root, sorted. */
export function commandNames ({ nodes, rootIndex }) {
  return nodes[rootIndex].children.map(child => nodes[child].extraNodeData.name).sort()
}

/** Nodes in the order in which the game numbers them: breadth first, the root first. */
function pack (root) {
  const order = [root]
  for (const node of order) order.push(...node.children)
  const index = new Map(order.map((node, at) => [node, at]))
  const target = ([name]) => name === undefined ? undefined : index.get(root.children.find(child => child.name === name) ?? root)
  return { nodes: order.map(node => encode(node, node.children.map(child => index.get(child)), target(node.redirects ?? []))), rootIndex: 0 }
}

function encode (node, children, redirectNode) {
  const kind = { literal: LITERAL, argument: ARGUMENT }[node.type] ?? ROOT
  const flags = {
    unused: 0,
    allows_restricted: 0,
    has_custom_suggestions: 0,
    has_redirect_node: redirectNode === undefined ? 0 : 1,
    has_command: node.executable ? 1 : 0,
    command_node_type: kind
  }
  const encoded = { flags, children, redirectNode, extraNodeData: kind === ROOT ? undefined : { name: node.name } }
  if (kind === ARGUMENT) Object.assign(encoded.extraNodeData, parserOf(node.parser), { suggestionType: undefined })
  return encoded
}

/** A parser with its properties; those whose form changed over the versions are sent as a word. */
function parserOf ({ parser, modifier }) {
  if (NUMBERS.includes(parser)) {
    const { min, max } = modifier ?? {}
    return { parser, properties: { flags: { unused: 0, max_present: max === undefined ? 0 : 1, min_present: min === undefined ? 0 : 1 }, min, max } }
  }
  switch (parser) {
    case 'brigadier:string': return { parser, properties: STRINGS[modifier?.type ?? 'word'] }
    case 'minecraft:entity': return { parser, properties: { unused: 0, onlyAllowPlayers: modifier?.type === 'players' ? 1 : 0, onlyAllowEntities: modifier?.amount === 'single' ? 1 : 0 } }
    case 'brigadier:bool': case 'minecraft:message': case 'minecraft:block_pos': case 'minecraft:vec3': case 'minecraft:vec2': case 'minecraft:block_state':
    case 'minecraft:item_stack': case 'minecraft:component': case 'minecraft:nbt_path': case 'minecraft:objective': case 'minecraft:team': case 'minecraft:function':
      return { parser }
    default: return { parser: 'brigadier:string', properties: 'SINGLE_WORD' }
  }
}
