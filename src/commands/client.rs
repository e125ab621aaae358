//! Asks a running proxy, through its admin interface.

use std::{
    fmt::Display,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

use super::{Alone, Failure};
use crate::{
    admin::{Config, Token, TokenError},
    foreign,
};

/// Longest wait for a connection, in the same machine most often.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Longest wait for an answer: longer than the proxy itself waits for its disk.
const ANSWER_TIME: Duration = Duration::from_mins(1);
/// Longest answer, in bytes: the list of a million players has some 500 MB.
const MAX_ANSWER: usize = 1 << 30;
/// Longest error of a proxy that is shown, in characters.
const MAX_ERROR: usize = 600;

/// A connection to the admin interface of the proxy that holds the store.
pub(super) struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
    token: HeaderValue,
    address: SocketAddr,
    token_file: PathBuf,
    /// Says who holds the store; stands in front of every error.
    holder: String,
}

impl Client {
    /// Connects to the proxy whose interface listens there, as it said itself. Nothing is shown to it yet.
    pub(super) async fn connect(
        config: &Config,
        listens_at: SocketAddr,
        holder: String,
        alone: Alone,
    ) -> Result<Self, Failure> {
        let unavailable = |what: &dyn Display| Failure::unavailable(format_args!("{holder}, {what}"));
        let address = reached_at(listens_at);
        let token = Token::read(&config.token_file).map_err(|error| {
            let hint = match &error {
                TokenError::Missing { .. } => {
                    ": it was removed, or the proxy runs with another configuration; use that one (--config), or restart \
                     the proxy with this one"
                }
                TokenError::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                    "; use the command as the user that runs the proxy"
                }
                _ => "",
            };
            unavailable(&format_args!("and {error}{hint}"))
        })?;
        let bearer = token.bearer();
        let mut token = HeaderValue::from_bytes(bearer.expose_secret())
            .map_err(|_| unavailable(&"and the admin token cannot stand in a header"))?;
        token.set_sensitive(true);
        let unreached = |why: &dyn Display| {
            unavailable(&format_args!(
                "which cannot be reached at {address}: {why}; see what it says about its admin interface in its log{}",
                alone.way_out()
            ))
        };
        let stream = match timeout(CONNECT_TIME, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreached(&error)),
            Err(_) => return Err(unreached(&"nobody takes the connection")),
        };
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreached(&error))?;
        // Its end, in order or not, is seen by who waits for an answer.
        tokio::spawn(connection);
        let host = HeaderValue::from_str(&address.to_string()).map_err(|error| unreached(&error))?;
        Ok(Self { sender, host, token, address, token_file: config.token_file.clone(), holder })
    }

    /// Asks.
    pub(super) async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Failure> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// Asks for a change.
    pub(super) async fn post<T: DeserializeOwned>(&mut self, path: &str, what: &Value) -> Result<T, Failure> {
        self.ask(Method::POST, path, what.to_string().into()).await
    }

    async fn ask<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.host)
            .header(AUTHORIZATION, &self.token)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body));
        let request = request.map_err(Failure::new)?;
        let answered = timeout(ANSWER_TIME, async {
            self.sender.ready().await.map_err(|error| self.unavailable(&error))?;
            let answer = self.sender.send_request(request).await.map_err(|error| self.unavailable(&error))?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let body = body.map_err(|error| self.unavailable(&error))?;
            Ok((parts.status, body.to_bytes()))
        });
        let (status, body) = answered.await.map_err(|_| self.unavailable(&"no answer"))??;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|_| self.is_something_else());
        }
        let error = serde_json::from_slice::<Value>(&body).ok();
        let error = error.as_ref().and_then(|error| error.get("error")).and_then(Value::as_str);
        let Some(error) = error.map(|error| foreign::clean_to(error, MAX_ERROR)) else {
            return Err(self.is_something_else());
        };
        Err(match status {
            StatusCode::UNAUTHORIZED => Failure::unavailable(format_args!(
                "{}, which does not take the admin token {}: it was changed, or the proxy runs with another configuration; \
                 use that one (--config), or restart the proxy with this one",
                self.holder,
                self.token_file.display()
            )),
            StatusCode::FORBIDDEN => Failure::unavailable(format_args!("{}: {error}", self.holder)),
            _ => Failure::new(error),
        })
    }

    fn unavailable(&self, why: &dyn Display) -> Failure {
        Failure::unavailable(format_args!(
            "{}, which does not answer at {}: {why}; look into its log",
            self.holder, self.address
        ))
    }

    fn is_something_else(&self) -> Failure {
        Failure::unavailable(format_args!(
            "{}, and what it answers at {} is nothing that this command understands: it is of another version; restart it",
            self.holder, self.address
        ))
    }
}

/// Where an interface that listens there is reached from this machine.
pub(super) fn reached_at(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_an_interface_is_reached() {
        for (listen, reached) in [
            ("127.0.0.1:9464", "127.0.0.1:9464"),
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:9464", "[::1]:9464"),
            ("192.0.2.7:1", "192.0.2.7:1"),
        ] {
            assert_eq!(reached_at(listen.parse().unwrap()).to_string(), reached);
        }
    }
}
