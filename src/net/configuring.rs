//! A client in the configuration state that no backend has met yet: until one does, its server is this proxy.

use std::{fmt, io, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::conn::{Conn, ConnError, Io, limit};
use crate::protocol::{
    configuration::{self, FromClient},
    dialog::Click,
    play::is_proxy_channel,
    reader::Malformed,
    version::Dialect,
};

/// How often the client is sent something: it gives up when it has heard nothing for 30 s.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
/// Keep-alives that may be unanswered; at the next one the client is taken for gone.
const UNANSWERED: i64 = 3;
/// Packets that may be kept for the backend. The game sends two of its own accord, mods a few more.
const MAX_KEPT: usize = 16;
/// Bytes of these packets together.
const MAX_KEPT_BYTES: usize = 64 << 10;
/// Packets that may come at all, keep-alives apart. A player clicks a few times.
const MAX_HEARD: usize = 128;

/// What has happened with a client since its login success, which it got from this proxy.
///
/// What the client says of itself once and of its own accord (its settings, its brand, the channels of its mods) is
/// kept for the backend. It may say nothing else that nobody asked for.
pub struct Configuring {
    dialect: Dialect,
    /// For the backend, in the order they came.
    kept: Vec<Vec<u8>>,
    /// Where the client's settings stand in `kept`.
    settings: Option<usize>,
    heard: usize,
    /// Id of the last keep-alive sent; the first is 1.
    sent: i64,
    /// Id of the last one answered.
    answered: i64,
    next: Instant,
}

/// What a client says that concerns whoever holds it.
#[derive(Debug)]
pub enum Said {
    /// It clicked a button of a dialog.
    Click(Click),
    /// It has read everything up to the ping of that id.
    Pong(i32),
    /// It answers a question for a cookie.
    Cookie {
        /// Which one.
        key: String,
        /// The cookie, if there is one.
        payload: Option<Vec<u8>>,
    },
}

// What players sent is nobody's to print.
impl fmt::Debug for Configuring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configuring").field("kept", &self.kept.len()).finish_non_exhaustive()
    }
}

impl Configuring {
    /// A client that has just acknowledged its login.
    pub fn new(dialect: Dialect) -> Self {
        let next = Instant::now() + KEEP_ALIVE_EVERY;
        Self { dialect, kept: Vec::new(), settings: None, heard: 0, sent: 0, answered: 0, next }
    }

    /// One that has not answered its first keep-alive.
    #[cfg(test)]
    pub(crate) fn owing_an_answer(dialect: Dialect) -> Self {
        Self { sent: 1, ..Self::new(dialect) }
    }

    /// What the backend is to hear of the client, in order: whole packets of the configuration state.
    pub fn kept(&self) -> &[Vec<u8>] {
        &self.kept
    }

    /// Whether the client has answered every keep-alive. Only then may a backend talk with it: it would not know what to
    /// make of an answer to one of ours.
    pub fn is_settled(&self) -> bool {
        self.answered == self.sent
    }

    /// Waits until the client says something that concerns the caller, and keeps the connection alive meanwhile. May be
    /// cancelled without losing anything.
    ///
    /// # Errors
    /// The client is gone, or said what nobody asked it for, or too much.
    pub async fn hear<S: Io>(&mut self, conn: &mut Conn<S>) -> Result<Said, ConnError> {
        loop {
            tokio::select! {
                packet = conn.read_packet(limit::CONFIGURATION) => {
                    if let Some(said) = self.take(packet?)? {
                        return Ok(said);
                    }
                }
                () = sleep_until(self.next) => self.keep_alive(conn).await?,
            }
        }
    }

    /// Waits until the client has answered every keep-alive, and sends no more. May be cancelled.
    ///
    /// # Errors
    /// As [`Self::hear`]; also if it says something else that concerns the caller.
    pub async fn settle<S: Io>(&mut self, conn: &mut Conn<S>) -> Result<(), ConnError> {
        while !self.is_settled() {
            let packet = conn.read_packet(limit::CONFIGURATION).await?;
            match self.take(packet)? {
                // A click on a dialog that is closed by now.
                None | Some(Said::Click(_)) => {}
                Some(Said::Pong(_) | Said::Cookie { .. }) => return Err(Malformed::BadValue.into()),
            }
        }
        Ok(())
    }

