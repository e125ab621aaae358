//! A scripted backend behind real sockets, a scripted client before a duplex.

use std::{future::Future, net::IpAddr};

use tokio::{
    io::DuplexStream,
    net::{TcpListener, TcpSocket},
};
use uuid::Uuid;

use super::*;
use crate::{
    backend::{Config, Lookup, connect::tests::hung, standing::REST},
    identity::{Profile, Property, Username},
    messages::MessageKey,
    protocol::{
        handshake::{Intent, VirtualHost},
        login::{ProfileKey, write_cookie_request},
        reader::Reader,
        version::ProtocolVersion,
        writer::Writer,
    },
};

const PROTOCOLS: [i32; 12] = [4, 47, 340, 393, 758, 759, 761, 764, 766, 774, 776, 777];
const SECRET: &[u8] = b"forwarding";
const ID: Uuid = Uuid::from_u128(0x069a_79f4_44e9_4726_a5be_fca9_0e38_aaf5);
/// What an offline-mode server makes of the name.
const OFFLINE_ID: Uuid = Uuid::from_u128(0xb50a_d385_829d_3141_a216_7e7d_7539_ba7f);
const ADDRESS: &str = "203.0.113.7";

fn profile(id: Uuid) -> Profile {
    let signature = Some("c2ln".to_owned());
    let textures = Property { name: "textures".into(), value: "dmFs".into(), signature };
    Profile { id, name: Username::parse("Notch").unwrap(), properties: vec![textures] }
}

fn backend(name: &str, port: u16, forwarding: ForwardingMode) -> Backend {
    Backend {
        name: name.to_owned(),
        host: "127.0.0.1".to_owned(),
        port,
        lookup: Lookup::Host,
        forwarding,
        secret: Some(SECRET.to_vec().into()),
        send_proxy_protocol: false,
    }
}

/// A port that refuses connections for as long as the socket lives: bound, so that nobody else gets it, but not
/// listening.
fn closed_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// One login before it begins.
struct Stage {
    listener: TcpListener,
    router: Router,
    admitted: Admitted,
    handshake: Handshake,
    dialect: Dialect,
    deadline: Deadline,
    key: Option<ProvenKey>,
}

impl Stage {
    async fn new(protocol: i32, mode: ForwardingMode) -> Self {
        Self::with_backends(protocol, |port| vec![backend("lobby", port, mode)]).await
    }

    async fn with_backends(protocol: i32, backends: impl FnOnce(u16) -> Vec<Backend>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backends = backends(listener.local_addr().unwrap().port());
        let version = ProtocolVersion(protocol);
        let address: IpAddr = ADDRESS.parse().unwrap();
        Self {
            router: Router::new(Config {
                try_order: (0..backends.len()).collect(),
                backends,
                forced_hosts: Vec::new(),
                connect_timeout: Duration::from_secs(5),
            }),
            listener,
            admitted: Admitted::for_test(profile(ID), Proof::Verified, address),
            handshake: Handshake {
                version,
                host: VirtualHost::parse("Play.Example.com.\0FML2\0").unwrap(),
                port: 25565,
                intent: Intent::Transfer,
            },
            dialect: Dialect::of(version),
            deadline: Deadline::new(Duration::from_secs(25), Duration::from_mins(2)),
            key: None,
        }
    }

    fn player(&self) -> Player<'_> {
        let Self { admitted, handshake, dialect, key, .. } = self;
        Player { admitted, handshake, dialect, key: key.as_ref() }
    }

    fn success(&self, id: Uuid) -> LoginSuccess {
        use crate::protocol::version::SuccessTail;
        let mut profile = profile(id);
        let mut success =
            LoginSuccess { profile: profile.clone(), strict_errors: true, session_id: Uuid::nil() };
        match self.dialect.success_tail {
            SuccessTail::None => profile.properties.clear(),
            SuccessTail::Properties => {}
            SuccessTail::PropertiesStrict => success.strict_errors = false,
            SuccessTail::PropertiesSession => success.session_id = Uuid::from_u128(7),
        }
        LoginSuccess { profile, ..success }
    }

    /// Runs a login to its end. A login that failed ends for the client as the caller of [`enter`] would end it.
    async fn run<B: Future, C: Future>(
        &self,
        backend: impl FnOnce(Conn<TcpStream>) -> B,
        client: impl FnOnce(Conn<DuplexStream>) -> C,
    ) -> (Result<Entered, EnterError>, B::Output, C::Output) {
        self.run_begun(None, backend, client).await
    }

    /// The same with a client that is in configuration, if there is what has happened there.
    async fn run_begun<B: Future, C: Future>(
        &self,
        mut begun: Option<Configuring>,
        backend: impl FnOnce(Conn<TcpStream>) -> B,
        client: impl FnOnce(Conn<DuplexStream>) -> C,
    ) -> (Result<Entered, EnterError>, B::Output, C::Output) {
        let (near, far) = tokio::io::duplex(8 << 20);
        let in_configuration = begun.is_some();
        let proxy = async {
            let mut conn = Conn::new(near);
            let player = self.player();
            let result = enter(&mut conn, &player, begun.as_mut(), &self.router, &self.deadline).await;
            if let Err(error) = &result {
                if let Some(packet) = error.disconnect(&self.dialect, in_configuration, &text(error)) {
                    conn.write_packet(&packet).await.unwrap();
                }
                conn.close().await;
            }
            result
        };
        let behind = async {
            let (stream, _) = self.listener.accept().await.unwrap();
            backend(Conn::new(stream)).await
        };
        tokio::join!(proxy, behind, client(Conn::new(far)))
    }

    /// Runs a login that its backend ends with a fault; returns that and the JSON that the client got.
    async fn fault<B: Future>(&self, backend: impl FnOnce(Conn<TcpStream>) -> B) -> (Fault, String) {
        let client = async |mut conn: Conn<DuplexStream>| {
            let packet = conn.read_packet(1 << 20).await.unwrap();
            match FromBackend::read(&packet, &self.dialect).unwrap() {
                FromBackend::Disconnect(json) => json.to_owned(),
                other => panic!("{other:?}"),
            }
        };
        let (result, _, json) = self.run(backend, client).await;
        match result.unwrap_err() {
            EnterError::Backend { backend, fault, .. } => {
                assert_eq!(backend.name, "lobby");
                (fault, json)
            }
            other => panic!("{other:?}"),
        }
    }

    /// The backend's side of handshake and login start, which brings no key. Returns the host.
    async fn greet(&self, conn: &mut Conn<TcpStream>) -> String {
        let (host, key) = self.greet_with_key(conn).await;
        assert_eq!(key, None);
        host
    }

    /// The same; returns the key, too.
    async fn greet_with_key(&self, conn: &mut Conn<TcpStream>) -> (String, Option<ProfileKey>) {
        let packet = conn.read_packet(1 << 16).await.unwrap();
        let mut reader = Reader::new(&packet);
        assert_eq!(reader.varint(), Ok(0));
        assert_eq!(reader.varint(), Ok(self.handshake.version.0));
        let host = reader.string(32767).unwrap().to_owned();
        assert_eq!((reader.u16(), reader.varint()), (Ok(25565), Ok(2)));
        reader.finish().unwrap();
        let start = LoginStart::read(&conn.read_packet(1 << 16).await.unwrap(), &self.dialect).unwrap();
        let has_id = self.handshake.version.0 >= 760;
        assert_eq!((start.name.as_str(), start.claimed_id), ("Notch", has_id.then_some(ID)));
        (host, start.key)
    }

    /// Asks on a channel and returns the answer.
    async fn ask(&self, conn: &mut Conn<TcpStream>, id: i32, channel: &str, data: &[u8]) -> Option<Vec<u8>> {
        self.question(conn, id, channel, data).await;
        let (answered, data) = self.answer(conn).await;
        assert_eq!(answered, id);
        data
    }

    async fn question(&self, conn: &mut Conn<TcpStream>, message_id: i32, channel: &str, data: &[u8]) {
        let request = PluginRequest { message_id, channel, data };
        conn.write_packet(&request.write(&self.dialect)).await.unwrap();
    }

    async fn answer(&self, conn: &mut Conn<TcpStream>) -> (i32, Option<Vec<u8>>) {
        let packet = conn.read_packet(limit::BACKEND).await.unwrap();
        match FromClient::read(&packet, &self.dialect).unwrap() {
            FromClient::PluginResponse(response) => (response.message_id, response.data.map(<[u8]>::to_vec)),
            FromClient::CookieResponse { key } => panic!("cookie {key}"),
        }
    }

    /// The client's side of a question: reads it, or fails.
    async fn asked(&self, conn: &mut Conn<DuplexStream>) -> (i32, String, Vec<u8>) {
        let packet = conn.read_packet(limit::BACKEND).await.unwrap();
        match FromBackend::read(&packet, &self.dialect).unwrap() {
            FromBackend::PluginRequest(PluginRequest { message_id, channel, data }) => {
                (message_id, channel.to_owned(), data.to_vec())
            }
            other => panic!("{other:?}"),
        }
    }

    async fn respond(&self, conn: &mut Conn<DuplexStream>, message_id: i32, data: Option<&[u8]>) {
        let response = PluginResponse { message_id, data };
        conn.write_packet(&response.write(&self.dialect)).await.unwrap();
    }

    async fn answer_of_modern(&self, conn: &mut Conn<TcpStream>) {
        let answer = self.ask(conn, 3, forwarding::PLAYER_INFO, &[4]).await.unwrap();
        let expected = forwarding::answer(
            &[4],
            SECRET,
            &self.dialect,
            &profile(ID),
            self.key.as_ref(),
            ADDRESS.parse().unwrap(),
        );
        assert_eq!(answer, expected);
    }
}

