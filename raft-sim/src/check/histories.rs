//! Linearizability (Herlihy and Wing, TOPLAS 1990) of what clients saw.
//!
//! In general an order has to be searched for, which takes exponential time (Gibbons and Korach, SIAM Journal on Computing
//! 1997). Here the order is known: each command stands at an index of the log, and each query was answered by a node that had
//! applied everything up to one. So the operations are put into that order, and it is checked that the order is one in which
//! they could have been executed: none is placed after one that began when it had ended, and each answer is what the model says.
//! Whoever passes is linearizable, with that order as the witness; the check asks for more than linearizability, for it
//! does not accept another order.
//!
//! It takes time in proportion to the sorted history, and holds one model at a time and a list of the operations of one key.
//! Keys do not see each other and are checked apart, which is sound since linearizability is local.

use std::collections::BTreeMap;
use std::fmt::Write;

use raft_core::machine::Position;

use crate::violation::Violation;
use crate::workload::{Kind, Operation, Workload};

/// How many operations before the one that does not fit are shown.
const SHOWN: usize = 8;

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
    /// end has taken effect where its position says, and nowhere without one.
    pub ended: Option<(u64, Option<Vec<u8>>)>,
    /// Where it was executed: the entry of a command, the last entry that was applied where a query was answered.
    pub position: Option<Position>,
}

/// How many histories were checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Histories of one key each that were decided.
    pub decided: u64,
    /// Those that were not, for it is not known where one of their operations was executed.
    pub undecided: u64,
}

/// Checks a history.
///
/// # Errors
/// For some key the operations cannot have been executed in the order of the log.
pub fn check<W: Workload>(workload: &W, records: &[Record]) -> Result<Checked, Violation> {
    let mut by_key: BTreeMap<u64, Vec<&Record>> = BTreeMap::new();
    for record in records {
        by_key.entry(record.operation.key).or_default().push(record);
    }
    let mut checked = Checked::default();
    for (key, records) in by_key {
        if records.iter().any(|record| record.ended.is_some() && record.position.is_none()) {
            checked.undecided += 1;
            continue;
        }
        check_key(workload, key, &in_order(&records))?;
        checked.decided += 1;
    }
    Ok(checked)
}

/// The operations that took effect, in the order of the log: queries after the command whose state they show.
fn in_order<'a>(records: &[&'a Record]) -> Vec<(Position, &'a Record)> {
    let placed = records.iter().filter_map(|record| record.position.map(|position| (position, *record)));
    let mut placed: Vec<(Position, &Record)> = placed.collect();
    placed.sort_by_key(|(position, record)| (position.index, is_query(record), record.began));
    placed
}

fn is_query(record: &Record) -> bool {
    matches!(record.operation.kind, Kind::Query(_))
}

fn check_key<W: Workload>(workload: &W, key: u64, placed: &[(Position, &Record)]) -> Result<(), Violation> {
    let mut model = workload.model(key);
    // Of those before, the one that began last.
    let mut latest: Option<usize> = None;
    for (number, (position, record)) in placed.iter().enumerate() {
        let began_at = |number: usize| placed.get(number).map_or(0, |(_, record)| record.began);
        let ended_at = record.ended.as_ref().map_or(u64::MAX, |(at, _)| *at);
        if let Some(before) = latest.filter(|before| began_at(*before) > ended_at) {
            return Err(violation(workload, key, placed, (before, number), "it had ended before that one began"));
        }
        if latest.is_none_or(|before| began_at(before) < record.began) {
            latest = Some(number);
        }
        let answer = workload.apply(&mut model, *position, &record.operation);
        if let Some((_, Some(seen))) = &record.ended
            && *seen != answer
        {
            let expected = format!("the answer is to be {answer:?}");
            return Err(violation(workload, key, placed, (number, number), &expected));
        }
    }
    Ok(())
}

/// What does not fit, what it does not fit to, and what came before it.
fn violation<W: Workload>(
    workload: &W,
    key: u64,
    placed: &[(Position, &Record)],
    (other, wrong): (usize, usize),
    why: &str,
) -> Violation {
    let mut text = String::new();
    let first = wrong.saturating_sub(SHOWN);
    let shown = placed.iter().enumerate().filter(|(number, _)| (first..=wrong).contains(number) || *number == other);
    for (number, (position, record)) in shown {
        let Record { client, operation, began, ended, .. } = record;
        let what = match number {
            _ if number == wrong => "then not",
            _ if number == other => "that one",
            _ => "in order",
        };
        let (index, operation) = (position.index, workload.describe(operation));
        writeln!(text, "  {what}: at entry {index}, client {client}, from {began}: {operation}, ended {ended:?}")
            .expect("a string takes what is written to it");
    }
    Violation::NotLinearizable { key, operations: format!("{text}  {why}") }
}

#[cfg(test)]
mod tests;
