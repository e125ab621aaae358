//! What lies in a store, counted from outside: for whoever examines one that another process may own.

use std::{fs, io, path::Path};

use super::files::{DAMAGED, is_shard};

/// What lies in a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Players with a document.
    pub sessions: usize,
    /// Documents that were set aside because they could not be read.
    pub damaged: usize,
}

impl Survey {
    /// Counts the documents by their names; opens none and changes nothing. Blocks. A folder that does not exist holds
    /// none.
    ///
    /// # Errors
    /// A folder that cannot be listed.
    pub fn of(directory: &Path) -> io::Result<Self> {
        let mut survey = Self::default();
        let shards = match fs::read_dir(directory) {
            Ok(shards) => shards,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(survey),
            Err(error) => return Err(error),
        };
        for entry in shards {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name == DAMAGED {
                survey.damaged += fs::read_dir(&path)?.count();
            } else if is_shard(name) && path.is_dir() {
                survey.sessions += documents(&path)?;
            }
        }
        Ok(survey)
    }
}

fn documents(shard: &Path) -> io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(shard)? {
        // Temporary files end otherwise.
        count += usize::from(entry?.path().extension().is_some_and(|ending| ending == "json"));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_counted_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(Survey::of(&root.join("none")).unwrap(), Survey::default());
        for (folder, file) in [
            ("06", "069a79f4-44e9-4726-a5be-fca90e38aaf5.json"),
            ("06", ".069a79f4-44e9-4726-a5be-fca90e38aaf5.tmp"),
            ("ff", "ff9a79f4-44e9-4726-a5be-fca90e38aaf5.json"),
            ("xx", "ff9a79f4-44e9-4726-a5be-fca90e38aaf5.json"),
            ("damaged", "whatever"),
            (".", "outage.json"),
        ] {
            fs::create_dir_all(root.join(folder)).unwrap();
            fs::write(root.join(folder).join(file), "").unwrap();
        }
        assert_eq!(Survey::of(root).unwrap(), Survey { sessions: 2, damaged: 1 });
    }
}
