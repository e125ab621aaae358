//! The checks that take a login: what each outcome means in each mode of forwarding.

use std::time::Duration;

use secrecy::SecretSlice;
use tokio::time::sleep;

use super::{Exam, Stop, check};
use crate::{
    backend::{
        Fault, ForwardingMode,
        diagnose::{exposure, kind_of, shown, switch_on},
        probe::{self, Approach, Claim, End, Heard},
    },
    doctor::report::Verdict,
};

/// What is waited before the next login at a backend that throttles connections: it counts 4 s unless told otherwise.
const THROTTLE_TIME: Duration = Duration::from_secs(5);

/// How often that is done for one backend: enough for its three logins.
const MAX_WAITS: u32 = 2;

/// Why nothing is said about our secret where there is none.
const NO_SECRET: &str = "no forwarding secret here yet: run `postern run` once, or put the backend's secret into the file that `secret-file` names (forwarding.secret beside the configuration, unless set)";

/// Why the reasons of an old server cannot be told apart.
const SAME_WORDS: &str = "it says the same to our secret and to a made-up one: either ours is wrong, or it has these words also for an answer without a player in it, and a probe may send no other before 1.20.2; the first real login tells";

/// In old versions the probe has to be gone before it hears everything.
const TOO_EARLY: &str =
    "it did not say so before the probe left, as that has to before 1.20.2; the first real login tells";

