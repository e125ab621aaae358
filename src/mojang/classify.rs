//! Every answer of the session server, put into exactly one outcome class.

use std::{error::Error, fmt, io, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use uuid::Uuid;

use super::reserve::NoFreeThread;
use crate::{
    identity::{Profile, Property, Username},
    local,
};

/// Longest body that is read, in bytes. A profile with its signed textures is about 2 KiB.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// Longest wait that is believed of a Retry-After, so that no answer can silence us for days.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// What the client takes in login success; a profile beyond it could not be passed on.
const MAX_PROPERTIES: usize = 16;
const MAX_PROPERTY_NAME: usize = 64;
const MAX_PROPERTY_VALUE: usize = 32_767;
const MAX_PROPERTY_SIGNATURE: usize = 1024;

/// A profile that the session server vouched for on this very connection. Made only from its answer, in this file.
#[derive(Debug, PartialEq, Eq)]
pub struct Verified(Profile);

impl Verified {
    /// The profile, its name in the session server's spelling.
    pub fn profile(&self) -> &Profile {
        &self.0
    }

    /// The profile, by value.
    pub fn into_profile(self) -> Profile {
        self.0
    }

    #[cfg(test)]
    pub(super) fn made_up() -> Self {
        let id = Uuid::from_u128(7);
        Self(Profile { id, name: Username::parse("PosternProbe").unwrap(), properties: Vec::new() })
    }
}

/// What one call to the session server came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The player is who the login says.
    Verified(Verified),
    /// A definite no; the server is healthy.
    NotJoined,
    /// We are limited or blocked by the server: our own matter, not an outage.
    Throttled {
        /// How long it asks us to wait, at most an hour.
        retry_after: Option<Duration>,
    },
    /// Nothing was asked: the Retry-After of an earlier login's answer is not over. Of the class `Throttled`, but says
    /// nothing about the server. Probes never come to this.
    Held {
        /// What is left of it.
        left: Duration,
    },
    /// The server does not answer as it should.
    Unreachable(Why),
    /// It answered, with something that means nothing here: a block page, a wrong URL, another player.
    Unexpected(Oddity),
    /// The call failed on this machine.
    Local(LocalFault),
}

/// An [`Outcome`] without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OutcomeClass {
    /// See [`Outcome::Verified`].
    Verified,
    /// See [`Outcome::NotJoined`].
    NotJoined,
    /// See [`Outcome::Throttled`] and [`Outcome::Held`].
    Throttled,
    /// See [`Outcome::Unreachable`].
    Unreachable,
    /// See [`Outcome::Unexpected`].
    Unexpected,
    /// See [`Outcome::Local`].
    Local,
}

impl OutcomeClass {
    /// Every class.
    pub const ALL: &[Self] =
        &[Self::Verified, Self::NotJoined, Self::Throttled, Self::Unreachable, Self::Unexpected, Self::Local];

    /// The stable lower-case name for audit.log and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::NotJoined => "not-joined",
            Self::Throttled => "throttled",
            Self::Unreachable => "unreachable",
            Self::Unexpected => "unexpected",
            Self::Local => "local",
        }
    }
}

impl fmt::Display for OutcomeClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl Outcome {
    /// The class alone.
    pub const fn class(&self) -> OutcomeClass {
        match self {
            Self::Verified(_) => OutcomeClass::Verified,
            Self::NotJoined => OutcomeClass::NotJoined,
            Self::Throttled { .. } | Self::Held { .. } => OutcomeClass::Throttled,
            Self::Unreachable(_) => OutcomeClass::Unreachable,
            Self::Unexpected(_) => OutcomeClass::Unexpected,
            Self::Local(_) => OutcomeClass::Local,
        }
    }
}

/// In what way the session server is unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It answered with this 5xx status. The only case that flooding us cannot imitate.
    Answered(u16),
    /// No complete answer in time.
    TimedOut,
    /// Its name could not be resolved.
    Dns,
    /// No TLS session came about, or it broke.
    Tls,
    /// It refused the connection.
    Refused,
    /// It closed or reset the connection, or sent GOAWAY.
    Closed,
    /// The answer ended before its announced length.
    Truncated,
    /// No route, or another failure of the connection.
    Connection,
}

impl Why {
    /// Whether the server itself said so, as opposed to silence that our own side may have caused.
    pub const fn is_answered(self) -> bool {
        matches!(self, Self::Answered(_))
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(status) => write!(f, "it answered {status}"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Dns => f.write_str("its name could not be resolved"),
            Self::Tls => f.write_str("TLS failed"),
            Self::Refused => f.write_str("connection refused"),
            Self::Closed => f.write_str("connection closed"),
            Self::Truncated => f.write_str("the answer was cut off"),
            Self::Connection => f.write_str("no connection"),
        }
    }
}

