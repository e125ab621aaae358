#!/usr/bin/env python3
"""Writes hash.json, proxy.json, forwarding.json, legacy_ping.json and zlib.json with Python's standard library alone."""

import hashlib
import hmac
import ipaddress
import json
import os
import random
import struct
import zlib

from layouts import HERE, NOBODY, OTHER, PLAYER, PUBLIC_KEY, TEXTURES, UNSIGNED
from layouts import array, boolean, i64, listed, noise, property_, string, u16, uuid_bytes, varint


def write(name, groups):
    """One line per entry, so that a change shows as the lines it changed."""
    parts = []
    for group, entries in groups.items():
        lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries)
        parts.append(f"{json.dumps(group)}: [\n{lines}\n]")
    with open(os.path.join(HERE, name), "w", encoding="ascii") as file:
        file.write("{\n" + ",\n".join(parts) + "\n}\n")


# --- Server id hash ---------------------------------------------------------------------------------------


def signed_hex(digest):
    """A digest as a signed number in base 16: no leading zeros, a minus for the upper half."""
    return format(int.from_bytes(digest, "big", signed=True), "x")


def server_hash(server_id, secret, public_key):
    return signed_hex(hashlib.sha1(server_id.encode("ascii") + secret + public_key).digest())


def hashes():
    # Published with the first description of the protocol.
    known = {
        "Notch": "4ed1f46bbe04bc756bcb17c0c7ce3e4632f06a48",
        "jeb_": "-7c9d5b0044c130109a5d7b5fb5c317c02b4e28c1",
        "simon": "88e16a1019277b15d58faf0541e11910eb756f6",
    }
    for name, expected in known.items():
        assert signed_hex(hashlib.sha1(name.encode()).digest()) == expected
    source = random.Random(1)
    key = bytes.fromhex(PUBLIC_KEY)
    full = []
    # Digests whose first bytes make the number short: 00 0x, 00 00, ff fx, ff ff, and the plain ones.
    wanted = {
        "positive": lambda d: 0x10 <= d[0] < 0x80,
        "negative": lambda d: 0x80 <= d[0] < 0xF0,
        "positive_leading_zero_digit": lambda d: 0 < d[0] < 0x10,
        "positive_leading_zero_bytes": lambda d: d[0] == 0 and d[1] == 0,
        "negative_leading_zero_digit": lambda d: 0xF0 < d[0] < 0xFF,
        "negative_leading_zero_bytes": lambda d: d[0] == 0xFF and d[1] == 0xFF,
        "negative_last_byte_zero": lambda d: d[0] >= 0x80 and d[19] == 0,
    }
    for case, fits in wanted.items():
        for server_id in ("", "-1a2b3c4d5e6f7a8b9c0"):
            while True:
                secret = source.randbytes(16)
                digest = hashlib.sha1(server_id.encode() + secret + key).digest()
                if fits(digest):
                    break
            entry = {"case": case, "server_id": server_id, "shared_secret": secret.hex(), "public_key": PUBLIC_KEY}
            full.append(entry | {"hash": server_hash(server_id, secret, key)})
    for number in range(20):
        secret, other = source.randbytes(16), source.randbytes(162)
        entry = {"case": f"random_{number}", "server_id": "", "shared_secret": secret.hex(), "public_key": other.hex()}
        full.append(entry | {"hash": server_hash("", secret, other)})
    write("hash.json", {"names": [{"name": n, "hash": h} for n, h in known.items()], "full": full})


# --- PROXY protocol ---------------------------------------------------------------------------------------

V2 = bytes.fromhex("0d0a0d0a000d0a515549540a")
AFTER = b"\x10\x00\xff\x05"


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def v2_addresses(source, destination):
    (src, sport), (dst, dport) = source, destination
    packed = ipaddress.ip_address(src).packed + ipaddress.ip_address(dst).packed
    return packed + struct.pack(">HH", sport, dport)


def v2(command, family, content, length=None):
    return V2 + bytes([command, family]) + u16(len(content) if length is None else length) + content