/// The built-in text of a failure.
fn text(error: &EnterError) -> Text {
    Text::parse(error.reason().message().default_text(), &[])
}

fn disconnect(stage: &Stage, json: &str) -> Vec<u8> {
    write_disconnect_json(&stage.dialect, json)
}

fn text_of(key: MessageKey) -> String {
    Text::parse(key.default_text(), &[]).to_json().to_string()
}

#[tokio::test]
async fn success_is_passed_on_in_every_dialect() {
    for protocol in PROTOCOLS {
        for mode in [ForwardingMode::None, ForwardingMode::Legacy, ForwardingMode::Modern] {
            if mode == ForwardingMode::Modern && protocol < 393 {
                continue;
            }
            let stage = Stage::new(protocol, mode).await;
            let id = if mode == ForwardingMode::None { OFFLINE_ID } else { ID };
            let sent = stage.success(id);
            let packet = sent.write(&stage.dialect);
            let (result, (), got) = stage
                .run(
                    async |mut conn| {
                        let host = stage.greet(&mut conn).await;
                        let plain = "Play.Example.com\0FML2\0";
                        match mode {
                            ForwardingMode::Legacy => {
                                let start = format!("Play.Example.com\0{ADDRESS}\0{}\0[", ID.as_simple());
                                assert!(host.starts_with(&start), "{host:?}");
                            }
                            _ => assert_eq!(host, plain),
                        }
                        if mode == ForwardingMode::Modern {
                            stage.answer_of_modern(&mut conn).await;
                        }
                        conn.write_packet(&packet).await.unwrap();
                    },
                    async |mut conn| conn.read_packet(1 << 20).await.unwrap(),
                )
                .await;
            let entered = result.unwrap_or_else(|e| panic!("{protocol} {mode:?}: {e}"));
            assert_eq!(got, packet, "{protocol} {mode:?}");
            assert_eq!(entered.passed, Passed { threshold: None, success: sent }, "{protocol} {mode:?}");
            assert_eq!((entered.backend.name.as_str(), entered.passed_over), ("lobby", vec![]));
        }
    }
}

#[tokio::test]
async fn a_proven_key_is_in_login_start_where_nothing_signed_follows() {
    let brought = ProfileKey { expires: 5, key: vec![1; 294], signature: vec![2; 512] };
    for (protocol, owner) in [(759, None), (760, Some(ID))] {
        for (mode, expected) in [
            (ForwardingMode::Legacy, Some(&brought)),
            (ForwardingMode::BungeeGuard, Some(&brought)),
            (ForwardingMode::Modern, None),
            (ForwardingMode::None, None),
        ] {
            let mut stage = Stage::new(protocol, mode).await;
            stage.key = Some(ProvenKey::for_test(brought.clone(), owner));
            let id = if mode == ForwardingMode::None { OFFLINE_ID } else { ID };
            let success = stage.success(id).write(&stage.dialect);
            let (result, key, _) = stage
                .run(
                    async |mut conn| {
                        let (_, key) = stage.greet_with_key(&mut conn).await;
                        if mode == ForwardingMode::Modern {
                            // Version, then what is pinned beside the function that writes it.
                            stage.answer_of_modern(&mut conn).await;
                        }
                        conn.write_packet(&success).await.unwrap();
                        key
                    },
                    async |mut conn| conn.read_packet(1 << 20).await.unwrap(),
                )
                .await;
            assert_eq!((result.is_ok(), key.as_ref()), (true, expected), "{protocol} {mode:?}");
        }
    }
}

#[tokio::test]
async fn compression_reaches_the_client_right_before_success() {
    for protocol in PROTOCOLS.into_iter().filter(|protocol| *protocol >= 47) {
        for (threshold, in_force) in [(64, Some(64)), (0, Some(0)), (-1, None)] {
            let stage = Stage::new(protocol, ForwardingMode::None).await;
            let questions = stage.dialect.login_plugin;
            let success = stage.success(OFFLINE_ID).write(&stage.dialect);
            let (result, mut behind, ()) = stage
                .run(
                    async |mut conn| {
                        stage.greet(&mut conn).await;
                        let packet = write_set_compression(&stage.dialect, threshold).unwrap();
                        conn.write_packet(&packet).await.unwrap();
                        conn.set_threshold(in_force);
                        if questions {
                            let answer = stage.ask(&mut conn, 5, "mod:x", &[1; 300]).await;
                            assert_eq!(answer, Some(vec![2; 300]));
                            // One more that is still open when success comes.
                            stage.question(&mut conn, 6, "mod:y", &[]).await;
                        }
                        conn.write_packet(&success).await.unwrap();
                        // Else it is in play already, where an answer would be another packet.
                        if stage.dialect.configuration {
                            assert_eq!(stage.answer(&mut conn).await, (6, None));
                        }
                        conn
                    },
                    async |mut conn| {
                        if questions {
                            assert_eq!(stage.asked(&mut conn).await, (5, "mod:x".into(), vec![1; 300]));
                            stage.respond(&mut conn, 5, Some(&[2; 300])).await;
                            assert_eq!(stage.asked(&mut conn).await.0, 6);
                            // Asked for nothing but to show that everything before it was read.
                            assert_eq!(stage.asked(&mut conn).await, (0, FENCE_CHANNEL.into(), vec![]));
                            stage.respond(&mut conn, 6, None).await;
                            stage.respond(&mut conn, 0, None).await;
                        }
                        let packet = conn.read_packet(100).await.unwrap();
                        let read = FromBackend::read(&packet, &stage.dialect).unwrap();
                        assert_eq!(read, FromBackend::SetCompression(threshold));
                        conn.set_threshold(in_force);
                        assert_eq!(conn.read_packet(1 << 16).await.unwrap(), success);
                    },
                )
                .await;
            let entered = result.unwrap();
            assert_eq!(entered.passed.threshold, in_force, "{protocol}");
            assert_eq!(entered.conn.threshold(), in_force, "{protocol}");
            drop(entered);
            let rest = behind.read_packet(100).await;
            assert!(matches!(rest, Err(ConnError::Closed)), "{protocol}: {rest:?}");
        }
    }
}