    async fn keep_alive<S: Io>(&mut self, conn: &mut Conn<S>) -> Result<(), ConnError> {
        if self.sent - self.answered >= UNANSWERED {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the client answers no keep-alive").into());
        }
        self.next = Instant::now() + KEEP_ALIVE_EVERY;
        self.sent += 1;
        if let Some(packet) = configuration::write_keep_alive(&self.dialect, self.sent) {
            conn.write_packet(&packet).await?;
        }
        Ok(())
    }

    /// Takes one packet; returns what it says if that is not for us to deal with.
    fn take(&mut self, packet: Vec<u8>) -> Result<Option<Said>, Malformed> {
        let said = FromClient::read(&packet, &self.dialect)?;
        if let FromClient::KeepAlive(id) = said {
            // Answers come in order.
            if id != self.answered + 1 || id > self.sent {
                return Err(Malformed::BadValue);
            }
            self.answered = id;
            return Ok(None);
        }
        self.heard += 1;
        if self.heard > MAX_HEARD {
            return Err(Malformed::LengthOutOfRange);
        }
        match said {
            FromClient::ClientInformation => self.keep_settings(packet)?,
            // A backend would trust us for what comes there.
            FromClient::PluginMessage { channel } if is_proxy_channel(channel) => {}
            FromClient::PluginMessage { .. } => self.keep(packet)?,
            FromClient::Pong(id) => return Ok(Some(Said::Pong(id))),
            FromClient::CookieResponse { key, payload } => {
                let (key, payload) = (key.to_owned(), payload.map(<[u8]>::to_vec));
                return Ok(Some(Said::Cookie { key, payload }));
            }
            FromClient::Click(click) => return Ok(Some(Said::Click(click))),
            FromClient::KeepAlive(_) => {}
            FromClient::Other(id) => return Err(Malformed::UnexpectedPacket(id)),
        }
        Ok(None)
    }

    /// The settings said last are in force; a backend hears them once.
    fn keep_settings(&mut self, packet: Vec<u8>) -> Result<(), Malformed> {
        if let Some(at) = self.settings.take().filter(|at| *at < self.kept.len()) {
            self.kept.remove(at);
        }
        self.keep(packet)?;
        self.settings = Some(self.kept.len() - 1);
        Ok(())
    }

