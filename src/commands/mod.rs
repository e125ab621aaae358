//! What the commands do that look at a store, or at a running proxy.

pub mod readiness;
