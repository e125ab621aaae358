//! What a probe puts on the wire, and what it never does.

use tokio::{
    io::{DuplexStream, duplex},
    join,
    time::Instant,
};

use super::*;
use crate::protocol::{
    login::{
        EncryptionRequest, FromClient, LoginSuccess, write_cookie_request, write_disconnect_json,
        write_set_compression,
    },
    reader::Reader,
};

const SECRET: &[u8] = b"forwarding";
/// Before and since login success has been something else than play.
const BEFORE: [i32; 6] = [4, 47, 340, 393, 759, 763];
const SINCE: [i32; 5] = [764, 766, 769, 776, 777];

fn backend(forwarding: ForwardingMode) -> Backend {
    Backend {
        name: "lobby".to_owned(),
        host: "127.0.0.1".to_owned(),
        port: 25566,
        lookup: crate::backend::Lookup::Host,
        forwarding,
        secret: Some(SECRET.to_vec().into()),
        send_proxy_protocol: false,
    }
}

fn approach(protocol: i32) -> Approach {
    let version = ProtocolVersion(protocol);
    Approach::new(Some(version), version, "")
}

/// Runs a probe against a script of the backend's side.
async fn run<F: Future>(
    backend: &Backend,
    approach: &Approach,
    claim: Claim<'_>,
    script: impl FnOnce(Conn<DuplexStream>) -> F,
) -> (Heard, F::Output) {
    let (near, far) = duplex(1 << 20);
    join!(converse(Conn::new(near), backend, approach, claim), script(Conn::new(far)))
}

/// Reads handshake and login start; returns the host.
async fn greet(conn: &mut Conn<DuplexStream>, dialect: &Dialect) -> String {
    let packet = conn.read_packet(1 << 16).await.unwrap();
    let mut reader = Reader::new(&packet);
    assert_eq!((reader.varint(), reader.varint()), (Ok(0), Ok(dialect.version().0)));
    let host = reader.string(32767).unwrap().to_owned();
    assert_eq!((reader.u16(), reader.varint()), (Ok(25566), Ok(2)));
    let start = LoginStart::read(&conn.read_packet(1 << 16).await.unwrap(), dialect).unwrap();
    assert_eq!((start.name.as_str(), start.key), (NAME, None));
    host
}

fn success(dialect: &Dialect) -> Vec<u8> {
    let session_id = Uuid::from_u128(7);
    let profile = Claim::Forwarded(None).profile().unwrap();
    LoginSuccess { profile, strict_errors: true, session_id }.write(dialect)
}

async fn is_over(conn: &mut Conn<DuplexStream>) -> bool {
    matches!(conn.read_packet(1 << 16).await, Err(ConnError::Closed))
}

fn ask(dialect: &Dialect, message_id: i32, channel: &str) -> Vec<u8> {
    PluginRequest { message_id, channel, data: &[4] }.write(dialect)
}

async fn answer(conn: &mut Conn<DuplexStream>, dialect: &Dialect) -> (i32, Option<Vec<u8>>) {
    let packet = conn.read_packet(1 << 16).await.unwrap();
    match FromClient::read(&packet, dialect).unwrap() {
        FromClient::PluginResponse(response) => (response.message_id, response.data.map(<[u8]>::to_vec)),
        FromClient::CookieResponse { key } => panic!("cookie {key}"),
    }
}

