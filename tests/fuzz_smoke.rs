//! The fuzz targets' bodies over inputs made from a seed: pinned packets, files and documents, broken in the ways that
//! break parsers. A stable compiler runs these; `fuzz/` searches further on a nightly one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail like tests")]

use std::{
    fs,
    panic::{RefUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use serde_json::Value;

#[path = "../fuzz/bodies.rs"]
mod bodies;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}

/// Bytes that stand for lengths, ends and signs somewhere.
const TELLING: &[&[u8]] = &[
    b"\x00",
    b"\x01",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\x07",
    b"\x80\x80\x80\x80\x80",
    b"\xff\xff",
    b"\x00///",
    b"\x00FML2\x00",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\r\n",
    b" ",
    b"\"",
    b"{",
    b"[",
    b"]",
    b": ",
    b"- ",
    b"&a ",
    b"*a",
    b"9999999999999999999",
    b"-1",
    b"1e400",
    b"null",
    b"\t",
    b"#",
];

/// A seed with a few things done to it.
fn broken(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        match random.below(8) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = random.byte(),
            2 => input.truncate(at),
            3 => drop(input.drain(at..input.len().min(at + 1 + random.below(8)))),
            4 => input.insert(at, random.byte()),
            5 => {
                let what = TELLING[random.below(TELLING.len())];
                let end = if random.below(2) == 0 { at } else { input.len().min(at + what.len()) };
                input.splice(at..end, what.iter().copied());
            }
            6 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => {
                let len = random.below(32).min(input.len() - at);
                let part = input[at..at + len].to_vec();
                input.splice(at..at, part);
            }
        }
    }
    input
}

/// Runs a body over every seed as it is, and over so many inputs more. A failure shows its input.
fn smoke(body: impl Fn(&[u8]) + RefUnwindSafe, seeds: &[Vec<u8>], inputs: usize) {
    assert!(!seeds.is_empty());
    let mut random = Random(1);
    let noise = |random: &mut Random| (0..random.below(64)).map(|_| random.byte()).collect::<Vec<_>>();
    let made = (0..inputs).map(|i| if i % 8 == 0 { noise(&mut random) } else { broken(seeds, &mut random) });
    for input in seeds.iter().cloned().chain(made) {
        let survived = catch_unwind(|| body(&input)).is_ok();
        assert!(survived, "the input was {:?}", input.escape_ascii().to_string());
    }
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn pinned(file: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(tests().join("wire").join(file)).unwrap()).unwrap()
}

/// Every text under one of these keys, as bytes.
fn hex(value: &Value, keys: &[&str], found: &mut Vec<Vec<u8>>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| hex(item, keys, found)),
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(text) if keys.contains(&key.as_str()) => {
                        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
                        found.push((0..text.len()).step_by(2).map(byte).collect());
                    }
                    _ => hex(value, keys, found),
                }
            }
        }
        _ => {}
    }
}

/// The packets of the states up to login success, each once.
fn packets(direction: &str) -> Vec<Vec<u8>> {
    let fixtures = pinned("fixtures.json");
    let mut found = Vec::new();
    for fixture in fixtures.as_array().unwrap() {
        let state = fixture["state"].as_str().unwrap();
        if fixture["direction"] == direction && ["handshake", "status", "login"].contains(&state) {
            hex(fixture, &["hex"], &mut found);
        }
    }
    found.sort();
    found.dedup();
    found
}

#[test]
fn serverbound() {
    smoke(bodies::serverbound, &packets("serverbound"), 3000);
}

#[test]
fn backend_packets() {
    smoke(bodies::backend_packets, &packets("clientbound"), 3000);
}

/// The packets of these kinds in the relayed states, each once.
fn relayed(kinds: &[&str]) -> Vec<Vec<u8>> {
    let fixtures = pinned("fixtures.json");
    let mut found = Vec::new();
    for fixture in fixtures.as_array().unwrap() {
        if kinds.contains(&fixture["packet"].as_str().unwrap()) {
            hex(fixture, &["hex"], &mut found);
        }
    }
    found.sort();
    found.dedup();
    found
}

#[test]
fn nbt() {
    // Packets that are an id and a tag.
    let mut seeds = relayed(&["show_dialog", "set_action_bar_text", "disconnect"]);
    for seed in &mut seeds {
        let start = seed.iter().position(|byte| *byte == 10).unwrap_or_default();
        seed.drain(..start);
    }
    seeds.retain(|seed| !seed.is_empty());
    seeds.push(b"\x0a\x08\x00\x03pin\x00\x044821\x00".to_vec());
    let many =
        b"\x0a\x07\0\x01a\0\0\0\x01\0\x09\0\x01b\x0a\0\0\0\x01\0\x0b\0\x01c\0\0\0\0\x0c\0\x01d\0\0\0\0\0";
    seeds.push(many.to_vec());
    smoke(bodies::nbt, &seeds, 8000);
}

