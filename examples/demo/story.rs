//! The story itself. Whatever is told has been checked before.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use postern::{app::Proxy, mojang::health::Verdict};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::{
    support::{Backend, Client, End, Mode, Player, SessionServer, Setup, client, proxy, wire::Out},
    teller::{self, Deviation, Teller, check, ensure},
};

/// Minecraft 1.21.11.
const PROTOCOL: i32 = 774;
const HOST: &str = "play.example.com";

/// Addresses reserved for examples, each in a network of its own.
const HOME: &str = "203.0.113.5";
const ELSEWHERE: &str = "198.51.100.66";
const FAR_AWAY: &str = "192.0.2.77";

/// What the stand-in game server calls itself.
const DESCRIPTION: &str = "A backend";
const OUTAGE_NOTICE: &str = "Mojang authentication servers appear to be down.";
const NOT_JOINED: &str = "Failed to verify username! Restart your game and launcher, then try again.";
const NO_SESSION: &str = "Cannot authenticate: No cached session found.";
const ADDRESS_CHANGED: &str = "The authentication servers are down, and you are connecting from a new network \
                               address. Please try again from your usual one, or when they are online.";
const RESTARTING: &str = "The server is restarting. Please try again in a minute.";

/// How often something is looked at that reports nothing by itself.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

const INTRODUCTION: &str = "\
Postern, a login proxy for Minecraft servers: an outage in a few seconds.

Who a Minecraft player is, only Mojang's session server can say. While that is down, nobody can join a server.
Postern stands in front of the game server. In such an outage it lets in players whom it has seen proven before,
from where it knows them, and nobody else.

The proxy in this story is the real one. Mojang's session server, the game server and the players are stand-ins
within this program; nothing leaves this machine. The players' addresses are made up (a PROXY header states them,
as a load balancer in front would).";

const REMARK: &str = "
What nothing here can tell apart in an outage: Alice, and somebody at her own address who gives her name and id.
README.md says what follows from that.";

/// Everybody on stage.
struct Stage {
    teller: Teller,
    /// Mojang's.
    sessions: SessionServer,
    /// The one that doctored games ask instead, so as not to give up where an honest game does. The proxy does not.
    forged: SessionServer,
    backend: Backend,
    setup: Setup,
    proxy: Proxy,
    audit: proxy::Audit,
    /// How many players got through to the game server.
    arrived: usize,
    alice: Player,
}

/// Tells it all. Files go into `folder`.
pub(crate) async fn tell(teller: Teller, folder: PathBuf) -> Result<(), Deviation> {
    teller::plain(INTRODUCTION);
    let mut stage = Stage::set(teller, &folder).await;
    stage.all_is_well().await?;
    let alice = stage.outage().await?;
    let alice = stage.recovery(alice).await?;
    stage.stop(alice).await
}

impl Stage {
    async fn set(teller: Teller, folder: &Path) -> Self {
        let (sessions, forged) = (SessionServer::start().await, SessionServer::start().await);
        let backend = Backend::modern().await;
        // Addresses count as they do on a real server. What is quicker: two proven visits instead of three make a
        // player known, and checks follow each other faster.
        let setup = Setup::new(&sessions, &backend)
            .within(folder)
            .replace("min-login-history: 1", "min-login-history: 2")
            .replace("  trust-private-addresses: true\n  max-accounts-per-address: 100\n", "")
            .network("  accept-proxy-protocol: true\n");
        let (proxy, audit) = (setup.start().await, setup.audit());
        let alice = Player::new("Alice");
        Self { teller, sessions, forged, backend, setup, proxy, audit, arrived: 0, alice }
    }

    async fn all_is_well(&mut self) -> Result<(), Deviation> {
        teller::title("All is well");
        let address = self.address();
        self.verdict(|verdict| verdict == Verdict::Up).await?;
        self.audit.state("up").await;
        self.teller.tell(&format!(
            "Postern listens on {address}. It has asked Mojang's session server: it answers."
        ));
        self.server_list(&[DESCRIPTION]).await?;

        let visitor = self.alice_proven("Alice's first visit").await?;
        self.teller.tell(&format!(
            "Alice joins from {HOME}. Mojang vouches for her. The connection is encrypted.\n\
             The game server gets her name, account id and skin; the signature on them is right."
        ));
        self.leave(visitor).await;
        let visitor = self.alice_proven("Alice's second visit").await?;
        self.leave(visitor).await;
        self.teller.tell(
            "Alice leaves, comes again, and leaves. Twice proven (the rule in this story), she counts as known.",
        );

        let impostor = Player::impostor("Alice");
        self.refused("an impostor while all is well", &impostor, ELSEWHERE, "not-joined", NOT_JOINED).await?;
        self.teller.tell(&format!(
            "An impostor calls itself Alice, from {ELSEWHERE}. Mojang does not vouch for it. Refused:\n\
             \"{NOT_JOINED}\""
        ));
        Ok(())
    }

