//! Histories of clients, written for other checkers: Knossos and Porcupine.
//!
//! | file | for | what |
//! |---|---|---|
//! | `*.edn` | Knossos (`lein run --model cas-register FILE`) | operation maps of its README, for one key |
//! | `*.log` | Porcupine's `parseJepsenLog` (`porcupine_test.go`) | lines of a Jepsen log, for one register |
//! | `*.txt` | Porcupine's `parseKvLog` (`porcupine_test.go`) | operation maps with keys, of puts and gets |
//!
//! In all of them a process does one thing at a time, and one whose operation has no known end is not heard of again. A client
//! here has several operations under way, so each of its operations goes to a process that is free.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::io;
use std::path::{Path, PathBuf};

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// A read of a register.
    Read,
    /// A write of a number.
    Write(u64),
    /// A write of the second number where the first one is.
    CompareAndSet(u64, u64),
    /// Something else: its name, and what it is about.
    Other(&'static str, String),
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It was executed. Of a read, what was there: `None` for nothing.
    Ok(Option<u64>),
    /// It was executed, with that answer.
    Answered(String),
    /// It was not executed, or changed nothing.
    Fail,
    /// Nobody knows.
    Unknown,
}

/// A moment of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Which one it is: later ones have higher numbers, and no two are equal.
    pub number: u64,
    /// When that was, in microseconds.
    pub micros: u64,
}

/// An operation of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What it touched.
    pub key: String,
    /// What was asked.
    pub call: Call,
    /// When it began.
    pub began: Moment,
    /// When it ended, and how.
    pub ended: Option<(Moment, End)>,
}

/// A form to write a history in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Operation maps for Knossos, of one key.
    Knossos,
    /// A Jepsen log for Porcupine, of one register.
    PorcupineRegister,
    /// Operation maps for Porcupine, of puts and gets.
    PorcupineStore,
}

impl Format {
    /// The form that a file's name asks for.
    #[must_use]
    pub fn of(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()? {
            "edn" => Some(Format::Knossos),
            "log" => Some(Format::PorcupineRegister),
            "txt" => Some(Format::PorcupineStore),
            _ => None,
        }
    }
}

/// What begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Invoke,
    Ok,
    Fail,
    Info,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Invoke => "invoke",
            Kind::Ok => "ok",
            Kind::Fail => "fail",
            Kind::Info => "info",
        }
    }
}

/// A line of a history.
#[derive(Clone, Copy, Debug)]
struct Event<'a> {
    process: usize,
    kind: Kind,
    /// `None` if it has no end.
    micros: Option<u64>,
    operation: &'a Operation,
}

/// The begins and ends of operations, in order, and who does them.
fn events<'a>(operations: &[&'a Operation]) -> Vec<Event<'a>> {
    let mut moments: Vec<(u64, Kind, Option<u64>, usize)> = Vec::new();
    for (number, operation) in operations.iter().enumerate() {
        let Operation { began, ended, .. } = operation;
        moments.push((began.number, Kind::Invoke, Some(began.micros), number));
        let end = ended.as_ref().map(|(at, end)| (at, end));
        moments.push(match end {
            Some((at, End::Ok(_) | End::Answered(_))) => (at.number, Kind::Ok, Some(at.micros), number),
            Some((at, End::Fail)) => (at.number, Kind::Fail, Some(at.micros), number),
            Some((at, End::Unknown)) => (at.number, Kind::Info, Some(at.micros), number),
            None => (u64::MAX, Kind::Info, None, number),
        });
    }
    moments.sort_by_key(|(moment, .., number)| (*moment, *number));
    let (mut free, mut processes) = (BTreeSet::new(), 0);
    let mut under_way = BTreeMap::new();
    let events = moments.into_iter().filter_map(|(_, kind, micros, number)| {
        let operation = *operations.get(number)?;
        let process = if kind == Kind::Invoke {
            let process = free.pop_first().unwrap_or_else(|| {
                processes += 1;
                processes - 1
            });
            under_way.insert(number, process);
            process
        } else {
            let process = under_way.remove(&number)?;
            if kind != Kind::Info {
                free.insert(process);
            }
            process
        };
        Some(Event { process, kind, micros, operation })
    });
    events.collect()
}

/// Writes the history of one register: all operations must be of one key.
fn write_register(format: Format, initial: Option<u64>, operations: &[&Operation]) -> String {
    let mut text = String::new();
    let [began, ended] = [0, 1].map(|number| Moment { number, micros: 0 });
    let call = Call::Write(initial.unwrap_or(0));
    let first = Operation { key: String::new(), call, began, ended: Some((ended, End::Ok(None))) };
    // Both begin with a register that holds nothing.
    let first = initial.map_or_else(Vec::new, |_| events(&[&first]));
    for (index, event) in first.iter().chain(&events(operations)).enumerate() {
        let written = match format {
            Format::PorcupineRegister => jepsen_line(&mut text, event),
            _ => operation_map(&mut text, index, event),
        };
        written.expect("a string takes what is written to it");
    }
    text
}

