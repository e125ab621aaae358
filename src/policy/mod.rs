//! The verdict on an outage login: a pure function of rules, facts and time.

pub mod rules;
