//! The workload that comes with the simulator: a few registers that are set, compared and set, and read.

use std::collections::BTreeMap;

use raft_core::machine::{Answer, Damaged, Position, Sink, Source, StateMachine};

use crate::history::{Call, End};
use crate::random::Random;
use crate::workload::{Kind, Operation, Workload};

/// How many registers there are.
const KEYS: u64 = 4;

const SET: u8 = 0;
const COMPARE_AND_SET: u8 = 1;

/// Registers, by one byte, with numbers in them.
#[derive(Clone, Debug, Default)]
pub struct Registers {
    values: BTreeMap<u8, u64>,
}

/// What a command says: what it does, to which register, what it expects there, what it puts there.
fn parse(command: &[u8]) -> Option<(u8, u8, u64, u64)> {
    let (&[what, key], numbers) = command.split_first_chunk()?;
    let (expected, new) = numbers.split_first_chunk()?;
    let new = new.try_into().ok()?;
    Some((what, key, u64::from_le_bytes(*expected), u64::from_le_bytes(new)))
}

fn command(what: u8, key: u64, expected: u64, new: u64) -> Operation {
    let head = [what, u8::try_from(key).unwrap_or(u8::MAX)];
    Operation::command(key, [&head[..], &expected.to_le_bytes(), &new.to_le_bytes()].concat())
}

impl StateMachine for Registers {
    /// Answers what was there before: so a command that ran twice gives itself away.
    fn apply(&mut self, _: Position, command: &[u8], answer: &mut Answer<'_>) {
        let Some((what, key, expected, new)) = parse(command) else {
            return answer.write(b"no command");
        };
        let value = self.values.entry(key).or_default();
        answer.write(&value.to_le_bytes());
        if what == SET || *value == expected {
            *value = new;
        }
    }

    fn query(&self, query: &[u8], answer: &mut dyn Sink) {
        let value = query.first().and_then(|key| self.values.get(key)).copied().unwrap_or_default();
        answer.write(&value.to_le_bytes());
    }

    fn snapshot(&self, state: &mut dyn Sink) {
        for (key, value) in &self.values {
            state.write(&[*key]);
            state.write(&value.to_le_bytes());
        }
    }

    fn restore(&mut self, state: &mut dyn Source) -> Result<(), Damaged> {
        self.values.clear();
        let mut key = [0];
        while state.read(&mut key) == 1 {
            let mut value = [0; 8];
            state.read_exact(&mut value)?;
            let [key] = key;
            self.values.insert(key, u64::from_le_bytes(value));
        }
        Ok(())
    }

    fn digest(&self) -> u64 {
        let mix = |sum: u64, number: u64| (sum ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        self.values.iter().fold(0, |sum, (key, value)| mix(mix(sum, u64::from(*key)), *value))
    }
}

/// Makes operations on [`Registers`].
#[derive(Clone, Debug, Default)]
pub struct RegisterLoad {
    /// How many values were made: none is put anywhere twice.
    made: u64,
    /// Values that may still be there, for comparisons that succeed now and then.
    recent: [u64; 4],
}

impl Workload for RegisterLoad {
    type Machine = Registers;
    type Model = u64;

    fn machine(&self) -> Registers {
        Registers::default()
    }

    fn next(&mut self, random: &mut Random) -> Operation {
        let key = random.below(KEYS);
        if random.chance(500_000) {
            return Operation::query(key, vec![u8::try_from(key).unwrap_or(u8::MAX)]);
        }
        self.made += 1;
        let recent = self.recent.get_mut(usize::try_from(key).unwrap_or(0));
        let expected = recent.map_or(0, |recent| core::mem::replace(recent, self.made));
        let what = if random.chance(300_000) { COMPARE_AND_SET } else { SET };
        command(what, key, expected, self.made)
    }

    fn model(&self, _: u64) -> u64 {
        0
    }

    fn apply(&self, model: &mut u64, _: Position, operation: &Operation) -> Vec<u8> {
        let before = *model;
        if let Kind::Command(bytes) = &operation.kind
            && let Some((what, _, expected, new)) = parse(bytes)
            && (what == SET || before == expected)
        {
            *model = new;
        }
        before.to_le_bytes().to_vec()
    }

    fn describe(&self, operation: &Operation) -> String {
        let key = operation.key;
        match parse(operation.bytes()) {
            Some((SET, _, _, new)) => format!("set register {key} to {new}"),
            Some((_, _, expected, new)) => format!("set register {key} to {new} if it holds {expected}"),
            None => format!("read register {key}"),
        }
    }

    fn call(&self, operation: &Operation, answer: Option<&[u8]>) -> (Call, End) {
        let before = answer.and_then(|answer| Some(u64::from_le_bytes(answer.try_into().ok()?)));
        match parse(operation.bytes()) {
            Some((SET, _, _, new)) => (Call::Write(new), End::Ok(None)),
            Some((_, _, expected, new)) => {
                let end = match before {
                    Some(before) if before == expected => End::Ok(None),
                    Some(_) => End::Fail,
                    None => End::Unknown,
                };
                (Call::CompareAndSet(expected, new), end)
            }
            None => (Call::Read, before.map_or(End::Unknown, |before| End::Ok(Some(before)))),
        }
    }

    fn first_value(&self) -> Option<u64> {
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::types::{ClusterTime, Index};

    #[test]
    fn the_machine_does_what_the_model_says() {
        let (mut load, mut random) = (RegisterLoad::default(), Random::new(3));
        let mut machine = load.machine();
        let mut models: BTreeMap<u64, u64> = BTreeMap::new();
        for index in 1..2_000 {
            let operation = load.next(&mut random);
            let model = models.entry(operation.key).or_insert_with(|| load.model(operation.key));
            let position = Position { index: Index(index), time: ClusterTime(0) };
            let expected = load.apply(model, position, &operation);
            match &operation.kind {
                Kind::Command(command) => {
                    let mut buffer = [0; 64];
                    let mut answer = Answer::new(&mut buffer);
                    machine.apply(position, command, &mut answer);
                    assert_eq!(answer.finish(), Some(&expected[..]));
                }
                Kind::Query(query) => {
                    let mut buffer = [0; 64];
                    let mut answer = Answer::new(&mut buffer);
                    machine.query(query, &mut answer);
                    assert_eq!(answer.finish(), Some(&expected[..]));
                }
            }
        }
        let mut state = StateBytes::default();
        machine.snapshot(&mut state);
        let mut copy = Registers::default();
        copy.restore(&mut state.0.as_slice()).unwrap();
        assert_eq!((copy.digest(), copy.values), (machine.digest(), machine.values));
    }

    #[derive(Default)]
    struct StateBytes(Vec<u8>);

    impl Sink for StateBytes {
        fn write(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }
    }
}
