//! The whole program around stand-ins: online, through an outage, and back.

mod support;

use support::{Backend, Client, End, Mode, Player, SessionServer, Setup, proxy::address};

/// The protocols on both sides of every change of dialect that a login meets from 1.13 on.
const MODERN: &[i32] = &[393, 578, 735, 758, 759, 760, 761, 763, 764, 765, 766, 767, 768, 775, 776, 777, 778];

#[tokio::test]
async fn every_dialect_online_and_through_an_outage() {
    let sessions = SessionServer::start().await;
    let backend = Backend::modern().await;
    let setup = Setup::new(&sessions, &backend);
    let (proxy, mut audit) = (setup.start().await, setup.audit());
    audit.state("up").await;
    for protocol in MODERN {
        let player = Player::new(&format!("P{protocol}"));
        let mut client = Client::connect(address(&proxy), *protocol).await;
        let end = client.login(&player, &sessions).await;
        let skin = (*protocol >= 759).then(|| player.skin.clone());
        let (name, id) = (player.name.clone(), player.id);
        assert_eq!(end, End::In { name, id, skin, encrypted: true, authenticated: true }, "{protocol}");
        assert_eq!(client.threshold, Some(256));
        let seen = backend.seen().pop().unwrap();
        assert_eq!((seen.name, seen.id, seen.skin), (player.name, Some(id), Some(player.skin)));
        assert_eq!((seen.address.as_str(), seen.host.as_str()), ("127.0.0.1", "play.example.com"));
        let event = audit.next("login.verified", |_| true).await;
        assert_eq!((&event["protocol"], &event["backend"]), (&(*protocol).into(), &"lobby".into()));
    }
    sessions.set(Mode::Down);
    audit.state("down").await;
    for protocol in MODERN {
        let player = Player::new(&format!("P{protocol}"));
        let mut client = Client::connect(address(&proxy), *protocol).await;
        let end = client.login(&player, &sessions).await;
        let skin = (*protocol >= 759).then(|| player.skin.clone());
        let (name, id) = (player.name.clone(), player.id);
        let encrypted = *protocol >= 766;
        assert_eq!(end, End::In { name, id, skin, encrypted, authenticated: false }, "{protocol}");
        assert_eq!(backend.seen().pop().unwrap().skin, Some(player.skin));
    }
    sessions.set(Mode::Up);
    audit.state("up").await;
    let player = Player::new("P774");
    let mut client = Client::connect(address(&proxy), 774).await;
    assert!(matches!(client.login(&player, &sessions).await, End::In { authenticated: true, .. }));
    proxy.stop().await;
    assert!(setup.audit().lines().last().unwrap().contains("proxy.stopped"));
}

#[tokio::test]
async fn clients_before_1_13_reach_a_plain_backend() {
    let sessions = SessionServer::start().await;
    for threshold in [None, Some(64)] {
        let backend = Backend::start(support::BackendKind::Plain, threshold).await;
        let setup = Setup::with(&sessions, &backend, "none", "");
        let (proxy, mut audit) = (setup.start().await, setup.audit());
        audit.state("up").await;
        for protocol in [4, 5, 47, 107, 340] {
            let player = Player::new(&format!("P{protocol}"));
            let mut client = Client::connect(address(&proxy), protocol).await;
            let end = client.login(&player, &sessions).await;
            assert!(
                matches!(end, End::In { encrypted: true, authenticated: true, .. }),
                "{protocol} {end:?}"
            );
            assert_eq!(client.threshold, threshold.filter(|_| protocol >= 47));
            assert_eq!(backend.seen().pop().unwrap().login_name, player.name);
            let packet = support::wire::Out::id(0x7e).raw(&[9; 3000]);
            client.send(packet.clone()).await;
            assert_eq!(client.recv().await.unwrap(), packet.0);
        }
        proxy.stop().await;
    }
}
