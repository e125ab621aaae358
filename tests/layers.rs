//! The layering of `src/`: which room may name which.
//!
//! A room is a file or folder right under `src/`. Each may name the rooms of the tiers above its own, and nothing
//! else; [`EXCEPTIONS`] lists what more, and why. Unit tests are left out: they may fetch what they like.

#![allow(clippy::unwrap_used, reason = "a source tree that cannot be read fails the test")]

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// The rooms, those that know least first.
const TIERS: &[&[&str]] = &[
    &[
        "address", "clock", "disk", "foreign", "identity", "local", "messages", "metric", "place", "secret",
        "task",
    ],
    &["reason", "protocol"],
    &["net", "mojang", "session", "policy", "geo", "audit", "limit", "statistics", "alert"],
    &["pin"],
    &["login", "backend", "relay", "status", "readiness", "admin"],
    &["config", "cli"],
    &["app", "doctor", "commands", "signals"],
    &["main"],
];

/// A room, what it may name besides, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("policy", "session::record", "the session is the fact that a verdict rests on most"),
    ("policy", "mojang::health", "the outage is what a verdict is about"),
    ("backend", "login::admitted", "a backend accepts nothing less than the proof that a login made"),
    ("cli", "config", "the default path of the file is the configuration's to know"),
    ("status", "backend::Backend", "as below"),
    ("status", "backend::route", "the server list answer comes from the backend that a login would get"),
    ("status", "backend::connect", "as above"),
    ("status", "backend::ping", "the question that is put to a backend on behalf of all clients"),
    ("status", "backend::diagnose", "plain text of a component, which both need"),
];

/// Rooms that turn values into values, and what therefore has no place in them.
const PURE: &[&str] = &["protocol", "policy"];
const IMPURE: &[&str] = &[
    "tokio",
    "crate::clock",
    "crate::task",
    "std::fs",
    "std::io::stdin",
    "TcpStream",
    "Instant::now",
    "Mutex",
    "RwLock",
];

/// A place at which a room names another.
#[derive(Debug, PartialEq, Eq)]
struct Mention {
    line: usize,
    /// Path from the crate root, without `crate::`.
    path: String,
}

#[test]
fn rooms_name_only_what_lies_below_them() {
    let mut problems = String::new();
    for file in sources() {
        let modules = modules(&file);
        let Some(room) = modules.first() else { continue };
        let Some(own) = tier(room) else {
            writeln!(problems, "{}: the room {room} has no tier in this test", shown(&file)).unwrap();
            continue;
        };
        for Mention { line, path } in mentions(&code(&file), &modules) {
            let target = path.split("::").next().unwrap_or_default();
            let below = tier(target).is_some_and(|tier| tier < own);
            if target != room && !below && !excepted(room, &path) {
                writeln!(problems, "{}:{line}: {room} may not name crate::{path}", shown(&file)).unwrap();
            }
        }
    }
    assert!(problems.is_empty(), "\n{problems}");
}

#[test]
fn protocol_and_policy_are_pure() {
    let mut problems = String::new();
    for file in sources() {
        if !modules(&file).first().is_some_and(|room| PURE.contains(&room.as_str())) {
            continue;
        }
        for (number, line) in code(&file).lines().enumerate() {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                writeln!(problems, "{}:{}: {word} in a pure room", shown(&file), number + 1).unwrap();
            }
        }
    }
    assert!(problems.is_empty(), "\n{problems}");
}

fn tier(room: &str) -> Option<usize> {
    TIERS.iter().position(|rooms| rooms.contains(&room))
}

