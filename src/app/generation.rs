//! What connections work with, generation by generation.
//!
//! ```text
//! Config ──> Parts ──┐
//!                    ├──> ConnCx ──> Generations ──> connections that begin from now on
//!          Lasting ──┘       └────── kept by those that began with it, to their end
//! ```
//!
//! A generation is made of one configuration and never changes. A reload puts the next one in its place; a connection
//! keeps the one that it began with, so that no text or route changes under a login or a stay. What is counted, remembered
//! or known of the world lives in handles that all generations share, and that take their part of a new configuration
//! themselves. So do the terms of the fallback: once it is closed, nobody who was on the way comes in by it.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
};

use super::{
    StartError,
    alike::{self, AlikeWatch},
    chatter::Chatter,
    connection::ConnCx,
    journal::Journal,
    metrics::Metrics,
    places::Visits,
    players::Players,
    proxy_peers::ProxyPeers,
    staff::Staff,
    stay::StayCx,
};
use crate::{
    alert::Alerts,
    audit::Audit,
    backend::Router,
    clock::Clock,
    config::Config,
    geo::Geo,
    limit::{Bans, gate::Gate, rate::Rates},
    login::{HangUps, LoginCx, TermsInForce, keys::Keys, roster::Roster},
    mojang::{health::Health, player_keys::PlayerKeys, session_server::SessionServer},
    pin::Pins,
    protocol::version::ProtocolVersion,
    relay::Workers,
    session::Store,
    statistics::Statistics,
    status::Answers,
    task::Shutdown,
};

/// What outlives every configuration.
#[derive(Debug)]
pub(super) struct Lasting {
    pub(super) clock: Clock,
    /// Where connections are taken.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) store: Store,
    pub(super) audit: Audit,
    pub(super) alerts: Alerts,
    /// What is counted since installation.
    pub(super) statistics: Statistics,
    /// Keeps strangers from filling the log.
    pub(super) chatter: Arc<Chatter>,
    pub(super) bans: Bans,
    pub(super) geo: Geo,
    /// The RSA key in use.
    pub(super) keys: Keys,
    pub(super) player_keys: PlayerKeys,
    pub(super) health: Health,
    /// By what players are admitted without the session server's word.
    pub(super) terms: TermsInForce,
    /// Who is in.
    pub(super) roster: Arc<Roster>,
    /// Refusals kept back for clients that hung up.
    pub(super) hang_ups: Arc<HangUps>,
    pub(super) staff: Staff,
    /// Logins whose address is to be looked up.
    pub(super) visits: Visits,
    /// Who is connected.
    pub(super) players: Players,
    /// What is counted of connections, pings and reloads.
    pub(super) metrics: Metrics,
    /// How many connections and logins there may be.
    pub(super) gate: Gate,
    /// How often one address may log in.
    pub(super) rates: Rates,
    /// The threads that relay.
    pub(super) workers: Workers,
    /// Players are told and closed, and nobody new begins.
    pub(super) shutdown: Shutdown,
    /// Number of the next connection.
    pub(super) serial: AtomicU64,
    /// Unknown protocol numbers that were warned of.
    pub(super) unknown_versions: Mutex<HashSet<ProtocolVersion>>,
    /// Peers whose PROXY headers are missing or not expected.
    pub(super) proxy_peers: ProxyPeers,
}

/// What is made of a configuration and can fail to be made. Nobody uses it before it is part of a generation.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) server: Arc<SessionServer>,
    pub(super) router: Arc<Router>,
    pub(super) answers: Answers,
    pub(super) pins: Pins,
}

impl Parts {
    /// Those of the first generation. Reads files.
    pub(super) fn first(
        config: &Config,
        clock: &Clock,
        store: &Store,
        bans: &Bans,
    ) -> Result<Self, StartError> {
        let router = Arc::new(Router::new(config.backend.clone()));
        Ok(Self {
            server: Arc::new(SessionServer::new(&config.session_server, clock.clone())?),
            answers: Answers::new(&config.status, &config.messages, Arc::clone(&router))?,
            router,
            pins: Pins::new(config.pins.clone(), store.clone(), bans.clone()),
        })
    }

