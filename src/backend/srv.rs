//! SRV records: where the Minecraft server of a domain is.
//!
//! Addresses of hosts are the system's to look up, but no system call knows SRV records. So the name servers that the
//! system uses are asked here, with the bare means of a stub resolver: no cache, no search domains, two tries.

use std::{
    fs::File,
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use domain::{
    base::{
        Message, MessageBuilder, Name,
        iana::{Rcode, Rtype},
    },
    dep::octseq::Array,
    rdata::Srv,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::{Instant, timeout, timeout_at},
};
use tracing::debug;

/// Where a Minecraft server listens unless somebody says otherwise.
pub const DEFAULT_PORT: u16 = 25565;

/// Most targets of one name that are tried.
const MAX_TARGETS: usize = 8;
/// Most records that are put in order; the rest of a longer answer is not read.
const MAX_RECORDS: usize = 64;
/// How often each name server is asked.
const TRIES: u32 = 2;
/// Most name servers that are asked, as many as the system's own resolver uses.
const MAX_SERVERS: usize = 3;
/// Longest answer over UDP, in bytes. Without extensions, which we do not offer, it is 512.
const MAX_UDP: usize = 4096;
/// Longest question, in bytes: a header of 12, a name of 255, type and class.
const MAX_QUESTION: usize = 512;
/// Longest `resolv.conf` read, in bytes.
const MAX_CONF: u64 = 64 << 10;
const DNS_PORT: u16 = 53;

/// Who is asked for SRV records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameServers {
    /// Those in `/etc/resolv.conf`, read anew for each question: networks change.
    System,
    /// These, in order.
    At(Vec<SocketAddr>),
}

/// A host and port to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// The domain's owner says that there is no Minecraft server: its SRV record names no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoService;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum LookupError {
    #[error("no name server is configured")]
    NoServer,
    #[error("the name is too long")]
    LongName,
    #[error("no answer in time")]
    Silent,
    #[error("the name server answered {0}")]
    Refused(Rcode),
    #[error("the answer makes no sense")]
    Malformed,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

/// One SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    priority: u16,
    weight: u16,
    port: u16,
    /// `None` for the root: there is no such service.
    host: Option<String>,
}

/// Where to connect for the Minecraft server of `name`, best first, at most 8: what its SRV records say; without any,
/// and if they cannot be had within the time, the name itself at port 25565.
pub(super) async fn targets(
    name: &str,
    servers: &NameServers,
    within: Duration,
) -> Result<Vec<Target>, NoService> {
    let asked = async {
        let records = look_up(name, servers, Instant::now() + within).await?;
        order(records, |most| getrandom::u32().map(|n| n % most.saturating_add(1)))
            .map_err(LookupError::Random)
    };
    let records = match timeout(within, asked).await.unwrap_or(Err(LookupError::Silent)) {
        Ok(records) => records,
        Err(error) => {
            debug!(name, %error, "cannot look up SRV records; trying the name itself");
            Vec::new()
        }
    };
    let said = !records.is_empty();
    let mut found: Vec<Target> = records
        .into_iter()
        .filter_map(|record| Some(Target { host: record.host?, port: record.port }))
        .filter(|target| target.port != 0)
        .collect();
    found.truncate(MAX_TARGETS);
    match (found.is_empty(), said) {
        (false, _) => Ok(found),
        (true, true) => Err(NoService),
        (true, false) => Ok(vec![Target { host: name.to_owned(), port: DEFAULT_PORT }]),
    }
}

/// Puts records in the order in which to try them, as RFC 2782 has it: lower priorities first; within one, drawn by
/// weight. `draw(n)` is a random number from 0 to n.
fn order<E>(mut records: Vec<Record>, mut draw: impl FnMut(u32) -> Result<u32, E>) -> Result<Vec<Record>, E> {
    // Weights of 0 in front of their like: only a draw of 0 finds them.
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|record| record.priority) {
        let alike = records.iter().take_while(|record| record.priority == priority);
        let sum = alike.map(|record| u32::from(record.weight)).sum();
        let drawn = draw(sum)?;
        let mut running = 0;
        let at = records.iter().position(|record| {
            running += u32::from(record.weight);
            running >= drawn
        });
        ordered.push(records.remove(at.unwrap_or(0)));
    }
    Ok(ordered)
}

/// Asks every name server in turn, twice; each try has its share of the time that is left.
async fn look_up(name: &str, servers: &NameServers, end: Instant) -> Result<Vec<Record>, LookupError> {
    let servers = match servers {
        NameServers::At(servers) => servers.clone(),
        NameServers::System => {
            let read = tokio::task::spawn_blocking(|| read_conf(Path::new("/etc/resolv.conf")));
            read.await.map_err(io::Error::other)?
        }
    };
    let mut error = LookupError::NoServer;
    let mut left = TRIES * u32::try_from(servers.len()).unwrap_or(u32::MAX / TRIES);
    for server in std::iter::repeat_n(&servers, TRIES as usize).flatten() {
        let until = Instant::now() + end.saturating_duration_since(Instant::now()) / left;
        left -= 1;
        let id = getrandom::u32().map_err(LookupError::Random)?.to_le_bytes();
        let question = question(name, u16::from_le_bytes([id[0], id[1]]))?;
        match timeout_at(until, ask(*server, &question)).await {
            Ok(Ok(records)) => return Ok(records),
            Ok(Err(failed)) => error = failed,
            Err(_) => error = LookupError::Silent,
        }
    }
    Err(error)
}

