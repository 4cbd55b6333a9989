//! `/metrics`: what the library and this server report through the facade `metrics`, as text.
//!
//! A recorder that keeps the latest values is enough, and the names are the library's own.
//! `metrics-exporter-prometheus` would bring some thirty crates, for quantiles that nothing here
//! needs, and it does not write OpenMetrics.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{
    Counter, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

/// The metrics of the process.
pub(crate) static METRICS: Metrics = Metrics { families: RwLock::new(BTreeMap::new()) };

/// The latest values of all metrics.
pub(crate) struct Metrics {
    /// The families by name. They are locked for writing only where a series is new, and by
    /// descriptions.
    families: RwLock<BTreeMap<String, Family>>,
}

#[derive(Default)]
struct Family {
    help: SharedString,
    /// The series by their labels, in the form in which they are written.
    series: BTreeMap<String, Value>,
}

#[derive(Clone)]
enum Value {
    Counter(Arc<AtomicU64>),
    /// The bits of a float.
    Gauge(Arc<AtomicU64>),
    Summary(Arc<Summary>),
}

/// The durations that were recorded: a summary without quantiles.
#[derive(Default)]
struct Summary {
    count: AtomicU64,
    /// The bits of a float.
    sum: AtomicU64,
}

impl HistogramFn for Summary {
    fn record(&self, value: f64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        GaugeFn::increment(&self.sum, value);
    }
}

impl Metrics {
    /// Makes these metrics those of the process, if it has none yet.
    pub(crate) fn install(&'static self) {
        let _ = metrics::set_global_recorder(self);
    }

    /// Returns the value of a series, which `new` makes where there is none.
    fn value(&self, key: &Key, new: fn() -> Value) -> Value {
        let labels: Vec<_> =
            key.labels().map(|label| format!("{}=\"{}\"", label.key(), escaped(label.value()))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let families = self.families.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = families.get(key.name()).and_then(|family| family.series.get(&labels)) {
            return value.clone();
        }
        drop(families);
        let mut families = self.families.write().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(key.name().to_owned()).or_default();
        family.series.entry(labels).or_insert_with(new).clone()
    }

    fn describe(&self, name: &KeyName, help: SharedString) {
        let mut families = self.families.write().unwrap_or_else(PoisonError::into_inner);
        families.entry(name.as_str().to_owned()).or_default().help = help;
    }

    /// Writes all metrics in this form.
    pub(crate) fn render(&self, form: Form) -> String {
        let families = self.families.read().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (name, Family { help, series }) in &*families {
            let Some(first) = series.values().next() else { continue };
            let kind = match first {
                Value::Counter(_) => "counter",
                Value::Gauge(_) => "gauge",
                Value::Summary(_) => "summary",
            };
            // OpenMetrics names a counter without the suffix that its samples have.
            let family = match form {
                Form::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
                Form::Text => name,
            };
            let _ = writeln!(text, "# HELP {family} {help}\n# TYPE {family} {kind}");
            for (labels, value) in series {
                let _ = match value {
                    Value::Counter(count) => {
                        writeln!(text, "{name}{labels} {}", count.load(Ordering::Relaxed))
                    }
                    Value::Gauge(bits) => writeln!(text, "{name}{labels} {}", float(bits)),
                    Value::Summary(summary) => {
                        let (count, sum) = (summary.count.load(Ordering::Relaxed), float(&summary.sum));
                        writeln!(text, "{name}_count{labels} {count}\n{name}_sum{labels} {sum}")
                    }
                };
            }
        }
        if form == Form::OpenMetrics {
            text.push_str("# EOF\n");
        }
        text
    }
}

fn float(bits: &AtomicU64) -> f64 {
    f64::from_bits(bits.load(Ordering::Relaxed))
}

/// Escapes the value of a label, in the same way for both forms.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl Recorder for Metrics {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, help);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, help);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match self.value(key, || Value::Counter(Arc::default())) {
            Value::Counter(count) => count.into(),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match self.value(key, || Value::Gauge(Arc::default())) {
            Value::Gauge(bits) => bits.into(),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        match self.value(key, || Value::Summary(Arc::default())) {
            Value::Summary(summary) => summary.into(),
            _ => Histogram::noop(),
        }
    }
}

