//! `postern sessions list|show|forget|lock`

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    Answer, Client, Failure,
    output::{Table, count, minute},
    running,
    store::{self, Holder, Missing, Ours},
};
use crate::{
    audit::Kind,
    clock::Clock,
    config::Config,
    identity::Whom,
    place::Place,
    policy::Proof,
    session::query::{Listed, Query, Selection},
};

/// The players that were asked for.
#[derive(Debug, Deserialize)]
struct List {
    /// All that are remembered.
    known: usize,
    /// Those that fit.
    total: usize,
    /// Those that are shown.
    sessions: Vec<Listed>,
}

/// One player.
#[derive(Debug, Deserialize)]
struct One {
    session: Listed,
    /// How the connection that is up was proven.
    connected: Option<String>,
    /// Whether the command changed it.
    #[serde(default)]
    changed: bool,
}

/// What was forgotten.
#[derive(Debug, Deserialize)]
struct Forgotten {
    /// The session, if there was one that counted.
    session: Option<Listed>,
    /// How the connection that is up was proven.
    connected: Option<String>,
}

pub(super) async fn list(
    query: &Query,
    json: bool,
    config: &Config,
    clock: &Clock,
) -> Result<Answer, Failure> {
    let mut err = String::new();
    let list = if let Some(mut proxy) = running(config).await? {
        proxy.get(&path(query)).await?
    } else {
        let scan = store::read(config, clock)?;
        if let Some(left_out) = left_out(scan.damaged) {
            err = format!("warning: {left_out}\n");
        }
        let known = scan.sessions.len();
        let Selection { shown, total } = query.select(scan.sessions);
        List { known, total, sessions: shown.iter().map(Listed::from).collect() }
    };
    let out = if json {
        json!({ "known": list.known, "total": list.total, "sessions": list.sessions }).to_string() + "\n"
    } else {
        table(&list)
    };
    Ok(Answer { err, ..Answer::well(out) })
}

/// What cannot be shown.
fn left_out(damaged: usize) -> Option<String> {
    let documents = count(damaged, "session document is", "session documents are");
    (damaged > 0).then(|| format!("{documents} damaged and left out"))
}

/// Where a proxy answers the query.
fn path(query: &Query) -> String {
    let mut pairs: Vec<(&str, String)> = vec![("sort", query.sort.word().to_owned())];
    pairs.extend(query.name.clone().map(|name| ("name", name)));
    pairs.extend(query.network.map(|network| ("address", network.to_string())));
    pairs.extend(query.locked.map(|locked| ("locked", locked.to_string())));
    pairs.extend(query.seen_since.map(|since| ("seen_since", since.to_string())));
    pairs.extend(query.limit.map(|limit| ("limit", limit.to_string())));
    // Any URL will do: it encodes what is to stand in one.
    let Ok(mut url) = reqwest::Url::parse("http://localhost/api/sessions") else { return String::new() };
    url.query_pairs_mut().extend_pairs(pairs);
    format!("/api/sessions?{}", url.query().unwrap_or_default())
}

fn table(list: &List) -> String {
    let List { known, total, sessions } = list;
    if *known == 0 {
        return "Nobody is remembered yet: players are once they have logged in while the session servers answer.\n"
            .to_owned();
    }
    if *total == 0 {
        return format!("None of {} fits.\n", count(*known, "player", "players"));
    }
    let mut table = Table::new(&["NAME", "LAST SEEN (UTC)", "LOGINS", "ADDRESS", "PLACE", "NOTES"], &[2]);
    for session in sessions {
        let newest = session.addresses.first();
        let more = session.addresses.len().saturating_sub(1);
        let address = newest.map(|known| known.address.to_string()).unwrap_or_default();
        table.add(vec![
            named(session),
            minute(session.last_seen),
            session.verified_logins.to_string(),
            if more > 0 { format!("{address} +{more}") } else { address },
            newest.map(|known| place(known.place)).unwrap_or_default(),
            notes(session).join(", "),
        ]);
    }
    let shown = match (sessions.len(), *total, *known) {
        (shown, total, known) if shown < total => format!("{shown} of {total} that fit, {known} in all"),
        (_, total, known) if total < known => format!("{total} of {}", count(known, "player", "players")),
        (.., known) => count(known, "player", "players"),
    };
    if sessions.is_empty() { format!("{shown}\n") } else { format!("{table}{shown}\n") }
}

