//! Mojang's public keys, with which the chat keys of 1.19 to 1.19.2 clients are checked.

use super::report::{Area, Finding};
use crate::{
    clock::Clock,
    mojang::player_keys::{Config, PlayerKeys},
};

const AREA: Area = Area::Services;
const CHECK: &str = "public-keys";

/// Asks for the keys once.
pub(super) async fn examine(config: &Config, clock: &Clock) -> Finding {
    let fetched = match PlayerKeys::new(config, clock.clone()) {
        Ok(keys) => keys.examine().await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let finding = match fetched {
        Ok(count) => Finding::ok(AREA, CHECK, format!("can be fetched; {count} of them can be used")),
        Err(why) => {
            let cause = format!(
                "cannot be fetched: {why}. Chat of players with 1.19 to 1.19.2 reaches backends unsigned, and backends that insist on signed chat refuse them; nobody else is concerned"
            );
            let mend =
                "let this machine reach auth.services, or leave it at that if nobody plays these versions";
            Finding::warning(AREA, CHECK, cause, mend)
        }
    };
    finding.of(config.services.host_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::doctor::report::Verdict;

    #[tokio::test]
    async fn keys_that_cannot_be_had_are_a_warning() {
        // Bound, so that nobody else gets the port, but not listening.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let services = format!("http://{}", socket.local_addr().unwrap()).parse().unwrap();
        let config = Config { services, timeout: Duration::from_secs(10) };
        let finding = examine(&config, &Clock::system()).await;
        assert_eq!((finding.verdict, finding.subject.as_str()), (Verdict::Warning, "127.0.0.1"));
        assert!(finding.cause.starts_with("cannot be fetched: connection refused"), "{finding:?}");
    }
}
