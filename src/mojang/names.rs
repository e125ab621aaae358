//! Where the session server is, for logins: what was found last, so that a login does not wait for a name server.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::{Instant, timeout};

/// How long an answer serves without asking again: with the built-in interval four probes, of which each looks the
/// name up.
pub(super) const FRESH: Duration = Duration::from_mins(2);

/// Longest wait for a look-up if there is an older answer to go on with.
const PATIENCE: Duration = Duration::from_secs(1);

/// How old an answer may be to go on with. Name servers that fail for longer than this are no passing fault, and an
/// address may be somebody else's by then.
const OLDEST: Duration = Duration::from_hours(24);

/// The newest answer to a look-up. Clones share it. There is one session server, so one name is kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    newest: Arc<Mutex<Option<Answer>>>,
    /// Held by the one login that looks up although there is an answer to go on with. A look-up that gets no answer
    /// holds a thread for many seconds, and a flood of logins would take them all.
    looking: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Clone, Debug)]
struct Answer {
    name: String,
    addresses: Arc<[SocketAddr]>,
    at: Instant,
}

impl Found {
    fn note(&self, name: &str, addresses: &Arc<[SocketAddr]>) {
        // A name without addresses serves nobody.
        if !addresses.is_empty() {
            let answer =
                Answer { name: name.to_owned(), addresses: Arc::clone(addresses), at: Instant::now() };
            *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        }
    }

    /// The newest answer for this name, and how old it is.
    fn newest(&self, name: &str) -> Option<(Arc<[SocketAddr]>, Duration)> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = newest.as_ref().filter(|answer| answer.name == name)?;
        Some((Arc::clone(&answer.addresses), answer.at.elapsed())).filter(|(_, age)| *age <= OLDEST)
    }
}

/// Always looks up, and notes what it finds: for probes. A dead name server must fail them.
#[derive(Debug)]
pub(super) struct Noting<R> {
    inner: Arc<R>,
    found: Found,
}

impl<R> Noting<R> {
    pub(super) fn new(inner: R, found: Found) -> Self {
        Self::sharing(Arc::new(inner), found)
    }

    /// With what others look up by as well.
    pub(super) fn sharing(inner: Arc<R>, found: Found) -> Self {
        Self { inner, found }
    }
}

impl<R: Resolve + 'static> Resolve for Noting<R> {
    fn resolve(&self, name: Name) -> Resolving {
        let (asked, found) = (name.as_str().to_owned(), self.found.clone());
        let looked_up = self.inner.resolve(name);
        Box::pin(async move {
            let addresses: Arc<[SocketAddr]> = looked_up.await?.collect();
            found.note(&asked, &addresses);
            Ok(all(addresses))
        })
    }
}

/// Answers from what was found not longer than `fresh` ago; looks up otherwise, and goes on with what is older if that
/// fails or takes long: for logins. While the name server is down, the session server may be well. What stands behind
/// an old address has to show the session server's certificate all the same. (Over http:// nobody shows any.)
#[derive(Debug)]
pub(super) struct Remembering<R> {
    inner: Arc<Noting<R>>,
    found: Found,
    fresh: Duration,
}

impl<R> Remembering<R> {
    pub(super) fn new(inner: R, found: Found, fresh: Duration) -> Self {
        Self { inner: Arc::new(Noting::new(inner, found.clone())), found, fresh }
    }
}

impl<R: Resolve + 'static> Resolve for Remembering<R> {
    fn resolve(&self, name: Name) -> Resolving {
        let Some((known, age)) = self.found.newest(name.as_str()) else { return self.inner.resolve(name) };
        if age < self.fresh {
            return Box::pin(std::future::ready(Ok(all(known))));
        }
        let Ok(only_one) = Arc::clone(&self.found.looking).try_lock_owned() else {
            return Box::pin(std::future::ready(Ok(all(known))));
        };
        let looked_up = self.inner.resolve(name);
        // A task of its own: the look-up goes on, and is the only one, however soon the login gives it up.
        let looked_up = tokio::spawn(async move {
            let found = looked_up.await;
            drop(only_one);
            found
        });
        Box::pin(async move {
            match timeout(PATIENCE, looked_up)
                .await
                .map(|found| found.unwrap_or_else(|panic| Err(panic.into())))
            {
                Ok(Ok(addresses)) => {
                    let mut addresses = addresses.peekable();
                    Ok(if addresses.peek().is_some() { Box::new(addresses) } else { all(known) })
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the session server's name was not found; its last address serves on");
                    Ok(all(known))
                }
                Err(_) => {
                    tracing::debug!("no name server answers; the session server's last address serves on");
                    Ok(all(known))
                }
            }
        })
    }
}

fn all(addresses: Arc<[SocketAddr]>) -> Addrs {
    Box::new((0..addresses.len()).filter_map(move |at| addresses.get(at).copied()))
}

