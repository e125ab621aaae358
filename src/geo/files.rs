//! Look-ups in MaxMind DB files, which are read anew when they are replaced.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::{
    StartError,
    database::{Database, DatabaseError},
};
use crate::place::Place;

/// A public address that every provider and database lists, and that is nobody's home.
pub const KNOWN: IpAddr = IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1));

/// How often it is looked whether a file was replaced. It costs as much as listing one file.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a database is named for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Countries.
    Country,
    /// Networks.
    Network,
}

impl Subject {
    /// The key under `monitoring` that names such a database.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Country => "geo-country-database",
            Self::Network => "geo-asn-database",
        }
    }

    /// One of it, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Country => "a country",
            Self::Network => "a network",
        }
    }

    /// Whether it is told of that place.
    pub const fn is_told(self, place: &Place) -> bool {
        match self {
            Self::Country => place.country.is_some(),
            Self::Network => place.asn.is_some(),
        }
    }
}

/// All databases that are named.
#[derive(Debug)]
pub(super) struct Files(Vec<Arc<File>>);

#[derive(Debug)]
struct File {
    subject: Subject,
    path: PathBuf,
    /// What the file was like when it was opened.
    opened: Option<Stamp>,
    database: Mutex<Arc<Database>>,
}

/// By what it shows that a file is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    /// Its number on the disk, where there is one: who replaces a file may set its time back to that of the source.
    inode: u64,
}

impl Stamp {
    /// `None` if there is no file.
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Some(Self { modified: metadata.modified().ok(), len: metadata.len(), inode })
    }
}

impl Files {
    /// Reads the databases. Blocks.
    pub(super) fn open(country: Option<&Path>, network: Option<&Path>) -> Result<Self, StartError> {
        let named = [(Subject::Country, country), (Subject::Network, network)];
        let named = named.into_iter().filter_map(|(subject, path)| Some((subject, path?)));
        let files = named.map(|(subject, path)| {
            // Before it is read: if it is replaced meanwhile, that shows later.
            let opened = Stamp::of(path);
            let database = Database::open(path).map_err(|error| {
                let path = path.to_owned();
                StartError::Database { subject, path, error }
            })?;
            let file =
                File { subject, path: path.to_owned(), opened, database: Mutex::new(Arc::new(database)) };
            file.warn_if_useless();
            Ok(Arc::new(file))
        });
        Ok(Self(files.collect::<Result<_, _>>()?))
    }

    /// What all databases together tell of an address. Each is believed first in what it is named for.
    pub(super) fn look_up(&self, address: IpAddr) -> Option<Place> {
        let mut found = Place::default();
        let mut besides = Place::default();
        for file in &self.0 {
            let place = file.look_up(address);
            match file.subject {
                Subject::Country => (found.country, besides.asn) = (place.country, place.asn),
                Subject::Network => (found.asn, besides.country) = (place.asn, place.country),
            }
        }
        let country = found.country.or(besides.country);
        let asn = found.asn.or(besides.asn);
        (country.is_some() || asn.is_some()).then_some(Place { country, asn })
    }

    /// Reads files anew that were replaced, until it is dropped. Disks are touched off the network threads. Returns only
    /// if the runtime is going.
    pub(super) async fn watch(&self) {
        let mut watches: Vec<Watch> = self.0.iter().cloned().map(Watch::new).collect();
        loop {
            sleep(LOOK_EVERY).await;
            let looked = tokio::task::spawn_blocking(move || {
                let news: Vec<_> = watches.iter_mut().map(Watch::look).collect();
                (watches, news)
            });
            let news;
            (watches, news) = match looked.await {
                Ok(looked) => looked,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => return,
            };
            for (watch, news) in watches.iter().zip(news) {
                if let Some(news) = news {
                    news.tell(&watch.file);
                }
            }
        }
    }
}

