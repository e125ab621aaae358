//! The service manager that started the program, if there is one that wants to hear how it fares: systemd.
//!
//! It hears `READY=1` once connections are taken, `RELOADING=1` and another `READY=1` around a reload, `STOPPING=1`, and
//! `WATCHDOG=1` in half the time after which it would take the program for dead. That last one is sent on the runtime
//! that serves logins, and only once the monitor of the session server has answered: a program that hangs does not say
//! that it is well. A manager that hangs itself holds up nothing here.

use std::{
    future::Future,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, error, info, warn};

use crate::{mojang::health::Health, task::Shutdown};

/// How long a word waits for room in the queue of a service manager that is behind.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks whether there is room.
const PAUSE: Duration = Duration::from_millis(20);

/// What a service manager is told. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    /// The way to it; `None` if there is none.
    way: Option<Arc<Way>>,
    /// After how long without a sign of life it takes the program for dead; `None` is never.
    watchdog: Option<Duration>,
}

/// The way to a service manager.
#[derive(Debug)]
struct Way {
    wire: Wire,
    spoken: Mutex<Spoken>,
}

/// What was said so far.
#[derive(Debug, Default)]
struct Spoken {
    /// It was told that the program stops: whatever ends after that is no news.
    stopping: bool,
    /// The last word did not reach it: logged once in a row.
    unheard: bool,
}

/// How the program fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Ready,
    Reloading,
    Stopping,
    Alive,
}

impl Supervisor {
    /// The one that the environment of this process names (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`).
    #[cfg(target_os = "linux")]
    pub fn of_this_process() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        match Wire::to(&name) {
            Ok(wire) => Self {
                way: Some(Arc::new(Way { wire, spoken: Mutex::default() })),
                watchdog: sd_notify::watchdog_enabled().filter(|time| !time.is_zero()),
            },
            Err(error) => {
                warn!(%error, socket = %name.display(), "the service manager cannot be told anything");
                Self::default()
            }
        }
    }

    /// There is none on this system that would hear it.
    #[cfg(not(target_os = "linux"))]
    pub fn of_this_process() -> Self {
        Self::default()
    }

    /// Connections are taken.
    pub async fn ready(&self) {
        self.tell(Word::Ready).await;
    }

    /// The configuration is read again. Once that is over, however it ended, [`ready`](Self::ready) follows.
    pub async fn reloading(&self) {
        self.tell(Word::Reloading).await;
    }

    /// Connections are taken no more.
    pub async fn stopping(&self) {
        self.tell(Word::Stopping).await;
    }

    /// Says that the program is alive, for as long as it is.
    pub(super) async fn watch(self, health: Health, stop: Shutdown) {
        let Some(limit) = self.watchdog else { return };
        let every = limit / 2;
        debug!(?every, "the service manager wants signs of life");
        let stays_well = beat(every, || health.answers(), || self.tell(Word::Alive));
        tokio::select! {
            () = stop.requested() => {}
            () = stays_well => {}
        }
    }

    /// Waits a moment for room if the manager is behind, but not for a sign of life: the next one is due soon.
    async fn tell(&self, word: Word) {
        let Some(way) = &self.way else { return };
        let began = Instant::now();
        while !way.say(word, word == Word::Alive || began.elapsed() >= PATIENCE) {
            sleep(PAUSE).await;
        }
    }
}

impl Way {
    /// Says it, and logs it if that cannot be done. False if there is no room for it now, and another try follows.
    fn say(&self, word: Word, is_last_try: bool) -> bool {
        // Held while it is said, which takes no time: what is said behind the word that the program stops would undo it.
        let mut spoken = self.spoken.lock().unwrap_or_else(PoisonError::into_inner);
        match word {
            Word::Stopping => spoken.stopping = true,
            Word::Ready | Word::Reloading if spoken.stopping => return true,
            Word::Ready | Word::Reloading | Word::Alive => {}
        }
        let problem = match self.wire.send(word) {
            Ok(()) => {
                spoken.unheard = false;
                return true;
            }
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => error.to_string(),
            Err(_) if !is_last_try => return false,
            Err(_) => "it does not take what it is told".to_owned(),
        };
        let was_unheard = std::mem::replace(&mut spoken.unheard, true);
        drop(spoken);
        if !was_unheard {
            warn!(error = %problem, ?word, "the service manager could not be told");
        }
        true
    }
}

