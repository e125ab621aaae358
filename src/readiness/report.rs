//! What was found.

use serde::Serialize;
use serde_json::Value;

use crate::reason::Reason;

/// Who could join under some terms. Serialises to what `postern readiness --json` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Players seen in the last 30 days.
    pub considered: usize,
    /// Those of them who could join.
    pub ready: usize,
    /// Those of them who could, once they have entered their PIN.
    pub must_enter_pin: usize,
    /// Those who could not.
    pub not_ready: usize,
    /// Those whose newest login is not on record, because it was before such records were kept: their address counts as
    /// changed, but in no figure of the rules that compare addresses.
    pub unrehearsed: usize,
    /// Every reason that would keep somebody out of whom it can be known, in the order of the checks.
    pub reasons: Vec<Cost>,
}

/// What one reason costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// The reason.
    #[serde(serialize_with = "code")]
    pub reason: Reason,
    /// The key behind it, or what else is.
    pub rule: &'static str,
    /// Players who would be told this reason: it is the first that speaks against them.
    pub first: usize,
    /// Players against whom it speaks at all.
    pub any: usize,
    /// Players whom nothing else keeps out.
    pub alone: usize,
    /// What there is to do or to know about it; empty if the key says it all.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub hint: &'static str,
    /// What the rule would cost if it were less strict. Only what helps.
    pub relaxations: Vec<Relaxation>,
    /// Some of those who would be told this reason, those seen last first.
    pub players: Vec<String>,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Relaxation {
    /// The key's dotted path.
    pub key: &'static str,
    /// Its value then.
    pub value: Value,
    /// Players whom the reason alone would keep out then.
    pub alone: usize,
    /// Players who could join then.
    pub ready: usize,
    /// What is given up by it.
    pub gives_up: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference to the field")]
fn code<S: serde::Serializer>(reason: &Reason, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(reason.code())
}