/// The player's name; the id of one whose name somebody else has by now.
fn named(session: &Listed) -> String {
    session.name.as_ref().map_or_else(|| session.id.to_string(), ToString::to_string)
}

fn notes(session: &Listed) -> Vec<&'static str> {
    let mut notes = Vec::new();
    if session.imported {
        notes.push("imported");
    }
    if session.locked {
        notes.push("locked");
    }
    if session.pin {
        notes.push("PIN");
    }
    if session.name.is_none() {
        notes.push("name lost");
    }
    notes
}

fn place(place: Place) -> String {
    let country = place.country.map(|country| country.to_string());
    let network = place.asn.map(|asn| format!("AS{asn}"));
    [country, network].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

pub(super) async fn show(
    player: &Whom,
    json: bool,
    config: &Config,
    clock: &Clock,
) -> Result<Answer, Failure> {
    let mut err = String::new();
    let (value, one) = if let Some(mut proxy) = running(config).await? {
        let value: Value = proxy.get(&format!("/api/sessions/{player}")).await?;
        let one = serde_json::from_value(value.clone()).map_err(Failure::new)?;
        (value, one)
    } else {
        let scan = store::read(config, clock)?;
        let left_out = left_out(scan.damaged);
        let found = scan.sessions.into_iter().find(|session| match player {
            Whom::Id(id) => session.id == *id,
            Whom::Name(name) => session.name.as_ref().is_some_and(|known| known.same_as(name)),
        });
        let Some(found) = found else {
            let what = left_out.map_or_else(String::new, |left_out| format!("; {left_out}"));
            return Err(Failure::new(format_args!("no session is stored for {player}{what}")));
        };
        if let Some(left_out) = left_out {
            err = format!("warning: {left_out}\n");
        }
        let session = Listed::from(&found);
        let value = json!({ "session": session, "connected": null });
        (value, One { session, connected: None, changed: false })
    };
    let out = if json { value.to_string() + "\n" } else { portrait(&one) };
    Ok(Answer { err, ..Answer::well(out) })
}

/// All that is remembered of a player.
fn portrait(one: &One) -> String {
    let session = &one.session;
    let mut lines = Vec::new();
    let mut line = |title: &str, text: String| lines.push(format!("  {title:<11} {text}\n"));
    let now = match one.connected.as_deref() {
        Some(proof) => format!(" (connected now, {})", proven(proof)),
        None => String::new(),
    };
    line("last seen", format!("{} UTC{now}", minute(session.last_seen)));
    let logins = if session.verified_logins == 1 {
        format!("1 verified, {} UTC", minute(session.last_verified))
    } else {
        format!(
            "{} verified, the first {}, the newest {} UTC",
            session.verified_logins,
            minute(session.first_verified),
            minute(session.last_verified)
        )
    };
    line("logins", logins);
    if session.fallback_logins > 0 {
        let number = session.fallback_logins;
        line("", format!("{number} during outages, by policy, since it is remembered"));
    }
    for (at, known) in session.addresses.iter().enumerate() {
        let place = place(known.place);
        let place = if place.is_empty() { place } else { format!("  {place}") };
        let title = if at == 0 { "addresses" } else { "" };
        line(title, format!("{:<15}  {} UTC{place}", known.address.to_string(), minute(known.verified)));
    }
    for (at, denied) in session.denied_networks.iter().enumerate() {
        let title = if at == 0 { "denied" } else { "" };
        line(title, format!("{denied}, until the next verified login"));
    }
    line("PIN", if session.pin { "set" } else { "none" }.to_owned());
    if session.pin && session.unproven_quarantine {
        let what = "somebody joined under this name with a game before 1.21.6, and did not know it; until the next verified \
            login such a game may try it from an exactly verified address alone";
        line("", what.to_owned());
    }
    if session.locked {
        line("locked", "until the next verified login".to_owned());
    }
    if session.imported {
        line("imported", "and not verified here yet".to_owned());
    }
    if session.name.is_none() {
        line("name", "lost: another player has logged in with it".to_owned());
    }
    format!("{}\n{}", identity(session), lines.concat())
}

/// Name and id.
fn identity(session: &Listed) -> String {
    match &session.name {
        Some(name) => format!("{name} ({})", session.id),
        None => session.id.to_string(),
    }
}

fn proven(proof: &str) -> &'static str {
    if proof == Proof::Verified.label() { "verified" } else { "let in by policy" }
}

