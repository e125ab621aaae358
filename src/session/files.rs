//! The documents on disk: paths, and the steps of a write that make it all or nothing. Everything here blocks.

use std::{
    borrow::Cow,
    fmt::Display,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    StoreError,
    record::{Document, FORMAT_VERSION, Session},
    survey::{Holder, Role},
};
use crate::identity::Property;

/// Largest document that is read, in bytes. Real ones are around 3 KiB.
const MAX_DOCUMENT: u64 = 1 << 20;

/// Room for most documents, in bytes.
const TYPICAL_DOCUMENT: usize = 4 << 10;

/// Name of the lock file, inside the store's folder.
pub(super) const LOCK: &str = ".lock";

/// How often the lock is tried for while others look at it, which takes each of them a moment.
const LOCK_TRIES: u32 = 100;
/// Wait between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Name of the folder, inside the store's, for documents that were set aside.
pub(super) const DAMAGED: &str = "damaged";

/// The lock file; while this lives, the store is ours.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Takes the lock of the store in this folder, which must exist.
    #[allow(
        clippy::disallowed_methods,
        reason = "never on a network thread, and only while somebody looks at it"
    )]
    pub(super) fn take(root: &Path) -> Result<Self, StoreError> {
        let path = root.join(LOCK);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        owner_only(&mut options);
        let mut file = options.open(&path).map_err(StoreError::io("open the lock file", &path))?;
        let unlocked = StoreError::io("lock", &path);
        for _ in 0..LOCK_TRIES {
            match file.try_lock_shared() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(StoreError::Locked {
                        directory: root.to_owned(),
                        holder: Holder::read(&file),
                    });
                }
                Err(TryLockError::Error(error)) => return Err(unlocked(error)),
            }
            // Nobody holds it while it is shared, so what stands there is about somebody who is gone. It must go before
            // anybody could take it for the word of the new holder.
            let emptied = file.set_len(0).and_then(|()| file.unlock());
            emptied.map_err(StoreError::io("write the lock file", &path))?;
            match file.try_lock() {
                Ok(()) => {
                    writeln!(file, "{}", std::process::id())
                        .map_err(StoreError::io("write the lock file", &path))?;
                    return Ok(Self(file));
                }
                // Somebody looks at it, or was faster.
                Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(error)) => return Err(unlocked(error)),
            }
        }
        Err(StoreError::Locked { directory: root.to_owned(), holder: Holder::default() })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone is not enough while a child process is being started: for a moment it holds a copy of
        // every descriptor, and with it the lock. If this fails, closing is all that is left.
        let _ = self.0.unlock();
    }
}

/// The store's folder.
#[derive(Clone, Debug)]
pub(super) struct Files {
    root: PathBuf,
}

/// What is written: like [`Document`], but borrowed.
#[derive(Serialize)]
struct DocumentRef<'a> {
    version: u32,
    #[serde(flatten)]
    session: &'a Session,
    properties: &'a [Property],
}

/// The part of a document that the index leaves out.
#[derive(Deserialize)]
struct Rest<P> {
    version: u32,
    properties: Vec<P>,
}

/// A [`Property`] that is checked without keeping it.
#[derive(Deserialize)]
struct PropertyRef<'a> {
    #[serde(borrow, rename = "name")]
    _name: Cow<'a, str>,
    #[serde(borrow, rename = "value")]
    _value: Cow<'a, str>,
    #[serde(borrow, default, rename = "signature")]
    _signature: Option<Cow<'a, str>>,
}

