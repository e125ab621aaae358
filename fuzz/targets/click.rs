//! What a client sends in configuration, answers to dialogs above all.
#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::click(data));
