//! The zoo: bugs that could have been, one rule each, and the simulator finds every one of them.
//!
//! The product has no switches for its bugs. Its source is copied, and in the copy each rule stands beside what the
//! code would be without it, under `--cfg raft_zoo`; one build has them all, and the environment says which one lives.
//!
//! ```text
//! cargo test --release -p raft-sim --test zoo -- --nocapture
//! BUG=lease SEEDS=5000 cargo test --release -p raft-sim --test zoo -- --nocapture    # those whose names hold that
//! ```

mod bugs;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::{env, fs, io, thread};

use bugs::Bug;

/// How many worlds a bug may hide in.
const SEEDS: u64 = 6_000;
const CRATES: [&str; 6] =
    ["raft-core", "raft-storage-file", "raft-transport-tcp", "raft-node", "raft-client", "raft-sim"];

/// What the copy of the core gets besides: which bug lives.
const SWITCH: &str = "//! Which bug lives.
#![allow(missing_docs, clippy::all)]
#[cfg(raft_zoo)]
extern crate std;
#[cfg(raft_zoo)]
pub fn lives(bug: usize) -> bool {
    static BUG: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    let living = || std::env::var(\"RAFT_ZOO\").ok().and_then(|bug| bug.parse().ok()).unwrap_or(usize::MAX);
    *BUG.get_or_init(living) == bug
}
#[cfg(not(raft_zoo))]
pub fn lives(_: usize) -> bool {
    false
}
";

#[test]
fn the_lines_that_bugs_replace_stand_in_the_code() -> Result<(), Box<dyn Error>> {
    let_bugs_in(&copy_workspace("lines")?)?;
    Ok(())
}

#[test]
#[cfg_attr(debug_assertions, ignore = "builds and searches in release: cargo test --release -p raft-sim --test zoo")]
fn every_bug_is_found() -> Result<(), Box<dyn Error>> {
    let copied = copy_workspace("zoo")?;
    let_bugs_in(&copied)?;
    let program = build(&copied)?;
    let seeds = env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    let wanted = env::var("BUG").unwrap_or_default();
    let healthy = search(&program, usize::MAX, 200)?;
    assert!(healthy.is_none(), "without a bug nothing is found: {healthy:?}");
    println!("| bug | seeds | found by |\n|---|--:|---|");
    let left = Mutex::new(bugs::all().filter(|(_, bug)| bug.name.contains(&wanted)));
    let missed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let searches: Vec<_> = (0..thread::available_parallelism()?.get())
            .map(|_| {
                scope.spawn(|| -> io::Result<()> {
                    loop {
                        let Some((number, bug)) = left.lock().expect("nobody panics with it").next() else {
                            return Ok(());
                        };
                        match search(&program, number, seeds)? {
                            Some((worlds, violation)) => println!("| {} | {worlds} | {violation} |", bug.name),
                            None => {
                                println!("| {} | not in {seeds} | |", bug.name);
                                missed.lock().expect("nobody panics with it").push(bug.name);
                            }
                        }
                    }
                })
            })
            .collect();
        searches.into_iter().try_for_each(|search| search.join().expect("a search does not panic"))
    })?;
    let missed = missed.into_inner().expect("nobody panics with it");
    assert!(missed.is_empty(), "not found: {missed:#?}");
    Ok(())
}

/// Copies the crates that are needed into a folder of that name; gives where.
fn copy_workspace(name: &str) -> io::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let copied = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if copied.exists() {
        fs::remove_dir_all(&copied)?;
    }
    for name in CRATES {
        copy_folder(&root.join(name).join("src"), &copied.join(name).join("src"))?;
        fs::copy(root.join(name).join("Cargo.toml"), copied.join(name).join("Cargo.toml"))?;
    }
    fs::copy(root.join("Cargo.lock"), copied.join("Cargo.lock"))?;
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let (_, rest) = manifest.split_once("[workspace.package]").ok_or_else(|| io::Error::other("no package"))?;
    let members = format!("[workspace]\nresolver = \"3\"\nmembers = {CRATES:?}\n\n[workspace.package]");
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

/// Puts every bug beside its rule.
fn let_bugs_in(copied: &Path) -> io::Result<()> {
    let core = copied.join("raft-core/src");
    fs::write(core.join("zoo.rs"), SWITCH)?;
    let root = core.join("lib.rs");
    fs::write(&root, format!("{}\npub mod zoo;\n", fs::read_to_string(&root)?))?;
    let mut gone = Vec::new();
    for (number, Bug { name, edits }) in bugs::all() {
        for (file, right, wrong) in *edits {
            let switch = if file.starts_with("raft-core") { "crate::zoo" } else { "raft_core::zoo" };
            let file = copied.join(file);
            let text = fs::read_to_string(&file)?;
            let times = text.matches(right).count();
            if times != 1 {
                gone.push(format!("\"{name}\": {} holds this {times} times: {right}", file.display()));
                continue;
            }
            let wrong = wrong.replace("BUG", &format!("{switch}::lives({number})"));
            fs::write(&file, text.replace(right, &wrong))?;
        }
    }
    assert!(gone.is_empty(), "each line that a bug replaces stands in the code once:\n{}", gone.join("\n"));
    Ok(())
}

fn build(copied: &Path) -> io::Result<PathBuf> {
    // Not where this test was built: Cargo would take the copy's crates for those of the workspace.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("zoo-target");
    let cargo = Command::new(env!("CARGO"))
        .args(["build", "--release", "--offline", "--quiet", "--package", "raft-sim"])
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", "--cfg raft_zoo --cap-lints allow")
        .current_dir(copied)
        .output()?;
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    Ok(target.join("release/raft-sim"))
}

/// Runs worlds until the bug is found; gives how many that took, and what was violated.
fn search(program: &Path, bug: usize, seeds: u64) -> io::Result<Option<(String, String)>> {
    let output = Command::new(program)
        .args(["--seeds", &seeds.to_string(), "--no-shrink", "--threads", "1"])
        .env("RAFT_ZOO", bug.to_string())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.lines().find_map(|line| line.strip_prefix("seed ")?.split_once(": VIOLATION of "));
    Ok(found.map(|(seed, violation)| (seed.to_owned(), violation.split(':').next().unwrap_or("").to_owned())))
}