/// In what way an answer makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// A status that has no meaning here, redirects among them (none is followed).
    Status(u16),
    /// Status 200 with a body that is no valid profile.
    NotAProfile,
    /// Status 200 with the profile of another player.
    OtherPlayer,
    /// Status 200 with a body beyond the cap.
    TooLong,
    /// What came back was not HTTP.
    NotHttp,
}

impl Oddity {
    /// The HTTP status, if there was one.
    pub const fn status(self) -> Option<u16> {
        match self {
            Self::Status(status) => Some(status),
            Self::NotAProfile | Self::OtherPlayer | Self::TooLong => Some(200),
            Self::NotHttp => None,
        }
    }
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::NotAProfile => f.write_str("status 200 without a valid profile"),
            Self::OtherPlayer => f.write_str("status 200 with another player's profile"),
            Self::TooLong => write!(f, "status 200 with more than {} KiB", MAX_BODY / 1024),
            Self::NotHttp => f.write_str("an answer that is not HTTP"),
        }
    }
}

/// What failed on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalFault {
    /// The operating system refused a resource: descriptors, buffers, ports, a route, permission.
    System(io::ErrorKind, Option<i32>),
    /// Too many calls are under way already.
    QueueFull,
    /// No thread was free for the name look-up.
    LookUps,
    /// The answer stayed out while this proxy was at one of its own limits.
    AtLimit,
    /// This process was held up while the call was waiting.
    Lagging,
    /// The URL could not be put together, or the monitor has stopped.
    Internal,
}

impl fmt::Display for LocalFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(_, Some(code)) => write!(f, "{}", io::Error::from_raw_os_error(*code)),
            Self::System(kind, None) => write!(f, "{kind}"),
            Self::QueueFull => f.write_str("too many has-joined calls at once"),
            Self::LookUps => NoFreeThread.fmt(f),
            Self::AtLimit => f.write_str("no answer while one of this proxy's own limits was hit"),
            Self::Lagging => f.write_str("this process was held up for more than a second"),
            Self::Internal => f.write_str("the call could not be made"),
        }
    }
}

/// What to do with an answer once its head is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// The head decides.
    Decided(Outcome),
    /// A 200: the body decides.
    Profile,
    /// A 500: the body may say that it is a no after all.
    Exception,
}

/// Judges status and Retry-After.
pub(super) fn judge_head(status: u16, retry_after: Option<&str>, now: Timestamp) -> Head {
    Head::Decided(match status {
        200 => return Head::Profile,
        204 => Outcome::NotJoined,
        403 | 429 => {
            Outcome::Throttled { retry_after: retry_after.and_then(|text| parse_retry_after(text, now)) }
        }
        500 => return Head::Exception,
        501..=599 => Outcome::Unreachable(Why::Answered(status)),
        other => Outcome::Unexpected(Oddity::Status(other)),
    })
}

/// Judges the body of a 200.
pub(super) fn judge_profile(body: &[u8], asked: &Username) -> Outcome {
    if body.is_empty() {
        return Outcome::NotJoined;
    }
    match parse_profile(body) {
        Some(profile) if profile.name.same_as(asked) => Outcome::Verified(Verified(profile)),
        Some(_) => Outcome::Unexpected(Oddity::OtherPlayer),
        None => Outcome::Unexpected(Oddity::NotAProfile),
    }
}

/// Judges the body of a 500; `None` if it could not be read whole.
pub(super) fn judge_exception(body: Option<&[u8]>) -> Outcome {
    #[derive(Deserialize)]
    struct Exception {
        error: String,
    }

    let error = body.and_then(|body| serde_json::from_slice::<Exception>(body).ok()).map(|e| e.error);
    if error.as_deref() == Some("ForbiddenOperationException") {
        Outcome::NotJoined
    } else {
        Outcome::Unreachable(Why::Answered(500))
    }
}

fn parse_profile(body: &[u8]) -> Option<Profile> {
    #[derive(Deserialize)]
    struct Raw {
        id: String,
        name: Username,
        #[serde(default)]
        properties: Vec<Property>,
    }

    // serde would also fill a struct from a JSON array, field by field.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let raw: Raw = serde_json::from_slice(body).ok()?;
    // The parser would also take braces and URNs, which no session server sends.
    let id = match raw.id.len() {
        32 | 36 => Uuid::try_parse(&raw.id).ok().filter(|id| !id.is_nil())?,
        _ => return None,
    };
    let fits = |p: &Property| {
        p.name.len() <= MAX_PROPERTY_NAME
            && p.value.len() <= MAX_PROPERTY_VALUE
            && p.signature.as_ref().is_none_or(|s| s.len() <= MAX_PROPERTY_SIGNATURE)
    };
    if raw.properties.len() > MAX_PROPERTIES || !raw.properties.iter().all(fits) {
        return None;
    }
    Some(Profile { id, name: raw.name, properties: raw.properties })
}

