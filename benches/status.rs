//! Status answers over an in-memory connection: from the request to the framed answer at the client.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark may panic")]

use std::{sync::Arc, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use postern::{
    backend::{self, Backend, ForwardingMode, Lookup, Router},
    messages::Messages,
    net::conn::Conn,
    protocol::{
        frame::put_frame,
        handshake::{Handshake, Intent, VirtualHost},
        status::{StatusRequest, write_answer},
        version::{Dialect, ProtocolVersion},
    },
    status::{Answers, Config, Mode, Moment, serve},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::TcpListener,
    runtime::{Builder, Runtime},
};

/// As a backend with a short description answers.
const BACKENDS_ANSWER: &str = r#"{"version":{"name":"Paper 1.21.11","protocol":774},"players":{"max":100,"online":42},"description":"A Minecraft Server"}"#;

const MOMENT: Moment = Moment { outage: false, online: 42 };

/// One question and its answer; returns the bytes of the answer. Both ends are part of the time.
async fn ask(answers: &Answers, handshake: &Handshake, dialect: &Dialect, request: &[u8]) -> usize {
    let (near, mut far) = duplex(4096);
    let client = async {
        far.write_all(request).await.unwrap();
        far.shutdown().await.unwrap();
        let (mut room, mut len) = ([0; 4096], 0);
        loop {
            match far.read(&mut room).await.unwrap() {
                0 => return len,
                more => len += more,
            }
        }
    };
    let server = async {
        let mut conn = Conn::new(near);
        serve(&mut conn, handshake, dialect, answers, MOMENT).await;
    };
    tokio::join!(client, server).0
}

/// Answers that know one backend, which is there to be asked once.
fn answers(runtime: &Runtime, mode: Mode) -> Answers {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    runtime.spawn(async move {
        let mut conn = Conn::new(listener.accept().await.unwrap().0);
        conn.read_packet(1000).await.unwrap();
        conn.read_packet(1000).await.unwrap();
        conn.write_packet(&write_answer(BACKENDS_ANSWER)).await.unwrap();
    });
    let router = Router::new(backend::Config {
        backends: vec![Backend {
            name: "lobby".to_owned(),
            host: "127.0.0.1".to_owned(),
            port,
            lookup: Lookup::Host,
            forwarding: ForwardingMode::Modern,
            secret: None,
            send_proxy_protocol: false,
        }],
        try_order: vec![0],
        forced_hosts: vec![],
        connect_timeout: Duration::from_secs(5),
    });
    let config = Config {
        mode,
        description: "&aA Minecraft Server".to_owned(),
        max_players: 100,
        favicon: None,
        show_outage: true,
        // The backend answers no second time.
        cache: Duration::from_hours(24),
    };
    Answers::new(&config, &Messages::default(), Arc::new(router)).unwrap()
}

fn status(c: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let version = ProtocolVersion(774);
    let host = VirtualHost::parse("play.example.com").unwrap();
    let handshake = Handshake { version, host, port: 25565, intent: Intent::Status };
    let dialect = Dialect::of(version);
    let mut request = Vec::new();
    put_frame(&mut request, &StatusRequest::Status.write(), None);
    for (mode, name) in [(Mode::Static, "static"), (Mode::Passthrough, "passthrough, cached")] {
        let answers = answers(&runtime, mode);
        // The first answer is made, or asked for; what is measured are the others.
        let first = runtime.block_on(answers.answer(&handshake, &dialect, MOMENT));
        assert_eq!(first.json() == BACKENDS_ANSWER, mode == Mode::Passthrough);
        c.bench_function(&format!("status answer, {name}"), |b| {
            b.iter(|| {
                let len = runtime.block_on(ask(&answers, &handshake, &dialect, &request));
                assert_eq!(len, first.bytes().len());
            });
        });
    }
}

criterion_group!(benches, status);
criterion_main!(benches);