fn excepted(room: &str, path: &str) -> bool {
    EXCEPTIONS
        .iter()
        .any(|(from, to, _)| *from == room && (path == *to || path.starts_with(&format!("{to}::"))))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn shown(file: &Path) -> String {
    format!("src/{}", file.strip_prefix(root()).unwrap().display())
}

/// Every source file but `lib.rs`, which lists the rooms, and files that are all tests.
fn sources() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().unwrap() != "tests" {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.retain(|path| *path != root().join("lib.rs") && path.file_name().unwrap() != "tests.rs");
    found.sort();
    assert!(found.len() > 10, "the sources are not where they were");
    found
}

/// The modules that a file stands for: `src/net/conn.rs` is `net`, `conn`.
fn modules(file: &Path) -> Vec<String> {
    let inside = file.strip_prefix(root()).unwrap().with_extension("");
    let mut modules: Vec<_> = inside.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if modules.last().is_some_and(|last| last == "mod") {
        modules.pop();
    }
    modules
}

fn code(file: &Path) -> String {
    without_tests_and_comments(&fs::read_to_string(file).unwrap())
}

/// The text with the same lines, but without comments and without the test module, which comes last.
fn without_tests_and_comments(text: &str) -> String {
    let tests = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    text[..tests]
        .lines()
        .map(|line| match line.trim_start() {
            comment if comment.starts_with("//") => "",
            _ => line.split(" // ").next().unwrap_or_default(),
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Every path from the crate root in the code of a file that stands for `modules`: after `crate::`, and after as many
/// `super::` as lead out of the room.
fn mentions(code: &str, modules: &[String]) -> Vec<Mention> {
    let climb = format!("{}::", vec!["super"; modules.len()].join("::"));
    let mut found = Vec::new();
    for start in ["crate::", climb.as_str()] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            // The tail of a longer path or name, such as `$crate::` of a macro, which names the same.
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let line = code[..at].lines().count().max(1) + usize::from(code[..at].ends_with('\n'));
            let paths = paths(&code[at + start.len()..]);
            found.extend(paths.into_iter().map(|path| Mention { line, path }));
        }
    }
    found
}

/// The paths at the start of the code: one, or those of a `{…}` group, which may hold groups again.
fn paths(code: &str) -> Vec<String> {
    let code = code.trim_start();
    let Some(group) = code.strip_prefix('{') else {
        let end = code.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(code.len());
        let path = code[..end].trim_end_matches(':').to_owned();
        let nested = code[..end].ends_with("::") && code[end..].starts_with('{');
        if !nested {
            return vec![path];
        }
        return paths(&code[end..]).into_iter().map(|inner| format!("{path}::{inner}")).collect();
    };
    let mut depth = 0;
    let mut found = Vec::new();
    let mut start = 0;
    for (at, c) in group.char_indices() {
        let ends = depth == 0 && (c == ',' || c == '}');
        if ends && !group[start..at].trim().is_empty() {
            found.extend(paths(&group[start..at]));
        }
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => start = at + 1,
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    found
}

#[test]
fn mentions_are_found() {
    let modules = ["net".to_owned(), "conn".to_owned()];
    let found = |code: &str| -> Vec<(usize, String)> {
        mentions(&without_tests_and_comments(code), &modules).into_iter().map(|m| (m.line, m.path)).collect()
    };
    let expect = |mentions: &[(usize, &str)]| -> Vec<(usize, String)> {
        mentions.iter().map(|(line, path)| (*line, (*path).to_owned())).collect()
    };
    assert_eq!(found("use crate::login;"), expect(&[(1, "login")]));
    assert_eq!(found("\nuse crate::login::Config as C;\n"), expect(&[(2, "login::Config")]));
    assert_eq!(found("fn f(x: &crate::login::Config) {}"), expect(&[(1, "login::Config")]));
    assert_eq!(
        found(
            "use crate::{\n    clock::Clock,\n    session::{self, record::{Session, Document}},\n    task,\n};"
        ),
        expect(&[
            (1, "clock::Clock"),
            (1, "session::self"),
            (1, "session::record::Session"),
            (1, "session::record::Document"),
            (1, "task"),
        ])
    );
    assert_eq!(found("use crate::session::*;"), expect(&[(1, "session")]));
    assert_eq!(found("use super::super::login;"), expect(&[(1, "login")]));
    assert_eq!(found("use super::listener;"), expect(&[]));
    assert_eq!(found("// use crate::login;\n//! [`crate::login`]\nlet x = 1; // crate::login"), expect(&[]));
    assert_eq!(found("use other_crate::login;"), expect(&[]));
    assert_eq!(found("#[cfg(test)]\nmod tests {\n    use crate::login;\n}"), expect(&[]));
}

#[test]
fn exceptions_cover_no_more_than_they_say() {
    assert!(excepted("policy", "session::record"));
    assert!(excepted("policy", "session::record::Session"));
    assert!(!excepted("policy", "session::records"));
    assert!(!excepted("policy", "session::Store"));
    assert!(!excepted("audit", "session::record::Session"));
    for (room, path, why) in EXCEPTIONS {
        let target = path.split("::").next().unwrap();
        assert!(tier(room).is_some() && tier(target).is_some() && !why.is_empty(), "{room} -> {path}");
    }
}
