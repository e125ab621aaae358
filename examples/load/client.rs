//! Scripted players: encrypted to a proxy, plain to the plain relay.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
};

use postern::protocol::cipher::{Decryptor, Encryptor, SharedSecret};
use rsa::{Pkcs1v15Encrypt, RsaPublicKey, pkcs8::DecodePublicKey};
use sha1::{Digest, Sha1};
use uuid::Uuid;

use crate::{
    backend::{CONFIGURATION_SINCE, PATIENCE, prepare},
    failure::{During, Outcome, ensure},
    wire::{Inbox, Packet, Reader, frame, unframe},
};

/// How every name begins that this program makes up.
pub(crate) const NAME: &str = "load_";

/// A current release, for logins and pings.
pub(crate) const CURRENT: i32 = 774;

/// The last release in play right behind login success, for what passes traffic.
pub(crate) const TRAFFIC: i32 = CONFIGURATION_SINCE - 1;

/// The id of the player of that name.
pub(crate) fn player_id(name: &str) -> Uuid {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(Sha1::digest(name)) {
        *to = from;
    }
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// A connection of a player.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    /// Once both sides encrypt.
    pub(crate) cipher: Option<Cipher>,
    inbox: Inbox,
    threshold: Option<usize>,
}

/// Both directions' ciphers.
pub(crate) struct Cipher {
    /// The shared secret.
    pub(crate) secret: [u8; 16],
    pub(crate) encryptor: Encryptor,
    pub(crate) decryptor: Decryptor,
}

impl Cipher {
    fn new(secret: [u8; 16]) -> Outcome<Self> {
        let shared = SharedSecret::new(&secret).ok_or("a shared secret of the wrong length")?;
        Ok(Self { secret, encryptor: Encryptor::new(&shared), decryptor: Decryptor::new(&shared) })
    }
}

impl Client {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> Outcome<Self> {
        let stream =
            TcpStream::connect_timeout(&address, PATIENCE).during(format!("connecting to {address}"))?;
        prepare(&stream)?;
        Ok(Self { stream, cipher: None, inbox: Inbox::default(), threshold: None })
    }

    /// Logs in as the player of that name, whatever the server asks for: encryption, compression.
    pub(crate) fn log_in(address: SocketAddr, protocol: i32, name: &str) -> Outcome<Self> {
        let mut client = Self::connect(address)?;
        client.introduce(protocol, name).during(format!("login of {name}"))?;
        Ok(client)
    }

    fn introduce(&mut self, protocol: i32, name: &str) -> Outcome<()> {
        let start = Packet::new(0).text(name);
        let start = if protocol < CONFIGURATION_SINCE { start.raw(&[1]) } else { start };
        let mut both = frame(&handshake(protocol, 2)?.0, None)?;
        both.extend(frame(&start.raw(player_id(name).as_bytes()).0, None)?);
        self.stream.write_all(&both)?;
        loop {
            let packet = self.hear()?;
            let mut reader = Reader(&packet);
            match reader.byte()? {
                0 => return Err(format!("refused: {}", reader.text()?).into()),
                1 => self.encrypt(&mut reader)?,
                2 => {
                    if protocol >= CONFIGURATION_SINCE {
                        self.say(&Packet::new(3))?;
                    }
                    return Ok(());
                }
                3 => self.threshold = Some(reader.varint()?),
                4 => {
                    let unknown = Packet::new(2).varint(reader.varint()?).raw(&[0]);
                    self.say(&unknown)?;
                }
                other => return Err(format!("packet {other:#x} in the login state").into()),
            }
        }
    }

    /// Answers an encryption request. The stand-in session server vouches unasked.
    fn encrypt(&mut self, request: &mut Reader<'_>) -> Outcome<()> {
        request.text()?;
        let (key, token) = (request.bytes()?, request.bytes()?);
        let mut secret = [0; 16];
        getrandom::fill(&mut secret)?;
        let key = RsaPublicKey::from_public_key_der(key)?;
        let seal = |bytes: &[u8]| key.encrypt(&mut rand_core::OsRng, Pkcs1v15Encrypt, bytes);
        self.say(&Packet::new(1).bytes(&seal(&secret)?).bytes(&seal(token)?))?;
        self.cipher = Some(Cipher::new(secret)?);
        Ok(())
    }

    /// Asks for the server list answer and the round trip time, as the game does.
    pub(crate) fn ping(address: SocketAddr) -> Outcome<()> {
        let mut client = Self::connect(address)?;
        let mut both = frame(&handshake(CURRENT, 1)?.0, None)?;
        both.extend(frame(&[0], None)?);
        client.stream.write_all(&both)?;
        let answer = client.hear()?;
        ensure(answer.first() == Some(&0) && answer.len() > 20, "no status answer")?;
        let ping = Packet::new(1).raw(&[7; 8]);
        client.say(&ping)?;
        ensure(client.hear()? == ping.0, "the pong is not the ping")
    }

    /// The next packet.
    pub(crate) fn hear(&mut self) -> Outcome<Vec<u8>> {
        let cipher = &mut self.cipher;
        let content = self.inbox.next(&mut self.stream, |bytes| {
            if let Some(cipher) = cipher {
                cipher.decryptor.apply(bytes);
            }
        })?;
        unframe(&content, self.threshold)
    }

    /// Sends a packet; returns the length of its frame.
    pub(crate) fn say(&mut self, packet: &Packet) -> Outcome<usize> {
        let mut bytes = frame(&packet.0, self.threshold)?;
        self.seal(&mut bytes);
        self.stream.write_all(&bytes)?;
        Ok(bytes.len())
    }

    /// Encrypts what is to be sent next.
    pub(crate) fn seal(&mut self, bytes: &mut [u8]) {
        if let Some(cipher) = &mut self.cipher {
            cipher.encryptor.apply(bytes);
        }
    }

    /// Decrypts what was received next.
    pub(crate) fn open(&mut self, bytes: &mut [u8]) {
        if let Some(cipher) = &mut self.cipher {
            cipher.decryptor.apply(bytes);
        }
    }

    /// Nothing may have come behind the login: flows count every byte.
    pub(crate) fn expect_quiet(&self) -> Outcome<()> {
        ensure(self.inbox.is_empty(), "more came than a login")
    }
}

fn handshake(protocol: i32, intent: usize) -> Outcome<Packet> {
    let packet = Packet::new(0).varint(usize::try_from(protocol)?).text("play.example.com");
    Ok(packet.raw(&25565_u16.to_be_bytes()).varint(intent))
}
