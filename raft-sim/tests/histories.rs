//! Exported histories: what is written is what clients saw, in the form that other checkers read.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use raft_sim::history::{self, Call, End, Operation};
use raft_sim::registers::RegisterLoad;
use raft_sim::run;
use raft_sim::workload::Workload;

/// A line of an exported history.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    process: u64,
    kind: String,
    name: String,
    value: String,
}

/// The values of an operation map, by their keys: `{:key value, …}`, where a value may be a vector.
fn operation_map(line: &str) -> Option<BTreeMap<&str, &str>> {
    let mut rest = line.strip_prefix('{')?.strip_suffix('}')?;
    let mut map = BTreeMap::new();
    loop {
        let (key, behind) = rest.strip_prefix(':')?.split_once(' ')?;
        let (value, behind) = match behind.find(", :") {
            Some(end) => (behind.get(..end)?, behind.get(end + 2..)?),
            None => (behind, ""),
        };
        map.insert(key, value);
        if behind.is_empty() {
            return Some(map);
        }
        rest = behind;
    }
}

fn knossos(text: &str) -> Option<Vec<Line>> {
    let mut before = 0;
    let lines = text.lines().enumerate().map(|(number, line)| {
        let map = operation_map(line)?;
        let keyword = |key| map.get(key)?.strip_prefix(':').map(str::to_owned);
        assert_eq!(map.get("index")?.parse(), Ok(number), "indexes follow each other: {line}");
        let time = map.get("time")?.parse().unwrap_or(u64::MAX);
        assert!(time >= before, "time does not go back: {line}");
        before = time;
        let (kind, name, value) = (keyword("type")?, keyword("f")?, (*map.get("value")?).to_owned());
        Some(Line { process: map.get("process")?.parse().ok()?, kind, name, value })
    });
    lines.collect()
}

fn porcupine(text: &str) -> Option<Vec<Line>> {
    let lines = text.lines().map(|line| {
        let fields: Vec<&str> = line.strip_prefix("INFO  jepsen.util - ")?.split('\t').collect();
        let [process, kind, name, value] = fields[..] else { return None };
        let keyword = |text: &str| text.strip_prefix(':').map(str::to_owned);
        Some(Line {
            process: process.parse().ok()?,
            kind: keyword(kind)?,
            name: keyword(name)?,
            value: value.to_owned(),
        })
    });
    lines.collect()
}

/// What begins or ends in a history, as it is to be written: without processes, which are the writer's to choose.
fn expected(operations: &[&Operation]) -> Vec<(String, String, String)> {
    let mut events = Vec::new();
    for operation in operations {
        let (name, value) = match &operation.call {
            Call::Read => ("read", "nil".to_owned()),
            Call::Write(value) => ("write", value.to_string()),
            Call::CompareAndSet(old, new) => ("cas", format!("[{old} {new}]")),
            Call::Other(..) => unreachable!("registers are read, written, and compared and set"),
        };
        let event = |kind: &str, value: &str| (kind.to_owned(), name.to_owned(), value.to_owned());
        events.push((operation.began.number, event("invoke", &value)));
        let ended = operation.ended.as_ref();
        let at = ended.map_or(u64::MAX, |(at, _)| at.number);
        events.push(match ended.map(|(_, end)| end) {
            Some(End::Ok(Some(read))) => (at, event("ok", &read.to_string())),
            Some(End::Ok(None) | End::Answered(_)) => (at, event("ok", &value)),
            Some(End::Fail) => (at, event("fail", &value)),
            Some(End::Unknown) | None => (at, event("info", &value)),
        });
    }
    events.sort_by_key(|(at, _)| *at);
    events.into_iter().map(|(_, event)| event).collect()
}

/// A process does one thing at a time, and is not heard of after something whose end is not known.
fn must_be_well_formed(lines: &[Line]) {
    let (mut under_way, mut crashed) = (BTreeMap::new(), BTreeSet::new());
    for line in lines {
        assert!(!crashed.contains(&line.process), "{line:?}: it is not to be heard of again");
        if line.kind == "invoke" {
            assert_eq!(under_way.insert(line.process, line.name.clone()), None, "{line:?}: it is not free");
            continue;
        }
        assert_eq!(under_way.remove(&line.process).as_ref(), Some(&line.name), "{line:?}: it did not begin that");
        if line.kind == "info" {
            crashed.insert(line.process);
        }
    }
}

/// The first value, which both are told in the first two lines.
fn first_value() -> [(String, String, String); 2] {
    ["invoke", "ok"].map(|kind| (kind.to_owned(), "write".to_owned(), "0".to_owned()))
}

fn folder(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

#[test]
fn what_is_exported_is_what_clients_saw() -> Result<(), Box<dyn Error>> {
    let (folder, mut unknown, mut failed) = (folder("histories")?, 0, 0);
    for seed in 1..=12 {
        let load = RegisterLoad::default();
        let first = load.first_value();
        let history = run::run(seed, load, true).history;
        let [edn, log] = ["edn", "log"].map(|form| folder.join(format!("{seed}.{form}")));
        let written = history::export(&edn, first, &history)?;
        history::export(&log, first, &history)?;
        assert!(!written.is_empty());
        for path in written {
            let name = path.file_name().and_then(|name| name.to_str()).ok_or("no name")?;
            let key = name.split('.').nth(1).ok_or("no key")?;
            let of_key: Vec<&Operation> = history.iter().filter(|operation| operation.key == key).collect();
            let events: Vec<_> = first_value().into_iter().chain(expected(&of_key)).collect();
            let lines = knossos(&fs::read_to_string(&path)?).ok_or("not all lines are operation maps")?;
            must_be_well_formed(&lines);
            let seen: Vec<_> = lines.into_iter().map(|line| (line.kind, line.name, line.value)).collect();
            assert_eq!(seen, events, "seed {seed}, key {key}");
            // Porcupine does without ends that are not known, but of reads, which then show nothing.
            let lines = porcupine(&fs::read_to_string(path.with_extension("log"))?).ok_or("not a Jepsen log")?;
            must_be_well_formed(&lines);
            let seen: Vec<_> = lines.into_iter().map(|line| (line.kind, line.name, line.value)).collect();
            let told = events.into_iter().filter_map(|(kind, name, value)| match (&*kind, &*name) {
                ("fail" | "info", "read") => Some(("fail".to_owned(), name, ":timed-out".to_owned())),
                ("info", _) => {
                    unknown += 1;
                    None
                }
                _ => Some((kind, name, value)),
            });
            let told: Vec<_> = told.collect();
            failed += told.iter().filter(|(kind, ..)| kind == "fail").count();
            assert_eq!(seen, told, "seed {seed}, key {key}");
        }
    }
    assert!(unknown > 10 && failed > 10, "{unknown} ends were unknown, {failed} operations failed");
    Ok(())
}

#[test]
fn a_name_that_asks_for_no_form_is_refused() -> Result<(), Box<dyn Error>> {
    let path = folder("histories")?.join("history.json");
    let refused = history::export(&path, None, &[]).map_err(|error| error.to_string());
    assert_eq!(refused, Err("the name must end in .edn, .log or .txt".to_owned()));
    Ok(())
}
