//! Reading the configuration again.

use std::{pin::Pin, sync::Arc, time::Duration};

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::timeout;

use super::{
    answer::{self, Answer, Refused},
    routes::Call,
    server::Shared,
};

/// How long a caller waits for it. A disk that hangs is told of; the reload goes on.
const RELOAD_TIME: Duration = Duration::from_secs(50);

/// Reads the configuration again and takes it over, or says what is wrong with it. A call while one is under way is one
/// more, which begins after it.
pub type Reload =
    Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Reloaded, Vec<String>>> + Send>> + Send + Sync>;

/// What a configuration that was read again changed. No secret stands in any of this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// What is in force now and was not before.
    pub changed: Vec<String>,
    /// What differs and takes effect at the next start only.
    pub restart_needed: Vec<String>,
    /// What the owner should look at.
    pub warnings: Vec<String>,
}

/// The content: nothing in it, so far.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// `POST /api/reload`
pub(super) async fn reload(shared: Arc<Shared>, call: Call) -> Result<Answer, Refused> {
    let Nothing {} = call.content()?;
    // Apart, so that it ends whether or not its caller waits.
    let reloading = tokio::spawn((shared.handles.reload)());
    match timeout(RELOAD_TIME, reloading).await {
        Ok(Ok(Ok(reloaded))) => Ok(answer::object(StatusCode::OK, &reloaded)),
        Ok(Ok(Err(problems))) => {
            let error = "the configuration has problems; nothing of it was taken over";
            let what = json!({ "error": error, "problems": problems });
            Ok(answer::object(StatusCode::UNPROCESSABLE_ENTITY, &what))
        }
        Ok(Err(_)) => {
            let what = "reading the configuration again failed; the log says more";
            Err(Refused::new(StatusCode::INTERNAL_SERVER_ERROR, what))
        }
        Err(_) => {
            let what = "the configuration is still being read; the log will say what came of it";
            Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, what))
        }
    }
}