    /// Returns Alice's connection: she stays.
    async fn outage(&mut self) -> Result<Client, Deviation> {
        teller::title("Mojang goes down");
        self.sessions.set(Mode::Down);
        let began = Instant::now();
        self.teller.tell("From now on the session server answers everything with an error (503).");
        self.verdict(Verdict::is_down).await?;
        let noticed = began.elapsed().as_secs_f64();
        let event = self.audit.state("down").await;
        self.teller.tell(&format!(
            "Postern has noticed, {noticed:.1} s later, by its own checks: an outage.\n({})",
            text(&event, "cause")
        ));
        self.server_list(&[DESCRIPTION, OUTAGE_NOTICE]).await?;

        let mut alice = self.alice_in("Alice's visit in the outage", false).await?;
        self.audit.next("login.fallback", |event| event["player"] == "Alice").await;
        self.teller.tell(&format!(
            "Alice joins from {HOME}, as before. Nobody can vouch for her; known here, she is let in.\n\
             The connection is encrypted. The game server sees the same account id and skin."
        ));
        self.stranger().await?;

        let impostor = Player::impostor("Alice");
        self.refused("an impostor in the outage", &impostor, HOME, "id-mismatch", NO_SESSION).await?;
        self.teller.tell(&format!(
            "An impostor with a doctored game calls itself Alice under an account id that is not hers, from her very\n\
             address even. Refused:\n\"{NO_SESSION}\""
        ));
        let spoofer = Player::thief("Alice");
        self.refused("a spoofer in the outage", &spoofer, ELSEWHERE, "address-changed", ADDRESS_CHANGED)
            .await?;
        self.teller.tell(&format!(
            "A spoofer gives Alice's name and her very account id (both are public), but comes from another\n\
             network, {ELSEWHERE}. Refused:\n\"{}\"",
            ADDRESS_CHANGED.replace(". ", ".\n ")
        ));
        self.still_plays(&mut alice).await?;
        self.teller.tell("Alice has noticed nothing of all that and plays on.");
        Ok(alice)
    }

    /// Somebody never seen here. Also in an outage the normal login is offered first: it may be one in part.
    async fn stranger(&mut self) -> Result<(), Deviation> {
        let zoe = Player::new("Zoe");
        let (_, end) = self.log_in(&zoe, FAR_AWAY, &self.sessions).await;
        check("a stranger's first try", &End::HungUp, &end)?;
        self.audit.reason("client-left").await;
        self.teller.tell(&format!(
            "Zoe, a stranger, tries to join from {FAR_AWAY}. Postern offers the normal login, in case Mojang is down\n\
             only in part. Zoe's game cannot reach Mojang either and gives up with a message of its own."
        ));
        let (_, end) = self.log_in(&zoe, FAR_AWAY, &self.sessions).await;
        check("a stranger's second try", &End::Refused(NO_SESSION.to_owned()), &end)?;
        self.audit.reason("no-session").await;
        self.nobody_slipped_in("a stranger")?;
        self.teller.tell(&format!("Zoe tries again. Refused:\n\"{NO_SESSION}\""));
        Ok(())
    }

    /// Returns Alice's new connection.
    async fn recovery(&mut self, mut alice: Client) -> Result<Client, Deviation> {
        teller::title("Mojang is back");
        self.sessions.set(Mode::Up);
        let began = Instant::now();
        self.teller.tell("The session server answers again.");
        self.verdict(|verdict| verdict == Verdict::Up).await?;
        let noticed = began.elapsed().as_secs_f64();
        self.audit.state("up").await;
        self.teller.tell(&format!("Postern has noticed, {noticed:.1} s later: the outage is over."));
        self.server_list(&[DESCRIPTION]).await?;
        self.still_plays(&mut alice).await?;
        self.teller.tell("Alice, let in during the outage, still plays: nobody is thrown out at its end.");
        self.leave(alice).await;
        let alice = self.alice_proven("Alice's visit after the outage").await?;
        self.teller.tell("Alice leaves and joins anew. Mojang vouches for her, as always.");
        Ok(alice)
    }