/// A text form of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The text form 0.0.4 of Prometheus.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Form {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Returns the form that the values of `Accept` prefer, the first of two alike; the text form
    /// where they name neither.
    pub(crate) fn preferred<'a>(accept: impl Iterator<Item = &'a str>) -> Self {
        let (mut best, mut form) = (0.0, Self::Text);
        for range in accept.flat_map(|value| value.split(',')) {
            let range = range.to_ascii_lowercase();
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let (mut version, mut quality) = (None, 1.0);
            for parameter in parts {
                match parameter.split_once('=') {
                    Some(("version", value)) => version = Some(value),
                    Some(("q", value)) => quality = value.parse().unwrap_or(0.0),
                    _ => {}
                }
            }
            let offered = match (kind, version) {
                ("application/openmetrics-text", None | Some("1.0.0")) => Self::OpenMetrics,
                ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => Self::Text,
                _ => continue,
            };
            if quality > best {
                (best, form) = (quality, offered);
            }
        }
        form
    }
}

#[cfg(test)]
mod tests {
    use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

    use super::*;

    #[test]
    fn both_forms_have_each_kind_of_metric() {
        static SOME: Metrics = Metrics { families: RwLock::new(BTreeMap::new()) };
        assert_eq!(SOME.render(Form::Text), "");
        assert_eq!(SOME.render(Form::OpenMetrics), "# EOF\n");
        metrics::with_local_recorder(&SOME, || {
            describe_counter!("a_total", "Counts.");
            describe_gauge!("b", "Shows.");
            describe_histogram!("c_seconds", "Takes time.");
            describe_gauge!("never_set", "Is absent.");
            counter!("a_total", "path" => "a\\b\"c\nd", "reason" => "none").increment(2);
            counter!("a_total", "path" => "a\\b\"c\nd", "reason" => "none").increment(1);
            gauge!("b").set(1_700_000_000.5);
            histogram!("c_seconds", "set" => "x").record(0.25);
            histogram!("c_seconds", "set" => "x").record(0.5);
            // A name has one kind.
            gauge!("c_seconds", "set" => "x").set(7.0);
        });
        let samples = r#"a_total{path="a\\b\"c\nd",reason="none"} 3"#;
        let others = "# HELP b Shows.\n# TYPE b gauge\nb 1700000000.5\n\
                      # HELP c_seconds Takes time.\n# TYPE c_seconds summary\n\
                      c_seconds_count{set=\"x\"} 2\nc_seconds_sum{set=\"x\"} 0.75\n";
        let text = format!("# HELP a_total Counts.\n# TYPE a_total counter\n{samples}\n{others}");
        assert_eq!(SOME.render(Form::Text), text);
        let open = format!("# HELP a Counts.\n# TYPE a counter\n{samples}\n{others}# EOF\n");
        assert_eq!(SOME.render(Form::OpenMetrics), open);
        assert!(Form::Text.content_type().starts_with("text/plain; version=0.0.4;"));
        assert!(Form::OpenMetrics.content_type().starts_with("application/openmetrics-text; version=1.0.0;"));
    }

    #[test]
    fn the_form_is_the_one_that_the_client_prefers() {
        let open = "application/openmetrics-text";
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;\
                          q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, form) in [
            (&[][..], Form::Text),
            (&["*/*"], Form::Text),
            (&["text/html, text/*;q=0.5"], Form::Text),
            (&["application/json"], Form::Text),
            (&[open], Form::OpenMetrics),
            (&["Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8"], Form::OpenMetrics),
            (&["application/openmetrics-text; version=0.0.1"], Form::Text),
            (&["application/openmetrics-text; version=2.0.0", "*/*;q=0.1"], Form::Text),
            (&[prometheus], Form::OpenMetrics),
            (&["text/plain;q=0.4", open], Form::OpenMetrics),
            (&["text/plain, application/openmetrics-text"], Form::Text),
            (&["application/openmetrics-text, text/plain"], Form::OpenMetrics),
            (&["application/openmetrics-text;q=0.3, text/plain;version=0.0.4;q=0.5"], Form::Text),
            (&["application/openmetrics-text;q=0.3, text/plain;version=1.0.0;q=0.5"], Form::OpenMetrics),
            (&["application/openmetrics-text;q=0"], Form::Text),
            (&["application/openmetrics-text;q=much"], Form::Text),
        ] {
            assert_eq!(Form::preferred(accept.iter().copied()), form, "{accept:?}");
        }
    }
}
