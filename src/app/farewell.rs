//! The last word to a client, in a form that it can read where it is.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    login::roster::{Line, Reads},
    net::conn::{Conn, Io, limit},
    protocol::{
        configuration::{FromClient, write_ping},
        dialog::write_clear_dialog,
        login,
        play::{self, RelayState},
        text::Text,
        version::Dialect,
    },
};

/// How long a client may take to take its refusal.
const FAREWELL_TIME: Duration = Duration::from_secs(2);
/// How long it may take to close a dialog first.
const DIALOG_TIME: Duration = Duration::from_secs(2);
/// Number of the ping behind a dialog that is closed. Nothing else here pings.
const DIALOG_CLOSED: i32 = 1;

/// Disconnect, as the client reads it.
pub(super) fn disconnect(dialect: &Dialect, reads: Reads, text: &Text) -> Option<Vec<u8>> {
    match reads {
        Reads::Login => Some(login::write_disconnect(dialect, text)),
        Reads::Configuration | Reads::Dialog => {
            play::write_disconnect(dialect, RelayState::Configuration, text)
        }
    }
}

/// Closes the dialog, if the client has one open: behind it, it does not show why it is disconnected. It reads packets
/// in order, but acts upon a disconnect at once, ahead of a dialog that is still to be closed; so it is pinged, and its
/// answer waited for.
pub(super) async fn clear_dialog<S: Io>(conn: &mut Conn<S>, dialect: &Dialect, line: &Line) {
    if line.reads() != Reads::Dialog {
        return;
    }
    let (Some(clear), Some(ping)) = (write_clear_dialog(dialect), write_ping(dialect, DIALOG_CLOSED)) else {
        return;
    };
    line.set_reads(Reads::Configuration);
    conn.queue_packet(&clear);
    let cleared = async {
        if conn.write_packet(&ping).await.is_err() {
            return;
        }
        // Whatever else comes was sent before it heard of this.
        while let Ok(packet) = conn.read_packet(limit::CONFIGURATION).await {
            if let Ok(FromClient::Pong(DIALOG_CLOSED)) = FromClient::read(&packet, dialect) {
                return;
            }
        }
    };
    // A client that does not answer is told all the same.
    let _ = timeout(DIALOG_TIME, cleared).await;
}

/// Says it and closes.
pub(super) async fn say<S: Io>(conn: &mut Conn<S>, packet: Option<Vec<u8>>) {
    let farewell = async {
        match packet {
            Some(packet) => {
                // An error means that the client is gone.
                let _ = conn.write_packet(&packet).await;
                conn.close_heard().await;
            }
            None => conn.close().await,
        }
    };
    // A client that does not take it within that time does not want it.
    let _ = timeout(FAREWELL_TIME, farewell).await;
}

/// The same for clients of before 1.7, which do not read packets.
pub(super) async fn say_raw<S: Io>(conn: &mut Conn<S>, bytes: &[u8]) {
    let farewell = async {
        let _ = conn.write_raw(bytes).await;
        conn.close_heard().await;
    };
    let _ = timeout(FAREWELL_TIME, farewell).await;
}