/// The name servers in a `resolv.conf`; as the system does it, the one on this machine if it names none.
fn read_conf(path: &Path) -> Vec<SocketAddr> {
    let mut text = Vec::new();
    // Without the file there is none to read from: the same as an empty one.
    let _ = File::open(path).and_then(|file| file.take(MAX_CONF).read_to_end(&mut text));
    let servers = name_servers(&String::from_utf8_lossy(&text));
    if servers.is_empty() { vec![(Ipv4Addr::LOCALHOST, DNS_PORT).into()] } else { servers }
}

fn name_servers(conf: &str) -> Vec<SocketAddr> {
    conf.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
            // An address with a zone (`fe80::1%eth0`) needs the interface's number, which nothing here knows.
            Some(SocketAddr::new(address.parse().ok()?, DNS_PORT))
        })
        .take(MAX_SERVERS)
        .collect()
}

type Question = Message<Array<MAX_QUESTION>>;

fn question(name: &str, id: u16) -> Result<Question, LookupError> {
    let name = Name::<Array<256>>::from_chars(format!("_minecraft._tcp.{name}").chars())
        .map_err(|_| LookupError::LongName)?;
    let mut builder =
        MessageBuilder::from_target(Array::new()).map_err(|_| LookupError::LongName)?.question();
    builder.header_mut().set_id(id);
    builder.header_mut().set_rd(true);
    builder.push((name, Rtype::SRV)).map_err(|_| LookupError::LongName)?;
    Ok(builder.into_message())
}

/// What a datagram or stream from a name server turned out to be.
#[derive(Debug)]
enum Said {
    /// Not the answer to this question: a late one, or a forgery.
    Another,
    /// The answer does not fit into a datagram.
    Truncated,
    Records(Vec<Record>),
}

/// Asks one name server over UDP, and over TCP if the answer is too long for that. Waits as long as it takes.
async fn ask(server: SocketAddr, question: &Question) -> Result<Vec<Record>, LookupError> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // From then on the system drops what others send.
    socket.connect(server).await?;
    socket.send(question.as_slice()).await?;
    let mut buffer = vec![0; MAX_UDP];
    loop {
        let len = socket.recv(&mut buffer).await?;
        match read_answer(buffer.get(..len).unwrap_or_default(), question)? {
            Said::Another => {}
            Said::Truncated => return ask_at_length(server, question).await,
            Said::Records(records) => return Ok(records),
        }
    }
}

async fn ask_at_length(server: SocketAddr, question: &Question) -> Result<Vec<Record>, LookupError> {
    let mut stream = TcpStream::connect(server).await?;
    let len = u16::try_from(question.as_slice().len()).map_err(|_| LookupError::LongName)?;
    stream.write_all(&[&len.to_be_bytes(), question.as_slice()].concat()).await?;
    let len = stream.read_u16().await?;
    // Grows with what comes, not with what is announced.
    let mut answer = Vec::new();
    stream.take(len.into()).read_to_end(&mut answer).await?;
    match read_answer(&answer, question)? {
        Said::Records(records) if answer.len() == usize::from(len) => Ok(records),
        Said::Records(_) | Said::Truncated | Said::Another => Err(LookupError::Malformed),
    }
}

fn read_answer(answer: &[u8], question: &Question) -> Result<Said, LookupError> {
    let Ok(message) = Message::from_slice(answer) else { return Ok(Said::Another) };
    if !message.is_answer(question) {
        return Ok(Said::Another);
    }
    if message.header().tc() {
        return Ok(Said::Truncated);
    }
    match message.header().rcode() {
        Rcode::NOERROR => {}
        Rcode::NXDOMAIN => return Ok(Said::Records(Vec::new())),
        other => return Err(LookupError::Refused(other)),
    }
    // The name may be an alias, whose records then stand in the same answer.
    let owner = message.canonical_name().ok_or(LookupError::Malformed)?;
    let mut records = Vec::new();
    for found in message.answer().map_err(|_| LookupError::Malformed)?.limit_to_in::<Srv<_>>() {
        let found = found.map_err(|_| LookupError::Malformed)?;
        if *found.owner() != owner {
            continue;
        }
        let srv = found.data();
        records.push(Record {
            priority: srv.priority(),
            weight: srv.weight(),
            port: srv.port(),
            host: (!srv.target().is_root()).then(|| srv.target().to_string()),
        });
        if records.len() == MAX_RECORDS {
            break;
        }
    }
    Ok(Said::Records(records))
}

#[cfg(test)]
pub(crate) mod tests;
