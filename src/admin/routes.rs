//! What can be asked: one row per question.

use std::{borrow::Cow, pin::Pin, sync::Arc};

use hyper::{Method, StatusCode, body::Bytes};
use reqwest::Url;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{
    Stage,
    answer::{self, Answer, Refused},
    audit, auth, bans, events, metrics, players, readiness, reload,
    server::Shared,
    sessions, status,
};

/// Longest content of a question that names one player or one order, in bytes.
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
    pub(super) answer: fn(Arc<Shared>, Call) -> Answering,
}

/// Every route.
const ROUTES: &[Route] = &[
    Route {
        verb: Verb::Get,
        path: "/",
        access: Access::Anyone,
        most: 0,
        answer: |shared, _| at_once(Ok(shared.page.answer())),
    },
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
        answer: |shared, _| at_once(Ok(ready(shared.handles.phase.stage()))),
    },
    Route {
        verb: Verb::Get,
        path: "/metrics",
        access: Access::Machine,
        most: 0,
        answer: |shared, _| at_once(metrics::text(&shared)),
    },
    Route {
        verb: Verb::Get,
        path: "/api/status",
        access: Access::Machine,
        most: 0,
        answer: |shared, _| at_once(Ok(status::show(&shared))),
    },
    Route {
        verb: Verb::Get,
        path: "/api/audit",
        access: Access::Machine,
        most: 0,
        answer: |shared, call| at_once(audit::list(&shared.handles, &call)),
    },
    Route {
        verb: Verb::Get,
        path: "/api/events",
        access: Access::Machine,
        most: 0,
        answer: |shared, call| at_once(events::open(&shared, &call)),
    },
    Route {
        verb: Verb::Get,
        path: "/api/readiness",
        access: Access::Machine,
        most: 0,
        answer: |shared, _| Box::pin(readiness::show(shared)),
    },
    Route {
        verb: Verb::Get,
        path: "/api/players",
        access: Access::Machine,
        most: 0,
        answer: |shared, _| at_once(Ok(players::list(&shared.handles))),
    },
    Route {
        verb: Verb::Post,
        path: "/api/players/kick",
        access: Access::Token,
        most: SMALL,
        answer: |shared, call| at_once(players::kick(&shared.handles, &call)),
    },
    Route {
        verb: Verb::Post,
        path: "/api/auth",
        access: Access::Token,
        most: SMALL,
        answer: |shared, call| Box::pin(auth::order(shared, call)),
    },
    Route {
        verb: Verb::Post,
        path: "/api/reload",
        access: Access::Token,
        most: SMALL,
        answer: |shared, call| Box::pin(reload::reload(shared, call)),
    },
    Route {
        verb: Verb::Get,
        path: "/api/sessions",
        access: Access::Machine,
        most: 0,
        answer: |shared, call| at_once(sessions::list(&shared.handles, &call)),
    },
    Route {
        verb: Verb::Get,
        path: "/api/sessions/{}",
        access: Access::Machine,
        most: 0,
        answer: |shared, call| at_once(sessions::show(&shared.handles, &call)),
    },
    Route {
        verb: Verb::Post,
        path: "/api/sessions/forget",
        access: Access::Token,
        most: SMALL,
        answer: |shared, call| Box::pin(sessions::forget(Arc::clone(&shared.handles), call)),
    },
    Route {
        verb: Verb::Post,
        path: "/api/sessions/lock",
        access: Access::Token,
        most: SMALL,
        answer: |shared, call| Box::pin(sessions::lock(Arc::clone(&shared.handles), call)),
    },
    Route {
        verb: Verb::Post,
        path: "/api/sessions/import",
        access: Access::Token,
        most: LARGE,
        answer: |shared, call| Box::pin(sessions::import(Arc::clone(&shared.handles), call)),
    },
    Route {
        verb: Verb::Get,
        path: "/api/bans",
        access: Access::Machine,
        most: 0,
        answer: |shared, _| at_once(Ok(bans::list(&shared.handles))),
    },
    Route {
        verb: Verb::Post,
        path: "/api/bans/lift",
        access: Access::Token,
        most: SMALL,
        answer: |shared, call| at_once(bans::lift(&shared.handles, &call)),
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
    /// Whether the token was shown.
    pub(super) shown: bool,
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
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::admin::testing::{Stage, TOKEN};

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
        for path in ["", "/live/", "/api", "/api/sessions/", "/api/sessions/a/b", "//live"] {
            assert_eq!(found(Method::GET, path), missing, "{path}");
        }
        assert_eq!(found(Method::OPTIONS, "/api/sessions/lock"), Err((405, Some("GET, HEAD, POST".into()))));
        assert_eq!(found(Method::GET, "/api/bans/lift"), Err((405, Some("POST".into()))));
        assert_eq!(found(Method::POST, "/api/sessions"), Err((405, Some("GET, HEAD".into()))));
    }

    /// What each route asks for. One that is not in here fails the test below.
    const ASKED_FOR: &[(Access, &[&str])] = &[
        (Access::Anyone, &["GET /", "GET /live", "GET /ready"]),
        (
            Access::Machine,
            &[
                "GET /metrics",
                "GET /api/status",
                "GET /api/audit",
                "GET /api/events",
                "GET /api/readiness",
                "GET /api/players",
                "GET /api/sessions",
                "GET /api/sessions/{}",
                "GET /api/bans",
            ],
        ),
        (
            Access::Token,
            &[
                "POST /api/players/kick",
                "POST /api/auth",
                "POST /api/reload",
                "POST /api/sessions/forget",
                "POST /api/sessions/lock",
                "POST /api/sessions/import",
                "POST /api/bans/lift",
            ],
        ),
    ];

    /// The status of what was answered, up to the end of its head: some answers go on for ever.
    async fn status_of(stage: &Stage, host: &str, line: &str, headers: &str) -> u16 {
        let mut stream = TcpStream::connect(stage.to).await.unwrap();
        let body = if line.starts_with("POST") { "{}" } else { "" };
        let length = body.len();
        let request =
            format!("{line} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut came = Vec::new();
        while !came.windows(4).any(|four| four == b"\r\n\r\n") {
            assert!(stream.read_buf(&mut came).await.unwrap() > 0, "{line}");
        }
        let came = String::from_utf8_lossy(&came).to_lowercase();
        assert!(!came.contains("access-control"), "{line}: {came}");
        for shield in ["cross-origin-resource-policy: same-origin", "x-frame-options: deny", "nosniff"] {
            assert!(came.contains(shield), "{line}: {came}");
        }
        assert!(!came.contains(TOKEN), "{line}: {came}");
        came.split(' ').nth(1).unwrap().parse().unwrap()
    }

    // Time is paused for the wait that wrong tokens bring.
    #[tokio::test(start_paused = true)]
    async fn every_route_asks_for_what_it_should() {
        let name =
            |route: &Route| format!("{} {}", route.verb.words().split(',').next().unwrap(), route.path);
        let mut listed: Vec<&str> = ASKED_FOR.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let mut there: Vec<String> = ROUTES.iter().map(name).collect();
        listed.sort_unstable();
        there.sort_unstable();
        assert_eq!(listed, there);

        let json = "Content-Type: application/json\r\n";
        let right = format!("{json}Authorization: Bearer {TOKEN}\r\n");
        // On loopback; with a proxy in front, which has a name; beyond this machine.
        for (on_loopback, hosts) in [(true, &[][..]), (true, &["admin.example.com"]), (false, &[])] {
            let stage = Stage::with(on_loopback, hosts).await;
            let own = stage.to.to_string();
            let open = on_loopback && hosts.is_empty();
            for (access, names) in ASKED_FOR {
                for name in *names {
                    let line = name.replace("{}", "Nobody");
                    let (is_order, path) = (line.starts_with("POST"), line.split_once(' ').unwrap().1);
                    let is_free = *access == Access::Anyone || (*access == Access::Machine && open);
                    let asked = async |headers: &str| status_of(&stage, &own, &line, headers).await;
                    // Nothing here is found, and an empty order is none; but whoever asked was let through.
                    let let_in = |status: u16| [200, 400, 404, 503].contains(&status);

                    let without = asked(json).await;
                    assert!(if is_free { let_in(without) } else { without == 401 }, "{line}: {without}");
                    let encoded = TOKEN.replace(' ', "%20");
                    let queried = format!("{line}?token={encoded}&access_token={encoded}");
                    let queried = status_of(&stage, &own, &queried, json).await;
                    assert!(if is_free { let_in(queried) } else { queried == 401 }, "{line}: {queried}");
                    let shown = asked(&right).await;
                    assert!(let_in(shown), "{line}: {shown}");
                    assert_eq!(asked(&format!("{json}Authorization: Bearer x\r\n")).await, 401, "{line}");
                    assert_eq!(
                        asked(&format!("{right}Authorization: Bearer {TOKEN}\r\n")).await,
                        401,
                        "{line}"
                    );
                    let origin = format!("{right}Origin: https://evil.example.com\r\n");
                    assert_eq!(asked(&origin).await, 403, "{line}");
                    let host = status_of(&stage, "rebound.example.com", &line, &right).await;
                    assert_eq!(host, 403, "{line}");
                    let passed_on = asked(&format!("{json}X-Forwarded-For: 203.0.113.5\r\n")).await;
                    let is_anyones = *access == Access::Anyone;
                    assert!(
                        if is_anyones { let_in(passed_on) } else { passed_on == 401 },
                        "{line}: {passed_on}"
                    );
                    let embedded = asked(&format!("{right}Sec-Fetch-Site: cross-site\r\n")).await;
                    assert!(
                        if line == "GET /" { let_in(embedded) } else { embedded == 403 },
                        "{line}: {embedded}"
                    );
                    let form = right.replace("application/json", "text/plain");
                    let form = asked(&form).await;
                    assert!(if is_order { form == 415 } else { let_in(form) }, "{line}: {form}");
                    for method in ["OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"] {
                        let other = status_of(&stage, &own, &format!("{method} {path}"), &right).await;
                        assert_eq!(other, 405, "{method} {path}");
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_is_changed_without_the_token() {
        for route in ROUTES {
            assert!(route.verb == Verb::Get || route.access == Access::Token, "{}", route.path);
            assert_eq!(
                route.access == Access::Anyone,
                ["/", "/live", "/ready"].contains(&route.path),
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