/// Why an accepted secret says nothing.
const ANY_SECRET: &str = "it takes any";

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
                // The version was ours to choose, so it is no fault of the backend's.
                Some(Fault::WrongVersion { words }) if self.is_guess => {
                    return Err(Stop::because(format!(
                        "its version is not known, and it refuses {}: {:?}",
                        approach.dialect().game_version(),
                        shown(&words)
                    )));
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
                // Whatever it is in: it has not said a word yet.
                Some(Fault::Cut) if self.is_guess && !heard.asked && matches!(claim, Claim::Nothing) => {
                    self.warning(
                        check::FORWARDING,
                        "closed the connection at a login without a word; without a server list answer it cannot be told whether it would have let a player in",
                        "see what is said under `status`, then run this again",
                    );
                    return Err(Stop::because("it closes connections without a word"));
                }
                Some(Fault::Cut) if !approach.is_careful() && !heard.asked => {
                    self.fault(check::FORWARDING, Verdict::Error, &Fault::Cut);
                    return Err(Stop::because("no login got that far"));
                }
                _ => {
                    // One that does not answer pings may close everything it is asked.
                    let closed = heard.end == End::Closed && !self.is_guess;
                    self.was_heard |= heard.asked || closed || matches!(heard.end, End::Success(_));
                    return Ok(heard);
                }
            }
        }
    }

    async fn modern(&mut self, approach: &Approach) -> Result<(), Stop> {
        let plain = self.login(approach, Claim::Nothing).await?;
        if !plain.asked {
            return Err(self.never_asked(&plain));
        }
        self.ok(check::FORWARDING, "asks who the player is (modern forwarding)");
        self.judge_unanswered(&plain);
        let approach = &approach.after(&plain);
        let wrong = self.login(approach, Claim::Forwarded(Some(&random_secret()?))).await?;
        let right = match &self.backend.secret {
            Some(secret) => Some(self.login(approach, Claim::Forwarded(Some(secret))).await?),
            None => None,
        };
        for heard in [Some(&wrong), right.as_ref()].into_iter().flatten() {
            if let Some(fault @ Fault::WrongIdentity { .. }) = heard.fault(self.backend.forwarding) {
                self.fault(check::FORWARDING, Verdict::Error, &fault);
            }
        }
        self.judge_secrets(approach, &wrong, right.as_ref());
        Ok(())
    }

    /// The secret of the configuration, if there is one, and one that nobody gave to the backend.
    fn judge_secrets(&mut self, approach: &Approach, wrong: &Heard, right: Option<&Heard>) {
        let mode = self.backend.forwarding;
        let careful = approach.is_careful();
        let same_words =
            right.is_some_and(|right| right.refusal().is_some() && right.refusal() == wrong.refusal());
        // Lists are looked at, and what is signed is read, once the signature was found good.
        let got_past = wrong
            .refusal()
            .is_some_and(|words| Fault::is_of_a_list(words) || (careful && Fault::is_about_content(words)));
        let takes_any = got_past || matches!(wrong.end, End::Success(_));
        let is_unknown = matches!(wrong.fault(mode), Some(Fault::Refused { .. }));
        if takes_any {
            self.takes_any_secret();
        } else if careful && wrong.end == End::Closed {
            self.skipped(check::WRONG_SECRET, TOO_EARLY);
        } else if careful && right.is_none() {
            self.skipped(check::WRONG_SECRET, NO_SECRET);
        } else if careful && same_words {
            self.skipped(check::WRONG_SECRET, SAME_WORDS);
        } else if same_words && is_unknown {
            let why = "it refuses both in the same words, which may be about something else";
            self.skipped(check::WRONG_SECRET, why);
        } else {
            self.ok(check::WRONG_SECRET, "refuses a wrong forwarding secret");
        }

        let Some(right) = right else { return self.skipped(check::SECRET, NO_SECRET) };
        match right.fault(mode) {
            None | Some(Fault::WrongIdentity { .. } | Fault::Refused { .. }) if takes_any => {
                self.skipped(check::SECRET, ANY_SECRET);
            }
            // Told under `forwarding`: that it threw the player away it did after it had let us in.
            None | Some(Fault::WrongIdentity { .. }) => {
                self.ok(check::SECRET, "accepts our forwarding secret");
            }
            Some(Fault::Cut) if careful => self.skipped(check::SECRET, TOO_EARLY),
            // The first is what it mostly is.
            Some(_) if careful && same_words => {
                let cause = format!("most likely does not accept our forwarding secret: {SAME_WORDS}");
                self.warning(check::SECRET, cause, Fault::WrongSecret.mend(self.backend));
            }
            // Each mod has its own words for a bad signature; that they are those for a wrong secret gives them away.
            Some(Fault::Refused { .. }) if same_words => {
                self.fault(check::SECRET, Verdict::Error, &Fault::WrongSecret);
            }
            Some(Fault::Refused { words }) => {
                // From an unreadable answer no player can be made; that is said only after the signature was found good.
                let then = if careful { "" } else { ", then refused the probe" };
                let said = shown(&words);
                self.ok(check::SECRET, format!("accepts our forwarding secret{then} ({said:?})"));
            }
            Some(fault) => self.fault(check::SECRET, Verdict::Error, &fault),
        }
    }

    fn takes_any_secret(&mut self) {
        self.error(
            check::WRONG_SECRET,
            "takes a wrong forwarding secret: it does not check who forwards players",
            exposure(self.backend, "; update it, or the plugin or mod on it that is to check"),
        );
    }

    fn lets_anyone_in(&mut self) {
        self.error(
            check::PLAIN_LOGIN,
            "lets in whoever connects, under any name: a login without forwarding succeeds",
            exposure(self.backend, ""),
        );
    }

    fn maybe_lets_anyone_in(&mut self) {
        self.warning(
            check::PLAIN_LOGIN,
            "did not refuse a login without forwarding at once, so it most likely lets anyone in",
            exposure(self.backend, ""),
        );
    }

    /// What a login came to whose question, as in modern forwarding, was not answered.
    fn judge_unanswered(&mut self, plain: &Heard) {
        match &plain.end {
            End::Success(_) => self.lets_anyone_in(),
            // Its lists it looks at when it has settled who the player is.
            End::Disconnect(json) if Fault::is_of_a_list(json) => self.refuses_somehow(json),
            End::Disconnect(json) => self.refuses_without(json),
            _ => self.ok(check::PLAIN_LOGIN, "lets nobody in before its question is answered"),
        }
    }

    fn refuses_without(&mut self, json: &str) {
        self.ok(check::PLAIN_LOGIN, format!("refuses a login without forwarding: {:?}", shown(json)));
    }

    /// It refused a login without forwarding, and maybe for no reason that has to do with that.
    fn refuses_somehow(&mut self, json: &str) {
        if Fault::is_of_a_list(json) {
            let cause = format!(
                "keeps strangers out by its lists alone, which go by a name that nobody checks: {:?}",
                shown(json)
            );
            self.error(check::PLAIN_LOGIN, cause, exposure(self.backend, ""));
        } else {
            let cause = format!(
                "refused a login without forwarding, but maybe for another reason, which others may get past: {:?}",
                shown(json)
            );
            self.warning(check::PLAIN_LOGIN, cause, exposure(self.backend, ""));
        }
    }

    /// A backend that should ask as in modern forwarding did not.
    fn never_asked(&mut self, plain: &Heard) -> Stop {
        let fault = plain.fault(self.backend.forwarding);
        let mut stop = "it did not ask who the player is";
        match (&plain.end, fault) {
            (End::Disconnect(json), Some(Fault::Refused { .. })) => {
                if Fault::is_of_a_list(json) {
                    self.fault(check::FORWARDING, Verdict::Error, &Fault::ForwardingNotAsked);
                } else {
                    let cause = format!(
                        "refused the probe before asking who it is: most likely forwarding is off there: {:?}",
                        shown(json)
                    );
                    let but = "; if it refused for want of mods, only a player who has them can tell whether it asks";
                    self.warning(check::FORWARDING, cause, switch_on(self.backend) + but);
                }
                self.refuses_somehow(json);
            }
            (End::Disconnect(json), Some(fault)) => {
                self.fault(check::FORWARDING, Verdict::Error, &fault);
                self.refuses_without(json);
                if let Fault::ForwardingExpected { .. } = fault {
                    stop = "it expects another kind of forwarding";
                }
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
        Stop::because(stop)
    }

    /// Legacy forwarding and BungeeGuard: the identity stands in the handshake, and is looked at there.
    async fn host_fields(&mut self, approach: &Approach) -> Result<(), Stop> {
        let mode = self.backend.forwarding;
        let plain = self.login(approach, Claim::Nothing).await?;
        self.plain_without_fields(&plain)?;
        // Without a token of our own a made-up one shows what becomes of the rest.
        let made_up = random_secret()?;
        let is_ours = mode == ForwardingMode::Legacy || self.backend.secret.is_some();
        let secret = if is_ours { self.backend.secret.as_ref() } else { Some(&made_up) };
        let forwarded = self.login(approach, Claim::Forwarded(secret)).await?;
        self.judge_fields(approach, &plain, &forwarded)?;
        if mode == ForwardingMode::BungeeGuard {
            if is_ours {
                let wrong = self.login(approach, Claim::Forwarded(Some(&made_up))).await?;
                self.judge_tokens(&wrong, Some(&forwarded));
            } else {
                self.judge_tokens(&forwarded, None);
            }
        } else {
            self.warning(
                check::UNSIGNED,
                "BungeeCord forwarding is not signed: whoever reaches its port can claim to be this proxy",
                exposure(self.backend, " of a signed kind (`bungeeguard`, or `modern` from 1.13 on)"),
            );
        }
        Ok(())
    }

    /// What a login with host fields came to, beside one without them.
    fn judge_fields(&mut self, approach: &Approach, plain: &Heard, forwarded: &Heard) -> Result<(), Stop> {
        let fields = kind_of(self.backend.forwarding);
        let untold = |what: &str| format!("cannot be told whether it takes {fields}: {what}");
        match forwarded.fault(self.backend.forwarding) {
            None => self.ok(check::FORWARDING, format!("takes {fields}")),
            Some(Fault::Cut) if approach.is_careful() && plain.refusal().is_some() => {
                self.ok(check::FORWARDING, format!("does not object to {fields}"));
            }
            Some(Fault::Cut) if approach.is_careful() => {
                let cause = untold("it did not object, and neither did it without");
                self.warning(check::FORWARDING, cause, switch_on(self.backend));
                return Err(Stop::because("it does the same with forwarding and without"));
            }
            Some(Fault::Refused { words }) if plain.refusal() == Some(&words) => {
                let cause = untold(&format!("it says the same without: {:?}", shown(&words)));
                self.warning(check::FORWARDING, cause, switch_on(self.backend));
                return Err(Stop::because("it does the same with forwarding and without"));
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
        Ok(())
    }

    /// What a login without host fields came to.
    fn plain_without_fields(&mut self, plain: &Heard) -> Result<(), Stop> {
        let mode = self.backend.forwarding;
        if plain.asked {
            return Err(self.wants_modern(plain));
        }
        match (&plain.end, plain.fault(mode)) {
            (End::Success(_), _) => self.lets_anyone_in(),
            (End::Disconnect(json), Some(Fault::WrongSecret)) => self.refuses_without(json),
            (End::Disconnect(json), Some(fault @ Fault::ForwardingExpected { wanted })) => {
                self.refuses_without(json);
                // BungeeGuard stands behind BungeeCord's own check.
                if wanted != mode
                    && !(wanted == ForwardingMode::Legacy && mode == ForwardingMode::BungeeGuard)
                {
                    self.fault(check::FORWARDING, Verdict::Error, &fault);
                    return Err(Stop::because("it expects another kind of forwarding"));
                }
            }
            (End::Disconnect(json), _) => self.refuses_somehow(json),
            _ => self.maybe_lets_anyone_in(),
        }
        Ok(())
    }

    /// A backend asks as in modern forwarding, which is not what it is set to here.
    fn wants_modern(&mut self, plain: &Heard) -> Stop {
        self.judge_unanswered(plain);
        let wanted = ForwardingMode::Modern;
        self.fault(check::FORWARDING, Verdict::Error, &Fault::ForwardingExpected { wanted });
        Stop::because("it expects modern forwarding")
    }

    /// BungeeGuard's tokens: one made up, and ours, if there is one.
    fn judge_tokens(&mut self, wrong: &Heard, right: Option<&Heard>) {
        let mode = self.backend.forwarding;
        let same_words = right.is_some_and(|right| right.refusal() == wrong.refusal());
        let is_unknown = matches!(wrong.fault(mode), Some(Fault::Refused { .. }));
        let refuses = match &wrong.end {
            End::Success(_) => {
                self.takes_any_secret();
                false
            }
            End::Disconnect(json) if Fault::is_of_a_list(json) => {
                self.takes_any_secret();
                false
            }
            End::Disconnect(json) if same_words && is_unknown => {
                self.warning(
                    check::WRONG_SECRET,
                    format!(
                        "refused a wrong token in the same words as ours: either ours is wrong too, or it looks at none: {:?}",
                        shown(json)
                    ),
                    format!(
                        "see that BungeeGuard is installed there, then {}",
                        Fault::WrongSecret.mend(self.backend)
                    ),
                );
                false
            }
            End::Disconnect(_) => {
                self.ok(check::WRONG_SECRET, "refuses a wrong token");
                true
            }
            _ => {
                self.warning(
                    check::WRONG_SECRET,
                    "did not refuse a wrong token at once, so it most likely takes any",
                    exposure(self.backend, "; see that BungeeGuard is installed there"),
                );
                false
            }
        };
        match right {
            None => self.skipped(check::SECRET, NO_SECRET),
            Some(right) if right.fault(mode) == Some(Fault::WrongSecret) => {
                self.fault(check::SECRET, Verdict::Error, &Fault::WrongSecret);
            }
            // That ours is taken says something only where others are not.
            Some(_) if refuses => self.ok(check::SECRET, "does not refuse our token"),
            Some(_) => self.skipped(check::SECRET, "it does the same with a wrong one"),
        }
    }

    /// No forwarding: the backend must take a plain login, and everybody can make one.
    async fn unforwarded(&mut self, approach: &Approach) -> Result<(), Stop> {
        let plain = self.login(approach, Claim::Nothing).await?;
        if plain.asked {
            return Err(self.wants_modern(&plain));
        }
        match (plain.fault(self.backend.forwarding), &plain.end) {
            (Some(fault @ Fault::ForwardingExpected { .. }), End::Disconnect(json)) => {
                self.fault(check::FORWARDING, Verdict::Error, &fault);
                self.refuses_without(json);
                return Err(Stop::because("it expects another kind of forwarding"));
            }
            (Some(Fault::Refused { words }), _) => {
                let said = shown(&words);
                self.ok(check::FORWARDING, format!("asks for none; refused the probe: {said:?}"));
                self.warning(
                    check::PLAIN_LOGIN,
                    format!("has to take plain logins with `forwarding: none`; by a name that nobody checks it refused the probe: {said:?}"),
                    exposure(self.backend, ""),
                );
            }
            _ => {
                self.ok(check::FORWARDING, "asks for none");
                self.warning(
                    check::PLAIN_LOGIN,
                    "takes plain logins, as `forwarding: none` wants it to",
                    exposure(self.backend, ""),
                );
            }
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
