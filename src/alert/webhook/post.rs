//! One try to hand a message over, and what its answer means.

use std::{error::Error, io, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::{
    Client, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER},
    redirect,
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::clock::Clock;

/// Longest wait for one answer, connecting included. Nobody waits behind it but this hook's own messages.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer to a message too many that is read, in bytes.
const MAX_ANSWER: usize = 4 * 1024;

/// The HTTP client cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// As a rule because this machine has no CA certificates.
    #[error("the HTTPS client for alerts.webhooks could not be set up (are CA certificates installed?)")]
    Client(#[source] reqwest::Error),
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The message was taken.
    Taken,
    /// It may be taken later, after so long if the receiver says so.
    Later { why: String, wait: Option<Duration> },
    /// It will not be taken.
    Refused { why: String },
    /// The address is not, or not any more, one to write to.
    Unwelcome { why: String },
}

/// A try that is under way.
pub(super) type Trying = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Begins a try with that body.
pub(super) type Post = Arc<dyn Fn(Bytes) -> Trying + Send + Sync>;

/// What all hooks ask with: no redirects (who they lead to was not chosen by the owner), no proxies.
pub(super) fn client() -> Result<Client, BuildError> {
    // An error means that a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(concat!("Postern/", env!("CARGO_PKG_VERSION")))
        .timeout(TIMEOUT)
        .connect_timeout(TIMEOUT)
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .pool_max_idle_per_host(1)
        .build()
        .map_err(|error| BuildError::Client(error.without_url()))
}

/// The way to that address. Reads the clock for Retry-After dates.
pub(super) fn to(client: Client, url: SecretString, clock: Clock) -> Post {
    Arc::new(move |body| {
        let json = HeaderValue::from_static("application/json");
        let request = client.post(url.expose_secret()).header(CONTENT_TYPE, json).body(body);
        let clock = clock.clone();
        Box::pin(async move {
            match request.send().await {
                Ok(response) => judge(response, &clock).await,
                Err(error) => Answer::Later { why: failure(&error).to_owned(), wait: None },
            }
        })
    })
}

async fn judge(response: Response, clock: &Clock) -> Answer {
    let status = response.status();
    let why = || format!("answered {}", status.as_u16());
    match status {
        _ if status.is_success() => Answer::Taken,
        _ if status.is_redirection() => {
            Answer::Refused { why: format!("{}, a redirect, which is not followed", why()) }
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE => {
            Answer::Unwelcome { why: why() }
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => {
            Answer::Later { why: why(), wait: wait(response, clock).await }
        }
        _ if status.is_server_error() => Answer::Later { why: why(), wait: wait(response, clock).await },
        _ => Answer::Refused { why: why() },
    }
}

/// How long the receiver wants to be left alone.
async fn wait(mut response: Response, clock: &Clock) -> Option<Duration> {
    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let stated = header.and_then(|header| retry_after(header, clock.now()));
    let mut body = Vec::new();
    if response.status() == StatusCode::TOO_MANY_REQUESTS {
        while let Ok(Some(piece)) = response.chunk().await
            && body.len() + piece.len() <= MAX_ANSWER
        {
            body.extend_from_slice(&piece);
        }
    }
    stated.max(stated_in(&body))
}

/// A Retry-After header: seconds, or a date.
fn retry_after(header: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = header.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(header).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

/// What Discord says in its answer, to the millisecond.
fn stated_in(body: &[u8]) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Limited {
        retry_after: f64,
    }
    let Limited { retry_after } = serde_json::from_slice(body).ok()?;
    Duration::try_from_secs_f64(retry_after).ok()
}

/// A failed try, in words of our own: those of the error may hold the address.
fn failure(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        return "it does not answer in time";
    }
    if error.is_builder() {
        return "its url is none";
    }
    let causes = || std::iter::successors(Some(error as &(dyn Error + 'static)), |error| inner(*error));
    if causes().any(<dyn Error>::is::<rustls::Error>) {
        return "no TLS connection comes about (is its certificate valid?)";
    }
    if error.is_dns() {
        return "its name cannot be looked up";
    }
    match causes().filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind).last() {
        Some(io::ErrorKind::ConnectionRefused) => "the connection is refused",
        _ if error.is_connect() => "it cannot be reached",
        _ => "the connection breaks off",
    }
}

/// The cause of an error. An `io::Error` hides the error it wraps from `source`.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner as &(dyn Error + 'static)),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_retry_after() {
        let now: Timestamp = "2026-11-22T14:03:07Z".parse().unwrap();
        for (header, wait) in [
            ("30", Some(30_000)),
            (" 0 ", Some(0)),
            ("1.5", Some(1500)),
            ("Sun, 22 Nov 2026 14:04:07 GMT", Some(60_000)),
            ("Sun, 22 Nov 2026 14:00:00 GMT", Some(0)),
            ("-1", None),
            ("NaN", None),
            ("inf", None),
            ("1e400", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(header, now), wait.map(Duration::from_millis), "{header:?}");
        }
        for (body, wait) in [
            (
                r#"{"message": "You are being rate limited.", "retry_after": 0.65, "global": false}"#,
                Some(650),
            ),
            (r#"{"retry_after": 64}"#, Some(64_000)),
            (r#"{"retry_after": -1}"#, None),
            (r#"{"retry_after": 1e300}"#, None),
            (r#"{"retry_after": "64"}"#, None),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(stated_in(body.as_bytes()), wait.map(Duration::from_millis), "{body}");
        }
    }
}