    /// Those of the generation that follows that one: what is known of servers, backends and wrong codes goes on. Reads
    /// files.
    pub(super) fn successor(config: &Config, before: &ConnCx) -> Result<Self, StartError> {
        let router = Arc::new(before.router.successor(config.backend.clone()));
        Ok(Self {
            server: before.login.server.successor(&config.session_server)?,
            answers: Answers::new(&config.status, &config.messages, Arc::clone(&router))?,
            router,
            pins: before.login.pins.successor(config.pins.clone()),
        })
    }
}

impl ConnCx {
    /// A generation. The one before it, if there was one, hands on what it has noticed.
    pub(super) fn make(
        config: Arc<Config>,
        parts: Parts,
        lasting: &Arc<Lasting>,
        before: Option<&Self>,
    ) -> Arc<Self> {
        let Parts { server, router, answers, pins } = parts;
        let messages = Arc::new(config.messages.clone());
        let login = Arc::new(LoginCx {
            config: config.login.clone(),
            ipv4_subnet_prefix: config.rules.ipv4_range_prefix,
            terms: lasting.terms.clone(),
            keys: lasting.keys.clone(),
            health: lasting.health.clone(),
            server,
            player_keys: lasting.player_keys.clone(),
            store: lasting.store.clone(),
            geo: lasting.geo.clone(),
            roster: Arc::clone(&lasting.roster),
            bans: lasting.bans.clone(),
            pins,
            messages: Arc::clone(&messages),
            hang_ups: Arc::clone(&lasting.hang_ups),
            clock: lasting.clock.clone(),
        });
        let journal = Arc::new(Journal {
            audit: lasting.audit.clone(),
            alerts: lasting.alerts.clone(),
            statistics: lasting.statistics.clone(),
            metrics: lasting.metrics.logins.clone(),
            clock: lasting.clock.clone(),
            chatter: Arc::clone(&lasting.chatter),
            alert_on_geo_change: config.alert_on_geo_change,
            store: lasting.store.clone(),
            geo: lasting.geo.clone(),
            rules: config.rules.clone(),
        });
        let stay = StayCx {
            login: Arc::clone(&login),
            relay: config.relay,
            messages: Arc::clone(&messages),
            store: lasting.store.clone(),
            journal,
            staff: lasting.staff.clone(),
            min_pin_length: config.pins.min_length,
            visits: lasting.visits.clone(),
            players: lasting.players.clone(),
        };
        let (proxied, trusts_private) =
            (config.net.accept_proxy_protocol, config.rules.trust_private_addresses);
        let expects_public = alike::expects_public(&lasting.addresses, proxied, trusts_private);
        let alike = match before {
            Some(before) if before.alike.expects_public() == expects_public => Arc::clone(&before.alike),
            _ => Arc::new(AlikeWatch::begin(expects_public, lasting.store.all_private())),
        };
        Arc::new(Self {
            login,
            stay: Arc::new(stay),
            router,
            answers: answers.counting(lasting.metrics.pings.clone()),
            messages,
            alike,
            config,
            lasting: Arc::clone(lasting),
        })
    }
}

/// The generation that connections begin with. One short lock.
#[derive(Debug)]
pub(super) struct Generations(Mutex<Arc<ConnCx>>);

impl Generations {
    /// Begins with that one.
    pub(super) fn new(first: Arc<ConnCx>) -> Self {
        Self(Mutex::new(first))
    }

    /// The newest.
    pub(super) fn current(&self) -> Arc<ConnCx> {
        Arc::clone(&self.lock())
    }

    /// Whoever begins from now on works with that one.
    pub(super) fn follow(&self, next: Arc<ConnCx>) {
        let before = std::mem::replace(&mut *self.lock(), next);
        // It may be the last of its generation, whose end takes a while: not under the lock.
        drop(before);
    }

    fn lock(&self) -> MutexGuard<'_, Arc<ConnCx>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
