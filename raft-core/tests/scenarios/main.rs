//! Scripts of consensus: each file in `scripts/` says on top what it shows, then gives commands,
//! and under each of them, indented, what the nodes did. Read one as a trace of the protocol.
//!
//! `REWRITE=1 cargo test -p raft-core --test scenarios` writes what the nodes do now; look at the
//! difference before you keep it. Commands:
//!
//! | command | what it does |
//! |---|---|
//! | `with NAME NUMBER` | a setting of all nodes that start from now on, by its name in `Config` |
//! | `nodes N [one-by-one] [lease MS] [witness M] [learner M] [priority M P]` | a new cluster of nodes 1 to N; M is no plain voter |
//! | `join N` | a new node with an empty log, which no member knows yet |
//! | `timeout N` | node N's clock moves to its deadline: an election, or a heartbeat |
//! | `elect N` | the same, until it is quiet; only what all are then is shown |
//! | `advance MS N..` | the clocks of these nodes move ahead (without nodes: all clocks) |
//! | `sleep MS N` | N's machine sleeps: its clock moves ahead, and N does nothing yet |
//! | `propose N WORDS` | a client of node N proposes an entry for each word |
//! | `change N [force] WHAT, WHAT..` | N is asked to change the members at once: `add M [learner\|witness\|voter]`, `remove M`, `promote M`, `demote M`, `priority M P` |
//! | `transfer N [TO]` | N is asked to hand over |
//! | `deliver [A>B [COUNT]]` | messages arrive: all until it is quiet, all on one link, or its first few |
//! | `drop A>B [COUNT]` | messages that are under way are lost |
//! | `duplicate A>B`, `swap A>B` | the first message stays under way; the first two change places |
//! | `damage A>B` | the last byte of the first snapshot part that is under way is changed |
//! | `partition A B.. / C..` | what is sent between the groups is lost, also what is under way |
//! | `block A>B..` | what is sent on these links is lost |
//! | `heal` | nothing is lost any more |
//! | `defer N`, `save N` | syncs of N wait from now on; the oldest one completes |
//! | `room N E` | the log of N has room for E entries from now on |
//! | `draft-room N B` | there is room at N for B bytes of a snapshot that arrives, from now on |
//! | `slow N`, `fast N` | N does not apply entries from now on; it does again |
//! | `snapshot N [terms]`, `compact N [INDEX]` | N makes a snapshot of what it has applied, which says what terms its log has; it drops what that covers from its log |
//! | `crash N [COUNT]` | N loses what was not durable, but for the oldest COUNT changes |
//! | `copy N`, `roll-back N`, `wipe N` | N's disk is copied; that of N, which is down, is as it was then; it is empty |
//! | `restart N [suspect INDEX]` | N starts again, and entries up to INDEX may have been lost from its log |
//! | `read N NAME [lease]`, `reads N` | a read begins on N, by a lease if it holds one; what has become of N's reads |
//! | `state [N]`, `followers N`, `machine N` | what each node is and holds; how its followers are; what it has applied |
//! | `events N` | what N tells those who watch, since the last time |
//!
//! Members are shown as `{1 2 3}`: voters, and others by a letter behind the id (L learner, J joining, JW joining as a witness,
//! W witness) and `^P` for a priority; a joint configuration as `{old voters -> new members}`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has found something")]
#![allow(clippy::cast_possible_truncation, reason = "the numbers in these tests are small")]

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../common/mod.rs"]
mod common;
mod describe;
mod disks;
mod known_bugs;
mod members;
mod verbs;
mod world;

use std::fmt::Write;
use std::path::PathBuf;

use world::World;

/// What the file should be: its comments and commands, each with what the nodes do now.
fn replay(script: &str) -> String {
    let (mut world, mut lines) = (World::default(), String::new());
    for line in script.lines().filter(|line| !line.starts_with("    ")) {
        writeln!(lines, "{line}").unwrap();
        if !line.is_empty() && !line.starts_with('#') {
            println!("{line}");
            world.run(line);
            print!("{}", world.trace);
            lines.push_str(&core::mem::take(&mut world.trace));
        }
    }
    lines
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scripts")
}

/// Where what the nodes do now is not what the script says, if anywhere.
fn difference(name: &str) -> Option<String> {
    let path = folder().join(name);
    let script = std::fs::read_to_string(&path).unwrap();
    assert!(script.starts_with("# "), "{name} says on top what it shows");
    println!("script {name}");
    let now = replay(&script);
    if now == script {
        return None;
    }
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(&path, &now).unwrap();
        return None;
    }
    let line = now.lines().zip(script.lines()).take_while(|(now, script)| now == script).count();
    let (is, was) = (now.lines().nth(line), script.lines().nth(line));
    Some(format!("{name}:{}: is {is:?}, was {was:?}", line + 1))
}

#[test]
fn every_script_goes_as_it_is_written() {
    let files = std::fs::read_dir(folder()).unwrap();
    let mut names: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let only = std::env::var("SCRIPT").unwrap_or_default();
    let wanted = names.iter().filter(|name| name.contains(&only));
    let different: Vec<String> = wanted.filter_map(|name| difference(name)).collect();
    assert!(different.is_empty(), "run with REWRITE=1 and look at the difference:\n{}", different.join("\n"));
}
