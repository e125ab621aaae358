//! Forcing the verdict on the session server, and giving it back to the checks.

use std::{sync::Arc, time::Duration};

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    answer::{self, Answer, Refused},
    routes::Call,
    server::Shared,
    status,
};
use crate::mojang::health::{ForcedVerdict, MAX_OVERRIDE, Override, OverrideError};

/// What is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The checks decide.
    Auto,
    /// The fallback path is open.
    Down,
    /// Online mode, whatever happens.
    Up,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    mode: Mode,
    for_seconds: Option<u64>,
}

/// `POST /api/auth`
pub(super) async fn order(shared: Arc<Shared>, call: Call) -> Result<Answer, Refused> {
    let bad = |what: &str| Refused::new(StatusCode::BAD_REQUEST, what);
    let Order { mode, for_seconds } = call.content()?;
    let handles = &shared.handles;
    let forced = match mode {
        Mode::Auto => None,
        Mode::Down => Some(ForcedVerdict::Down),
        Mode::Up => Some(ForcedVerdict::Up),
    };
    let done = match (forced, for_seconds) {
        (None, None) => handles.health.clear_override().await,
        (None, Some(_)) => return Err(bad("\"for_seconds\" goes with the modes \"down\" and \"up\" only")),
        (Some(verdict), Some(seconds)) => {
            let lasting = Duration::from_secs(seconds);
            handles.health.set_override(Override { verdict, lasting }).await
        }
        (Some(_), None) => {
            let most = MAX_OVERRIDE.as_secs();
            return Err(bad(&format!(
                "say for how long: \"for_seconds\", 1 to {most}; then the checks decide again"
            )));
        }
    };
    done.map_err(|error| {
        let status = match error {
            OverrideError::Duration => StatusCode::BAD_REQUEST,
            OverrideError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        };
        Refused::new(status, error)
    })?;
    let auth = status::auth(handles, &handles.health.status());
    Ok(answer::object(StatusCode::OK, &json!({ "auth": auth })))
}