def tlv(kind, value):
    return bytes([kind]) + u16(len(value)) + value


def show(address):
    host, port = address
    host = ipaddress.ip_address(host).compressed
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def proxy():
    four = (("192.168.0.1", 56324), ("192.168.0.11", 443))
    six = (("2001:db8::1:2", 40000), ("2001:db8::3", 25565))
    mapped = (("::ffff:203.0.113.7", 40000), ("::ffff:192.0.2.1", 25565))
    ones4 = ("255.255.255.255", 65535)
    ones6 = ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535)
    a4, a6 = v2_addresses(*four), v2_addresses(*six)

    def checksummed(content, spoil=0):
        zeroed = content + tlv(3, bytes(4))
        whole = v2(0x21, 0x11, zeroed)
        return whole[:-4] + struct.pack(">I", crc32c(whole) ^ spoil)

    valid, no_address, incomplete, invalid, lenient = [], [], [], [], []

    def good(case, header, source, destination):
        # A header is followed at once by what the client sends: that is not part of it.
        entry = {"case": case, "hex": (header + AFTER).hex(), "header_length": len(header)}
        valid.append(entry | {"source": show(source), "destination": show(destination)})

    good("v1_tcp4", b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", *four)
    good("v1_tcp4_longest", b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", ones4, ones4)
    good("v1_tcp6", b"PROXY TCP6 2001:db8::1:2 2001:db8::3 40000 25565\r\n", *six)
    longest = b" ".join([b"PROXY TCP6", ones6[0].encode(), ones6[0].encode(), b"65535 65535\r\n"])
    assert len(longest) == 104
    good("v1_tcp6_longest", longest, ones6, ones6)
    good("v1_tcp6_mapped", b"PROXY TCP6 ::ffff:203.0.113.7 ::ffff:192.0.2.1 40000 25565\r\n", *mapped)
    good("v2_tcp4", v2(0x21, 0x11, a4), *four)
    good("v2_tcp6", v2(0x21, 0x21, a6), *six)
    good("v2_tcp6_mapped", v2(0x21, 0x21, v2_addresses(*mapped)), *mapped)
    good("v2_tcp4_noop_padding", v2(0x21, 0x11, a4 + tlv(4, bytes(20))), *four)
    good("v2_tcp4_authority", v2(0x21, 0x11, a4 + tlv(1, b"h2") + tlv(2, b"play.example.org")), *four)
    good("v2_tcp4_vpc_endpoint", v2(0x21, 0x11, a4 + tlv(0xEA, b"\x01vpce-08d2bf15fac5001c9")), *four)
    good("v2_tcp6_unique_id", v2(0x21, 0x21, a6 + tlv(5, bytes(range(128)))), *six)
    good("v2_tcp4_checksum", checksummed(a4), *four)
    good("v2_tcp4_536_bytes", v2(0x21, 0x11, a4 + tlv(4, bytes(505))), *four)

    def without(case, header):
        no_address.append({"case": case, "hex": (header + AFTER).hex(), "header_length": len(header)})

    without("v1_unknown", b"PROXY UNKNOWN\r\n")
    longest = b"PROXY UNKNOWN " + b" ".join([ones6[0].encode(), ones6[0].encode(), b"65535 65535\r\n"])
    assert len(longest) == 107
    without("v1_unknown_longest", longest)
    without("v2_local", v2(0x20, 0x00, b""))
    without("v2_local_with_tlv", v2(0x20, 0x00, tlv(4, b"hello")))
    without("v2_local_with_address", v2(0x20, 0x11, a4))
    without("v2_proxy_unspecified", v2(0x21, 0x00, b""))
    without("v2_proxy_unspecified_with_bytes", v2(0x21, 0x00, bytes(range(30))))
    without("v2_unix_stream", v2(0x21, 0x31, b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")))

    v1, second = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", v2(0x21, 0x11, a4)
    for cut in (0, 1, 5, 6, 11, 22, 40, len(v1) - 2, len(v1) - 1):
        incomplete.append({"case": f"v1_first_{cut}", "hex": v1[:cut].hex()})
    for cut in (1, 2, 11, 12, 13, 14, 15, 16, 20, len(second) - 1):
        incomplete.append({"case": f"v2_first_{cut}", "hex": second[:cut].hex()})
    incomplete.append({"case": "v2_tlv_missing", "hex": v2(0x21, 0x11, a4, 512).hex()})

    def bad(case, raw, why):
        # What follows is longer than any header could need: nobody may say that bytes are missing.
        invalid.append({"case": case, "hex": (raw + AFTER * 32).hex(), "why": why})

    line = "PROXY TCP4 {} {} {} {}\r\n"

    def v1_line(*fields):
        return line.format(*fields).encode()

    bad("no_header", bytes.fromhex("1000ff0510706c61792e6578616d706c652e6f726763dd02"), "a Minecraft handshake")
    bad("http", b"GET / HTTP/1.1\r\nHost: play.example.org\r\n\r\n", "another protocol")
    bad("tls", bytes.fromhex("16030100c8010000c40303") + bytes(60), "another protocol")
    bad("legacy_ping", b"\xfe\x01", "a legacy ping")
    bad("v1_lower_case", b"proxy tcp4 192.168.0.1 192.168.0.11 56324 443\r\n", "the words are upper case")
    bad("v1_unknown_family", b"PROXY TCP5 192.168.0.1 192.168.0.11 56324 443\r\n", "TCP4, TCP6 or UNKNOWN")
    bad("v1_udp4", b"PROXY UDP4 192.168.0.1 192.168.0.11 56324 443\r\n", "v1 knows TCP alone")
    bad("v1_octet_256", v1_line("256.168.0.1", "192.168.0.11", 56324, 443), "not an address")
    bad("v1_three_octets", v1_line("192.168.1", "192.168.0.11", 56324, 443), "not an address")
    bad("v1_host_name", v1_line("localhost", "192.168.0.11", 56324, 443), "not an address")
    bad("v1_ipv6_in_tcp4", v1_line("::1", "::1", 56324, 443), "another family than announced")
    bad("v1_ipv4_in_tcp6", b"PROXY TCP6 192.168.0.1 192.168.0.11 56324 443\r\n", "another family than announced")
    bad("v1_zone", b"PROXY TCP6 fe80::1%eth0 ::1 56324 443\r\n", "addresses have no zone")
    bad("v1_port_65536", v1_line("192.168.0.1", "192.168.0.11", 65536, 443), "not a port")
    bad("v1_port_negative", v1_line("192.168.0.1", "192.168.0.11", -1, 443), "not a port")
    bad("v1_port_hex", v1_line("192.168.0.1", "192.168.0.11", "0x50", 443), "not a port")
    bad("v1_port_missing", b"PROXY TCP4 192.168.0.1 192.168.0.11 56324\r\n", "four fields")
    bad("v1_field_too_many", v1_line("192.168.0.1", "192.168.0.11", 56324, "443 1"), "four fields")
    bad("v1_two_spaces", b"PROXY TCP4  192.168.0.1 192.168.0.11 56324 443\r\n", "one space between fields")
    bad("v1_nul", b"PROXY TCP4 192.168.0.1\0 192.168.0.11 56324 443\r\n", "not an address")
    bad("v1_not_utf8", b"PROXY TCP4 192.168.0.\xff 192.168.0.11 56324 443\r\n", "not an address")
    bad("v1_carriage_return_alone", b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\rX", "no line end")
    bad("v1_never_ends", b"PROXY TCP4 " + b"1" * 500, "no line end within 107 bytes")
    bad("v1_unknown_never_ends", b"PROXY UNKNOWN " + b"x" * 500, "no line end within 107 bytes")
    bad("v2_signature_broken", second[:11] + b"\x0b" + second[12:], "not the signature")
    bad("v2_version_1", v2(0x11, 0x11, a4), "the version is 2")
    bad("v2_version_3", v2(0x31, 0x11, a4), "the version is 2")
    bad("v2_command_2", v2(0x22, 0x11, a4), "LOCAL or PROXY")
    bad("v2_family_4", v2(0x21, 0x41, a4), "no such family")
    bad("v2_transport_3", v2(0x21, 0x13, a4), "no such transport")
    bad("v2_tcp4_too_short", v2(0x21, 0x11, a4[:-1]), "12 bytes of addresses")
    bad("v2_tcp6_too_short", v2(0x21, 0x21, a4), "36 bytes of addresses")
    bad("v2_tcp4_empty", v2(0x21, 0x11, b""), "12 bytes of addresses")
    bad("v2_unix_too_short", v2(0x21, 0x31, bytes(215)), "216 bytes of addresses")

    def either(case, raw, why, source=None):
        lenient.append({"case": case, "hex": raw.hex(), "why": why, "source": source and show(source)})

    either("v1_leading_zeros_in_port", v1_line(four[0][0], four[1][0], "056324", 443), "no leading zeros", four[0])
    either("v1_plus_in_port", v1_line(four[0][0], four[1][0], "+56324", 443), "digits alone", four[0])
    either("v1_unknown_glued", b"PROXY UNKNOWNX\r\n", "a space after UNKNOWN")
    either("v1_other_separator", b"PROXY-TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", "a space after PROXY", four[0])
    either("v1_unknown_108_bytes", b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", "at most 107 bytes")
    either("v1_line_feed_alone", b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\n" + bytes(100), "CR LF", four[0])
    either("v2_udp4", v2(0x21, 0x12, a4), "the connection is TCP", four[0])
    either("v2_udp6", v2(0x21, 0x22, a6), "the connection is TCP", six[0])
    either("v2_inet_unspecified", v2(0x21, 0x10, a4), "no such pair of family and transport")
    either("v2_local_family_4", v2(0x20, 0x41, b""), "LOCAL: the family is to be ignored")
    either("v2_tlv_overruns", v2(0x21, 0x11, a4 + b"\x04\x00\xff\x00"), "a TLV longer than the header", four[0])
    either("v2_tlv_cut", v2(0x21, 0x11, a4 + b"\x04\x00"), "half a TLV", four[0])
    either("v2_checksum_wrong", checksummed(a4, 1), "the CRC32c does not fit", four[0])
    either("v2_65535_bytes", v2(0x21, 0x11, a4 + bytes(65535 - 12)), "longer than anything real", four[0])
    # 64 KiB of zeros in hex help nobody: the test makes them from this length.
    lenient[-1]["hex"], lenient[-1]["zeros_after"] = v2(0x21, 0x11, a4, 65535).hex(), 65535 - 12

    encode = []
    for case, (source, destination), family in (("tcp4", four, 0x11), ("tcp6", six, 0x21)):
        entry = {"case": case, "source": show(source), "destination": show(destination)}
        encode.append(entry | {"hex": v2(0x21, family, v2_addresses(source, destination)).hex()})
    encode.append({"case": "local", "source": None, "destination": None, "hex": v2(0x20, 0x00, b"").hex()})
    groups = {"valid": valid, "no_address": no_address, "incomplete": incomplete, "invalid": invalid}
    write("proxy.json", groups | {"lenient": lenient, "encode_v2": encode})


# --- Modern forwarding ------------------------------------------------------------------------------------


def forwarding():
    answers = []

    def answer(case, version, secret, address, player, name, properties, key=None, holder=None):
        data = varint(version) + string(address) + uuid_bytes(player) + string(name) + listed(properties, property_)
        if version in (2, 3):
            data += i64(key["expiry"]) + array(key["public_key"]) + array(key["signature"])
        if version == 3:
            data += boolean(holder is not None) + (uuid_bytes(holder) if holder else b"")
        digest = hmac.new(secret.encode(), data, hashlib.sha256).digest()
        entry = {"case": case, "version": version, "secret": secret, "address": address, "uuid": player, "name": name}
        entry["properties"] = properties
        if key:
            entry["key"] = key
        if version == 3:
            entry["key_holder"] = holder
        answers.append(entry | {"data": data.hex(), "hmac": digest.hex(), "answer": (digest + data).hex()})

    secret = "Xk3vQ9sLm2Rt"
    long_secret = "a secret longer than one block of SHA-256, which is to say longer than sixty-four bytes"
    key = {"expiry": "1700000000123", "public_key": noise(294, 1), "signature": noise(512, 2)}
    for version in (1, 4):
        prefix = f"v{version}_"
        answer(prefix + "ipv4", version, secret, "203.0.113.7", PLAYER, "Notch", [TEXTURES])
        answer(prefix + "ipv6", version, secret, "2001:db8::1:2", PLAYER, "Notch", [TEXTURES, UNSIGNED])
        answer(prefix + "no_properties", version, secret, "127.0.0.1", NOBODY, "A_16_chars_name_", [])
        answer(prefix + "long_secret", version, long_secret, "203.0.113.7", OTHER, "jeb_", [TEXTURES])
        answer(prefix + "secret_beyond_ascii", version, "gehe\u0131m-\u00fc-\U0001f512", "203.0.113.7", OTHER, "jeb_", [])
    answer("v2_key", 2, secret, "203.0.113.7", PLAYER, "Notch", [TEXTURES], key)
    answer("v3_key_holder", 3, secret, "203.0.113.7", PLAYER, "Notch", [TEXTURES], key, PLAYER)
    answer("v3_key_no_holder", 3, secret, "203.0.113.7", PLAYER, "Notch", [TEXTURES], key, None)

    # What a backend asks for in its request, and the version it is answered in.
    versions = []
    for protocol, has_key, pairs in (
        (393, False, ((None, 1), (1, 1), (2, 1), (3, 1), (4, 1))),
        (758, False, ((None, 1), (1, 1), (4, 1))),
        (759, False, ((None, 1), (1, 1), (2, 1), (3, 1), (4, 1))),
        (759, True, ((None, 1), (1, 1), (2, 2), (3, 2), (4, 2))),
        (760, False, ((None, 1), (2, 1), (3, 1), (4, 1))),
        (760, True, ((None, 1), (1, 1), (2, 1), (3, 3), (4, 3))),
        (761, False, ((None, 1), (1, 1), (2, 1), (3, 1), (4, 4), (5, 4))),
        (767, False, ((None, 1), (1, 1), (3, 1), (4, 4), (9, 4))),
        (777, False, ((None, 1), (1, 1), (4, 4))),
    ):
        for asked, answered in pairs:
            data = "" if asked is None else f"{asked:02x}"
            versions.append({"protocol": protocol, "player_key": has_key, "request": data, "version": answered})

    # What a backend with the secret must not accept.
    whole = bytes.fromhex(answers[0]["answer"])
    forged = [
        {"case": "other_secret", "secret": "Xk3vQ9sLm2Ru", "answer": whole.hex()},
        {"case": "digest_changed", "secret": secret, "answer": (bytes([whole[0] ^ 1]) + whole[1:]).hex()},
        {"case": "address_changed", "secret": secret, "answer": whole.replace(b"203.0.113.7", b"203.0.113.8").hex()},
        {"case": "cut_short", "secret": secret, "answer": whole[:-1].hex()},
        {"case": "digest_alone", "secret": secret, "answer": whole[:32].hex()},
        {"case": "empty", "secret": secret, "answer": ""},
    ]
    write("forwarding.json", {"answers": answers, "versions": versions, "forged": forged})


# --- Legacy ping ------------------------------------------------------------------------------------------


def utf16(text):
    """Big-endian UTF-16 behind the count of its units."""
    raw = text.encode("utf-16-be")
    return u16(len(raw) // 2) + raw


def kick(text):
    return b"\xff" + utf16(text)


def ping_host(protocol, host, port):
    rest = bytes([protocol]) + utf16(host) + struct.pack(">i", port)
    return b"\xfe\x01\xfa" + utf16("MC|PingHost") + u16(len(rest)) + rest


def legacy_ping():
    status = {"protocol": 127, "version": "1.21", "motd": "A Minecraft Server", "online": 3, "max": 20}
    other = {"protocol": 127, "version": "1.7 - 26.3", "motd": "Gr\u00fc\u00dfe \U0001f512", "online": 0, "max": 2147483647}
    known = ping_host(74, "play.example.org", 25565)
    assert known.startswith(bytes.fromhex("fe01fa000b004d0043007c00500069006e00670048006f00730074"))
    requests = [
        {"case": "beta", "form": "oldest", "hex": "fe", "host": None, "port": None},
        {"case": "1.4", "form": "newer", "hex": "fe01", "host": None, "port": None},
        {"case": "1.6", "form": "newer", "hex": known.hex(), "host": "play.example.org", "port": 25565},
        {"case": "1.6_ipv6", "form": "newer", "hex": ping_host(78, "2001:db8::1", 40000).hex(), "host": "2001:db8::1", "port": 40000},
        {"case": "1.6_host_beyond_ascii", "form": "newer", "hex": ping_host(78, "b\u00fccher.example", 25565).hex(), "host": "b\u00fccher.example", "port": 25565},
    ]
    answers = []
    for case, s in (("plain", status), ("beyond_ascii", other)):
        oldest = kick("\u00a7".join([s["motd"], str(s["online"]), str(s["max"])]))
        newer = kick("\0".join(["\u00a71", str(s["protocol"]), s["version"], s["motd"], str(s["online"]), str(s["max"])]))
        answers.append({"case": case, "form": "oldest", "status": s, "hex": oldest.hex()})
        answers.append({"case": case, "form": "newer", "status": s, "hex": newer.hex()})
    coloured = status | {"motd": "\u00a7cA \u00a7lMinecraft\u00a7r Server"}
    newer = kick("\0".join(["\u00a71", "127", "1.21", coloured["motd"], "3", "20"]))
    answers.append({"case": "coloured", "form": "newer", "status": coloured, "hex": newer.hex()})

    # FE may also begin a frame: FE 01 is the length 254, FE 02 the length 382.
    host = "h" * 246
    handshake = varint(0) + varint(767) + string(host) + u16(25565) + varint(2)
    assert len(handshake) == 254
    umlauts = "\u00fc" * 187
    longer = varint(0) + varint(767) + string(umlauts) + u16(25565) + varint(2)
    assert len(longer) == 382
    not_pings = [
        {"case": "handshake_of_254_bytes", "hex": (varint(254) + handshake).hex(), "host": host},
        {"case": "handshake_of_382_bytes", "hex": (varint(382) + longer).hex(), "host": umlauts},
    ]
    # A login of 1.3 to 1.6 begins with 02; it is answered by a kick.
    login = b"\x02\x4e" + utf16("Notch") + utf16("play.example.org") + struct.pack(">i", 25565)
    logins = [{"case": "1.6", "hex": login.hex(), "text": "Outdated client.", "answer": kick("Outdated client.").hex()}]
    # A 1.6 ping that stops early, or names lengths it does not have.
    hostile = [
        {"case": "channel_cut", "hex": known[:10].hex()},
        {"case": "host_cut", "hex": known[:40].hex()},
        {"case": "channel_65535", "hex": (b"\xfe\x01\xfa\xff\xff" + known[5:]).hex()},
        {"case": "other_channel", "hex": known.replace("Ping".encode("utf-16-be"), "Pong".encode("utf-16-be")).hex()},
        {"case": "host_65535", "hex": (known[:30] + b"\xff\xff" + known[32:]).hex()},
        {"case": "unpaired_surrogate", "hex": known.replace("p".encode("utf-16-be"), b"\xd8\x00", 1).hex()},
    ]
    groups = {"requests": requests, "answers": answers, "not_pings": not_pings, "logins": logins, "hostile": hostile}
    write("legacy_ping.json", groups)


# --- Frames of a compressed stream ------------------------------------------------------------------------


def zlib_frame(stated, stream):
    content = varint(stated) + stream
    return varint(len(content)) + content


def zlib_frames():
    packets = {"one_byte": ("17", 1), "a_few": ("170102ff", 1), "chat": ("02" + string('{"text":"Hello, Hello"}').hex() + "01", 1)}
    # Around a change of the length of a length, and around 5552: so many bytes may be summed before a reduction.
    for length in (116, 117, 255, 256, 257, 5551, 5552, 5553, 11104, 11105, 16383, 16384):
        for byte in ("00", "ff"):
            packets[f"{byte}_{length}"] = (byte, length)
    # 65521 is the sums' modulus: after these the first one is 0, or 1 again.
    packets["sum_0"] = ("ff" * 256 + "f0", 1)
    packets["sum_1"] = ("ff" * 256 + "f1", 1)
    for length in (300, 1000):
        packets[f"noise_{length}"] = (noise(length, length), 1)
    packets["noise_again"] = (noise(251, 3), 65)
    stored, deflated = [], []
    for case, (unit, times) in packets.items():
        packet = bytes.fromhex(unit) * times
        entry = {"case": case, "unit": unit, "times": times}
        frame = zlib_frame(len(packet), zlib.compress(packet, 0))
        # The data stands whole before the checksum, behind one block's header: there is one block.
        before, after = frame[: -4 - len(packet)], frame[-4:]
        assert before + packet + after == frame and before[-7:-4] == b"\x78\x01\x01", case
        stored.append(entry | {"before": before.hex(), "after": after.hex()})
        for level in (1, 6):
            frame = zlib_frame(len(packet), zlib.compress(packet, level))
            if len(frame) < 2000:
                deflated.append(entry | {"case": f"{case}_level_{level}", "frame": frame.hex()})
    sums = {entry["case"]: int(entry["after"][4:], 16) for entry in stored}
    assert (sums["sum_0"], sums["sum_1"]) == (0, 1)

    # Several stored blocks: none of ours, but any writer may.
    packet = bytes.fromhex(noise(300, 7))
    body = b"".join(
        struct.pack("<BHH", last, len(part), len(part) ^ 0xFFFF) + part
        for last, part in ((0, packet[:100]), (0, b""), (1, packet[100:]))
    )
    several = b"\x78\x01" + body + struct.pack(">I", zlib.adler32(packet))
    assert zlib.decompress(several) == packet
    deflated.append({"case": "three_blocks", "unit": packet.hex(), "times": 1, "frame": zlib_frame(300, several).hex()})

    good = zlib.compress(packet, 0)
    broken = {
        "length_without_complement": good[:5] + bytes([good[5] ^ 1]) + good[6:],
        "block_longer_than_the_data": good[:3] + struct.pack("<HH", 400, 400 ^ 0xFFFF) + good[7:],
        "block_shorter_than_stated": good[:3] + struct.pack("<HH", 299, 299 ^ 0xFFFF) + good[7:],
        "reserved_kind_of_block": good[:2] + b"\x07" + good[3:],
        "data_cut": good[:200],
        "no_blocks": good[:2],
        "header_check": b"\x78\x02" + good[2:],
    }
    bad = []
    for case, stream in broken.items():
        try:
            read = zlib.decompress(stream)
        except zlib.error:
            read = None
        assert read is None, case
        bad.append({"case": case, "frame": zlib_frame(300, stream).hex()})
    for stated in (299, 301):
        bad.append({"case": f"300_stated_as_{stated}", "frame": zlib_frame(stated, good).hex()})
    write("zlib.json", {"stored": stored, "deflated": deflated, "bad": bad})


if __name__ == "__main__":
    hashes()
    proxy()
    forwarding()
    legacy_ping()
    zlib_frames()
