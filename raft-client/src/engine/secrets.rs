//! Where the secrets of sessions come from.

use raft_core::client::pace::Jitter;
use raft_core::types::Nonce;

/// A source of numbers that nobody else can guess.
#[derive(Debug)]
pub(super) enum Secrets {
    /// The operating system.
    System,
    /// A seed, for tests that are to be repeated.
    Seeded(Jitter),
}

impl Secrets {
    /// A secret; `None` if the operating system gives none.
    pub(super) fn next(&mut self) -> Option<Nonce> {
        match self {
            Secrets::System => {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes).ok()?;
                Some(Nonce(u128::from_le_bytes(bytes)))
            }
            Secrets::Seeded(jitter) => Some(Nonce(u128::from(jitter.next_u64()) << 64 | u128::from(jitter.next_u64()))),
        }
    }

    /// A seed for jitter, which needs to be different rather than secret.
    pub(super) fn seed(&mut self) -> Option<u64> {
        self.next().map(|Nonce(bits)| u64::try_from(bits >> 64).unwrap_or(0))
    }
}
