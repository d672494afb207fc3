//! What a machine can check about how the code reads: lengths, leftovers, and calls that the core
//! must not make. Limits only ever go down.
#![allow(clippy::unwrap_used, reason = "a test that panics has found something")]

use std::fs;
use std::path::{Path, PathBuf};

/// The most lines of a file, its tests included.
const FILE_LINES_MAX: usize = 600;
/// The most lines of a function outside tests.
const FUNCTION_LINES_MAX: usize = 70;
/// The most lines of code in consensus: all of the core but sessions, clients and the replica, without
/// tests, comments and blank lines.
const CONSENSUS_LINES_MAX: usize = 5_000;

/// What would make the core depend on more than its arguments.
const BANNED_IN_CORE: [&str; 7] = ["std::time", "std::thread", "std::net", "std::fs", "rand::", "HashMap", "println!"];
/// Words that mark what was left for later.
const LEFTOVERS: [&str; 5] = ["todo!(", "unimplemented!(", "dbg!(", "XXX", "HACK"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All Rust files below `folder` that are ours, with their text.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(sources(&path));
        } else if name.ends_with(".rs") {
            found.push((path.clone(), fs::read_to_string(&path).unwrap()));
        }
    }
    found.sort();
    found
}

/// What stands before the tests of a file.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod ").next().unwrap()
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs")
}

/// The first line and the length of each function, by its indentation, as the formatter leaves it.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let body = line.trim_start();
        let indent = line.len() - body.len();
        let is_function =
            ["fn ", "pub fn ", "const fn ", "pub const fn ", "async fn "].iter().any(|it| body.starts_with(it))
                || (body.starts_with("pub(") && body.contains(" fn "));
        if is_function && !body.ends_with(';') {
            let close = format!("{}}}", " ".repeat(indent));
            let length = lines.iter().skip(start).take_while(|line| **line != close).count() + 1;
            found.push((start + 1, length));
        }
    }
    found
}

#[test]
fn files_and_functions_can_be_read_in_one_sitting() {
    let mut long = Vec::new();
    for (path, text) in sources(&root()) {
        if text.lines().count() > FILE_LINES_MAX {
            long.push(format!("{}: {} lines", path.display(), text.lines().count()));
        }
        if !is_test(&path) {
            let over = functions(without_tests(&text)).into_iter().filter(|&(_, length)| length > FUNCTION_LINES_MAX);
            long.extend(over.map(|(line, length)| format!("{}:{line}: a function of {length} lines", path.display())));
        }
    }
    assert!(long.is_empty(), "split these:\n{}", long.join("\n"));
}

#[test]
fn consensus_stays_small() {
    let core = root().join("raft-core/src");
    let apart = |path: &Path| {
        let path = path.strip_prefix(&core).unwrap();
        ["session", "client", "replica"].iter().any(|part| path.starts_with(part)) || path == Path::new("replica.rs")
    };
    let files = sources(&core).into_iter().filter(|(path, _)| !apart(path) && !is_test(path));
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    let (mut all, mut code) = (0, 0);
    for (_, text) in files {
        let text = without_tests(&text);
        (all, code) = (all + text.lines().count(), code + text.lines().filter(is_code).count());
    }
    println!("consensus: {code} lines of code, {all} with comments and blank lines");
    assert!(code < CONSENSUS_LINES_MAX, "{code} lines of code in consensus");
}

#[test]
fn the_core_depends_on_its_arguments_alone() {
    for (path, text) in sources(&root().join("raft-core/src")) {
        let code = without_tests(&text);
        for banned in BANNED_IN_CORE.into_iter().filter(|_| !is_test(&path)) {
            assert!(!code.contains(banned), "{} uses {banned}", path.display());
        }
    }
}

#[test]
fn nothing_is_left_for_later() {
    for (path, text) in sources(&root()).into_iter().filter(|(path, _)| !path.ends_with("tidy.rs")) {
        for leftover in LEFTOVERS {
            assert!(!text.contains(leftover), "{} has {leftover}", path.display());
        }
    }
}

#[test]
fn there_is_a_script_for_each_rule() {
    let scripts = fs::read_dir(root().join("raft-core/tests/scripts")).unwrap().count();
    println!("{scripts} scripts");
    assert!(scripts >= 100, "{scripts} scripts");
}