/// Gives a sign of life that often, each time the check has passed. One that fails is made again until it passes: then the
/// sign comes at once, and one stall takes no more than the time it lasts. Says so when the signs stop and resume.
async fn beat<C, S>(every: Duration, check: impl Fn() -> C, sign: impl Fn() -> S)
where
    C: Future<Output = bool>,
    S: Future<Output = ()>,
{
    let mut silent = false;
    loop {
        while timeout(every / 2, check()).await != Ok(true) {
            if !std::mem::replace(&mut silent, true) {
                error!(
                    "the monitor of the session server does not answer: no sign of life for the service manager, which \
                     may restart the program; this is a bug in Postern, please report it"
                );
            }
            // It may have failed at once.
            sleep(every / 8).await;
        }
        if std::mem::take(&mut silent) {
            info!("giving the service manager signs of life again");
        }
        sign().await;
        sleep(every).await;
    }
}

/// A socket that never waits for who reads: neither a thread nor anything else hangs on a manager that does not.
#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Wire {
    socket: std::os::unix::net::UnixDatagram,
    to: std::os::unix::net::SocketAddr,
}

#[cfg(target_os = "linux")]
impl Wire {
    /// To the socket of that name: a path, or behind an `@` a name that is in no folder.
    fn to(name: &std::ffi::OsStr) -> io::Result<Self> {
        use std::os::{
            linux::net::SocketAddrExt,
            unix::{
                ffi::OsStrExt,
                net::{SocketAddr, UnixDatagram},
            },
        };

        let to = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => {
                let kind = io::ErrorKind::Unsupported;
                return Err(io::Error::new(kind, "NOTIFY_SOCKET is neither an absolute path nor an @name"));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, to })
    }

    /// By name each time: a manager that was started anew has another socket there.
    ///
    /// # Errors
    /// `WouldBlock` if the queue of the manager is full.
    fn send(&self, word: Word) -> io::Result<()> {
        use sd_notify::NotifyState;

        let text = match word {
            Word::Ready => NotifyState::Ready.to_string(),
            // Without the time a newer systemd takes a reload that it asked for as failed.
            Word::Reloading => format!("{}\n{}", NotifyState::Reloading, NotifyState::monotonic_usec_now()?),
            Word::Stopping => NotifyState::Stopping.to_string(),
            Word::Alive => NotifyState::Watchdog.to_string(),
        };
        // A datagram is taken whole or not at all.
        self.socket.send_to_addr(text.as_bytes(), &self.to).map(|_| ())
    }
}

/// There is none on this system.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
enum Wire {}

