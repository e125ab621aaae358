//! Packets, frames, ciphers, hashes and headers against bytes that other encoders made. `tests/wire/README.md` says which,
//! and how to remake them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail like tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use postern::{
    identity::{Profile, Property, Username},
    protocol::{
        handshake::{Handshake, Intent},
        ids::{self, PacketIds},
        login::{
            self, EncryptionRequest, EncryptionResponse, FromBackend, FromClient, LoginStart, LoginSuccess,
            PluginRequest, PluginResponse, ProfileKey, TokenProof,
        },
        play::{self, RelayIds, RelayState, is_proxy_channel},
        reader::{Malformed, Reader},
        status::{self, StatusRequest},
        text::Text,
        version::{ActionBarForm, Dialect, ProtocolVersion, TextForm},
    },
};
use serde_json::{Value, json};
use uuid::Uuid;

#[path = "wire/headers.rs"]
mod headers;
#[path = "wire/names.rs"]
mod names;
#[path = "wire/pins.rs"]
mod pins;
#[path = "wire/relayed.rs"]
mod relayed;
#[path = "wire/streams.rs"]
mod streams;
#[path = "wire/trees.rs"]
mod trees;

/// One of the JSON files, parsed.
fn pinned(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire").join(file);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// 64-bit numbers are decimal strings, smaller ones are numbers.
fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| text(value).parse().unwrap())
}

fn small(value: &Value) -> i32 {
    number(value).try_into().unwrap()
}

fn uuid(value: &Value) -> Uuid {
    text(value).parse().unwrap()
}

fn dialect(protocol: i32) -> Dialect {
    Dialect::of(ProtocolVersion(protocol))
}

fn properties(value: &Value) -> Vec<Property> {
    let one = |property: &Value| Property {
        name: text(&property["name"]).to_owned(),
        value: text(&property["value"]).to_owned(),
        signature: property["signature"].as_str().map(str::to_owned),
    };
    value.as_array().unwrap().iter().map(one).collect()
}

/// State, direction, packet.
type Kind = (String, String, String);

fn kind(state: &str, direction: &str, packet: &str) -> Kind {
    (state.to_owned(), direction.to_owned(), packet.to_owned())
}

/// One packet as others write it: id and body, without frame.
struct Fixture {
    protocol: i32,
    kind: Kind,
    case: String,
    fields: Value,
    bytes: Vec<u8>,
}

impl Fixture {
    fn all() -> Vec<Self> {
        let one = |entry: &Value| Self {
            protocol: small(&entry["protocol"]),
            kind: kind(text(&entry["state"]), text(&entry["direction"]), text(&entry["packet"])),
            case: text(&entry["case"]).to_owned(),
            fields: entry["fields"].clone(),
            bytes: bytes(&entry["hex"]),
        };
        pinned("fixtures.json").as_array().unwrap().iter().map(one).collect()
    }

    fn dialect(&self) -> Dialect {
        dialect(self.protocol)
    }

    /// Reads the packet, and makes sure that it is read to its very end: no part of it will do, nor anything behind it.
    fn read<'a, T: std::fmt::Debug>(&'a self, read: impl Fn(&'a [u8]) -> Result<T, Malformed>) -> T {
        for len in 0..self.bytes.len() {
            let part = read(&self.bytes[..len]);
            assert!(part.is_err(), "read from its first {len} bytes: {part:?}");
        }
        // Leaked, since what is read may borrow from it.
        let longer: &'static [u8] = Vec::leak([&self.bytes[..], &[0]].concat());
        assert_eq!(read(longer).err(), Some(Malformed::LeftOver));
        read(&self.bytes).unwrap()
    }

    fn written(&self, packet: &[u8]) {
        assert_eq!(packet, self.bytes, "written otherwise");
    }
}

/// What the program does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// It reads the packet, writes it, or both; what it does was compared.
    Coded,
    /// It knows the packet by its id alone.
    Known,
    /// It has the packet, but never one like this.
    NeverLikeThis,
    /// It passes the packet on without looking at it.
    PassedOn,
}

