//! What the writer and the readers saw, for other checkers.
//!
//! `CHAOS_HISTORY=FILE` has the campaign write it: for Knossos (`--model register`) if the name ends in `.edn`, for Porcupine
//! if it ends in `.log` (a register) or `.txt` (a store).

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use raft_sim::history::{self, Call, End, Moment, Operation};

/// Operations on one key, as they begin and end in several threads.
#[derive(Debug)]
pub(crate) struct Recorder {
    key: String,
    start: Instant,
    /// The operations, and how many moments there were.
    seen: Mutex<(Vec<Operation>, u64)>,
}

impl Recorder {
    pub(crate) fn new(key: &str) -> Recorder {
        Recorder { key: key.to_owned(), start: Instant::now(), seen: Mutex::default() }
    }

    fn with<T>(&self, what: impl FnOnce(&mut Vec<Operation>, Moment) -> T) -> T {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (operations, moments) = &mut *seen;
        *moments += 1;
        let micros = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        what(operations, Moment { number: *moments, micros })
    }

    /// An operation is about to be sent. Returns its number.
    pub(crate) fn begin(&self, call: Call) -> usize {
        self.with(|operations, began| {
            operations.push(Operation { key: self.key.clone(), call, began, ended: None });
            operations.len() - 1
        })
    }

    /// The answer to an operation is here, or nobody waits for it any more.
    pub(crate) fn end(&self, number: usize, end: End) {
        self.with(|operations, ended| {
            if let Some(operation) = operations.get_mut(number) {
                operation.ended = Some((ended, end));
            }
        });
    }

    /// Writes what was seen into the file that `CHAOS_HISTORY` names, if it names one.
    pub(crate) fn export_if_asked(&self) {
        if let Some(path) = std::env::var_os("CHAOS_HISTORY") {
            let written = self.export(Path::new(&path)).unwrap();
            println!("history written to {written:?}");
        }
    }

    fn export(&self, path: &Path) -> std::io::Result<Vec<PathBuf>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        history::export(path, None, &seen.0)
    }
}

#[test]
fn a_recorded_history_is_exported_as_it_was_seen() {
    let recorder = Recorder::new("fresh");
    let write = recorder.begin(Call::Write(1));
    let read = recorder.begin(Call::Read);
    recorder.end(read, End::Ok(None));
    recorder.end(write, End::Ok(None));
    let read = recorder.begin(Call::Read);
    recorder.end(read, End::Ok(Some(1)));
    recorder.end(recorder.begin(Call::Write(2)), End::Unknown);
    let folder = tempfile::tempdir().unwrap();
    let store = recorder.export(&folder.path().join("history.txt")).unwrap();
    let text = std::fs::read_to_string(&store[0]).unwrap();
    let expected = "{:process 0, :type :invoke, :f :put, :key \"fresh\", :value \"1\"}\n\
                    {:process 1, :type :invoke, :f :get, :key \"fresh\", :value nil}\n\
                    {:process 1, :type :ok, :f :get, :key \"fresh\", :value \"\"}\n\
                    {:process 0, :type :ok, :f :put, :key \"fresh\", :value \"1\"}\n\
                    {:process 0, :type :invoke, :f :get, :key \"fresh\", :value nil}\n\
                    {:process 0, :type :ok, :f :get, :key \"fresh\", :value \"1\"}\n\
                    {:process 0, :type :invoke, :f :put, :key \"fresh\", :value \"2\"}\n";
    assert_eq!(text, expected);
    let register = recorder.export(&folder.path().join("history.edn")).unwrap();
    let text = std::fs::read_to_string(&register[0]).unwrap();
    let kinds: Vec<&str> =
        text.lines().filter_map(|line| line.split(":type :").nth(1)?.split(", :value").next()).collect();
    let expected = [
        "invoke, :f :write",
        "invoke, :f :read",
        "ok, :f :read",
        "ok, :f :write",
        "invoke, :f :read",
        "ok, :f :read",
        "invoke, :f :write",
        "info, :f :write",
    ];
    assert_eq!(kinds, expected);
}
