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
const CONSENSUS_LINES_MAX: usize = 5_250;

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

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
}

/// The known bugs are numbered from 1 to this.
const KNOWN_BUGS: u32 = 63;

/// The numbers in parentheses, "(3)" and "(3, 41)", below that heading of a document.
fn numbers_below(heading: &str, document: &str) -> Vec<u32> {
    let section = document.split(heading).nth(1).unwrap().split("\n## ").next().unwrap();
    let lists = section.split('(').skip(1).filter_map(|rest| rest.split(')').next());
    let numbers =
        lists.filter_map(|list| list.split(", ").map(|number| number.parse().ok()).collect::<Option<Vec<_>>>());
    numbers.flatten().collect()
}

#[test]
fn every_known_bug_has_a_test_or_a_reason() {
    let document = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let reasons = numbers_below("\n## What went wrong in other Rafts, and cannot here\n", &document);
    let texts: Vec<String> = sources(&root())
        .into_iter()
        .filter(|(path, text)| !path.ends_with("tidy.rs") && (is_test(path) || text.contains("#[cfg(test)]")))
        .map(|(_, text)| text)
        .collect();
    // Each has a name of its own, so that a search for a number finds all that is about it.
    let tested = |number: u32| {
        let name = format!("known_bug_{number:02}");
        let goes_on = |rest: &str| rest.starts_with(|next: char| next == '_' || next.is_ascii_lowercase());
        texts.iter().any(|text| text.split(&name).skip(1).any(goes_on))
    };
    let neither: Vec<u32> = (1..=KNOWN_BUGS).filter(|&number| !tested(number) && !reasons.contains(&number)).collect();
    assert!(neither.is_empty(), "neither a test nor a reason: {neither:?}");
    assert!(reasons.iter().all(|number| (1..=KNOWN_BUGS).contains(number)), "{reasons:?}");
    let two = |rest: &str| rest.get(2..).and_then(|rest| rest.strip_prefix("_and_")).is_some_and(starts_with_digit);
    let several = texts.iter().any(|text| text.split("known_bug_").skip(1).any(two));
    assert!(!several, "one name for each number");
}

#[test]
fn there_is_a_script_for_each_rule() {
    let scripts = fs::read_dir(root().join("raft-core/tests/scripts")).unwrap().count();
    println!("{scripts} scripts");
    assert!(scripts >= 100, "{scripts} scripts");
}
