//! Packets that PINs in the game have to do with.

use postern::protocol::{
    configuration::{self, FromClient},
    dialog::{self, Click, PinDialog},
    pin_command::{self, PinCommand, SpeechIds, Spoken},
    play::{self, RelayState},
    player_chat,
    quarantine::{Down, Quarantine, Up},
    reader::{Malformed, Reader},
    text::Text,
    version::{ActionBarForm, TextForm},
};
use secrecy::ExposeSecret;
use serde_json::Value;

use super::{Fixture, Use, bytes, component, number, own_text, small, text};

/// Does all that the program does with a packet of these, and says what that is; `None` if it is none of them.
#[expect(clippy::too_many_lines, clippy::match_same_arms, reason = "one arm a packet")]
pub(super) fn exercise(fixture: &Fixture) -> Option<Use> {
    let (state, direction, packet) = &fixture.kind;
    let (dialect, fields) = (fixture.dialect(), &fixture.fields);
    match (state.as_str(), direction.as_str(), packet.as_str()) {
        ("play", "serverbound", "chat_message" | "chat_command" | "chat_command_signed") => speech(fixture),
        ("play", "serverbound", "command_suggestions_request") => {
            let ids = SpeechIds::of(&dialect);
            // The oldest ones have fields behind their text that do not matter.
            let speech = ids.read(&fixture.bytes).unwrap();
            assert!(matches!(speech.spoken, Spoken::Suggestion), "{speech:?}");
            assert_eq!(ids.concerns_pins(&fixture.bytes), Ok(true));
            assert_eq!(up(fixture), Up::Speech);
        }
        ("play", "serverbound", "chat_ack") => {
            assert_eq!(up(fixture), Up::Pass);
            if let Some(count) = fields.get("message_count") {
                let count = u32::try_from(number(count)).unwrap();
                fixture.written(&pin_command::write_chat_ack(&dialect, count).unwrap());
            } else {
                assert_eq!(pin_command::write_chat_ack(&dialect, 1), None);
                return Some(Use::Known);
            }
        }
        ("play", "clientbound", "player_chat") => chat_of_others(fixture),
        ("play", "clientbound", "player_chat_header") => {
            // Written where the line itself is withheld; a backend's own passes.
            assert_eq!(down(fixture), Down::Pass);
        }
        ("play", "clientbound", "disguised_chat") => {
            assert_eq!(down(fixture), Down::Withhold);
            return Some(Use::Known);
        }
        ("play", "clientbound", "chat_message") => {
            // Of the oldest ones nothing says who speaks.
            let passes = match fixture.case.as_str() {
                "action_bar" => fixture.protocol >= 47,
                "system" => fixture.protocol >= 735,
                _ => false,
            };
            assert_eq!(down(fixture), if passes { Down::Pass } else { Down::Withhold });
            if fixture.case == "action_bar" && dialect.action_bar == ActionBarForm::ChatPosition {
                let own = own_text(&fields["message"]).unwrap();
                let written = play::write_action_bar(&dialect, &own).unwrap();
                let mut reader = Reader::new(&written);
                assert_eq!(reader.varint(), Ok(2 + i32::from(fixture.protocol > 47) * 13));
                assert_eq!(reader.string(100), Ok(r#"{"text":"§cNot today."}"#));
                assert_eq!(reader.rest(), [2]);
            }
            return None;
        }
        ("play", "clientbound", "system_chat") => {
            assert_eq!(down(fixture), Down::Pass);
            return None;
        }
        ("play", "clientbound", "plugin_message") => {
            let is_brand = matches!(text(&fields["channel"]), "MC|Brand" | "minecraft:brand");
            let is_forge = text(&fields["channel"]) == "fml:handshake";
            assert_eq!(down(fixture), if is_brand || is_forge { Down::Pass } else { Down::Withhold });
            return Some(Use::Known);
        }
        ("configuration", "clientbound", "plugin_message") => {
            let passes = matches!(fixture.case.as_str(), "brand" | "empty");
            assert_eq!(down(fixture), if passes { Down::Pass } else { Down::Withhold });
            return Some(Use::Known);
        }
        ("play", "clientbound", "title_legacy") => {
            let read = |packet: &[u8]| {
                let mut reader = Reader::new(packet);
                let (id, action) = (reader.varint().unwrap(), reader.varint().unwrap());
                let json: Value = serde_json::from_str(reader.string(262_144).unwrap()).unwrap();
                reader.finish().unwrap();
                (id, action, json)
            };
            let own = own_text(&fields["text"]).unwrap();
            assert_eq!(read(&play::write_action_bar(&dialect, &own).unwrap()), read(&fixture.bytes));
        }
        ("play", "clientbound", "set_action_bar_text") => {
            return Some(component(fixture, &fields["text"], 0, |text| {
                play::write_action_bar(&dialect, text).unwrap()
            }));
        }
        ("configuration", "clientbound", "show_dialog") => {
            if fixture.case != "pin" {
                return Some(Use::NeverLikeThis);
            }
            fixture.written(&show_dialog(fixture));
        }
        ("configuration", "clientbound", "clear_dialog") => {
            fixture.written(&dialog::write_clear_dialog(&dialect).unwrap());
        }
        ("configuration", "clientbound", "keep_alive") => {
            fixture.written(&configuration::write_keep_alive(&dialect, number(&fields["id"])).unwrap());
        }
        ("configuration", "clientbound", "ping") => {
            fixture.written(&configuration::write_ping(&dialect, small(&fields["id"])).unwrap());
        }
        ("configuration", "clientbound", "cookie_request") => {
            fixture.written(&configuration::write_cookie_request(&dialect, text(&fields["key"])).unwrap());
        }
        ("play" | "configuration", "clientbound", "store_cookie" | "transfer") => {
            assert_eq!(down(fixture), Down::Withhold);
            return Some(Use::Known);
        }
        ("configuration", "serverbound", _) => return in_configuration(fixture),
        // Passed on unread, also while its player is held.
        (
            "play",
            "serverbound",
            "chat_session_update" | "client_information" | "cookie_response" | "keep_alive" | "pong",
        ) => {
            assert_eq!(up(fixture), Up::Pass);
            return Some(Use::Known);
        }
        ("play", "serverbound", "custom_click_action") => {
            assert_eq!(up(fixture), Up::Drop);
            return Some(Use::PassedOn);
        }
        _ => return None,
    }
    Some(Use::Coded)
}

fn state(fixture: &Fixture) -> RelayState {
    if fixture.kind.0 == "play" { RelayState::Play } else { RelayState::Configuration }
}

/// What becomes of the packet of a held client, however much of it is there.
pub(super) fn up(fixture: &Fixture) -> Up {
    let quarantine = Quarantine::of(&fixture.dialect());
    from_any_part(&fixture.bytes, |head| quarantine.lets_up(state(fixture), head))
}

/// What becomes of the packet for a held client, however much of it is there.
pub(super) fn down(fixture: &Fixture) -> Down {
    let quarantine = Quarantine::of(&fixture.dialect());
    from_any_part(&fixture.bytes, |head| quarantine.lets_down(state(fixture), head))
}

/// The same is said of the whole and of every part that tells anything.
fn from_any_part<T>(bytes: &[u8], judge: impl Fn(&[u8]) -> Result<T, Malformed>) -> T
where
    T: PartialEq + std::fmt::Debug,
{
    let whole = judge(bytes).unwrap();
    for len in 0..bytes.len() {
        match judge(&bytes[..len]) {
            Ok(judged) => assert_eq!(judged, whole, "from {len} bytes"),
            Err(why) => assert_eq!(why, Malformed::Truncated, "from {len} bytes"),
        }
    }
    whole
}

fn speech(fixture: &Fixture) {
    let ids = SpeechIds::of(&fixture.dialect());
    let fields = &fixture.fields;
    let speech = fixture.read(|packet| ids.read(packet));
    assert!(ids.is_speech(Reader::new(&fixture.bytes).varint().unwrap()));
    let acknowledges = fields.get("message_count").map_or(0, number);
    assert_eq!(i64::from(speech.acknowledges), acknowledges);
    let said = fields.get("message").unwrap_or_else(|| &fields["command"]);
    let is_command = text(said).trim_start_matches('/').starts_with("pin ");
    // Nothing of 1.19 is signed in a chain.
    let has_chain = fixture.protocol >= 760;
    let is_signed = match fields.get("signature") {
        Some(signature) => signature.as_str().is_some_and(|signature| !signature.is_empty()),
        None => fields.get("arguments").is_some_and(|arguments| !arguments.as_array().unwrap().is_empty()),
    };
    match speech.spoken {
        Spoken::Command(typed) => {
            assert!(is_command);
            assert_eq!((typed.command, typed.words.expose_secret()), (PinCommand::Pin, "4821"));
            assert_eq!(typed.signed, is_signed && has_chain);
        }
        Spoken::Other { signed } => assert_eq!((is_command, signed), (false, is_signed && has_chain)),
        Spoken::Suggestion => panic!("not asked for"),
    }
    let concerns = from_any_part(&fixture.bytes, |head| ids.concerns_pins(head));
    assert_eq!(concerns, is_command);
    assert_eq!(up(fixture), Up::Speech);
}

fn chat_of_others(fixture: &Fixture) {
    let (dialect, fields) = (fixture.dialect(), &fixture.fields);
    // Before 1.19.3 nobody counts signed lines, and there is no disguised chat.
    let has_disguise = fixture.protocol >= 761;
    let is_signed = has_disguise && !fields["signature"].is_null();
    let signed = from_any_part(&fixture.bytes, |head| player_chat::is_signed(&dialect, head));
    assert_eq!(signed, is_signed);
    let is_looked_into = is_signed || dialect.chat_headers;
    assert_eq!(down(fixture), if is_looked_into { Down::WithholdSigned } else { Down::Withhold });
    let header = player_chat::header(&dialect, &fixture.bytes);
    let has_header = dialect.chat_headers && ["signed", "chained"].contains(&fixture.case.as_str());
    assert_eq!(header.is_some(), has_header);
    if let Some(header) = header {
        let of_this = |other: &Fixture| other.kind.2 == "player_chat_header" && other.case == fixture.case;
        let others = Fixture::all().into_iter().find(of_this).unwrap();
        others.written(&header);
    }
    for len in 0..fixture.bytes.len() {
        assert_eq!(player_chat::disguise(&dialect, &fixture.bytes[..len]), None, "{len} bytes");
    }
    let Some(disguised) = player_chat::disguise(&dialect, &fixture.bytes) else {
        assert!(!has_disguise || fixture.case == "all_hidden");
        return;
    };
    // What is shown stands at the end, and is copied.
    let same = disguised.iter().rev().zip(fixture.bytes.iter().rev()).take_while(|(own, its)| own == its);
    let shown = same.count();
    let message = match fixture.case.as_str() {
        "unsigned" | "signed" | "type_inside" => Text::plain("Grüße <all>"),
        "decorated" => own_text(&fields["unsigned"]).unwrap(),
        // The characters 0, 3 and 9; and of the other one those at 1, 64, 69, and the four around the lock.
        "partly_hidden" => Text::plain("#rü#e <al#>"),
        "hidden_far" => Text::plain(&format!("x#{}#{}####", "x".repeat(62), "x".repeat(4))),
        other => panic!("{other}"),
    };
    let id = dialect.id(postern::protocol::ids::play_clientbound::DISGUISED_CHAT).unwrap();
    let mut writer = postern::protocol::writer::Writer::packet(id);
    message.write(&dialect, &mut writer);
    let start = writer.finish();
    if fixture.case == "decorated" && dialect.text == TextForm::Json {
        // Copied, and others may order its keys otherwise.
        let read = |packet: &[u8]| {
            let mut reader = Reader::new(packet);
            let id = reader.varint().unwrap();
            (id, serde_json::from_str::<Value>(reader.string(262_144).unwrap()).unwrap())
        };
        assert_eq!(read(&disguised), read(&start));
    } else {
        assert_eq!(disguised[..start.len()], start);
    }
    assert!(shown >= disguised.len() - start.len(), "copied as it was");
}

/// The dialog of the fixture as the program makes it.
fn show_dialog(fixture: &Fixture) -> Vec<u8> {
    let dialog = &fixture.fields["dialog"];
    let own = |component: &Value| {
        let words = text(&component["text"]);
        match component["color"].as_str() {
            Some("gold") => Text::parse(&format!("&6{words}"), &[]),
            Some("red") => Text::parse(&format!("&c{words}"), &[]),
            None => Text::plain(words),
            Some(other) => panic!("{other}"),
        }
    };
    let body: Vec<_> =
        dialog["body"].as_array().unwrap().iter().map(|paragraph| own(&paragraph["contents"])).collect();
    let made = PinDialog {
        title: &own(&dialog["title"]),
        body: &body,
        label: &own(&dialog["inputs"][0]["label"]),
        submit: &own(&dialog["yes"]["label"]),
        leave: &own(&dialog["no"]["label"]),
    };
    dialog::write_show_dialog(&fixture.dialect(), &made).unwrap()
}

fn in_configuration(fixture: &Fixture) -> Option<Use> {
    let (dialect, fields) = (fixture.dialect(), &fixture.fields);
    let packet = fixture.kind.2.as_str();
    let passes = match packet {
        "custom_click_action" => false,
        "plugin_message" => matches!(fixture.case.as_str(), "brand" | "empty"),
        _ => true,
    };
    assert_eq!(up(fixture), if passes { Up::Pass } else { Up::Drop });
    let read = |packet| FromClient::read(packet, &dialect);
    if (packet, fixture.case.as_str()) == ("custom_click_action", "none") {
        // The button for the code without a code.
        assert_eq!(read(&fixture.bytes).unwrap_err(), Malformed::BadValue);
        return Some(Use::Coded);
    }
    match (packet, read(&fixture.bytes).unwrap()) {
        ("client_information", FromClient::ClientInformation) => {}
        // Exercised as what the relay does with it, too.
        ("plugin_message", FromClient::PluginMessage { channel }) => {
            assert_eq!(channel, text(&fields["channel"]));
            return None;
        }
        ("keep_alive", FromClient::KeepAlive(id)) => {
            assert_eq!(id, number(&fields["id"]));
            fixture.read(read);
        }
        ("pong", FromClient::Pong(id)) => {
            assert_eq!(id, small(&fields["id"]));
            fixture.read(read);
        }
        ("cookie_response", FromClient::CookieResponse { key, payload }) => {
            assert_eq!(key, text(&fields["key"]));
            let expected = (!fields["payload"].is_null()).then(|| bytes(&fields["payload"]));
            assert_eq!(payload.map(<[u8]>::to_vec), expected);
            fixture.read(read);
        }
        ("custom_click_action", FromClient::Click(click)) => {
            match (fixture.case.as_str(), click) {
                ("inputs", Click::Code(code)) => assert_eq!(code.expose_secret(), "4821"),
                ("leave", Click::Leave) | ("foreign", Click::Foreign) => {}
                (case, other) => panic!("{case}: {other:?}"),
            }
            fixture.read(read);
        }
        ("acknowledge_finish_configuration", FromClient::Other(_)) => return None,
        (_, FromClient::Other(_)) => return Some(Use::Known),
        (packet, other) => panic!("{packet} read as {other:?}"),
    }
    Some(Use::Coded)
}
