//! Errors of this machine, which say nothing about whom it wanted to talk to.

use std::io;

/// Whether this machine, or the limit set for this process, has nothing left to open a connection with.
pub fn is_shortage(error: &io::Error) -> bool {
    // No stable `ErrorKind` exists for these; the first two are the same on every Unix. Windows numbers its own.
    const EMFILE: i32 = if cfg!(windows) { 10_024 } else { 24 };
    const ENFILE: i32 = if cfg!(windows) { EMFILE } else { 23 };
    const ENOBUFS: i32 = if cfg!(windows) {
        10_055
    } else if cfg!(target_os = "linux") {
        105
    } else {
        55
    };

    let by_code = error.raw_os_error().is_some_and(|code| [EMFILE, ENFILE, ENOBUFS].contains(&code));
    by_code || error.kind() == io::ErrorKind::OutOfMemory
}

/// Whether a connection failed here, before anything could reach the other side: for want of something, of a way out,
/// or of permission.
pub fn is_local(error: &io::Error) -> bool {
    let of_the_system = error.raw_os_error().is_some();
    let by_kind = matches!(
        error.kind(),
        // EAGAIN: no thread, or no local port, to be had just now. Sockets that only have to wait never show it.
        io::ErrorKind::WouldBlock
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::PermissionDenied
    );
    of_the_system && (by_kind || is_shortage(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_here_is_told_from_what_happened_there() {
        if !cfg!(target_os = "linux") {
            return;
        }
        let of = io::Error::from_raw_os_error;
        // EMFILE, ENFILE, ENOBUFS, ENOMEM.
        for code in [24, 23, 105, 12] {
            assert!(is_shortage(&of(code)) && is_local(&of(code)), "{code}");
        }
        // EPERM, EAGAIN, EACCES, EADDRNOTAVAIL, ENETDOWN, ENETUNREACH.
        for code in [1, 11, 13, 99, 100, 101] {
            assert!(!is_shortage(&of(code)) && is_local(&of(code)), "{code}");
        }
        // EINTR, EINVAL, EPROTO, ECONNABORTED, ECONNRESET, ETIMEDOUT, ECONNREFUSED, EHOSTUNREACH.
        for code in [4, 22, 71, 103, 104, 110, 111, 113] {
            assert!(!is_shortage(&of(code)) && !is_local(&of(code)), "{code}");
        }
        assert!(!is_local(&io::ErrorKind::PermissionDenied.into()), "the system said nothing");
    }
}
