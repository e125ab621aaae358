//! The program among its stand-ins, and what one can see of it.

use std::time::Duration;

use postern::{app::Proxy, mojang::health::Verdict};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    Backend, Client, End, Mode, Player, SessionServer, Setup,
    proxy::{Audit, address},
};

pub const MODERN: i32 = 774;

pub const TRY_AGAIN: &str = "could not be checked just now";
pub const NO_SESSION: &str = "No cached session found";
pub const FAILED_TO_VERIFY: &str = "Failed to verify username";
pub const BUSY: &str = "authentication servers are busy";

/// The program and its stand-ins.
pub struct Scene {
    pub sessions: SessionServer,
    pub backend: Backend,
    pub setup: Setup,
    pub proxy: Proxy,
    pub audit: Audit,
}

impl Scene {
    pub async fn new() -> Self {
        Self::with("", |setup| setup).await
    }

    /// With more lines for the `auth` section and other changes. Its session server is up, and known to be.
    pub async fn with(auth: &str, change: impl FnOnce(Setup) -> Setup) -> Self {
        Self::around(Backend::modern().await, auth, change).await
    }

    /// With a backend that is there already.
    pub async fn around(backend: Backend, auth: &str, change: impl FnOnce(Setup) -> Setup) -> Self {
        let sessions = SessionServer::start().await;
        let setup = change(Setup::with(&sessions, &backend, "modern", auth));
        let (proxy, mut audit) = (setup.start().await, setup.audit());
        audit.state("up").await;
        Self { sessions, backend, setup, proxy, audit }
    }

    /// The same folder, a new run, which begins with the session server in that mode.
    pub async fn restart(self, mode: Mode) -> Self {
        self.restart_after(mode, |_| {}).await
    }

    /// The same, with something done to the folder while nobody uses it.
    pub async fn restart_after(mut self, mode: Mode, change: impl FnOnce(&Setup)) -> Self {
        self.proxy.stop().await;
        change(&self.setup);
        self.sessions.set(mode);
        self.audit = self.setup.audit();
        let before = self.audit.lines().len();
        self.proxy = self.setup.start().await;
        self.audit.skip(before);
        self
    }

    pub async fn client(&self, protocol: i32) -> Client {
        Client::connect(address(&self.proxy), protocol).await
    }

    /// A whole login, and the client, which is still there.
    pub async fn join(&self, protocol: i32, player: &Player) -> (Client, End) {
        let mut client = self.client(protocol).await;
        let end = client.login(player, &self.sessions).await;
        (client, end)
    }

    /// A whole login of a player at that address, as a trusted proxy in front says.
    pub async fn join_from(&self, source: &str, protocol: i32, player: &Player) -> (Client, End) {
        let mut client = Client::connect_from(source, address(&self.proxy), protocol).await;
        let end = client.login(player, &self.sessions).await;
        (client, end)
    }

    /// A verified login of a player at that address, who leaves again.
    pub async fn make_known_at(&mut self, source: &str, name: &str) -> Player {
        let player = Player::new(name);
        let (client, end) = self.join_from(source, MODERN, &player).await;
        assert!(is_in(&end), "{name}: {end:?}");
        drop(client);
        self.audit.next("login.verified", |_| true).await;
        self.gone().await;
        player
    }

    /// A login from that address is refused.
    pub async fn refused_from(&mut self, source: &str, player: &Player, text: &str, reason: &str) -> Value {
        let (_, end) = self.join_from(source, MODERN, player).await;
        assert!(matches!(&end, End::Refused(said) if said.contains(text)), "{text:?}, {reason}: {end:?}");
        self.audit.reason(reason).await
    }

    /// A login from that address is admitted by policy; the player leaves again.
    pub async fn admitted_from(&mut self, source: &str, player: &Player) -> Value {
        let (client, end) = self.join_from(source, MODERN, player).await;
        assert!(matches!(end, End::In { authenticated: false, .. }), "{source}: {end:?}");
        drop(client);
        let event = self.audit.next("login.fallback", |_| true).await;
        self.gone().await;
        event
    }

    pub async fn login(&self, player: &Player) -> End {
        self.join(MODERN, player).await.1
    }

    /// A verified login of a player who leaves again.
    pub async fn make_known(&mut self, name: &str) -> Player {
        let player = Player::new(name);
        assert!(is_in(&self.login(&player).await), "{name}");
        self.audit.next("login.verified", |_| true).await;
        self.gone().await;
        player
    }

    /// Waits until nobody is in.
    pub async fn gone(&self) {
        until(|| self.proxy.players() == 0).await;
    }

    pub async fn go_down(&mut self) {
        self.sessions.set(Mode::Down);
        self.audit.state("down").await;
    }

    pub async fn refused(&mut self, player: &Player, text: &str, reason: &str) {
        assert_refused(&self.login(player).await, text);
        self.audit.reason(reason).await;
    }

    /// What the backend met so far, besides the logins that got in: nothing. One more login makes sure that whatever
    /// came before it has been counted.
    pub async fn nothing_else_reached_the_backend(&mut self) {
        self.sessions.set(Mode::Up);
        until(|| self.proxy.health().verdict() == Verdict::Up).await;
        let player = Player::new("Last_of_all");
        let (client, end) = self.join(MODERN, &player).await;
        assert!(is_in(&end), "{end:?}");
        // A client can be in before the backend has noted it.
        until(|| self.backend.connections() == self.backend.seen().len()).await;
        drop(client);
    }
}

pub fn is_in(end: &End) -> bool {
    matches!(end, End::In { .. })
}

#[track_caller]
pub fn assert_refused(end: &End, text: &str) {
    assert!(matches!(end, End::Refused(said) if said.contains(text)), "{text:?}: {end:?}");
}

/// Looks again until it is so. What is waited for happens in other tasks.
pub async fn until(so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_mins(1), "it never came to be so");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Probes so seldom that a verdict of Up stays while the session server turns bad.
pub fn seldom(setup: Setup) -> Setup {
    setup.replace("health-check-interval: 1", "health-check-interval: 600")
}

/// Down is out of reach: what is tried happens in Up and Degraded.
pub fn never_down(setup: Setup) -> Setup {
    seldom(setup).replace("monitoring:\n", "monitoring:\n  failure-threshold: 1000\n")
}

pub fn refuse_at_once(setup: Setup) -> Setup {
    setup.replace("  timeout: 2000", "  timeout: 2000\n  online-attempt-when-ineligible: false")
}
