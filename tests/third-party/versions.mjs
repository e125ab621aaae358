// The game versions that are driven, with the protocol number each of them announces. One release per protocol is enough;
// the list holds both sides of every change in the login, and the newest one that minecraft-protocol knows.

export const VERSIONS = [
  ['1.7.10', 5],
  ['1.8.8', 47],
  ['1.12.2', 340],
  ['1.13.2', 404],
  ['1.16.5', 754],
  ['1.18.2', 758],
  ['1.19', 759],
  ['1.19.2', 760],
  ['1.19.3', 761],
  ['1.19.4', 762],
  ['1.20.1', 763],
  ['1.20.2', 764],
  ['1.20.4', 765],
  ['1.20.6', 766],
  ['1.21.1', 767],
  ['1.21.4', 769],
  ['1.21.5', 770],
  ['1.21.6', 771],
  ['1.21.8', 772],
  ['1.21.9', 773],
  ['1.21.11', 774],
  ['26.1', 775]
].map(([name, protocol]) => ({ name, protocol }))

/** First protocol with frame compression. */
export const COMPRESSION = 47
/** First protocol with login plugin messages, and so with modern forwarding. */
export const LOGIN_PLUGIN = 393
/** First protocol whose login success carries properties. */
export const SUCCESS_PROPERTIES = 759
/** The one protocol whose players' keys are bound to nobody. */
export const KEY_WITHOUT_OWNER = 759
/** First protocol whose login start can carry the player's id. */
export const CLAIMED_ID = 760
/** First protocol to which modern forwarding may answer with version 4. */
export const LAZY_SESSION = 761
/** First protocol whose servers can have several packets taken as one. */
export const BUNDLES = 762
/** First protocol with a configuration state. */
export const CONFIGURATION = 764
/** First protocol whose disconnect texts are NBT outside the login state. */
export const NBT_TEXT = 765
/** First protocol that can be asked to encrypt without asking the session server. */
export const AUTHENTICATE_FLAG = 766
/** First protocol with cookies. */
export const COOKIES = 766

/** First protocol whose servers tell the client their commands. */
export const COMMAND_TREE = 393
/** First protocol whose keep-alives are 64 bits wide. */
export const WIDE_KEEP_ALIVE = 340
/** First protocol whose client confirms that it was moved. */
export const TELEPORT_CONFIRM = 107
/** First protocol whose chat lines name their sender. */
export const CHAT_SENDER = 735
/** First protocol with an action bar packet of its own; from 315 on it is one of the title's before. */
export const ACTION_BAR = 755
/** First protocol with ping and pong in play. */
export const PING = 755
/** First protocol in which players' words and commands have packets of their own, which can be signed. */
export const SIGNED_CHAT = 759
/** First protocol whose clients sign by a session and count what they have seen. */
export const CHAT_SESSION = 761
/** First protocol in which the servers pick what the client has of their data already. */
export const KNOWN_PACKS = 766
/** First protocol in which a command without signed words has a packet of its own. */
export const BARE_COMMAND = 766
/** First protocol whose player chat can carry a chat type of its own. */
export const CHAT_TYPE_HOLDER = 767
/** First protocol whose client says that its world is loaded. */
export const PLAYER_LOADED = 769
/** First protocol with a checksum over what was seen. */
export const CHAT_CHECKSUM = 770
/** First protocol with dialogs. */
export const DIALOGS = 771

/** First protocol whose servers can have the player accept a code of conduct. */
export const CONDUCT = 773

/** The version called `name`. */
export function named (name) {
  return VERSIONS.find(version => version.name === name)
}

/** The name of the version that speaks `protocol`. */
export function versionOf (protocol) {
  return VERSIONS.find(version => version.protocol === protocol)?.name
}
