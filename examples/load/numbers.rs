//! Arithmetic on figures, and the numbers in files of `/proc`. All of it pure.

/// The value in the middle; of an even count, the mean of the two in the middle. `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(middle.checked_sub(1)?)?;
    Some(f64::midpoint(lower, upper))
}

/// The smallest value that at least `percent` of all do not exceed (the nearest-rank method). `None` of nothing.
pub(crate) fn percentile(values: &[u64], percent: usize) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// User and system time in clock ticks, from the text of `/proc/PID/stat`.
pub(crate) fn stat_ticks(text: &str) -> Option<u64> {
    // The second field is the program's name in parentheses, which may hold anything. User and system time are the
    // 14th and 15th field, so the 12th and 13th behind it.
    let (_, behind) = text.rsplit_once(')')?;
    let mut fields = behind.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// Nanoseconds on a processor, from the text of `/proc/PID/task/TID/schedstat`.
pub(crate) fn schedstat_nanoseconds(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// Resident memory in bytes, from the text of `/proc/PID/status`.
pub(crate) fn resident_bytes(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The soft limit of open files, from the text of `/proc/PID/limits`. `None` also if there is no limit.
pub(crate) fn open_files_limit(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        for (values, expected) in [
            (&[][..], None),
            (&[4.0], Some(4.0)),
            (&[9.0, 1.0], Some(5.0)),
            (&[9.0, 1.0, 2.0], Some(2.0)),
            (&[4.0, 1.0, 2.0, 100.0], Some(3.0)),
        ] {
            assert_eq!(median(values), expected, "{values:?}");
        }
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let hundred: Vec<u64> = (1..=100).rev().collect();
        for (values, percent, expected) in [
            (&[][..], 50, None),
            (&[7], 0, Some(7)),
            (&[7], 99, Some(7)),
            (&[3, 1], 50, Some(1)),
            (&[3, 1], 51, Some(3)),
            (&hundred, 50, Some(50)),
            (&hundred, 99, Some(99)),
            (&hundred, 100, Some(100)),
        ] {
            assert_eq!(percentile(values, percent), expected, "{percent} of {values:?}");
        }
    }

    #[test]
    fn a_program_may_be_called_anything() {
        let fields = "S 1 77 77 0 -1 4194304 500 0 3 0 120 34 5 6 20 0 3 0 1234 5678 90";
        for name in ["postern", "a b", "x) R 1 2 3 4 5 6 7 8 9 10 11 12 13", "((("] {
            assert_eq!(stat_ticks(&format!("42 ({name}) {fields}")), Some(154), "{name}");
        }
        assert_eq!(stat_ticks("42 (postern) S 1 77"), None);
        assert_eq!(stat_ticks(""), None);
    }

    #[test]
    fn numbers_of_proc() {
        assert_eq!(schedstat_nanoseconds("185164 3801943 2\n"), Some(185_164));
        assert_eq!(schedstat_nanoseconds(""), None);
        let status = "Name:\tpostern\nVmHWM:\t   20000 kB\nVmRSS:\t   12345 kB\nThreads:\t3\n";
        assert_eq!(resident_bytes(status), Some(12_641_280));
        assert_eq!(resident_bytes("Name:\tkthreadd\n"), None);
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             95983                95983                processes \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(open_files_limit(limits), Some(1024));
        assert_eq!(open_files_limit("Max open files            unlimited  unlimited  files"), None);
    }
}