/// Looks up as the operating system does, on the runtime's pool of blocking threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct System;

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: io::Result<Vec<SocketAddr>> =
                tokio::net::lookup_host((name.as_str(), 0)).await.map(Iterator::collect);
            Ok(Box::new(found?.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Dns {
        /// One address, which ends in this.
        Is(u8),
        Nothing,
        Fails,
        Hangs,
    }

    /// A name server, and how often it was asked.
    #[derive(Clone, Debug)]
    struct Fake(Arc<Mutex<(Dns, u32)>>);

    impl Fake {
        fn new(dns: Dns) -> Self {
            Self(Arc::new(Mutex::new((dns, 0))))
        }

        fn set(&self, dns: Dns) {
            self.0.lock().unwrap().0 = dns;
        }

        fn asked(&self) -> u32 {
            self.0.lock().unwrap().1
        }
    }

    impl Resolve for Fake {
        fn resolve(&self, _: Name) -> Resolving {
            let mut state = self.0.lock().unwrap();
            state.1 += 1;
            let dns = state.0;
            Box::pin(async move {
                match dns {
                    Dns::Is(last) => Ok(all([SocketAddr::from(([192, 0, 2, last], 0))].into())),
                    Dns::Nothing => Ok(all([].into())),
                    Dns::Fails => Err(io::Error::other("SERVFAIL").into()),
                    Dns::Hangs => std::future::pending().await,
                }
            })
        }
    }

    /// The last numbers of the addresses found; `None` is a failed look-up.
    async fn ask(resolver: &impl Resolve, name: &str) -> Option<Vec<u8>> {
        let found = resolver.resolve(name.parse().unwrap()).await.ok()?;
        let last = |address: SocketAddr| match address.ip() {
            std::net::IpAddr::V4(v4) => v4.octets()[3],
            std::net::IpAddr::V6(_) => panic!("{address}"),
        };
        Some(found.map(last).collect())
    }

    const HOST: &str = "sessions.example.com";

    struct Scene {
        probes_ask: Fake,
        logins_ask: Fake,
        probe: Noting<Fake>,
        login: Remembering<Fake>,
        retry: Remembering<Fake>,
    }

    fn scene() -> Scene {
        let (probes_ask, logins_ask, found) =
            (Fake::new(Dns::Is(1)), Fake::new(Dns::Is(2)), Found::default());
        Scene {
            probe: Noting::new(probes_ask.clone(), found.clone()),
            login: Remembering::new(logins_ask.clone(), found.clone(), FRESH),
            retry: Remembering::new(logins_ask.clone(), found, Duration::ZERO),
            probes_ask,
            logins_ask,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn logins_use_what_a_probe_has_found() {
        let s = scene();
        assert_eq!(ask(&s.probe, HOST).await, Some(vec![1]));
        advance(Duration::from_millis(119_999)).await;
        assert_eq!(ask(&s.login, HOST).await, Some(vec![1]));
        assert_eq!(s.logins_ask.asked(), 0);
        assert_eq!(ask(&s.login, "other.example.com").await, Some(vec![2]), "that is about another name");
        assert_eq!(ask(&s.login, HOST).await, Some(vec![2]), "one name is kept");
        assert_eq!(s.logins_ask.asked(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn logins_look_up_what_is_old_or_unknown() {
        let s = scene();
        assert_eq!(ask(&s.login, HOST).await, Some(vec![2]), "no probe has answered yet");
        s.logins_ask.set(Dns::Is(3));
        assert_eq!(ask(&s.login, HOST).await, Some(vec![2]));
        assert_eq!(s.logins_ask.asked(), 1, "their own answers serve too");
        advance(FRESH).await;
        assert_eq!(ask(&s.login, HOST).await, Some(vec![3]));
        assert_eq!(ask(&s.retry, HOST).await, Some(vec![3]));
        assert_eq!(s.logins_ask.asked(), 3, "a retry looks up itself");
        assert_eq!(s.probes_ask.asked(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_name_server_fails_probes_but_no_login() {
        let s = scene();
        assert_eq!(ask(&s.probe, HOST).await, Some(vec![1]));
        s.probes_ask.set(Dns::Fails);
        for dead in [Dns::Fails, Dns::Nothing, Dns::Hangs] {
            s.logins_ask.set(dead);
            assert_eq!(ask(&s.probe, HOST).await, None);
            for resolver in [&s.login, &s.retry] {
                let begin = Instant::now();
                assert_eq!(ask(resolver, HOST).await, Some(vec![1]), "{dead:?}");
                assert!(begin.elapsed() <= PATIENCE);
            }
            advance(Duration::from_hours(1)).await;
        }
        assert_eq!(s.probes_ask.asked(), 4, "each probe asks");
        // An old answer is not taken for a new one; but who finds another look-up under way does not begin one.
        assert_eq!(s.logins_ask.asked(), 4);
        advance(OLDEST).await;
        s.logins_ask.set(Dns::Fails);
        assert_eq!(ask(&s.login, HOST).await, None, "too old");
    }

    #[tokio::test(start_paused = true)]
    async fn without_any_answer_a_failure_is_one() {
        let s = scene();
        s.logins_ask.set(Dns::Fails);
        assert_eq!(ask(&s.login, HOST).await, None);
        s.logins_ask.set(Dns::Nothing);
        assert_eq!(ask(&s.login, HOST).await, Some(Vec::new()));
        s.logins_ask.set(Dns::Is(9));
        assert_eq!(ask(&s.login, HOST).await, Some(vec![9]), "neither is kept");
    }

    #[tokio::test]
    async fn the_system_knows_this_machine() {
        let found = System.resolve("localhost".parse().unwrap()).await.unwrap().collect::<Vec<_>>();
        assert!(!found.is_empty() && found.iter().all(|address| address.ip().is_loopback()));
    }
}
