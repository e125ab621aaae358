//! Scripted name servers on loopback ports, honest and not.

use std::sync::{Arc, Mutex};

use tokio::{net::TcpListener, task::JoinHandle};

use super::*;

const NAME: &str = "mc.example.com";
const WITHIN: Duration = Duration::from_secs(2);

/// The labels of a name, as they stand in a message.
fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> =
        labels.flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}

/// Points at the question's name, which begins right behind the header.
const ASKED: [u8; 2] = [0xc0, 12];
const SRV: u8 = 33;
const CNAME: u8 = 5;

fn record(owner: &[u8], kind: u8, data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(data.len()).unwrap().to_be_bytes();
    [owner, &[0, kind, 0, 1, 0, 0, 0, 60], &len, data].concat()
}

pub(crate) fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Vec<u8> {
    let numbers = [priority, weight, port].map(u16::to_be_bytes).concat();
    record(&ASKED, SRV, &[numbers, wire(target)].concat())
}

/// A question's answer with these flags and records.
fn answer(question: &[u8], flags: [u8; 2], records: &[Vec<u8>]) -> Vec<u8> {
    let count = u16::try_from(records.len()).unwrap().to_be_bytes();
    [&question[..2], &flags, &[0, 1], &count, &[0; 4], &question[12..], &records.concat()].concat()
}

pub(crate) const GOOD: [u8; 2] = [0x81, 0x80];
const TRUNCATED: [u8; 2] = [0x83, 0x80];
const NXDOMAIN: [u8; 2] = [0x81, 0x83];
const SERVFAIL: [u8; 2] = [0x81, 0x82];
const REFUSED: [u8; 2] = [0x81, 0x85];