/// Whether this is the name of a folder of documents: the first two digits of an id.
pub(super) fn is_shard(name: &str) -> bool {
    name.len() == 2 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl Files {
    /// Creates the folder if need be and locks it.
    pub(super) fn open(root: &Path) -> Result<(Self, Lock), StoreError> {
        create_folder(root)?;
        warn_if_open_to_others(root);
        let lock = Lock::take(root)?;
        Ok((Self { root: root.to_owned() }, lock))
    }

    /// The folder.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Adds a line to the lock file that says what its holder is.
    pub(super) fn announce(&self, role: Role) -> Result<(), StoreError> {
        let path = self.root.join(LOCK);
        let Some(line) = role.line() else { return Ok(()) };
        // In one piece: whoever reads meanwhile takes no notice of a line without an end.
        let written = OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        written.map_err(StoreError::io("write the lock file", &path))
    }

    /// The folders of documents that exist.
    pub(super) fn shards(&self) -> Result<Vec<PathBuf>, StoreError> {
        let mut shards = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(StoreError::io("list", &self.root))? {
            let entry = entry.map_err(StoreError::io("list", &self.root))?;
            // A stray file of such a name is left alone; it is reported when a write needs its place.
            if entry.file_name().to_str().is_some_and(is_shard) && entry.path().is_dir() {
                shards.push(entry.path());
            }
        }
        Ok(shards)
    }

    /// Closes the folders of documents to others.
    pub(super) fn keep_to_owner(&self) -> Result<(), StoreError> {
        for shard in self.shards()? {
            keep_to_owner(&shard);
        }
        Ok(())
    }

    fn shard(&self, id: Uuid) -> PathBuf {
        let [first, ..] = id.into_bytes();
        self.root.join(format!("{first:02x}"))
    }

    /// Where the document of a player is.
    pub(super) fn document(&self, id: Uuid) -> PathBuf {
        self.shard(id).join(format!("{id}.json"))
    }

    /// Whether this is the name of a temporary file that a write makes.
    pub(super) fn is_temporary(name: &str) -> bool {
        let id = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp"));
        id.is_some_and(|id| Uuid::parse_str(id).is_ok())
    }

    /// Replaces a document. Once this returns, the new one survives a power cut; until then, the old one does.
    pub(super) fn write(&self, session: &Session, properties: &[Property]) -> Result<(), StoreError> {
        let shard = self.shard(session.id);
        let document = self.document(session.id);
        let temporary = shard.join(format!(".{}.tmp", session.id));
        let content = DocumentRef { version: FORMAT_VERSION, session, properties };
        let mut bytes = Vec::with_capacity(TYPICAL_DOCUMENT);
        serde_json::to_writer(&mut bytes, &content)
            .map_err(|error| StoreError::io("write", &document)(error.into()))?;
        bytes.push(b'\n');

        let written = write_synced(&temporary, &bytes).or_else(|error| {
            // The folder's first document. Asking before every write would cost each a system call.
            if !error.is_not_found() {
                return Err(error);
            }
            create_folder(&shard)?;
            sync_folder(&self.root)?;
            write_synced(&temporary, &bytes)
        });
        let written = written
            .and_then(|()| fs::rename(&temporary, &document).map_err(StoreError::io("replace", &document)));
        if written.is_err() {
            // It may hold space that a full disk needs. If it cannot be removed, the next start does it.
            let _ = fs::remove_file(&temporary);
        }
        written?;
        sync_folder(&shard)
    }

    /// Reads a whole document. `None` if there is none.
    pub(super) fn read(&self, id: Uuid) -> Result<Option<Document>, StoreError> {
        let path = self.document(id);
        let mut bytes = Vec::new();
        match read_bounded(&path, &mut bytes) {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        }
        let (session, properties) = parse(&path, &bytes)?;
        Ok(Some(Document { version: FORMAT_VERSION, session, properties }))
    }

    /// Deletes a document for good, if it is there.
    pub(super) fn remove(&self, id: Uuid) -> Result<(), StoreError> {
        let path = self.document(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StoreError::io("remove", &path)(error)),
            Ok(()) => sync_folder(&self.shard(id)),
        }
    }

    /// Whether a player has a document, readable or not.
    pub(super) fn has_document(&self, id: Uuid) -> Result<bool, StoreError> {
        let path = self.document(id);
        match fs::symlink_metadata(&path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("read", &path)(error)),
        }
    }

    /// Deletes for good what was set aside of a player, and says whether there was any.
    pub(super) fn remove_set_aside(&self, id: Uuid) -> Result<bool, StoreError> {
        let folder = self.root.join(DAMAGED);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(StoreError::io("list", &folder)(error)),
        };
        let name = format!("{id}.json");
        let mut found = false;
        for entry in entries {
            let entry = entry.map_err(StoreError::io("list", &folder))?;
            // The second one has a number behind its name, and so on.
            if entry.file_name().to_str().is_some_and(|found| found.starts_with(&name)) {
                fs::remove_file(entry.path()).map_err(StoreError::io("remove", &entry.path()))?;
                found = true;
            }
        }
        if found {
            sync_folder(&folder)?;
        }
        Ok(found)
    }

    /// Moves a damaged document out of the way, never over another, and says where it went.
    pub(super) fn set_aside(&self, path: &Path) -> Result<PathBuf, StoreError> {
        let folder = self.root.join(DAMAGED);
        create_folder(&folder)?;
        let name = path.file_name().unwrap_or_default();
        let mut target = folder.join(name);
        // Nobody else makes files here: the store is locked and one thread at a time sets aside.
        for number in 1_u32.. {
            if fs::symlink_metadata(&target).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                break;
            }
            let mut numbered = name.to_owned();
            numbered.push(format!(".{number}"));
            target = folder.join(numbered);
        }
        fs::rename(path, &target).map_err(StoreError::io("set aside", path))?;
        Ok(target)
    }
}

