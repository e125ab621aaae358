//! What the program can write about itself: completions for shells, manual pages, the reference of its configuration.

use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;

use super::{Answer, EXIT_FAILED};
use crate::{
    cli::{Cli, Paper},
    config,
};

/// Writes one.
pub fn write(paper: &Paper) -> Answer {
    let mut out = Vec::new();
    let written = match paper {
        Paper::Completions { shell } => {
            clap_complete::generate(*shell, &mut definition(), "postern", &mut out);
            Ok(())
        }
        Paper::Man { dir: None } => {
            Man::new(definition()).render(&mut out).map_err(|error| error.to_string())
        }
        Paper::Man { dir: Some(dir) } => pages(dir),
        Paper::Reference => {
            out = config::reference().into_bytes();
            Ok(())
        }
    };
    match written.and_then(|()| String::from_utf8(out).map_err(|error| error.to_string())) {
        Ok(out) => Answer::well(out),
        Err(error) => Answer { code: EXIT_FAILED, out: String::new(), err: format!("error: {error}\n") },
    }
}

fn definition() -> clap::Command {
    <Cli as CommandFactory>::command()
}

/// Writes the page of every command into a folder, which is made if need be.
fn pages(dir: &Path) -> Result<(), String> {
    let written = std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(definition(), dir));
    written.map_err(|error| format!("the manual pages cannot be written into {}: {error}", dir.display()))
}

#[cfg(test)]
mod tests {
    use clap_complete::Shell;

    use super::*;

    fn written(paper: &Paper) -> String {
        let Answer { code, out, err } = write(paper);
        assert_eq!((code, err.as_str()), (0, ""));
        out
    }

    #[test]
    fn completions_know_every_command_and_option() {
        for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh] {
            let script = written(&Paper::Completions { shell });
            for word in ["readiness", "sessions", "log-format", "seen-within"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn a_page_for_each_command_that_is_shown() {
        let page = written(&Paper::Man { dir: None });
        for text in [".TH postern 1", "SIGHUP", "postern\\-readiness(1)", "78"] {
            assert!(page.contains(text), "{text}: {page}");
        }
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("man");
        assert_eq!(written(&Paper::Man { dir: Some(dir.clone()) }), "");
        assert_eq!(std::fs::read_to_string(dir.join("postern.1")).unwrap(), page);
        let names: Vec<_> = std::fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(names.contains(&"postern-sessions-import.1".to_owned()), "{names:?}");
        assert!(!names.iter().any(|name| name.contains("completions")), "{names:?}");

        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let Answer { code, out, err } = write(&Paper::Man { dir: Some(file) });
        assert_eq!((code, out.as_str()), (EXIT_FAILED, ""));
        assert!(err.starts_with("error: the manual pages cannot be written into "), "{err}");
    }
}
