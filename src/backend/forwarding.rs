//! How a backend is told who the player is: signed in answer to its question (modern), or behind NULs in the host of
//! the handshake (legacy, BungeeGuard).

use std::net::IpAddr;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::ExposeSecret;
use sha2::Sha256;

use super::{Backend, ForwardingMode};
use crate::{
    identity::{Profile, Property},
    mojang::player_keys::ProvenKey,
    protocol::{
        handshake::VirtualHost,
        login::write_properties,
        version::{Dialect, ModernForwarding},
        writer::Writer,
    },
};

/// The channel on which a backend asks for the player.
pub const PLAYER_INFO: &str = "velocity:player_info";

/// Every channel that only a proxy may answer: none of them ever reaches a client.
pub const PROXY_CHANNELS: &str = "velocity:";

/// First version, which every backend understands.
const DEFAULT: i32 = 1;
/// With a player key that Mojang bound to nobody: 1.19.
const WITH_KEY: i32 = 2;
/// With a player key and the id that Mojang bound it to: 1.19.1 and 1.19.2.
const WITH_KEY_V2: i32 = 3;
/// No player key travels along: from 1.19.3 the client sends it in play.
const LAZY_SESSION: i32 = 4;
/// The highest version that a backend could ask for in its one byte. None is near it.
const UNKNOWN: i32 = 127;

/// The answer to a backend's question on [`PLAYER_INFO`]: HMAC-SHA256 under the forwarding secret, then the data it
/// signs: version, client address, id, name, properties.
///
/// The backend asks for its highest version in one byte; without it, the first is meant. Versions 2 and 3 carry `key`
/// behind the properties: expiry, key, Mojang's signature, and in version 3 the id that it names. Without a proven key,
/// and for a backend that does not know the version which fits it, version 1 is always right.
pub fn answer(
    request_data: &[u8],
    secret: &[u8],
    dialect: &Dialect,
    profile: &Profile,
    key: Option<&ProvenKey>,
    address: IpAddr,
) -> Vec<u8> {
    let asked = match request_data {
        [highest] => i32::from(highest.cast_signed()),
        _ => DEFAULT,
    };
    let (version, key) = match (dialect.modern_forwarding, key) {
        (ModernForwarding::LazySession, _) if asked >= LAZY_SESSION => (LAZY_SESSION, None),
        (ModernForwarding::WithKey, Some(key)) if asked >= WITH_KEY && key.owner().is_none() => {
            (WITH_KEY, Some(key))
        }
        (ModernForwarding::WithKeyV2, Some(key))
            if asked >= WITH_KEY_V2 && key.owner() == Some(profile.id) =>
        {
            (WITH_KEY_V2, Some(key))
        }
        _ => (DEFAULT, None),
    };
    let mut writer = Writer::default();
    writer.varint(version).string(&address.to_string()).uuid(profile.id).string(profile.name.as_str());
    write_properties(&mut writer, &profile.properties);
    if let Some(proven) = key {
        let key = proven.key();
        writer.i64(key.expires).bytes(&key.key).bytes(&key.signature);
        if version == WITH_KEY_V2 {
            writer.option(proven.owner(), |writer, owner| {
                writer.uuid(owner);
            });
        }
    }
    let data = writer.finish();
    let mut answer = sign(secret, &data);
    answer.extend(data);
    answer
}

/// An answer that is signed, but from which no player can be read: a version that no backend knows, and nothing behind
/// it. A backend looks at the signature first, so it tells whether it would have taken our word, and can let nobody in.
pub fn unreadable(secret: &[u8]) -> Vec<u8> {
    let data = Writer::default().varint(UNKNOWN).finish();
    let mut answer = sign(secret, &data);
    answer.extend(data);
    answer
}