/// Does all that the program does with this packet.
#[allow(clippy::too_many_lines, reason = "a table of packets")]
fn exercise(fixture: &Fixture) -> Use {
    let (state, direction, packet) = &fixture.kind;
    let (dialect, fields) = (fixture.dialect(), &fixture.fields);
    if let Some(used) = pins::exercise(fixture) {
        return used;
    }
    match (state.as_str(), direction.as_str(), packet.as_str()) {
        ("handshake", "serverbound", "intention") => handshake(fixture),
        ("status", "serverbound", "status_request") => {
            assert_eq!(fixture.read(StatusRequest::read), StatusRequest::Status);
            fixture.written(&StatusRequest::Status.write());
        }
        ("status", "serverbound", "ping_request") => {
            let ping = StatusRequest::Ping(number(&fields["payload"]));
            assert_eq!(fixture.read(StatusRequest::read), ping);
            fixture.written(&ping.write());
        }
        ("status", "clientbound", "status_response") => {
            assert_eq!(fixture.read(status::read_answer), text(&fields["json"]));
            fixture.written(&status::write_answer(text(&fields["json"])));
        }
        ("status", "clientbound", "pong_response") => {
            fixture.written(&status::write_pong(number(&fields["payload"])));
        }
        ("login", "serverbound", "login_start") => login_start(fixture),
        ("login", "serverbound", "encryption_response") => {
            let proof = match fields.get("verify_token").filter(|token| !token.is_null()) {
                Some(token) => TokenProof::Encrypted(bytes(token)),
                None => TokenProof::Signed {
                    salt: number(&fields["salt"]),
                    signature: bytes(&fields["signature"]),
                },
            };
            let response = EncryptionResponse { secret: bytes(&fields["shared_secret"]), proof };
            assert_eq!(fixture.read(|packet| EncryptionResponse::read(packet, &dialect)), response);
        }
        ("login", "clientbound", "disconnect") => login_disconnect(fixture),
        ("login", "clientbound", "encryption_request") => {
            // Of a backend's request it matters only that it asks.
            assert_eq!(FromBackend::read(&fixture.bytes, &dialect), Ok(FromBackend::EncryptionRequest));
            if text(&fields["server_id"]).is_empty() {
                let request = EncryptionRequest {
                    public_key: &bytes(&fields["public_key"]),
                    verify_token: &bytes(&fields["verify_token"]),
                    should_authenticate: fields["should_authenticate"].as_bool().unwrap_or(true),
                };
                fixture.written(&request.write(&dialect));
            }
        }
        ("login", "clientbound", "login_success") => login_success(fixture),
        ("login", "clientbound", "set_compression") => {
            let threshold = small(&fields["threshold"]);
            let read = fixture.read(|packet| FromBackend::read(packet, &dialect));
            assert_eq!(read, FromBackend::SetCompression(threshold));
            fixture.written(&login::write_set_compression(&dialect, threshold).unwrap());
        }
        ("login", "clientbound", "login_plugin_request") => {
            let data = bytes(&fields["data"]);
            let (message_id, channel) = (small(&fields["message_id"]), text(&fields["channel"]));
            let request = PluginRequest { message_id, channel, data: &data };
            fixture.written(&request.write(&dialect));
            let read = FromBackend::read(&fixture.bytes, &dialect);
            assert_eq!(read, Ok(FromBackend::PluginRequest(request)));
        }
        ("login", "serverbound", "login_plugin_response") => {
            let data = (!fields["data"].is_null()).then(|| bytes(&fields["data"]));
            let response = PluginResponse { message_id: small(&fields["message_id"]), data: data.as_deref() };
            fixture.written(&response.write(&dialect));
            let read = FromClient::read(&fixture.bytes, &dialect);
            assert_eq!(read, Ok(FromClient::PluginResponse(response)));
        }
        ("login", "serverbound", "login_acknowledged") => {
            fixture.read(|packet| login::read_acknowledged(packet, &dialect));
        }
        ("login", "clientbound", "cookie_request") => {
            let key = text(&fields["key"]);
            let read = fixture.read(|packet| FromBackend::read(packet, &dialect));
            assert_eq!(read, FromBackend::CookieRequest(key));
            fixture.written(&login::write_cookie_request(&dialect, key).unwrap());
        }
        ("login", "serverbound", "cookie_response") => {
            let read = fixture.read(|packet| FromClient::read(packet, &dialect));
            assert_eq!(read, FromClient::CookieResponse { key: text(&fields["key"]) });
        }
        ("configuration", "clientbound", "disconnect") => {
            return component(fixture, &fields["reason"], 0, |text| {
                play::write_disconnect(&dialect, RelayState::Configuration, text).unwrap()
            });
        }
        ("play", "clientbound", "disconnect") => {
            return component(fixture, &fields["reason"], 0, |text| {
                play::write_disconnect(&dialect, RelayState::Play, text).unwrap()
            });
        }
        ("play", "clientbound", "chat_message" | "system_chat") => {
            // The proxy speaks in system lines only.
            if !matches!(fixture.case.as_str(), "system" | "beyond_bmp" | "bare_string") {
                return Use::NeverLikeThis;
            }
            let content = fields.get("content").unwrap_or(&fields["message"]);
            let behind = fields.get("position").map_or(0, |_| 1)
                + fields.get("sender").map_or(0, |_| 16)
                + fields.get("overlay").or(fields.get("type")).map_or(0, |_| 1);
            return component(fixture, content, behind, |text| {
                play::write_system_chat(&dialect, text).unwrap()
            });
        }
        ("play" | "configuration", "serverbound", "plugin_message") => plugin_message(fixture),
        ("configuration", "serverbound", "acknowledge_finish_configuration")
        | ("configuration", "clientbound", "finish_configuration")
        | ("play", "serverbound", "configuration_acknowledged")
        | ("play", "clientbound", "start_configuration") => {
            let ids = RelayIds::of(&dialect);
            let id = match packet.as_str() {
                "acknowledge_finish_configuration" => ids.finish_acknowledged,
                "finish_configuration" => ids.finish_configuration,
                "configuration_acknowledged" => ids.configuration_acknowledged,
                _ => ids.start_configuration,
            };
            assert_eq!(id, Some(Reader::new(&fixture.bytes).varint().unwrap()));
            assert!(ids.configuration);
            return Use::Known;
        }
        _ => {
            assert!(
                PASSED_ON.contains(&(state.as_str(), direction.as_str(), packet.as_str())),
                "nothing here says what becomes of this packet"
            );
            return Use::PassedOn;
        }
    }
    Use::Coded
}

