//! The commands of a session that are awaited, by number.

use crate::client::attempts::Attempts;
use crate::types::Sequence;

/// The awaited commands: at most `WINDOW` numbers from the lowest one on.
#[derive(Clone, Debug)]
pub(super) struct Window<const WINDOW: usize> {
    /// Each at its number modulo `WINDOW`.
    slots: [Option<Attempts>; WINDOW],
    /// The lowest number awaited; `next` if none is.
    acknowledge: Sequence,
    /// The number of the next command. Invariant: acknowledge <= next <= acknowledge + WINDOW.
    next: Sequence,
}

impl<const WINDOW: usize> Window<WINDOW> {
    pub(super) fn new() -> Window<WINDOW> {
        Window { slots: [const { None }; WINDOW], acknowledge: Sequence::FIRST, next: Sequence::FIRST }
    }

    /// The lowest number whose answer is awaited: everything below may be forgotten.
    pub(super) fn acknowledge(&self) -> Sequence {
        self.acknowledge
    }

    /// The number of the next command.
    pub(super) fn next(&self) -> Sequence {
        self.next
    }

    /// Whether no command is awaited.
    pub(super) fn is_idle(&self) -> bool {
        self.acknowledge == self.next
    }

    /// The numbers in use, of which those between the ends may be done.
    pub(super) fn span(&self) -> u64 {
        self.next.0 - self.acknowledge.0
    }

    /// Gives the next number to a command. There must be room.
    pub(super) fn push(&mut self, attempts: Attempts) -> Sequence {
        assert!(self.span() < WINDOW as u64, "a command is taken in only while there is room");
        let sequence = self.next;
        let slot = self.slots.get_mut(place::<WINDOW>(sequence)).expect("the remainder is less than the length");
        assert!(slot.is_none(), "a number inside the window is used by one command only");
        *slot = Some(attempts);
        self.next = sequence.next();
        sequence
    }

    /// The attempts of a command that is awaited.
    pub(super) fn get_mut(&mut self, sequence: Sequence) -> Option<&mut Attempts> {
        if sequence < self.acknowledge || sequence >= self.next {
            return None;
        }
        self.slots.get_mut(place::<WINDOW>(sequence))?.as_mut()
    }

    /// The command is awaited no longer. Gives its attempts, if it was.
    pub(super) fn take(&mut self, sequence: Sequence) -> Option<Attempts> {
        self.get_mut(sequence)?;
        let attempts = self.slots.get_mut(place::<WINDOW>(sequence))?.take();
        while self.acknowledge < self.next && self.get_mut(self.acknowledge).is_none() {
            self.acknowledge = self.acknowledge.next();
        }
        attempts
    }

    /// The lowest number awaited from `from` on.
    pub(super) fn first_from(&mut self, from: Sequence) -> Option<(Sequence, &mut Attempts)> {
        let mut sequence = from.max(self.acknowledge);
        while sequence < self.next && self.get_mut(sequence).is_none() {
            sequence = sequence.next();
        }
        Some((sequence, self.get_mut(sequence)?))
    }
}

/// Where the command of a number stands.
#[expect(clippy::cast_possible_truncation, reason = "the remainder is less than a usize")]
fn place<const WINDOW: usize>(sequence: Sequence) -> usize {
    (sequence.0 % WINDOW as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Instant;

    fn window_of(commands: u64) -> Window<4> {
        let mut window = Window::new();
        for number in 1..=commands {
            assert_eq!(window.push(Attempts::new(Instant(number), Instant::NEVER)), Sequence(number));
        }
        window
    }

    #[test]
    fn the_acknowledgement_is_the_lowest_number_awaited() {
        let mut window = window_of(4);
        assert!(window.take(Sequence(2)).is_some() && window.take(Sequence(2)).is_none());
        assert_eq!(window.acknowledge(), Sequence(1));
        window.take(Sequence(1));
        assert_eq!((window.acknowledge(), window.span()), (Sequence(3), 2));
        window.take(Sequence(4));
        window.take(Sequence(3));
        assert_eq!(window.acknowledge(), window.next());
        assert!(window.is_idle());
    }

    #[test]
    fn only_numbers_in_the_window_are_found() {
        let mut window = window_of(3);
        window.take(Sequence(1));
        for absent in [0, 1, 4, 5, 6, u64::MAX] {
            assert!(window.get_mut(Sequence(absent)).is_none());
        }
        window.push(Attempts::new(Instant(4), Instant::NEVER));
        assert_eq!(window.push(Attempts::new(Instant(5), Instant::NEVER)), Sequence(5));
        window.take(Sequence(3));
        assert_eq!(window.first_from(Sequence(3)).map(|(sequence, _)| sequence), Some(Sequence(4)));
        assert!(window.first_from(Sequence(6)).is_none());
    }

    #[test]
    #[should_panic(expected = "while there is room")]
    fn more_than_the_window_is_refused() {
        window_of(5);
    }
}
