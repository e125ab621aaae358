//! Every text a player sees, by key. `&` and a code start a colour; `%timeout%`, `%player%`, `%reason%` are filled in.

macro_rules! messages {
    ($($(#[doc = $doc:literal])* $variant:ident = $key:literal, $default:literal;)*) => {
        /// The key of a text, as it stands under `messages` in the configuration.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum MessageKey { $($(#[doc = $doc])* $variant,)* }

        impl MessageKey {
            /// Every key, in the order of the example configuration.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The key in the configuration.
            pub const fn key(self) -> &'static str {
                match self { $(Self::$variant => $key,)* }
            }

            /// When it is shown, and to whom.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),*),)* }
            }

            /// The built-in text.
            pub const fn default_text(self) -> &'static str {
                match self { $(Self::$variant => $default,)* }
            }
        }
    };
}

messages! {
    /// First chat line of a player admitted by policy.
    FallbackAuthActive = "fallback-auth-active", "&eAuthentication servers are down. Using cached session.";
    /// No session, or another id's.
    FallbackAuthFailed = "fallback-auth-failed", "&cCannot authenticate: No cached session found.";
    /// Session too old or inactive.
    SessionExpired = "session-expired", "&cYour session has expired. Please try again when auth servers are online.";
    /// The outage itself; also the status line while it lasts.
    MojangDownNotice = "mojang-down-notice", "&7Mojang authentication servers appear to be down.";
    /// Asks for the PIN.
    PinPrompt = "pin-prompt", "&ePlease verify your identity: use &6/pin <code>&e within &6%timeout%s";
    /// The PIN was right.
    PinSuccess = "pin-success", "&aVerification successful.";
    /// The PIN was wrong.
    PinFailure = "pin-failure", "&cIncorrect PIN.";
    /// A PIN is required and none is set.
    PinNotSet = "pin-not-set", "&cPINs are required during outages and you have none yet.";
    /// Reminder to set a PIN.
    PinRequiredNotice = "pin-required-notice", "&ePins are required during auth outages. Set your PIN with &6/setpin <code>&e.";
    /// The PIN was saved.
    PinSaved = "pin-saved", "&aYour PIN is saved. You are asked for it when you join while the authentication servers are down.";
    /// `/pin` by somebody who has one, and is not asked for it.
    PinExists = "pin-exists", "&eYou have a PIN already. Change it with &6/setpin <code>&e.";
    /// The PIN is gone.
    PinReset = "pin-reset", "&eYour PIN is removed.";
    /// There was none to remove.
    PinNone = "pin-none", "&eYou have no PIN.";
    /// How the command is used.
    PinUsage = "pin-usage", "&eUse &6/setpin <code>&e to set a PIN, &6/pin <code>&e to enter it, &6/resetpin&e to remove it.";
    /// The PIN to be set is a weak one.
    PinWeak = "pin-weak", "&cThat PIN cannot be used: %reason%.";
    /// Not now: only on a verified connection, or one that has proven its PIN.
    PinNotNow = "pin-not-now", "&cThat works only after you joined while the authentication servers were online.";
    /// The PIN is removed only while the session server answers.
    PinResetLater = "pin-reset-later", "&cYour PIN can be removed only while the authentication servers are online.";
    /// A command right behind another.
    PinTooFast = "pin-too-fast", "&eNot so fast. Please wait a moment and try again.";
    /// As many commands as there may be in ten minutes.
    PinTooMany = "pin-too-many", "&eToo many PIN commands. You can give the next one in %timeout% seconds.";
    /// A PIN cannot be checked or set now: another code of this player is, or too many of others.
    PinBusy = "pin-busy", "&eYour PIN could not be checked or set just now. Please try again in a moment.";
    /// The PIN could not be saved.
    PinNotSaved = "pin-not-saved", "&cYour PIN could not be saved. Please try again later, and tell the server's owner.";
    /// The player's chat does not fit any more: it was left out while the PIN was asked for.
    PinRejoin = "pin-rejoin", "&eSomething you wrote could not be passed on, and without it your chat does not work. Please rejoin, and enter the PIN without chatting first.";
    /// Title of the dialog that asks for the PIN.
    PinDialogTitle = "pin-dialog-title", "Verify your identity";
    /// What the dialog explains.
    PinDialogText = "pin-dialog-text", "The authentication servers are down. Enter your PIN to join as %player%. You have %timeout% seconds. It is visible while you type.";
    /// Label of the dialog's text field.
    PinDialogField = "pin-dialog-field", "PIN";
    /// The dialog's button to go on.
    PinDialogSubmit = "pin-dialog-submit", "Join";
    /// The dialog's button to give up.
    PinDialogLeave = "pin-dialog-leave", "Leave";
    /// Staff: a player joined by policy.
    AlertFallback = "alert-fallback", "&6[Postern] &e%player%&7 joined without Mojang from &f%address%&7: %reason%";
    /// Staff: a player came from elsewhere.
    AlertGeo = "alert-geo", "&6[Postern] &e%player%&7 came from &f%place%&7, so far from %known%";
    /// Staff: the session servers went down, or answer again.
    AlertState = "alert-state", "&6[Postern] &7authentication servers: &f%state%&7 (%reason%)";
    /// Staff: somebody was banned.
    AlertBan = "alert-ban", "&6[Postern] &7banned &f%target%&7 until %until%: %count% failures";
    /// Staff: there was more than fits.
    AlertMore = "alert-more", "&6[Postern] &7and more: %count%";
    /// Country or network rules.
    GeoDenied = "geo-denied", "&cConnection denied due to location or network change. Please try again later.";
    /// The owner locked the session.
    SessionLocked = "session-locked", "&cYour saved session is locked. Join once while the authentication servers are online to unlock it.";
    /// Too few verified logins.
    ShortHistory = "short-history", "&cThe authentication servers are down, and you have not played here often enough yet to join without them.";
    /// The client address proves nothing.
    AddressUnproven = "address-unproven", "&cThe authentication servers are down, and your network address cannot vouch for you. Please try again when they are online.";
    /// The client address is a new one.
    AddressChanged = "address-changed", "&cThe authentication servers are down, and you are connecting from a new network address. Please try again from your usual one, or when they are online.";
    /// The client is too old.
    NewerVersionNeeded = "newer-version-needed", "&cThis server needs a newer Minecraft version. Please join with a newer one.";
    /// The session server said no.
    NotJoined = "not-joined", "&cFailed to verify username! Restart your game and launcher, then try again.";
    /// A passing fault.
    TryAgain = "try-again", "&eYour login could not be checked just now. Please try again in a moment.";
    /// The session server throttles us.
    AuthUnavailable = "auth-unavailable", "&eThe authentication servers are busy. Please try again in a minute.";
    /// No backend answers.
    BackendUnavailable = "backend-unavailable", "&eThe game server is not answering right now. Please try again in a moment.";
    /// The backend refuses this proxy.
    BackendMisconfigured = "backend-misconfigured", "&cThe game server is not set up for this proxy. Please tell its owner.";
    /// Already connected.
    AlreadyConnected = "already-connected", "&cYou are already connected to this server.";
    /// Another login took over.
    Displaced = "displaced", "&eYou logged in from another place.";
    /// The owner sent the player away, and gave no text for it.
    Kicked = "kicked", "&eYou were disconnected by this server's staff.";
    /// Banned for failures.
    TooManyAttempts = "too-many-attempts", "&cToo many failed attempts. Please try again later.";
    /// The proxy stops.
    ShuttingDown = "shutting-down", "&eThe server is restarting. Please try again in a minute.";
    /// A broken or forged handshake.
    BadHandshake = "bad-handshake", "&cYour client sent something this server does not understand.";
    /// Not a username.
    BadName = "bad-name", "&cYour username is not valid here: 1 to 16 letters, digits and underscores.";
    /// Transfers are off.
    TransferRefused = "transfer-refused", "&cThis server does not accept transfers from other servers.";
    /// The client was too slow.
    ClientTimeout = "client-timeout", "&cYour login took too long. Please try again.";
    /// Server list text when no backend answers.
    BackendOffline = "backend-offline", "&cThe game server is not answering right now.";
}

/// The texts in force: the built-in ones, replaced where the owner wrote their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Messages {
    texts: Vec<String>,
}

impl Default for Messages {
    fn default() -> Self {
        Self { texts: MessageKey::ALL.iter().map(|key| key.default_text().to_owned()).collect() }
    }
}

impl Messages {
    /// Replaces one text.
    pub fn set(&mut self, key: MessageKey, text: String) {
        if let Some(slot) = self.texts.get_mut(key as usize) {
            *slot = text;
        }
    }

    /// The text under `key`, with its colour codes and placeholders.
    pub fn text(&self, key: MessageKey) -> &str {
        self.texts.get(key as usize).map_or(key.default_text(), String::as_str)
    }
}