/// Retry-After is a number of seconds or an HTTP date (RFC 9110 section 10.2.3).
fn parse_retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let wait = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let at = parse_date(text)?;
        // A date in the past asks for no wait at all.
        Duration::try_from(at.duration_since(now).max(SignedDuration::ZERO)).ok()?
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// A date as HTTP writes it: `Sun, 22 Nov 2026 03:23:35 GMT`.
pub(super) fn parse_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

/// Judges a call that failed before its answer was complete. `in_body` tells that the head had come.
pub(super) fn judge_failure(error: &reqwest::Error, in_body: bool) -> Outcome {
    if let Some(fault) = chain(error).filter_map(as_io).find_map(local_fault) {
        return Outcome::Local(fault);
    }
    if chain(error).any(<dyn Error>::is::<NoFreeThread>) {
        return Outcome::Local(LocalFault::LookUps);
    }
    let why = if error.is_timeout() {
        Why::TimedOut
    } else if error.is_dns() {
        Why::Dns
    } else if chain(error).any(is_tls) {
        Why::Tls
    } else if error.is_builder() {
        return Outcome::Local(LocalFault::Internal);
    } else if chain(error).any(is_not_http) {
        return Outcome::Unexpected(Oddity::NotHttp);
    } else {
        match chain(error).filter_map(as_io).map(io::Error::kind).last() {
            Some(io::ErrorKind::ConnectionRefused) => Why::Refused,
            Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) if in_body => {
                return Outcome::Unexpected(Oddity::NotHttp);
            }
            _ if in_body => Why::Truncated,
            _ if error.is_connect() => Why::Connection,
            _ => Why::Closed,
        }
    };
    Outcome::Unreachable(why)
}

/// An error and all its causes. An `io::Error` hides the error it wraps from `source`, so both ways are walked.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn Error + 'static) = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

fn as_io<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    error.downcast_ref()
}

