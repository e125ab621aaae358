#!/usr/bin/env python3
"""Packets of the protocols in PROTOCOLS, encoded from a description of their layouts.

A second opinion on the bytes: it shares no code with src/ and none with minecraft-protocol, against which
make.mjs compares every line it can. Prints a JSON array of fixtures, see README.md for their shape.
"""

import hashlib
import json
import os
import struct
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))

# Both sides of every change of layout or of packet ids in what is encoded here.
PROTOCOLS = [
    4, 5, 47, 107, 210, 315, 340, 393, 404, 573, 578, 735, 736, 754, 755, 756, 757, 758, 759, 760, 761, 762, 763,
    764, 765, 766, 767, 768, 769, 770, 771, 772, 773, 774, 775, 776, 777,
]  # fmt: skip

with open(os.path.join(HERE, "ids.json"), encoding="utf-8") as file:
    IDS = json.load(file)

# --- Values -----------------------------------------------------------------------------------------------


def varint(value):
    value &= 0xFFFFFFFF
    out = bytearray()
    while True:
        low, value = value & 0x7F, value >> 7
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def boolean(value):
    assert value is True or value is False
    return b"\x01" if value else b"\x00"


def i8(value):
    return struct.pack(">b", value)


def u8(value):
    return struct.pack(">B", value)


def u16(value):
    return struct.pack(">H", value)


def i32(value):
    return struct.pack(">i", int(value))


def i64(value):
    return struct.pack(">q", int(value))


def string(value):
    raw = value.encode("utf-8")
    return varint(len(raw)) + raw


def uuid_bytes(value):
    return uuid.UUID(value).bytes


def array(value):
    """Bytes behind a VarInt length."""
    return varint(len(bytes.fromhex(value))) + bytes.fromhex(value)


def short_array(value):
    """Bytes behind a 16-bit length, as protocols 4 and 5 have them."""
    raw = bytes.fromhex(value)
    return struct.pack(">h", len(raw)) + raw


def optional(value, encode):
    return boolean(False) if value is None else boolean(True) + encode(value)


def listed(values, encode):
    return varint(len(values)) + b"".join(encode(value) for value in values)


def fixed(value, length):
    raw = bytes.fromhex(value)
    assert len(raw) == length
    return raw


def modified_utf8(text):
    """The UTF-8 of NBT: NUL takes two bytes, and what lies beyond the BMP is two surrogates of three bytes each."""
    out = bytearray()
    units = struct.unpack(f">{len(text.encode('utf-16-be')) // 2}H", text.encode("utf-16-be"))
    for unit in units:
        if 0x01 <= unit <= 0x7F:
            out.append(unit)
        elif unit <= 0x7FF:
            out += bytes([0xC0 | unit >> 6, 0x80 | unit & 0x3F])
        else:
            out += bytes([0xE0 | unit >> 12, 0x80 | unit >> 6 & 0x3F, 0x80 | unit & 0x3F])
    return bytes(out)


def nbt_string(text):
    raw = modified_utf8(text)
    return u16(len(raw)) + raw


def nbt_payload(value):
    """A tag's type and payload. Compounds keep the order their keys were inserted in."""
    if isinstance(value, str):
        return 0x08, nbt_string(value)
    if isinstance(value, bool):
        return 0x01, boolean(value)
    if isinstance(value, int):
        return 0x03, i32(value)
    if isinstance(value, list):
        items = [nbt_payload(item) for item in value]
        assert all(tag == items[0][0] for tag, _ in items)
        return 0x09, bytes([items[0][0]]) + i32(len(items)) + b"".join(payload for _, payload in items)
    out = b""
    for key, inner in value.items():
        tag, payload = nbt_payload(inner)
        out += bytes([tag]) + nbt_string(key) + payload
    return 0x0A, out + b"\x00"


def nbt(value):
    """A tag on the network since protocol 764: its root has no name."""
    tag, payload = nbt_payload(value)
    return bytes([tag]) + payload


def json_text(component):
    return string(json.dumps(component, ensure_ascii=False, separators=(",", ":")))


def text(protocol, component):
    """A text component outside the login state."""
    return json_text(component) if protocol <= 764 else nbt(component)


# --- Bodies -----------------------------------------------------------------------------------------------


def intention(p, f):
    return varint(f["protocol"]) + string(f["host"]) + u16(f["port"]) + varint(f["intent"])


