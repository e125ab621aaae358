//! The checks that take a server list ping: does the backend answer, and which games does it take?

use std::{fmt::Write as _, time::Duration};

use tokio::time::{Instant, timeout};

use super::{Exam, Stop, check, errors_of};
use crate::{
    backend::{
        ForwardingMode,
        connect::{Attempt, Connected, connect},
        ping::{self, Answer},
        probe::Approach,
    },
    doctor::report::{Area, Finding},
    foreign,
    net::conn::{Conn, ConnError},
    protocol::version::{Dialect, ProtocolVersion},
};

/// How long a backend may take for its server list answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// How long a backend is asked about versions. One that answers takes far less for all of them.
const VERSIONS_TIME: Duration = Duration::from_secs(10);

/// Longest name of a version shown, in characters.
const MAX_NAME: usize = 60;

/// Why there is no server list answer.
enum Unanswered {
    /// No connection, though there was one before.
    Unreachable(Vec<Attempt>),
    /// Not a word.
    Silent,
    /// It closed the connection without a word.
    Closed,
    /// It sent something else.
    Foreign(String),
}

impl From<ConnError> for Unanswered {
    fn from(error: ConnError) -> Self {
        match error {
            // An answer that is no JSON; all else that the system reports, such as a reset, is a way to close.
            ConnError::Broken(error) if error.kind() == std::io::ErrorKind::Other => {
                Self::Foreign(error.to_string())
            }
            ConnError::Closed | ConnError::Broken(_) => Self::Closed,
            error @ (ConnError::Cut | ConnError::Malformed(_)) => Self::Foreign(error.to_string()),
        }
    }
}

impl Unanswered {
    fn cause(&self) -> String {
        match self {
            Self::Unreachable(attempts) => {
                format!("took a connection, and then none for a server list ping: {}", errors_of(attempts))
            }
            Self::Silent => "takes connections but does not answer server list pings".to_owned(),
            Self::Closed => "closes the connection at a server list ping instead of answering".to_owned(),
            Self::Foreign(error) => {
                format!("answers a server list ping with something else than Minecraft does: {error}")
            }
        }
    }

    const fn mend(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => {
                "see whether it has just stopped, or whether a firewall limits how many connections one address may make"
            }
            Self::Silent => {
                "see in its log whether it hangs, whether its port belongs to another program, and whether it waits for a PROXY header (`proxies.proxy-protocol: true` in its config/paper-global.yml goes with `send-proxy-protocol: true` here)"
            }
            Self::Closed => {
                "set `enable-status=true` in its server.properties if it says false; a PROXY header that only one side expects (`send-proxy-protocol` here, `proxies.proxy-protocol` in its config/paper-global.yml) ends like this too, and so may another program on that port"
            }
            Self::Foreign(_) => {
                "see which program its port belongs to, and correct its `address` under `backends`"
            }
        }
    }
}

