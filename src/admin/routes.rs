//! What can be asked: one row per question.

use std::{borrow::Cow, pin::Pin, sync::Arc};

use hyper::{Method, StatusCode, body::Bytes};
use reqwest::Url;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{
    Handles, Stage,
    answer::{self, Answer, Refused},
    bans, sessions,
};

/// Longest content of a question that names one player or one ban, in bytes.
const SMALL: usize = 4 << 10;
/// Longest content of a question that brings rows of an import, in bytes: some 30 of the longest there can be.
pub(super) const LARGE: usize = 1 << 20;

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Whoever reaches the interface: it tells nothing about anybody.
    Anyone,
    /// Whoever is on this machine; from elsewhere, or if others may come through a proxy in front, who shows the token.
    Machine,
    /// Whoever shows the token.
    Token,
}

/// The methods there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// Changes nothing; HEAD is answered alike.
    Get,
    /// May change something.
    Post,
}

impl Verb {
    const fn words(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD",
            Self::Post => "POST",
        }
    }

    fn takes(self, method: &Method) -> bool {
        match self {
            Self::Get => method == Method::GET || method == Method::HEAD,
            Self::Post => method == Method::POST,
        }
    }
}

/// An answer that is being worked on.
pub(super) type Answering = Pin<Box<dyn Future<Output = Result<Answer, Refused>> + Send>>;

/// A question and its answer.
pub(super) struct Route {
    pub(super) verb: Verb,
    /// The path; a last `{}` stands for any one part.
    path: &'static str,
    pub(super) access: Access,
    /// Longest content, in bytes.
    pub(super) most: usize,
    pub(super) answer: fn(Arc<Handles>, Call) -> Answering,
}

/// Every route. Further ones for people and monitors go here.
const ROUTES: &[Route] = &[
    Route {
        verb: Verb::Get,
        path: "/live",
        access: Access::Anyone,
        most: 0,
        answer: |_, _| at_once(Ok(live())),
    },
    Route {
        verb: Verb::Get,
        path: "/ready",
        access: Access::Anyone,
        most: 0,
        answer: |handles, _| at_once(Ok(ready(handles.phase.stage()))),
    },
    Route {
        verb: Verb::Get,
        path: "/api/sessions",
        access: Access::Machine,
        most: 0,
        answer: |handles, call| at_once(sessions::list(&handles, &call)),
    },
    Route {
        verb: Verb::Get,
        path: "/api/sessions/{}",
        access: Access::Machine,
        most: 0,
        answer: |handles, call| at_once(sessions::show(&handles, &call)),
    },
    Route {
        verb: Verb::Post,
        path: "/api/sessions/forget",
        access: Access::Token,
        most: SMALL,
        answer: |handles, call| Box::pin(sessions::forget(handles, call)),
    },
    Route {
        verb: Verb::Post,
        path: "/api/sessions/lock",
        access: Access::Token,
        most: SMALL,
        answer: |handles, call| Box::pin(sessions::lock(handles, call)),
    },
    Route {
        verb: Verb::Post,
        path: "/api/sessions/import",
        access: Access::Token,
        most: LARGE,
        answer: |handles, call| Box::pin(sessions::import(handles, call)),
    },
    Route {
        verb: Verb::Get,
        path: "/api/bans",
        access: Access::Machine,
        most: 0,
        answer: |handles, _| at_once(Ok(bans::list(&handles))),
    },
    Route {
        verb: Verb::Post,
        path: "/api/bans/lift",
        access: Access::Token,
        most: SMALL,
        answer: |handles, call| at_once(bans::lift(&handles, &call)),
    },
];

/// What a caller gave besides the path.
#[derive(Debug, Default)]
pub(super) struct Call {
    /// The part of the path that `{}` stands for.
    pub(super) name: String,
    /// What follows the question mark.
    pub(super) query: Vec<(String, String)>,
    /// The content.
    pub(super) body: Bytes,
}

