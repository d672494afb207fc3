//! Where the secrets of sessions come from.

use std::fmt;

use raft_core::client::pace::Jitter;
use raft_core::types::Nonce;

/// A source of numbers that nobody else can guess, for the secrets of sessions.
pub struct Secrets(Box<dyn FnMut() -> Option<Nonce> + Send>);

impl Secrets {
    /// Whatever `source` returns: 128 random bits, never the same twice; `None` if it has none.
    pub fn new(source: impl FnMut() -> Option<Nonce> + Send + 'static) -> Secrets {
        Secrets(Box::new(source))
    }

    /// Random bytes of the operating system.
    #[must_use]
    pub fn of_system() -> Secrets {
        Secrets::new(|| {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes).ok()?;
            Some(Nonce(u128::from_le_bytes(bytes)))
        })
    }

    /// The same numbers for the same seed, for tests that are to be repeated: whoever can guess the seed can guess the
    /// secrets.
    #[must_use]
    pub fn seeded(seed: u64) -> Secrets {
        let mut jitter = Jitter::new(seed);
        Secrets::new(move || Some(Nonce(u128::from(jitter.next_u64()) << 64 | u128::from(jitter.next_u64()))))
    }

    /// The next secret; `None` if there is none.
    pub(super) fn next(&mut self) -> Option<Nonce> {
        (self.0)()
    }

    /// A seed for jitter, which needs to be different rather than secret.
    pub(super) fn seed(&mut self) -> Option<u64> {
        self.next().map(|Nonce(bits)| u64::try_from(bits >> 64).unwrap_or(0))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secrets")
    }
}