#[test]
fn command_tree() {
    let mut seeds = Vec::new();
    hex(&pinned("trees.json"), &["before", "after"], &mut seeds);
    seeds.retain(|tree| tree.len() < 5000);
    seeds.sort();
    seeds.dedup();
    smoke(bodies::command_tree, &seeds, 3000);
}

#[test]
fn speech() {
    let kinds =
        ["chat_message", "chat_command", "chat_command_signed", "command_suggestions_request", "chat_ack"];
    smoke(bodies::speech, &relayed(&kinds), 3000);
}

#[test]
fn click() {
    let kinds = ["custom_click_action", "keep_alive", "pong", "cookie_response", "plugin_message"];
    smoke(bodies::click, &relayed(&kinds), 4000);
}

#[test]
fn player_chat() {
    smoke(bodies::player_chat, &relayed(&["player_chat"]), 4000);
}

#[test]
fn frame() {
    let mut streams = Vec::new();
    hex(&pinned("frames.json"), &["frame", "stream"], &mut streams);
    // Long ones add time and nothing else.
    streams.retain(|stream| stream.len() < 2000);
    // Short, and longer than most limits once inflated.
    let mut bomb = Vec::new();
    postern::protocol::frame::put_frame(&mut bomb, &vec![0; 100_000], Some(0));
    streams.push(bomb);
    let seeds: Vec<_> = (0..=7u8)
        .flat_map(|how| {
            streams.iter().map(move |stream| [&[how, how.wrapping_mul(37)], &stream[..]].concat())
        })
        .collect();
    smoke(bodies::frame, &seeds, 4000);
}

#[test]
fn proxy_header() {
    let mut headers = Vec::new();
    hex(&pinned("proxy.json"), &["hex"], &mut headers);
    let seeds: Vec<_> = headers.iter().map(|header| [&[20], &header[..]].concat()).collect();
    smoke(bodies::proxy_header, &seeds, 6000);
}

#[test]
fn config() {
    let mut seeds = vec![fs::read(tests().join("../config.example.yml")).unwrap()];
    for folder in ["valid", "invalid"] {
        for entry in fs::read_dir(tests().join("config").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yml") {
                seeds.push(fs::read(path).unwrap());
            }
        }
    }
    // The order of a folder is not the same everywhere.
    seeds.sort();
    smoke(bodies::config, &seeds, 1500);
}

#[test]
fn session_document() {
    let document = r#"{"version":1,"id":"069a79f4-44e9-4726-a5be-fca90e38aaf5","name":"Notch",
        "first_verified":"2026-01-02T03:04:05Z","last_verified":"2026-02-03T04:05:06.789Z","last_present":null,
        "verified_logins":7,"fallback_logins":1,"addresses":[{"address":"203.0.113.7",
        "verified":"2026-02-03T04:05:06Z","country":"SE","asn":64496},{"address":"2001:db8::1",
        "verified":"2026-02-03T04:05:06Z"}],"last_with_dialogs":"2026-02-03T04:05:06Z",
        "pin_hash":"$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA","locked":true,
        "denied_networks":[{"country":"XX","asn":null}],
        "properties":[{"name":"textures","value":"dmFs","signature":"c2ln"}]}"#;
    let least = r#"{"version":1,"id":"069a79f444e94726a5befca90e38aaf5","name":null,
        "first_verified":"2026-01-02T03:04:05Z","last_verified":"2026-01-02T03:04:05Z","last_present":null,
        "verified_logins":0,"addresses":[],"properties":[]}"#;
    for document in [document, least] {
        serde_json::from_str::<postern::session::record::Document>(document).unwrap();
    }
    smoke(bodies::session_document, &[document.into(), least.into()], 6000);
}

#[test]
fn import_rows() {
    let rows = r#"[{"uuid":"069a79f4-44e9-4726-a5be-fca90e38aaf5","username":"Notch","ip":"203.0.113.7",
        "last-login":"2026-11-20T20:00:00Z","logins":7,
        "properties":[{"name":"textures","value":"dmFs","signature":"c2ln"}],
        "pin-sha256":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
        {"uuid":"169a79f444e94726a5befca90e38aaf5","username":"jeb_","ip":"2001:db8::1","last-login":1795204800000}]"#;
    let parsed: Vec<Value> = serde_json::from_str(rows).unwrap();
    let now = "2026-11-21T20:00:00Z".parse().unwrap();
    let (good, refused) =
        postern::session::import::read_rows(&parsed, postern::session::import::Trust::No, now);
    assert_eq!((good.len(), refused), (2, vec![]), "they go all the way");
    smoke(bodies::import_rows, &[rows.into()], 6000);
}