def login_start(p, f):
    out = string(f["name"])
    if p in (759, 760):
        out += optional(f["key"], lambda k: i64(k["expiry"]) + array(k["public_key"]) + array(k["signature"]))
    if 760 <= p <= 763:
        out += optional(f["uuid"], uuid_bytes)
    if p >= 764:
        out += uuid_bytes(f["uuid"])
    return out


def encryption_request(p, f):
    sized = short_array if p <= 5 else array
    out = string(f["server_id"]) + sized(f["public_key"]) + sized(f["verify_token"])
    if p >= 766:
        out += boolean(f["should_authenticate"])
    return out


def encryption_response(p, f):
    sized = short_array if p <= 5 else array
    out = sized(f["shared_secret"])
    if p not in (759, 760):
        return out + sized(f["verify_token"])
    if "verify_token" in f:
        return out + boolean(True) + array(f["verify_token"])
    return out + boolean(False) + i64(f["salt"]) + array(f["signature"])


def property_(value):
    return string(value["name"]) + string(value["value"]) + optional(value["signature"], string)


def login_success(p, f):
    if p == 4:
        out = string(f["uuid"].replace("-", ""))
    elif p <= 578:
        out = string(f["uuid"])
    else:
        out = uuid_bytes(f["uuid"])
    out += string(f["name"])
    if p >= 759:
        out += listed(f["properties"], property_)
    if p in (766, 767):
        out += boolean(f["strict_error_handling"])
    if p >= 776:
        out += uuid_bytes(f["session_id"])
    return out


def login_plugin_request(p, f):
    return varint(f["message_id"]) + string(f["channel"]) + bytes.fromhex(f["data"])


def login_plugin_response(p, f):
    return varint(f["message_id"]) + optional(f["data"], bytes.fromhex)


def cookie_response(p, f):
    return string(f["key"]) + optional(f["payload"], array)


def plugin_message(p, f):
    return string(f["channel"]) + (short_array(f["data"]) if p <= 5 else bytes.fromhex(f["data"]))


def keep_alive(p, f):
    if p <= 5:
        return i32(f["id"])
    return varint(int(f["id"])) if p <= 338 else i64(f["id"])


def chat_message_clientbound(p, f):
    out = json_text(f["message"])
    if p >= 47:
        out += i8(f["position"])
    if p >= 735:
        out += uuid_bytes(f["sender"])
    return out


def system_chat(p, f):
    return text(p, f["content"]) + (varint(f["type"]) if p == 759 else boolean(f["overlay"]))


def component(p):
    return lambda value: text(p, value)


def chat_type(p, value):
    """A chat type: its number; since 767 that plus one, or 0 and the type itself."""
    if isinstance(value, int):
        return varint(value if p <= 766 else value + 1)

    def part(f):
        return string(f["translation_key"]) + listed(f["parameters"], varint) + nbt(f["style"])

    return varint(0) + part(value["chat"]) + part(value["narration"])


def disguised_chat(p, f):
    shown = chat_type(p, f["type"]) + text(p, f["name"]) + optional(f["target"], component(p))
    return text(p, f["message"]) + shown


