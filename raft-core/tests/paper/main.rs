//! The rules of the Raft paper ("In Search of an Understandable Consensus Algorithm", extended
//! version) and of Ongaro's dissertation ("Consensus: Bridging Theory and Practice"), sentence by
//! sentence: one test for each rule, named by where it stands. Where this implementation departs on
//! purpose, the test says how, and holds the rule that takes its place.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has found something")]
#![allow(clippy::cast_possible_truncation, reason = "the numbers in these tests are small")]

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../common/mod.rs"]
mod common;

mod defences;
mod figure_2;
mod harness;
mod liars;
mod section_3_elections;
mod section_3_log;
mod section_4;
mod section_6;
