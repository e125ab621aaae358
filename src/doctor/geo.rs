//! Whether addresses can be looked up.

use std::{path::Path, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;

use super::report::{Area, Finding};
use crate::geo::{Config, KNOWN, Source, Subject, database::Database, provider::Provider};

/// Databases come out twice a week; networks move slowly. From this age on too many have moved.
const OLD: SignedDuration = SignedDuration::from_hours(60 * 24);

/// How long a disk may take to give out databases, of which the largest have some 100 MB.
const READ_TIME: Duration = Duration::from_secs(20);

const AREA: Area = Area::Geo;

/// Examines whatever answers look-ups. Databases are read on a blocking thread.
pub(super) async fn examine(config: &Config, now: Timestamp) -> Vec<Finding> {
    if !config.enabled {
        return vec![Finding::ok(AREA, "enabled", "switched off (security.enable-geo-checks)")];
    }
    match &config.source {
        Source::Web { url } => vec![ask(url, config).await],
        Source::Files { country, asn } => {
            let files = [(country.clone(), Subject::Country), (asn.clone(), Subject::Network)];
            let read = move || {
                let named = files.into_iter().filter_map(|(path, subject)| Some((path?, subject)));
                named.map(|(path, subject)| read(&path, subject, now)).collect()
            };
            let Ok(read) = timeout(READ_TIME, tokio::task::spawn_blocking(read)).await else {
                let cause = "reading the databases takes too long";
                let mend = "look at the disk or network share that they are on";
                return vec![Finding::error(AREA, "database", cause, mend)];
            };
            read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        }
    }
}

async fn ask(url: &str, config: &Config) -> Finding {
    const CHECK: &str = "provider";
    let begun = tokio::time::Instant::now();
    let found = match Provider::new(url, config.timeout) {
        Ok(provider) => provider.look_up(KNOWN).await,
        Err(error) => Err(error),
    };
    match found {
        Ok(place) if place.country.is_some() && place.asn.is_some() => {
            Finding::ok(AREA, CHECK, format!("the provider answers: {KNOWN} is {place}"))
                .took(begun.elapsed())
        }
        Ok(place) => {
            let cause = format!("the provider tells only a part: {KNOWN} is {place}");
            let mend = "name a provider in monitoring.geo-provider-url that tells both, or ask it for both";
            Finding::warning(AREA, CHECK, cause, mend).took(begun.elapsed())
        }
        Err(error) => {
            let cause = format!("the provider of monitoring.geo-provider-url cannot be used: {error}");
            let mend = "let this machine reach it, name another one, or use MaxMind DB files (monitoring.geo-country-database)";
            Finding::warning(AREA, CHECK, cause, mend)
        }
    }
}

fn read(path: &Path, subject: Subject, now: Timestamp) -> Finding {
    const CHECK: &str = "database";
    let shown = path.display();
    let looked_up = Database::open(path).and_then(|database| {
        let place = database.look_up(KNOWN)?;
        Ok((database, place))
    });
    let (database, place) = match looked_up {
        Ok(found) => found,
        Err(error) => {
            let mend = "download it anew (geoipupdate does it), or correct its path under monitoring";
            return Finding::error(AREA, CHECK, format!("{shown} {error}"), mend);
        }
    };
    let kind = database.kind();
    let age = now.duration_since(database.built_at());
    let days = age.as_hours() / 24;
    if !subject.is_told(&place) {
        let what = subject.words();
        let cause = format!("{shown} ({kind}) does not tell {what} of {KNOWN}: it is of another kind");
        let mend = "name a Country or City database under geo-country-database, an ASN or ISP one under geo-asn-database";
        Finding::error(AREA, CHECK, cause, mend)
    } else if age > OLD {
        let cause = format!("{shown} ({kind}) is {days} days old: addresses have moved since");
        let mend = "download it anew, and let a timer do it every week (geoipupdate)";
        Finding::warning(AREA, CHECK, cause, mend)
    } else {
        Finding::ok(AREA, CHECK, format!("{shown} ({kind}) is {days} days old: {KNOWN} is {place}"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{
        doctor::report::Verdict,
        geo::database::writer::{Mmdb, country, network},
    };

    fn config(source: Source) -> Config {
        Config { enabled: true, source, timeout: Duration::from_secs(10), cache_ttl: Duration::ZERO }
    }

    #[tokio::test]
    async fn databases_are_read_dated_and_tried() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| -> PathBuf {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        // 2023-11-14T22:13:20Z
        let built = 1_700_000_000;
        let file = |kind, data: &[u8]| Mmdb::v4(kind).built(built).with("1.0.0.0/8", data).bytes();
        let countries = write("country.mmdb", &file("GeoLite2-Country", &country("AU")));
        let networks = write("asn.mmdb", &file("GeoLite2-ASN", &network(13_335)));
        let broken = write("broken.mmdb", b"<html>sign in to download</html>");
        let gone = folder.path().join("gone.mmdb");
        let (soon, late) = ("2023-12-01T00:00:00Z", "2024-03-01T00:00:00Z");
        for (country, asn, now, expected) in [
            (Some(&countries), Some(&networks), soon, vec![Verdict::Ok, Verdict::Ok]),
            (Some(&countries), None, late, vec![Verdict::Warning]),
            (Some(&networks), Some(&countries), soon, vec![Verdict::Error, Verdict::Error]),
            (Some(&broken), Some(&gone), soon, vec![Verdict::Error, Verdict::Error]),
        ] {
            let source = Source::Files { country: country.cloned(), asn: asn.cloned() };
            let found = examine(&config(source), now.parse().unwrap()).await;
            let verdicts: Vec<_> = found.iter().map(|finding| finding.verdict).collect();
            assert_eq!(verdicts, expected, "{found:?}");
        }
    }

    #[tokio::test]
    async fn a_provider_that_does_not_answer_is_a_warning_and_stays_unnamed() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let url = format!("http://{}/{{ip}}?key=hush", socket.local_addr().unwrap());
        let found = examine(&config(Source::Web { url }), Timestamp::UNIX_EPOCH).await;
        assert_eq!((found.len(), found[0].verdict), (1, Verdict::Warning));
        assert!(!format!("{found:?}").contains("hush"), "{found:?}");
        let off = Config { enabled: false, ..config(Source::Web { url: "http://{ip}".into() }) };
        assert_eq!(examine(&off, Timestamp::UNIX_EPOCH).await[0].verdict, Verdict::Ok);
    }
}
