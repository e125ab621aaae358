//! The checks that take a login: what each outcome means in each mode of forwarding.

use std::time::Duration;

use secrecy::SecretSlice;
use tokio::time::sleep;

use super::{Exam, Stop, check};
use crate::{
    backend::{
        Fault, ForwardingMode,
        diagnose::{exposure, kind_of, shown},
        probe::{self, Approach, Claim, End, Heard},
    },
    doctor::report::{Area, Finding, Verdict},
};

/// What is waited before the next login at a backend that throttles connections: it counts 4 s unless told otherwise.
const THROTTLE_TIME: Duration = Duration::from_secs(5);

/// How often that is done for one backend: enough for its three logins.
const MAX_WAITS: u32 = 2;

impl Exam<'_> {
    /// All of them, as the backend's mode wants them.
    pub(super) async fn logins(&mut self, approach: &Approach) -> Result<(), Stop> {
        match self.backend.forwarding {
            ForwardingMode::Modern => self.modern(approach).await,
            ForwardingMode::Legacy | ForwardingMode::BungeeGuard => self.host_fields(approach).await,
            ForwardingMode::None => self.unforwarded(approach).await,
        }
    }

    /// One login. What no check can do anything with ends the examination.
    async fn login(&mut self, approach: &Approach, claim: Claim<'_>) -> Result<Heard, Stop> {
        loop {
            let heard = probe::login(self.backend, approach, claim, self.connect_timeout).await;
            match heard.fault(self.backend.forwarding) {
                Some(fault @ Fault::Throttled { .. }) => {
                    self.throttle = Some(fault);
                    if self.waits == MAX_WAITS {
                        return Err(Stop::because("it throttles connections"));
                    }
                    self.waits += 1;
                    sleep(THROTTLE_TIME).await;
                }
                Some(fault @ Fault::OnlineMode) => {
                    self.fault(check::ONLINE_MODE, Verdict::Error, &fault);
                    return Err(Stop::because("it is in online mode"));
                }
                Some(
                    fault @ (Fault::Unreachable { .. }
                    | Fault::Silent
                    | Fault::Protocol(_)
                    | Fault::ProfileKeyWanted
                    | Fault::WrongVersion { .. }),
                ) => {
                    self.fault(check::FORWARDING, Verdict::Error, &fault);
                    return Err(Stop::because("no login got that far"));
                }
                Some(Fault::Cut) if !approach.is_careful() && !heard.asked => {
                    self.fault(check::FORWARDING, Verdict::Error, &Fault::Cut);
                    return Err(Stop::because("no login got that far"));
                }
                _ => {
                    self.was_heard |= heard.asked || matches!(heard.end, End::Success(_) | End::Closed);
                    return Ok(heard);
                }
            }
        }
    }

    async fn modern(&mut self, approach: &Approach) -> Result<(), Stop> {
        let plain = self.login(approach, Claim::Nothing).await?;
        if !plain.asked {
            self.never_asked(&plain);
            return Err(Stop::because("it did not ask who the player is"));
        }
        self.ok(check::FORWARDING, "asks who the player is (modern forwarding)");
        match &plain.end {
            End::Success(_) => self.lets_anyone_in(),
            End::Disconnect(json) => {
                self.ok(check::PLAIN_LOGIN, format!("refuses a login without forwarding: {:?}", shown(json)));
            }
            _ => self.ok(check::PLAIN_LOGIN, "lets nobody in before its question is answered"),
        }
        let approach = &approach.after(&plain);
        let wrong = self.login(approach, Claim::Forwarded(Some(&random_secret()?))).await?;
        let right = self.login(approach, Claim::Forwarded(self.backend.secret.as_ref())).await?;
        self.judge_secrets(approach, &wrong, &right);
        Ok(())
    }

    /// The secret of the configuration, and one that nobody gave to the backend.
    fn judge_secrets(&mut self, approach: &Approach, wrong: &Heard, right: &Heard) {
        let mode = self.backend.forwarding;
        let same_words = right.refusal().is_some() && right.refusal() == wrong.refusal();
        let listed = right.refusal().is_some_and(Fault::is_of_a_list);
        match right.fault(mode) {
            None => self.ok(check::SECRET, "accepts our forwarding secret"),
            // Each mod has its own words for a bad signature; that they are those for a wrong secret gives them away.
            Some(Fault::Refused { .. }) if same_words && !listed && !approach.is_careful() => {
                self.fault(check::SECRET, Verdict::Error, &Fault::WrongSecret);
            }
            Some(Fault::Refused { words }) => {
                // From an unreadable answer no player can be made; that is said only after the signature was found good.
                let then = if approach.is_careful() { "" } else { ", then refused the probe" };
                let said = shown(&words);
                self.ok(check::SECRET, format!("accepts our forwarding secret{then} ({said:?})"));
            }
            Some(Fault::Cut) if approach.is_careful() => self.too_early(check::SECRET),
            Some(fault) => self.fault(check::SECRET, Verdict::Error, &fault),
        }
        let got_past = wrong.refusal().is_some_and(Fault::is_of_a_list)
            || (same_words && approach.is_careful() && wrong.fault(mode) != Some(Fault::WrongSecret));
        match &wrong.end {
            End::Success(_) => self.takes_any_secret(),
            End::Disconnect(_) if got_past => self.takes_any_secret(),
            End::Closed if approach.is_careful() => self.too_early(check::WRONG_SECRET),
            _ => self.ok(check::WRONG_SECRET, "refuses a wrong forwarding secret"),
        }
    }

    fn takes_any_secret(&mut self) {
        self.error(
            check::WRONG_SECRET,
            "takes a wrong forwarding secret: it does not check who forwards players",
            format!("{}; update it, or the plugin or mod on it that is to check", exposure(self.backend)),
        );
    }

    /// In old versions the probe has to be gone before it hears everything.
    fn too_early(&mut self, check: &'static str) {
        let why = "did not say so before the probe left, as it has to before 1.20.2; a player's login tells";
        self.findings.push(Finding::skipped(Area::Backend, check, why));
    }

    fn lets_anyone_in(&mut self) {
        self.error(
            check::PLAIN_LOGIN,
            "lets in whoever connects, under any name: a login without forwarding succeeds",
            exposure(self.backend),
        );
    }

    /// A backend that should ask as in modern forwarding did not.
    fn never_asked(&mut self, plain: &Heard) {
        let fault = plain.fault(self.backend.forwarding);
        match (&plain.end, fault) {
            (End::Disconnect(json), Some(Fault::Refused { .. })) if Fault::is_of_a_list(json) => {
                self.fault(check::FORWARDING, Verdict::Error, &Fault::ForwardingNotAsked);
                self.error(
                    check::PLAIN_LOGIN,
                    format!(
                        "keeps strangers out by its lists alone, which go by a name that nobody checks: {:?}",
                        shown(json)
                    ),
                    exposure(self.backend),
                );
            }
            (End::Disconnect(json), Some(Fault::Refused { .. })) => {
                self.warning(
                    check::FORWARDING,
                    format!("refused the probe before it asked who the player is: {:?}", shown(json)),
                    "see what it means by that; if it wants mods, only a player who has them can tell whether it asks",
                );
            }
            (End::Disconnect(json), Some(fault)) => {
                self.fault(check::FORWARDING, Verdict::Error, &fault);
                self.ok(check::PLAIN_LOGIN, format!("refuses a login without forwarding: {:?}", shown(json)));
            }
            (End::Closed, _) => {
                self.warning(
                    check::FORWARDING,
                    "did not ask at once who the player is. Of servers before 1.20.2 only some with mods (FabricProxy-Lite) ask later; all others are not set up for forwarding",
                    Fault::ForwardingNotAsked.mend(self.backend),
                );
                self.maybe_lets_anyone_in();
            }
            _ => {
                self.fault(check::FORWARDING, Verdict::Error, &Fault::ForwardingNotAsked);
                self.lets_anyone_in();
            }
        }
    }

    fn maybe_lets_anyone_in(&mut self) {
        self.warning(
            check::PLAIN_LOGIN,
            "did not refuse a login without forwarding at once, so it most likely lets anyone in",
            exposure(self.backend),
        );
    }

    /// Legacy forwarding and BungeeGuard: the identity stands in the handshake, and is looked at there.
    async fn host_fields(&mut self, approach: &Approach) -> Result<(), Stop> {
        if self.backend.forwarding == ForwardingMode::Legacy {
            self.warning(
                check::UNSIGNED,
                "BungeeCord forwarding is not signed: whoever reaches its port can claim to be this proxy",
                format!(
                    "{} of a signed kind (`bungeeguard`, or `modern` from 1.13 on)",
                    exposure(self.backend)
                ),
            );
        }
        let plain = self.login(approach, Claim::Nothing).await?;
        self.plain_without_fields(&plain)?;
        let right = self.login(approach, Claim::Forwarded(self.backend.secret.as_ref())).await?;
        let fields = kind_of(self.backend.forwarding);
        match right.fault(self.backend.forwarding) {
            None => self.ok(check::FORWARDING, format!("takes {fields}")),
            Some(Fault::Cut) if approach.is_careful() => {
                self.ok(check::FORWARDING, format!("does not object to {fields}"));
            }
            Some(Fault::Refused { words }) => {
                self.ok(
                    check::FORWARDING,
                    format!("takes {fields}, then refused the probe: {:?}", shown(&words)),
                );
            }
            // Told under `secret`.
            Some(Fault::WrongSecret) => self.ok(check::FORWARDING, format!("asks for {fields}")),
            Some(fault) => {
                self.fault(check::FORWARDING, Verdict::Error, &fault);
                return Err(Stop::because("our forwarding is not taken"));
            }
        }
        if self.backend.forwarding == ForwardingMode::BungeeGuard {
            self.tokens(approach, &right).await?;
        }
        Ok(())
    }

    /// What a login without host fields came to.
    fn plain_without_fields(&mut self, plain: &Heard) -> Result<(), Stop> {
        let refuses = |json: &str| format!("refuses a login without forwarding: {:?}", shown(json));
        let mode = self.backend.forwarding;
        if plain.asked {
            if let End::Success(_) = plain.end {
                self.lets_anyone_in();
            } else {
                self.ok(check::PLAIN_LOGIN, "lets nobody in before its question is answered");
            }
            let wanted = ForwardingMode::Modern;
            self.fault(check::FORWARDING, Verdict::Error, &Fault::ForwardingExpected { wanted });
            return Err(Stop::because("it expects modern forwarding"));
        }
        match (&plain.end, plain.fault(mode)) {
            (End::Success(_), _) => self.lets_anyone_in(),
            (End::Disconnect(json), Some(Fault::WrongSecret)) => self.ok(check::PLAIN_LOGIN, refuses(json)),
            (End::Disconnect(json), Some(fault @ Fault::ForwardingExpected { wanted })) => {
                self.ok(check::PLAIN_LOGIN, refuses(json));
                // BungeeGuard stands behind BungeeCord's own check.
                if wanted != mode
                    && !(wanted == ForwardingMode::Legacy && mode == ForwardingMode::BungeeGuard)
                {
                    self.fault(check::FORWARDING, Verdict::Error, &fault);
                    return Err(Stop::because("it expects another kind of forwarding"));
                }
            }
            (End::Disconnect(json), Some(_)) if Fault::is_of_a_list(json) => {
                self.error(
                    check::PLAIN_LOGIN,
                    format!(
                        "keeps strangers out by its lists alone, which go by a name that nobody checks: {:?}",
                        shown(json)
                    ),
                    exposure(self.backend),
                );
            }
            (End::Disconnect(json), _) => {
                self.warning(
                    check::PLAIN_LOGIN,
                    format!(
                        "refused a login without forwarding, but maybe for another reason: {:?}",
                        shown(json)
                    ),
                    "see what it says to players; if it does not ask for forwarding, switch it on",
                );
            }
            _ => self.maybe_lets_anyone_in(),
        }
        Ok(())
    }

    /// BungeeGuard's tokens.
    async fn tokens(&mut self, approach: &Approach, right: &Heard) -> Result<(), Stop> {
        if right.fault(self.backend.forwarding) == Some(Fault::WrongSecret) {
            self.fault(check::SECRET, Verdict::Error, &Fault::WrongSecret);
        } else {
            self.ok(check::SECRET, "does not refuse our token");
        }
        let wrong = self.login(approach, Claim::Forwarded(Some(&random_secret()?))).await?;
        match &wrong.end {
            End::Success(_) => self.takes_any_secret(),
            End::Disconnect(json) if Fault::is_of_a_list(json) => self.takes_any_secret(),
            End::Disconnect(_) => self.ok(check::WRONG_SECRET, "refuses a wrong token"),
            _ => {
                self.warning(
                    check::WRONG_SECRET,
                    "did not refuse a wrong token at once, so it most likely takes any",
                    format!("{}; see that BungeeGuard is installed there", exposure(self.backend)),
                );
            }
        }
        Ok(())
    }

    /// No forwarding: the backend must take a plain login, and everybody can make one.
    async fn unforwarded(&mut self, approach: &Approach) -> Result<(), Stop> {
        self.warning(
            check::PLAIN_LOGIN,
            "takes plain logins, as `forwarding: none` wants it to",
            exposure(self.backend),
        );
        let plain = self.login(approach, Claim::Nothing).await?;
        let wanted = ForwardingMode::Modern;
        match plain.fault(self.backend.forwarding) {
            _ if plain.asked => {
                self.fault(check::FORWARDING, Verdict::Error, &Fault::ForwardingExpected { wanted });
            }
            Some(fault @ Fault::ForwardingExpected { .. }) => {
                self.fault(check::FORWARDING, Verdict::Error, &fault);
            }
            Some(Fault::Refused { words }) => {
                self.ok(check::FORWARDING, format!("asks for none; refused the probe: {:?}", shown(&words)));
            }
            _ => self.ok(check::FORWARDING, "asks for none"),
        }
        Ok(())
    }
}

/// A secret that nobody was told, in letters and digits as tokens are.
fn random_secret() -> Result<SecretSlice<u8>, Stop> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| Stop::because("the operating system gives no random numbers"))?;
    Ok(bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect::<Vec<_>>().into())
}