impl File {
    fn database(&self) -> Arc<Database> {
        Arc::clone(&self.database.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn look_up(&self, address: IpAddr) -> Place {
        self.database().look_up(address).unwrap_or_else(|error| {
            // Every record was read when the file was: this is none of them.
            debug!(%address, %error, "a geo database fails at this address");
            Place::default()
        })
    }

    /// A database of another kind is a whole one, and tells nothing of what it is named for.
    fn warn_if_useless(&self) {
        let place = self.look_up(KNOWN);
        if !self.subject.is_told(&place) {
            warn!(
                "monitoring.{}: {} ({}) does not tell {} of {KNOWN}; `postern doctor` says more",
                self.subject.key(),
                self.path.display(),
                self.database().kind(),
                self.subject.words()
            );
        }
    }
}

/// What is known of one file and its changes.
#[derive(Debug)]
struct Watch {
    file: Arc<File>,
    /// As it was when it was last read, or found gone.
    read: Option<Stamp>,
    /// As it was at the last look.
    seen: Option<Stamp>,
}

impl Watch {
    fn new(file: Arc<File>) -> Self {
        Self { read: file.opened, seen: file.opened, file }
    }

    /// Looks at the file, and reads it anew if it is another one and has been at rest since the last look: one that is
    /// being written is left alone. One that cannot be used leaves the old one in place. Blocks.
    fn look(&mut self) -> Option<News> {
        let stamp = Stamp::of(&self.file.path);
        let rests = stamp == self.seen;
        self.seen = stamp;
        if !rests || stamp == self.read {
            return None;
        }
        if stamp.is_none() {
            self.read = stamp;
            return Some(News::Gone);
        }
        let opened = Database::open(&self.file.path);
        self.seen = Stamp::of(&self.file.path);
        if self.seen != stamp {
            // It changed under the reader; it will be read when it rests.
            return None;
        }
        self.read = stamp;
        Some(opened.map_or_else(News::Broken, |database| {
            let news = News::Replaced { kind: database.kind().to_owned(), built: database.built_at() };
            *self.file.database.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(database);
            news
        }))
    }
}

/// What became of a file.
#[derive(Debug)]
enum News {
    /// It is another one, which is in use.
    Replaced { kind: String, built: Timestamp },
    /// It is something that cannot be used.
    Broken(DatabaseError),
    /// There is none any more.
    Gone,
}

impl News {
    /// Tells the owner.
    fn tell(&self, file: &File) {
        let (path, key) = (file.path.display(), file.subject.key());
        match self {
            Self::Replaced { kind, built } => {
                info!("monitoring.{key}: {path} was replaced and is in use now ({kind}, made {built})");
                file.warn_if_useless();
            }
            Self::Broken(error) => warn!(
                "monitoring.{key}: {path} was replaced and {error}; the one before stays in use until the next start. \
                 Download it anew (geoipupdate does it)"
            ),
            Self::Gone => {
                warn!(
                    "monitoring.{key}: {path} is gone; what was read of it stays in use until the next start"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;

    use super::*;
    use crate::geo::database::writer::{Mmdb, country, network};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn all(kind: &str, data: &[u8]) -> Vec<u8> {
        Mmdb::v4(kind).with("0.0.0.0/0", data).bytes()
    }

    struct Scene {
        folder: tempfile::TempDir,
        files: Arc<Files>,
        watching: JoinHandle<()>,
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            self.watching.abort();
        }
    }

    impl Scene {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("country.mmdb");
            fs::write(&path, all("GeoLite2-Country", &country("DE"))).unwrap();
            let files = Arc::new(Files::open(Some(&path), None).unwrap());
            let watched = Arc::clone(&files);
            let watching = tokio::spawn(async move { watched.watch().await });
            Self { folder, files, watching }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("country.mmdb")
        }

        /// As those who care do it: beside the old one, and then in its place.
        fn replace(&self, bytes: &[u8]) {
            let beside = self.folder.path().join("new");
            fs::write(&beside, bytes).unwrap();
            fs::rename(beside, self.path()).unwrap();
        }

        fn says(&self) -> String {
            self.files.look_up(ip("203.0.113.5")).map_or("nothing".to_owned(), |place| place.to_string())
        }

        /// Long enough for the file to be looked at that often.
        async fn looks(&self, times: u32) {
            sleep(LOOK_EVERY * times + LOOK_EVERY / 2).await;
        }
    }

    #[test]
    fn databases_complete_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: Vec<u8>| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let countries = Mmdb::v4("C").with("203.0.113.0/24", &country("DE")).bytes();
        let networks =
            Mmdb::v6("N").with("203.0.113.5/32", &network(64_496)).with("2001:db8::/32", &network(7));
        let (countries, networks) = (write("c", countries), write("n", networks.bytes()));
        for (country, network, expected) in [
            (
                Some(&countries),
                Some(&networks),
                ["country DE, network AS64496", "country DE, no network", "no country, network AS7"],
            ),
            (Some(&countries), None, ["country DE, no network", "country DE, no network", "nothing"]),
            (None, Some(&networks), ["no country, network AS64496", "nothing", "no country, network AS7"]),
            // Each under the other's key: they tell what they have.
            (
                Some(&networks),
                Some(&countries),
                ["country DE, network AS64496", "country DE, no network", "no country, network AS7"],
            ),
        ] {
            let files = Files::open(country.map(PathBuf::as_path), network.map(PathBuf::as_path)).unwrap();
            for (address, expected) in ["203.0.113.5", "203.0.113.6", "2001:db8::1"].into_iter().zip(expected)
            {
                let said = files.look_up(ip(address)).map_or("nothing".to_owned(), |place| place.to_string());
                assert_eq!(said, expected, "{address}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_replaced_file_is_read_anew_once_it_rests() {
        let scene = Scene::new();
        scene.looks(3).await;
        assert_eq!(scene.says(), "country DE, no network");
        scene.replace(&all("GeoLite2-Country", &country("FR")));
        scene.looks(1).await;
        assert_eq!(scene.says(), "country DE, no network", "it may be half written");
        scene.looks(1).await;
        assert_eq!(scene.says(), "country FR, no network");
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_or_missing_one_leaves_the_old_one_in_place() {
        let scene = Scene::new();
        scene.looks(1).await;
        let whole = all("GeoLite2-Country", &country("FR"));
        scene.replace(&whole[..whole.len() / 2]);
        scene.looks(4).await;
        assert_eq!(scene.says(), "country DE, no network");
        fs::remove_file(scene.path()).unwrap();
        scene.looks(4).await;
        assert_eq!(scene.says(), "country DE, no network");
        // Written in place, bit by bit.
        for len in [1, whole.len() / 2, whole.len() - 1] {
            fs::write(scene.path(), &whole[..len]).unwrap();
            scene.looks(0).await;
            assert_eq!(scene.says(), "country DE, no network");
        }
        fs::write(scene.path(), &whole).unwrap();
        scene.looks(2).await;
        assert_eq!(scene.says(), "country FR, no network");
    }

    #[cfg(unix)]
    #[tokio::test(start_paused = true)]
    async fn another_file_of_the_same_time_and_length_is_another_file() {
        let scene = Scene::new();
        let time = fs::metadata(scene.path()).unwrap().modified().unwrap();
        let beside = scene.folder.path().join("new");
        fs::write(&beside, all("GeoLite2-Country", &country("FR"))).unwrap();
        fs::File::options().write(true).open(&beside).unwrap().set_modified(time).unwrap();
        fs::rename(beside, scene.path()).unwrap();
        scene.looks(2).await;
        assert_eq!(scene.says(), "country FR, no network");
    }
}
