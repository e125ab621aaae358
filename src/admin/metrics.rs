//! Figures for Prometheus.

use hyper::StatusCode;

use super::{
    answer::{self, Answer, Refused},
    server::Shared,
};

/// The content type of Prometheus' text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /metrics`
pub(super) fn text(shared: &Shared) -> Result<Answer, Refused> {
    let what = "the configuration switches metrics off (monitoring.enable-metrics)";
    let text = (shared.handles.metrics)().ok_or_else(|| Refused::new(StatusCode::NOT_FOUND, what))?;
    Ok(answer::text(TEXT, text))
}
