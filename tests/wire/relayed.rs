//! Pinned packets through the relay: what a client says on a channel that backends trust a proxy for never gets there,
//! in any protocol and state, however it is framed.

use std::{sync::Arc, time::Duration};

use postern::{
    net::{activity::Activity, conn::Conn},
    protocol::frame,
    relay::{self, EndCause},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::{Fixture, dialect};

struct Pinned(Vec<Fixture>);

impl Pinned {
    /// The only packet of its kind at this protocol.
    fn empty(&self, protocol: i32, state: &str, direction: &str, packet: &str) -> &[u8] {
        let kind = super::kind(state, direction, packet);
        &self.0.iter().find(|fixture| fixture.protocol == protocol && fixture.kind == kind).unwrap().bytes
    }
}

fn framed(packet: &[u8], threshold: Option<usize>) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put_frame(&mut out, packet, threshold);
    out
}

/// What the backend gets of a client that sends `packet` in the state it is meant for and closes, from the packet on.
async fn passed(pinned: &Pinned, packet: &Fixture, threshold: Option<usize>) -> Vec<u8> {
    let (mut client, client_io) = duplex(4096);
    let (mut backend, backend_io) = duplex(4096);
    let [client_parts, backend_parts] = [client_io, backend_io].map(|io| {
        let mut conn = Conn::new(io);
        conn.set_threshold(threshold);
        conn.into_parts()
    });
    let dialect = dialect(packet.protocol);
    let (_handle, link) = relay::link(dialect, Arc::new(Activity::default()));
    let config = relay::Config { read_timeout: Duration::from_secs(30) };
    let terms = relay::Terms { begin: relay::Begin::BehindLoginSuccess, pins: false, held: false };
    let mut piped = relay::Relay::new(client_parts, backend_parts, link, Arc::default(), &config, terms);
    let piped = piped.run();
    let talk = async {
        let protocol = packet.protocol;
        let mut before = Vec::new();
        if dialect.configuration {
            before.extend(framed(
                pinned.empty(protocol, "login", "serverbound", "login_acknowledged"),
                threshold,
            ));
            if packet.kind.0 == "play" {
                let finish = pinned.empty(protocol, "configuration", "clientbound", "finish_configuration");
                let finish = framed(finish, threshold);
                backend.write_all(&finish).await.unwrap();
                let mut got = vec![0; finish.len()];
                client.read_exact(&mut got).await.unwrap();
                assert_eq!(got, finish);
                let packet = "acknowledge_finish_configuration";
                before.extend(framed(
                    pinned.empty(protocol, "configuration", "serverbound", packet),
                    threshold,
                ));
            }
        }
        client.write_all(&before).await.unwrap();
        client.write_all(&framed(&packet.bytes, threshold)).await.unwrap();
        drop(client);
        let mut got = Vec::new();
        backend.read_to_end(&mut got).await.unwrap();
        assert_eq!(got[..before.len()], before);
        got.split_off(before.len())
    };
    let (ended, got) = tokio::join!(piped, talk);
    assert!(matches!(ended.cause, EndCause::ClientClosed), "{:?}", ended.cause);
    got
}

#[tokio::test(start_paused = true)]
async fn plugin_messages_that_only_a_proxy_may_send_are_dropped() {
    let pinned = Pinned(Fixture::all());
    let (mut kept, mut dropped) = (0, 0);
    for fixture in &pinned.0 {
        let (_, direction, packet) = &fixture.kind;
        if direction != "serverbound" || packet != "plugin_message" {
            continue;
        }
        let trusted = matches!(fixture.case.as_str(), "bungeecord_old" | "bungeecord" | "velocity");
        let thresholds: &[_] =
            if dialect(fixture.protocol).compression { &[None, Some(256), Some(0)] } else { &[None] };
        for threshold in thresholds {
            let got = passed(&pinned, fixture, *threshold).await;
            let expected = if trusted { Vec::new() } else { framed(&fixture.bytes, *threshold) };
            let place = format!("{} {} at {}, {threshold:?}", fixture.kind.0, fixture.case, fixture.protocol);
            assert_eq!(got, expected, "{place}");
            *if trusted { &mut dropped } else { &mut kept } += 1;
        }
    }
    assert!(kept > 200 && dropped > 300, "{kept} {dropped}");
}

#[tokio::test(start_paused = true)]
async fn a_held_client_gets_the_header_of_a_line_where_lines_build_on_each_other() {
    let fixtures = Fixture::all();
    let find = |packet: &str, case: &str| {
        let is_it = |fixture: &&Fixture| {
            (fixture.protocol, fixture.kind.2.as_str(), fixture.case.as_str()) == (760, packet, case)
                && (&*fixture.kind.0, &*fixture.kind.1) == ("play", "clientbound")
        };
        &fixtures.iter().find(is_it).unwrap().bytes
    };
    let end = find("keep_alive", "small");
    for (case, has_header) in [("signed", true), ("chained", true), ("decorated", false), ("unsigned", false)]
    {
        for threshold in [None, Some(64), Some(4096)] {
            let (mut client, client_io) = duplex(4096);
            let (mut backend, backend_io) = duplex(4096);
            let [client_parts, backend_parts] = [client_io, backend_io].map(|io| {
                let mut conn = Conn::new(io);
                conn.set_threshold(threshold);
                conn.into_parts()
            });
            let (_handle, link) = relay::link(dialect(760), Arc::new(Activity::default()));
            let config = relay::Config { read_timeout: Duration::from_secs(30) };
            let terms = relay::Terms { begin: relay::Begin::BehindLoginSuccess, pins: true, held: true };
            let mut piped =
                relay::Relay::new(client_parts, backend_parts, link, Arc::default(), &config, terms);
            let talk = async {
                backend.write_all(&framed(find("player_chat", case), threshold)).await.unwrap();
                backend.write_all(&framed(end, threshold)).await.unwrap();
                let mut expected = Vec::new();
                if has_header {
                    expected.extend(framed(find("player_chat_header", case), threshold));
                }
                expected.extend(framed(end, threshold));
                let mut got = vec![0; expected.len()];
                client.read_exact(&mut got).await.unwrap();
                assert_eq!(got, expected, "{case} {threshold:?}");
                drop(client);
            };
            tokio::join!(piped.run(), talk);
        }
    }
}