    fn keep(&mut self, packet: Vec<u8>) -> Result<(), Malformed> {
        let bytes: usize = self.kept.iter().map(Vec::len).sum();
        if self.kept.len() >= MAX_KEPT || bytes + packet.len() > MAX_KEPT_BYTES {
            return Err(Malformed::LengthOutOfRange);
        }
        self.kept.push(packet);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;
    use crate::protocol::version::ProtocolVersion;

    const KEEP_ALIVE: u8 = 4;

    /// A client that speaks 1.21.11, and us.
    fn stage() -> (Conn<DuplexStream>, Conn<DuplexStream>, Configuring) {
        let (client, server) = duplex(1 << 20);
        let configuring = Configuring::new(Dialect::of(ProtocolVersion(774)));
        (Conn::new(client), Conn::new(server), configuring)
    }

    fn keep_alive(number: i64) -> Vec<u8> {
        [&[KEEP_ALIVE][..], &number.to_be_bytes()].concat()
    }

    fn plugin_message(channel: &str, len: usize) -> Vec<u8> {
        let mut packet = vec![2, u8::try_from(channel.len()).unwrap()];
        packet.extend(channel.as_bytes());
        packet.resize(packet.len() + len, 7);
        packet
    }

    fn settings(view_distance: u8) -> Vec<u8> {
        vec![0, 2, b'e', b'n', view_distance, 0, 1, 0x7f, 1, 0, 1, 0]
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_answers_is_kept_alive_for_as_long_as_it_takes() {
        let (mut client, mut conn, mut configuring) = stage();
        let start = Instant::now();
        let answering = async {
            for number in 1..=30 {
                assert_eq!(client.read_packet(100).await.unwrap(), keep_alive(number));
                assert_eq!(start.elapsed(), KEEP_ALIVE_EVERY * u32::try_from(number).unwrap());
                client.write_packet(&keep_alive(number)).await.unwrap();
            }
        };
        tokio::select! {
            heard = configuring.hear(&mut conn) => panic!("{heard:?}"),
            () = answering => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_answers_nothing_is_gone() {
        let (_client, mut conn, mut configuring) = stage();
        let start = Instant::now();
        let error = configuring.hear(&mut conn).await.unwrap_err();
        assert!(
            matches!(&error, ConnError::Broken(error) if error.kind() == io::ErrorKind::TimedOut),
            "{error}"
        );
        assert_eq!(start.elapsed(), Duration::from_secs(40));
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_takes_over_once_nothing_is_owed() {
        let (mut client, mut conn, mut configuring) = stage();
        let twice = tokio::time::timeout(Duration::from_secs(25), configuring.hear(&mut conn));
        twice.await.unwrap_err();
        assert!(!configuring.is_settled());
        let settling = async {
            configuring.settle(&mut conn).await.unwrap();
            Instant::now()
        };
        let answering = async {
            tokio::time::sleep(Duration::from_secs(20)).await;
            let answered = Instant::now();
            client.write_packet(&plugin_message("mod:late", 1)).await.unwrap();
            client.write_packet(&keep_alive(1)).await.unwrap();
            client.write_packet(&keep_alive(2)).await.unwrap();
            answered
        };
        let (settled, answered) = tokio::join!(settling, answering);
        assert_eq!(settled, answered);
        assert!(configuring.is_settled());
        assert_eq!(configuring.kept(), [plugin_message("mod:late", 1)]);
        // Two went out before, and none since.
        for number in 1..=2 {
            assert_eq!(client.read_packet(100).await.unwrap(), keep_alive(number));
        }
        drop(conn);
        assert!(matches!(client.read_packet(100).await, Err(ConnError::Closed)));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_to_nothing_and_too_much_are_refused() {
        let many = |count: usize, packet: &[u8]| vec![packet.to_vec(); count];
        let cases = [
            ("a keep-alive that was not sent", vec![keep_alive(1)], Malformed::BadValue),
            ("finish acknowledged", vec![vec![3]], Malformed::UnexpectedPacket(3)),
            ("too many packets", many(17, &plugin_message("mod:a", 1)), Malformed::LengthOutOfRange),
            ("too many bytes", many(3, &plugin_message("mod:a", 25_000)), Malformed::LengthOutOfRange),
            ("a flood of settings", many(129, &settings(8)), Malformed::LengthOutOfRange),
            (
                "a flood that stops here",
                many(129, &plugin_message("BungeeCord", 9)),
                Malformed::LengthOutOfRange,
            ),
            ("a long packet", many(1, &plugin_message("mod:a", 40_000)), Malformed::FrameTooLarge),
        ];
        for (what, packets, expected) in cases {
            let (mut client, mut conn, mut configuring) = stage();
            for packet in packets {
                client.write_packet(&packet).await.unwrap();
            }
            let error = configuring.hear(&mut conn).await.unwrap_err();
            assert!(
                matches!(error, ConnError::Malformed(malformed) if malformed == expected),
                "{what}: {error}"
            );
            let kept: usize = configuring.kept().iter().map(Vec::len).sum();
            assert!(configuring.kept().len() <= MAX_KEPT && kept <= MAX_KEPT_BYTES, "{what}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_settings_are_kept_and_the_order_of_the_rest() {
        let (mut client, mut conn, mut configuring) = stage();
        let brand = plugin_message("minecraft:brand", 3);
        let register = plugin_message("minecraft:register", 9);
        let forged = plugin_message("velocity:player_info", 1);
        for packet in [&settings(8), &brand, &settings(9), &forged, &register, &settings(10)] {
            client.write_packet(packet).await.unwrap();
        }
        client.write_packet(&[5, 0, 0, 0, 3]).await.unwrap();
        assert!(matches!(configuring.hear(&mut conn).await, Ok(Said::Pong(3))));
        assert_eq!(configuring.kept(), [brand, register, settings(10)]);
    }
}