/// Packets of the relayed states that the program has no eyes for.
const PASSED_ON: &[(&str, &str, &str)] = &[
    ("configuration", "clientbound", "select_known_packs"),
    ("play", "clientbound", "clear_dialog"),
    ("play", "clientbound", "cookie_request"),
    ("play", "clientbound", "keep_alive"),
    ("play", "clientbound", "ping"),
    ("play", "clientbound", "show_dialog"),
];

fn handshake(fixture: &Fixture) {
    let fields = &fixture.fields;
    let read = fixture.read(Handshake::read);
    assert_eq!(read.version, ProtocolVersion(fixture.protocol));
    assert_eq!(u64::from(read.port), fields["port"].as_u64().unwrap());
    let intent = match small(&fields["intent"]) {
        1 => Intent::Status,
        2 => Intent::Login,
        _ => Intent::Transfer,
    };
    assert_eq!(read.intent, intent);
    // The host is rebuilt; these have nothing in them that gets lost on the way.
    let host = read.host.for_backend();
    assert_eq!(host, text(&fields["host"]));
    let marker = host.find('\0').map(|at| &host[at..]);
    assert_eq!(read.host.forge_marker(), marker);
    assert_eq!(marker.is_some(), fixture.case == "login_forge");
    // To a backend, whoever came by transfer logs in: intent 2 in place of the 3 at the end.
    let mut expected = fixture.bytes.clone();
    if intent == Intent::Transfer {
        *expected.last_mut().unwrap() = 2;
    }
    assert_eq!(read.write(&host), expected);
}

