//! Why a login was refused: stable codes for audit.log and metrics, and the text the player gets for each.

use std::fmt;

use crate::messages::MessageKey;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $message:ident;)*) => {
        /// A reason code. Codes are stable: they stand in audit.log and in metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable code.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The text that a player refused for this reason gets.
            pub const fn message(self) -> MessageKey {
                match self { $(Self::$variant => MessageKey::$message,)* }
            }
        }
    };
}

reasons! {
    /// The address, its subnet or ASN, or the pair of id and address is banned.
    Banned = "banned", TooManyAttempts;
    /// The owner lets this id in only with Mojang's word.
    MojangRequired = "mojang-required", MojangDownNotice;
    /// Neither the name nor the claimed id has a session.
    NoSession = "no-session", FallbackAuthFailed;
    /// The claimed id is not the session's.
    IdMismatch = "id-mismatch", FallbackAuthFailed;
    /// The owner locked the session until its next verified login.
    Locked = "locked", SessionLocked;
    /// The session is older than `max-session-age`.
    SessionExpired = "session-expired", SessionExpired;
    /// No verified presence for `recent-activity-days`.
    Inactive = "inactive", SessionExpired;
    /// Fewer verified logins than `min-login-history`.
    ShortHistory = "short-history", ShortHistory;
    /// The client address is a private one, at which all players may look alike.
    PrivateAddress = "private-address", AddressUnproven;
    /// Too many players share the client address.
    SharedAddress = "shared-address", AddressUnproven;
    /// The client address is none of the session's verified ones.
    AddressChanged = "address-changed", AddressChanged;
    /// The client's network (ASN) is in `blocked-asns`, or unknown while that list is in use.
    BlockedAsn = "blocked-asn", GeoDenied;
    /// Country and network are none of the session's.
    GeoChanged = "geo-changed", GeoDenied;
    /// Country and network could not be found out.
    GeoUnknown = "geo-unknown", GeoDenied;
    /// A connection of this player is up.
    AlreadyOnline = "already-online", AlreadyConnected;
    /// An older client than this player has used lately.
    WeakerClient = "weaker-client", NewerVersionNeeded;
    /// A PIN is required and the player has none.
    PinNotSet = "pin-not-set", PinNotSet;
    /// Wrong PIN codes.
    PinFailed = "pin-failed", PinFailure;
    /// No right PIN code in time.
    PinTimeout = "pin-timeout", PinFailure;
    /// The session server says that the player did not join.
    NotJoined = "not-joined", NotJoined;
    /// The session server throttles us.
    Throttled = "throttled", AuthUnavailable;
    /// The session server does not answer as it should.
    Unreachable = "unreachable", TryAgain;
    /// The session server's answer makes no sense.
    Unexpected = "unexpected", TryAgain;
    /// A limit of this machine was hit.
    Local = "local", TryAgain;
    /// Too many calls for unknown players, or too many logins from one address.
    RateLimited = "rate-limited", TryAgain;
    /// Too many connections.
    TooManyConnections = "too-many-connections", TryAgain;
    /// Not a Minecraft handshake, or a forged one.
    BadHandshake = "bad-handshake", BadHandshake;
    /// Not a username.
    BadName = "bad-name", BadName;
    /// The backends need a newer client.
    NewerVersionNeeded = "newer-version-needed", NewerVersionNeeded;
    /// Transfers are not accepted here.
    TransferRefused = "transfer-refused", TransferRefused;
    /// The client closed the connection.
    ClientLeft = "client-left", TryAgain;
    /// The client did not answer in time.
    ClientTimeout = "client-timeout", ClientTimeout;
    /// No backend answers.
    BackendUnavailable = "backend-unavailable", BackendUnavailable;
    /// The backend is not set up for this proxy.
    BackendMisconfigured = "backend-misconfigured", BackendMisconfigured;
    /// Another connection of the same player took this one's place.
    Displaced = "displaced", Displaced;
    /// The owner sent the player away.
    Kicked = "kicked", Kicked;
    /// The proxy stops.
    ShuttingDown = "shutting-down", ShuttingDown;
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