#[tokio::test]
async fn answers_out_of_order_and_large() {
    let large = vec![0xa5; 1 << 20];
    for protocol in [393, 758, 764, 777] {
        let stage = Stage::new(protocol, ForwardingMode::Modern).await;
        let success = stage.success(ID).write(&stage.dialect);
        let (result, (), ()) = stage
            .run(
                async |mut conn| {
                    stage.greet(&mut conn).await;
                    for (id, data) in [(7, &large[..]), (-9, b"small"), (i32::MAX, b"")] {
                        stage.question(&mut conn, id, "fml:loginwrapper", data).await;
                    }
                    stage.answer_of_modern(&mut conn).await;
                    assert_eq!(stage.answer(&mut conn).await, (i32::MAX, None));
                    assert_eq!(stage.answer(&mut conn).await, (-9, Some(vec![])));
                    assert_eq!(stage.answer(&mut conn).await, (7, Some(large.clone())));
                    conn.write_packet(&success).await.unwrap();
                },
                async |mut conn| {
                    for (id, data) in [(7, &large[..]), (-9, b"small"), (i32::MAX, b"")] {
                        let expected = (id, "fml:loginwrapper".to_owned(), data.to_vec());
                        assert!(stage.asked(&mut conn).await == expected, "question {id}");
                    }
                    // The backend reads its answers in this order; ours to its own question comes first.
                    tokio::task::yield_now().await;
                    stage.respond(&mut conn, i32::MAX, None).await;
                    stage.respond(&mut conn, -9, Some(&[])).await;
                    stage.respond(&mut conn, 7, Some(&large)).await;
                    assert_eq!(conn.read_packet(1 << 16).await.unwrap(), success);
                },
            )
            .await;
        result.unwrap_or_else(|e| panic!("{protocol}: {e}"));
    }
}

#[tokio::test]
async fn cookies_are_relayed_when_asked_for() {
    for protocol in [766, 777] {
        let stage = Stage::new(protocol, ForwardingMode::None).await;
        let success = stage.success(OFFLINE_ID).write(&stage.dialect);
        let request = write_cookie_request(&stage.dialect, "session").unwrap();
        let response = Writer::packet(4).string("minecraft:session").bool(true).bytes(b"abc").finish();
        let (result, (), ()) = stage
            .run(
                async |mut conn| {
                    stage.greet(&mut conn).await;
                    conn.write_packet(&request).await.unwrap();
                    assert_eq!(conn.read_packet(1 << 16).await.unwrap(), response);
                    conn.write_packet(&success).await.unwrap();
                },
                async |mut conn| {
                    assert_eq!(conn.read_packet(1 << 16).await.unwrap(), request);
                    conn.write_packet(&response).await.unwrap();
                    assert_eq!(conn.read_packet(1 << 16).await.unwrap(), success);
                },
            )
            .await;
        result.unwrap();
    }
}

#[tokio::test]
async fn proxy_channels_never_reach_the_client() {
    for mode in [ForwardingMode::Modern, ForwardingMode::None, ForwardingMode::Legacy] {
        let stage = Stage::new(774, mode).await;
        let success = stage.success(ID).write(&stage.dialect);
        let (result, (), got) = stage
            .run(
                async |mut conn| {
                    stage.greet(&mut conn).await;
                    let first = stage.ask(&mut conn, 1, forwarding::PLAYER_INFO, &[1]).await;
                    assert_eq!(first.is_some(), mode == ForwardingMode::Modern);
                    for channel in [forwarding::PLAYER_INFO, "velocity:other"] {
                        assert_eq!(stage.ask(&mut conn, 2, channel, &[1]).await, None, "{channel}");
                    }
                    conn.write_packet(&success).await.unwrap();
                },
                async |mut conn| conn.read_packet(1 << 16).await.unwrap(),
            )
            .await;
        result.unwrap();
        assert_eq!(got, success, "{mode:?}");
    }
}

#[tokio::test]
async fn of_a_held_player_only_the_handshakes_of_mods_are_asked() {
    for protocol in [393, 758, 763, 766, 769] {
        let mut stage = Stage::new(protocol, ForwardingMode::None).await;
        stage.admitted = Admitted::for_test(profile(ID), Proof::Held, ADDRESS.parse().unwrap());
        let success = stage.success(OFFLINE_ID).write(&stage.dialect);
        let cookie = write_cookie_request(&stage.dialect, "session");
        let crumbs = Writer::packet(4).string("minecraft:session").bool(true).bytes(b"abc").finish();
        let (result, (), ()) = stage
            .run(
                async |mut conn| {
                    stage.greet(&mut conn).await;
                    for channel in
                        ["mod:auth", "fml:play", "forge:login", "fml:handshake2", "minecraft:register"]
                    {
                        assert_eq!(
                            stage.ask(&mut conn, 1, channel, &[1]).await,
                            None,
                            "{protocol}: {channel}"
                        );
                    }
                    for channel in MOD_HANDSHAKES {
                        let answer = stage.ask(&mut conn, 2, channel, &[1]).await;
                        assert_eq!(answer, Some(vec![7]), "{protocol}: {channel}");
                    }
                    if let Some(request) = &cookie {
                        conn.write_packet(request).await.unwrap();
                        assert_eq!(conn.read_packet(1 << 16).await.unwrap(), crumbs);
                    }
                    conn.write_packet(&success).await.unwrap();
                },
                async |mut conn| {
                    for channel in MOD_HANDSHAKES {
                        let (id, asked, _) = stage.asked(&mut conn).await;
                        assert_eq!(asked, channel, "{protocol}");
                        stage.respond(&mut conn, id, Some(&[7])).await;
                    }
                    if let Some(request) = &cookie {
                        assert_eq!(&conn.read_packet(1 << 16).await.unwrap(), request);
                        conn.write_packet(&crumbs).await.unwrap();
                    }
                    assert_eq!(conn.read_packet(1 << 16).await.unwrap(), success);
                },
            )
            .await;
        result.unwrap();
    }
}

#[tokio::test]
async fn answers_that_nobody_asked_for_end_the_login() {
    for twice in [false, true] {
        let stage = Stage::new(774, ForwardingMode::None).await;
        let (result, seen, ()) = stage
            .run(
                async |mut conn| {
                    stage.greet(&mut conn).await;
                    stage.question(&mut conn, 1, "mod:x", &[]).await;
                    let mut seen = 0;
                    while conn.read_packet(1 << 16).await.is_ok() {
                        seen += 1;
                    }
                    seen
                },
                async |mut conn| {
                    stage.asked(&mut conn).await;
                    for id in if twice { [1, 1] } else { [2, 1] } {
                        stage.respond(&mut conn, id, Some(b"forged")).await;
                    }
                    let packet = conn.read_packet(1 << 16).await.unwrap();
                    assert_eq!(packet, disconnect(&stage, &text_of(MessageKey::BadHandshake)));
                },
            )
            .await;
        assert_eq!(seen, i32::from(twice));
        let error = result.unwrap_err();
        assert!(matches!(error, EnterError::Client(ConnError::Malformed(Malformed::BadValue))), "{error:?}");
        assert_eq!(error.reason(), Reason::BadHandshake);
    }
}

