//! What the demonstration has shown, in words and as JSON.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;

use kv::tally::Tally;
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::progress::thousands;

/// What the demonstration has shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) tally: Tally,
    /// Whether commands were sent under sessions.
    pub(crate) sessions: bool,
    /// Whether all nodes came to hold the same counters.
    pub(crate) replicas_agree: bool,
    /// Whether every member was replaced.
    pub(crate) replaced: bool,
    pub(crate) kills: u64,
    /// Terms in which somebody was seen to lead.
    pub(crate) elections: u64,
    pub(crate) retries: u64,
    pub(crate) replayed: u64,
    pub(crate) refused: u64,
    pub(crate) seconds: f64,
    pub(crate) seed: u64,
    /// Where the logs and the data are left, if they are.
    pub(crate) kept: Option<PathBuf>,
}

impl Verdict {
    /// Whether each acknowledged command was executed once, none twice, on all nodes alike.
    pub(crate) fn exactly_once(&self) -> bool {
        self.tally.acknowledged > 0 && self.tally.lost == 0 && self.tally.duplicated == 0 && self.replicas_agree
    }

    /// Prints it to standard output.
    pub(crate) fn print(&self, json: bool) -> Exit {
        let text = if json { self.json().to_string() } else { self.text() };
        // The status tells it too.
        drop(writeln!(io::stdout(), "{text}"));
        if self.exactly_once() { Exit::Done } else { Exit::Refused }
    }

    fn json(&self) -> Value {
        json!({
            "acknowledged": self.tally.acknowledged,
            "counted": self.tally.counted,
            "lost": self.tally.lost,
            "duplicated": self.tally.duplicated,
            "unknown": self.tally.unknown,
            "refused": self.refused,
            "kills": self.kills,
            "replaced": self.replaced,
            "elections": self.elections,
            "retries": self.retries,
            "replayed": self.replayed,
            "replicas_agree": self.replicas_agree,
            "sessions": self.sessions,
            "seconds": (self.seconds * 1000.0).round() / 1000.0,
            "seed": self.seed,
            "exactly_once": self.exactly_once(),
        })
    }

    fn text(&self) -> String {
        let mut rows = vec![
            ("increments acknowledged", self.tally.acknowledged),
            ("increments counted", self.tally.counted),
            ("lost", self.tally.lost),
            ("counted twice", self.tally.duplicated),
            ("leaders killed with SIGKILL", self.kills),
            ("elections", self.elections),
            ("requests sent again", self.retries),
        ];
        if self.sessions {
            rows.push(("answered from the session table", self.replayed));
        }
        if self.tally.unknown > 0 {
            rows.push(("outcome unknown", self.tally.unknown));
        }
        let mut text = String::from("\n");
        for (name, number) in rows {
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {name:<34}{:>12}", thousands(number));
        }
        let _ = write!(text, "\n{}", self.words());
        if let Some(kept) = &self.kept {
            let _ = write!(text, "\nThe nodes' logs and data are left in {}; seed {}.", kept.display(), self.seed);
        }
        text
    }

    fn words(&self) -> String {
        let mut times = match self.kills {
            0 => "No leader was killed".to_owned(),
            1 => "The leader was killed once".to_owned(),
            kills => format!("The leader was killed {kills} times"),
        };
        if self.replaced {
            times.push_str(", every member was replaced");
        }
        let Tally { lost, duplicated, .. } = self.tally;
        if self.exactly_once() && self.sessions {
            format!(
                "Exactly once. {times}, and every acknowledged increment was counted: none was lost, \
                 none was counted twice.\nWithout sessions, retries are executed again: kv demo --no-sessions"
            )
        } else if self.exactly_once() {
            format!(
                "Exactly once, by luck. {times}, and no command was in the hands of a leader at a bad moment. \
                 Without sessions nothing keeps\na retry from being executed again; run it once more."
            )
        } else if !self.replicas_agree {
            "NOT exactly once: the nodes do not hold the same counters.".to_owned()
        } else if self.tally.acknowledged == 0 {
            "NOT exactly once: nothing was acknowledged.".to_owned()
        } else {
            let mut text = format!(
                "NOT exactly once. {times}; {lost} acknowledged increments were lost, {duplicated} counted twice."
            );
            if !self.sessions {
                text.push_str(
                    "\nThat is what retries do without sessions: a leader had executed them, or had them in its log, \
                     and died before\nit could answer. With sessions, the answer is found in a table instead: kv demo",
                );
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(lost: u64, duplicated: u64) -> Verdict {
        let tally = Tally { acknowledged: 1000, counted: 1000 + duplicated - lost, lost, duplicated, unknown: 0 };
        Verdict { tally, sessions: true, replicas_agree: true, kills: 2, ..Verdict::default() }
    }

    #[test]
    fn the_verdict_follows_from_the_tally() {
        assert!(verdict(0, 0).text().contains("\nExactly once. The leader was killed 2 times"));
        assert!(verdict(1, 0).text().contains("NOT exactly once"));
        assert!(verdict(0, 3).text().contains("3 counted twice"));
        let differ = Verdict { replicas_agree: false, ..verdict(0, 0) };
        assert!(!differ.exactly_once() && differ.text().contains("do not hold the same"));
        assert!(!Verdict::default().exactly_once(), "nothing shows nothing");
        assert_eq!(verdict(0, 0).json()["exactly_once"], true);
    }
}
