//! Each property is found violated when a rule that it rests on is broken on purpose. Otherwise
//! it would prove nothing that it is never violated.
//!
//! The product has no switches for that. Its source is copied, and in the copy each rule's expression is
//! replaced by a choice between it and a wrong one; the program in `search.rs` is built against that.

mod rules;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use raft_model::properties::{
    ELECTION_SAFETY, LEADER_COMPLETENESS, LOG_MATCHING, NO_PANIC, NOTHING_REFUSED, STATE_MACHINE_SAFETY,
};
use rules::{RULES, Rule};

/// What the copy of the core gets besides: which rule is broken.
const SWITCH: &str = "//! Which rule is broken.
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

/// How many of the rules must each bring down the property, and no other in its place.
const RULES_MIN: [(&str, usize); 6] = [
    (ELECTION_SAFETY, 2),
    (LOG_MATCHING, 2),
    (LEADER_COMPLETENESS, 2),
    (STATE_MACHINE_SAFETY, 2),
    (NOTHING_REFUSED, 1),
    (NO_PANIC, 1),
];

/// What was found violated.
struct Finding {
    property: String,
    /// How far the search went.
    extent: String,
    /// What leads there, step by step.
    path: Vec<String>,
}

#[test]
#[cfg_attr(debug_assertions, ignore = "builds and searches in release: cargo test --release -p raft-model")]
fn every_property_falls_when_its_rule_is_broken() -> Result<(), Box<dyn Error>> {
    let copied = copy_workspace()?;
    make_breakable(&copied.join("raft-core/src"))?;
    let program = build(&copied)?;
    let (mut missed, mut fallen) = (Vec::new(), BTreeMap::new());
    for (number, rule) in RULES.iter().enumerate() {
        let findings = search(&program, number, rule)?;
        // Nothing else will do: a rule whose end is an assertion of the core says so itself.
        let Some(found) = findings.iter().find(|finding| finding.property == rule.violates) else {
            let instead: Vec<_> = findings.into_iter().map(|finding| finding.property).collect();
            missed.push(format!("{}: {} (but {instead:?})", rule.name, rule.violates));
            continue;
        };
        *fallen.entry(found.property.clone()).or_insert(0) += 1;
        println!("{} (in \"{}\"): does not hold: {} ({})", rule.name, rule.space, found.property, found.extent);
        found.path.iter().for_each(|step| println!("      {step}"));
    }
    assert!(missed.is_empty(), "not found:\n{}", missed.join("\n"));
    for (property, rules_min) in RULES_MIN {
        let rules = fallen.get(property).copied().unwrap_or(0);
        println!("{property}: brought down by {rules} broken rules");
        assert!(rules >= rules_min, "{property} fell with {rules} rules, and {rules_min} are asked for");
    }
    Ok(())
}

/// Copies the workspace as far as it is needed; gives where.
fn copy_workspace() -> io::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let copied = Path::new(env!("CARGO_TARGET_TMPDIR")).join("broken-rules");
    if copied.exists() {
        fs::remove_dir_all(&copied)?;
    }
    for name in ["raft-core", "raft-model"] {
        copy_folder(&root.join(name).join("src"), &copied.join(name).join("src"))?;
        fs::copy(root.join(name).join("Cargo.toml"), copied.join(name).join("Cargo.toml"))?;
    }
    fs::copy(root.join("Cargo.lock"), copied.join("Cargo.lock"))?;
    fs::copy(root.join("raft-model/tests/broken_rules/search.rs"), copied.join("raft-model/src/main.rs"))?;
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let (_, rest) = manifest.split_once("[workspace.package]").expect("the members stand before the rest");
    let members = "[workspace]\nresolver = \"3\"\nmembers = [\"raft-core\", \"raft-model\"]\n\n[workspace.package]";
    fs::write(copied.join("Cargo.toml"), format!("{members}{rest}"))?;
    Ok(copied)
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_folder(&from, &to)?;
        } else {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}

/// Puts a switch into each of the expressions that can be broken.
fn make_breakable(core: &Path) -> io::Result<()> {
    fs::write(core.join("broken.rs"), SWITCH)?;
    let root = core.join("lib.rs");
    fs::write(&root, format!("{}\npub mod broken;\n", fs::read_to_string(&root)?))?;
    for (number, rule) in RULES.iter().enumerate() {
        for (file, right, wrong) in rule.breaks {
            let file = core.join(file);
            let text = fs::read_to_string(&file)?;
            let times = text.matches(right).count();
            assert_eq!(times, 1, "\"{}\": {} holds `{right}` once", rule.name, file.display());
            let switch = format!("(if crate::broken::is({number}) {{ {wrong} }} else {{ {right} }})");
            fs::write(&file, text.replace(right, &switch))?;
        }
    }
    Ok(())
}

fn build(copied: &Path) -> io::Result<PathBuf> {
    // Not where this test was built: Cargo would take the copy's crates for those of the workspace.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("broken-rules-target");
    let cargo = Command::new(env!("CARGO"))
        .args(["build", "--release", "--offline", "--quiet", "--package", "raft-model"])
        .env("CARGO_TARGET_DIR", &target)
        // The switches are no code to be judged.
        .env_remove("RUSTFLAGS")
        .current_dir(copied)
        .output()?;
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    Ok(target.join("release/raft-model"))
}

fn search(program: &Path, number: usize, rule: &Rule) -> io::Result<Vec<Finding>> {
    let output = Command::new(program).args([&number.to_string(), rule.space, rule.violates]).output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut findings: Vec<Finding> = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some((property, extent)) = line.split_once('\t').filter(|(property, _)| !property.is_empty()) {
            findings.push(Finding { property: property.to_owned(), extent: extent.to_owned(), path: Vec::new() });
        } else if let Some(finding) = findings.last_mut() {
            finding.path.push(line.trim_start().to_owned());
        }
    }
    Ok(findings)
}