/// A name server that answers each datagram with what the script makes of it, and counts them.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Vec<u8>>>>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(script: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (socket.local_addr().unwrap(), Arc::<Mutex<Vec<Vec<u8>>>>::default());
        let seen = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 1000];
            loop {
                let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
                let question = &buffer[..len];
                seen.lock().unwrap().push(question.to_vec());
                for datagram in script(question) {
                    // Whoever asked may have gone.
                    let _ = socket.send_to(&datagram, from).await;
                }
            }
        });
        Self { address, asked, task }
    }

    /// One whose every answer is that.
    pub(crate) async fn answering(flags: [u8; 2], records: Vec<Vec<u8>>) -> Self {
        Self::start(move |question| vec![answer(question, flags, &records)]).await
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn targets_from(servers: &[&Server]) -> Result<Vec<Target>, NoService> {
    let servers = NameServers::At(servers.iter().map(|server| server.address).collect());
    targets(NAME, &servers, WITHIN).await
}

fn target(host: &str, port: u16) -> Target {
    Target { host: host.to_owned(), port }
}

fn itself() -> Vec<Target> {
    vec![target(NAME, 25565)]
}

#[tokio::test]
async fn the_question_is_the_one_that_the_game_asks() {
    let server = Server::answering(GOOD, vec![]).await;
    assert_eq!(targets_from(&[&server]).await, Ok(itself()));
    let asked = server.asked.lock().unwrap()[0].clone();
    let rest = [&b"\x01\0\0\x01\0\0\0\0\0\0"[..], &wire("_minecraft._tcp.mc.example.com"), b"\0\x21\0\x01"];
    assert_eq!(asked[2..], rest.concat());
    // A new number each time, and a name with its dot at the end is the same name.
    let servers = NameServers::At(vec![server.address]);
    for _ in 0..3 {
        targets("mc.example.com.", &servers, WITHIN).await.unwrap();
    }
    let asked = server.asked.lock().unwrap();
    assert!(asked[1..].iter().any(|question| question[..2] != asked[0][..2]), "{asked:x?}");
    assert!(asked.iter().all(|question| question[2..] == asked[0][2..]), "{asked:x?}");
}

#[tokio::test]
async fn records_lead_to_their_targets() {
    let records =
        vec![srv(20, 0, 3, "c.example.net"), srv(5, 0, 1, "a.example.net"), srv(10, 7, 2, "b.example.net")];
    let server = Server::answering(GOOD, records).await;
    let expected = vec![target("a.example.net", 1), target("b.example.net", 2), target("c.example.net", 3)];
    assert_eq!(targets_from(&[&server]).await, Ok(expected));
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn aliases_are_followed_within_the_answer() {
    let mut elsewhere = srv(1, 0, 7, "real.example.net");
    elsewhere.splice(..2, wire("_minecraft._tcp.other.example"));
    let alias = record(&ASKED, CNAME, &wire("_minecraft._tcp.other.example"));
    let server = Server::answering(GOOD, vec![alias, elsewhere.clone()]).await;
    assert_eq!(targets_from(&[&server]).await, Ok(vec![target("real.example.net", 7)]));
    // Records that nothing leads to are nobody's answer.
    let server = Server::answering(GOOD, vec![elsewhere]).await;
    assert_eq!(targets_from(&[&server]).await, Ok(itself()));
}

#[tokio::test]
async fn without_records_it_is_the_name_itself() {
    let address = record(&ASKED, 1, &[192, 0, 2, 1]);
    for (flags, records) in [(NXDOMAIN, vec![]), (GOOD, vec![]), (GOOD, vec![address])] {
        let server = Server::answering(flags, records).await;
        assert_eq!(targets_from(&[&server]).await, Ok(itself()), "{flags:x?}");
        assert_eq!(server.asked(), 1, "that was an answer");
    }
}

#[tokio::test]
async fn a_record_that_names_nobody_means_that_there_is_no_server() {
    let server = Server::answering(GOOD, vec![srv(0, 0, 0, ".")]).await;
    assert_eq!(targets_from(&[&server]).await, Err(NoService));
    // Beside a real one it says nothing; and nobody listens on port 0.
    let mixed =
        vec![srv(0, 0, 25565, "."), srv(1, 0, 0, "zero.example.net"), srv(2, 0, 9, "real.example.net")];
    let server = Server::answering(GOOD, mixed).await;
    assert_eq!(targets_from(&[&server]).await, Ok(vec![target("real.example.net", 9)]));
}

#[tokio::test]
async fn failures_go_to_the_next_name_server_and_then_to_the_name_itself() {
    let good = Server::answering(GOOD, vec![srv(0, 0, 7, "a.example.net")]).await;
    for flags in [SERVFAIL, REFUSED] {
        let bad = Server::answering(flags, vec![]).await;
        assert_eq!(targets_from(&[&bad, &good]).await, Ok(vec![target("a.example.net", 7)]));
        assert_eq!(bad.asked(), 1);
        assert_eq!(targets_from(&[&bad]).await, Ok(itself()));
        assert_eq!(bad.asked(), 3, "twice, then given up");
    }
    // Nobody there at all.
    let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(targets(NAME, &NameServers::At(vec![gone]), WITHIN).await, Ok(itself()));
    assert_eq!(targets(NAME, &NameServers::At(vec![]), WITHIN).await, Ok(itself()));
    let long = format!("{}.example.com", vec!["a".repeat(60); 4].join("."));
    let found = targets(&long, &NameServers::At(vec![good.address]), WITHIN).await;
    assert_eq!(found, Ok(vec![target(&long, 25565)]));
}

#[tokio::test(start_paused = true)]
async fn silence_is_bounded_and_shared_out() {
    let silent = Server::start(|_| vec![]).await;
    let other = Server::start(|_| vec![]).await;
    let start = Instant::now();
    assert_eq!(targets_from(&[&silent, &other]).await, Ok(itself()));
    assert!(start.elapsed() <= WITHIN + Duration::from_millis(10), "{:?}", start.elapsed());
    assert_eq!((silent.asked(), other.asked()), (2, 2));
}

#[tokio::test]
async fn a_second_try_is_answered() {
    let tries = Mutex::new(0);
    let server = Server::start(move |question| {
        let mut tries = tries.lock().unwrap();
        *tries += 1;
        if *tries == 1 { vec![] } else { vec![answer(question, GOOD, &[srv(0, 0, 7, "a.example.net")])] }
    })
    .await;
    let servers = NameServers::At(vec![server.address]);
    let found = targets(NAME, &servers, Duration::from_millis(200)).await;
    assert_eq!(found, Ok(vec![target("a.example.net", 7)]));
}

/// What a liar makes of the question and a plausible lie.
type Forge = Box<dyn Fn(&[u8], Vec<u8>) -> Vec<u8> + Send>;

/// Each lie comes before the truth, and is not taken for it.
#[tokio::test]
async fn lies_are_passed_over() {
    let truth = |question: &[u8]| answer(question, GOOD, &[srv(0, 0, 7, "a.example.net")]);
    let lie = |question: &[u8]| answer(question, GOOD, &[srv(0, 0, 666, "evil.example.net")]);
    let forgeries: Vec<(&str, Forge)> = vec![
        (
            "wrong id",
            Box::new(|_, mut lie| {
                lie[0] ^= 1;
                lie
            }),
        ),
        (
            "not an answer",
            Box::new(|_, mut lie| {
                lie[2] &= 0x7f;
                lie
            }),
        ),
        (
            "another name",
            Box::new(|_, mut lie| {
                lie[13] = b'-';
                lie
            }),
        ),
        (
            "another type",
            Box::new(|question, mut lie| {
                lie[question.len() - 3] = 1;
                lie
            }),
        ),
        (
            "no question",
            Box::new(|_, mut lie| {
                lie[5] = 0;
                lie
            }),
        ),
        (
            "two questions",
            Box::new(|_, mut lie| {
                lie[5] = 2;
                lie
            }),
        ),
        ("the question itself", Box::new(|question, _| question.to_vec())),
        ("short", Box::new(|question, _| question[..11].to_vec())),
        ("empty", Box::new(|_, _| vec![])),
        ("noise", Box::new(|_, _| (0..=255).collect())),
        (
            "a question that loops",
            Box::new(|question, _| {
                [&question[..2], &GOOD, &[0, 1, 0, 1, 0, 0, 0, 0, 0xc0, 12, 0, 33, 0, 1]].concat()
            }),
        ),
    ];
    for (case, forge) in forgeries {
        let server =
            Server::start(move |question| vec![forge(question, lie(question)), truth(question)]).await;
        assert_eq!(targets_from(&[&server]).await, Ok(vec![target("a.example.net", 7)]), "{case}");
        assert_eq!(server.asked(), 1, "{case}");
    }
}

#[tokio::test]
async fn answers_of_others_never_arrive() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let servers = NameServers::At(vec![server.local_addr().unwrap()]);
    let script = async {
        let mut buffer = vec![0; 1000];
        let (len, from) = server.recv_from(&mut buffer).await.unwrap();
        let question = &buffer[..len];
        let lie = answer(question, GOOD, &[srv(0, 0, 666, "evil.example.net")]);
        stranger.send_to(&lie, from).await.unwrap();
        let truth = answer(question, GOOD, &[srv(0, 0, 7, "a.example.net")]);
        server.send_to(&truth, from).await.unwrap();
    };
    let (found, ()) = tokio::join!(targets(NAME, &servers, WITHIN), script);
    assert_eq!(found, Ok(vec![target("a.example.net", 7)]));
}

/// Answers to the very question whose content is broken: as good as none.
#[tokio::test]
async fn broken_answers_are_failures() {
    // Behind header, name, type and class, and twelve bytes of record and six of data: where it stands itself.
    let place = u8::try_from(12 + wire("_minecraft._tcp.mc.example.com").len() + 4 + 12 + 6).unwrap();
    let pointer_loop = record(&ASKED, SRV, &[0, 0, 0, 0, 0, 7, 0xc0, place]);
    let past_the_end = record(&ASKED, SRV, b"\0\0\0\0\0\x07\xff\xff");
    let short_data = record(&ASKED, SRV, b"\0\0\0");
    let trailing = record(&ASKED, SRV, &[&b"\0\0\0\0\0\x07"[..], &wire("a.example.net"), b"xx"].concat());
    let cut = srv(0, 0, 7, "a.example.net")[..20].to_vec();
    let alias_loop = record(&ASKED, CNAME, &ASKED);
    for (case, records) in [
        ("a target that points at itself", vec![pointer_loop]),
        ("a target past the end", vec![past_the_end]),
        ("data too short", vec![short_data]),
        ("data too long", vec![trailing]),
        ("cut off", vec![cut]),
        ("an alias of itself", vec![alias_loop]),
    ] {
        let server = Server::answering(GOOD, records).await;
        assert_eq!(targets_from(&[&server]).await, Ok(itself()), "{case}");
        assert_eq!(server.asked(), 2, "{case}");
    }
    // It states more records than there are.
    let server = Server::start(|question| {
        let mut lie = answer(question, GOOD, &[srv(0, 0, 7, "a.example.net")]);
        lie[6..8].fill(0xff);
        vec![lie]
    })
    .await;
    assert_eq!(targets_from(&[&server]).await, Ok(itself()));
}

/// Reads the question of one stream and sends bytes; the stream ends with them.
async fn answer_stream(listener: &TcpListener, reply: impl FnOnce(&[u8]) -> Vec<u8>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut question = vec![0; stream.read_u16().await.unwrap().into()];
    stream.read_exact(&mut question).await.unwrap();
    stream.write_all(&reply(&question)).await.unwrap();
}

/// A name server whose datagrams are all truncated, and the TCP side of the same port.
async fn truncating() -> (Server, TcpListener) {
    loop {
        let server = Server::answering(TRUNCATED, vec![]).await;
        // The port may be taken on that side.
        if let Ok(listener) = TcpListener::bind(server.address).await {
            return (server, listener);
        }
    }
}

fn prefixed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

#[tokio::test]
async fn long_answers_come_over_tcp_and_only_so_much_of_them_is_used() {
    let (server, listener) = truncating().await;
    let many: Vec<Vec<u8>> =
        (1..=1000).map(|port| srv(port, 0, port, &format!("s{port}.example.net"))).collect();
    let script = answer_stream(&listener, |question| prefixed(&answer(question, GOOD, &many)));
    let only = [&server];
    let (found, ()) = tokio::join!(targets_from(&only), script);
    let expected: Vec<Target> = (1..=8).map(|port| target(&format!("s{port}.example.net"), port)).collect();
    assert_eq!(found, Ok(expected));
    assert_eq!(server.asked(), 1);
}

/// What a liar makes of the question.
type Reply = Box<dyn Fn(&[u8]) -> Vec<u8>>;

#[tokio::test]
async fn lies_over_tcp() {
    let truth = |question: &[u8]| answer(question, GOOD, &[srv(0, 0, 7, "a.example.net")]);
    let replies: Vec<(&str, Reply)> = vec![
        ("truncated even here", Box::new(|question| prefixed(&answer(question, TRUNCATED, &[])))),
        (
            "wrong id",
            Box::new(move |question| {
                let mut lie = truth(question);
                lie[0] ^= 1;
                prefixed(&lie)
            }),
        ),
        (
            "cut",
            Box::new(move |question| {
                let mut lie = prefixed(&truth(question));
                lie[1] += 1;
                lie
            }),
        ),
        ("nothing", Box::new(|_| vec![])),
        ("half a length", Box::new(|_| vec![1])),
        ("an empty message", Box::new(|_| vec![0, 0])),
        ("64 KiB announced", Box::new(|_| vec![0xff, 0xff, 1, 2, 3])),
    ];
    for (case, reply) in replies {
        let (server, listener) = truncating().await;
        let script = async {
            for _ in 0..2 {
                answer_stream(&listener, &reply).await;
            }
        };
        let only = [&server];
        let (found, ()) = tokio::join!(targets_from(&only), script);
        assert_eq!(found, Ok(itself()), "{case}");
    }
}

fn records(entries: &[(u16, u16, u16)]) -> Vec<Record> {
    let record = |&(priority, weight, port)| Record { priority, weight, port, host: Some("x".to_owned()) };
    entries.iter().map(record).collect()
}

#[test]
fn the_order_is_drawn_by_weight_within_a_priority() {
    let ordered = |entries: &[(u16, u16, u16)], draws: &[u32]| -> Vec<u16> {
        let mut draws = draws.iter();
        let draw = |most| {
            let number = *draws.next().unwrap();
            assert!(number <= most, "{number} of {most}");
            Ok::<_, ()>(number)
        };
        let ports = order(records(entries), draw).unwrap().into_iter().map(|record| record.port).collect();
        assert_eq!(draws.next(), None, "one draw for each record");
        ports
    };
    let weighted = [(1, 10, 1), (1, 60, 2), (1, 30, 3)];
    // By weight: 10, 30, 60. Up to 10 it is the first, up to 40 the second.
    for (draws, expected) in [
        ([0, 0, 0], [1, 3, 2]),
        ([10, 30, 0], [1, 3, 2]),
        ([11, 11, 0], [3, 2, 1]),
        ([40, 10, 60], [3, 1, 2]),
        ([41, 40, 0], [2, 3, 1]),
        ([100, 10, 30], [2, 1, 3]),
    ] {
        assert_eq!(ordered(&weighted, &draws), expected, "{draws:?}");
    }
    // Priorities never mix, whatever the weights.
    assert_eq!(ordered(&[(2, 65535, 1), (1, 0, 2), (0, 1, 3)], &[1, 0, 65535]), [3, 2, 1]);
    // Weight 0 beside others is found by a draw of 0 alone.
    assert_eq!(ordered(&[(1, 5, 1), (1, 0, 2)], &[0, 5]), [2, 1]);
    assert_eq!(ordered(&[(1, 5, 1), (1, 0, 2)], &[1, 0]), [1, 2]);
    assert_eq!(ordered(&[], &[]), [0; 0]);
}

#[test]
fn without_randomness_there_is_no_order() {
    assert_eq!(order(records(&[(1, 1, 1)]), |_| Err("none")), Err("none"));
}

#[test]
fn weights_are_what_they_say_over_many_draws() {
    let entries = records(&[(1, 1, 1), (1, 3, 2)]);
    let first = |draw| order(entries.clone(), |most| Ok::<_, ()>(draw % (most + 1))).unwrap()[0].port;
    let counts = (0..500).fold([0, 0], |mut counts, draw| {
        counts[usize::from(first(draw)) - 1] += 1;
        counts
    });
    // Draws are 0 to 4: two of the five find the first.
    assert_eq!(counts, [200, 300]);
}

#[test]
fn name_servers_are_those_of_the_system() {
    let conf = "# nameserver 192.0.2.9\n; nameserver 192.0.2.8\nsearch example.com\nnameserver 192.0.2.1\n\
                nameserver\t2001:db8::1  # why\n nameserver fe80::1%eth0\nnameserver nonsense\nnameservers 192.0.2.7\n\
                options timeout:1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
    let expected = ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"];
    assert_eq!(name_servers(conf), expected.map(|address| address.parse::<SocketAddr>().unwrap()));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resolv.conf");
    let this_machine: Vec<SocketAddr> = vec!["127.0.0.1:53".parse().unwrap()];
    assert_eq!(read_conf(&path), this_machine);
    std::fs::write(&path, b"\xff\n").unwrap();
    assert_eq!(read_conf(&path), this_machine);
    std::fs::write(&path, conf).unwrap();
    assert_eq!(read_conf(&path).len(), 3);
}

proptest::proptest! {
    /// Whatever a name server sends, it is read without a fault and within bounds.
    #[test]
    fn any_bytes_can_be_read(
        noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        changes in proptest::collection::vec((0..200_usize, proptest::prelude::any::<u8>()), 0..6),
        copies in 1..80_usize,
    ) {
        let question = question(NAME, 7).unwrap();
        let alias = record(&ASKED, CNAME, &wire("_minecraft._tcp.mc.example.com"));
        let mut records = vec![srv(0, 0, 7, "a.example.net"); copies];
        records.push(alias);
        let mut answer = answer(question.as_slice(), GOOD, &records);
        for (at, byte) in changes {
            if let Some(place) = answer.get_mut(at) {
                *place = byte;
            }
        }
        answer.extend(&noise);
        for bytes in [&answer, &noise] {
            if let Ok(Said::Records(records)) = read_answer(bytes, &question) {
                assert!(records.len() <= MAX_RECORDS);
            }
        }
    }
}