pub(super) async fn forget(player: &Whom, config: &Config, clock: &Clock) -> Result<Answer, Failure> {
    let (Forgotten { session, connected }, remarks) = match store::hold(config, clock, Missing::Leave).await?
    {
        Holder::Nobody => return Err(nobody(player)),
        Holder::Proxy(mut proxy) => (change(&mut proxy, "forget", player).await?, String::new()),
        Holder::Command(ours) => {
            let forgotten = forget_here(&ours, player).await;
            let remarks = ours.remarks.clone();
            ours.finish().await?;
            (forgotten?, remarks)
        }
    };
    let mut out = match &session {
        Some(session) => format!(
            "Forgot {}: {}, last seen {} UTC.\n",
            identity(session),
            count(session.verified_logins as usize, "verified login", "verified logins"),
            minute(session.last_seen)
        ),
        None => format!("Forgot {player}: what was left of the player counted no more, or was damaged.\n"),
    };
    if connected.is_some() {
        out.push_str(&session.as_ref().map_or_else(|| player.to_string(), named));
        out.push_str(
            " is connected now and stays in; that connection leaves nothing behind.
",
        );
    }
    Ok(Answer { err: remarks, ..Answer::well(out) })
}

async fn forget_here(ours: &Ours, player: &Whom) -> Result<Forgotten, Failure> {
    let session = ours.store.of(player);
    let id = match (&session, player) {
        (Some(session), _) => session.id,
        // Of a session that counts no more, or a damaged one, there may be something all the same.
        (None, Whom::Id(id)) => *id,
        (None, Whom::Name(_)) => return Err(nobody(player)),
    };
    if !ours.store.forget(id).await.map_err(Failure::new)? {
        return Err(nobody(player));
    }
    let name = session.as_ref().and_then(|session| session.name.as_ref());
    ours.audit.emit(ours.note(Kind::SessionForgotten, id, name));
    Ok(Forgotten { session: session.as_deref().map(Listed::from), connected: None })
}

pub(super) async fn lock(player: &Whom, config: &Config, clock: &Clock) -> Result<Answer, Failure> {
    let (one, remarks) = match store::hold(config, clock, Missing::Leave).await? {
        Holder::Nobody => return Err(nobody(player)),
        Holder::Proxy(mut proxy) => (change(&mut proxy, "lock", player).await?, String::new()),
        Holder::Command(ours) => {
            let one = lock_here(&ours, player);
            let remarks = ours.remarks.clone();
            ours.finish().await?;
            (one?, remarks)
        }
    };
    let (session, name) = (&one.session, named(&one.session));
    let mut out = if one.changed {
        format!(
            "Locked {}: during an outage nobody is let in with this session until {name} has logged in while the session \
             servers answer.\n",
            identity(session)
        )
    } else {
        format!("{} was locked already.\n", identity(session))
    };
    if one.connected.is_some() {
        out.push_str(&name);
        out.push_str(
            " is connected now and stays in.
",
        );
    }
    Ok(Answer { err: remarks, ..Answer::well(out) })
}

fn lock_here(ours: &Ours, player: &Whom) -> Result<One, Failure> {
    let session = ours.store.of(player).ok_or_else(|| nobody(player))?;
    let changed = ours.store.lock(session.id).ok_or_else(|| nobody(player))?;
    if changed {
        ours.audit.emit(ours.note(Kind::SessionLocked, session.id, session.name.as_ref()));
    }
    Ok(One { session: Listed { locked: true, ..Listed::from(&*session) }, connected: None, changed })
}

async fn change<T: DeserializeOwned>(proxy: &mut Client, what: &str, player: &Whom) -> Result<T, Failure> {
    let content = json!({ "player": player.to_string() });
    proxy.post(&format!("/api/sessions/{what}"), &content).await
}

fn nobody(player: &Whom) -> Failure {
    Failure::new(format_args!("no session is stored for {player}"))
}

#[cfg(test)]
mod tests;
