//! The real proxy, around stand-ins, in a folder that vanishes.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use postern::{
    app::{Proxy, StartError},
    clock::Clock,
    config::{self, Environment, Loaded, Purpose, Report},
};
use serde_json::Value;
use uuid::Uuid;

use super::{
    backend::{Backend, SECRET},
    session_server::SessionServer,
};

/// What a proxy is started with. Lines are YAML.
pub struct Setup {
    pub folder: tempfile::TempDir,
    pub text: String,
}

impl Setup {
    /// One modern backend, quick probes, and rules and limits that players can meet who all come from loopback.
    pub fn new(sessions: &SessionServer, backend: &Backend) -> Self {
        Self::with(sessions, backend, "modern", "")
    }

    /// The same with another forwarding mode and more lines for the `auth` section.
    pub fn with(sessions: &SessionServer, backend: &Backend, mode: &str, auth: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("forwarding.secret"), SECRET).unwrap();
        let text = format!(
            r#"
bind: "127.0.0.1:0"
backends:
  lobby:
    address: "{}"
forwarding:
  mode: {mode}
auth:
  session-server: "{sessions}"
  services: "{sessions}"
  timeout: 2000
{auth}
security:
  min-login-history: 1
  trust-private-addresses: true
  max-accounts-per-address: 100
  enable-geo-checks: false
monitoring:
  probe-retry-interval: 50
  health-check-interval: 1
network:
  login-ratelimit: 0
  max-connections-per-address: 20000
admin: {{ listen: "" }}
"#,
            backend.address,
            sessions = sessions.url()
        );
        Self { folder, text }
    }

    pub fn replace(mut self, from: &str, to: &str) -> Self {
        assert!(self.text.contains(from), "{from}");
        self.text = self.text.replace(from, to);
        self
    }

    /// Takes players' addresses from PROXY headers, as public ones that have to be proven.
    pub fn behind_a_proxy(self) -> Self {
        self.replace("  trust-private-addresses: true\n", "").network("  accept-proxy-protocol: true\n")
    }

    /// More lines for the `network` section.
    pub fn network(self, lines: &str) -> Self {
        self.replace("network:\n", &format!("network:\n{lines}"))
    }

    /// The same in a folder inside that one. A proxy that is not stopped in order may still write after this folder
    /// went; the owner of the outer one can clear it away when nothing runs any more.
    pub fn within(mut self, outer: &Path) -> Self {
        let folder = tempfile::tempdir_in(outer).unwrap();
        std::fs::write(folder.path().join("forwarding.secret"), SECRET).unwrap();
        self.folder = folder;
        self
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("config.yml")
    }

    pub async fn start(&self) -> Proxy {
        std::fs::write(self.path(), &self.text).unwrap();
        let loaded = config::load(&self.path(), &Environment::default(), Purpose::Run)
            .unwrap_or_else(|report| panic!("{report}"));
        Proxy::start(loaded.config, Clock::system()).await.unwrap()
    }

    /// Starts at that time of the wall clock.
    pub async fn start_at(&self, time: &str) -> Proxy {
        self.try_start(Clock::starting_at(time.parse().unwrap())).await.unwrap()
    }

    /// Starts, or says why not.
    pub async fn try_start(&self, clock: Clock) -> Result<Proxy, StartError> {
        let config = self.load().unwrap_or_else(|report| panic!("{report}")).config;
        Proxy::start(config, clock).await
    }

    pub fn load(&self) -> Result<Loaded, Report> {
        std::fs::write(self.path(), &self.text).unwrap();
        config::load(&self.path(), &Environment::default(), Purpose::Run)
    }

    /// The session documents on disk, by player name.
    pub fn sessions(&self) -> BTreeMap<String, Value> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.folder.path().join("sessions")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                if let Ok(document) = serde_json::from_str::<Value>(&text)
                    && let Some(name) = document["name"].as_str()
                {
                    found.insert(name.to_owned(), document.clone());
                }
            }
        }
        found
    }

    /// Where the session document of that player is.
    pub fn document(&self, id: Uuid) -> PathBuf {
        let shard = format!("{:02x}", id.as_bytes()[0]);
        self.folder.path().join("sessions").join(shard).join(format!("{id}.json"))
    }

    /// Changes a field of a session document, which must be there, while no proxy runs on this folder.
    pub fn edit(&self, id: Uuid, field: &str, value: Value) {
        let path = self.document(id);
        let mut document: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        document[field] = value;
        std::fs::write(path, document.to_string()).unwrap();
    }

    pub fn audit(&self) -> Audit {
        Audit { path: self.folder.path().join("audit.log"), read: 0 }
    }
}

/// Reads audit.log line by line.
pub struct Audit {
    path: PathBuf,
    read: usize,
}

impl Audit {
    /// The next event of that kind that fits, skipping others. The line is written by another thread, so this looks
    /// again until it is there.
    pub async fn next(&mut self, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let text = std::fs::read_to_string(&self.path).unwrap_or_default();
            let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
            for line in whole.lines().skip(self.read) {
                self.read += 1;
                let event: Value = serde_json::from_str(line).unwrap();
                if event["event"] == kind && fits(&event) {
                    return event;
                }
            }
            assert!(began.elapsed() < Duration::from_secs(20), "no {kind} in audit.log:\n{text}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Passes over that many lines.
    pub fn skip(&mut self, lines: usize) {
        self.read += lines;
    }

    pub async fn reason(&mut self, reason: &str) -> Value {
        self.next("login.refused", |event| event["reason"] == reason).await
    }

    pub async fn state(&mut self, to: &str) -> Value {
        self.next("auth.state", |event| event["to"] == to).await
    }

    pub fn lines(&self) -> Vec<String> {
        std::fs::read_to_string(&self.path).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

pub fn address(proxy: &Proxy) -> SocketAddr {
    proxy.addresses()[0]
}