fn sign(secret: &[u8], data: &[u8]) -> Vec<u8> {
    // HMAC takes keys of any length. Were it to fail, the answer would go without a signature, which backends refuse.
    Hmac::<Sha256>::new_from_slice(secret)
        .map(|mac| mac.chain_update(data).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

/// The host for a backend's handshake. Modern and no forwarding keep the Forge marker where the mod looks for it. In
/// the legacy modes, what stands behind a NUL is the identity, so there the marker travels as the property
/// `extraData`, its NULs written as 0x01.
pub fn host(backend: &Backend, host: &VirtualHost, profile: &Profile, address: IpAddr) -> String {
    let guarded = match backend.forwarding {
        ForwardingMode::Modern | ForwardingMode::None => return host.for_backend(),
        ForwardingMode::Legacy => false,
        ForwardingMode::BungeeGuard => true,
    };
    let mut properties = profile.properties.clone();
    let mut add = |name: &str, value: String| {
        properties.push(Property { name: name.to_owned(), value, signature: Some(String::new()) });
    };
    if let Some(marker) = host.forge_marker() {
        add("extraData", marker.replace('\0', "\x01"));
    }
    if guarded && let Some(secret) = &backend.secret {
        add("bungeeguard-token", String::from_utf8_lossy(secret.expose_secret()).into_owned());
    }
    let properties = serde_json::to_string(&properties).unwrap_or_else(|_| "[]".to_owned());
    format!("{}\0{address}\0{}\0{properties}", host.name(), profile.id.as_simple())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::{
        backend::Lookup,
        identity::Username,
        protocol::{login::ProfileKey, version::ProtocolVersion},
    };

    fn profile(properties: Vec<Property>) -> Profile {
        let id = Uuid::from_u128(0x069a_79f4_44e9_4726_a5be_fca9_0e38_aaf5);
        Profile { id, name: Username::parse("Notch").unwrap(), properties }
    }

    fn textures(signature: Option<&str>) -> Property {
        Property { name: "textures".into(), value: "dmFs".into(), signature: signature.map(str::to_owned) }
    }

    /// HMAC by its definition (RFC 2104), from the hash alone.
    fn hmac_by_definition(secret: &[u8], data: &[u8]) -> Vec<u8> {
        use sha2::Digest;
        let mut key = if secret.len() > 64 { Sha256::digest(secret).to_vec() } else { secret.to_vec() };
        key.resize(64, 0);
        let pad = |byte: u8| key.iter().map(|k| k ^ byte).collect::<Vec<_>>();
        let inner = Sha256::digest([&pad(0x36), data].concat());
        Sha256::digest([&pad(0x5c)[..], &inner[..]].concat()).to_vec()
    }

    #[test]
    fn signatures_follow_the_published_vectors() {
        // RFC 4231, test cases 1 and 2.
        let number = |bytes: Vec<u8>| {
            let half = |part: &[u8]| u128::from_be_bytes(part.try_into().unwrap());
            (half(&bytes[..16]), half(&bytes[16..]))
        };
        assert_eq!(
            number(sign(&[0x0b; 20], b"Hi There")),
            (0xb034_4c61_d8db_3853_5ca8_afce_af0b_f12b, 0x881d_c200_c983_3da7_26e9_376c_2e32_cff7)
        );
        assert_eq!(
            number(sign(b"Jefe", b"what do ya want for nothing?")),
            (0x5bdc_c146_bf60_754e_6a04_2426_0895_75c7, 0x5a00_3f08_9d27_3983_9dec_58b9_64ec_3843)
        );
    }

    #[test]
    fn modern_answers_are_pinned() {
        // Written out by hand: version, address, id, name, one property with and one without signature.
        let tail =
            b"\x0b203.0.113.7\x06\x9a\x79\xf4\x44\xe9\x47\x26\xa5\xbe\xfc\xa9\x0e\x38\xaa\xf5\x05Notch\
            \x02\x08textures\x04dmFs\x01\x03sig\x08textures\x04dmFs\x00";
        let profile = profile(vec![textures(Some("sig")), textures(None)]);
        let address = "203.0.113.7".parse().unwrap();
        for secret in [&b"s3cret"[..], &[7; 100]] {
            for (protocol, asked, version) in [
                (393, &[][..], 1),
                (393, &[4], 1),
                (758, &[1], 1),
                (759, &[2], 1),
                (760, &[4], 1),
                (761, &[1], 1),
                (761, &[3], 1),
                (761, &[4], 4),
                (764, &[5], 4),
                (777, &[0x7f], 4),
                (777, &[0xff], 1),
                (777, &[0], 1),
                (777, &[], 1),
                (777, &[4, 4], 1),
            ] {
                let dialect = Dialect::of(ProtocolVersion(protocol));
                let data = [&[version][..], tail].concat();
                let expected = [hmac_by_definition(secret, &data), data].concat();
                assert_eq!(
                    answer(asked, secret, &dialect, &profile, None, address),
                    expected,
                    "{protocol} {asked:?}"
                );
            }
        }
    }

    #[test]
    fn modern_answers_with_a_proven_key_are_pinned() {
        let id = *b"\x06\x9a\x79\xf4\x44\xe9\x47\x26\xa5\xbe\xfc\xa9\x0e\x38\xaa\xf5";
        let plain = [b"\x0b203.0.113.7", &id[..], b"\x05Notch\x01\x08textures\x04dmFs\x00"].concat();
        // Expiry, key, signature; the lengths in one and in two bytes.
        let brought = ProfileKey { expires: 0x0123_4567_89ab_cdef, key: vec![7; 3], signature: vec![9; 300] };
        let key = [b"\x01\x23\x45\x67\x89\xab\xcd\xef\x03\x07\x07\x07\xac\x02", &[9; 300][..]].concat();
        let with_key = [&plain[..], &key].concat();
        let with_owner = [&with_key[..], &[1], &id].concat();
        let profile = profile(vec![textures(None)]);
        let (unbound, own) = (None, Some(profile.id));
        let (plain, with_key, with_owner) = (&plain, &with_key, &with_owner);
        for (protocol, owner, asked, version, tail) in [
            (759, unbound, &[][..], 1, plain),
            (759, unbound, &[0xff], 1, plain),
            (759, unbound, &[1], 1, plain),
            (759, unbound, &[2], 2, with_key),
            (759, unbound, &[3], 2, with_key),
            (759, unbound, &[4], 2, with_key),
            (759, unbound, &[0x7f], 2, with_key),
            (760, own, &[], 1, plain),
            (760, own, &[1], 1, plain),
            // This version cannot say whose key it is.
            (760, own, &[2], 1, plain),
            (760, own, &[3], 3, with_owner),
            (760, own, &[4], 3, with_owner),
            (760, own, &[0x7f], 3, with_owner),
            // No such key can be proven there; it would not be told of.
            (759, own, &[4], 1, plain),
            (760, unbound, &[4], 1, plain),
            (760, Some(Uuid::nil()), &[4], 1, plain),
            (758, unbound, &[4], 1, plain),
            (761, own, &[3], 1, plain),
            (761, own, &[4], 4, plain),
        ] {
            let proven = ProvenKey::for_test(brought.clone(), owner);
            let dialect = Dialect::of(ProtocolVersion(protocol));
            let data = [&[version][..], tail].concat();
            let expected = [hmac_by_definition(b"s3cret", &data), data].concat();
            let address = "203.0.113.7".parse().unwrap();
            let answer = answer(asked, b"s3cret", &dialect, &profile, Some(&proven), address);
            assert_eq!(answer, expected, "{protocol} {owner:?} {asked:?}");
        }
    }

    /// tests/wire compares all that needs no proven key, which only this crate's own tests can make up.
    #[test]
    fn answers_with_keys_are_those_of_another_encoder() {
        let pinned: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/wire/forwarding.json")).unwrap();
        let bytes = |hex: &serde_json::Value| -> Vec<u8> {
            let hex = hex.as_str().unwrap();
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
        };
        let entries = pinned["answers"].as_array().unwrap().iter();
        let mut compared = Vec::new();
        for entry in entries.filter(|entry| !entry["key"].is_null()) {
            let text = |field: &str| entry[field].as_str().unwrap();
            let id: Uuid = text("uuid").parse().unwrap();
            let owner = entry["key_holder"].as_str().map(|id| id.parse().unwrap());
            let protocol = match (entry["version"].as_u64().unwrap(), owner) {
                (2, None) => 759,
                (3, Some(_)) => 760,
                // The format has room for a bound key without its owner; there is no such proof.
                (3, None) => continue,
                other => panic!("{other:?}"),
            };
            let key = &entry["key"];
            let brought = ProfileKey {
                expires: key["expiry"].as_str().unwrap().parse().unwrap(),
                key: bytes(&key["public_key"]),
                signature: bytes(&key["signature"]),
            };
            let profile = Profile {
                id,
                name: Username::parse(text("name")).unwrap(),
                properties: serde_json::from_value(entry["properties"].clone()).unwrap(),
            };
            let proven = ProvenKey::for_test(brought, owner);
            let dialect = Dialect::of(ProtocolVersion(protocol));
            let address = text("address").parse().unwrap();
            let answer = answer(&[4], text("secret").as_bytes(), &dialect, &profile, Some(&proven), address);
            assert_eq!(answer, bytes(&entry["answer"]), "{}", entry["case"]);
            compared.push(protocol);
        }
        assert_eq!(compared, [759, 760]);
    }

    #[test]
    fn unreadable_answers_are_signed() {
        assert_eq!(unreadable(b"s3cret"), [hmac_by_definition(b"s3cret", &[127]), vec![127]].concat());
    }

    #[test]
    fn hosts_by_mode() {
        let backend = |forwarding| Backend {
            name: "lobby".into(),
            host: "127.0.0.1".into(),
            port: 1,
            lookup: Lookup::Host,
            forwarding,
            secret: Some(b"tok\"en".to_vec().into()),
            send_proxy_protocol: false,
        };
        let profile = profile(vec![textures(Some("sig")), textures(None)]);
        let address = "2001:db8::1".parse().unwrap();
        let forge = VirtualHost::parse("play.example.com\0FML2\0").unwrap();
        let plain = VirtualHost::parse("play.example.com").unwrap();
        for mode in [ForwardingMode::Modern, ForwardingMode::None] {
            assert_eq!(host(&backend(mode), &forge, &profile, address), "play.example.com\0FML2\0");
            assert_eq!(host(&backend(mode), &plain, &profile, address), "play.example.com");
        }
        let own = json!([
            {"name": "textures", "value": "dmFs", "signature": "sig"},
            {"name": "textures", "value": "dmFs"},
        ]);
        let marker = json!({"name": "extraData", "value": "\u{1}FML2\u{1}", "signature": ""});
        let token = json!({"name": "bungeeguard-token", "value": "tok\"en", "signature": ""});
        for (mode, virtual_host, added) in [
            (ForwardingMode::Legacy, &plain, vec![]),
            (ForwardingMode::Legacy, &forge, vec![&marker]),
            (ForwardingMode::BungeeGuard, &plain, vec![&token]),
            (ForwardingMode::BungeeGuard, &forge, vec![&marker, &token]),
        ] {
            let host = host(&backend(mode), virtual_host, &profile, address);
            let parts: Vec<&str> = host.split('\0').collect();
            assert_eq!(parts[..3], ["play.example.com", "2001:db8::1", "069a79f444e94726a5befca90e38aaf5"]);
            assert_eq!(parts.len(), 4);
            let mut expected = own.as_array().unwrap().clone();
            expected.extend(added.into_iter().cloned());
            let got: serde_json::Value = serde_json::from_str(parts[3]).unwrap();
            assert_eq!(got, serde_json::Value::Array(expected));
        }
    }
}
