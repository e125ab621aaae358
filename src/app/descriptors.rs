//! How many connections the descriptor limit allows.

use crate::limit::gate::MAX_LEAVING;

/// A player has a connection to its client and one to its backend.
const PER_CONNECTION: u64 = 2;

/// What is open beside the players: listening sockets, logs, documents being read and written, probes, the admin
/// interface, libraries. (A login's has-joined call needs a descriptor too, but has no backend yet.)
const RESERVE: u64 = 128 + MAX_LEAVING as u64;

/// Raises the soft limit of open files to the hard one, and lowers `wanted` connections to what that allows: then with a
/// warning for the owner.
pub(super) fn connections(wanted: u32) -> (u32, Option<String>) {
    let limit = raised();
    let allowed = allowed(limit);
    if u64::from(wanted) <= allowed {
        return (wanted, None);
    }
    let allowed = u32::try_from(allowed).unwrap_or(u32::MAX);
    let warning = format!(
        "network.max-connections is {wanted}, but only {} files may be open at once (ulimit -n), two for each \
         connection: at most {allowed} connections are taken. To have them all, raise that limit to {} (LimitNOFILE= in \
         a systemd unit, --ulimit nofile= with Docker)",
        limit.unwrap_or(u64::MAX),
        u64::from(wanted) * PER_CONNECTION + RESERVE
    );
    (allowed, Some(warning))
}

/// Most files that may be open at once, after the soft limit was raised as far as it goes; `None` is no limit.
#[cfg(unix)]
fn raised() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use tracing::{debug, info};

    /// What macOS takes at most, although it says that it has no limit.
    const OPEN_MAX: u64 = 10_240;

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    let raise = |to| setrlimit(Resource::Nofile, Rlimit { current: to, maximum }).map(|()| to);
    let less = |error| match current {
        Some(current) if current < OPEN_MAX => raise(Some(OPEN_MAX)).map_err(|_| error),
        _ => Err(error),
    };
    match raise(maximum).or_else(less) {
        Ok(to) => {
            debug!(from = current, to, "raised the limit of open files");
            to
        }
        Err(error) => {
            info!(%error, limit = current, "the limit of open files could not be raised to what is allowed");
            current
        }
    }
}

/// Other systems have no such limit that comes before that of memory.
#[cfg(not(unix))]
fn raised() -> Option<u64> {
    None
}

/// How many connections so many descriptors are enough for. A tiny limit is shared with the reserve by halves: a proxy
/// for a few is better than none.
fn allowed(limit: Option<u64>) -> u64 {
    let Some(limit) = limit else { return u64::MAX };
    (limit - RESERVE.min(limit / 2)) / PER_CONNECTION
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    use rustix::process::{Resource, Rlimit, getrlimit};

    use super::*;

    #[test]
    fn two_for_each_connection_less_a_reserve() {
        for (limit, expected) in [
            (None, u64::MAX),
            (Some(65_536), 32_672),
            (Some(1024), 416),
            (Some(384), 96),
            (Some(64), 16),
            (Some(0), 0),
        ] {
            assert_eq!(allowed(limit), expected, "{limit:?}");
        }
    }

    #[test]
    fn few_connections_are_always_allowed() {
        assert_eq!(connections(4), (4, None));
        #[cfg(target_os = "linux")]
        {
            let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
            assert_eq!(current, maximum, "the soft limit is the hard one now");
        }
    }
}
