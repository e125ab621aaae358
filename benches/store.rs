//! What the session store costs: one durable write, opening 100 000 players, one look-up.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot run should stop")]

use std::{
    fs,
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::Duration,
};

use criterion::Criterion;
use jiff::Timestamp;
use postern::{
    clock::Clock,
    identity::{Profile, Property, Username},
    session::{
        Config, Store, VerifiedLogin,
        record::{Document, FORMAT_VERSION, Session},
    },
};
use uuid::Uuid;

const PLAYERS: u32 = 100_000;
const START: Timestamp = Timestamp::constant(1_767_225_600, 0);

fn config(folder: &Path) -> Config {
    Config {
        directory: folder.to_owned(),
        cleanup_on_startup: true,
        max_address_age: Duration::from_hours(168),
        ipv4_range_prefix: 24,
        ipv6_range_prefix: 64,
    }
}

/// Ids spread over the folders as real ones do.
fn id(player: u32) -> Uuid {
    Uuid::from_u128(u128::from(player).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

fn login(player: u32) -> VerifiedLogin {
    // As long as signed textures are.
    let textures =
        Property { name: "textures".into(), value: "e".repeat(1500), signature: Some("s".repeat(684)) };
    VerifiedLogin {
        profile: Profile {
            id: id(player),
            name: Username::parse(&format!("player{player}")).unwrap(),
            properties: vec![textures],
        },
        address: IpAddr::V4(Ipv4Addr::from(player + 0x0a00_0000)),
        protocol: 774,
        has_dialogs: true,
    }
}

/// Documents of all players, written without syncing, which would take longer than all else here.
fn fill(folder: &Path, template: &Session) {
    for player in 0..PLAYERS {
        let VerifiedLogin { profile, address, .. } = login(player);
        let mut session = Session { id: profile.id, name: Some(profile.name), ..template.clone() };
        session.addresses.iter_mut().for_each(|known| known.address = address);
        let document = Document { version: FORMAT_VERSION, session, properties: profile.properties };
        let id = profile.id.to_string();
        let shard = folder.join(id.get(..2).unwrap());
        fs::create_dir_all(&shard).unwrap();
        fs::write(shard.join(format!("{id}.json")), serde_json::to_vec(&document).unwrap()).unwrap();
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let open = || async { Store::open(config(folder.path()), Clock::starting_at(START)).await.unwrap() };

    let (store, _) = runtime.block_on(open());
    criterion.bench_function("one durable write", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                store.record_verified(login(0));
                store.flush().await.unwrap();
            });
        });
    });
    let template = Session::clone(&store.by_id(id(0)).unwrap());
    runtime.block_on(store.close()).unwrap();

    fill(folder.path(), &template);
    let mut slow = criterion.benchmark_group("slow");
    slow.sample_size(10);
    slow.bench_function("open 100 000 players", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                let (store, report) = open().await;
                assert_eq!(report.sessions, 100_000);
                store.close().await.unwrap();
            });
        });
    });
    slow.finish();

    let (store, _) = runtime.block_on(open());
    let name = Username::parse("PLAYER77777").unwrap();
    criterion.bench_function("find among 100 000", |bencher| {
        bencher.iter(|| black_box(store.find(black_box(&name), None)).unwrap());
    });
    // Costs what the first one did: a write knows nothing of the other players.
    criterion.bench_function("one durable write among 100 000", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                store.record_verified(login(1));
                store.flush().await.unwrap();
            });
        });
    });
    runtime.block_on(store.close()).unwrap();
    criterion.final_summary();
}