#[tokio::test]
async fn early_packets_of_the_client_end_the_login() {
    let stage = Stage::new(774, ForwardingMode::None).await;
    let (greeted, is_greeted) = tokio::sync::oneshot::channel();
    let (result, rest, _) = stage
        .run(
            async |mut conn| {
                stage.greet(&mut conn).await;
                greeted.send(()).unwrap();
                conn.read_packet(100).await.unwrap_err().to_string()
            },
            async |mut conn| {
                is_greeted.await.unwrap();
                conn.write_packet(&[3]).await.unwrap();
                conn.read_packet(1 << 16).await.unwrap()
            },
        )
        .await;
    assert_eq!(rest, "the connection was closed");
    let error = result.unwrap_err();
    assert!(
        matches!(error, EnterError::Client(ConnError::Malformed(Malformed::UnexpectedPacket(3)))),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed() {
    let stage = Stage::new(774, ForwardingMode::Modern).await;
    let (leave, left) = tokio::sync::oneshot::channel();
    let (result, ended, ()) = stage
        .run(
            async |mut conn| {
                stage.greet(&mut conn).await;
                leave.send(()).unwrap();
                matches!(conn.read_packet(100).await, Err(ConnError::Closed))
            },
            async |conn| {
                left.await.unwrap();
                drop(conn);
            },
        )
        .await;
    assert!(ended, "the backend's connection outlived the client's");
    let error = result.unwrap_err();
    assert_eq!(error.reason(), Reason::ClientLeft);
    assert_eq!(error.disconnect(&stage.dialect, false, &text(&error)), None);
}

#[tokio::test]
async fn broken_setups_are_told_apart() {
    let misconfigured = text_of(MessageKey::BackendMisconfigured);
    let unavailable = text_of(MessageKey::BackendUnavailable);
    for protocol in PROTOCOLS {
        let stage = Stage::new(protocol, ForwardingMode::Legacy).await;
        let (fault, json) = stage
            .fault(async |mut conn| {
                stage.greet(&mut conn).await;
                let request =
                    Writer::packet(1).string("").bytes(&[1; 162]).bytes(&[2; 4]).bool(true).finish();
                conn.write_packet(&request).await.unwrap();
            })
            .await;
        assert_eq!((fault, &json), (Fault::OnlineMode, &misconfigured), "{protocol}");

        let (fault, json) = stage
            .fault(async |mut conn| {
                stage.greet(&mut conn).await;
                let success = stage.success(OFFLINE_ID).write(&stage.dialect);
                conn.write_packet(&success).await.unwrap();
            })
            .await;
        assert_eq!(
            (fault, &json),
            (Fault::WrongIdentity { given: OFFLINE_ID }, &misconfigured),
            "{protocol}"
        );

        let words = r#"{"translate":"multiplayer.disconnect.not_whitelisted"}"#;
        let (fault, json) = stage
            .fault(async |mut conn| {
                stage.greet(&mut conn).await;
                conn.write_packet(&disconnect(&stage, words)).await.unwrap();
            })
            .await;
        assert_eq!((fault, json.as_str()), (Fault::Refused { words: words.to_owned() }, words), "{protocol}");

        let words = r#"{"text":"Outdated client! Please use 1.21.11"}"#;
        let (fault, json) = stage
            .fault(async |mut conn| {
                stage.greet(&mut conn).await;
                conn.write_packet(&disconnect(&stage, words)).await.unwrap();
            })
            .await;
        assert_eq!((fault.label(), json.as_str()), ("wrong-version", words), "{protocol}");

        let (fault, json) = stage.fault(async |mut conn| stage.greet(&mut conn).await).await;
        assert_eq!((fault, &json), (Fault::Cut, &unavailable), "{protocol}");

        let (fault, json) = stage
            .fault(async |mut conn| {
                stage.greet(&mut conn).await;
                conn.write_packet(b"\x50HTTP").await.unwrap();
            })
            .await;
        assert_eq!((fault, &json), (Fault::Protocol(Malformed::UnexpectedPacket(0x50)), &misconfigured));
    }
}

#[tokio::test]
async fn broken_modern_forwarding_is_told_apart() {
    let misconfigured = text_of(MessageKey::BackendMisconfigured);
    for protocol in PROTOCOLS.into_iter().filter(|protocol| *protocol >= 393) {
        let stage = Stage::new(protocol, ForwardingMode::Modern).await;
        let (fault, json) = stage
            .fault(async |mut conn| {
                stage.greet(&mut conn).await;
                let success = stage.success(ID).write(&stage.dialect);
                conn.write_packet(&success).await.unwrap();
            })
            .await;
        assert_eq!((fault, &json), (Fault::ForwardingNotAsked, &misconfigured), "{protocol}");

        for (text, expected) in [
            ("Unable to verify player details", Fault::WrongSecret),
            (
                "This server requires you to connect with Velocity.",
                Fault::ForwardingExpected { wanted: ForwardingMode::Modern },
            ),
        ] {
            let (fault, json) = stage
                .fault(async |mut conn| {
                    stage.greet(&mut conn).await;
                    stage.answer_of_modern(&mut conn).await;
                    let json = format!("{{\"text\":\"{text}\"}}");
                    conn.write_packet(&disconnect(&stage, &json)).await.unwrap();
                })
                .await;
            assert_eq!((fault, &json), (expected, &misconfigured), "{protocol}");
        }

        let throttled = r#"{"text":"Connection throttled! Please wait before reconnecting."}"#;
        let (fault, json) = stage
            .fault(async |mut conn| {
                stage.greet(&mut conn).await;
                conn.write_packet(&disconnect(&stage, throttled)).await.unwrap();
            })
            .await;
        // The player reads the backend's own words: they say what helps.
        assert_eq!((fault, json.as_str()), (Fault::Throttled { words: throttled.to_owned() }, throttled));

        let (fault, json) = stage
            .fault(async |mut conn| {
                stage.greet(&mut conn).await;
                stage.answer_of_modern(&mut conn).await;
                let success = stage.success(OFFLINE_ID).write(&stage.dialect);
                conn.write_packet(&success).await.unwrap();
            })
            .await;
        assert_eq!(
            (fault, &json),
            (Fault::WrongIdentity { given: OFFLINE_ID }, &misconfigured),
            "{protocol}"
        );
    }
}

#[tokio::test]
async fn the_last_words_of_a_backend_that_hung_up_are_heard() {
    let stage = Stage::new(774, ForwardingMode::None).await;
    let words = r#"{"text":"Banned."}"#;
    let (fault, json) = stage
        .fault(async |mut conn| {
            // Speaks before it reads anything, as a server that bans addresses does.
            conn.write_packet(&disconnect(&stage, words)).await.unwrap();
            conn.close().await;
            stage.greet(&mut conn).await;
        })
        .await;
    assert_eq!((fault.label(), json.as_str()), ("refused", words));
}

#[tokio::test]
async fn a_backend_that_asks_without_end_is_cut_off() {
    let stage = Stage::new(774, ForwardingMode::None).await;
    let (result, (), ()) = stage
        .run(
            async |mut conn| {
                stage.greet(&mut conn).await;
                for id in 0.. {
                    let request = PluginRequest { message_id: id, channel: "mod:x", data: &[] };
                    if conn.write_packet(&request.write(&stage.dialect)).await.is_err() {
                        break;
                    }
                }
            },
            async |mut conn| while conn.read_packet(1 << 16).await.is_ok() {},
        )
        .await;
    assert!(matches!(
        result.unwrap_err(),
        EnterError::Backend { fault: Fault::Protocol(Malformed::LengthOutOfRange), .. }
    ));
}

#[tokio::test]
async fn unreachable_backends_are_passed_over() {
    let (_socket, closed) = closed_port();
    let both = |port| {
        vec![backend("dead", closed, ForwardingMode::None), backend("lobby", port, ForwardingMode::None)]
    };
    let stage = Stage::with_backends(774, both).await;
    for rest in [vec!["dead"], vec![]] {
        let success = stage.success(OFFLINE_ID).write(&stage.dialect);
        let (result, (), _) = stage
            .run(
                async |mut conn| {
                    stage.greet(&mut conn).await;
                    conn.write_packet(&success).await.unwrap();
                },
                async |mut conn| conn.read_packet(1 << 16).await.unwrap(),
            )
            .await;
        let entered = result.unwrap();
        assert_eq!(entered.backend.name, "lobby");
        // The second login does not try the dead one first.
        let names: Vec<_> = entered.passed_over.iter().map(|attempt| attempt.backend.as_str()).collect();
        assert_eq!(names, rest);
    }
}

/// A login that no scripted backend takes part in.
async fn enter_alone(stage: &Stage) -> EnterError {
    let (near, _far) = tokio::io::duplex(1 << 16);
    let player = stage.player();
    enter(&mut Conn::new(near), &player, None, &stage.router, &stage.deadline).await.unwrap_err()
}

#[tokio::test]
async fn no_backend_at_all() {
    let ((_a, a), (_b, b)) = (closed_port(), closed_port());
    let dead = |_| vec![backend("a", a, ForwardingMode::None), backend("b", b, ForwardingMode::None)];
    let error = enter_alone(&Stage::with_backends(774, dead).await).await;
    assert_eq!(error.reason(), Reason::BackendUnavailable);
    let EnterError::Backend { fault: Fault::Unreachable { attempts }, .. } = error else { panic!("{error}") };
    let names: Vec<_> = attempts.iter().map(|attempt| attempt.backend.as_str()).collect();
    assert_eq!(names, ["a", "b"]);

    let error = enter_alone(&Stage::new(340, ForwardingMode::Modern).await).await;
    assert_eq!(error.reason(), Reason::NewerVersionNeeded);
}

#[tokio::test]
async fn backends_that_hang_leave_their_share_to_the_others() {
    let (_full, _waiting, hung) = hung();
    let hanging =
        |count: usize| (0..count).map(|n| backend(&format!("hangs{n}"), hung, ForwardingMode::None));
    for count in [1, 4, 20] {
        let backends = |port| hanging(count).chain([backend("lobby", port, ForwardingMode::None)]).collect();
        let stage = Stage::with_backends(774, backends).await;
        let success = stage.success(OFFLINE_ID).write(&stage.dialect);
        tokio::time::pause();
        let (result, (), _) = stage
            .run(
                async |mut conn| {
                    tokio::time::resume();
                    stage.greet(&mut conn).await;
                    conn.write_packet(&success).await.unwrap();
                },
                async |mut conn| conn.read_packet(1 << 16).await.unwrap(),
            )
            .await;
        let entered = result.unwrap();
        assert_eq!((entered.backend.name.as_str(), entered.passed_over.len()), ("lobby", count));
        // One that hangs takes no longer than the connect timeout, and there is time left for a login.
        let left = stage.deadline.left().as_secs_f32();
        assert!(left > if count == 1 { 19.0 } else { 2.0 }, "{count}: {left} s");
        // Each had its share of an undisturbed login, so that it rests: the last one still does.
        let next = stage.router.line_up();
        let place = |name: &str| next.iter().position(|other| other == name).unwrap();
        assert!(place("lobby") < place(&format!("hangs{}", count - 1)), "{next:?}");
    }
    let stage = Stage::with_backends(774, |_| hanging(20).collect()).await;
    tokio::time::pause();
    let error = enter_alone(&stage).await;
    tokio::time::resume();
    let EnterError::Backend { fault: Fault::Unreachable { attempts }, backend, .. } = error else {
        panic!("{error}")
    };
    assert_eq!((attempts.len(), backend.name.as_str()), (20, "hangs0"));
    assert!(stage.deadline.left() > LAST_WORD, "{:?} left to tell the player", stage.deadline.left());
}

#[tokio::test]
async fn a_client_that_leaves_no_time_puts_no_backend_to_rest() {
    let (_full, _waiting, hung) = hung();
    let (_socket, closed) = closed_port();
    let lobby = |port| backend("lobby", port, ForwardingMode::None);
    let mut stage =
        Stage::with_backends(774, |_| vec![lobby(hung), backend("spare", hung, ForwardingMode::None)]).await;
    // What is left of a login whose client answered the encryption request late.
    for left in [100, 600, 5000] {
        stage.deadline = Deadline::new(Duration::from_millis(left), Duration::from_mins(2));
        tokio::time::pause();
        let error = enter_alone(&stage).await;
        tokio::time::resume();
        assert!(matches!(error, EnterError::DeadlinePassed), "{error:?}");
        assert_eq!(error.reason(), Reason::ClientTimeout);
        assert_eq!(stage.router.line_up(), ["lobby", "spare"], "{left}");
    }
    // One that is down is down, and it alone is named.
    let mut stage =
        Stage::with_backends(774, |_| vec![lobby(hung), backend("spare", closed, ForwardingMode::None)])
            .await;
    stage.deadline = Deadline::new(Duration::from_secs(5), Duration::from_mins(2));
    tokio::time::pause();
    let error = enter_alone(&stage).await;
    tokio::time::resume();
    let EnterError::Backend { backend, fault: Fault::Unreachable { attempts }, .. } = error else {
        panic!("{error}")
    };
    assert_eq!((backend.name.as_str(), attempts.len()), ("spare", 1));
    assert_eq!(attempts[0].backend, "spare");
}

#[tokio::test]
async fn a_backend_that_hangs_up_without_a_word_is_passed_over() {
    for polite in [false, true] {
        let stage = slow_stage().await;
        let success = stage.success(OFFLINE_ID).write(&stage.dialect);
        let (result, (), got) = stage
            .run(
                async |mut conn| {
                    if polite {
                        stage.greet(&mut conn).await;
                    }
                    // Unread bytes make it a reset.
                    drop(conn);
                    let mut conn = Conn::new(stage.listener.accept().await.unwrap().0);
                    stage.greet(&mut conn).await;
                    conn.write_packet(&success).await.unwrap();
                },
                async |mut conn| conn.read_packet(1 << 16).await.unwrap(),
            )
            .await;
        let entered = result.unwrap();
        assert_eq!((entered.backend.name.as_str(), got), ("spare", success));
        let tried: Vec<String> = entered.passed_over.iter().map(ToString::to_string).collect();
        let at = stage.listener.local_addr().unwrap();
        assert_eq!(tried, [format!("lobby at {at}: {HUNG_UP}")]);
        assert_eq!(first_choice(&stage), "spare");
    }
}

#[tokio::test]
async fn when_all_hang_up_the_last_one_has_the_fault() {
    let stage = slow_stage().await;
    let (result, (), packet) = stage
        .run(
            async |conn| {
                drop(conn);
                drop(stage.listener.accept().await.unwrap());
            },
            async |mut conn| conn.read_packet(1 << 16).await.unwrap(),
        )
        .await;
    let EnterError::Backend { backend, fault: Fault::Cut, passed_over } = result.unwrap_err() else {
        panic!()
    };
    assert_eq!(backend.name, "spare");
    let names: Vec<_> = passed_over.iter().map(|attempt| attempt.backend.as_str()).collect();
    assert_eq!(names, ["lobby"], "told of, though nobody is in");
    assert_eq!(packet, disconnect(&stage, &text_of(MessageKey::BackendUnavailable)));
}

#[tokio::test]
async fn what_a_backend_has_said_is_final_though_it_hangs_up_then() {
    let stage = slow_stage().await;
    let (result, (), _) = stage
        .run(
            async |mut conn| {
                stage.greet(&mut conn).await;
                stage.question(&mut conn, 1, "velocity:x", &[]).await;
                assert_eq!(stage.answer(&mut conn).await, (1, None));
            },
            async |mut conn| conn.read_packet(1 << 16).await.unwrap(),
        )
        .await;
    let EnterError::Backend { backend, fault: Fault::Cut, .. } = result.unwrap_err() else { panic!() };
    assert_eq!(backend.name, "lobby");
    assert_eq!(first_choice(&stage), "lobby");
}

#[tokio::test]
async fn a_backend_is_back_once_it_goes_on_and_rests_when_it_says_nothing() {
    let both = |port| {
        vec![backend("lobby", port, ForwardingMode::None), backend("spare", port, ForwardingMode::None)]
    };
    let mut stage = Stage::with_backends(774, both).await;
    stage.deadline = Deadline::new(Duration::from_mins(1), Duration::from_mins(2));
    let stage = stage;
    let route = stage.router.route("");
    let order = || stage.router.line_up();
    let patient = async |mut conn: Conn<DuplexStream>| while conn.read_packet(1 << 16).await.is_ok() {};
    stage.router.search(route).next().unwrap().failed();
    assert_eq!(order(), ["spare", "lobby"]);
    rest(REST.as_secs()).await;
    // Connected, but not a word: others still stay away, and then it rests again.
    let (result, (), ()) = stage
        .run(
            async |mut conn| {
                stage.greet(&mut conn).await;
                assert_eq!(order(), ["spare", "lobby"]);
                tokio::time::pause();
                let _ = conn.read_packet(100).await;
                tokio::time::resume();
            },
            patient,
        )
        .await;
    assert!(matches!(result, Err(EnterError::Backend { fault: Fault::Silent, .. })), "{result:?}");
    assert_eq!(order(), ["spare", "lobby"]);
    rest(REST.as_secs()).await;
    let (result, (), ()) = stage
        .run(
            async |mut conn| {
                stage.greet(&mut conn).await;
                assert_eq!(order(), ["spare", "lobby"]);
                stage.question(&mut conn, 1, "velocity:x", &[]).await;
                assert_eq!(stage.answer(&mut conn).await, (1, None));
                // That was for the proxy alone: a server that hangs asks as well.
                assert_eq!(order(), ["spare", "lobby"]);
                conn.write_packet(&write_set_compression(&stage.dialect, 256).unwrap()).await.unwrap();
                conn.set_threshold(Some(256));
                stage.question(&mut conn, 2, "velocity:x", &[]).await;
                assert_eq!(stage.answer(&mut conn).await, (2, None));
                assert_eq!(order(), ["lobby", "spare"]);
            },
            patient,
        )
        .await;
    assert!(matches!(result, Err(EnterError::Backend { fault: Fault::Cut, .. })), "{result:?}");
    assert_eq!(order(), ["lobby", "spare"]);
}

/// A login whose backend takes it and says nothing: how it ends, after how many milliseconds.
async fn of_a_silent_backend(stage: &Stage) -> (EnterError, u128) {
    let start = Instant::now();
    let (result, (), _) = stage
        .run(
            async |mut conn| {
                stage.greet(&mut conn).await;
                tokio::time::pause();
                let _ = conn.read_packet(100).await;
            },
            async |mut conn| conn.read_packet(1 << 16).await.unwrap(),
        )
        .await;
    let took = start.elapsed().as_millis();
    tokio::time::resume();
    let left = stage.deadline.left();
    assert!(left >= LAST_WORD * 4 / 5, "{left:?} left to tell the player");
    (result.unwrap_err(), took)
}

#[tokio::test]
async fn a_silent_backend_is_given_up_before_the_login_is() {
    let mut stage = slow_stage().await;
    // The client left less than a first word may take: that says nothing of the backend.
    stage.deadline = Deadline::new(Duration::from_secs(6), Duration::from_mins(2));
    let (error, took) = of_a_silent_backend(&stage).await;
    assert!(matches!(error, EnterError::DeadlinePassed), "{error:?}");
    assert_eq!(first_choice(&stage), "lobby");
    assert!((5499..7500).contains(&took), "{took} ms");

    stage.deadline = Deadline::new(Duration::from_secs(25), Duration::from_mins(2));
    let (error, took) = of_a_silent_backend(&stage).await;
    assert!(matches!(error, EnterError::Backend { fault: Fault::Silent, .. }), "{error:?}");
    assert_eq!(error.reason(), Reason::BackendUnavailable);
    assert_eq!(first_choice(&stage), "spare");
    assert!((9999..12_000).contains(&took), "{took} ms");
}

#[tokio::test]
async fn a_backend_is_not_to_blame_for_the_time_that_the_client_took() {
    let stage = slow_stage().await;
    let start = Instant::now();
    let (result, (), packet) = stage
        .run(
            async |mut conn| {
                stage.greet(&mut conn).await;
                stage.question(&mut conn, 1, "mod:x", &[]).await;
                assert_eq!(stage.answer(&mut conn).await, (1, None));
                tokio::time::pause();
                let _ = conn.read_packet(100).await;
            },
            async |mut conn| {
                stage.asked(&mut conn).await;
                rest(24).await;
                stage.respond(&mut conn, 1, None).await;
                conn.read_packet(1 << 16).await.unwrap()
            },
        )
        .await;
    let took = start.elapsed();
    tokio::time::resume();
    assert!(matches!(result.unwrap_err(), EnterError::DeadlinePassed));
    assert_eq!(packet, disconnect(&stage, &text_of(MessageKey::ClientTimeout)));
    assert_eq!(first_choice(&stage), "lobby");
    // It had what was left until the client would have given up.
    assert!((28..31).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test]
async fn a_client_is_not_to_blame_for_a_backend_that_takes_no_answers() {
    const QUESTIONS: i32 = 16;
    let stage = slow_stage().await;
    let success = stage.success(OFFLINE_ID).write(&stage.dialect);
    socket2::SockRef::from(&stage.listener).set_recv_buffer_size(4096).unwrap();
    let (over, is_over) = tokio::sync::oneshot::channel::<()>();
    let (result, (), ()) = stage
        .run(
            async |mut conn| {
                stage.greet(&mut conn).await;
                for id in 0..QUESTIONS {
                    stage.question(&mut conn, id, "mod:x", &[]).await;
                }
                conn.write_packet(&success).await.unwrap();
                let _ = is_over.await;
            },
            async |mut conn| {
                // Until everything is asked, and it was asked whether that was read.
                for _ in 0..=QUESTIONS {
                    stage.asked(&mut conn).await;
                }
                tokio::time::pause();
                let data = vec![7; 1 << 20];
                for message_id in 0..QUESTIONS {
                    let response = PluginResponse { message_id, data: Some(&data) };
                    let _ = conn.write_packet(&response.write(&stage.dialect)).await;
                }
                drop(over);
            },
        )
        .await;
    tokio::time::resume();
    let error = result.unwrap_err();
    assert!(matches!(error, EnterError::Backend { fault: Fault::Silent, .. }), "{error:?}");
}

#[tokio::test]
async fn a_backend_that_falls_silent_ends_with_the_deadline() {
    let stage = Stage::new(774, ForwardingMode::Modern).await;
    let start = Instant::now();
    let (fault, _) = stage
        .fault(async |mut conn| {
            stage.greet(&mut conn).await;
            stage.answer_of_modern(&mut conn).await;
            tokio::time::pause();
            let _ = conn.read_packet(100).await;
        })
        .await;
    assert_eq!(fault, Fault::Silent);
    assert!((24_999..27_000).contains(&start.elapsed().as_millis()));
}

#[tokio::test]
async fn a_client_that_owes_an_answer_is_to_blame_for_the_deadline() {
    let stage = Stage::new(774, ForwardingMode::None).await;
    let (result, (), packet) = stage
        .run(
            async |mut conn| {
                stage.greet(&mut conn).await;
                stage.question(&mut conn, 1, "mod:x", &[]).await;
                let _ = conn.read_packet(100).await;
            },
            async |mut conn| {
                stage.asked(&mut conn).await;
                tokio::time::pause();
                conn.read_packet(1 << 16).await.unwrap()
            },
        )
        .await;
    assert!(matches!(result.unwrap_err(), EnterError::DeadlinePassed));
    assert_eq!(packet, disconnect(&stage, &text_of(MessageKey::ClientTimeout)));
}

/// Lets time pass that nobody really waits for. Sockets need the clock to run again, or it would jump ahead of them.
async fn rest(seconds: u64) {
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

/// A stage with the deadline that logins have, and a backend to go to if the first one fails.
async fn slow_stage() -> Stage {
    let both = |port| ["lobby", "spare"].map(|name| backend(name, port, ForwardingMode::None)).into();
    let mut stage = Stage::with_backends(774, both).await;
    stage.deadline = Deadline::new(crate::login::LOGIN_TIME, crate::login::LOGIN_TIME_LIMIT);
    stage
}

/// The backend that the next player is led to.
fn first_choice(stage: &Stage) -> String {
    stage.router.line_up().swap_remove(0)
}

#[tokio::test]
async fn progress_on_both_sides_extends_the_deadline() {
    let stage = slow_stage().await;
    let success = stage.success(OFFLINE_ID).write(&stage.dialect);
    let start = Instant::now();
    let (result, (), ()) = stage
        .run(
            async |mut conn| {
                stage.greet(&mut conn).await;
                for id in 0..10 {
                    assert_eq!(stage.ask(&mut conn, id, "mod:x", &[]).await, None);
                    rest(10).await;
                }
                conn.write_packet(&success).await.unwrap();
            },
            async |mut conn| {
                for id in 0..10 {
                    assert_eq!(stage.asked(&mut conn).await.0, id);
                    rest(12).await;
                    stage.respond(&mut conn, id, None).await;
                }
                assert_eq!(conn.read_packet(1 << 16).await.unwrap(), success);
            },
        )
        .await;
    result.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(10 * 22));
}

#[tokio::test]
async fn a_client_that_goes_on_alone_is_cut_off() {
    let stage = slow_stage().await;
    let start = Instant::now();
    let (result, answered, ()) = stage
        .run(
            async |mut conn| {
                stage.greet(&mut conn).await;
                for id in 0..20 {
                    stage.question(&mut conn, id, "mod:x", &[]).await;
                }
                let mut answered = 0;
                while conn.read_packet(100).await.is_ok() {
                    answered += 1;
                }
                answered
            },
            async |mut conn| {
                for id in 0..20 {
                    assert_eq!(stage.asked(&mut conn).await.0, id);
                }
                for id in 0..4 {
                    rest(6).await;
                    stage.respond(&mut conn, id, None).await;
                }
                tokio::time::pause();
                let packet = conn.read_packet(1 << 16).await.unwrap();
                assert_eq!(packet, disconnect(&stage, &text_of(MessageKey::ClientTimeout)));
            },
        )
        .await;
    assert_eq!(answered, 4);
    assert!(matches!(result.unwrap_err(), EnterError::DeadlinePassed));
    // Answers alone do not move it: the client has been asked nothing new since the beginning.
    let took = start.elapsed().as_secs();
    assert!((24..=26).contains(&took), "{took} s");
}

#[tokio::test]
async fn a_backend_that_goes_on_alone_is_cut_off() {
    let stage = slow_stage().await;
    let start = Instant::now();
    let (rested, mut on_rested) = tokio::sync::mpsc::unbounded_channel();
    let (result, (), packet) = stage
        .run(
            async |mut conn| {
                stage.greet(&mut conn).await;
                // One answer, then questions only.
                assert_eq!(stage.ask(&mut conn, 0, "mod:x", &[]).await, None);
                for id in 1..=3 {
                    stage.question(&mut conn, id, "mod:x", &[]).await;
                    on_rested.recv().await.unwrap();
                }
                tokio::time::pause();
                let _ = conn.read_packet(100).await;
            },
            async |mut conn| {
                assert_eq!(stage.asked(&mut conn).await.0, 0);
                stage.respond(&mut conn, 0, None).await;
                for id in 1..=3 {
                    assert_eq!(stage.asked(&mut conn).await.0, id);
                    rest(6).await;
                    rested.send(()).unwrap();
                }
                conn.read_packet(1 << 16).await.unwrap()
            },
        )
        .await;
    assert!(matches!(result.unwrap_err(), EnterError::DeadlinePassed));
    assert_eq!(packet, disconnect(&stage, &text_of(MessageKey::ClientTimeout)));
    let took = start.elapsed().as_secs();
    assert!((24..=26).contains(&took), "{took} s");
}

#[tokio::test]
async fn no_handshake_is_longer_than_the_limit() {
    let stage = slow_stage().await;
    let start = Instant::now();
    let (result, (), packet) = stage
        .run(
            async |mut conn| {
                stage.greet(&mut conn).await;
                for id in 0.. {
                    stage.question(&mut conn, id, "mod:x", &[]).await;
                    if conn.read_packet(100).await.is_err() {
                        break;
                    }
                }
            },
            async |mut conn| {
                loop {
                    let packet = conn.read_packet(1 << 16).await.unwrap();
                    let FromBackend::PluginRequest(request) =
                        FromBackend::read(&packet, &stage.dialect).unwrap()
                    else {
                        return packet;
                    };
                    rest(16).await;
                    // The login may be over by now.
                    let response = PluginResponse { message_id: request.message_id, data: None };
                    let _ = conn.write_packet(&response.write(&stage.dialect)).await;
                }
            },
        )
        .await;
    assert!(matches!(result.unwrap_err(), EnterError::DeadlinePassed));
    assert_eq!(packet, disconnect(&stage, &text_of(MessageKey::ClientTimeout)));
    let took = start.elapsed().as_secs();
    assert!((299..=305).contains(&took), "{took} s");
    // Nobody was silent: the backend is none to be passed over.
    assert_eq!(first_choice(&stage), "lobby");
}

#[tokio::test]
async fn a_message_that_is_never_answered_holds_nobody_up() {
    for last in [false, true] {
        let stage = Stage::new(763, ForwardingMode::Modern).await;
        let success = stage.success(ID).write(&stage.dialect);
        let start = Instant::now();
        let (result, (), fenced) = stage
            .run(
                async |mut conn| {
                    stage.greet(&mut conn).await;
                    // The list of mods of Forge for 1.18 to 1.20 gets no answer.
                    stage.question(&mut conn, 0, "fml:loginwrapper", b"mods").await;
                    stage.question(&mut conn, 1, "fml:loginwrapper", b"list").await;
                    assert_eq!(stage.answer(&mut conn).await, (1, Some(b"mine".to_vec())));
                    stage.answer_of_modern(&mut conn).await;
                    if last {
                        stage.question(&mut conn, 2, "mod:news", b"news").await;
                    }
                    let packet = write_set_compression(&stage.dialect, 256).unwrap();
                    conn.write_packet(&packet).await.unwrap();
                    conn.set_threshold(Some(256));
                    conn.write_packet(&success).await.unwrap();
                },
                async |mut conn| {
                    let mut fenced = false;
                    loop {
                        let packet = conn.read_packet(1 << 16).await.unwrap();
                        match FromBackend::read(&packet, &stage.dialect).unwrap() {
                            FromBackend::PluginRequest(request) => {
                                match (request.channel, request.data) {
                                    (_, b"list") => stage.respond(&mut conn, 1, Some(b"mine")).await,
                                    (_, b"mods" | b"news") => {}
                                    // No id of an open question: those are 0 and 2.
                                    (FENCE_CHANNEL, []) => {
                                        assert_eq!(request.message_id, 1);
                                        fenced = true;
                                        stage.respond(&mut conn, 1, None).await;
                                    }
                                    other => panic!("{other:?}"),
                                }
                            }
                            FromBackend::SetCompression(256) => conn.set_threshold(Some(256)),
                            FromBackend::Success(_) => return fenced,
                            other => panic!("{other:?}"),
                        }
                    }
                },
            )
            .await;
        assert_eq!(result.unwrap().passed.threshold, Some(256));
        // The client has shown by its later answer that it read the first: no need to ask.
        assert_eq!(fenced, last);
        assert!(start.elapsed() < Duration::from_secs(5), "it was waited for");
    }
}

#[tokio::test]
async fn a_backend_that_falls_silent_is_to_blame_though_a_message_was_never_answered() {
    for skipped in [false, true] {
        let stage = slow_stage().await;
        let (result, (), _) = stage
            .run(
                async |mut conn| {
                    stage.greet(&mut conn).await;
                    stage.question(&mut conn, 0, "mod:x", &[]).await;
                    stage.question(&mut conn, 1, "mod:x", &[]).await;
                    for _ in 0..if skipped { 1 } else { 2 } {
                        stage.answer(&mut conn).await;
                    }
                    tokio::time::pause();
                    let _ = conn.read_packet(100).await;
                },
                async |mut conn| {
                    for id in 0..2 {
                        assert_eq!(stage.asked(&mut conn).await.0, id);
                    }
                    for id in if skipped { 1..2 } else { 0..2 } {
                        stage.respond(&mut conn, id, None).await;
                    }
                    conn.read_packet(1 << 16).await.unwrap()
                },
            )
            .await;
        tokio::time::resume();
        let error = result.unwrap_err();
        assert!(matches!(error, EnterError::Backend { fault: Fault::Silent, .. }), "{error:?}");
        // But no client leads others past a backend by what it leaves unanswered.
        assert_eq!(first_choice(&stage), if skipped { "lobby" } else { "spare" });
    }
}

/// Whatever words the owner chose for those who come without the proxy.
#[tokio::test]
async fn a_backend_that_asks_for_modern_forwarding_in_another_mode() {
    for mode in [ForwardingMode::Legacy, ForwardingMode::BungeeGuard, ForwardingMode::None] {
        for protocol in [393, 758, 769] {
            let stage = Stage::new(protocol, mode).await;
            let (fault, json) = stage
                .fault(async |mut conn| {
                    stage.greet(&mut conn).await;
                    assert_eq!(stage.ask(&mut conn, 1, forwarding::PLAYER_INFO, &[4]).await, None);
                    let packet = disconnect(&stage, r#"{"text":"Join by play.example.com"}"#);
                    conn.write_packet(&packet).await.unwrap();
                })
                .await;
            assert_eq!(fault, Fault::ForwardingExpected { wanted: ForwardingMode::Modern });
            assert_eq!(json, text_of(MessageKey::BackendMisconfigured));
        }
    }
}

const BRAND: &[u8] = b"\x02\x0fminecraft:brand\x07vanilla";

#[tokio::test]
async fn a_client_in_configuration_is_handed_over_once_it_owes_nothing() {
    for protocol in [771, 774, 776, 777] {
        let stage = Stage::new(protocol, ForwardingMode::Modern).await;
        let (succeeded, success) = tokio::sync::oneshot::channel();
        let backend = async |mut conn: Conn<TcpStream>| {
            stage.greet(&mut conn).await;
            // It can be asked nothing any more that has an answer in the login state alone.
            assert_eq!(stage.ask(&mut conn, 9, "fml:handshake", b"mods?").await, None);
            stage.answer_of_modern(&mut conn).await;
            conn.write_packet(&write_cookie_request(&stage.dialect, "a:b").unwrap()).await.unwrap();
            let cookie = conn.read_packet(limit::BACKEND).await.unwrap();
            assert_eq!(cookie, b"\x04\x03a:b\x01\x02\x08\x09");
            conn.write_packet(&write_set_compression(&stage.dialect, 30).unwrap()).await.unwrap();
            conn.set_threshold(Some(30));
            conn.write_packet(&stage.success(ID).write(&stage.dialect)).await.unwrap();
            succeeded.send(()).unwrap();
            for expected in [b"\x03", BRAND] {
                assert_eq!(conn.read_packet(limit::BACKEND).await.unwrap(), expected);
            }
        };
        let client = async |mut conn: Conn<DuplexStream>| {
            let asked = conn.read_packet(limit::BACKEND).await.unwrap();
            assert_eq!(asked, b"\x00\x03a:b", "a cookie request of configuration");
            conn.write_packet(b"\x01\x03a:b\x01\x02\x08\x09").await.unwrap();
            success.await.unwrap();
            // Were it not waited for the answer to our keep-alive, this would come too late to be kept.
            conn.write_packet(BRAND).await.unwrap();
            conn.write_packet(&[4, 0, 0, 0, 0, 0, 0, 0, 1]).await.unwrap();
            conn
        };
        let begun = Configuring::owing_an_answer(stage.dialect);
        let (result, (), _client) = stage.run_begun(Some(begun), backend, client).await;
        let entered = result.unwrap();
        assert_eq!((entered.passed.threshold, entered.conn.threshold()), (None, Some(30)), "{protocol}");
        assert_eq!(stage.router.last_threshold("play.example.com", None), Some(30));
    }
}

#[tokio::test]
async fn a_client_in_configuration_reads_why_no_backend_takes_it() {
    let stage = Stage::new(774, ForwardingMode::None).await;
    let words = r#"["Not ",{"text":"today","bold":true,"extra":["!"]},3]"#;
    let backend = async |mut conn: Conn<TcpStream>| {
        stage.greet(&mut conn).await;
        conn.write_packet(&disconnect(&stage, words)).await.unwrap();
    };
    let client = async |mut conn: Conn<DuplexStream>| conn.read_packet(limit::BACKEND).await.unwrap();
    let begun = Some(Configuring::new(stage.dialect));
    let (result, (), packet) = stage.run_begun(begun, backend, client).await;
    assert!(matches!(result.unwrap_err(), EnterError::Backend { fault: Fault::Refused { .. }, .. }));
    let text = |name: &str, value: &str| {
        let length = |text: &str| u16::try_from(text.len()).unwrap().to_be_bytes();
        [&[8][..], &length(name), name.as_bytes(), &length(value), value.as_bytes()].concat()
    };
    let expected = [
        &[2, 10][..],
        &text("text", ""),
        b"\x09\x00\x05extra\x0a\x00\x00\x00\x03",
        &text("text", "Not "),
        &[0],
        b"\x01\x00\x04bold\x01\x09\x00\x05extra\x08\x00\x00\x00\x01\x00\x01!",
        &text("text", "today"),
        &[0],
        &text("text", "3"),
        &[0, 0],
    ];
    assert_eq!(packet, expected.concat());
}

#[tokio::test]
async fn a_client_in_configuration_may_say_nothing_that_nobody_asked_for() {
    for packet in [&b"\x05\0\0\0\x01"[..], b"\x01\x03a:b\x00", b"\x03", b"\x08\x03a:b\x01\x00"] {
        let stage = Stage::new(774, ForwardingMode::None).await;
        let (greeted, greeting) = tokio::sync::oneshot::channel();
        let backend = async |mut conn: Conn<TcpStream>| {
            stage.greet(&mut conn).await;
            greeted.send(()).unwrap();
            assert!(conn.read_packet(limit::BACKEND).await.is_err(), "nothing of it arrives");
        };
        let client = async |mut conn: Conn<DuplexStream>| {
            greeting.await.unwrap();
            conn.write_packet(packet).await.unwrap();
            conn.read_packet(limit::BACKEND).await.unwrap()
        };
        let begun = Some(Configuring::new(stage.dialect));
        let (result, (), told) = stage.run_begun(begun, backend, client).await;
        let error = result.unwrap_err();
        assert!(matches!(error, EnterError::Client(ConnError::Malformed(_))), "{packet:x?}: {error}");
        assert_eq!(told[0], 2, "disconnect of configuration");
    }
}
