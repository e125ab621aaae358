//! Stand-in game servers. One asks who the player is, signed (modern forwarding), as behind a proxy; the other is a
//! plain offline-mode server, for the plain relay. Whoever got in is handed over with the bare connection: the flows
//! decide what passes on it.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::{
    failure::{During, Outcome, ensure},
    wire::{Inbox, Packet, Reader, frame},
};

/// How long either side of a login, and every read and write, may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Releases before this one are in play right behind login success. It is the one of the flows that pass traffic.
pub(crate) const CONFIGURATION_SINCE: i32 = 764;

const STATUS: &str = r#"{"version":{"name":"1.21.11","protocol":774},"players":{"max":500,"online":120,"sample":[{"name":"Alice","id":"069a79f4-44e9-4726-a5be-fca90e38aaf5"}]},"description":{"text":"A stand-in server, for measuring"},"enforcesSecureChat":false}"#;

/// How a backend learns who the player is.
#[derive(Clone)]
enum Forwarding {
    Modern(Arc<str>),
    None,
}

/// Both backends.
pub(crate) struct Backends {
    /// Asks for modern forwarding.
    pub(crate) modern: SocketAddr,
    /// Takes everybody at their word.
    pub(crate) plain: SocketAddr,
    hall: Arc<Hall>,
}

/// Where those wait who got in.
#[derive(Default)]
struct Hall {
    waiting: Mutex<HashMap<String, TcpStream>>,
    came: Condvar,
    /// The compression threshold in bytes; `usize::MAX` is none.
    threshold: AtomicUsize,
    /// What went wrong last at a login.
    complaint: Mutex<String>,
}

impl Backends {
    /// Both take connections from now on, until the program ends.
    pub(crate) fn start(modern: SocketAddr, secret: &str) -> Outcome<Self> {
        let hall = Arc::new(Hall::default());
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let modern = listen(modern, &Forwarding::Modern(secret.into()), &hall)?;
        let plain = listen(free, &Forwarding::None, &hall)?;
        Ok(Self { modern, plain, hall })
    }

    /// What the next players are told of compression.
    pub(crate) fn compress_from(&self, threshold: Option<usize>) {
        self.hall.threshold.store(threshold.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// The backend's end of the connection of the player of that name, once it got in.
    pub(crate) fn claim(&self, name: &str) -> Outcome<TcpStream> {
        let waiting = self.hall.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut waiting, _) = self
            .hall
            .came
            .wait_timeout_while(waiting, PATIENCE, |waiting| !waiting.contains_key(name))
            .unwrap_or_else(PoisonError::into_inner);
        waiting.remove(name).ok_or_else(|| format!("no player {name} came to the backend").into())
    }

    /// What went wrong last at a login, as the backend saw it.
    pub(crate) fn complaint(&self) -> String {
        self.hall.complaint.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn listen(address: SocketAddr, forwarding: &Forwarding, hall: &Arc<Hall>) -> Outcome<SocketAddr> {
    let listener = TcpListener::bind(address).during(format!("backend: listening on {address}"))?;
    let address = listener.local_addr()?;
    let (forwarding, hall) = (forwarding.clone(), Arc::clone(hall));
    thread::Builder::new().name("backend".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let (forwarding, hall) = (forwarding.clone(), Arc::clone(&hall));
            thread::spawn(move || {
                if let Err(error) = receive(stream, &forwarding, &hall) {
                    *hall.complaint.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
                }
            });
        }
    })?;
    Ok(address)
}

/// A connection being received.
struct Guest {
    stream: TcpStream,
    inbox: Inbox,
}

impl Guest {
    fn hear(&mut self) -> Outcome<Vec<u8>> {
        self.inbox.next(&mut self.stream, |_| {})
    }

    fn say(&mut self, packet: &Packet, threshold: Option<usize>) -> Outcome<()> {
        Ok(self.stream.write_all(&frame(&packet.0, threshold)?)?)
    }
}

/// From the first byte to login success, or to the end of a status request.
fn receive(stream: TcpStream, forwarding: &Forwarding, hall: &Hall) -> Outcome<()> {
    prepare(&stream)?;
    let mut guest = Guest { stream, inbox: Inbox::default() };
    let packet = guest.hear()?;
    let mut reader = Reader(&packet);
    ensure(reader.byte()? == 0, "no handshake")?;
    let protocol = i32::try_from(reader.varint()?)?;
    reader.text()?;
    reader.take(2)?;
    if reader.varint()? == 1 {
        return answer_status(&mut guest);
    }
    let packet = guest.hear()?;
    let mut reader = Reader(&packet);
    ensure(reader.byte()? == 0, "no login start")?;
    let mut player = Player { name: reader.text()?.to_owned(), id: [0; 16], properties: vec![0] };
    if let Forwarding::Modern(secret) = forwarding {
        player = ask(&mut guest, secret)?;
    }
    let threshold = Some(hall.threshold.load(Ordering::Relaxed)).filter(|threshold| *threshold != usize::MAX);
    if let Some(threshold) = threshold {
        guest.say(&Packet::new(3).varint(threshold), None)?;
    }
    let success = Packet::new(2).raw(&player.id).text(&player.name).raw(&player.properties);
    guest.say(&success, threshold)?;
    if protocol >= CONFIGURATION_SINCE {
        ensure(guest.hear()?.last() == Some(&3), "login was not acknowledged")?;
    }
    ensure(guest.inbox.is_empty(), "more than a login")?;
    let mut waiting = hall.waiting.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.insert(player.name, guest.stream);
    hall.came.notify_all();
    Ok(())
}

/// No delays, and an end to every wait.
pub(crate) fn prepare(stream: &TcpStream) -> Outcome<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(())
}

struct Player {
    name: String,
    id: [u8; 16],
    /// As they stand in login success, their count before them.
    properties: Vec<u8>,
}

/// Asks who the player is, and checks the signature under the answer.
fn ask(guest: &mut Guest, secret: &str) -> Outcome<Player> {
    guest.say(&Packet::new(4).varint(1).text("velocity:player_info").raw(&[4]), None)?;
    let packet = guest.hear()?;
    let mut reader = Reader(&packet);
    let answered = (reader.byte()?, reader.varint()?, reader.byte()?) == (2, 1, 1);
    ensure(answered, "the proxy did not say who the player is (modern forwarding)")?;
    let signature = reader.take(32)?;
    let signed =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes())?.chain_update(reader.0).verify_slice(signature);
    signed.during("the proxy's forwarding secret is not ours")?;
    reader.varint()?;
    reader.text()?;
    let id = reader.take(16)?.try_into()?;
    let name = reader.text()?.to_owned();
    Ok(Player { name, id, properties: reader.0.to_vec() })
}

/// Answers until the other side closes: some ask twice, some only for the list.
fn answer_status(guest: &mut Guest) -> Outcome<()> {
    loop {
        let Ok(packet) = guest.hear() else { return Ok(()) };
        match packet.split_first() {
            Some((0, [])) => guest.say(&Packet::new(0).text(STATUS), None)?,
            Some((1, _)) => guest.say(&Packet(packet), None)?,
            _ => return Err("an unknown packet in the status state".into()),
        }
    }
}

/// Reads until the other side closes, however it does.
pub(crate) fn read_to_end(stream: &mut TcpStream) -> Outcome<()> {
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted) =>
            {
                return Ok(());
            }
            Err(error) => {
                return Err(crate::wire::said(&error)).during("waiting for the end of a connection");
            }
        }
    }
}
