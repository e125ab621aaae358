//! The example tells its story to the end.

use std::{path::PathBuf, process::Command};

/// The example's program. Cargo builds examples along with all tests, but names their place to none of them.
fn demo() -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    // …/debug/deps/demo-0123456789abcdef and …/debug/examples/demo.
    let mut program = test.parent()?.parent()?.join("examples/demo");
    program.set_extension(std::env::consts::EXE_EXTENSION);
    assert!(program.exists(), "{} is missing: cargo build --example demo", program.display());
    Some(program)
}

#[test]
fn every_step_goes_as_told() {
    let temporary = tempfile::tempdir().unwrap();
    // The program ends by itself within its own limit.
    let run = Command::new(demo().unwrap())
        .env("TMPDIR", temporary.path())
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    let story = String::from_utf8(run.stdout).unwrap();
    let errors = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(0), "{story}\n{errors}");
    assert_eq!(errors, "", "the story stands alone");
    let mut rest = story.as_str();
    for line in [
        "Alice joins from 203.0.113.5. Mojang vouches for her.",
        "\"Failed to verify username! Restart your game and launcher, then try again.\"",
        "by its own checks: an outage.",
        "\"A backend / Mojang authentication servers appear to be down.\"",
        "Nobody can vouch for her; known here, she is let in.",
        "Zoe tries again. Refused:",
        "\"Cannot authenticate: No cached session found.\"",
        "An impostor with a doctored game",
        "\"Cannot authenticate: No cached session found.\"",
        "A spoofer gives Alice's name and her very account id",
        "you are connecting from a new network address.",
        "the outage is over.",
        "The server list of players' games shows: \"A backend\"",
        "Alice leaves and joins anew. Mojang vouches for her, as always.",
        "Alice is told: \"The server is restarting.",
        r#""event":"proxy.started""#,
        r#""event":"login.fallback""#,
        r#""event":"proxy.stopped""#,
        "Every step went as told",
    ] {
        let Some((_, after)) = rest.split_once(line) else { panic!("no {line:?} in its place in:\n{story}") };
        rest = after;
    }
    assert!(!story.contains('\u{1b}') && !story.contains('§'), "plain text");
    let left = std::fs::read_dir(temporary.path()).unwrap().count();
    assert_eq!(left, 0, "files left behind");
}
