//! What is measured: the proxy, the plain relay, or a process of somebody else's.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    failure::{During, Outcome, ensure},
    relay::LISTENING,
};

/// How long a child may take until it listens. A proxy makes its keys before that.
const START: Duration = Duration::from_secs(20);

/// Lines of a proxy's log that are shown when something went wrong.
const LOG_TAIL: usize = 8;

/// Something that players connect to.
pub(crate) struct Target {
    /// Where.
    pub(crate) address: SocketAddr,
    /// Its process, if that is known.
    pub(crate) pid: Option<u32>,
    child: Option<Mutex<Child>>,
    /// The proxy's own, with its configuration, its log and its sessions.
    folder: Option<TempDir>,
}

impl Target {
    /// A process of somebody else's.
    pub(crate) fn running(address: SocketAddr, pid: Option<u32>) -> Self {
        Self { address, pid, child: None, folder: None }
    }

    /// The plain relay in front of `backend`.
    pub(crate) fn relay(backend: SocketAddr) -> Outcome<Self> {
        let program = std::env::current_exe().during("finding this program")?;
        let mut command = Command::new(program);
        command.arg("relay").arg(backend.to_string()).stderr(Stdio::inherit());
        Self::child(command, None).during("starting the plain relay")
    }

    /// The proxy between a session server and a backend, in a new folder.
    pub(crate) fn proxy(
        program: &Path,
        sessions: SocketAddr,
        backend: SocketAddr,
        secret: &str,
    ) -> Outcome<Self> {
        let folder = tempfile::tempdir().during("making a folder for the proxy")?;
        let config = folder.path().join("config.yml");
        fs::write(folder.path().join("forwarding.secret"), secret).during("writing the forwarding secret")?;
        fs::write(&config, configuration(sessions, backend)).during("writing the configuration")?;
        let log = File::create(folder.path().join("log")).during("making the proxy's log")?;
        let mut command = Command::new(program);
        command.arg("--config").arg(&config).current_dir(folder.path()).stderr(log);
        for variable in
            ["RUST_LOG", "POSTERN_CONFIG", "POSTERN_FORWARDING_SECRET", "VELOCITY_FORWARDING_SECRET"]
        {
            command.env_remove(variable);
        }
        Self::child(command, Some(folder)).during(format!("starting {}", program.display()))
    }

    fn child(mut command: Command, folder: Option<TempDir>) -> Outcome<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take();
        let mut target = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            pid: Some(child.id()),
            child: Some(Mutex::new(child)),
            folder,
        };
        let (said, heard) = mpsc::channel();
        // Reads to the end: a child must not find nobody at the other end of its standard output.
        thread::spawn(move || {
            for line in stdout.map(BufReader::new).into_iter().flat_map(BufRead::lines).map_while(Result::ok)
            {
                let _ = said.send(line);
            }
        });
        while let Ok(line) = heard.recv_timeout(START) {
            let Some((_, addresses)) = line.split_once(LISTENING) else { continue };
            target.address = addresses.trim().parse().during(format!("the address in \"{line}\""))?;
            return Ok(target);
        }
        Err(format!("it did not say where it listens{}", target.last_words()).into())
    }

    /// Ends the process, if it is ours.
    pub(crate) fn kill(&self) {
        if let Some(child) = &self.child {
            let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The end of its log on lines of their own, if it is ours.
    pub(crate) fn last_words(&self) -> String {
        let log = self.folder.as_ref().and_then(|folder| fs::read_to_string(folder.path().join("log")).ok());
        let log = log.unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(LOG_TAIL)..).unwrap_or_default();
        tail.iter().flat_map(|line| ["\n  log: ", line]).collect()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Everything else is as it comes: an owner's proxy looks like this.
fn configuration(sessions: SocketAddr, backend: SocketAddr) -> String {
    format!(
        r#"bind: "127.0.0.1:0"
backends:
  lobby:
    address: "{backend}"
forwarding:
  mode: modern
  secret-file: forwarding.secret
auth:
  session-server: "http://{sessions}"
  services: "http://{sessions}"
  # All players here are strangers who come at once, and from one address.
  unknown-logins-per-minute: 0
network:
  login-ratelimit: 0
  max-connections-per-address: 20000
  # Idle players are silent for as long as it takes to count their memory.
  read-timeout: 120000
"#
    )
}

/// The proxy's program: the one named, or the one that cargo has built beside this one.
pub(crate) fn find_proxy(named: Option<&PathBuf>) -> Outcome<PathBuf> {
    if let Some(path) = named {
        ensure(path.is_file(), format!("--proxy-binary: there is no file {}", path.display()))?;
        // The proxy is started in another folder.
        return path.canonicalize().during(path.display());
    }
    let program = std::env::current_exe().during("finding this program")?;
    let folder = program.parent().ok_or("this program is in no folder")?;
    // Cargo puts examples into a folder of their own, beside the program.
    let places = [Some(folder), folder.parent()];
    let name = format!("postern{}", std::env::consts::EXE_SUFFIX);
    let mut found = places.into_iter().flatten().map(|place| place.join(&name)).filter(|path| path.is_file());
    found.next().ok_or_else(|| {
        let profile = if cfg!(debug_assertions) { "" } else { " --release" };
        format!("there is no {name} in {} or above it: run `cargo build{profile}` first", folder.display())
            .into()
    })
}
