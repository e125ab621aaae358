//! A web service that says where addresses are.

use std::{error::Error as _, fmt, net::IpAddr, time::Duration};

use reqwest::{
    Client, Response, StatusCode,
    header::{ACCEPT, HeaderMap, HeaderValue, RETRY_AFTER},
    redirect,
};

use super::answer::{self, NoPlace};
use crate::place::Place;

/// Longest answer that is read, in bytes. Real ones are below 2 KiB.
const MAX_BODY: usize = 64 * 1024;

/// Why a look-up brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The HTTP client could not be set up.
    #[error("the HTTPS client could not be set up (are CA certificates installed?)")]
    Client(#[source] reqwest::Error),
    /// No complete answer.
    #[error("{}", without_url(.0))]
    NoAnswer(#[source] reqwest::Error),
    /// No complete answer within the time there was.
    #[error("no answer in time")]
    TimedOut,
    /// A status other than 200.
    #[error("it answered with status {0}")]
    Status(u16),
    /// It is asked too often, or has too much to do.
    #[error("it answered with status {status}")]
    Throttled {
        /// 429, or 503 with a time.
        status: u16,
        /// When it may be asked again, if it says so.
        wait: Option<Duration>,
    },
    /// A body beyond the cap.
    #[error("its answer is longer than {} KiB", MAX_BODY / 1024)]
    TooLong,
    /// A body that tells nothing.
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
}

/// The innermost cause: the URL may hold the owner's key for the service.
fn without_url(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause = error.source();
    while let Some(deeper) = cause.and_then(std::error::Error::source) {
        cause = Some(deeper);
    }
    cause.map_or_else(|| "no answer".to_owned(), ToString::to_string)
}

/// A web provider.
#[derive(Clone)]
pub struct Provider {
    client: Client,
    /// Its URL, with `{ip}` for the address.
    url: String,
}

/// Without the URL, which may hold the owner's key for the service.
impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").finish_non_exhaustive()
    }
}

impl Provider {
    /// Sets up the HTTP client; connects to nothing. Each look-up takes at most `timeout`.
    ///
    /// # Errors
    /// [`LookupError::Client`] on a machine without CA certificates.
    pub fn new(url: &str, timeout: Duration) -> Result<Self, LookupError> {
        // An error means that a provider is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Some services send a page to whoever does not ask for this.
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let client = Client::builder()
            .default_headers(headers)
            .user_agent(concat!("Postern/", env!("CARGO_PKG_VERSION")))
            .timeout(timeout)
            .connect_timeout(timeout)
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .build()
            .map_err(LookupError::Client)?;
        Ok(Self { client, url: url.to_owned() })
    }

    /// Asks where an address is. The caller sees to it that the address is a public one.
    ///
    /// # Errors
    /// See [`LookupError`]; none shows the URL.
    pub async fn look_up(&self, address: IpAddr) -> Result<Place, LookupError> {
        let url = self.url.replace("{ip}", &address.to_string());
        let no_answer = |error: reqwest::Error| LookupError::NoAnswer(error.without_url());
        let mut response = self.client.get(url).send().await.map_err(no_answer)?;
        if response.status() != StatusCode::OK {
            return Err(refusal(&response));
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(no_answer)? {
            if body.len() + piece.len() > MAX_BODY {
                return Err(LookupError::TooLong);
            }
            body.extend_from_slice(&piece);
        }
        answer::read(&body, address).map_err(|error| match error {
            NoPlace::Refused(said) if self.repeats_a_part(&said) => {
                NoPlace::Refused("it repeats a part of the URL, so its words are not shown".to_owned()).into()
            }
            other => other.into(),
        })
    }
}

/// What a status other than 200 says. A date instead of seconds is not read: the services that are asked count.
fn refusal(response: &Response) -> LookupError {
    let status = response.status().as_u16();
    let after = response.headers().get(RETRY_AFTER).and_then(|wait| wait.to_str().ok());
    let wait = after.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
    match response.status() {
        StatusCode::TOO_MANY_REQUESTS => LookupError::Throttled { status, wait },
        StatusCode::SERVICE_UNAVAILABLE if wait.is_some() => LookupError::Throttled { status, wait },
        _ => LookupError::Status(status),
    }
}

impl Provider {
    /// Whether a text repeats a part of the URL that could be a key.
    fn repeats_a_part(&self, text: &str) -> bool {
        /// Shorter ones are names of fields.
        const KEY: usize = 8;
        let parts = self.url.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
        parts.filter(|part| part.len() >= KEY).any(|part| text.contains(part))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Answers one request with these bytes; returns the request.
    async fn answer_once(listener: TcpListener, answer: Vec<u8>) -> String {
        let mut stream = listener.accept().await.unwrap().0;
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
        // A client that has heard enough may be gone.
        let _ = stream.write_all(&answer).await;
        String::from_utf8(request).unwrap()
    }

    async fn look_up(answer: impl Into<Vec<u8>>) -> (String, Result<Place, LookupError>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/{{ip}}?key=hush-hush", listener.local_addr().unwrap());
        let provider = Provider::new(&url, Duration::from_secs(10)).unwrap();
        tokio::join!(answer_once(listener, answer.into()), provider.look_up("203.0.113.5".parse().unwrap()))
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn asks_for_the_address() {
        let (request, place) = look_up(ok(r#"{"country_code":"US","connection":{"asn":64496}}"#)).await;
        assert!(request.starts_with("GET /203.0.113.5?key=hush-hush HTTP/1.1\r\n"), "{request}");
        assert_eq!(place.unwrap().to_string(), "country US, network AS64496");
    }

    #[tokio::test]
    async fn failures_are_told_and_hide_the_url() {
        let long = format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(MAX_BODY + 1));
        let redirect = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
        for (answer, expected) in [
            ("HTTP/1.1 429 No\r\nContent-Length: 0\r\n\r\n".to_owned(), "it answered with status 429"),
            (redirect.to_owned(), "it answered with status 302"),
            (ok("<html>"), "the answer is not a JSON object"),
            (long, "its answer is longer than 64 KiB"),
            (
                ok(r#"{"success":false,"message":"hush-hush is no key"}"#),
                "the provider refused: it repeats a part of the URL, so its words are not shown",
            ),
        ] {
            let error = look_up(answer).await.1.unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        let error = look_up("").await.1.unwrap_err();
        assert!(!error.to_string().is_empty());
        let mut shown = vec![format!("{error} {error:?}")];
        let mut source = error.source();
        while let Some(deeper) = source {
            shown.push(format!("{deeper} {deeper:?}"));
            source = deeper.source();
        }
        let shown = shown.concat();
        assert!(!shown.contains("hush"), "{shown}");
        let provider = Provider::new("http://127.0.0.1/{ip}?key=hush", Duration::from_secs(1)).unwrap();
        assert!(!format!("{provider:?}").contains("hush"));
    }
}