#[cfg(not(target_os = "linux"))]
impl Wire {
    fn send(&self, _: Word) -> io::Result<()> {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn signs_of_life_come_only_while_the_check_passes() {
        let began = Instant::now();
        let (every, signs, well) = (Duration::from_secs(5), RefCell::new(Vec::new()), Cell::new(true));
        let check = || async {
            if !well.get() {
                // It hangs.
                std::future::pending::<()>().await;
            }
            true
        };
        let sign = || async { signs.borrow_mut().push(began.elapsed().as_secs()) };
        let beating = beat(every, check, sign);
        tokio::pin!(beating);
        for (until, is_well, expected) in
            [(11, true, &[0, 5, 10][..]), (29, false, &[0, 5, 10]), (42, true, &[0, 5, 10, 30, 35, 40])]
        {
            well.set(is_well);
            let _ = tokio::time::timeout_at(began + Duration::from_secs(until), &mut beating).await;
            assert_eq!(*signs.borrow(), expected, "after {until} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_stall_costs_no_more_than_it_lasts() {
        let (began, limit) = (Instant::now(), Duration::from_mins(1));
        // It begins when a sign is due, and ends long before the time is up.
        let (from, to) = (began + limit / 2, began + limit / 2 + Duration::from_secs(16));
        let signs = RefCell::new(Vec::new());
        let check = || async {
            if Instant::now() >= from {
                tokio::time::sleep_until(to).await;
            }
            true
        };
        let beating = beat(limit / 2, check, || async { signs.borrow_mut().push(Instant::now()) });
        assert!(timeout(limit * 3, beating).await.is_err());
        let signs = signs.borrow();
        for pair in signs.windows(2) {
            assert!(pair[1] - pair[0] <= limit * 5 / 6, "{:?} without a sign", pair[1] - pair[0]);
        }
        assert!(signs.len() >= 5, "{signs:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_fails_is_no_sign_of_life() {
        let signs = Cell::new(0);
        let beating =
            beat(Duration::from_secs(1), || async { false }, || async { signs.set(signs.get() + 1) });
        assert!(timeout(Duration::from_secs(10), beating).await.is_err());
        assert_eq!(signs.get(), 0);
    }

    #[tokio::test]
    async fn nobody_is_told_where_nobody_listens() {
        let nobody = Supervisor::default();
        nobody.ready().await;
        nobody.stopping().await;
    }

    #[cfg(target_os = "linux")]
    mod told {
        use std::os::unix::net::UnixDatagram;

        use super::*;

        /// A manager in that folder, and the way to it.
        fn manager(folder: &std::path::Path) -> (UnixDatagram, Supervisor) {
            let path = folder.join("notify");
            let ear = UnixDatagram::bind(&path).unwrap();
            ear.set_nonblocking(true).unwrap();
            let wire = Wire::to(path.as_os_str()).unwrap();
            let way = Some(Arc::new(Way { wire, spoken: Mutex::default() }));
            (ear, Supervisor { way, watchdog: None })
        }

        /// All that it has not read yet.
        fn rest(ear: &UnixDatagram) -> Vec<String> {
            let mut rest = Vec::new();
            let mut message = [0; 256];
            while let Ok(length) = ear.recv(&mut message) {
                rest.push(String::from_utf8(message[..length].to_vec()).unwrap());
            }
            rest
        }

        #[tokio::test(start_paused = true)]
        async fn a_manager_that_does_not_read_holds_up_nothing_and_hears_on_once_it_does() {
            let folder = tempfile::tempdir().unwrap();
            let (ear, supervisor) = manager(folder.path());
            let began = Instant::now();
            // More than any queue takes. No time passes here: nothing is waited for.
            for _ in 0..10_000 {
                supervisor.tell(Word::Alive).await;
            }
            assert_eq!(began.elapsed(), Duration::ZERO);
            supervisor.ready().await;
            assert!(began.elapsed() >= PATIENCE && began.elapsed() < PATIENCE * 2, "{:?}", began.elapsed());
            let heard = rest(&ear);
            assert!(!heard.is_empty() && heard.iter().all(|word| word == "WATCHDOG=1"), "{heard:?}");
            supervisor.ready().await;
            assert_eq!(rest(&ear), ["READY=1"]);
        }

        #[tokio::test(start_paused = true)]
        async fn a_word_waits_for_a_manager_that_is_behind() {
            let folder = tempfile::tempdir().unwrap();
            let (ear, supervisor) = manager(folder.path());
            while supervisor.way.as_ref().unwrap().wire.send(Word::Alive).is_ok() {}
            let reads = async {
                sleep(PATIENCE / 2).await;
                rest(&ear)
            };
            tokio::join!(supervisor.ready(), reads);
            assert_eq!(rest(&ear), ["READY=1"]);
        }

        #[tokio::test]
        async fn nothing_is_said_behind_the_word_that_it_stops() {
            let folder = tempfile::tempdir().unwrap();
            let (ear, supervisor) = manager(folder.path());
            supervisor.reloading().await;
            supervisor.stopping().await;
            supervisor.clone().ready().await;
            supervisor.reloading().await;
            let heard = rest(&ear);
            assert!(heard[0].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{heard:?}");
            assert_eq!(heard[1..], ["STOPPING=1"]);
        }

        #[test]
        fn names_of_a_manager() {
            use std::os::linux::net::SocketAddrExt;

            let name = format!("postern-test-{}", std::process::id());
            let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
            let ear = UnixDatagram::bind_addr(&address).unwrap();
            ear.set_nonblocking(true).unwrap();
            Wire::to(format!("@{name}").as_ref()).unwrap().send(Word::Ready).unwrap();
            assert_eq!(rest(&ear), ["READY=1"]);
            for name in ["vsock:2:1234", "relative"] {
                assert_eq!(Wire::to(name.as_ref()).unwrap_err().kind(), io::ErrorKind::Unsupported, "{name}");
            }
        }
    }
}
