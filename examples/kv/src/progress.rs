//! How long work shows that it goes on: a bar on a terminal, plain lines elsewhere. All of it goes
//! to standard error, so that standard output holds results alone.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a bar's spinner turns.
const TURN: Duration = Duration::from_millis(120);

/// The progress of one piece of work.
pub(crate) struct Progress {
    /// Only on a terminal.
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Of work with so many steps.
    pub(crate) fn new(steps: u64) -> Progress {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {bar:30} {elapsed:>4} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TURN);
            bar
        });
        Progress { bar }
    }

    /// Tells what has happened, in a line that stays.
    pub(crate) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            // There is nobody to tell that nobody listens.
            None => drop(writeln!(io::stderr(), "{line}")),
        }
    }

    /// Shows what is going on at present. Only a terminal shows it.
    pub(crate) fn now(&self, what: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(what);
        }
    }

    /// A step is done.
    pub(crate) fn step(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A number with its thousands set apart.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let texts = [0, 999, 1000, 65_536, 1_234_567].map(thousands);
        assert_eq!(texts, ["0", "999", "1,000", "65,536", "1,234,567"]);
    }
}
