//! What callers are answered.

use std::{
    convert::Infallible,
    fmt::Display,
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::{
    Response, StatusCode,
    body::{Body, Bytes, Frame, SizeHint},
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE,
        X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;

/// An answer, ready to be sent.
pub(super) type Answer = Response<Content>;

/// Says whose pages may use an answer.
pub(super) const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Bytes after which a part of a long answer is sent.
const PART: usize = 16 << 10;

/// The content of an answer: whole, or made while it is sent, so that a long list is never in memory as text.
pub(super) enum Content {
    Whole(Option<Bytes>),
    Parts(Box<dyn Iterator<Item = Bytes> + Send>),
    /// As it comes, until whoever makes it has enough.
    Live(mpsc::Receiver<Bytes>),
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut *self {
            Self::Whole(bytes) => bytes.take(),
            Self::Parts(parts) => parts.next(),
            Self::Live(parts) => ready!(parts.poll_recv(cx)),
        };
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Parts(_) | Self::Live(_) => SizeHint::default(),
        }
    }
}

fn answer(status: StatusCode, content: Content) -> Answer {
    of_type("application/json", status, content)
}

fn of_type(kind: &'static str, status: StatusCode, content: Content) -> Answer {
    let mut answer = Response::new(content);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // What it says is about this moment, and for this caller.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // No other site's page may show it, or find out whether there is something at all.
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    answer
}

/// A JSON object.
pub(super) fn object(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            answer(status, Content::Whole(Some(bytes.into())))
        }
        // Plain data with text keys cannot fail.
        Err(error) => Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error).into(),
    }
}

/// Text of this type.
pub(super) fn text(kind: &'static str, text: impl Into<Bytes>) -> Answer {
    of_type(kind, StatusCode::OK, Content::Whole(Some(text.into())))
}

/// JSON that was written before.
pub(super) fn written(text: impl Into<Bytes>) -> Answer {
    answer(StatusCode::OK, Content::Whole(Some(text.into())))
}

/// Events, as they come.
pub(super) fn events(parts: mpsc::Receiver<Bytes>) -> Answer {
    let mut answer = of_type("text/event-stream", StatusCode::OK, Content::Live(parts));
    // A reverse proxy that collects answers would never pass one on.
    answer.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    answer
}

/// Why a question gets no answer, in words that say what to do.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    what: String,
    /// The methods that the route takes, if another was used.
    allow: Option<String>,
}

impl Refused {
    pub(super) fn new(status: StatusCode, what: impl Display) -> Self {
        Self { status, what: what.to_string(), allow: None }
    }

    /// The route does not take this method.
    pub(super) fn wrong_method(allowed: String) -> Self {
        let what = format!("this address takes {allowed} only");
        Self { status: StatusCode::METHOD_NOT_ALLOWED, what, allow: Some(allowed) }
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> u16 {
        self.status.as_u16()
    }

    #[cfg(test)]
    pub(super) fn allow(&self) -> Option<&str> {
        self.allow.as_deref()
    }
}

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Self {
        let text = json!({ "error": refused.what }).to_string() + "\n";
        let mut answer = answer(refused.status, Content::Whole(Some(text.into())));
        if refused.status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(Ok(allow)) = refused.allow.as_deref().map(HeaderValue::from_str) {
            answer.headers_mut().insert(ALLOW, allow);
        }
        answer
    }
}

/// An object whose last field, `name`, is a list that is made while it is sent. `fields` is a JSON object, which the
/// list is added to.
pub(super) fn list<T: Serialize>(
    fields: &serde_json::Map<String, serde_json::Value>,
    name: &str,
    items: impl Iterator<Item = T> + Send + 'static,
) -> Answer {
    let mut head = serde_json::Value::Object(fields.clone()).to_string();
    head.pop();
    if !fields.is_empty() {
        head.push(',');
    }
    head.push_str(&json!(name).to_string());
    head.push_str(":[");
    let parts = ListParts { items: items.fuse(), next: head.into_bytes(), first: true, ended: false };
    answer(StatusCode::OK, Content::Parts(Box::new(parts)))
}

/// The text of a list, part by part.
struct ListParts<I> {
    items: I,
    next: Vec<u8>,
    first: bool,
    ended: bool,
}

impl<T: Serialize, I: Iterator<Item = T>> Iterator for ListParts<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        while !self.ended && self.next.len() < PART {
            if let Some(item) = self.items.next() {
                if !std::mem::take(&mut self.first) {
                    self.next.push(b',');
                }
                // Plain data with text keys cannot fail.
                let _ = serde_json::to_writer(&mut self.next, &item);
            } else {
                self.next.extend_from_slice(b"]}\n");
                self.ended = true;
            }
        }
        (!self.next.is_empty()).then(|| Bytes::from(std::mem::take(&mut self.next)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(answer: Answer) -> (usize, String) {
        let Content::Parts(parts) = answer.into_body() else { panic!("whole") };
        let parts: Vec<Bytes> = parts.collect();
        (parts.len(), parts.iter().map(|part| std::str::from_utf8(part).unwrap()).collect())
    }

    #[test]
    fn lists_are_json_in_parts_of_bounded_size() {
        let fields = json!({"total": 2});
        let fields = fields.as_object().unwrap();
        assert_eq!(
            text(list(fields, "bans", ["a", "b"].into_iter())),
            (1, "{\"total\":2,\"bans\":[\"a\",\"b\"]}\n".into())
        );
        let none = serde_json::Map::new();
        assert_eq!(text(list(&none, "bans", [0; 0].into_iter())), (1, "{\"bans\":[]}\n".into()));
        let long = "x".repeat(1000);
        let (parts, all) = text(list(&none, "x", (0..100).map(move |_| long.clone())));
        assert_eq!(parts, 6, "of 17 items each");
        let all: serde_json::Value = serde_json::from_str(&all).unwrap();
        assert_eq!(all["x"].as_array().unwrap().len(), 100);
    }
}
