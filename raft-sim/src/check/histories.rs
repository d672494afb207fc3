//! Linearizability (Herlihy and Wing, TOPLAS 1990) of what clients saw.
//!
//! The search is that of Wing and Gong (JPDC 1993) with Lowe's memory of configurations (Concurrency and Computation
//! 2017): operations are put in order one by one, each only while none that ended before it began is left out; a set of
//! operations that led to a state once is not tried again. Keys do not see each other and are searched apart, which is
//! sound since linearizability is local.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

use crate::violation::Violation;
use crate::workload::{Operation, Workload};

/// An operation of a client, from its first sending to its final answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The client.
    pub client: usize,
    /// What was asked.
    pub operation: Operation,
    /// When it began. No two moments of a history are equal.
    pub began: u64,
    /// When it ended, and with what answer: `None` for an answer that was too long to keep. An operation without an
    /// end has taken effect at some time after it began, or never.
    pub ended: Option<(u64, Option<Vec<u8>>)>,
}

/// After so many states the search for one key gives up. It takes no more than there are operations, as a rule, but has no
/// bound in general (Gibbons and Korach, SIAM Journal on Computing 1997): each operation without an end may double it.
const STATES_MAX: usize = 1_000_000;

/// Checks a history. Gives of how many keys it could not be decided within a bound.
///
/// # Errors
/// For some key there is no order in which the operations could have been executed one after the other.
pub fn check<W: Workload>(workload: &W, records: &[Record]) -> Result<u64, Violation> {
    let mut by_key: BTreeMap<u64, Vec<&Record>> = BTreeMap::new();
    for record in records {
        by_key.entry(record.operation.key).or_default().push(record);
    }
    let mut undecided = 0;
    for (key, records) in by_key {
        undecided += u64::from(!Search::new(workload, key, &records).run(STATES_MAX)?);
    }
    Ok(undecided)
}

/// A begin or an end, in a list that is linked in the order of time.
#[derive(Clone, Copy, Debug)]
struct Event {
    operation: usize,
    /// The place of the operation's end; `None` if this is the end.
    end: Option<usize>,
    before: usize,
    after: usize,
}

/// A set of operations.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Set(Vec<u64>);

impl Set {
    fn bit(&mut self, operation: usize) -> (&mut u64, u64) {
        let word = self.0.get_mut(operation / 64).expect("the set has a bit for every operation");
        (word, 1 << (operation % 64))
    }

    fn put(&mut self, operation: usize) {
        let (word, bit) = self.bit(operation);
        *word |= bit;
    }

    fn take(&mut self, operation: usize) {
        let (word, bit) = self.bit(operation);
        *word &= !bit;
    }
}

struct Search<'a, W: Workload> {
    workload: &'a W,
    key: u64,
    records: &'a [&'a Record],
    /// Place 0 is before the first event; the last place is behind the last one.
    events: Vec<Event>,
    ordered: Set,
    seen: HashSet<(Set, W::Model)>,
    /// The operations in the order tried at present, and the state before each.
    order: Vec<(usize, W::Model)>,
    /// The longest order found so far.
    longest: Vec<usize>,
    /// The operation whose end could not be passed then.
    stuck: usize,
}

