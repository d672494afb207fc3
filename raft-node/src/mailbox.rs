//! The bounded mailbox of a node, which other threads put letters into.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The two ends' common part.
#[derive(Debug)]
struct Shared<L> {
    state: Mutex<State<L>>,
    letters_max: usize,
}

#[derive(Debug)]
struct State<L> {
    letters: Vec<L>,
    closed: bool,
}

/// Where letters are put.
#[derive(Debug)]
pub(crate) struct Slot<L>(Arc<Shared<L>>);

impl<L> Clone for Slot<L> {
    fn clone(&self) -> Slot<L> {
        Slot(Arc::clone(&self.0))
    }
}

/// Where they are taken out. When it is dropped, the mailbox closes.
#[derive(Debug)]
pub(crate) struct Mailbox<L>(Arc<Shared<L>>);

/// Why a letter was not taken; it comes back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Returned<L> {
    Full(L),
    Closed(L),
}

pub(crate) fn mailbox<L>(letters_max: usize) -> (Slot<L>, Mailbox<L>) {
    let state = Mutex::new(State { letters: Vec::new(), closed: false });
    let shared = Arc::new(Shared { state, letters_max });
    (Slot(Arc::clone(&shared)), Mailbox(shared))
}

impl<L> Shared<L> {
    /// The state is whole between any two statements here, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, State<L>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L> Slot<L> {
    /// Puts a letter in; gives whether it is the first one, so that the node must be woken.
    pub(crate) fn put(&self, letter: L) -> Result<bool, Returned<L>> {
        let mut state = self.0.lock();
        if state.closed {
            return Err(Returned::Closed(letter));
        }
        if state.letters.len() >= self.0.letters_max {
            return Err(Returned::Full(letter));
        }
        state.letters.push(letter);
        Ok(state.letters.len() == 1)
    }
}

impl<L> Mailbox<L> {
    /// Takes all letters, in exchange for `empty`.
    pub(crate) fn take(&self, empty: &mut Vec<L>) {
        assert!(empty.is_empty(), "letters would be lost");
        core::mem::swap(&mut self.0.lock().letters, empty);
    }
}

impl<L> Drop for Mailbox<L> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.letters.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_mailbox_gives_the_letter_back_and_a_closed_one_too() {
        let (slot, mailbox) = mailbox(2);
        assert_eq!(slot.put(1), Ok(true));
        assert_eq!(slot.put(2), Ok(false));
        assert_eq!(slot.put(3), Err(Returned::Full(3)));
        let mut letters = Vec::new();
        mailbox.take(&mut letters);
        assert_eq!(letters, [1, 2]);
        assert_eq!(slot.put(3), Ok(true));
        drop(mailbox);
        assert_eq!(slot.put(4), Err(Returned::Closed(4)));
    }
}
