//! The documents: links lead somewhere, and whoever looks up a text or a reason code finds it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use postern::{messages::MessageKey, protocol::text::Text, reason::Reason};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Markdown file that belongs to the project.
fn documents() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" {
                walk(&path, found);
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), &mut found);
    found.sort();
    found
}

/// The text without its code blocks, in which brackets mean something else.
fn prose(text: &str) -> String {
    let mut in_code = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !fence && !in_code
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    headings
        .map(|heading| {
            let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            heading.chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// What links of the form `[…](…)` lead to.
fn links(text: &str) -> Vec<&str> {
    let starts = text.match_indices("](").map(|(at, _)| at + 2);
    starts.filter_map(|start| text.get(start..)?.split_once(')')).map(|(target, _)| target).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    let documents = documents();
    assert!(documents.len() > 8, "{documents:?}");
    for document in documents {
        let text = prose(&fs::read_to_string(&document).unwrap());
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let (file, anchor) =
                link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
            let target =
                if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            if !target.exists() {
                wrong.push(format!("{}: nothing is at {link}", document.display()));
            } else if let Some(anchor) = anchor {
                let there = anchors(&prose(&fs::read_to_string(&target).unwrap()));
                if !there.contains(anchor) {
                    wrong.push(format!("{}: no heading for {link}", document.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_refusal_is_found_by_its_text_and_its_code() {
    let text = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    for reason in Reason::ALL {
        let shown = Text::parse(reason.message().default_text(), &[]).to_plain();
        assert!(text.contains(&format!("`{}`", reason.code())), "docs/troubleshooting.md lacks {reason}");
        assert!(text.contains(&shown), "docs/troubleshooting.md lacks the text of {reason}: {shown}");
    }
}

/// What the program says that does not start is in the table by the same words.
#[cfg(unix)]
#[test]
fn why_it_does_not_start_is_found_by_what_it_says() {
    use std::process::{Command, Stdio};
    const BACKENDS: &str = "backends: {lobby: {address: \"127.0.0.1:1\"}}\n";
    let text = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let section = text.split("## Postern does not start").nth(1).unwrap().split("\n## ").next().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = format!("bind: \"{}\"", taken.local_addr().unwrap());
    for (config, code, said) in [
        (bind.as_str(), 1, &["cannot listen on "][..]),
        ("security: {ban-file: none/bans.json}", 1, &["bans", "there is no such folder"]),
        ("monitoring: {audit-log: none/audit.log}", 1, &["cannot open the audit log "]),
        (
            "admin: {listen: \"0.0.0.0:0\", token-file: nix}",
            78,
            &["admin.listen: listening beyond this machine needs a token, and ", "does not exist"],
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let free = if config.starts_with("bind") { "" } else { "bind: \"127.0.0.1:0\"\n" };
        fs::write(folder.path().join("config.yml"), format!("{BACKENDS}{free}{config}\n")).unwrap();
        let mut command = Command::new("timeout");
        command.args(["60", env!("CARGO_BIN_EXE_postern"), "run"]).current_dir(folder.path());
        command.stdin(Stdio::null()).env_remove("POSTERN_CONFIG").env_remove("RUST_LOG");
        let ended = command.output().unwrap();
        let err = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(code), "{config}: {err}");
        let row = section.lines().find(|line| said.iter().all(|words| line.contains(words.trim_end())));
        let row = row.unwrap_or_else(|| panic!("docs/troubleshooting.md lacks {said:?}"));
        for words in said {
            assert!(err.contains(words), "{row}: {err}");
        }
    }
}

#[test]
fn every_text_is_in_the_example() {
    let example = fs::read_to_string(root().join("config.example.yml")).unwrap();
    for key in MessageKey::ALL {
        let line = format!("  {}: {:?}", key.key(), key.default_text());
        assert!(example.contains(&line), "config.example.yml lacks {line}");
    }
}