impl<'a, W: Workload> Search<'a, W> {
    fn new(workload: &'a W, key: u64, records: &'a [&'a Record]) -> Search<'a, W> {
        // Moments, whether it is an end, and whose: what never ended ends behind everything else.
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (operation, record) in records.iter().enumerate() {
            moments.push((record.began, false, operation));
            moments.push((record.ended.as_ref().map_or(u64::MAX, |(at, _)| *at), true, operation));
        }
        moments.sort_unstable();
        let mut ends = vec![0; records.len()];
        for (place, (_, is_end, operation)) in moments.iter().enumerate() {
            if *is_end && let Some(end) = ends.get_mut(*operation) {
                *end = place + 1;
            }
        }
        let mut events = vec![Event { operation: usize::MAX, end: None, before: 0, after: 1 }];
        for (place, (_, is_end, operation)) in moments.iter().enumerate() {
            let end = if *is_end { None } else { ends.get(*operation).copied() };
            events.push(Event { operation: *operation, end, before: place, after: place + 2 });
        }
        let last = events.len();
        events.push(Event { operation: usize::MAX, end: None, before: last - 1, after: last });
        Search {
            workload,
            key,
            records,
            events,
            ordered: Set(vec![0; records.len().div_ceil(64)]),
            seen: HashSet::new(),
            order: Vec::new(),
            longest: Vec::new(),
            stuck: 0,
        }
    }

    fn event(&self, place: usize) -> Event {
        *self.events.get(place).expect("links lead to events")
    }

    fn event_mut(&mut self, place: usize) -> &mut Event {
        self.events.get_mut(place).expect("links lead to events")
    }

    fn unlink(&mut self, place: usize) {
        let Event { before, after, .. } = self.event(place);
        self.event_mut(before).after = after;
        self.event_mut(after).before = before;
    }

    fn link(&mut self, place: usize) {
        let Event { before, after, .. } = self.event(place);
        self.event_mut(before).after = place;
        self.event_mut(after).before = place;
    }

    fn record(&self, operation: usize) -> &'a Record {
        self.records.get(operation).expect("events are of recorded operations")
    }

    /// Searches; gives whether an order was found before so many states were seen.
    fn run(mut self, states_max: usize) -> Result<bool, Violation> {
        let mut state = self.workload.model(self.key);
        let mut left = self.records.iter().filter(|record| record.ended.is_some()).count();
        let mut place = self.event(0).after;
        while left > 0 {
            let event = self.event(place);
            let Some(end) = event.end else {
                // Somebody's end, and that operation is not in order yet: the last choice was wrong.
                if self.order.len() >= self.longest.len() {
                    self.longest = self.order.iter().map(|(begin, _)| self.event(*begin).operation).collect();
                    self.stuck = event.operation;
                }
                let Some((begin, before)) = self.order.pop() else { return Err(self.violation()) };
                state = before;
                let event = self.event(begin);
                self.ordered.take(event.operation);
                left += usize::from(self.record(event.operation).ended.is_some());
                self.link(event.end.expect("only begins are put in order"));
                self.link(begin);
                place = event.after;
                continue;
            };
            let record = self.record(event.operation);
            let mut next = state.clone();
            let answer = self.workload.apply(&mut next, &record.operation);
            let fits = match &record.ended {
                Some((_, Some(seen))) => *seen == answer,
                Some((_, None)) | None => true,
            };
            if self.seen.len() >= states_max {
                return Ok(false);
            }
            self.ordered.put(event.operation);
            if fits && self.seen.insert((self.ordered.clone(), next.clone())) {
                self.order.push((place, state));
                state = next;
                left -= usize::from(record.ended.is_some());
                self.unlink(place);
                self.unlink(end);
                place = self.event(0).after;
            } else {
                self.ordered.take(event.operation);
                place = event.after;
            }
        }
        Ok(true)
    }

    /// What could not be put in order: the end of the longest order, and what comes next.
    fn violation(&self) -> Violation {
        let mut text = String::new();
        let mut tell = |what: &str, operation: usize| {
            let Some(record) = self.records.get(operation) else { return };
            let Record { client, began, ended, operation } = record;
            writeln!(text, "  {what}: client {client}, from {began}: {:?}, ended {ended:?}", operation.kind)
                .expect("a string takes what is written to it");
        };
        let from = self.longest.len().saturating_sub(8);
        for operation in self.longest.iter().skip(from) {
            tell("in order", *operation);
        }
        tell("then not", self.stuck);
        Violation::NotLinearizable { key: self.key, operations: text }
    }
}

#[cfg(test)]
mod tests;
