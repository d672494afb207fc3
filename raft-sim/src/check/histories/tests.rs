use super::*;
use crate::random::Random;
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

    fn apply(&self, model: &mut u8, operation: &Operation) -> Vec<u8> {
        match &operation.kind {
            crate::workload::Kind::Command(value) => {
                *model = value[0];
                Vec::new()
            }
            crate::workload::Kind::Query(_) => vec![*model],
        }
    }
}

fn write(client: usize, value: u8, began: u64, ended: Option<u64>) -> Record {
    let operation = Operation::command(0, vec![value]);
    Record { client, operation, began, ended: ended.map(|at| (at, Some(Vec::new()))) }
}

fn read(client: usize, value: u8, began: u64, ended: u64) -> Record {
    let operation = Operation::query(0, Vec::new());
    Record { client, operation, began, ended: Some((ended, Some(vec![value]))) }
}

#[test]
fn a_read_that_goes_back_is_found_and_told() {
    let history = [write(0, 1, 1, Some(2)), read(1, 1, 3, 4), read(1, 0, 5, 6)];
    let violation = check(&OneRegister, &history).unwrap_err().to_string();
    assert!(violation.contains("then not: client 1, from 5"), "{violation}");
    assert_eq!(check(&OneRegister, &history[..2]), Ok(0));
}

#[test]
fn what_has_no_end_may_take_effect_late_or_never() {
    let late = [write(0, 1, 1, None), read(1, 0, 2, 3), read(1, 1, 4, 5)];
    assert_eq!(check(&OneRegister, &late), Ok(0));
    let never = [write(0, 1, 1, None), read(1, 0, 2, 3), read(1, 0, 4, 5)];
    assert_eq!(check(&OneRegister, &never), Ok(0));
    let twice = [write(0, 1, 1, None), write(1, 2, 2, Some(3)), read(1, 1, 4, 5), read(1, 2, 6, 7)];
    assert!(check(&OneRegister, &twice).is_err());
}

#[test]
fn an_answer_that_was_too_long_to_keep_fits_anything() {
    let mut history = [write(0, 1, 1, Some(2)), read(1, 9, 3, 4)];
    assert!(check(&OneRegister, &history).is_err());
    history[1].ended = Some((4, None));
    assert_eq!(check(&OneRegister, &history), Ok(0));
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

/// A history of a register that now and then answers something else than it holds.
fn random_history(random: &mut Random) -> Vec<Record> {
    let (mut now, mut value) = (0, 0_u8);
    let mut under_way: BTreeMap<usize, (Record, bool)> = BTreeMap::new();
    let mut history = Vec::new();
    for _ in 0..random.between(4, 26) {
        now += 1;
        let client = usize::try_from(random.below(4)).unwrap();
        let Some((mut record, done)) = under_way.remove(&client) else {
            let operation = match random.below(2) {
                0 => Operation::query(0, Vec::new()),
                _ => Operation::command(0, vec![u8::try_from(random.below(4)).unwrap()]),
            };
            under_way.insert(client, (Record { client, operation, began: now, ended: None }, false));
            continue;
        };
        if !done {
            let answer = OneRegister.apply(&mut value, &record.operation);
            let answer = if random.chance(30_000) && !answer.is_empty() { vec![3] } else { answer };
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
fn it_says_what_an_independent_checker_says() {
    let mut random = Random::new(7);
    let (mut right, mut wrong) = (0, 0);
    for _ in 0..3_000 {
        let history = random_history(&mut random);
        let ours = check(&OneRegister, &history).is_ok();
        assert_eq!(ours, other_says(&history), "{history:#?}");
        if ours { right += 1 } else { wrong += 1 }
    }
    assert!(right > 500 && wrong > 100, "{right} right, {wrong} wrong");
}

#[test]
fn an_entangled_history_is_given_up_and_not_called_right() {
    let mut history: Vec<Record> = (1..=24).map(|value| write(0, value, u64::from(value), None)).collect();
    history.push(read(1, 200, 30, 31));
    let records: Vec<&Record> = history.iter().collect();
    assert_eq!(Search::new(&OneRegister, 0, &records).run(1_000), Ok(false));
    let few: Vec<&Record> = history.iter().skip(18).collect();
    assert!(Search::new(&OneRegister, 0, &few).run(1_000_000).is_err());
}