def filter_mask(p, hidden):
    """The characters with these numbers: a set of bits in 64-bit words, since 777 in bytes."""
    bits = sum(1 << at for at in hidden)
    if p >= 777:
        raw = bits.to_bytes((bits.bit_length() + 7) // 8, "little")
        return varint(len(raw)) + raw
    words = [bits >> at & 0xFFFFFFFFFFFFFFFF for at in range(0, bits.bit_length(), 64)]
    return listed(words, lambda word: struct.pack(">Q", word))


def early_player_chat(p, f):
    if p == 759:
        out = text(p, f["content"]) + optional(f["unsigned"], component(p)) + chat_type(p, f["type"])
        out += uuid_bytes(f["sender"]) + text(p, f["name"]) + optional(f["team"], component(p))
        return out + i64(f["timestamp"]) + i64(f["salt"]) + array(f["signature"])
    out = optional(f["previous"], array) + uuid_bytes(f["sender"]) + array(f["signature"])
    out += string(f["message"]) + optional(f["formatted"], component(p)) + i64(f["timestamp"]) + i64(f["salt"])
    out += listed(f["last_seen"], seen) + optional(f["unsigned"], component(p)) + varint(0)
    return out + chat_type(p, f["type"]) + text(p, f["name"]) + optional(f["target"], component(p))


def player_chat_header(p, f):
    """760 alone: a line without its words."""
    body = i64(f["salt"]) + i64(int(f["timestamp"]) // 1000) + f["message"].encode("utf-8") + b"F"
    for entry in f["last_seen"]:
        body += b"F" + uuid_bytes(entry["sender"]) + bytes.fromhex(entry["signature"])
    hashed = hashlib.sha256(body).hexdigest()
    return optional(f["previous"], array) + uuid_bytes(f["sender"]) + array(f["signature"]) + array(hashed)


def player_chat(p, f):
    if p <= 760:
        return early_player_chat(p, f)
    out = varint(f["global_index"]) if p >= 770 else b""
    out += uuid_bytes(f["sender"]) + varint(f["index"]) + optional(f["signature"], lambda s: fixed(s, 256))
    out += string(f["message"]) + i64(f["timestamp"]) + i64(f["salt"])
    # The number of one of the lines that both remember, plus one; or 0 and the signature.
    out += listed(f["seen"], lambda s: varint(s + 1) if isinstance(s, int) else varint(0) + fixed(s, 256))
    out += optional(f["unsigned"], component(p))
    filtered = {"nothing": 0, "all": 1}.get(f["filter"]) if isinstance(f["filter"], str) else 2
    out += varint(filtered) + (filter_mask(p, f["filter"]) if filtered == 2 else b"")
    return out + chat_type(p, f["type"]) + text(p, f["name"]) + optional(f["target"], component(p))


def seen(entry):
    return uuid_bytes(entry["sender"]) + array(entry["signature"])


def last_seen(f):
    return listed(f["last_seen"], seen) + optional(f["last_received"], seen)


def acknowledged(p, f):
    out = varint(f["message_count"]) + fixed(f["acknowledged"], 3)
    return out + u8(f["checksum"]) if p >= 770 else out


def chat_message_serverbound(p, f):
    out = string(f["message"])
    if p <= 758:
        return out
    out += i64(f["timestamp"]) + i64(f["salt"])
    if p <= 760:
        out += array(f["signature"]) + boolean(f["signed_preview"])
        return out + last_seen(f) if p == 760 else out
    return out + optional(f["signature"], lambda s: fixed(s, 256)) + acknowledged(p, f)


def signed_command(p, f):
    out = string(f["command"]) + i64(f["timestamp"]) + i64(f["salt"])
    signature = array if p <= 760 else lambda s: fixed(s, 256)
    out += listed(f["arguments"], lambda a: string(a["name"]) + signature(a["signature"]))
    if p <= 760:
        out += boolean(f["signed_preview"])
        return out + last_seen(f) if p == 760 else out
    return out + acknowledged(p, f)


def chat_command(p, f):
    return string(f["command"]) if p >= 766 else signed_command(p, f)


def chat_ack(p, f):
    return last_seen(f) if p == 760 else varint(f["message_count"])


def chat_session_update(p, f):
    return uuid_bytes(f["session"]) + i64(f["expiry"]) + array(f["public_key"]) + array(f["signature"])


def command_suggestions_request(p, f):
    if p >= 393:
        return varint(f["transaction"]) + string(f["text"])
    out = string(f["text"])
    if p >= 107:
        out += boolean(f["assume_command"])
    if p >= 47:
        out += optional(f["position"], i64)
    return out


def client_information(p, f):
    out = string(f["locale"]) + i8(f["view_distance"])
    if p <= 47:
        out += i8(f["chat_mode"]) + boolean(f["chat_colors"])
        if p <= 5:
            return out + u8(f["difficulty"]) + boolean(f["show_cape"])
        return out + u8(f["skin_parts"])
    out += varint(f["chat_mode"]) + boolean(f["chat_colors"]) + u8(f["skin_parts"]) + varint(f["main_hand"])
    if p >= 755:
        out += boolean(f["text_filtering"])
    if p >= 757:
        out += boolean(f["allow_listing"])
    if p >= 768:
        out += varint(f["particles"])
    return out


def known_pack(value):
    return string(value["namespace"]) + string(value["id"]) + string(value["version"])


def custom_click_action(p, f):
    """The payload is a tag inside a length, and the lone byte 0 when there is none."""
    payload = b"\x00" if f["payload"] is None else nbt(f["payload"])
    return string(f["id"]) + varint(len(payload)) + payload


BODIES = {
    "intention": intention,
    "status_response": lambda p, f: string(f["json"]),
    "ping_request": lambda p, f: i64(f["payload"]),
    "pong_response": lambda p, f: i64(f["payload"]),
    "login_start": login_start,
    "encryption_request": encryption_request,
    "encryption_response": encryption_response,
    "login_success": login_success,
    "set_compression": lambda p, f: varint(f["threshold"]),
    "login_plugin_request": login_plugin_request,
    "login_plugin_response": login_plugin_response,
    "cookie_request": lambda p, f: string(f["key"]),
    "cookie_response": cookie_response,
    "store_cookie": lambda p, f: string(f["key"]) + array(f["payload"]),
    "transfer": lambda p, f: string(f["host"]) + varint(f["port"]),
    "plugin_message": plugin_message,
    "keep_alive": keep_alive,
    "ping": lambda p, f: i32(f["id"]),
    "pong": lambda p, f: i32(f["id"]),
    "system_chat": system_chat,
    "player_chat": player_chat,
    "player_chat_header": player_chat_header,
    "disguised_chat": disguised_chat,
    "title_legacy": lambda p, f: varint(f["action"]) + json_text(f["text"]),
    "set_action_bar_text": lambda p, f: text(p, f["text"]),
    "chat_command": chat_command,
    "chat_command_signed": signed_command,
    "chat_ack": chat_ack,
    "chat_session_update": chat_session_update,
    "command_suggestions_request": command_suggestions_request,
    "client_information": client_information,
    "select_known_packs": lambda p, f: listed(f["packs"], known_pack),
    "custom_click_action": custom_click_action,
}

EMPTY = {
    "status_request",
    "login_acknowledged",
    "finish_configuration",
    "acknowledge_finish_configuration",
    "start_configuration",
    "configuration_acknowledged",
    "clear_dialog",
}


def packet_id(state, direction, packet, protocol):
    for first, last, number in IDS[state][direction].get(packet, []):
        if first <= protocol <= last:
            return number
    return None


def body(state, direction, packet, protocol, fields):
    if packet in EMPTY:
        assert fields == {}
        return b""
    if packet == "disconnect":
        # The login state speaks JSON in every protocol, the others only up to 764.
        return json_text(fields["reason"]) if state == "login" else text(protocol, fields["reason"])
    if packet == "chat_message":
        return (chat_message_clientbound if direction == "clientbound" else chat_message_serverbound)(protocol, fields)
    if packet == "show_dialog":
        # In play a dialog may also come from the registry: 0 says that it is written out here.
        return (varint(0) if state == "play" else b"") + nbt(fields["dialog"])
    return BODIES[packet](protocol, fields)


# --- Cases ------------------------------------------------------------------------------------------------

# An RSA-1024 key as X.509 DER, 162 bytes: what a server sends. Its private half was thrown away.
PUBLIC_KEY = "30819f300d06092a864886f70d010101050003818d0030818902818100ef62913a3bfdfce14fc61fcc67be588a3bb889fb3136871a6a020aa69a8e3f4c99a8f75eb279bee8ab5ee9111df71804cfb776dab6964a1bf9d305d66e3690ed571077ebb0d4489abeb54f1e26313233e05935c11606f2a4c68a65090edf57b00ef85d8ba6ca120f244fa100affade0c2c2f626d7c4b68cf3f8556875462773f0203010001"


def noise(length, seed):
    """Bytes that look random and are the same every time."""
    state, out = seed & 0x7FFFFFFF | 1, bytearray()
    for _ in range(length):
        state = state * 48271 % 0x7FFFFFFF
        out.append(state >> 7 & 0xFF)
    return out.hex()


PLAYER = "069a79f4-44e9-4726-a5be-fca90e38aaf5"
OTHER = "f7c77d99-9f15-4a66-a87d-c4a51ef30d19"
# Bits set at both ends: shows a sign or an order of bytes that went wrong.
EDGE = "80000000-0000-4000-bfff-ffffffffffff"
NOBODY = "00000000-0000-0000-0000-000000000000"
TEXTURES = {"name": "textures", "value": "eyJ0aW1lc3RhbXAiOjE3MDAwMDAwMDAwMDB9", "signature": "c2lnbmF0dXJl" * 4}
UNSIGNED = {"name": "extraData", "value": "\u0001FORGE", "signature": None}
RED = {"text": "Not today.", "color": "red"}
# Quotes, a line break, what JSON must escape, UTF-8 of two and three bytes.
HARD = {"text": 'Say "hi" \\ \u00a7c\u00e4\u20ac\n', "color": "#12abEF"}
# Written by NBT in another UTF-8 than by JSON.
ASTRAL = {"text": "\U0001f512 locked", "color": "red"}
PLAIN = "Bye."
STATUS = (
    '{"version":{"name":"1.21","protocol":767},"players":{"max":20,"online":1,"sample":[]},'
    '"description":{"text":"Gr\u00fc\u00dfe \U0001f512"},"favicon":"data:image/png;base64,AAAA"}'
)


def intention_cases(p):
    def intent(number, host="play.example.org", port=25565):
        return {"protocol": p, "host": host, "port": port, "intent": number}

    yield "status", intent(1)
    yield "login", intent(2)
    yield "transfer", intent(3)
    if p <= 340:
        yield "login_forge", intent(2, "play.example.org\0FML\0")
    elif p <= 756:
        yield "login_forge", intent(2, "play.example.org\0FML2\0")
    elif p <= 763:
        yield "login_forge", intent(2, "play.example.org\0FML3\0")
    else:
        yield "login_forge", intent(2, "play.example.org\0FORGE")
    yield "longest_host", intent(2, "h" * 255, 65535)


def login_start_cases(p):
    key = {"expiry": "1700000000123", "public_key": noise(294, 1), "signature": noise(512, 2)}
    if p <= 758:
        yield "name", {"name": "Notch"}
        yield "longest_name", {"name": "A_16_chars_name_"}
    elif p == 759:
        yield "no_key", {"name": "Notch", "key": None}
        yield "key", {"name": "Notch", "key": key}
    elif p == 760:
        yield "no_key_no_uuid", {"name": "Notch", "key": None, "uuid": None}
        yield "no_key_uuid", {"name": "Notch", "key": None, "uuid": PLAYER}
        yield "key_no_uuid", {"name": "Notch", "key": key, "uuid": None}
        yield "key_uuid", {"name": "Notch", "key": key, "uuid": PLAYER}
    elif p <= 763:
        yield "no_uuid", {"name": "Notch", "uuid": None}
        yield "uuid", {"name": "Notch", "uuid": PLAYER}
    else:
        yield "uuid", {"name": "Notch", "uuid": PLAYER}
        yield "longest_name", {"name": "A_16_chars_name_", "uuid": EDGE}


def encryption_request_cases(p):
    fields = {"server_id": "", "public_key": PUBLIC_KEY, "verify_token": "00ff8a7f"}
    if p <= 765:
        yield "empty_server_id", fields
        yield "server_id", fields | {"server_id": "-1a2b3c4d5e6f7a8b9c0"}
    else:
        yield "authenticate", fields | {"should_authenticate": True}
        yield "encrypt_only", fields | {"should_authenticate": False}


def encryption_response_cases(p):
    secret = noise(128, 3)
    yield "token", {"shared_secret": secret, "verify_token": noise(128, 4)}
    if p in (759, 760):
        yield "signature", {"shared_secret": secret, "salt": "-6148914691236517205", "signature": noise(256, 5)}


def login_success_cases(p):
    base = {"uuid": PLAYER, "name": "Notch"}
    late = {}
    if p in (766, 767):
        late = {"strict_error_handling": True}
    if p >= 776:
        late = {"session_id": OTHER}
    if p <= 758:
        yield "plain", base
        yield "edge_uuid", base | {"uuid": EDGE}
        return
    yield "no_properties", base | {"properties": []} | late
    yield "signed_and_unsigned", base | {"properties": [TEXTURES, UNSIGNED]} | late
    yield "unsigned_only", base | {"uuid": EDGE, "properties": [UNSIGNED]} | late
    if p in (766, 767):
        yield "lenient", base | {"properties": [], "strict_error_handling": False}


def cookie_response_cases(p):
    yield "absent", {"key": "postern:ticket", "payload": None}
    yield "empty", {"key": "postern:ticket", "payload": ""}
    yield "present", {"key": "postern:ticket", "payload": noise(200, 6)}


def reason_cases(p):
    yield "coloured", {"reason": RED}
    yield "hard_characters", {"reason": HARD}
    yield "beyond_bmp", {"reason": ASTRAL}
    yield "bare_string", {"reason": PLAIN}


def plugin_cases(p):
    brand = "MC|Brand" if p <= 340 else "minecraft:brand"
    yield "brand", {"channel": brand, "data": "0776616e696c6c61"}
    yield "bungeecord_old", {"channel": "BungeeCord", "data": "0007436f6e6e65637400056c6f626279"}
    yield "empty", {"channel": "FML" if p <= 340 else "fml:handshake", "data": ""}
    if p >= 393:
        yield "bungeecord", {"channel": "bungeecord:main", "data": "0007436f6e6e65637400056c6f626279"}
        yield "velocity", {"channel": "velocity:player_info", "data": "04"}


def keep_alive_cases(p):
    yield "small", {"id": "1"}
    yield "large", {"id": "2147483647" if p <= 338 else "1700000000123"}
    yield "negative", {"id": "-2" if p <= 338 else "-9223372036854775807"}


def chat_clientbound_cases(p):
    for case, position, message in (("chat", 0, RED), ("system", 1, HARD), ("action_bar", 2, RED)):
        fields = {"message": message}
        if p >= 47:
            fields["position"] = position
        if p >= 735:
            fields["sender"] = NOBODY if position else PLAYER
        yield case, fields


def system_chat_cases(p):
    if p == 759:
        yield "system", {"content": RED, "type": 1}
        yield "action_bar", {"content": HARD, "type": 2}
        return
    yield "system", {"content": RED, "overlay": False}
    yield "action_bar", {"content": HARD, "overlay": True}
    yield "beyond_bmp", {"content": ASTRAL, "overlay": False}
    yield "bare_string", {"content": PLAIN, "overlay": False}


SEEN = [{"sender": PLAYER, "signature": noise(256, 7)}]
LONG = noise(256, 8)


def with_state(p, fields, signed):
    """What goes with a chat message or a signed command: when, how salted, and what was seen before."""
    fields = fields | {"timestamp": "1700000000123", "salt": "-42" if signed else "0"}
    if p <= 760:
        fields["signed_preview"] = False
        if p == 760:
            fields["last_seen"] = SEEN if signed else []
            fields["last_received"] = SEEN[0] if signed else None
        return fields
    fields["message_count"] = 3 if signed else 0
    fields["acknowledged"] = "070008" if signed else "000000"
    if p >= 770:
        fields["checksum"] = 200 if signed else 0
    return fields


def chat_serverbound_cases(p):
    if p <= 758:
        yield "command", {"message": "/pin 4821"}
        yield "message", {"message": "Gr\u00fc\u00dfe \U0001f512"}
        return
    unsigned = "" if p <= 760 else None
    yield "unsigned", with_state(p, {"message": "Gr\u00fc\u00dfe", "signature": unsigned}, False)
    yield "signed", with_state(p, {"message": "hello", "signature": LONG}, True)


def chat_command_cases(p):
    if p >= 766:
        yield "command", {"command": "pin 4821"}
        return
    yield from signed_command_cases(p)


def signed_command_cases(p):
    yield "no_arguments", with_state(p, {"command": "pin 4821", "arguments": []}, False)
    arguments = [{"name": "message", "signature": LONG}]
    yield "signed_argument", with_state(p, {"command": "me waves", "arguments": arguments}, True)


def chat_ack_cases(p):
    if p == 760:
        yield "nothing", {"last_seen": [], "last_received": None}
        yield "seen", {"last_seen": SEEN, "last_received": SEEN[0]}
    else:
        yield "count", {"message_count": 300}


def suggestion_cases(p):
    fields = {"text": "/pin 48"}
    if p >= 393:
        yield "pin", fields | {"transaction": 7}
        return
    if p >= 107:
        fields["assume_command"] = False
    yield "pin", fields | ({"position": None} if p >= 47 else {})
    if p >= 47:
        # x 8, y 64, z 1 in the 26, 12, 26 bits of those protocols.
        yield "looking_at_block", fields | {"position": str(8 << 38 | 64 << 26 | 1)}


def client_information_cases(p):
    fields = {"locale": "en_GB", "view_distance": 12, "chat_mode": 0, "chat_colors": True}
    if p <= 5:
        fields |= {"difficulty": 2, "show_cape": True}
    else:
        fields |= {"skin_parts": 127}
    if p >= 107:
        fields |= {"main_hand": 1}
    if p >= 755:
        fields |= {"text_filtering": False}
    if p >= 757:
        fields |= {"allow_listing": True}
    if p >= 768:
        fields |= {"particles": 2}
    yield "usual", fields


def player_chat_cases(p):
    if p <= 760:
        said = {"sender": PLAYER, "timestamp": "1700000000123", "salt": "-42", "signature": LONG, "type": 0}
        said |= {"name": {"text": "Notch"}, "unsigned": None}
        if p == 759:
            yield "signed", said | {"content": {"text": "hello"}, "team": None}
            return
        said |= {"message": "Gr\u00fc\u00dfe", "formatted": None, "previous": None, "last_seen": [], "target": None}
        yield "signed", said
        chained = said | {"previous": LONG, "last_seen": SEEN * 2, "unsigned": RED, "target": RED}
        yield "chained", chained
        yield "decorated", chained | {"formatted": RED}
        yield "unsigned", said | {"signature": ""}
        return
    fields = {"global_index": 300} if p >= 770 else {}
    fields |= {"sender": PLAYER, "index": 7, "signature": None, "message": "Gr\u00fc\u00dfe <all>"}
    fields |= {"timestamp": "1700000000123", "salt": "-42", "seen": [], "unsigned": None, "filter": "nothing"}
    fields |= {"type": 0, "name": {"text": "Notch", "color": "gold"}, "target": None}
    yield "unsigned", fields
    signed = fields | {"signature": LONG, "seen": [noise(256, 14), 0, 19]}
    yield "signed", signed
    yield "decorated", signed | {"unsigned": RED, "type": 2, "target": {"text": "jeb_", "color": "red"}}
    yield "partly_hidden", signed | {"unsigned": RED, "filter": [0, 3, 9]}
    # Beyond the first 64 characters.
    yield "hidden_far", signed | {"message": "x" * 70 + " \U0001f512", "filter": [1, 64, 69, 70, 71, 72]}
    yield "all_hidden", signed | {"filter": "all"}
    if p >= 767:
        part = {"translation_key": "chat.type.text", "parameters": [0, 2], "style": {"color": "red"}}
        yield "type_inside", signed | {"type": {"chat": part, "narration": part | {"parameters": []}}}


def player_chat_header_cases(p):
    """Of the lines that have one."""
    return [(case, fields) for case, fields in player_chat_cases(p) if case in ("signed", "chained")]


def disguised_chat_cases(p):
    gold = {"text": "Notch", "color": "gold"}
    yield "no_target", {"message": {"text": "Hello."}, "type": 0, "name": gold, "target": None}
    yield "target", {"message": RED, "type": 2, "name": gold, "target": RED}


def title_cases(p):
    if p >= 315:
        yield "action_bar", {"action": 2, "text": RED}


DIALOG = {"type": "minecraft:notice", "title": RED}


def button(label, action):
    return {"label": label, "action": {"type": "minecraft:dynamic/custom", "id": action}}


# What Postern asks in an outage.
PIN_DIALOG = {
    "type": "minecraft:confirmation",
    "title": {"text": "Who are you?", "color": "gold"},
    "can_close_with_escape": False,
    "pause": False,
    "after_action": "close",
    "body": [
        {"type": "minecraft:plain_message", "contents": {"text": "60 seconds left, 2 tries. \u00a7\u00e4\u20ac"}, "width": 300},
        {"type": "minecraft:plain_message", "contents": RED, "width": 300},
    ],
    "inputs": [{"type": "minecraft:text", "key": "pin", "label": {"text": "PIN"}, "max_length": 32}],
    "yes": button({"text": "Enter"}, "postern:pin"),
    "no": button({"text": "Leave"}, "postern:leave"),
}


def cases():
    """Every (state, direction, packet) with the function or the list its cases come from."""
    key = "postern:ticket"
    info = "velocity:player_info"
    update = {"session": OTHER, "expiry": "1700000000123", "public_key": noise(140, 9), "signature": noise(140, 10)}
    cookie = ("cookie_request", [("key", {"key": key})])
    transfer = [("host", {"host": "eu.example.org", "port": 25566})]
    store = [("ticket", {"key": key, "payload": noise(200, 11)}), ("empty", {"key": key, "payload": ""})]
    ids = [("positive", {"id": 77}), ("negative", {"id": -2})]
    packs = [("core", {"packs": [{"namespace": "minecraft", "id": "core", "version": "1.21"}]}), ("none", {"packs": []})]
    click = [
        ("inputs", {"id": "postern:pin", "payload": {"pin": "4821"}}),
        ("none", {"id": "postern:pin", "payload": None}),
        ("leave", {"id": "postern:leave", "payload": {"pin": ""}}),
        ("foreign", {"id": "minecraft:warp", "payload": {"where": "spawn", "more": [{"a": 1}, {"b": True}]}}),
    ]
    dialog = [("notice", {"dialog": DIALOG}), ("pin", {"dialog": PIN_DIALOG})]
    empty = [("empty", {})]
    common_in = [
        ("plugin_message", plugin_cases),
        ("keep_alive", keep_alive_cases),
        ("cookie_response", cookie_response_cases),
        ("client_information", client_information_cases),
        ("pong", ids),
        ("custom_click_action", click),
    ]
    common_out = [
        ("plugin_message", plugin_cases),
        ("keep_alive", keep_alive_cases),
        cookie,
        ("store_cookie", store),
        ("transfer", transfer),
        ("ping", ids),
        ("show_dialog", dialog),
        ("clear_dialog", empty),
    ]
    return {
        ("handshake", "serverbound"): [("intention", intention_cases)],
        ("status", "serverbound"): [
            ("status_request", empty),
            ("ping_request", [("positive", {"payload": "1700000000123"}), ("negative", {"payload": "-2"})]),
        ],
        ("status", "clientbound"): [
            ("status_response", [("full", {"json": STATUS})]),
            ("pong_response", [("positive", {"payload": "1700000000123"})]),
        ],
        ("login", "serverbound"): [
            ("login_start", login_start_cases),
            ("encryption_response", encryption_response_cases),
            (
                "login_plugin_response",
                [
                    ("not_understood", {"message_id": 0, "data": None}),
                    ("understood", {"message_id": 300, "data": noise(60, 12)}),
                    ("understood_empty", {"message_id": -1, "data": ""}),
                ],
            ),
            ("login_acknowledged", empty),
            ("cookie_response", cookie_response_cases),
        ],
        ("login", "clientbound"): [
            ("disconnect", reason_cases),
            ("encryption_request", encryption_request_cases),
            ("login_success", login_success_cases),
            ("set_compression", [(n, {"threshold": t}) for n, t in (("usual", 256), ("all", 0), ("off", -1))]),
            (
                "login_plugin_request",
                [
                    ("version_4", {"message_id": 0, "channel": info, "data": "04"}),
                    ("no_data", {"message_id": 300, "channel": info, "data": ""}),
                    ("other_channel", {"message_id": -1, "channel": "fml:loginwrapper", "data": noise(20, 13)}),
                ],
            ),
            cookie,
        ],
        ("configuration", "serverbound"): common_in
        + [("acknowledge_finish_configuration", empty), ("select_known_packs", packs)],
        ("configuration", "clientbound"): common_out
        + [
            ("disconnect", reason_cases),
            ("finish_configuration", empty),
            ("select_known_packs", packs),
        ],
        ("play", "serverbound"): common_in
        + [
            ("configuration_acknowledged", empty),
            ("chat_message", chat_serverbound_cases),
            ("chat_command", chat_command_cases),
            ("chat_command_signed", signed_command_cases),
            ("chat_ack", chat_ack_cases),
            ("chat_session_update", [("update", update)]),
            ("command_suggestions_request", suggestion_cases),
        ],
        ("play", "clientbound"): common_out
        + [
            ("disconnect", reason_cases),
            ("chat_message", chat_clientbound_cases),
            ("system_chat", system_chat_cases),
            ("player_chat", player_chat_cases),
            ("player_chat_header", player_chat_header_cases),
            ("disguised_chat", disguised_chat_cases),
            ("title_legacy", title_cases),
            ("set_action_bar_text", [("coloured", {"text": RED})]),
            ("start_configuration", empty),
        ],
    }


def fixtures():
    for protocol in PROTOCOLS:
        for (state, direction), packets in cases().items():
            for packet, source in packets:
                number = packet_id(state, direction, packet, protocol)
                if number is None:
                    continue
                for case, fields in source(protocol) if callable(source) else source:
                    raw = varint(number) + body(state, direction, packet, protocol, fields)
                    yield {
                        "protocol": protocol,
                        "state": state,
                        "direction": direction,
                        "packet": packet,
                        "case": case,
                        "fields": fields,
                        "hex": raw.hex(),
                        "encoder": "layouts.py",
                    }


if __name__ == "__main__":
    print(json.dumps(list(fixtures()), ensure_ascii=True))