fn is_tls(error: &(dyn Error + 'static)) -> bool {
    error.is::<rustls::Error>()
}

/// Whether what came could not be parsed: an answer that is not HTTP must not look like an outage.
fn is_not_http(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref().is_some_and(hyper::Error::is_parse)
}

/// Failures that never reached the wire.
fn local_fault(error: &io::Error) -> Option<LocalFault> {
    local::is_local(error).then(|| LocalFault::System(error.kind(), error.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "069a79f444e94726a5befca90e38aaf5";

    fn notch() -> Username {
        Username::parse("Notch").unwrap()
    }

    fn head(status: u16, retry_after: Option<&str>) -> Head {
        judge_head(status, retry_after, "2026-11-21T20:00:00Z".parse().unwrap())
    }

    #[test]
    fn statuses() {
        assert_eq!(head(200, None), Head::Profile);
        assert_eq!(head(500, None), Head::Exception);
        assert_eq!(head(204, None), Head::Decided(Outcome::NotJoined));
        for status in [501, 502, 503, 504, 520, 599] {
            assert_eq!(head(status, None), Head::Decided(Outcome::Unreachable(Why::Answered(status))));
        }
        for status in [201, 206, 301, 302, 307, 308, 304, 400, 401, 404, 405, 410, 451, 600] {
            assert_eq!(head(status, None), Head::Decided(Outcome::Unexpected(Oddity::Status(status))));
        }
    }

    #[test]
    fn retry_after() {
        let rows: [(Option<&str>, Option<u64>); 9] = [
            (None, None),
            (Some("2"), Some(2)),
            (Some(" 0 "), Some(0)),
            (Some("99999999999999999999999"), Some(3600)),
            (Some("Sat, 21 Nov 2026 20:00:03 GMT"), Some(3)),
            (Some("Sat, 21 Nov 2026 19:00:00 GMT"), Some(0)),
            (Some("Sun, 21 Nov 2027 20:00:00 GMT"), Some(3600)),
            (Some("-1"), None),
            (Some("soon"), None),
        ];
        for (text, want) in rows {
            for status in [429, 403] {
                let retry_after = want.map(Duration::from_secs);
                let want = Head::Decided(Outcome::Throttled { retry_after });
                assert_eq!(head(status, text), want, "{status} {text:?}");
            }
        }
    }

    #[test]
    fn profiles() {
        let dashed = "069a79f4-44e9-4726-a5be-fca90e38aaf5";
        let good = [
            format!(r#"{{"id":"{ID}","name":"Notch"}}"#),
            format!(r#"{{"id":"{dashed}","name":"nOTCH","properties":[],"profileActions":[]}}"#),
            format!(
                r#" {{"name":"Notch","id":"{ID}","properties":[{{"name":"textures","value":"e30=","signature":"x"}}]}}"#
            ),
        ];
        for body in good {
            let Outcome::Verified(verified) = judge_profile(body.as_bytes(), &notch()) else {
                panic!("{body}")
            };
            assert_eq!(verified.profile().id.to_string(), dashed);
            assert!(verified.into_profile().name.same_as(&notch()));
        }
        assert_eq!(judge_profile(b"", &notch()), Outcome::NotJoined);

        let other = format!(r#"{{"id":"{ID}","name":"jeb_"}}"#);
        assert_eq!(judge_profile(other.as_bytes(), &notch()), Outcome::Unexpected(Oddity::OtherPlayer));

        let many = vec![r#"{"name":"a","value":"b"}"#; MAX_PROPERTIES + 1].join(",");
        let long = "v".repeat(MAX_PROPERTY_VALUE + 1);
        let bad = [
            " ".to_owned(),
            "null".to_owned(),
            "{}".to_owned(),
            "<html>blocked</html>".to_owned(),
            format!(r#"["{ID}","Notch",[]]"#),
            format!(r#"{{"id":"{ID}"}}"#),
            r#"{"name":"Notch"}"#.to_owned(),
            format!(r#"{{"id":"{{{dashed}}}","name":"Notch"}}"#),
            format!(r#"{{"id":"urn:uuid:{dashed}","name":"Notch"}}"#),
            format!(r#"{{"id":"{}","name":"Notch"}}"#, "0".repeat(32)),
            format!(r#"{{"id":"{}","name":"Notch"}}"#, "g".repeat(32)),
            r#"{"id":7,"name":"Notch"}"#.to_owned(),
            format!(r#"{{"id":"{ID}","name":["Notch"]}}"#),
            format!(r#"{{"id":"{ID}","name":"Not ch"}}"#),
            format!(r#"{{"id":"{ID}","name":"Notch","name":"Notch"}}"#),
            format!(r#"{{"id":"{ID}","name":"Notch","properties":{{}}}}"#),
            format!(r#"{{"id":"{ID}","name":"Notch","properties":[{{"name":"textures","value":1}}]}}"#),
            format!(r#"{{"id":"{ID}","name":"Notch","properties":[{many}]}}"#),
            format!(
                r#"{{"id":"{ID}","name":"Notch","properties":[{{"name":"textures","value":"{long}"}}]}}"#
            ),
            format!(r#"{{"id":"{ID}","name":"Notch"}} trailing"#),
            format!(r#"{{"id":"{ID}","name":"Notch""#),
        ];
        for body in bad {
            let got = judge_profile(body.as_bytes(), &notch());
            assert_eq!(got, Outcome::Unexpected(Oddity::NotAProfile), "{body:.80}");
        }
    }

    #[test]
    fn exceptions() {
        let forbidden = br#"{"error":"ForbiddenOperationException","errorMessage":"Invalid token"}"#;
        assert_eq!(judge_exception(Some(forbidden)), Outcome::NotJoined);
        let down = Outcome::Unreachable(Why::Answered(500));
        let others: [Option<&[u8]>; 5] = [
            None,
            Some(b""),
            Some(b"ForbiddenOperationException"),
            Some(br#"{"error":"InternalServerError"}"#),
            Some(br#"{"error":["ForbiddenOperationException"]}"#),
        ];
        for body in others {
            assert_eq!(judge_exception(body), down, "{body:?}");
        }
    }

    #[test]
    fn failures_of_this_machine() {
        let codes: &[i32] =
            if cfg!(target_os = "linux") { &[11, 24, 23, 105, 99, 101, 100, 1, 13, 12] } else { &[24, 23] };
        for &code in codes {
            let error = io::Error::from_raw_os_error(code);
            assert!(local_fault(&error).is_some(), "{code} {error}");
            // As they arrive: wrapped, and not always visible through `source`.
            let wrapped = io::Error::other(error);
            assert!(chain(&wrapped).filter_map(as_io).any(|e| local_fault(e).is_some()), "{code}");
        }
        let theirs: &[i32] = if cfg!(target_os = "linux") { &[111, 104, 110, 113, 32] } else { &[] };
        for &code in theirs {
            assert_eq!(local_fault(&io::Error::from_raw_os_error(code)), None, "{code}");
        }
        // A kind without a system error behind it is somebody's opinion, not the kernel's.
        assert_eq!(local_fault(&io::Error::from(io::ErrorKind::PermissionDenied)), None);
    }

    #[test]
    fn labels_are_distinct() {
        let labels: std::collections::HashSet<_> = OutcomeClass::ALL.iter().map(|c| c.label()).collect();
        assert_eq!(labels.len(), OutcomeClass::ALL.len());
    }
}