fn operation_map(text: &mut String, index: usize, event: &Event<'_>) -> fmt::Result {
    let Event { process, kind, micros, operation } = event;
    let (name, value) = function(operation, *kind);
    let (kind, time) = (kind.as_str(), micros.map_or_else(|| "nil".to_owned(), |micros| (micros * 1_000).to_string()));
    writeln!(text, "{{:index {index}, :time {time}, :process {process}, :type :{kind}, :f :{name}, :value {value}}}")
}

fn jepsen_line(text: &mut String, event: &Event<'_>) -> fmt::Result {
    let Event { process, kind, operation, .. } = event;
    let (name, value) = function(operation, *kind);
    match kind {
        // What a read that failed would have shown does not matter; nothing else ends it for Porcupine.
        Kind::Fail | Kind::Info if operation.call == Call::Read => {
            writeln!(text, "INFO  jepsen.util - {process}\t:fail\t:read\t:timed-out")
        }
        // An unknown end is one that is missing.
        Kind::Info => Ok(()),
        kind => writeln!(text, "INFO  jepsen.util - {process}\t:{}\t:{name}\t{value}", kind.as_str()),
    }
}

/// The name of what is done, and its value.
fn function(operation: &Operation, kind: Kind) -> (&'static str, String) {
    let end = operation.ended.as_ref().map(|(_, end)| end).filter(|_| kind == Kind::Ok);
    match (&operation.call, end) {
        (Call::Read, Some(End::Ok(Some(value)))) => ("read", value.to_string()),
        (Call::Read, _) => ("read", "nil".to_owned()),
        (Call::Write(value), _) => ("write", value.to_string()),
        (Call::CompareAndSet(expected, new), _) => ("cas", format!("[{expected} {new}]")),
        (Call::Other(name, _), Some(End::Answered(answer))) => (name, format!("{answer:?}")),
        (Call::Other(name, value), _) => (name, format!("{value:?}")),
    }
}

/// Writes the history of a store: puts, and gets of whole values.
fn write_store(operations: &[&Operation]) -> Result<String, Unsuitable> {
    let mut text = String::new();
    for event in events(operations) {
        let Event { process, kind, operation, .. } = event;
        let (name, value) = match (&operation.call, &operation.ended) {
            (Call::Read, Some((_, End::Ok(value)))) if kind == Kind::Ok => {
                ("get", format!("\"{}\"", value.map_or_else(String::new, |value| value.to_string())))
            }
            (Call::Read, _) => ("get", "nil".to_owned()),
            (Call::Write(value), _) => ("put", format!("\"{value}\"")),
            _ => return Err(Unsuitable),
        };
        match kind {
            // Porcupine takes a get that never ends for one that showed nothing, and a put that failed for one that did not.
            Kind::Info => {}
            Kind::Fail => return Err(Unsuitable),
            kind => writeln!(
                text,
                "{{:process {process}, :type :{}, :f :{name}, :key {:?}, :value {value}}}",
                kind.as_str(),
                operation.key
            )
            .expect("a string takes what is written to it"),
        }
    }
    Ok(text)
}

/// The history cannot be written in that form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this form holds puts and gets only; write one that ends in .edn or .log")]
pub struct Unsuitable;

/// Writes a history into files, and returns their names: one file for each key, with the key before the name's extension, or one
/// file for all of them in the form for stores. `initial` is what every register holds at first.
///
/// # Errors
/// The name asks for no known form, for one that cannot hold it, or the file cannot be written.
pub fn export(path: &Path, initial: Option<u64>, operations: &[Operation]) -> io::Result<Vec<PathBuf>> {
    let unknown = || io::Error::new(io::ErrorKind::InvalidInput, "the name must end in .edn, .log or .txt");
    let format = Format::of(path).ok_or_else(unknown)?;
    if format == Format::PorcupineStore {
        // A read without an end says nothing, and Porcupine would take it for one that showed nothing.
        let said = |operation: &&Operation| {
            let open = !matches!(operation.ended, Some((_, End::Ok(_))));
            !(operation.call == Call::Read && open)
        };
        let operations: Vec<&Operation> = operations.iter().filter(said).collect();
        let text = write_store(&operations).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        std::fs::write(path, text)?;
        return Ok(vec![path.to_owned()]);
    }
    let mut by_key: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        by_key.entry(&operation.key).or_default().push(operation);
    }
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let mut written = Vec::new();
    for (key, operations) in by_key {
        let path = path.with_extension(format!("{key}.{extension}"));
        std::fs::write(&path, write_register(format, initial, &operations))?;
        written.push(path);
    }
    Ok(written)
}

#[cfg(test)]
mod tests;
