use super::*;
use crate::random::Random;
use raft_core::types::{ClusterTime, Index};
use stateright::semantics::register::{Register, RegisterOp, RegisterRet};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester};

/// One register that holds a small number.
struct OneRegister;

impl Workload for OneRegister {
    type Machine = crate::registers::Registers;
    type Model = u8;

    fn machine(&self) -> crate::registers::Registers {
        crate::registers::Registers::default()
    }

    fn next(&mut self, _: &mut Random) -> Operation {
        Operation::query(0, Vec::new())
    }

    fn model(&self, _: u64) -> u8 {
        0
    }

    fn apply(&self, model: &mut u8, _: Position, operation: &Operation) -> Vec<u8> {
        match &operation.kind {
            crate::workload::Kind::Command(value) => {
                *model = value[0];
                Vec::new()
            }
            crate::workload::Kind::Query(_) => vec![*model],
        }
    }
}

fn at(index: u64) -> Option<Position> {
    Some(Position { index: Index(index), time: ClusterTime(0) })
}

fn write(client: usize, value: u8, began: u64, ended: Option<u64>, index: u64) -> Record {
    let operation = Operation::command(0, vec![value]);
    Record { client, operation, began, ended: ended.map(|at| (at, Some(Vec::new()))), position: at(index) }
}

fn read(client: usize, value: u8, began: u64, ended: u64, index: u64) -> Record {
    let operation = Operation::query(0, Vec::new());
    Record { client, operation, began, ended: Some((ended, Some(vec![value]))), position: at(index) }
}

fn decided(history: &[Record]) -> bool {
    check(&OneRegister, history) == Ok(Checked { decided: 1, undecided: 0 })
}

#[test]
fn a_read_that_goes_back_is_found_and_told() {
    let history = [write(0, 1, 1, Some(2), 1), read(1, 1, 3, 4, 1), read(1, 0, 5, 6, 0)];
    let violation = check(&OneRegister, &history).unwrap_err().to_string();
    assert!(violation.contains("that one: at entry 0, client 1, from 5"), "{violation}");
    assert!(violation.contains("it had ended before that one began"), "{violation}");
    assert!(decided(&history[..2]));
}

#[test]
fn an_answer_that_the_model_does_not_give_is_found_and_told() {
    let history = [write(0, 1, 1, Some(2), 1), read(1, 3, 3, 4, 1)];
    let violation = check(&OneRegister, &history).unwrap_err().to_string();
    assert!(violation.contains("then not: at entry 1, client 1, from 3: "), "{violation}");
    assert!(violation.contains("the answer is to be [1]"), "{violation}");
}

#[test]
fn what_has_no_end_took_effect_where_the_log_says_or_never() {
    let late = [write(0, 1, 1, None, 2), read(1, 0, 2, 3, 1), read(1, 1, 4, 5, 2)];
    assert!(decided(&late));
    let never = [Record { position: None, ..write(0, 1, 1, None, 0) }, read(1, 0, 2, 3, 1), read(1, 0, 4, 5, 2)];
    assert!(decided(&never));
    let twice = [write(0, 1, 1, None, 3), write(1, 2, 2, Some(3), 4), read(1, 1, 4, 5, 3), read(1, 2, 6, 7, 4)];
    assert!(check(&OneRegister, &twice).is_err());
}

#[test]
fn an_answer_that_was_too_long_to_keep_fits_anything() {
    let mut history = [write(0, 1, 1, Some(2), 1), read(1, 9, 3, 4, 1)];
    assert!(check(&OneRegister, &history).is_err());
    history[1].ended = Some((4, None));
    assert!(decided(&history));
}

#[test]
fn a_history_with_an_operation_of_unknown_place_is_not_called_right() {
    let mut history = [write(0, 1, 1, Some(2), 1), read(1, 1, 3, 4, 1)];
    history[1].position = None;
    assert_eq!(check(&OneRegister, &history), Ok(Checked { decided: 0, undecided: 1 }));
}

/// What another checker, written by others, says of a history.
fn other_says(history: &[Record]) -> bool {
    let mut events: Vec<(u64, usize, bool)> = Vec::new();
    for (number, record) in history.iter().enumerate() {
        events.push((record.began, number, false));
        events.extend(record.ended.as_ref().map(|(at, _)| (*at, number, true)));
    }
    events.sort_unstable();
    let mut tester = LinearizabilityTester::new(Register(0_u8));
    for (_, number, ends) in events {
        let Record { client, operation, ended, .. } = &history[number];
        let write = match &operation.kind {
            crate::workload::Kind::Command(value) => Some(value[0]),
            crate::workload::Kind::Query(_) => None,
        };
        if ends {
            let answer = ended.as_ref().and_then(|(_, answer)| answer.as_ref()).unwrap();
            let ret = write.map_or_else(|| RegisterRet::ReadOk(answer[0]), |_| RegisterRet::WriteOk);
            tester.on_return(*client, ret).unwrap();
        } else {
            tester.on_invoke(*client, write.map_or(RegisterOp::Read, RegisterOp::Write)).unwrap();
        }
    }
    tester.is_consistent()
}

/// A history of a register that now and then answers something else than it holds, or what it held before.
fn random_history(random: &mut Random) -> Vec<Record> {
    let (mut now, mut index, mut value) = (0, 0, 0_u8);
    let mut under_way: BTreeMap<usize, (Record, bool)> = BTreeMap::new();
    let mut history: Vec<Record> = Vec::new();
    for _ in 0..random.between(4, 26) {
        now += 1;
        let client = usize::try_from(random.below(4)).unwrap();
        let Some((mut record, done)) = under_way.remove(&client) else {
            let operation = match random.below(2) {
                0 => Operation::query(0, Vec::new()),
                _ => Operation::command(0, vec![u8::try_from(random.below(4)).unwrap()]),
            };
            under_way.insert(client, (Record { client, operation, began: now, ended: None, position: None }, false));
            continue;
        };
        if !done {
            index += u64::from(!is_query(&record));
            record.position = at(index);
            let answer = OneRegister.apply(&mut value, record.position.unwrap(), &record.operation);
            let answer = if random.chance(30_000) && !answer.is_empty() { vec![3] } else { answer };
            if is_query(&record) && random.chance(50_000) {
                record.position = at(index.saturating_sub(1));
            }
            // The answer is made now and arrives later.
            record.ended = Some((0, Some(answer)));
            under_way.insert(client, (record, true));
            continue;
        }
        record.ended = record.ended.map(|(_, answer)| (now, answer));
        history.push(record);
    }
    for (mut record, _) in under_way.into_values() {
        record.ended = None;
        history.push(record);
    }
    history
}

#[test]
fn what_it_passes_an_independent_checker_passes_too() {
    let mut random = Random::new(7);
    let (mut right, mut wrong) = (0, 0);
    for _ in 0..3_000 {
        let history = random_history(&mut random);
        if check(&OneRegister, &history).is_ok() {
            assert!(other_says(&history), "{history:#?}");
            right += 1;
        } else {
            wrong += 1;
        }
    }
    assert!(right > 500 && wrong > 100, "{right} right, {wrong} wrong");
}
