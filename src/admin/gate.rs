//! Who may ask: checked before anything else is done for a caller.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hyper::{
    HeaderMap, Method, StatusCode, Version,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, ORIGIN},
    http::{request::Parts, uri::Authority},
};
use tokio::{sync::watch, time::Instant};

use super::{answer::Refused, routes::Access, token::Token};

/// Callers with a wrong token are logged once in so long: whoever tries thousands must not fill the log.
const TELL_EVERY: Duration = Duration::from_mins(1);
/// After a wrong token, how long whoever shows one waits for the answer.
const WARY_FOR: Duration = Duration::from_secs(10);
/// What proxies add to a request that they pass on, besides whatever begins with [`FORWARDED`].
const PASSED_ON: [&str; 10] = [
    "forwarded",
    "via",
    "cdn-loop",
    "cf-connecting-ip",
    "fastly-client-ip",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-real-ip",
];
/// `X-Forwarded-For`, `-Host`, `-Proto` and whatever else there is of them.
const FORWARDED: &str = "x-forwarded";

/// What site the page is of that makes a request, as every browser of today states it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Who keeps the door: callers must meet the terms, which may change while it stands open.
#[derive(Debug)]
pub(super) struct Gate {
    terms: watch::Sender<Arc<Terms>>,
    /// Whether the interface listens on loopback.
    on_loopback: bool,
    wrong: Mutex<WrongTokens>,
}

/// What a caller must meet.
#[derive(Debug)]
struct Terms {
    token: Token,
    /// `Host` headers to accept besides addresses of this machine: a name, or a name and port; lower case.
    hosts: Vec<String>,
    /// Nobody but programs of this machine comes here: it listens on loopback, and no proxy in front is named.
    machine_only: bool,
}

/// Wrong tokens so far.
#[derive(Debug, Default)]
struct WrongTokens {
    last: Option<Instant>,
    /// When the log was told of one, and how many came since.
    told: Option<Instant>,
    untold: u64,
}

impl Gate {
    pub(super) fn new(token: Token, hosts: &[String], on_loopback: bool) -> Self {
        let terms = Arc::new(Terms::new(token, hosts, on_loopback));
        Self { terms: watch::Sender::new(terms), on_loopback, wrong: Mutex::default() }
    }

    /// Asks for this token, and takes these hosts, from now on.
    pub(super) fn adopt(&self, token: Token, hosts: &[String]) {
        self.terms.send_replace(Arc::new(Terms::new(token, hosts, self.on_loopback)));
    }

    /// Whether that is the token that callers have to show.
    pub(super) fn asks_for(&self, token: &Token) -> bool {
        self.terms().token.is_same(token)
    }

    fn terms(&self) -> Arc<Terms> {
        Arc::clone(&self.terms.borrow())
    }

