//! Writes MaxMind DB files, by the definition of the format. Also used by unit tests.

use std::net::IpAddr;

/// What a record of a node leads to.
#[derive(Clone, Copy)]
enum Record {
    Nothing,
    Node(usize),
    /// A byte of the data.
    Data(usize),
}

/// A database to be written.
pub struct Mmdb {
    kind: String,
    built: u64,
    ip_version: u8,
    nodes: Vec<[Record; 2]>,
    data: Vec<u8>,
}

impl Mmdb {
    /// One with IPv4 addresses alone.
    pub fn v4(kind: &str) -> Self {
        Self::new(kind, 4)
    }

    /// One with addresses of both families, IPv4 ones as the first 2^32 of IPv6.
    pub fn v6(kind: &str) -> Self {
        Self::new(kind, 6)
    }

    fn new(kind: &str, ip_version: u8) -> Self {
        let nodes = vec![[Record::Nothing; 2]];
        Self { kind: kind.to_owned(), built: 1, ip_version, nodes, data: Vec::new() }
    }

    /// When it was made, in seconds since 1970.
    pub fn built(self, built: u64) -> Self {
        Self { built, ..self }
    }

    /// Gives a network these data. Wide networks come before those within them.
    pub fn with(mut self, network: &str, data: &[u8]) -> Self {
        let (address, prefix) = network.split_once('/').unwrap();
        let prefix: usize = prefix.parse().unwrap();
        let (bits, len, prefix) = match (address.parse().unwrap(), self.ip_version) {
            (IpAddr::V4(v4), 4) => (u128::from(v4.to_bits()) << 96, 32, prefix),
            (IpAddr::V4(v4), _) => (u128::from(v4.to_bits()), 128, prefix + 96),
            (IpAddr::V6(v6), 6) => (v6.to_bits(), 128, prefix),
            (IpAddr::V6(_), _) => panic!("{network} in a database of IPv4"),
        };
        assert!(prefix <= len);
        let leaf = Record::Data(self.data.len());
        self.data.extend(data);
        if prefix == 0 {
            self.nodes[0] = [leaf; 2];
            return self;
        }
        let mut node = 0;
        for depth in 0..prefix - 1 {
            let side = usize::from(bits >> (127 - depth) & 1 == 1);
            node = match self.nodes[node][side] {
                Record::Node(next) => next,
                // What held for the whole holds for both halves.
                whole => {
                    self.nodes.push([whole; 2]);
                    let next = self.nodes.len() - 1;
                    self.nodes[node][side] = Record::Node(next);
                    next
                }
            };
        }
        let side = usize::from(bits >> (128 - prefix) & 1 == 1);
        self.nodes[node][side] = leaf;
        self
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let count = self.nodes.len();
        let mut bytes = Vec::new();
        for record in self.nodes.iter().flatten() {
            let value = match *record {
                Record::Nothing => count,
                Record::Node(node) => node,
                Record::Data(at) => count + 16 + at,
            };
            bytes.extend(&u32::try_from(value).unwrap().to_be_bytes()[1..]);
        }
        bytes.extend([0; 16]);
        bytes.extend(&self.data);
        bytes.extend(b"\xab\xcd\xefMaxMind.com");
        let number = |value: u64| [&[0x08, 0x02][..], &value.to_be_bytes()].concat();
        let fields: [(&str, Vec<u8>); 9] = [
            ("binary_format_major_version", vec![0xa1, 2]),
            ("binary_format_minor_version", vec![0xa0]),
            ("build_epoch", number(self.built)),
            ("database_type", text(&self.kind)),
            ("description", vec![0xe0]),
            ("ip_version", vec![0xa1, self.ip_version]),
            ("languages", vec![0x00, 0x04]),
            ("node_count", [&[0xc4][..], &u32::try_from(count).unwrap().to_be_bytes()].concat()),
            ("record_size", vec![0xa1, 24]),
        ];
        bytes.push(0xe0 | 9);
        for (name, value) in fields {
            bytes.extend(text(name));
            bytes.extend(value);
        }
        bytes
    }
}

/// A text of up to 28 bytes.
fn text(text: &str) -> Vec<u8> {
    assert!(text.len() <= 28);
    [&[0x40 | u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat()
}

/// `{"country": {"iso_code": code}}`
pub fn country(code: &str) -> Vec<u8> {
    [vec![0xe1], text("country"), vec![0xe1], text("iso_code"), text(code)].concat()
}

/// `{"autonomous_system_number": asn}`
pub fn network(asn: u32) -> Vec<u8> {
    [vec![0xe1], text("autonomous_system_number"), vec![0xc4], asn.to_be_bytes().to_vec()].concat()
}