fn login_start(fixture: &Fixture) {
    let fields = &fixture.fields;
    let key = fields.get("key").filter(|key| !key.is_null()).map(|key| ProfileKey {
        expires: number(&key["expiry"]),
        key: bytes(&key["public_key"]),
        signature: bytes(&key["signature"]),
    });
    let claimed_id = fields.get("uuid").filter(|id| !id.is_null()).map(uuid);
    let start = LoginStart { name: text(&fields["name"]).to_owned(), key, claimed_id };
    assert_eq!(fixture.read(|packet| LoginStart::read(packet, &fixture.dialect())), start);
    fixture.written(&start.write(&fixture.dialect()));
}

fn login_success(fixture: &Fixture) {
    let fields = &fixture.fields;
    let success = LoginSuccess {
        profile: Profile {
            id: uuid(&fields["uuid"]),
            name: Username::parse(text(&fields["name"])).unwrap(),
            properties: fields.get("properties").map(properties).unwrap_or_default(),
        },
        strict_errors: fields.get("strict_error_handling").is_none_or(|strict| strict.as_bool().unwrap()),
        session_id: fields.get("session_id").map(uuid).unwrap_or_default(),
    };
    let read = fixture.read(|packet| FromBackend::read(packet, &fixture.dialect()));
    assert_eq!(read, FromBackend::Success(success.clone()));
    fixture.written(&success.write(&fixture.dialect()));
}

/// JSON in every protocol, and passed on in the backend's own words.
fn login_disconnect(fixture: &Fixture) {
    let (dialect, reason) = (fixture.dialect(), &fixture.fields["reason"]);
    let read = fixture.read(|packet| FromBackend::read(packet, &dialect));
    let FromBackend::Disconnect(words) = read else { panic!("read as {read:?}") };
    assert_eq!(&serde_json::from_str::<Value>(words).unwrap(), reason);
    fixture.written(&login::write_disconnect_json(&dialect, words));
    if let Some(own) = own_text(reason) {
        let written = login::write_disconnect(&dialect, &own);
        let Ok(FromBackend::Disconnect(words)) = FromBackend::read(&written, &dialect) else {
            panic!("own disconnect does not read back")
        };
        assert_eq!(serde_json::from_str::<Value>(words).unwrap(), in_named_colours(reason));
    }
}

/// The component as the owner of a server would write it; `None` for a bare string, which backends may send and the
/// proxy never does. Colour codes in a text that is not the owner's stay characters, so the hard ones go without any.
fn own_text(component: &Value) -> Option<Text> {
    let words = component.get("text")?.as_str().unwrap();
    match component["color"].as_str().unwrap() {
        "red" => Some(Text::parse(&format!("&c{words}"), &[])),
        "#12abEF" => Some(Text::plain(words)),
        other => panic!("a colour {other} that nothing here can write"),
    }
}

/// Owners have the sixteen named colours only: the component without any other.
fn in_named_colours(component: &Value) -> Value {
    match component["color"].as_str() {
        Some("#12abEF") => json!({ "text": component["text"] }),
        _ => component.clone(),
    }
}

