//! `postern players`, `postern kick`

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Answer, Failure,
    output::{Table, count, minute},
    proxy,
};
use crate::{admin::players::Player, config::Whereabouts, foreign, identity::Whom};

/// Everybody who is connected.
#[derive(Debug, Serialize, Deserialize)]
struct List {
    total: usize,
    players: Vec<Player>,
}

/// Who was sent away, once for each connection.
#[derive(Debug, Deserialize)]
struct Kicked {
    kicked: Vec<Player>,
}

pub(super) async fn list(json: bool, place: &Whereabouts) -> Result<Answer, Failure> {
    let list: List = proxy(place).await?.get("/api/players").await?;
    if json {
        return Ok(Answer::well(json!(list).to_string() + "\n"));
    }
    Ok(Answer::well(table(&list.players)))
}

pub(super) async fn kick(whom: &Whom, reason: Option<&str>, place: &Whereabouts) -> Result<Answer, Failure> {
    let what = match reason {
        Some(reason) => json!({ "player": whom.to_string(), "reason": reason }),
        None => json!({ "player": whom.to_string() }),
    };
    let Kicked { kicked } = proxy(place).await?.post("/api/players/kick", &what).await?;
    Ok(Answer::well(who(&kicked)))
}

/// Who was sent away, and from where: of several connections one may have been the player's, and another a stranger's.
fn who(kicked: &[Player]) -> String {
    let line = |player: &Player| {
        let Player { name, address, connection, .. } = player;
        format!("Kicked {} from {address} ({}).\n", foreign::clean(name), foreign::clean(connection))
    };
    kicked.iter().map(line).collect()
}

/// The players for people, and how many of each kind there are.
fn table(players: &[Player]) -> String {
    if players.is_empty() {
        return "Nobody is connected.\n".to_owned();
    }
    let mut table =
        Table::new(&["NAME", "PROOF", "ADDRESS", "VERSION", "BACKEND", "HOST", "SINCE (UTC)"], &[]);
    for player in players {
        let version = match (&player.version, player.protocol) {
            (Some(version), _) => foreign::clean(version),
            (None, Some(protocol)) => format!("protocol {protocol}"),
            (None, None) => String::new(),
        };
        let backend = player.backend.as_deref().map_or("(at the PIN dialog)".to_owned(), foreign::clean);
        table.add(vec![
            foreign::clean(&player.name),
            foreign::clean(&player.proof),
            player.address.to_string(),
            version,
            backend,
            player.host.as_deref().map_or_else(String::new, foreign::clean),
            minute(player.since),
        ]);
    }
    let kinds: Vec<String> = KINDS
        .iter()
        .filter_map(|(proof, words)| {
            let number = players.iter().filter(|player| player.proof == *proof).count();
            (number > 0).then(|| format!("{number} {words}"))
        })
        .collect();
    format!("{table}{}: {}\n", count(players.len(), "player", "players"), kinds.join(", "))
}

const KINDS: [(&str, &str); 4] = [
    ("verified", "verified by Mojang"),
    ("fallback", "let in by policy"),
    ("pinned", "let in by policy and PIN"),
    ("held", "held until the PIN is right"),
];

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn players_in_a_table() {
        assert_eq!(table(&[]), "Nobody is connected.\n");
        let player = |name: &str, proof: &str, backend: Option<&str>| Player {
            name: name.to_owned(),
            id: Uuid::from_u128(1),
            connection: "c-1f".to_owned(),
            proof: proof.to_owned(),
            address: "203.0.113.5".parse().unwrap(),
            protocol: Some(774),
            version: backend.map(|_| "1.21.11".to_owned()),
            backend: backend.map(str::to_owned),
            host: None,
            since: "2026-01-01T12:30:00Z".parse().unwrap(),
        };
        let some = [player("Notch", "verified", Some("lobby")), player("jeb_", "held", None)];
        assert_eq!(
            table(&some),
            "NAME   PROOF     ADDRESS      VERSION       BACKEND              SINCE (UTC)\n\
             Notch  verified  203.0.113.5  1.21.11       lobby                2026-01-01 12:30\n\
             jeb_   held      203.0.113.5  protocol 774  (at the PIN dialog)  2026-01-01 12:30\n\
             2 players: 1 verified by Mojang, 1 held until the PIN is right\n"
        );
        assert_eq!(
            who(&some),
            "Kicked Notch from 203.0.113.5 (c-1f).\nKicked jeb_ from 203.0.113.5 (c-1f).\n"
        );
    }
}
