//! Questions about remembered players.

use std::{fmt::Display, future::Future, sync::Arc, time::Duration};

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    Handles,
    answer::{self, Answer, Refused},
    routes::Call,
};
use crate::{
    audit::{Event, Kind},
    identity::{Username, Whom},
    policy::Proof,
    session::{
        StoreError,
        import::{self, Told, Trust},
        query::{Listed, Query, Selection, Sort},
        record::Session,
    },
};

/// How long the disk may take to make a change durable, before the caller is told that it takes long.
const DISK_TIME: Duration = Duration::from_secs(20);

/// Who changed something, as audit.log says.
pub(super) const BY: &str = "admin";

/// A player, by name or id.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OnePlayer {
    player: String,
}

/// Rows of an import.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Import {
    rows: Vec<Value>,
    #[serde(default)]
    trust: bool,
    #[serde(default)]
    dry_run: bool,
}

/// `GET /api/sessions`
pub(super) fn list(handles: &Handles, call: &Call) -> Result<Answer, Refused> {
    let query = query(call).map_err(|what| Refused::new(StatusCode::BAD_REQUEST, what))?;
    let sessions = handles.store.snapshot();
    let known = sessions.len();
    let Selection { shown, total } = query.select(sessions);
    let mut fields = Map::new();
    fields.insert("known".to_owned(), known.into());
    fields.insert("total".to_owned(), total.into());
    let listed = shown.into_iter().map(|session| Listed::from(&*session));
    Ok(answer::list(&fields, "sessions", listed))
}

fn query(call: &Call) -> Result<Query, String> {
    let mut query = Query::default();
    for (key, value) in &call.query {
        let unfit = |error: &dyn Display| format!("{key}: {error}");
        match key.as_str() {
            "name" => query.name = Some(value.clone()),
            "address" => query.network = Some(value.parse().map_err(|error| unfit(&error))?),
            "locked" => query.locked = Some(value.parse().map_err(|_| unfit(&"true or false"))?),
            "seen_since" => {
                let form = "a time in RFC 3339, as in 2026-11-21T20:00:00Z";
                query.seen_since = Some(value.parse().map_err(|_| unfit(&form))?);
            }
            "sort" => query.sort = value.parse::<Sort>().map_err(|error| unfit(&error))?,
            "limit" => query.limit = Some(value.parse().map_err(|_| unfit(&"a whole number"))?),
            _ => {
                let known = "name, address, locked, seen_since, sort and limit";
                return Err(format!("there is no filter of that name; known are {known}"));
            }
        }
    }
    Ok(query)
}

/// `GET /api/sessions/{name or id}`
pub(super) fn show(handles: &Handles, call: &Call) -> Result<Answer, Refused> {
    let (whom, session) = found(handles, &call.name)?;
    let session = session.ok_or_else(|| nobody(&whom))?;
    Ok(about(handles, session.id, Some(&session), None))
}

/// `POST /api/sessions/forget`
pub(super) async fn forget(handles: Arc<Handles>, call: Call) -> Result<Answer, Refused> {
    let (whom, session) = asked(&handles, &call)?;
    let id = match (&session, &whom) {
        (Some(session), _) => session.id,
        // Of a session that counts no more, or a damaged one, there may be something all the same.
        (None, Whom::Id(id)) => *id,
        (None, Whom::Name(_)) => return Err(nobody(&whom)),
    };
    let forgotten = saved(handles.store.forget(id)).await;
    if session.is_none() && matches!(forgotten, Ok(false)) {
        return Err(nobody(&whom));
    }
    // It is gone, also if the disk does not know yet.
    let name = session.as_ref().and_then(|session| session.name.as_ref());
    handles.audit.emit(event(&handles, Kind::SessionForgotten, id, name));
    forgotten.map(|_| about(&handles, id, session.as_deref(), None))
}

/// `POST /api/sessions/lock`
pub(super) async fn lock(handles: Arc<Handles>, call: Call) -> Result<Answer, Refused> {
    let (whom, session) = asked(&handles, &call)?;
    let session = session.ok_or_else(|| nobody(&whom))?;
    let changed = handles.store.lock(session.id).ok_or_else(|| nobody(&whom))?;
    if changed {
        handles.audit.emit(event(&handles, Kind::SessionLocked, session.id, session.name.as_ref()));
    }
    saved(handles.store.flush_one(session.id)).await?;
    let locked = Session { locked: true, ..Session::clone(&session) };
    Ok(about(&handles, locked.id, Some(&locked), Some(changed)))
}

/// `POST /api/sessions/import`
pub(super) async fn import(handles: Arc<Handles>, call: Call) -> Result<Answer, Refused> {
    let Import { rows, trust, dry_run } = call.content()?;
    let trust = if trust { Trust::Yes } else { Trust::No };
    let (good, mut told) = import::read_rows(&rows, trust, handles.clock.now());
    let mut stored = false;
    for (index, row) in good {
        let result = if dry_run { handles.store.could_import(&row) } else { handles.store.import(&row) };
        if let Ok(session) = &result
            && !dry_run
        {
            stored = true;
            let event = event(&handles, Kind::SessionImported, session.id, session.name.as_ref());
            handles.audit.emit(event.field("trusted", trust == Trust::Yes).field("locked", session.locked));
        }
        told.push(Told::of(index, &row, result.as_ref().map_err(|conflict| *conflict)));
    }
    if stored {
        saved(handles.store.flush()).await?;
    }
    told.sort_by_key(|told| told.index);
    Ok(answer::list(&Map::new(), "rows", told.into_iter()))
}

/// The player that the content names.
fn asked(handles: &Handles, call: &Call) -> Result<(Whom, Option<Arc<Session>>), Refused> {
    let OnePlayer { player } = call.content()?;
    found(handles, &player)
}

fn found(handles: &Handles, player: &str) -> Result<(Whom, Option<Arc<Session>>), Refused> {
    let whom: Whom = player.parse().map_err(|error| Refused::new(StatusCode::BAD_REQUEST, error))?;
    let session = handles.store.of(&whom);
    Ok((whom, session))
}

fn nobody(whom: &Whom) -> Refused {
    Refused::new(StatusCode::NOT_FOUND, format_args!("no session is stored for {whom}"))
}

/// A session, if there was one that counts, and how its player was proven if one is in now. `changed` says whether the
/// question changed it.
fn about(handles: &Handles, id: Uuid, session: Option<&Session>, changed: Option<bool>) -> Answer {
    let connected = (handles.connected)(id).map(Proof::label);
    let mut about = json!({ "session": session.map(Listed::from), "connected": connected });
    if let (Some(fields), Some(changed)) = (about.as_object_mut(), changed) {
        fields.insert("changed".to_owned(), changed.into());
    }
    answer::object(StatusCode::OK, &about)
}

fn event(handles: &Handles, kind: Kind, id: Uuid, name: Option<&Username>) -> Event {
    let event = Event::new(kind, handles.clock.now()).id(id).field("by", BY);
    match name {
        Some(name) => event.player(name.as_str()),
        None => event,
    }
}

/// Waits for the disk, but not for ever.
async fn saved<T>(saving: impl Future<Output = Result<T, StoreError>>) -> Result<T, Refused> {
    let not_yet = |why: &dyn Display| {
        let what = format!("done, but {why}; the proxy goes on trying, and a crash before that undoes it");
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, what)
    };
    match timeout(DISK_TIME, saving).await {
        Ok(Ok(saved)) => Ok(saved),
        Ok(Err(error)) => Err(not_yet(&error)),
        Err(_) => Err(not_yet(&format_args!("the disk has not taken it within {} s", DISK_TIME.as_secs()))),
    }
}
