//! What texts and outcomes are taken for, and what is said about them.

use super::*;

fn backend(forwarding: ForwardingMode) -> Backend {
    Backend {
        name: "lobby".into(),
        host: "10.0.0.5".into(),
        port: 25566,
        lookup: crate::backend::Lookup::Host,
        forwarding,
        secret: None,
        send_proxy_protocol: false,
    }
}

#[test]
fn disconnects_are_told_apart() {
    use ForwardingMode::{BungeeGuard, Legacy, Modern, None};
    let expected = |wanted| Fault::ForwardingExpected { wanted };
    let velocity = "This server requires you to connect with Velocity.";
    let bungee = "If you wish to use IP forwarding, please enable it in your BungeeCord config as well!";
    let no_data = "§cUnable to authenticate - no data was forwarded by the proxy.";
    let bad_secret = "Unable to verify player details";
    for (text, mode, told, fault) in [
        (bad_secret, Modern, Told::Signed, Some(Fault::WrongSecret)),
        ("Unable to verify player details.", Modern, Told::Signed, Some(Fault::WrongSecret)),
        (bad_secret, Modern, Told::Nothing, Option::None),
        (velocity, None, Told::Nothing, Some(expected(Modern))),
        (velocity, Legacy, Told::Declined, Some(expected(Modern))),
        ("Join through play.example.com!", Legacy, Told::Declined, Some(expected(Modern))),
        ("Join through play.example.com!", Legacy, Told::Nothing, Option::None),
        (bungee, Modern, Told::Nothing, Some(expected(Legacy))),
        (
            "Unknown data in login hostname, did you forget to enable BungeeCord in spigot.yml?",
            Legacy,
            Told::Nothing,
            Some(Fault::ForwardingNotAsked),
        ),
        ("§cUnable to authenticate.", BungeeGuard, Told::Signed, Some(Fault::WrongSecret)),
        ("§cUnable to authenticate.", Legacy, Told::Nothing, Some(expected(BungeeGuard))),
        (no_data, BungeeGuard, Told::Signed, Some(expected(BungeeGuard))),
        (no_data, Modern, Told::Nothing, Some(expected(BungeeGuard))),
        ("&cUnable to authenticate.", BungeeGuard, Told::Signed, Some(Fault::WrongSecret)),
        ("Missing profile public key.", Modern, Told::Nothing, Some(Fault::ProfileKeyWanted)),
        ("Banned: outdated client! used to cheat", Modern, Told::Signed, Option::None),
        ("Server is still starting! Please wait before reconnecting.", Modern, Told::Nothing, Option::None),
    ] {
        for json in [
            serde_json::json!({ "text": text }).to_string(),
            serde_json::json!(text).to_string(),
            serde_json::json!({ "text": "", "extra": [{ "text": text, "color": "red" }] }).to_string(),
            text.to_owned(),
        ] {
            let refused = Fault::Refused { words: json.clone() };
            let wanted = fault.clone().unwrap_or(refused);
            assert_eq!(Fault::of_disconnect(&json, mode, told), wanted, "{json} {mode:?} {told:?}");
        }
    }
    for (json, label) in [
        (r#"{"translate":"multiplayer.disconnect.outdated_client","with":["1.21"]}"#, "wrong-version"),
        (r#"{"translate":"multiplayer.disconnect.incompatible","with":["1.21"]}"#, "wrong-version"),
        (r#"{"text":"Outdated server! I'm still on 1.20.4"}"#, "wrong-version"),
        (r#"{"text":"This server is only compatible with Minecraft 1.13 and above."}"#, "wrong-version"),
        (r#""You are using an unsupported Minecraft version!""#, "wrong-version"),
        (r#""You are logging in too fast, try again later.""#, "throttled"),
        (r#"{"translate":"multiplayer.disconnect.unverified_username"}"#, "online-mode"),
        (r#"{"translate":"multiplayer.disconnect.missing_public_key"}"#, "profile-key-wanted"),
        (r#"{"text":"Connection throttled! Please wait before reconnecting."}"#, "throttled"),
        (r#"{"translate":"multiplayer.disconnect.not_whitelisted"}"#, "refused"),
    ] {
        assert_eq!(Fault::of_disconnect(json, Modern, Told::Nothing).label(), label, "{json}");
    }
    let words = r#"{"translate":"multiplayer.disconnect.server_full"}"#;
    assert_eq!(Fault::of_disconnect(words, Modern, Told::Signed).words(), Some(words));
    assert!(Fault::is_of_a_list(words) && Fault::is_of_a_list(r#""§4You are banned from this server!""#));
    assert!(!Fault::is_of_a_list(r#"{"text":"Unable to verify player details"}"#));
}

#[test]
fn every_fault_names_its_cause_and_cure() {
    let attempt = Attempt { backend: "lobby".into(), address: None, error: "no such host".into() };
    let words = || "{\"text\":\"no\\u001b[31m\\u202e\"}".to_owned();
    let exposed = "anyone who can reach 10.0.0.5:25566 can be anyone: firewall it or enable forwarding; for that, set `proxies.velocity.enabled: true`";
    let (unavailable, misconfigured) = (Reason::BackendUnavailable, Reason::BackendMisconfigured);
    let wanted = ForwardingMode::Legacy;
    let faults = [
        (
            Fault::Unreachable { attempts: vec![attempt] },
            unavailable,
            "lobby: no such host",
            "correct the name in its `address`",
        ),
        (Fault::Silent, unavailable, "accepts connections", "PROXY header"),
        (Fault::Cut, unavailable, "closed", "log"),
        (Fault::Protocol(Malformed::NotUtf8), misconfigured, "UTF-8", "`address`"),
        (Fault::OnlineMode, misconfigured, "online mode", "online-mode=false"),
        (Fault::ForwardingNotAsked, misconfigured, "does not ask who the player is", exposed),
        (
            Fault::ForwardingExpected { wanted },
            misconfigured,
            "expects BungeeCord forwarding",
            "`proxies.velocity.enabled: true` in its config/paper-global.yml",
        ),
        (Fault::WrongSecret, misconfigured, "secret", "proxies.velocity.secret"),
        (
            Fault::WrongIdentity { given: Uuid::from_u128(3 << 76) },
            misconfigured,
            "made from its name",
            "makes ids of its own: look for one that changes UUIDs",
        ),
        (
            Fault::WrongVersion { words: words() },
            misconfigured,
            "version: \"no\u{fffd}[31m\u{fffd}\"",
            "ViaVersion",
        ),
        (Fault::ProfileKeyWanted, misconfigured, "chat key", "enforce-secure-profile=false"),
        (
            Fault::Throttled { words: words() },
            unavailable,
            "throttles connections",
            "settings.connection-throttle: -1",
        ),
        (
            Fault::Refused { words: words() },
            unavailable,
            "refused the player: \"no\u{fffd}[31m\u{fffd}\"",
            "own decision",
        ),
    ];
    let mut labels: Vec<_> = faults.iter().map(|(fault, ..)| fault.label()).collect();
    for (fault, reason, cause, mend) in &faults {
        assert_eq!(fault.reason(), *reason, "{fault:?}");
        assert!(fault.cause().contains(cause), "{}", fault.cause());
        let said = fault.mend(&backend(ForwardingMode::Modern));
        assert!(said.contains(mend), "{said}");
    }
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), faults.len());
    let mend = |fault: Fault, mode| fault.mend(&backend(mode));
    assert!(mend(Fault::ForwardingNotAsked, ForwardingMode::Legacy).contains("spigot.yml"));
    // What stands in the host nobody signs: there it was ignored by one who lets everybody in.
    for mode in [ForwardingMode::Legacy, ForwardingMode::BungeeGuard] {
        let said = mend(Fault::WrongIdentity { given: Uuid::nil() }, mode);
        assert!(said.contains("can be anyone") && said.contains("settings.bungeecord: true"), "{said}");
    }
    assert!(mend(Fault::WrongSecret, ForwardingMode::BungeeGuard).contains("BungeeGuard"));
}

#[test]
fn a_wrong_mode_is_mended_on_the_side_that_is_wrong() {
    use ForwardingMode::{BungeeGuard, Legacy, Modern, None};
    for (here, wanted, mend) in [
        (Modern, Modern, "could not read our answer"),
        (Legacy, Modern, "set `forwarding: modern`"),
        (BungeeGuard, Modern, "set `forwarding: modern`"),
        (None, Modern, "set `forwarding: modern`"),
        (Modern, Legacy, "set `settings.bungeecord: false`"),
        (Legacy, Legacy, "could not read our host fields"),
        (BungeeGuard, Legacy, "could not read our host fields"),
        (None, Legacy, "set `forwarding: legacy`"),
        (Modern, BungeeGuard, "set `forwarding: bungeeguard`"),
        (Legacy, BungeeGuard, "set `forwarding: bungeeguard`"),
        (BungeeGuard, BungeeGuard, "could not read our host fields"),
        (None, BungeeGuard, "set `forwarding: bungeeguard`"),
    ] {
        let said = Fault::ForwardingExpected { wanted }.mend(&backend(here));
        assert!(said.contains(mend), "{here:?} {wanted:?}: {said}");
    }
}

#[test]
fn names_are_mended_where_there_was_no_address() {
    let attempt = |address: Option<&str>, error: &str| Attempt {
        backend: "lobby".into(),
        address: address.map(|address| address.parse().unwrap()),
        error: error.to_owned(),
    };
    let nameless = || attempt(None, "cannot resolve lobby.internal: no such host");
    let refused = || attempt(Some("10.0.0.5:25566"), "Connection refused");
    for (attempts, mend) in [
        (vec![nameless()], "/etc/resolv.conf, the container's network"),
        (vec![nameless(), nameless()], "correct the name"),
        (vec![refused()], "start it"),
        (vec![nameless(), refused()], "start it"),
        // Nobody knows what took so long.
    ] {
        let said = Fault::Unreachable { attempts }.mend(&backend(ForwardingMode::Modern));
        assert!(said.contains(mend), "{said}");
    }
}

/// It is where the proxy finds the backend, and says nothing about who else does.
#[test]
fn a_loopback_address_keeps_nobody_out() {
    for (host, ip) in [
        ("127.0.0.1", Some("127.0.0.1")),
        ("127.0.0.2", Some("127.0.0.2")),
        ("localhost", Some("127.0.0.1")),
        ("LOCALHOST", Some("127.0.0.1")),
        ("::1", Some("::1")),
        ("10.0.0.5", None),
        ("localhost.example.com", None),
    ] {
        let at = Backend { host: host.to_owned(), ..backend(ForwardingMode::Modern) };
        let said = exposure(&at, " of a kind");
        assert!(said.contains("can be anyone: firewall it or enable forwarding of a kind"), "{said}");
        let tail = ip.map(|ip| format!("set `server-ip={ip}` in its server.properties"));
        assert_eq!(said.contains("server-ip"), tail.is_some(), "{said}");
        assert!(said.ends_with(&tail.unwrap_or_default()), "{said}");
    }
}

/// What is told in audit.log and by doctor is cut at 600 characters, and the end of an advice is part of it.
#[test]
fn no_advice_is_too_long_to_be_told() {
    use ForwardingMode::{BungeeGuard, Legacy, Modern, None};
    let expected = [Modern, Legacy, BungeeGuard].map(|wanted| Fault::ForwardingExpected { wanted });
    let faults = [Fault::ForwardingNotAsked, Fault::WrongIdentity { given: Uuid::nil() }, Fault::WrongSecret];
    for fault in expected.into_iter().chain(faults) {
        for forwarding in [Modern, Legacy, BungeeGuard, None] {
            // Neither can an address be longer than this one and be of this machine.
            let host = "0000:0000:0000:0000:0000:0000:0000:0001".to_owned();
            let said = fault.mend(&Backend { host, ..backend(forwarding) });
            assert!(said.chars().count() <= 600, "{}: {said}", said.chars().count());
        }
    }
}