#[test]
fn only_a_known_version_of_its_own_with_configuration_is_trusted() {
    let newest = ProtocolVersion(777);
    for (native, careful) in [
        (Some(763), true),
        (Some(764), false),
        (Some(777), false),
        (Some(778), true),
        (Some(0x4000_0101), true),
        (Some(0), true),
        (None, true),
    ] {
        let approach = Approach::new(native.map(ProtocolVersion), newest, "");
        assert_eq!(approach.is_careful(), careful, "{native:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn in_old_versions_a_probe_has_left_before_it_could_be_let_in() {
    for protocol in BEFORE {
        for mode in [ForwardingMode::Modern, ForwardingMode::Legacy, ForwardingMode::None] {
            let (backend, approach) = (backend(mode), approach(protocol));
            let start = Instant::now();
            let (heard, ()) = run(&backend, &approach, Claim::Nothing, async |mut conn| {
                assert_eq!(greet(&mut conn, &approach.dialect).await, "127.0.0.1");
                // Nothing was said to it yet: its end came with its beginning.
                assert!(is_over(&mut conn).await);
                conn.write_packet(&write_disconnect_json(&approach.dialect, "\"no\"")).await.unwrap();
            })
            .await;
            let end = End::Disconnect("\"no\"".to_owned());
            assert_eq!(heard, Heard { asked: false, told: Told::Nothing, forwarded: None, end });
            assert_eq!(start.elapsed(), Duration::ZERO);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn in_old_versions_no_player_can_be_read_from_its_answer() {
    for protocol in [393, 759, 763] {
        let (backend, unseen) = (backend(ForwardingMode::Modern), approach(protocol));
        let dialect = unseen.dialect;
        let secret = b"any".to_vec().into();
        // Unless it is known to ask first, it is not waited for.
        let (heard, ()) = run(&backend, &unseen, Claim::Forwarded(Some(&secret)), async |mut conn| {
            greet(&mut conn, &dialect).await;
            assert!(is_over(&mut conn).await);
            conn.write_packet(&ask(&dialect, 2, forwarding::PLAYER_INFO)).await.unwrap();
        })
        .await;
        assert_eq!((heard.asked, &heard.end), (true, &End::Closed));
        let approach = unseen.after(&heard);
        let (heard, ()) = run(&backend, &approach, Claim::Forwarded(Some(&secret)), async |mut conn| {
            greet(&mut conn, &dialect).await;
            // Mods that wait for an answer go on waiting.
            conn.write_packet(&ask(&dialect, 1, "fml:handshake")).await.unwrap();
            conn.write_packet(&ask(&dialect, 2, forwarding::PLAYER_INFO)).await.unwrap();
            let (id, data) = answer(&mut conn, &dialect).await;
            assert_eq!((id, data.unwrap()), (2, forwarding::unreadable(b"any")));
            assert!(is_over(&mut conn).await);
            conn.write_packet(&success(&dialect)).await.unwrap();
        })
        .await;
        assert_eq!((heard.asked, heard.told), (true, Told::Signed));
    }
}

#[tokio::test(start_paused = true)]
async fn login_success_is_never_acknowledged() {
    for protocol in SINCE {
        for threshold in [None, Some(8)] {
            let (backend, approach) = (backend(ForwardingMode::Modern), approach(protocol));
            let dialect = approach.dialect;
            let claim = Claim::Forwarded(backend.secret.as_ref());
            let (heard, ()) = run(&backend, &approach, claim, async |mut conn| {
                greet(&mut conn, &dialect).await;
                if let Some(threshold) = threshold {
                    conn.write_packet(&write_set_compression(&dialect, threshold).unwrap()).await.unwrap();
                    conn.set_threshold(usize::try_from(threshold).ok());
                }
                conn.write_packet(&ask(&dialect, 1, "mod:hello")).await.unwrap();
                assert_eq!(answer(&mut conn, &dialect).await, (1, None));
                conn.write_packet(&ask(&dialect, 2, forwarding::PLAYER_INFO)).await.unwrap();
                let profile = claim.profile().unwrap();
                let expected = forwarding::answer(&[4], SECRET, &dialect, &profile, None, ADDRESS);
                assert_eq!(answer(&mut conn, &dialect).await, (2, Some(expected)));
                conn.write_packet(&ask(&dialect, 3, forwarding::PLAYER_INFO)).await.unwrap();
                assert_eq!(answer(&mut conn, &dialect).await, (3, None));
                if let Some(packet) = write_cookie_request(&dialect, "a:b") {
                    conn.write_packet(&packet).await.unwrap();
                    let packet = conn.read_packet(1 << 16).await.unwrap();
                    let no_cookie = FromClient::CookieResponse { key: "a:b" };
                    assert_eq!(FromClient::read(&packet, &dialect).unwrap(), no_cookie);
                    assert_eq!(packet.last(), Some(&0));
                }
                conn.write_packet(&success(&dialect)).await.unwrap();
                assert!(is_over(&mut conn).await);
            })
            .await;
            let (forwarded, end) = (Some(FORWARDED_ID), End::Success(FORWARDED_ID));
            assert_eq!(heard, Heard { asked: true, told: Told::Signed, forwarded, end });
            assert_eq!(heard.fault(ForwardingMode::Modern), None);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hosts_say_what_is_claimed() {
    let secret = b"token".to_vec().into();
    for (mode, claim, fields) in [
        (ForwardingMode::Legacy, Claim::Nothing, ""),
        (
            ForwardingMode::Legacy,
            Claim::Forwarded(None),
            "\x00127.0.0.1\x00706f737465728e008000646f63746f72\0[",
        ),
        (ForwardingMode::BungeeGuard, Claim::Nothing, ""),
        (
            ForwardingMode::BungeeGuard,
            Claim::Forwarded(Some(&secret)),
            "\x00127.0.0.1\x00706f737465728e008000646f6",
        ),
        (ForwardingMode::Modern, Claim::Forwarded(Some(&secret)), ""),
    ] {
        let (backend, approach) = (backend(mode), approach(769));
        let (_, host) =
            run(&backend, &approach, claim, async |mut conn| greet(&mut conn, &approach.dialect).await).await;
        let rest = host.strip_prefix("127.0.0.1").unwrap();
        assert!(if fields.is_empty() { rest.is_empty() } else { rest.starts_with(fields) }, "{host:?}");
        let has_token = host.contains(r#""bungeeguard-token","value":"token""#);
        assert_eq!(has_token, mode == ForwardingMode::BungeeGuard && !fields.is_empty());
    }
    let version = ProtocolVersion(763);
    let forge = Approach::new(Some(version), version, "\0FML3\0");
    let (_, host) = run(&backend(ForwardingMode::Modern), &forge, Claim::Nothing, async |mut conn| {
        greet(&mut conn, &forge.dialect).await
    })
    .await;
    assert_eq!(host, "127.0.0.1\0FML3\0");
}

/// What a success is worth: the forwarded id can come from the forwarding alone.
#[test]
fn only_the_forwarded_id_proves_the_forwarding() {
    use ForwardingMode::{BungeeGuard, Legacy, Modern};
    assert_eq!((FORWARDED_ID.get_version_num(), OFFLINE_ID.get_version_num()), (8, 3));
    let wrong = Some(Fault::WrongIdentity { given: OFFLINE_ID });
    for (mode, asked, forwarded, given, fault) in [
        (Modern, true, Some(FORWARDED_ID), FORWARDED_ID, None),
        (Modern, true, Some(FORWARDED_ID), OFFLINE_ID, wrong.clone()),
        (Modern, false, Some(FORWARDED_ID), FORWARDED_ID, Some(Fault::ForwardingNotAsked)),
        (Legacy, false, Some(FORWARDED_ID), FORWARDED_ID, None),
        (Legacy, false, Some(FORWARDED_ID), OFFLINE_ID, wrong.clone()),
        (BungeeGuard, false, Some(FORWARDED_ID), OFFLINE_ID, wrong),
        // Nobody was forwarded, so any id will do.
        (Legacy, false, None, OFFLINE_ID, None),
        (Modern, false, None, Uuid::from_u128(7), None),
    ] {
        let heard = Heard { asked, told: Told::Nothing, forwarded, end: End::Success(given) };
        assert_eq!(heard.fault(mode), fault, "{mode:?} {asked} {forwarded:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_token_nothing_is_signed() {
    let token = b"token".to_vec().into();
    for (claim, told) in
        [(Claim::Forwarded(None), Told::Nothing), (Claim::Forwarded(Some(&token)), Told::Signed)]
    {
        let (backend, approach) = (backend(ForwardingMode::BungeeGuard), approach(769));
        let (heard, _) =
            run(&backend, &approach, claim, async |mut conn| greet(&mut conn, &approach.dialect).await).await;
        assert_eq!(heard.told, told);
    }
}

#[tokio::test(start_paused = true)]
async fn every_way_to_end() {
    let (backend, approach) = (backend(ForwardingMode::None), approach(769));
    let dialect = approach.dialect;
    let rsa = EncryptionRequest { public_key: &[1], verify_token: &[2], should_authenticate: true };
    for (sent, end) in [
        (vec![rsa.write(&dialect)], End::EncryptionRequest),
        (vec![vec![0x7f]], End::Malformed(Malformed::UnexpectedPacket(0x7f))),
        (vec![ask(&dialect, 1, "a:b"); MAX_PACKETS], End::Malformed(Malformed::LengthOutOfRange)),
        (vec![], End::Closed),
    ] {
        let (heard, ()) = run(&backend, &approach, Claim::Nothing, async |mut conn| {
            greet(&mut conn, &dialect).await;
            for packet in sent {
                conn.write_packet(&packet).await.unwrap();
            }
        })
        .await;
        assert_eq!(heard.end, end);
    }
    let start = Instant::now();
    let (heard, ()) = run(&backend, &approach, Claim::Nothing, async |mut conn| {
        greet(&mut conn, &dialect).await;
        assert!(is_over(&mut conn).await);
    })
    .await;
    assert_eq!((heard.end, start.elapsed()), (End::Silent, PATIENCE));
}