impl Exam<'_> {
    /// The server list answer, and the version that the backend itself speaks, if it says one. `None` from one that closes
    /// the connection instead, as servers can be told to: it may take players all the same.
    pub(super) async fn status(
        &mut self,
        stream: Connected,
    ) -> Result<Option<(Option<ProtocolVersion>, Answer)>, Stop> {
        let start = Instant::now();
        let (native, answer) = match self.question(Ok(stream), ProtocolVersion::NONE).await {
            // One that gives back what it was asked does not say which version is its own.
            Ok(answer) => (answer.protocol.filter(|protocol| *protocol != ProtocolVersion::NONE), answer),
            // Maybe it answers nobody without a version.
            Err(_) => match self.question(self.connect().await, Dialect::newest().version()).await {
                Ok(answer) => (None, answer),
                Err(Unanswered::Closed) => {
                    self.warning(check::STATUS, Unanswered::Closed.cause(), Unanswered::Closed.mend());
                    return Ok(None);
                }
                Err(unanswered) => {
                    self.error(check::STATUS, unanswered.cause(), unanswered.mend());
                    return Err(Stop::because("without its server list answer its version is not known"));
                }
            },
        };
        let name = foreign::clean_to(&answer.name, MAX_NAME);
        let players =
            answer.players.map(|(online, max)| format!(", {online} of {max} players")).unwrap_or_default();
        let found = Finding::ok(Area::Backend, check::STATUS, format!("answers as {name:?}{players}"));
        self.tell(found.took(start.elapsed()));
        Ok(Some((native, answer)))
    }

    /// How to log in at a backend that says nothing about itself.
    pub(super) fn unnamed_protocol(&mut self) -> Approach {
        self.is_guess = true;
        self.skipped(check::PROTOCOL, "it does not answer server list pings");
        Approach::new(None, Dialect::newest().version(), "")
    }

    async fn connect(&self) -> Result<Connected, Unanswered> {
        connect(self.backend, None, self.connect_timeout).await.map_err(Unanswered::Unreachable)
    }

    async fn question(
        &self,
        stream: Result<Connected, Unanswered>,
        version: ProtocolVersion,
    ) -> Result<Answer, Unanswered> {
        let Connected { stream, target } = stream?;
        let asked = ping::ask(Conn::new(stream), &target.host, target.port, version);
        let json = timeout(ANSWER_TIME, asked).await.map_err(|_| Unanswered::Silent)??;
        Ok(Answer::read(&json))
    }

    /// Whether the backend takes games of this version: such a one gives the number back.
    async fn takes(&self, dialect: &Dialect) -> bool {
        let answer = self.question(self.connect().await, dialect.version()).await;
        answer.is_ok_and(|answer| answer.protocol == Some(dialect.version()))
    }

    /// Which games the backend takes, and how to log in there.
    pub(super) async fn protocol(
        &mut self,
        native: Option<ProtocolVersion>,
        marker: &'static str,
    ) -> Result<Approach, Stop> {
        let own = native.map(Dialect::of);
        // From its own version outwards, until it takes no more. Without one, from the newest down to the first taken.
        let (older, newer) = own.map_or_else(
            || (Dialect::milestones().collect::<Vec<_>>().into_iter().rev().collect(), Vec::new()),
            |own| own.milestones_around(),
        );
        let (mut oldest, mut newest) = (own, own);
        let end = Instant::now() + VERSIONS_TIME;
        for dialect in newer {
            if Instant::now() > end || !self.takes(&dialect).await {
                break;
            }
            newest = Some(dialect);
        }
        for dialect in older {
            if Instant::now() > end {
                break;
            }
            if self.takes(&dialect).await {
                oldest = Some(dialect);
                newest = newest.or(oldest);
            } else if oldest.is_some() {
                break;
            }
        }
        let (Some(oldest), Some(newest)) = (oldest, newest) else {
            self.warning(
                check::PROTOCOL,
                "does not say which version it speaks",
                "see whether a plugin there changes its server list answer, or something else than a Minecraft server answers",
            );
            return Err(Stop::because("its version is not known"));
        };
        let mut cause = match own {
            Some(own) if own.is_known() => {
                format!("speaks {} (protocol {})", own.game_version(), own.version())
            }
            Some(own) => {
                format!("speaks protocol {}, which this version of Postern does not know", own.version())
            }
            None => "translates between versions".to_owned(),
        };
        if oldest != newest {
            let _ =
                write!(cause, "; takes games from {} to {}", oldest.game_version(), newest.game_version());
        }
        let needs_plugin = self.backend.forwarding == ForwardingMode::Modern;
        if own.is_some_and(|own| needs_plugin && !own.login_plugin) {
            cause += ": modern forwarding needs 1.13 or later, so nobody can join";
            self.error(
                check::PROTOCOL,
                cause,
                "set `forwarding: bungeeguard` or `legacy` for this backend here, and `settings.bungeecord: true` in its spigot.yml",
            );
            return Err(Stop::because("modern forwarding cannot work in its version"));
        }
        if own.is_some_and(|own| !own.is_known()) {
            self.warning(check::PROTOCOL, cause, "update Postern");
        } else {
            self.ok(check::PROTOCOL, cause);
        }
        Ok(Approach::new(native, newest.version(), marker))
    }
}