    /// Returns once callers need something else than they needed when this was called: another token, or one where none
    /// was needed. For answers that go on and on.
    pub(super) fn changed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut terms = self.terms.subscribe();
        let before = Arc::clone(&terms.borrow_and_update());
        async move {
            let differs = |now: &Arc<Terms>| {
                !now.token.is_same(&before.token) || now.machine_only != before.machine_only
            };
            // An error means that the gate is gone, and whoever waits with it.
            let _ = terms.wait_for(differs).await;
        }
    }

    /// Checks what must be right whatever is asked for: the host, so that a page which has its own name lead here
    /// gets nothing; that no page of another site asks; and the token, if one is shown. `local` is the address that the
    /// caller reached, `peer` the caller's. Says whether the token was shown.
    pub(super) fn admit(
        &self,
        request: &Parts,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Result<bool, Refused> {
        let host = one(&request.headers, &HOST)?
            .ok_or_else(|| Refused::new(StatusCode::BAD_REQUEST, "the request has no Host header"))?;
        let terms = self.terms();
        for authority in [Some(host), request.uri.authority().map(Authority::as_str)].into_iter().flatten() {
            if !terms.is_ours(authority, local.ip()) {
                let what = "this interface is not known by that host name; use its address, or add the name to \
                    admin.allowed-hosts";
                return Err(Refused::new(StatusCode::FORBIDDEN, what));
            }
        }
        let foreign =
            || Refused::new(StatusCode::FORBIDDEN, "pages of other sites may not use this interface");
        if let Some(origin) = one(&request.headers, &ORIGIN)? {
            let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            if !authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host)) {
                return Err(foreign());
            }
        }
        // Not every request of another site's page states its origin, and whether an answer came tells that page something
        // already. A link to the console page is no harm: the page holds nothing, and nobody can put it into a frame.
        let site = one(&request.headers, &SEC_FETCH_SITE)?.unwrap_or("none");
        let is_link = request.method == Method::GET && request.uri.path() == "/";
        if !matches!(site, "same-origin" | "none") && !is_link {
            return Err(foreign());
        }
        let shown: Vec<_> = request.headers.get_all(AUTHORIZATION).iter().collect();
        let right = |value: &&hyper::header::HeaderValue| terms.token.is_shown_in(value.as_bytes());
        match shown.as_slice() {
            [] => Ok(false),
            [value] if right(value) => Ok(true),
            _ => {
                self.note_wrong_token(peer.ip());
                let what = "that is not this proxy's token; it stands in the file admin.token-file names";
                Err(Refused::new(StatusCode::UNAUTHORIZED, what))
            }
        }
    }

    /// Checks what a route asks for besides. `shown` says whether the token was.
    pub(super) fn let_through(&self, request: &Parts, access: Access, shown: bool) -> Result<(), Refused> {
        let needed = match access {
            Access::Anyone => false,
            Access::Machine => !self.terms().machine_only || is_passed_on(request),
            Access::Token => true,
        };
        if needed && !shown {
            let what = "this needs the header \"Authorization: Bearer …\" with the token in the file that \
                admin.token-file names";
            return Err(Refused::new(StatusCode::UNAUTHORIZED, what));
        }
        if request.method == Method::POST {
            let kind = one(&request.headers, &CONTENT_TYPE)?.unwrap_or_default();
            let kind = kind.split(';').next().unwrap_or_default().trim();
            if !kind.eq_ignore_ascii_case("application/json") {
                let what =
                    "this needs the header \"Content-Type: application/json\", and JSON as its content";
                return Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, what));
            }
        }
        Ok(())
    }

    /// Whether the answer to this request is to wait: it shows a token, and a wrong one has come lately. It need not be
    /// the wrong one: else whoever guesses would not wait for an answer that takes long, and lose nothing by it.
    pub(super) fn is_wary_of(&self, request: &Parts) -> bool {
        let lately = |last: Instant| last.elapsed() < WARY_FOR;
        request.headers.contains_key(AUTHORIZATION) && self.wrong().last.is_some_and(lately)
    }

    fn wrong(&self) -> MutexGuard<'_, WrongTokens> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_wrong_token(&self, peer: IpAddr) {
        let mut wrong = self.wrong();
        wrong.last = Some(Instant::now());
        wrong.untold += 1;
        if wrong.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            tracing::warn!(
                address = %peer, attempts = wrong.untold,
                "somebody asked the admin interface with a wrong token"
            );
            (wrong.told, wrong.untold) = (wrong.last, 0);
        }
    }
}

impl Terms {
    fn new(token: Token, hosts: &[String], on_loopback: bool) -> Self {
        let machine_only = on_loopback && hosts.is_empty();
        let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Self { token, hosts, machine_only }
    }

    /// Whether `authority`, a host and perhaps a port, names this interface.
    fn is_ours(&self, authority: &str, local: IpAddr) -> bool {
        let Ok(parsed) = authority.parse::<Authority>() else { return false };
        // With a user in front it is something else than it seems.
        if parsed.as_str().contains('@') {
            return false;
        }
        let host = parsed.host().to_ascii_lowercase();
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
        if let Ok(address) = address.parse::<IpAddr>() {
            let address = address.to_canonical();
            return address.is_loopback()
                || address == local.to_canonical()
                || self.is_allowed(&parsed, &host);
        }
        host == "localhost" || self.is_allowed(&parsed, &host)
    }

    fn is_allowed(&self, authority: &Authority, host: &str) -> bool {
        self.hosts.iter().any(|allowed| allowed == host || allowed.eq_ignore_ascii_case(authority.as_str()))
    }
}

/// Whether a proxy asks for somebody else, as far as that shows: it says so, or speaks a version of HTTP that programs of
/// this machine do not, but nginx does unless it is told otherwise.
fn is_passed_on(request: &Parts) -> bool {
    request.version < Version::HTTP_11
        || request
            .headers
            .keys()
            .any(|header| PASSED_ON.contains(&header.as_str()) || header.as_str().starts_with(FORWARDED))
}

