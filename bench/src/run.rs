//! One measured run, and how runs are read from what the load generators print.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What one system did under one number of clients. Every load generator prints this as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Clients, or proposals outstanding where the load runs inside the leader; each has one at a time.
    #[serde(alias = "outstanding")]
    pub clients: u64,
    /// Acknowledged writes in the measured time, over its length in seconds.
    #[serde(alias = "commits_per_second")]
    pub puts_per_second: f64,
    /// Median latency in microseconds.
    pub p50_us: f64,
    /// 99th percentile of the latency in microseconds.
    pub p99_us: f64,
    /// 99.9th percentile of the latency in microseconds.
    pub p999_us: f64,
    /// Log entries per sync on average, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries_per_sync: Option<f64>,
    /// Writes that failed, warm-up included. None is hidden by a retry.
    #[serde(default)]
    pub errors: u64,
}

/// Why a line is not the result of a run.
#[derive(Debug, Error)]
#[error("line {line} is neither a run nor an object with \"runs\": {source}")]
pub struct ParseError {
    /// Counted from 1.
    line: usize,
    source: serde_json::Error,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Many { runs: Vec<Run> },
    One(Run),
}

/// Reads JSON lines, each of which is one run or an object with a list `runs`.
pub fn parse_lines(text: &str) -> Result<Vec<Run>, ParseError> {
    let mut runs = Vec::new();
    for (position, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str(line).map_err(|source| ParseError { line: position + 1, source })? {
            Line::Many { runs: many } => runs.extend(many),
            Line::One(run) => runs.push(run),
        }
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_are_read() {
        let text = r#"{"outstanding":64,"commits_per_second":10.5,"p50_us":1,"p99_us":2,"p999_us":3}

{"bench":"x","runs":[{"clients":1,"puts_per_second":7,"p50_us":1,"p99_us":2,"p999_us":3,"entries_per_sync":1.5,"errors":2}]}"#;
        let runs = parse_lines(text).expect("two lines of runs");
        assert_eq!((runs[0].clients, runs[0].puts_per_second, runs[0].errors), (64, 10.5, 0));
        assert_eq!((runs[1].clients, runs[1].entries_per_sync, runs[1].errors), (1, Some(1.5), 2));
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = parse_lines("\n{\"clients\":1}").expect_err("a run lacks its numbers");
        assert!(error.to_string().starts_with("line 2 "));
    }
}
