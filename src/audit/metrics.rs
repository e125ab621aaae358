//! How audit.log does.

use super::Audit;
use crate::metric::{Error, Readings, Registry, alone, length, number};

impl Audit {
    /// Has it read with the other figures.
    ///
    /// # Errors
    /// If it is registered already.
    pub fn register(&self, registry: &Registry) -> Result<(), Error> {
        let audit = self.clone();
        Readings::gauge(
            "postern_audit_queue",
            "Events that wait to be written to audit.log.",
            [],
            move || alone(length(audit.figures().queued)),
        )
        .register(registry)?;
        let audit = self.clone();
        Readings::gauge(
            "postern_audit_failing",
            "Whether the disk takes no lines of audit.log at the moment.",
            [],
            move || alone(if audit.figures().failing { 1.0 } else { 0.0 }),
        )
        .register(registry)?;
        let audit = self.clone();
        Readings::total("postern_audit_written_total", "Lines written to audit.log.", [], move || {
            alone(number(audit.figures().written))
        })
        .register(registry)?;
        let audit = self.clone();
        Readings::total(
            "postern_audit_dropped_total",
            "Events that are in no line of audit.log, as too many waited.",
            [],
            move || alone(number(audit.figures().dropped)),
        )
        .register(registry)?;
        let audit = self.clone();
        Readings::total(
            "postern_audit_rotations_total",
            "Times audit.log was rotated by its size.",
            [],
            move || alone(number(audit.figures().rotations)),
        )
        .register(registry)
    }
}
