//! Each property is found violated when a rule that it rests on is broken on purpose. Otherwise
//! it would prove nothing that it is never violated.
//!
//! The product has no switches for that. Its source is copied, and in the copy each rule's expression is
//! replaced by a choice between it and a wrong one; the program in `search.rs` is built against that.

mod rules;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use raft_model::properties::{NO_PANIC, PROPERTIES};
use rules::{RULES, Rule};

/// What the copy of the core gets besides: which rule is broken.
const SWITCH: &str = "
//! Which rule is broken.
#![allow(missing_docs)]
use core::sync::atomic::{AtomicUsize, Ordering};
static RULE: AtomicUsize = AtomicUsize::new(usize::MAX);
pub fn begin(rule: usize) {
    RULE.store(rule, Ordering::Relaxed);
}
pub(crate) fn is(rule: usize) -> bool {
    RULE.load(Ordering::Relaxed) == rule
}
";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

fn edit(file: &Path, change: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    fs::write(file, change(text)).unwrap();
}

/// Copies the workspace as far as it is needed; gives where.
fn copy_workspace() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let copied = Path::new(env!("CARGO_TARGET_TMPDIR")).join("broken-rules");
    let _ = fs::remove_dir_all(&copied);
    for (name, parts) in [("raft-core", ["src", "Cargo.toml"]), ("raft-model", ["src", "Cargo.toml"])] {
        let [source, manifest] = parts.map(|part| Path::new(name).join(part));
        copy(&root.join(&source), &copied.join(&source));
        fs::copy(root.join(&manifest), copied.join(&manifest)).unwrap();
    }
    fs::copy(root.join("Cargo.lock"), copied.join("Cargo.lock")).unwrap();
    fs::copy(root.join("raft-model/tests/broken_rules/search.rs"), copied.join("raft-model/src/main.rs")).unwrap();
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let (_, rest) = manifest.split_once("[workspace.package]").expect("the members stand before the rest");
    let members = "[workspace]\nresolver = \"3\"\nmembers = [\"raft-core\", \"raft-model\"]\n\n[workspace.package]";
    fs::write(copied.join("Cargo.toml"), format!("{members}{rest}")).unwrap();
    copied
}

fn make_breakable(core: &Path) {
    fs::write(core.join("broken.rs"), SWITCH.trim_start()).unwrap();
    edit(&core.join("lib.rs"), |text| format!("{text}\npub mod broken;\n"));
    for (number, rule) in RULES.iter().enumerate() {
        for (file, right, wrong) in rule.breaks {
            edit(&core.join(file), |text| {
                assert_eq!(text.matches(right).count(), 1, "{file} has the expression of \"{}\" once", rule.name);
                text.replace(right, &format!("(if crate::broken::is({number}) {{ {wrong} }} else {{ {right} }})"))
            });
        }
    }
}

fn build(copied: &Path) -> PathBuf {
    // The dependencies are those of this test, and built already.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let cargo = Command::new(env!("CARGO"))
        .args(["build", "--release", "--offline", "--quiet", "-p", "raft-model"])
        .env("CARGO_TARGET_DIR", target)
        .env("RUSTFLAGS", "--cap-lints=allow")
        .current_dir(copied)
        .output()
        .unwrap();
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let program = copied.join("search");
    fs::copy(target.join("release/raft-model"), &program).unwrap();
    program
}

/// What the search has found, with how far it went and what leads there.
fn search(program: &Path, number: usize, rule: &Rule) -> Vec<(String, String, String)> {
    let output = Command::new(program).args([&number.to_string(), rule.space, rule.violates]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut found: Vec<(String, String, String)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix('\t'), line.splitn(3, '\t').collect::<Vec<_>>().as_slice()) {
            (Some(step), _) => found.last_mut().unwrap().2 += &format!("\n      {step}"),
            (None, [property, extent, step]) => {
                found.push(((*property).to_owned(), (*extent).to_owned(), (*step).to_owned()));
            }
            _ => panic!("not a finding: {line}"),
        }
    }
    found
}

#[test]
#[cfg_attr(debug_assertions, ignore = "builds and searches in release: cargo test --release -p raft-model")]
fn every_property_falls_when_its_rule_is_broken() {
    let copied = copy_workspace();
    make_breakable(&copied.join("raft-core/src"));
    let program = build(&copied);
    let mut missed = Vec::new();
    for (number, rule) in RULES.iter().enumerate() {
        let found = search(&program, number, rule);
        // The core's own assertions may well be first: but what they guard must be seen to fall.
        let wanted = found.iter().find(|(property, ..)| property == rule.violates);
        let Some((property, extent, path)) = wanted.or(found.iter().find(|(property, ..)| property == NO_PANIC)) else {
            println!("NOT FOUND: \"{}\" violates {} in space {}", rule.name, rule.violates, rule.space);
            missed.push(rule.name);
            continue;
        };
        println!("{}: violates {property} ({extent})\n      {path}", rule.name);
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
    for property in PROPERTIES {
        assert!(RULES.iter().any(|rule| rule.violates == property), "no rule is broken for {property}");
    }
}
