//! Reads the text format of Prometheus, and takes nothing that only some readers would.

use std::collections::{BTreeMap, BTreeSet};

/// One family.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) help: String,
    pub(crate) kind: String,
    /// In the order of the text. Of a histogram all three kinds of sample.
    pub(crate) samples: Vec<Sample>,
}

#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: f64,
}

impl Sample {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }

    /// Without the bound of a bucket.
    pub(crate) fn own_labels(&self) -> Vec<(String, String)> {
        self.labels.iter().filter(|(name, _)| name != "le").cloned().collect()
    }
}

impl Family {
    /// The names of its labels.
    pub(crate) fn labels(&self) -> Vec<String> {
        self.samples[0].own_labels().into_iter().map(|(name, _)| name).collect()
    }
}

/// All families, in the order of the text.
///
/// # Panics
/// Where the text is not what the format demands.
pub(crate) fn read(text: &str) -> Vec<Family> {
    assert!(text.ends_with('\n'), "the last line has no end");
    let mut families: Vec<Family> = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let (name, help) =
            line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')).unwrap_or_else(|| {
                panic!("a family begins with its help: {line}");
            });
        assert!(is_name(name), "{line}");
        assert!(!help.is_empty() && !help.ends_with(' '), "{line}");
        assert!(families.iter().all(|family| family.name != name), "{name} comes twice");
        let kind = lines
            .next()
            .and_then(|line| line.strip_prefix(&format!("# TYPE {name} ")))
            .unwrap_or_else(|| {
                panic!("{name} has no type behind its help");
            });
        assert!(["counter", "gauge", "histogram"].contains(&kind), "{name}: {kind}");
        let mut samples = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            samples.push(sample(line));
        }
        let family = Family { name: name.into(), help: help.into(), kind: kind.into(), samples };
        check(&family);
        families.push(family);
    }
    let names: Vec<&String> = families.iter().map(|family| &family.name).collect();
    assert!(names.is_sorted(), "in no order");
    families
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// `name{label="value",…} value`
fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no value: {line}"));
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels: Vec<(String, String)> = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
            assert!(is_name(label) && !label.starts_with("__"), "{line}");
            assert!(labels.iter().all(|(other, _)| other != label), "{label} twice: {line}");
            let mut value = String::new();
            let mut chars = after.char_indices();
            let closed = loop {
                match chars.next().unwrap_or_else(|| panic!("a value without an end: {line}")) {
                    (at, '"') => break at,
                    (_, '\\') => match chars.next() {
                        Some((_, 'n')) => value.push('\n'),
                        Some((_, c @ ('\\' | '"'))) => value.push(c),
                        other => panic!("{other:?} escaped: {line}"),
                    },
                    (_, c) => value.push(c),
                }
            };
            labels.push((label.to_owned(), value));
            rest = &after[closed + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').unwrap_or_else(|| panic!("labels without an end: {line}"));
    }
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("no value: {line}"));
    let value: f64 = value.parse().unwrap_or_else(|error| panic!("{error}: {line}"));
    assert!(value.is_finite(), "{line}");
    Sample { name: name.to_owned(), labels, value }
}

/// What a family has to be, by its kind.
fn check(family: &Family) {
    let Family { name, kind, samples, .. } = family;
    assert!(!samples.is_empty(), "{name} has no samples");
    let labels = family.labels();
    let mut seen = BTreeSet::new();
    for sample in samples {
        let own: Vec<String> = sample.own_labels().into_iter().map(|(label, _)| label).collect();
        assert_eq!(own, labels, "{name} has the same labels everywhere");
        assert!(seen.insert((&sample.name, &sample.labels)), "{name} has a sample twice: {sample:?}");
        if kind != "histogram" {
            assert_eq!(&sample.name, name);
            assert_eq!(sample.label("le"), None);
        }
        if kind != "gauge" {
            assert!(sample.value >= 0.0, "{sample:?}");
        }
    }
    match kind.as_str() {
        "counter" => assert!(name.ends_with("_total"), "{name}"),
        "gauge" => assert!(!name.ends_with("_total"), "{name}"),
        _ => histogram(family),
    }
}

fn histogram(Family { name, samples, .. }: &Family) {
    assert!(name.ends_with("_seconds"), "{name}");
    let mut series: BTreeMap<Vec<(String, String)>, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        series.entry(sample.own_labels()).or_default().push(sample);
    }
    for samples in series.into_values() {
        let (count, rest) = samples.split_last().unwrap();
        let (sum, buckets) = rest.split_last().unwrap();
        assert_eq!(count.name, format!("{name}_count"));
        assert_eq!(sum.name, format!("{name}_sum"));
        let mut before = (f64::NEG_INFINITY, 0.0);
        for bucket in buckets {
            assert_eq!(bucket.name, format!("{name}_bucket"));
            let bound = match bucket.label("le").unwrap() {
                "+Inf" => f64::INFINITY,
                bound => bound.parse().unwrap(),
            };
            assert!(bound > before.0 && bucket.value >= before.1, "{name}: {bucket:?} behind {before:?}");
            before = (bound, bucket.value);
        }
        assert_eq!(before, (f64::INFINITY, count.value), "{name}");
    }
}

/// What a selector such as `name{a="b", c!~"d"}` in PromQL asks for.
#[derive(Debug)]
pub(crate) struct Selector {
    pub(crate) name: String,
    /// Label, operator, value.
    pub(crate) matchers: Vec<(String, String, String)>,
}

/// All selectors of Postern's figures in an expression.
pub(crate) fn selectors(expression: &str) -> Vec<Selector> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(at) = rest.find("postern_") {
        rest = &rest[at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let mut matchers = Vec::new();
        if let Some(inside) = after.strip_prefix('{') {
            let inside = &inside[..inside.find('}').unwrap()];
            for matcher in inside.split(',').map(str::trim).filter(|matcher| !matcher.is_empty()) {
                let (left, value) = matcher.split_once('"').unwrap();
                let label = left.trim_end_matches(['=', '!', '~']);
                let value = value.strip_suffix('"').unwrap();
                matchers.push((label.to_owned(), left[label.len()..].to_owned(), value.to_owned()));
            }
        }
        found.push(Selector { name: name.to_owned(), matchers });
        rest = after;
    }
    found
}