    async fn stop(self, mut alice: Client) -> Result<(), Deviation> {
        teller::title("The end");
        let address = self.address();
        let began = Instant::now();
        // A game leaves by itself once it is told to.
        let farewell = async {
            let packet = alice.recv().await.unwrap_or_default();
            drop(alice);
            packet
        };
        let ((), farewell) = tokio::join!(self.proxy.stop(), farewell);
        let took = began.elapsed().as_secs_f64();
        let farewell = String::from_utf8_lossy(&farewell);
        let told = farewell.contains(RESTARTING);
        ensure(told, "the farewell to Alice", RESTARTING, &format!("{farewell:?}"))?;
        let closed = TcpStream::connect(address).await.is_err();
        ensure(closed, "connecting after the stop", "nobody listens", "somebody does")?;
        self.teller.tell(&format!(
            "Postern is stopped, in {took:.1} s. Alice is told: \"{RESTARTING}\"\n\
             Nobody listens on {address} any more."
        ));
        let lines = self.setup.audit().lines();
        let last = lines.last().map_or("", String::as_str);
        let complete = last.contains(r#""event":"proxy.stopped""#);
        ensure(complete, "the last line of audit.log", "proxy.stopped", last)?;
        teller::title("What audit.log has on it (the long \"facts\" only once in full)");
        for line in &lines {
            teller::plain(&shortened(line));
        }
        teller::plain(REMARK);
        Ok(())
    }

    fn address(&self) -> SocketAddr {
        proxy::address(&self.proxy)
    }

    /// A connection of somebody at that address.
    async fn connect(&self, from: &str) -> Client {
        let mut client = Client::connect(self.address(), PROTOCOL).await;
        client.send_raw(format!("PROXY TCP4 {from} 127.0.0.1 50000 25565\r\n").into_bytes()).await;
        client
    }

    /// A login by a game that takes `asked` for Mojang's session server.
    async fn log_in(&self, player: &Player, from: &str, asked: &SessionServer) -> (Client, End) {
        let mut client = self.connect(from).await;
        let end = client.login_at(HOST, player, asked).await;
        (client, end)
    }

    /// Alice joins, as herself: encrypted, and known to the game server by name, id, skin and address.
    async fn alice_in(&mut self, step: &str, authenticated: bool) -> Result<Client, Deviation> {
        let Player { name, id, skin, .. } = self.alice.clone();
        let (client, end) = self.log_in(&self.alice, HOME, &self.sessions).await;
        let expected =
            End::In { name: name.clone(), id, skin: Some(skin.clone()), encrypted: true, authenticated };
        check(step, &expected, &end)?;
        self.arrived += 1;
        let seen = self.backend.arrival(self.arrived).await;
        let at_backend = (seen.name, seen.id, seen.skin, seen.address);
        check(step, &(name, Some(id), Some(skin), HOME.to_owned()), &at_backend)?;
        Ok(client)
    }

    async fn alice_proven(&mut self, step: &str) -> Result<Client, Deviation> {
        let client = self.alice_in(step, true).await?;
        self.audit.next("login.verified", |event| event["player"] == "Alice").await;
        Ok(client)
    }

    /// Somebody with a doctored game is refused, with this reason and text, and does not reach the game server.
    async fn refused(
        &mut self,
        step: &str,
        player: &Player,
        from: &str,
        reason: &str,
        text: &str,
    ) -> Result<(), Deviation> {
        let (_, end) = self.log_in(player, from, &self.forged).await;
        check(step, &End::Refused(text.to_owned()), &end)?;
        self.audit.reason(reason).await;
        self.nobody_slipped_in(step)
    }

    fn nobody_slipped_in(&self, step: &str) -> Result<(), Deviation> {
        check(&format!("{step}: players at the game server"), &self.arrived, &self.backend.seen().len())
    }

    /// The player's connection ends, and the proxy has seen it.
    async fn leave(&self, client: Client) {
        drop(client);
        while self.proxy.players() > 0 {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// What the player sends comes back from the game server, through the proxy.
    async fn still_plays(&self, client: &mut Client) -> Result<(), Deviation> {
        let packet = Out::id(0x7e).raw(b"still here");
        client.send(packet.clone()).await;
        check("Alice plays on", &Some(packet.0), &client.recv().await)
    }

    async fn verdict(&self, wanted: impl Fn(Verdict) -> bool) -> Result<(), Deviation> {
        let mut status = self.proxy.health().subscribe();
        match status.wait_for(|status| wanted(status.verdict)).await {
            Ok(_) => Ok(()),
            Err(_) => {
                Err(Deviation::new("the checks of the session server", "they go on", "they have ended"))
            }
        }
    }

    /// What a game shows of the server before anybody joins.
    async fn server_list(&self, expected: &[&str]) -> Result<(), Deviation> {
        let mut client = self.connect(HOME).await;
        let answer = client.status(HOST).await;
        let description = answer.get("description").unwrap_or(&Value::Null);
        let shown = without_colours(&client::plain(&description.to_string()));
        let lines: Vec<&str> = shown.lines().collect();
        check("the server list", &expected, &lines.as_slice())?;
        self.teller.tell(&format!("The server list of players' games shows: \"{}\"", lines.join(" / ")));
        Ok(())
    }
}

/// That text of an event.
fn text<'a>(event: &'a Value, key: &str) -> &'a str {
    event.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Without the codes (a section sign and one character each) that colour text.
fn without_colours(text: &str) -> String {
    let mut parts = text.split('§');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| plain + part.chars().as_str().get(1..).unwrap_or_default())
}

/// A line of audit.log; the facts stay only where somebody was let in by them.
fn shortened(line: &str) -> String {
    let facts = r#","facts":"#;
    match line.split_once(facts) {
        Some((start, _)) if !line.contains(r#""event":"login.fallback""#) => format!("{start}{facts}{{…}}}}"),
        _ => line.to_owned(),
    }
}