/// Compares a packet that holds a component and, behind it, so many bytes more.
fn component(fixture: &Fixture, component: &Value, behind: usize, write: impl Fn(&Text) -> Vec<u8>) -> Use {
    let Some(own) = own_text(component) else { return Use::NeverLikeThis };
    let (written, expected) = (write(&own), &fixture.bytes);
    let tail = |packet: &[u8]| packet[packet.len() - behind..].to_vec();
    assert_eq!(tail(&written), tail(expected), "what stands behind the text");
    match fixture.dialect().text {
        TextForm::Nbt => {
            // The tag `color`, with its value.
            let other = b"\x08\0\x05color\0\x07#12abEF";
            let without = expected.windows(other.len()).position(|part| part == other).map_or_else(
                || expected.clone(),
                |at| [&expected[..at], &expected[at + other.len()..]].concat(),
            );
            assert_eq!(written, without);
        }
        TextForm::Json => {
            let parse = |packet: &[u8]| {
                let mut reader = Reader::new(packet);
                let id = reader.varint().unwrap();
                let json: Value = serde_json::from_str(reader.string(262_144).unwrap()).unwrap();
                assert_eq!(reader.rest().len(), behind);
                (id, json)
            };
            let (id, json) = parse(expected);
            assert_eq!(parse(&written), (id, in_named_colours(&json)));
        }
    }
    Use::Coded
}

fn plugin_message(fixture: &Fixture) {
    let ids = RelayIds::of(&fixture.dialect());
    let id = match fixture.kind.0.as_str() {
        "play" => ids.play_plugin_message,
        _ => ids.configuration_plugin_message,
    };
    let mut reader = Reader::new(&fixture.bytes);
    assert_eq!(id, Some(reader.varint().unwrap()));
    let channel = reader.string(32767).unwrap();
    assert_eq!(channel, text(&fixture.fields["channel"]));
    let trusted = matches!(fixture.case.as_str(), "bungeecord_old" | "bungeecord" | "velocity");
    assert_eq!(is_proxy_channel(channel), trusted, "{channel}");
}

/// Every row of ids, by kind.
fn rows() -> BTreeMap<Kind, PacketIds> {
    let row = |(place, packet, ids): &(&str, &str, PacketIds)| {
        let (state, direction) = place.split_once('_').unwrap();
        (kind(state, direction, packet), *ids)
    };
    ids::ALL.iter().map(row).collect()
}

#[test]
fn packets_are_read_and_written_as_others_write_them() {
    let rows = rows();
    let mut exercised: BTreeMap<Kind, BTreeSet<i32>> = BTreeMap::new();
    let mut protocols = BTreeSet::new();
    for fixture in Fixture::all() {
        let place = format!("{:?} {} at {}", fixture.kind, fixture.case, fixture.protocol);
        let outcome = std::panic::catch_unwind(|| {
            let id = fixture.dialect().id(rows[&fixture.kind]);
            assert_eq!(id, Some(Reader::new(&fixture.bytes).varint().unwrap()));
            exercise(&fixture)
        });
        let used = outcome.unwrap_or_else(|_| panic!("{place}"));
        protocols.insert(fixture.protocol);
        if matches!(used, Use::Coded | Use::Known) {
            exercised.entry(fixture.kind).or_default().insert(fixture.protocol);
        }
    }
    // Both sides of every change of a layout.
    for (version, _) in Dialect::releases() {
        let (new, old) = (Dialect::of(version), Dialect::of(ProtocolVersion(version.0 - 1)));
        let answers = |dialect: Dialect| {
            let shown = format!("{dialect:?}");
            shown.split_once("array_length").unwrap().1.to_owned()
        };
        if version.0 > 4 && answers(new) != answers(old) {
            assert!(protocols.contains(&version.0), "{version} changes a layout and has no fixtures");
            assert!(protocols.contains(&old.release().0), "{} is followed by a change", old.release());
        }
    }
    // Every packet in which the program has a hand, at every protocol that has it.
    for (kind, row) in &rows {
        let Some(seen) = exercised.get(kind) else { continue };
        // The title packet is known only where it has the line above the hotbar.
        let is_known = |p: i32| {
            dialect(p).id(*row).is_some()
                && (kind.2 != "title_legacy" || dialect(p).action_bar == ActionBarForm::Title)
        };
        let expected: BTreeSet<i32> = protocols.iter().copied().filter(|p| is_known(*p)).collect();
        assert_eq!(seen, &expected, "{kind:?}");
    }
    let uses = sources_use();
    assert!(uses.len() > 20, "the search for ids in the sources finds nothing any more");
    for kind in uses {
        let pinned_by_id_alone =
            ID_ALONE.iter().any(|(s, d, p)| kind == self::kind(s, d, p)) && rows.contains_key(&kind);
        assert!(
            exercised.contains_key(&kind) != pinned_by_id_alone,
            "the sources ask for the id of {kind:?}, of which no fixture is exercised"
        );
    }
}

