//! What happened in a simulation: a line for each event, for people, and a hash over all of them.

use std::fmt::{self, Write};

/// The events of one run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    /// Whether lines are written at all.
    verbose: bool,
    lines: Vec<String>,
}

impl Trace {
    /// A trace that keeps every line, or none: a run is watched only when it is replayed.
    #[must_use]
    pub fn new(verbose: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, events: 0, verbose, lines: Vec::new() }
    }

    /// Whether lines are kept.
    #[must_use]
    pub fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// An event at `now` (microseconds): `numbers` go into the hash, `line` is written only if somebody reads it.
    pub fn note(&mut self, now: u64, numbers: &[u64], line: impl FnOnce(&mut String) -> fmt::Result) {
        self.events += 1;
        self.mix(now);
        numbers.iter().for_each(|number| self.mix(*number));
        if !self.verbose {
            return;
        }
        let mut text = format!("{:>9}.{:03} ", now / 1000, now % 1000);
        line(&mut text).expect("a string takes what is written to it");
        self.lines.push(text);
    }

    /// As [`Trace::note`], with the text itself as what is hashed: for rare events.
    pub fn say(&mut self, now: u64, text: &str) {
        let sum = text.bytes().fold(0_u64, |sum, byte| sum.rotate_left(5) ^ u64::from(byte));
        self.note(now, &[sum], |line| line.write_str(text));
    }

    fn mix(&mut self, number: u64) {
        // FNV-1a over whole words, with a rotation so that high bits reach low ones.
        self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }

    /// A number that is the same for the same run, and hardly ever for two different ones.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events there were.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The lines that were kept.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_events_give_equal_hashes_and_different_ones_do_not() {
        let run = |last: u64| {
            let mut trace = Trace::new(false);
            trace.note(1, &[2, 3], |_| Ok(()));
            trace.say(5, "node 1 crashes");
            trace.note(7, &[last], |_| Ok(()));
            trace.hash()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn lines_are_written_only_for_a_watched_run_and_change_nothing() {
        let (mut silent, mut watched) = (Trace::new(false), Trace::new(true));
        for trace in [&mut silent, &mut watched] {
            trace.note(12_345, &[1], |line| write!(line, "node {} leads", 1));
        }
        assert_eq!(silent.hash(), watched.hash());
        assert_eq!(silent.lines().count(), 0);
        assert_eq!(watched.lines().collect::<Vec<_>>(), ["       12.345 node 1 leads"]);
    }
}
