//! The operations of clients, from their beginnings to the verdict on all of them.

use std::collections::BTreeSet;

use raft_client::Reason;
use raft_core::client::session::SessionEnd;
use raft_core::machine::Position;
use raft_core::session::operation::Operation as LogOperation;
use raft_core::types::{Index, Nonce, Sequence};
use raft_core::wire::Bytes;

use super::Judge;
use crate::check::completions::RequestNumber;
use crate::check::copies::Content;
use crate::check::histories::{self, Checked, Record};
use crate::client::{End, OperationNumber};
use crate::history::{self, Moment};
use crate::violation::Violation;
use crate::workload::{Kind, Operation, Workload};

/// An operation of a client, as far as it has come.
#[derive(Clone, Debug)]
pub(super) struct Case {
    record: Record,
    /// A stale read is no part of the history.
    stale: bool,
    key: Option<(Nonce, Sequence)>,
    /// Where it was executed, if the answer said so.
    at: Option<Index>,
    refused: bool,
    began: Moment,
    /// When its client heard of its end, or gave it up.
    closed: Option<Moment>,
}

impl Case {
    /// What it says, if it is a command without a session.
    fn plain(&self) -> Option<Content> {
        match &self.record.operation.kind {
            Kind::Command(command) if self.key.is_none() => {
                Some(Content::of(&LogOperation::Plain { command: Bytes(command) }))
            }
            _ => None,
        }
    }
}

impl Judge {
    fn next_moment(&mut self, micros: u64) -> Moment {
        self.moment += 1;
        Moment { number: self.moment, micros }
    }

    /// A client has begun an operation, at that time in microseconds; their numbers follow each other.
    pub(crate) fn began(
        &mut self,
        now: u64,
        number: OperationNumber,
        client: usize,
        operation: Operation,
        stale: bool,
    ) {
        assert_eq!(number, self.cases.len(), "operations are numbered one after the other");
        let began = self.next_moment(now);
        let record = Record { client, operation, began: began.number, ended: None, position: None };
        self.cases.push(Case { record, stale, key: None, at: None, refused: false, began, closed: None });
    }

    /// The operation became a command of a session.
    pub(crate) fn numbered(&mut self, number: OperationNumber, nonce: Nonce, sequence: Sequence) {
        if let Some(case) = self.cases.get_mut(number) {
            case.key = Some((nonce, sequence));
        }
    }

    /// An operation has come to its end, at that time in microseconds.
    pub(crate) fn ended(&mut self, now: u64, number: OperationNumber, end: End) -> Result<(), Violation> {
        let moment = self.next_moment(now);
        let Some(case) = self.cases.get_mut(number) else { return Ok(()) };
        case.closed = Some(moment);
        match end {
            End::Done { answer, at } => {
                self.done += 1;
                case.at = at;
                *self.checked.entry("an answer is that of the one execution").or_default() += 1;
                case.record.ended = Some((moment.number, answer.clone()));
                match case.key {
                    Some((nonce, sequence)) => self.sessions.heard(nonce, sequence, answer.as_ref()),
                    None => Ok(()),
                }
            }
            End::NotExecuted if self.repeats => Ok(()),
            End::NotExecuted => {
                case.refused = true;
                case.key.map_or(Ok(()), |(nonce, sequence)| self.sessions.refused(nonce, sequence))
            }
            End::Unknown => Ok(()),
        }
    }

    /// A client has got an answer to a command.
    pub(crate) fn heard(
        &mut self,
        nonce: Nonce,
        sequence: Sequence,
        answer: Option<&Vec<u8>>,
    ) -> Result<(), Violation> {
        self.sessions.heard(nonce, sequence, answer)
    }

    /// Where a command ran, if it did.
    pub(crate) fn ran_at(&self, nonce: Nonce, sequence: Sequence) -> Option<Index> {
        self.sessions.ran_at(nonce, sequence)
    }

    /// An engine says why a command has no answer, which it sent with that secret, if it did. Its commands are numbered as the
    /// session wants them, and a session is said to have expired only if it is there no more.
    pub(crate) fn gave_up(
        &mut self,
        request: RequestNumber,
        nonce: Option<Nonce>,
        reason: Reason,
    ) -> Result<(), Violation> {
        let lives = |nonce| self.sessions.opened_with(nonce).all(|session| self.table.acknowledged(session).is_some());
        let is_true = match reason {
            Reason::Session(_) => false,
            Reason::SessionOver(SessionEnd::Expired) => !nonce.is_some_and(lives),
            _ => true,
        };
        if is_true { Ok(()) } else { Err(Violation::GaveUp { request, reason: format!("{reason:?}") }) }
    }

    /// The run is over: what clients saw is checked as a whole.
    pub(crate) fn finish<W: Workload>(&mut self, workload: &W) -> Result<Checked, Violation> {
        let places = self.places()?;
        let records = self.cases.iter().zip(places).filter_map(|(case, place)| {
            // What has no end is part of the history only if the log shows that it ran.
            let belongs = !case.stale && !case.refused && (case.record.ended.is_some() || place.is_some());
            let position = place.and_then(|index| Some(Position { index, time: self.table.time_at(index)? }));
            belongs.then(|| Record { position, ..case.record.clone() })
        });
        let records: Vec<Record> = records.collect();
        *self.checked.entry("an operation of a linearizable history").or_default() += records.len() as u64;
        histories::check(workload, &records)
    }

    /// Where each operation was executed, as far as it was: the log says so of commands, also of those whose clients never
    /// learned of it.
    fn places(&self) -> Result<Vec<Option<Index>>, Violation> {
        let mut ran = self.ran_plain.clone();
        let mut places: Vec<Option<Index>> = Vec::new();
        for case in &self.cases {
            let place = case.key.map_or(case.at, |(nonce, sequence)| self.sessions.ran_at(nonce, sequence));
            if let (Some(content), Some(index)) = (case.plain(), place) {
                ran.get_mut(&content).map(|ran| ran.remove(&index));
            }
            places.push(place);
        }
        for (case, place) in self.cases.iter().zip(&mut places) {
            // Of those that say the same and have no end, it does not matter which was which.
            if let Some(content) = case.plain().filter(|_| place.is_none() && !case.refused) {
                *place = ran.get_mut(&content).and_then(BTreeSet::pop_first);
            }
        }
        match ran.values().find_map(BTreeSet::first) {
            Some(index) => Err(Violation::RanUnasked { index: *index }),
            None => Ok(places),
        }
    }

    /// What clients saw, for other checkers; reads that may be stale are left out.
    pub(crate) fn history<W: Workload>(&self, workload: &W) -> Vec<history::Operation> {
        let told = self.cases.iter().filter(|case| !case.stale);
        let told = told.map(|case| {
            let operation = &case.record.operation;
            let answer = case.record.ended.as_ref().map(|(_, answer)| answer.as_deref());
            let (call, meaning) = workload.call(operation, answer.flatten());
            let end = match answer {
                Some(_) => meaning,
                None if case.refused => history::End::Fail,
                None => history::End::Unknown,
            };
            let ended = case.closed.map(|closed| (closed, end));
            history::Operation { key: operation.key.to_string(), call, began: case.began, ended }
        });
        told.collect()
    }
}
