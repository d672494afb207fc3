//! A program's own state machine in the simulator: accounts that money is paid into.
//!
//! The machine has a bug on purpose, if it is asked for: what it pays as a bonus depends on a counter that is not part
//! of its snapshots.
//!
//! ```text
//! cargo run --release -p raft-sim --example bank            # finds nothing
//! cargo run --release -p raft-sim --example bank -- bug     # finds the bug, and shows a world in which it bites
//! ```

use std::collections::BTreeMap;

use raft_core::machine::{Answer, Damaged, Position, Sink, Source, StateMachine};
use raft_sim::random::Random;
use raft_sim::workload::{Kind, Operation, Workload};

/// Each payment of so many is a lucky one, and is doubled.
const LUCKY: u64 = 10;

/// The accounts, and how many payments each has seen.
#[derive(Default)]
struct Bank {
    accounts: BTreeMap<u8, Account>,
    bug: bool,
}

#[derive(Clone, Copy, Default)]
struct Account {
    balance: u64,
    payments: u64,
}

impl StateMachine for Bank {
    fn apply(&mut self, _: Position, command: &[u8], answer: &mut Answer<'_>) {
        let [number, amount] = *command else { return answer.write(b"no payment") };
        let account = self.accounts.entry(number).or_default();
        account.payments += 1;
        let lucky = account.payments.is_multiple_of(LUCKY);
        account.balance += u64::from(amount) * if lucky { 2 } else { 1 };
        answer.write(&account.balance.to_le_bytes());
    }

    fn query(&self, query: &[u8], answer: &mut dyn Sink) {
        let account = query.first().and_then(|number| self.accounts.get(number)).copied().unwrap_or_default();
        answer.write(&account.balance.to_le_bytes());
    }

    fn snapshot(&self, state: &mut dyn Sink) {
        for (number, account) in &self.accounts {
            state.write(&[*number]);
            state.write(&account.balance.to_le_bytes());
            if !self.bug {
                state.write(&account.payments.to_le_bytes());
            }
        }
    }

    fn restore(&mut self, state: &mut dyn Source) -> Result<(), Damaged> {
        self.accounts.clear();
        let mut number = [0];
        while state.read(&mut number) == 1 {
            let [mut balance, mut payments] = [[0; 8]; 2];
            state.read_exact(&mut balance)?;
            if !self.bug {
                state.read_exact(&mut payments)?;
            }
            let [number] = number;
            let [balance, payments] = [balance, payments].map(u64::from_le_bytes);
            self.accounts.insert(number, Account { balance, payments });
        }
        Ok(())
    }
}

/// What clients do: they pay in, and look.
struct Payments {
    bug: bool,
}

impl Workload for Payments {
    type Machine = Bank;
    /// Balance and payments of one account.
    type Model = (u64, u64);

    fn machine(&self) -> Bank {
        Bank { bug: self.bug, ..Bank::default() }
    }

    fn next(&mut self, random: &mut Random) -> Operation {
        let number = random.below(3);
        let account = u8::try_from(number).unwrap_or(0);
        let amount = u8::try_from(random.between(1, 100)).unwrap_or(1);
        if random.chance(300_000) {
            Operation::query(number, vec![account])
        } else {
            Operation::command(number, vec![account, amount])
        }
    }

    fn model(&self, _: u64) -> (u64, u64) {
        (0, 0)
    }

    fn apply(&self, (balance, payments): &mut (u64, u64), _: Position, operation: &Operation) -> Vec<u8> {
        if let Kind::Command(command) = &operation.kind {
            let amount = command.get(1).copied().map_or(0, u64::from);
            *payments += 1;
            *balance += if payments.is_multiple_of(LUCKY) { 2 * amount } else { amount };
        }
        balance.to_le_bytes().to_vec()
    }
}

fn main() {
    let bug = std::env::args().any(|argument| argument == "bug");
    raft_sim::check(|_seed| Payments { bug });
    println!("nothing found");
}
