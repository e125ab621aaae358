//! Questions about bans.

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Map, json};

use super::{
    Handles,
    answer::{self, Answer, Refused},
    routes::Call,
};
use crate::limit::bans::Target;

/// Which bans are to end: one, or all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lift {
    target: Option<String>,
    #[serde(default)]
    all: bool,
}

/// `GET /api/bans`
pub(super) fn list(handles: &Handles) -> Answer {
    answer::list(&Map::new(), "bans", handles.bans.list().into_iter())
}

/// `POST /api/bans/lift`
pub(super) fn lift(handles: &Handles, call: &Call) -> Result<Answer, Refused> {
    let lifted: Vec<Target> = match call.content()? {
        Lift { target: None, all: true } => {
            let targets = handles.bans.list().into_iter().map(|ban| ban.target);
            targets.filter(|target| handles.bans.lift(target)).collect()
        }
        Lift { target: Some(target), all: false } => {
            let target: Target =
                target.parse().map_err(|error| Refused::new(StatusCode::BAD_REQUEST, error))?;
            if !handles.bans.lift(&target) {
                return Err(Refused::new(StatusCode::NOT_FOUND, format_args!("{target} is not banned")));
            }
            vec![target]
        }
        _ => {
            return Err(Refused::new(StatusCode::BAD_REQUEST, "name one \"target\", or set \"all\" to true"));
        }
    };
    Ok(answer::object(StatusCode::OK, &json!({ "lifted": lifted })))
}
