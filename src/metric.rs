//! Families of figures, as Prometheus reads them: what is counted, how long things take, and what is so at the moment of
//! reading.
//!
//! A family has its series from the start, each told from the others by words that stand in the source: a label can
//! take no text that came from outside, and a rate sees the first event as well as the second. Counting is a relaxed
//! addition in memory, without a lock, and cannot fail; whether names are valid and unique is found out when a family is
//! [registered](Counters::register), which happens at the start.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus::{
    core::{Collector, Desc},
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

pub use prometheus::{Error, Registry};

/// Upper bounds in seconds for what is asked over the internet: from the same city to the longest time-outs. What runs into
/// one of 5 s, the default, takes a little longer, and must not be taken for something that took 10 s.
pub const NETWORK: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 5.5, 10.0];

/// The same for what is as a rule on the same machine or in the same rack.
pub const NEARBY: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 5.5, 10.0];

/// Upper bounds in seconds for what a client has a part in: from a round trip to what a player needs to type a PIN.
pub const CLIENT: &[f64] = &[0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0];

/// Upper bounds in seconds for small files that are written and synced.
pub const DISK: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// What a family is called.
#[derive(Clone, Debug)]
struct Title<const N: usize> {
    name: &'static str,
    help: &'static str,
    labels: [&'static str; N],
}

impl<const N: usize> Title<N> {
    /// The series of these values.
    fn series(&self, values: &[&'static str; N]) -> Metric {
        let pairs = self.labels.iter().zip(values).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        Metric::from_label(pairs.collect())
    }

    fn register(
        self,
        registry: &Registry,
        kind: MetricType,
        read: impl Fn(&Self) -> Vec<Metric> + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let labels = self.labels.iter().map(|label| (*label).to_owned()).collect();
        let desc = Desc::new(self.name.to_owned(), self.help.to_owned(), labels, HashMap::new())?;
        registry.register(Box::new(Family { desc, kind, read: Box::new(move || read(&self)) }))
    }
}

/// A family among others.
struct Family {
    desc: Desc,
    kind: MetricType,
    read: Box<dyn Fn() -> Vec<Metric> + Send + Sync>,
}

impl Collector for Family {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(self.kind);
        family.set_metric((self.read)());
        vec![family]
    }
}

/// Counts of what happened, in one series for each combination of label values. Clones count together.
#[derive(Clone, Debug)]
pub struct Counters<const N: usize> {
    title: Title<N>,
    series: Arc<[([&'static str; N], AtomicU64)]>,
}

impl Counters<0> {
    /// One count without labels. The name ends in `_total`.
    pub fn one(name: &'static str, help: &'static str) -> Self {
        Self::new(name, help, [], [[]])
    }
}

impl<const N: usize> Counters<N> {
    /// A count for each of `series`, which are the values of `labels`. The name ends in `_total`.
    pub fn new(
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
        series: impl IntoIterator<Item = [&'static str; N]>,
    ) -> Self {
        let series = series.into_iter().map(|values| (values, AtomicU64::new(0))).collect();
        Self { title: Title { name, help, labels }, series }
    }

    /// It happened once more.
    pub fn count(&self, values: [&'static str; N]) {
        let series = self.series.iter().find(|(known, _)| *known == values);
        debug_assert!(series.is_some(), "{} has no series {values:?}", self.title.name);
        if let Some((_, count)) = series {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often it happened; 0 for a series that there is not.
    pub fn value(&self, values: [&'static str; N]) -> u64 {
        let series = self.series.iter().find(|(known, _)| *known == values);
        series.map_or(0, |(_, count)| count.load(Ordering::Relaxed))
    }

    /// Has it read with the others.
    ///
    /// # Errors
    /// If the name or a label is none, or the family is registered already.
    pub fn register(&self, registry: &Registry) -> Result<(), Error> {
        let series = Arc::clone(&self.series);
        self.title.clone().register(registry, MetricType::COUNTER, move |title| {
            let counted = series.iter();
            counted.map(|(values, count)| counter(title.series(values), number(load(count)))).collect()
        })
    }
}

/// How long things took, in one series for each combination of label values. Clones count together.
#[derive(Clone, Debug)]
pub struct Timings<const N: usize> {
    title: Title<N>,
    /// Upper bounds in seconds, rising.
    bounds: &'static [f64],
    series: Arc<[([&'static str; N], Spread)]>,
}

/// How the durations of one series are spread.
#[derive(Debug)]
struct Spread {
    /// How many lie within each bound and not within the one before; at the end, those beyond all.
    within: Box<[AtomicU64]>,
    /// All of them together, in nanoseconds: some 580 years.
    sum: AtomicU64,
}

impl Timings<0> {
    /// One series without labels. The name ends in `_seconds`.
    pub fn one(name: &'static str, help: &'static str, bounds: &'static [f64]) -> Self {
        Self::new(name, help, bounds, [], [[]])
    }
}

impl<const N: usize> Timings<N> {
    /// Durations for each of `series`, which are the values of `labels`, told apart by the `bounds`. The name ends in
    /// `_seconds`.
    pub fn new(
        name: &'static str,
        help: &'static str,
        bounds: &'static [f64],
        labels: [&'static str; N],
        series: impl IntoIterator<Item = [&'static str; N]>,
    ) -> Self {
        let spread = || Spread {
            within: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        };
        let series = series.into_iter().map(|values| (values, spread())).collect();
        Self { title: Title { name, help, labels }, bounds, series }
    }

    /// It took so long this time.
    pub fn took(&self, values: [&'static str; N], time: Duration) {
        let series = self.series.iter().find(|(known, _)| *known == values);
        debug_assert!(series.is_some(), "{} has no series {values:?}", self.title.name);
        let Some((_, spread)) = series else { return };
        let seconds = time.as_secs_f64();
        let place = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = spread.within.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        spread.sum.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How often it happened; 0 for a series that there is not.
    pub fn times(&self, values: [&'static str; N]) -> u64 {
        let series = self.series.iter().find(|(known, _)| *known == values);
        series.map_or(0, |(_, spread)| spread.within.iter().map(load).sum())
    }

    /// Has it read with the others.
    ///
    /// # Errors
    /// As for [`Counters::register`].
    pub fn register(&self, registry: &Registry) -> Result<(), Error> {
        let (bounds, series) = (self.bounds, Arc::clone(&self.series));
        self.title.clone().register(registry, MetricType::HISTOGRAM, move |title| {
            series.iter().map(|(values, spread)| spread.read(title.series(values), bounds)).collect()
        })
    }
}

impl Spread {
    fn read(&self, mut metric: Metric, bounds: &[f64]) -> Metric {
        let mut histogram = Histogram::default();
        let (mut sofar, mut buckets) = (0, Vec::with_capacity(bounds.len()));
        for (count, bound) in self.within.iter().zip(bounds.iter().copied().chain([f64::INFINITY])) {
            sofar += load(count);
            if bound.is_finite() {
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(bound);
                bucket.set_cumulative_count(sofar);
                buckets.push(bucket);
            }
        }
        histogram.set_bucket(buckets);
        // From the same reading as the buckets: together they always make sense.
        histogram.set_sample_count(sofar);
        histogram.set_sample_sum(Duration::from_nanos(load(&self.sum)).as_secs_f64());
        metric.set_histogram(histogram);
        metric
    }
}

/// What is so when somebody reads it. Takes a clone of whatever handle knows; must be quick, and hold no lock for long.
pub struct Readings<const N: usize> {
    title: Title<N>,
    kind: MetricType,
    read: Read<N>,
}

/// The series that there are at this moment, each with its value. With none, the family is left out.
type Read<const N: usize> = Box<dyn Fn() -> Vec<([&'static str; N], f64)> + Send + Sync>;

impl<const N: usize> fmt::Debug for Readings<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readings").field(&self.title).finish()
    }
}

impl<const N: usize> Readings<N> {
    /// Values that go up and down.
    pub fn gauge(
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
        read: impl Fn() -> Vec<([&'static str; N], f64)> + Send + Sync + 'static,
    ) -> Self {
        Self { title: Title { name, help, labels }, kind: MetricType::GAUGE, read: Box::new(read) }
    }

    /// Counts that are kept elsewhere and only go up. The name ends in `_total`.
    pub fn total(
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
        read: impl Fn() -> Vec<([&'static str; N], f64)> + Send + Sync + 'static,
    ) -> Self {
        Self { title: Title { name, help, labels }, kind: MetricType::COUNTER, read: Box::new(read) }
    }

    /// Has it read with the others.
    ///
    /// # Errors
    /// As for [`Counters::register`].
    pub fn register(self, registry: &Registry) -> Result<(), Error> {
        let Self { title, kind, read } = self;
        title.register(registry, kind, move |title| {
            let series = read().into_iter().map(|(values, value)| {
                let series = title.series(&values);
                if kind == MetricType::COUNTER { counter(series, value) } else { gauge(series, value) }
            });
            series.collect()
        })
    }
}

/// One value without labels.
pub fn alone(value: f64) -> Vec<([&'static str; 0], f64)> {
    vec![([], value)]
}

/// One series for each state, 1 for the one that is so.
pub fn one_of(states: &[&'static str], now: Option<&str>) -> Vec<([&'static str; 1], f64)> {
    states.iter().map(|state| ([*state], if now == Some(*state) { 1.0 } else { 0.0 })).collect()
}

/// A count as Prometheus has numbers, exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
pub const fn number(count: u64) -> f64 {
    count as f64
}

/// The same of what has a length.
pub const fn length(len: usize) -> f64 {
    number(len as u64)
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn counter(mut metric: Metric, value: f64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value);
    metric.set_counter(counter);
    metric
}

fn gauge(mut metric: Metric, value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    metric.set_gauge(gauge);
    metric
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    fn text(registry: &Registry) -> String {
        TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
    }

    #[test]
    fn every_series_is_there_before_anything_happens() {
        let registry = Registry::new();
        let doors =
            Counters::new("doors_total", "Doors.", ["what", "how"], [["open", "wide"], ["shut", "fast"]]);
        doors.register(&registry).unwrap();
        doors.clone().count(["shut", "fast"]);
        assert_eq!(
            text(&registry),
            "# HELP doors_total Doors.\n# TYPE doors_total counter\ndoors_total{what=\"open\",how=\"wide\"} 0\n\
             doors_total{what=\"shut\",how=\"fast\"} 1\n"
        );
        assert_eq!((doors.value(["shut", "fast"]), doors.value(["shut", "wide"])), (1, 0));
    }

    #[test]
    fn durations_lie_within_their_bounds() {
        let registry = Registry::new();
        let waits = Timings::one("wait_seconds", "Waits.", &[0.1, 1.0]);
        waits.register(&registry).unwrap();
        for millis in [50, 100, 101, 1000, 4000] {
            waits.took([], Duration::from_millis(millis));
        }
        assert_eq!(
            text(&registry),
            "# HELP wait_seconds Waits.\n# TYPE wait_seconds histogram\nwait_seconds_bucket{le=\"0.1\"} 2\n\
             wait_seconds_bucket{le=\"1\"} 4\nwait_seconds_bucket{le=\"+Inf\"} 5\nwait_seconds_sum 5.251\n\
             wait_seconds_count 5\n"
        );
        assert_eq!(waits.times([]), 5);
    }

    #[test]
    fn readings_are_taken_when_they_are_asked_for() {
        let registry = Registry::new();
        let now = Arc::new(AtomicU64::new(1));
        let read = Arc::clone(&now);
        let states = ["shut", "open"];
        let state = move || match load(&read) {
            0 => Vec::new(),
            1 => one_of(&states, Some("shut")),
            _ => one_of(&states, Some("open")),
        };
        Readings::gauge("door", "The door.", ["state"], state).register(&registry).unwrap();
        let seen = text(&registry);
        assert!(seen.ends_with("door{state=\"open\"} 0\ndoor{state=\"shut\"} 1\n"), "{seen}");
        now.store(2, Ordering::Relaxed);
        let seen = text(&registry);
        assert!(seen.ends_with("door{state=\"open\"} 1\ndoor{state=\"shut\"} 0\n"), "{seen}");
        now.store(0, Ordering::Relaxed);
        assert_eq!(text(&registry), "");
    }

    #[test]
    fn what_prometheus_would_not_read_is_not_registered() {
        let registry = Registry::new();
        let one = |name| Counters::one(name, "Help.").register(&registry);
        one("a_total").unwrap();
        assert!(one("a_total").is_err(), "twice");
        assert!(one("b-total").is_err(), "no name");
        assert!(Counters::new("c_total", "Help.", ["a-b"], [["x"]]).register(&registry).is_err(), "no label");
    }
}
