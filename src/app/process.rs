//! What the operating system says of this process. Linux alone tells it in files; elsewhere these figures are absent.

use crate::metric::{Error, Registry};

#[cfg(not(target_os = "linux"))]
/// Nothing is known here.
pub(super) fn register(_: &Registry) -> Result<(), Error> {
    Ok(())
}

#[cfg(target_os = "linux")]
pub(super) use linux::register;

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;

    use rustix::{
        param::clock_ticks_per_second,
        process::{Resource, getrlimit},
    };

    use super::{Error, Registry};
    use crate::metric::{Readings, length, number};

    /// What the system says now, unless it does not.
    type Source = fn() -> Option<f64>;

    /// A value without labels, or none where the system does not tell it.
    type Reading = Vec<([&'static str; 0], f64)>;

    pub(in crate::app) fn register(registry: &Registry) -> Result<(), Error> {
        let gauges: [(&str, &str, Source); 5] = [
            ("postern_process_open_fds", "Files and sockets that this process has open.", open_descriptors),
            ("postern_process_max_fds", "Most files and sockets that it may have open.", || {
                getrlimit(Resource::Nofile).current.map(number)
            }),
            ("postern_process_resident_memory_bytes", "Memory of this process that is in RAM.", || {
                kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:").map(|kib| kib * 1024.0)
            }),
            ("postern_process_threads", "Threads of this process.", || Stat::read().map(|stat| stat.threads)),
            ("postern_process_start_time_seconds", "When this process began.", || {
                Some(booted()? + Stat::read()?.started)
            }),
        ];
        for (name, help, read) in gauges {
            Readings::gauge(name, help, [], move || reading(read())).register(registry)?;
        }
        Readings::total("postern_process_cpu_seconds_total", "Processor time that it has used.", [], || {
            reading(Stat::read().map(|stat| stat.cpu))
        })
        .register(registry)
    }

    fn reading(value: Option<f64>) -> Reading {
        value.map(|value| ([], value)).into_iter().collect()
    }

    /// The folder's size says it at once since Linux 6.2; before that it is 0, and they have to be counted.
    fn open_descriptors() -> Option<f64> {
        let told = fs::metadata("/proc/self/fd").ok()?.len();
        if told > 0 {
            return Some(number(told));
        }
        // Without the one that reads.
        Some(length(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1)))
    }

    /// The value of a line such as `VmRSS:  1234 kB`.
    fn kibibytes(text: &str, key: &str) -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// When the machine was started, in seconds since 1970.
    fn booted() -> Option<f64> {
        let text = fs::read_to_string("/proc/stat").ok()?;
        text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
    }

    /// What `/proc/self/stat` says.
    #[derive(Debug, PartialEq)]
    struct Stat {
        /// Processor time used, in seconds.
        cpu: f64,
        threads: f64,
        /// When it began, in seconds since the machine was started.
        started: f64,
    }

    impl Stat {
        fn read() -> Option<Self> {
            Self::parse(&fs::read_to_string("/proc/self/stat").ok()?, number(clock_ticks_per_second()))
        }

        /// The fields behind the program's name, which stands in brackets and may hold anything.
        fn parse(text: &str, ticks: f64) -> Option<Self> {
            let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
            // As proc(5) counts them: the one behind the name is the third.
            let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
            Some(Self {
                cpu: (field(14)? + field(15)?) / ticks,
                threads: field(20)?,
                started: field(22)? / ticks,
            })
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn fields_are_counted_from_the_end_of_the_name() {
            let text = "4242 (a b) c) S 1 4242 4242 0 -1 4194560 900 0 3 0 250 50 0 0 20 0 7 0 12345 99999 800 1844\n";
            let stat = Stat { cpu: 3.0, threads: 7.0, started: 123.45 };
            assert_eq!(Stat::parse(text, 100.0), Some(stat));
            assert_eq!(Stat::parse("4242 (a", 100.0), None);
            assert_eq!(Stat::parse("4242 (a) S 1", 100.0), None);
        }

        #[test]
        fn memory_is_in_kibibytes() {
            let text = "VmPeak:\t  20 kB\nVmRSS:\t    1234 kB\nThreads:\t3\n";
            assert_eq!(kibibytes(text, "VmRSS:"), Some(1234.0));
            assert_eq!(kibibytes(text, "VmSwap:"), None);
        }

        #[test]
        fn the_system_tells_what_is_so() {
            assert!(open_descriptors().unwrap() >= 3.0);
            let stat = Stat::read().unwrap();
            assert!(stat.threads >= 1.0 && stat.started > 0.0 && stat.cpu >= 0.0);
            assert!(booted().unwrap() > 1_000_000_000.0);
        }
    }
}
