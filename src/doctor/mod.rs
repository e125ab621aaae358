//! Examines an installation from outside, as an owner would: is everything that players need there, and does it keep
//! strangers out?

pub mod report;