/// Reads what the index keeps of the document at `path`, after checking that all of the document is well-formed and
/// that it belongs there. `buffer` is scratch space.
pub(super) fn load_session(path: &Path, buffer: &mut Vec<u8>) -> Result<Session, StoreError> {
    read_bounded(path, buffer)?;
    parse::<PropertyRef>(path, buffer).map(|(session, _)| session)
}

/// Parses all of a document. What is damaged is so however much of it is wanted.
fn parse<'a, P: Deserialize<'a>>(path: &Path, bytes: &'a [u8]) -> Result<(Session, Vec<P>), StoreError> {
    let rest: Rest<P> = serde_json::from_slice(bytes).map_err(|error| damaged(path, error))?;
    if rest.version != FORMAT_VERSION {
        let why = format!("its format version is {}, this Postern reads {FORMAT_VERSION}", rest.version);
        return Err(damaged(path, why));
    }
    let mut session: Session = serde_json::from_slice(bytes).map_err(|error| damaged(path, error))?;
    if path.file_name().is_none_or(|name| *name != *format!("{}.json", session.id)) {
        return Err(damaged(path, format!("it is about {}, not about whom its file name says", session.id)));
    }
    let [first, ..] = session.id.into_bytes();
    if path.parent().and_then(Path::file_name).is_none_or(|name| *name != *format!("{first:02x}")) {
        return Err(damaged(path, format!("its folder should be {first:02x}")));
    }
    session.tidy_addresses();
    Ok((session, rest.properties))
}

fn damaged(path: &Path, why: impl Display) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), why: format!("{why}") }
}

fn read_bounded(path: &Path, buffer: &mut Vec<u8>) -> Result<(), StoreError> {
    buffer.clear();
    let metadata = fs::symlink_metadata(path).map_err(StoreError::io("read", path))?;
    // Opening a pipe would wait for ever.
    if !metadata.is_file() {
        return Err(damaged(path, "it is not a regular file"));
    }
    let file = File::open(path).map_err(StoreError::io("read", path))?;
    file.take(MAX_DOCUMENT + 1).read_to_end(buffer).map_err(StoreError::io("read", path))?;
    if buffer.len() as u64 > MAX_DOCUMENT {
        return Err(damaged(path, format!("it is larger than {MAX_DOCUMENT} bytes")));
    }
    Ok(())
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    owner_only(&mut options);
    let mut file = options.open(path).map_err(StoreError::io("create", path))?;
    file.write_all(bytes).map_err(StoreError::io("write", path))?;
    file.sync_all().map_err(StoreError::io("sync", path))
}

/// A folder that is made for a store, which may turn out not to be wanted. Dropped, it is removed with those above it
/// that were made for it, unless there is more in them than the lock. To be dropped while the lock is held.
#[derive(Debug)]
pub(super) struct Made {
    /// Those that did not exist, innermost first.
    folders: Vec<PathBuf>,
}

impl Made {
    /// What is missing for this folder, as yet.
    pub(super) fn missing(root: &Path) -> Vec<PathBuf> {
        let missing = root.ancestors().take_while(|folder| {
            !folder.as_os_str().is_empty()
                && fs::symlink_metadata(folder).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        });
        missing.map(Path::to_owned).collect()
    }

    /// What was missing has been made.
    pub(super) fn of(missing: Vec<PathBuf>) -> Self {
        Self { folders: missing }
    }

