//! What a measurement found: latencies in histograms, and the line and JSON they come to.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Latencies are kept from here …
const LATENCY_NS_MIN: u64 = 100;
/// … to here, with three digits; longer ones are taken for this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Requests and their latencies.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) puts: Latencies,
    pub(crate) reads: Latencies,
    /// Requests that failed.
    pub(crate) errors: u64,
}

impl Figures {
    pub(crate) fn new() -> Figures {
        Figures { puts: Latencies::new(), reads: Latencies::new(), errors: 0 }
    }

    /// Adds what another thread has found.
    pub(crate) fn add(&mut self, other: &Figures) {
        self.puts.0.add(&other.puts.0).expect("both have the same bounds");
        self.reads.0.add(&other.reads.0).expect("both have the same bounds");
        self.errors += other.errors;
    }
}

/// The latencies of one kind of requests.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    fn new() -> Latencies {
        let histogram = Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, 3);
        Latencies(histogram.expect("the bounds are constants that are in order"))
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(LATENCY_NS_MAX));
    }

    fn per_second(&self, measured: Duration) -> f64 {
        rounded(self.0.len() as f64 / measured.as_secs_f64())
    }

    /// In microseconds.
    fn at(&self, quantile: f64) -> f64 {
        rounded(self.0.value_at_quantile(quantile) as f64 / 1e3)
    }

    /// The quantiles that are shown, and the longest.
    fn shown(&self) -> [f64; 5] {
        [self.at(0.5), self.at(0.9), self.at(0.99), self.at(0.999), rounded(self.0.max() as f64 / 1e3)]
    }
}

/// To a tenth.
fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// One measurement, in figures.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    clients: u32,
    puts_per_second: f64,
    puts_us: [f64; 5],
    /// Only if there were reads.
    reads: Option<(f64, [f64; 5])>,
    entries_per_sync: Option<f64>,
    pub(crate) errors: u64,
}

impl Run {
    pub(crate) fn new(clients: u32, figures: &Figures, measured: Duration, entries_per_sync: Option<f64>) -> Run {
        let Figures { puts, reads, errors } = figures;
        Run {
            clients,
            puts_per_second: puts.per_second(measured),
            puts_us: puts.shown(),
            reads: (!reads.0.is_empty()).then(|| (reads.per_second(measured), reads.shown())),
            entries_per_sync: entries_per_sync.map(rounded),
            errors: *errors,
        }
    }

    pub(crate) fn json(&self) -> Value {
        let [p50, p90, p99, p999, max] = self.puts_us;
        let mut value = json!({
            "clients": self.clients,
            "puts_per_second": self.puts_per_second,
            "p50_us": p50,
            "p90_us": p90,
            "p99_us": p99,
            "p999_us": p999,
            "max_us": max,
            "entries_per_sync": self.entries_per_sync,
            "errors": self.errors,
        });
        if let (Some((per_second, [p50, p90, p99, p999, max])), Some(fields)) = (self.reads, value.as_object_mut()) {
            let reads = json!({
                "per_second": per_second,
                "p50_us": p50,
                "p90_us": p90,
                "p99_us": p99,
                "p999_us": p999,
                "max_us": max,
            });
            fields.insert("reads".to_owned(), reads);
        }
        value
    }

    /// A line under the [`heading`].
    pub(crate) fn line(&self) -> String {
        let batch = self.entries_per_sync.map_or_else(|| "-".to_owned(), |batch| format!("{batch:.1}"));
        let mut line = format!(
            "{:>8} {} {batch:>13} {:>7}",
            self.clients,
            columns(self.puts_per_second, self.puts_us),
            self.errors
        );
        if let Some((per_second, us)) = self.reads {
            line.push_str(&format!("\n{:>8} {}", "reads", columns(per_second, us)));
        }
        line
    }
}

fn columns(per_second: f64, [p50, p90, p99, p999, max]: [f64; 5]) -> String {
    format!("{per_second:>10.0} {p50:>9.0} {p90:>9.0} {p99:>9.0} {p999:>9.0} {max:>9.0}")
}

/// What stands above the lines of a table.
pub(crate) fn heading(reads: u8) -> String {
    let kind = if reads == 0 { "puts/s" } else { "per second" };
    format!(
        "{:>8} {kind:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>13} {:>7}",
        "clients", "p50 µs", "p90 µs", "p99 µs", "p99.9 µs", "max µs", "entries/sync", "errors"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_several_threads_come_to_one_line() {
        let mut figures = Figures::new();
        for micros in 1..=1000 {
            let mut other = Figures::new();
            other.puts.record(Duration::from_micros(micros));
            other.errors = 1;
            figures.add(&other);
        }
        let run = Run::new(16, &figures, Duration::from_secs(2), Some(3.06));
        let json = run.json();
        assert_eq!((json["clients"].as_u64(), json["errors"].as_u64()), (Some(16), Some(1000)));
        assert_eq!((json["puts_per_second"].as_f64(), json["entries_per_sync"].as_f64()), (Some(500.0), Some(3.1)));
        let within = |name: &str, wanted: f64| (json[name].as_f64().unwrap() - wanted).abs() <= wanted / 500.0;
        assert!(within("p50_us", 500.0) && within("p99_us", 990.0) && within("max_us", 1000.0), "{json}");
        assert!(json.get("reads").is_none());
        assert_eq!(run.line().chars().count(), heading(0).chars().count());
    }

    #[test]
    fn nothing_measured_is_nothing_and_not_a_failure() {
        let run = Run::new(1, &Figures::new(), Duration::from_secs(1), None);
        assert_eq!((run.puts_per_second, run.puts_us, run.entries_per_sync), (0.0, [0.0; 5], None));
    }
}
