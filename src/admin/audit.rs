//! The newest lines of audit.log.

use std::sync::Arc;

use hyper::StatusCode;

use super::{
    Handles,
    answer::{self, Answer, Refused},
    routes::Call,
};

/// Most lines that can be asked for: so many are kept.
const MOST: usize = 200;

/// `GET /api/audit`
pub(super) fn list(handles: &Handles, call: &Call) -> Result<Answer, Refused> {
    let last = last(call)?.unwrap_or(MOST);
    let lines = handles.audit.recent();
    let mut text = String::from("{\"events\":[");
    for (index, line) in newest(&lines, last).iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        // Each is a JSON object.
        text.push_str(line);
    }
    text.push_str("]}\n");
    Ok(answer::written(text))
}

/// The last so many lines.
pub(super) fn newest(lines: &[Arc<str>], last: usize) -> &[Arc<str>] {
    lines.get(lines.len().saturating_sub(last)..).unwrap_or_default()
}

/// How many lines are asked for, if that is said.
pub(super) fn last(call: &Call) -> Result<Option<usize>, Refused> {
    let bad = || Refused::new(StatusCode::BAD_REQUEST, format_args!("last: a whole number, at most {MOST}"));
    let mut last = None;
    for (key, value) in &call.query {
        if key != "last" {
            return Err(Refused::new(
                StatusCode::BAD_REQUEST,
                "what can be asked for here is \"last\" alone",
            ));
        }
        let number: usize = value.parse().map_err(|_| bad())?;
        last = Some(number).filter(|number| *number <= MOST);
        if last.is_none() {
            return Err(bad());
        }
    }
    Ok(last)
}