    /// The folder is in use.
    pub(super) fn keep(mut self) {
        self.folders.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let Some(root) = self.folders.first() else { return };
        let listed = fs::read_dir(root).map(|entries| entries.flatten().map(|entry| entry.file_name()));
        if listed.is_ok_and(|mut names| names.all(|name| name == LOCK)) {
            // What cannot be removed is an empty folder, which harms nobody.
            let _ = fs::remove_file(root.join(LOCK));
            let _ = self.folders.iter().try_for_each(fs::remove_dir);
        }
    }
}

fn create_folder(path: &Path) -> Result<(), StoreError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(StoreError::io("create the folder", path))
}

#[cfg(unix)]
fn owner_only(options: &mut OpenOptions) {
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
}

/// Other systems give a new file the rights of its folder.
#[cfg(not(unix))]
fn owner_only(_: &mut OpenOptions) {}

/// Makes a rename, a new file or a removal in this folder survive a power cut.
#[cfg(unix)]
fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(StoreError::io("sync the folder", path))
}

/// Other systems cannot sync folders; their journals order the rename after the synced content.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> Result<(), StoreError> {
    Ok(())
}

/// Folders that we made stay ours alone, also after a careless `chmod -R` or a restored backup.
#[cfg(unix)]
fn keep_to_owner(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let open = fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0);
    if open && let Err(error) = fs::set_permissions(path, fs::Permissions::from_mode(0o700)) {
        tracing::warn!(path = %path.display(), %error, "others can look into this folder of sessions; chmod it to 0700");
    }
}

#[cfg(not(unix))]
fn keep_to_owner(_: &Path) {}

/// The folder itself is the owner's choice and may serve other ends too, so its mode is not changed; what is in it
/// is closed to others anyway.
#[cfg(unix)]
fn warn_if_open_to_others(root: &Path) {
    use std::os::unix::fs::PermissionsExt;
    if fs::metadata(root).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
        tracing::warn!(path = %root.display(), "others can list the session folder; chmod it to 0700");
    }
}