impl Call {
    /// The content as JSON of this form.
    pub(super) fn content<T: DeserializeOwned>(&self) -> Result<T, Refused> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Refused::new(
                StatusCode::BAD_REQUEST,
                format_args!("the content is not what is asked for: {error}"),
            )
        })
    }

    pub(super) fn read_query(&mut self, query: Option<&str>) {
        // Any URL will do: it decodes what stands in one.
        let Ok(mut url) = Url::parse("http://localhost/") else { return };
        url.set_query(query);
        let owned = |text: Cow<'_, str>| text.into_owned();
        self.query = url.query_pairs().map(|(key, value)| (owned(key), owned(value))).collect();
    }
}

/// The route for this method and path, and what `{}` stands for in it.
pub(super) fn find(method: &Method, path: &str) -> Result<(&'static Route, String), Refused> {
    let mut allowed = Vec::new();
    for route in ROUTES {
        let Some(name) = route.name_in(path) else { continue };
        if route.verb.takes(method) {
            return Ok((route, name.to_owned()));
        }
        allowed.push(route.verb.words());
    }
    Err(if allowed.is_empty() {
        Refused::new(StatusCode::NOT_FOUND, "nothing is at this address")
    } else {
        Refused::wrong_method(allowed.join(", "))
    })
}

impl Route {
    /// What `{}` stands for; empty in a path without it. `None` if it is another path.
    fn name_in<'a>(&self, path: &'a str) -> Option<&'a str> {
        match self.path.strip_suffix("{}") {
            Some(start) => path.strip_prefix(start).filter(|name| !name.is_empty() && !name.contains('/')),
            None => (path == self.path).then_some(""),
        }
    }
}

fn at_once(answer: Result<Answer, Refused>) -> Answering {
    Box::pin(std::future::ready(answer))
}

fn live() -> Answer {
    answer::object(StatusCode::OK, &json!({ "status": "live" }))
}

/// An outage is no reason not to be ready: during one the proxy is wanted most.
fn ready(stage: Stage) -> Answer {
    let status = if stage == Stage::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer::object(status, &json!({ "status": stage.word() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods() {
        let found = |method: Method, path: &str| match find(&method, path) {
            Ok((route, name)) => Ok((route.path, name)),
            Err(refused) => Err((refused.code(), refused.allow().map(str::to_owned))),
        };
        let missing = Err((404, None));
        assert_eq!(found(Method::GET, "/live"), Ok(("/live", String::new())));
        assert_eq!(found(Method::HEAD, "/api/sessions"), Ok(("/api/sessions", String::new())));
        assert_eq!(found(Method::GET, "/api/sessions/Notch"), Ok(("/api/sessions/{}", "Notch".into())));
        // Somebody may be called that.
        assert_eq!(found(Method::GET, "/api/sessions/lock"), Ok(("/api/sessions/{}", "lock".into())));
        assert_eq!(found(Method::POST, "/api/sessions/lock"), Ok(("/api/sessions/lock", String::new())));
        for path in ["/", "", "/live/", "/api", "/api/sessions/", "/api/sessions/a/b", "//live"] {
            assert_eq!(found(Method::GET, path), missing, "{path}");
        }
        assert_eq!(found(Method::OPTIONS, "/api/sessions/lock"), Err((405, Some("GET, HEAD, POST".into()))));
        assert_eq!(found(Method::GET, "/api/bans/lift"), Err((405, Some("POST".into()))));
        assert_eq!(found(Method::POST, "/api/sessions"), Err((405, Some("GET, HEAD".into()))));
    }

    #[test]
    fn nothing_is_changed_without_the_token() {
        for route in ROUTES {
            assert!(route.verb == Verb::Get || route.access == Access::Token, "{}", route.path);
            assert_eq!(
                route.access == Access::Anyone,
                ["/live", "/ready"].contains(&route.path),
                "{}",
                route.path
            );
        }
    }

    #[test]
    fn queries_are_decoded() {
        let mut call = Call::default();
        call.read_query(Some("address=2001%3Adb8%3A%3A%2F32&name=a+b&limit"));
        let pairs: Vec<_> = call.query.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("address", "2001:db8::/32"), ("name", "a b"), ("limit", "")]);
        call.read_query(None);
        assert!(call.query.is_empty());
    }
}
