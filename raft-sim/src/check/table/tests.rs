use super::*;
use crate::random::Random;
use crate::violation::Violation;
use raft_core::machine::{Answer, Damaged, Position, Sink, Source, StateMachine};
use raft_core::session::memory::HeapMemory;
use raft_core::session::table::SessionTable;

const LIMITS: SessionLimits = SessionLimits {
    sessions: 3,
    window: 4,
    answer_bytes: 4,
    ttl: Millis(20),
    time_step_max: Millis(6),
    evict_idle: None,
};

/// Answers with as many bytes as the command's first byte says.
struct Echo;

impl StateMachine for Echo {
    fn apply(&mut self, position: Position, command: &[u8], answer: &mut Answer<'_>) {
        let length = command.first().copied().unwrap_or(0);
        (0..length).for_each(|_| answer.write(&position.index.0.to_le_bytes()[..1]));
    }

    fn query(&self, _: &[u8], _: &mut dyn Sink) {}

    fn snapshot(&self, _: &mut dyn Sink) {}

    fn restore(&mut self, _: &mut dyn Source) -> Result<(), Damaged> {
        Ok(())
    }
}

/// An operation on one of a few sessions, with numbers around those that it may use.
fn operation<'a>(random: &mut Random, opened: &[SessionId], command: &'a [u8]) -> Operation<'a> {
    let session = random.pick(opened).copied().unwrap_or(SessionId(1));
    let acknowledge = Sequence(random.between(1, 6));
    match random.below(10) {
        0..=1 => Operation::Open { nonce: Nonce(u128::from(random.below(6))), fifo: random.chance(400_000) },
        2 => Operation::KeepAlive { session, acknowledge },
        3 => Operation::Close { session },
        4 => Operation::Plain { command: Bytes(command) },
        _ => {
            let sequence = Sequence(acknowledge.0 + random.below(6));
            Operation::Command { session, sequence, acknowledge, command: Bytes(command) }
        }
    }
}

#[test]
fn it_says_what_the_table_says_that_ships() {
    let mut kinds = std::collections::BTreeMap::<String, u64>::new();
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let limits = SessionLimits { evict_idle: random.chance(500_000).then_some(Millis(10)), ..LIMITS };
        let mut ships = SessionTable::new(limits, HeapMemory::new(&limits, 6).unwrap()).unwrap();
        let mut table = Table::new(limits);
        let (mut stamp, mut opened) = (ClusterTime(0), Vec::new());
        for index in (1..400).map(Index) {
            stamp = stamp.after(Millis(random.below(9) / 2));
            ships.advance(stamp);
            let command = [u8::try_from(random.below(8)).unwrap()];
            let operation = operation(&mut random, &opened, &command);
            let outcome = OwnedOutcome::from(ships.apply(index, operation, &mut Echo));
            if let OwnedOutcome::Opened { session, .. } = outcome {
                opened.push(session);
            }
            let name = format!("{outcome:?}");
            *kinds.entry(name.split([' ', '{']).next().unwrap().to_owned()).or_default() += 1;
            assert_eq!(table.applied(index, stamp, Some((&operation, &outcome))), Ok(()), "seed {seed}");
            let node = NodeId::new(1).unwrap();
            assert_eq!(table.compare(node, index, ships.digest()), Ok(()), "seed {seed}, {operation:?}");
            let other = ships.digest() ^ 1;
            assert_eq!(table.compare(node, index, other), Err(Violation::TablesDiffer { node, index }));
        }
    }
    assert!(kinds.values().all(|times| *times > 20) && kinds.len() >= 6, "{kinds:?}");
}

#[test]
fn an_outcome_against_the_rules_is_found() {
    let (session, window) = (SessionId(1), LIMITS.window);
    let open = Operation::Open { nonce: Nonce(9), fifo: false };
    let opened = OwnedOutcome::Opened { session, again: false, ttl: LIMITS.ttl, window };
    let command = Operation::Command { session, sequence: Sequence(1), acknowledge: Sequence(1), command: Bytes(b"x") };
    let answered = |index, answer: &[u8], replayed| OwnedOutcome::Answered {
        index: Index(index),
        answer: answer.to_vec(),
        replayed,
    };
    let apply = |table: &Table, index, time, operation: &Operation<'_>, outcome: OwnedOutcome| {
        let mut table = table.clone();
        table.applied(Index(index), ClusterTime(time), Some((operation, &outcome))).map(|()| table)
    };
    let table = apply(&Table::new(LIMITS), 1, 0, &open, opened).unwrap();
    let table = apply(&table, 2, 0, &command, answered(2, b"a", false)).unwrap();
    assert!(apply(&table, 3, 0, &command, answered(2, b"a", true)).is_ok());
    let wrong = [
        answered(3, b"a", false),
        answered(2, b"b", true),
        OwnedOutcome::Executed { index: Index(2), replayed: true },
        OwnedOutcome::Refused(Refusal::SessionExpired),
        OwnedOutcome::Refused(Refusal::Stale),
    ];
    for outcome in wrong {
        assert!(matches!(apply(&table, 3, 0, &command, outcome), Err(Violation::AgainstTheRules { .. })));
    }
}