#[cfg(not(unix))]
fn warn_if_open_to_others(_: &Path) {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::record::tests::{at, config, login};

    fn session(id: u128) -> Session {
        let config = config(Path::new(""));
        Session::after_login(None, &login(id, "Alice", "192.0.2.1"), &config, at("2026-01-01T00:00:00Z"))
    }

    #[test]
    fn a_document_reads_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let (files, _lock) = Files::open(&folder.path().join("a/b")).unwrap();
        let session = session(0xab << 120 | 1);
        let properties = login(1, "Alice", "192.0.2.1").profile.properties;
        assert_eq!(files.read(session.id).unwrap(), None);
        files.write(&session, &properties).unwrap();
        let path = folder.path().join("a/b/ab/ab000000-0000-0000-0000-000000000001.json");
        assert_eq!(files.document(session.id), path);
        assert_eq!(load_session(&path, &mut Vec::new()).unwrap(), session);
        let document = files.read(session.id).unwrap().unwrap();
        assert_eq!(document, Document { version: 1, session: session.clone(), properties });
        let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(names.len(), 1, "no temporary file is left: {names:?}");

        files.remove(session.id).unwrap();
        files.remove(session.id).unwrap();
        assert_eq!(files.read(session.id).unwrap(), None);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_look() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("sessions");
        let (files, _lock) = Files::open(&root).unwrap();
        let session = session(1);
        files.write(&session, &[]).unwrap();
        let document = files.document(session.id);
        fs::write(document.with_extension("bad"), "x").unwrap();
        files.set_aside(&document.with_extension("bad")).unwrap();
        fs::set_permissions(root.join("00"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(files.shards().unwrap(), [root.join("00")]);
        files.keep_to_owner().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for path in [&root, &root.join("00"), &root.join("damaged")] {
            assert_eq!(mode(path), 0o700, "{}", path.display());
        }
        for path in [&document, &root.join(".lock")] {
            assert_eq!(mode(path), 0o600, "{}", path.display());
        }
    }

    #[test]
    fn damage_is_told_from_the_content() {
        let folder = tempfile::tempdir().unwrap();
        let (files, _lock) = Files::open(folder.path()).unwrap();
        let session = session(1);
        files.write(&session, &[]).unwrap();
        let path = files.document(session.id);
        let good = fs::read_to_string(&path).unwrap();
        let other = "00000000-0000-0000-0000-000000000002";
        for (content, why) in [
            (String::new(), "EOF"),
            ("{}".into(), "missing field `version`"),
            (good.replace("\"version\":1", "\"version\":2"), "format version is 2"),
            (good.replace("\"properties\":[]", "\"properties\":[{\"name\":1}]"), "invalid type"),
            (good.replace("\"Alice\"", "\"Al ice\""), "a username is"),
            (good.replace(&session.id.to_string(), other), "not about whom"),
            (format!("{good}{good}"), "trailing"),
            (" ".repeat(usize::try_from(MAX_DOCUMENT).unwrap()) + &good, "larger than"),
        ] {
            fs::write(&path, content).unwrap();
            let loaded = load_session(&path, &mut Vec::new()).unwrap_err();
            assert!(
                matches!(&loaded, StoreError::Damaged { why: told, .. } if told.contains(why)),
                "{loaded}"
            );
            assert_eq!(files.read(session.id).unwrap_err().to_string(), loaded.to_string());
        }
        let elsewhere = folder.path().join("ff").join(path.file_name().unwrap());
        fs::create_dir(elsewhere.parent().unwrap()).unwrap();
        fs::write(&elsewhere, good).unwrap();
        let error = load_session(&elsewhere, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("its folder should be 00"), "{error}");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let error = load_session(&path, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }

    #[test]
    fn setting_aside_never_overwrites() {
        let folder = tempfile::tempdir().unwrap();
        let (files, _lock) = Files::open(folder.path()).unwrap();
        let path = folder.path().join("x.json");
        let mut targets = Vec::new();
        for content in ["one", "two", "three"] {
            fs::write(&path, content).unwrap();
            targets.push((files.set_aside(&path).unwrap(), content));
        }
        for (target, content) in targets {
            assert_eq!(fs::read_to_string(target).unwrap(), content);
        }
    }

    #[test]
    fn the_lock_names_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let first = Files::open(folder.path()).unwrap();
        let error = Files::open(folder.path()).unwrap_err();
        let StoreError::Locked { directory, holder } = error else { panic!("{error}") };
        assert_eq!(directory, folder.path());
        let process = Some(std::process::id());
        #[cfg(unix)]
        assert_eq!(holder, Holder { process, role: Role::Unknown });
        let told = |role| {
            first.0.announce(role).unwrap();
            let Err(StoreError::Locked { holder, .. }) = Files::open(folder.path()) else { panic!("free") };
            holder
        };
        let admin = Some("[::1]:9464".parse().unwrap());
        for role in [Role::Command, Role::Proxy { admin }, Role::Proxy { admin: None }] {
            #[cfg(unix)]
            assert_eq!(told(role), Holder { process, role });
        }
        drop(first);
        Files::open(folder.path()).unwrap();
    }

    /// What a process that was killed said of itself must not be taken for the word of the next holder, and somebody who
    /// only looks must not be taken for one.
    #[test]
    fn a_lock_that_is_taken_again_says_nothing_of_the_last_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOCK);
        fs::write(&path, "1\nadmin 127.0.0.1:9464\n").unwrap();
        let looker = File::open(&path).unwrap();
        looker.lock_shared().unwrap();
        let opening = thread::scope(|scope| {
            let opening = scope.spawn(|| Files::open(folder.path()));
            // It is emptied while nobody can hold it.
            while fs::metadata(&path).unwrap().len() > 0 {
                thread::yield_now();
            }
            looker.unlock().unwrap();
            opening.join().unwrap()
        });
        let (_files, _lock) = opening.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    }

    #[test]
    fn what_was_set_aside_of_a_player_goes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (files, _lock) = Files::open(folder.path()).unwrap();
        let (player, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert!(!files.remove_set_aside(player).unwrap());
        for id in [player, player, other] {
            let path = folder.path().join(format!("{id}.json"));
            fs::write(&path, "{").unwrap();
            files.set_aside(&path).unwrap();
        }
        assert!(files.remove_set_aside(player).unwrap());
        assert!(!files.remove_set_aside(player).unwrap());
        assert_eq!(fs::read_dir(folder.path().join(DAMAGED)).unwrap().count(), 1);
    }

    #[test]
    fn temporary_names() {
        assert!(Files::is_temporary(".ab000000-0000-0000-0000-000000000001.tmp"));
        for other in ["ab000000-0000-0000-0000-000000000001.tmp", ".notes.tmp", ".tmp", ".x.json", ""] {
            assert!(!Files::is_temporary(other), "{other}");
        }
    }
}