/// Packets that the program knows by their id and that have no fixtures. They are checked by the names that others have
/// for them (`names.json`); command trees have their own file (`trees.json`).
const ID_ALONE: &[(&str, &str, &str)] = &[
    ("configuration", "serverbound", "resource_pack"),
    ("play", "clientbound", "bundle_delimiter"),
    ("play", "clientbound", "commands"),
    ("play", "clientbound", "delete_chat"),
    ("play", "clientbound", "login"),
    ("play", "clientbound", "set_compression"),
    ("play", "serverbound", "chunk_batch_received"),
    ("play", "serverbound", "confirm_teleport"),
    ("play", "serverbound", "confirm_transaction"),
    ("play", "serverbound", "player_loaded"),
    ("play", "serverbound", "resource_pack"),
    ("play", "serverbound", "tick_end"),
];

/// The packets whose id is asked for anywhere in the sources, and those of the status state, whose ids never changed
/// and stand there as numbers.
fn sources_use() -> BTreeSet<Kind> {
    fn files(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("ids.rs")
            {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    let mut uses: BTreeSet<Kind> = [
        kind("status", "serverbound", "status_request"),
        kind("status", "serverbound", "ping_request"),
        kind("status", "clientbound", "pong_response"),
    ]
    .into();
    for file in found {
        let source = fs::read_to_string(&file).unwrap();
        for (place, packet, _) in ids::ALL {
            // The module by its name, or by the one that `protocol::login` gives it.
            let alias = match *place {
                "login_clientbound" => "to_client",
                "login_serverbound" => "to_server",
                place => place,
            };
            let constant = packet.to_uppercase();
            let is_word = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
            let named = [place, alias].iter().any(|module| {
                let path = format!("{module}::{constant}");
                source.match_indices(&path).any(|(at, _)| is_word(&source[at + path.len()..]))
            });
            if named {
                let (state, direction) = place.split_once('_').unwrap();
                uses.insert(kind(state, direction, packet));
            }
        }
    }
    uses
}

#[test]
fn ids_are_the_pinned_ones() {
    let pinned = pinned("ids.json");
    let releases: Vec<i32> = Dialect::releases().map(|(version, _)| version.0).collect();
    assert_eq!(json!(releases), pinned["releases"]);
    let mut pinned_rows = BTreeMap::new();
    for (state, directions) in pinned.as_object().unwrap().iter().filter(|(key, _)| *key != "releases") {
        for (direction, packets) in directions.as_object().unwrap() {
            for (packet, ranges) in packets.as_object().unwrap() {
                pinned_rows.insert(kind(state, direction, packet), ranges.clone());
            }
        }
    }
    let rows = rows();
    assert_eq!(rows.len(), ids::ALL.len(), "a packet stands twice");
    let own: BTreeMap<Kind, Value> =
        rows.iter().map(|(kind, ids)| (kind.clone(), json!(ids.ranges()))).collect();
    assert_eq!(own.keys().collect::<Vec<_>>(), pinned_rows.keys().collect::<Vec<_>>());
    for (kind, ranges) in &own {
        assert_eq!(ranges, &pinned_rows[kind], "{kind:?}");
    }
    // And asked for one by one, as the program does.
    for (kind, ranges) in &pinned_rows {
        for release in &releases {
            let covers = |range: &&Value| (small(&range[0])..=small(&range[1])).contains(release);
            let id = ranges.as_array().unwrap().iter().find(covers).map(|range| small(&range[2]));
            assert_eq!(dialect(*release).id(rows[kind]), id, "{kind:?} at {release}");
        }
    }
}