/// A header that may stand there once, as text.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refused> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    let unfit = || Refused::new(StatusCode::BAD_REQUEST, format_args!("the header {name} makes no sense"));
    if values.next().is_some() {
        return Err(unfit());
    }
    value.map(|value| value.to_str().map_err(|_| unfit())).transpose()
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;
    use crate::admin::testing::token;

    fn gate(folder: &std::path::Path) -> Gate {
        let hosts =
            ["Admin.example.com".to_owned(), "other.example.com:8443".to_owned(), "203.0.113.9".to_owned()];
        Gate::new(token(folder, "a long random text"), &hosts, true)
    }

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::post("/api/sessions/lock");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn status(result: Result<bool, Refused>) -> Result<bool, u16> {
        result.map_err(|refused| refused.code())
    }

    #[test]
    fn hosts() {
        let folder = tempfile::tempdir().unwrap();
        let gate = gate(folder.path());
        let local: SocketAddr = "198.51.100.7:9464".parse().unwrap();
        let admitted = |headers: &[(&str, &str)]| status(gate.admit(&parts(headers), local, local));
        for good in [
            "127.0.0.1",
            "127.0.0.1:9464",
            "127.9.9.9:1",
            "[::1]:9464",
            "[::ffff:127.0.0.1]:9464",
            "localhost",
            "LocalHost:9464",
            "198.51.100.7:9464",
            "admin.example.com",
            "ADMIN.example.com:443",
            "other.example.com:8443",
            "203.0.113.9:80",
        ] {
            assert_eq!(admitted(&[("host", good)]), Ok(false), "{good}");
        }
        for bad in [
            "evil.example.com",
            "evil.example.com:9464",
            "localhost.evil.example.com",
            "admin.example.com.evil.example.com",
            "198.51.100.8:9464",
            "other.example.com",
            "other.example.com:8444",
            "127.0.0.1@evil.example.com",
            "evil.example.com@127.0.0.1",
            "0.0.0.0:9464",
            "127.0.0.1.nip.io",
            "",
        ] {
            assert_eq!(admitted(&[("host", bad)]), Err(403), "{bad}");
        }
        assert_eq!(admitted(&[]), Err(400));
        assert_eq!(admitted(&[("host", "localhost"), ("host", "localhost")]), Err(400));
        let mut absolute = parts(&[("host", "localhost")]);
        absolute.uri = "http://evil.example.com/live".parse().unwrap();
        assert_eq!(status(gate.admit(&absolute, local, local)), Err(403));
    }

    #[tokio::test(start_paused = true)]
    async fn terms_that_change_count_from_the_next_request_on() {
        let folder = tempfile::tempdir().unwrap();
        let gate = gate(folder.path());
        let local: SocketAddr = "127.0.0.1:9464".parse().unwrap();
        let shown = |text: &str| {
            let value = format!("Bearer {text}");
            status(gate.admit(&parts(&[("host", "localhost"), ("authorization", &value)]), local, local))
        };
        let named = |host: &str| status(gate.admit(&parts(&[("host", host)]), local, local));
        assert_eq!((shown("a long random text"), named("new.example.com")), (Ok(true), Err(403)));
        let changed = gate.changed();
        tokio::pin!(changed);
        // The same token with other hosts cuts nobody off.
        let hosts = ["New.example.com".to_owned()];
        gate.adopt(token(folder.path(), "a long random text\n"), &hosts);
        tokio::time::timeout(Duration::from_secs(1), &mut changed).await.unwrap_err();
        assert_eq!((named("new.example.com"), named("admin.example.com")), (Ok(false), Err(403)));
        gate.adopt(token(folder.path(), "another long random text"), &hosts);
        changed.await;
        assert_eq!((shown("a long random text"), shown("another long random text")), (Err(401), Ok(true)));
        // Nor may anybody go on who needed no token before, and does now.
        let gate = Gate::new(token(folder.path(), "x"), &[], true);
        let changed = gate.changed();
        gate.adopt(token(folder.path(), "x"), &hosts);
        changed.await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_token_makes_wary_of_all_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let gate = gate(folder.path());
        let local: SocketAddr = "127.0.0.1:9464".parse().unwrap();
        let [right, wrong] = ["Bearer a long random text", "Bearer x"]
            .map(|shown| parts(&[("host", "localhost"), ("authorization", shown)]));
        let without = parts(&[("host", "localhost")]);
        assert_eq!(status(gate.admit(&right, local, local)), Ok(true));
        assert!(!gate.is_wary_of(&right));
        assert_eq!(status(gate.admit(&wrong, local, local)), Err(401));
        assert!(gate.is_wary_of(&wrong) && gate.is_wary_of(&right) && !gate.is_wary_of(&without));
        tokio::time::advance(WARY_FOR).await;
        assert!(!gate.is_wary_of(&right));
    }

    #[test]
    fn origins_and_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let gate = gate(folder.path());
        let local: SocketAddr = "127.0.0.1:9464".parse().unwrap();
        let admitted = |name: &str, value: &str| {
            status(gate.admit(&parts(&[("host", "127.0.0.1:9464"), (name, value)]), local, local))
        };
        for good in ["http://127.0.0.1:9464", "https://127.0.0.1:9464"] {
            assert_eq!(admitted("origin", good), Ok(false), "{good}");
        }
        for bad in
            ["null", "", "http://evil.example.com", "http://localhost:9464", "http://127.0.0.1", "file://"]
        {
            assert_eq!(admitted("origin", bad), Err(403), "{bad}");
        }
        for good in ["same-origin", "none"] {
            assert_eq!(admitted("sec-fetch-site", good), Ok(false), "{good}");
        }
        for bad in ["cross-site", "same-site", "", "new-site"] {
            assert_eq!(admitted("sec-fetch-site", bad), Err(403), "{bad}");
        }
        // A link that leads to the page.
        let mut link = parts(&[("host", "127.0.0.1:9464"), ("sec-fetch-site", "cross-site")]);
        link.uri = "/".parse().unwrap();
        assert_eq!(status(gate.admit(&link, local, local)), Err(403));
        link.method = Method::GET;
        assert_eq!(status(gate.admit(&link, local, local)), Ok(false));
        assert_eq!(admitted("authorization", "Bearer a long random text"), Ok(true));
        for bad in ["", "Bearer x", "Basic eDp5"] {
            assert_eq!(admitted("authorization", bad), Err(401), "{bad}");
        }
        let twice = parts(&[
            ("host", "localhost"),
            ("authorization", "Bearer a long random text"),
            ("authorization", "Bearer a long random text"),
        ]);
        assert_eq!(status(gate.admit(&twice, local, local)), Err(401));
    }

    #[test]
    fn what_a_route_asks_for() {
        let folder = tempfile::tempdir().unwrap();
        let named = gate(folder.path());
        let through = |access, shown, headers: &[(&str, &str)]| {
            named.let_through(&parts(headers), access, shown).map_err(|refused| refused.code())
        };
        let json = [("content-type", "application/json")];
        assert_eq!(through(Access::Token, true, &json), Ok(()));
        assert_eq!(
            through(Access::Token, true, &[("content-type", "Application/JSON; charset=utf-8")]),
            Ok(())
        );
        assert_eq!(through(Access::Token, false, &json), Err(401));
        for bad in [&[][..], &[("content-type", "text/plain")], &[("content-type", "application/jsonp")]] {
            assert_eq!(through(Access::Token, true, bad), Err(415), "{bad:?}");
        }
        // Questions need the token wherever others than programs of this machine may ask them.
        let own = |on_loopback| {
            let token = Token::read(&folder.path().join("admin.token")).unwrap();
            Gate::new(token, &[], on_loopback)
        };
        for (gate, headers, expected) in [
            (&own(true), &json[..], Ok(())),
            (&own(true), &[json[0], ("x-forwarded-for", "203.0.113.5")], Err(401)),
            (&own(true), &[json[0], ("via", "1.1 front")], Err(401)),
            (&own(true), &[json[0], ("x-forwarded-proto", "https")], Err(401)),
            (&own(true), &[json[0], ("X-Client-IP", "203.0.113.5")], Err(401)),
            (&own(true), &[json[0], ("cf-connecting-ip", "203.0.113.5")], Err(401)),
            (&own(true), &[json[0], ("accept", "*/*"), ("user-agent", "curl")], Ok(())),
            (&own(false), &json, Err(401)),
            (&named, &json, Err(401)),
        ] {
            let asked = parts(headers);
            let got = gate.let_through(&asked, Access::Machine, false).map_err(|refused| refused.code());
            assert_eq!(got, expected, "{headers:?}");
            assert!(gate.let_through(&asked, Access::Machine, true).is_ok());
            assert!(gate.let_through(&asked, Access::Anyone, false).is_ok());
        }
        // As nginx asks if it is told nothing of headers or versions.
        let mut old = parts(&json);
        old.version = Version::HTTP_10;
        assert!(own(true).let_through(&old, Access::Machine, false).is_err());
        assert!(own(true).let_through(&old, Access::Machine, true).is_ok());
    }
}
