//! Named streams of random numbers from one 64-bit seed.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The seed of a run. Each consumer draws from a stream of its own name, so that adding a
/// consumer does not change what others draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chance {
    seed: u64,
}

impl Chance {
    /// Chance of that seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self { seed }
    }

    /// The seed, to print with every failure.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The stream of that name, from its beginning. ChaCha8 and this naming are part of the plan
    /// format: a seed reproduces across releases.
    #[must_use]
    pub fn stream(&self, name: &str) -> ChaCha8Rng {
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&fnv1a(name.as_bytes()).to_le_bytes());
        key[16..24].copy_from_slice(&(name.len() as u64).to_le_bytes());
        ChaCha8Rng::from_seed(key)
    }
}

/// FNV-1a: short, fixed for ever, and good enough to tell names apart.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn streams_are_fixed_by_seed_and_name() {
        let chance = Chance::from_seed(7);
        let draw = |name: &str| chance.stream(name).next_u64();
        assert_eq!(draw("keys"), draw("keys"));
        assert_ne!(draw("keys"), draw("aborts"));
        assert_ne!(draw("keys"), Chance::from_seed(8).stream("keys").next_u64());
        // Fixed for ever: a recorded seed must reproduce its run.
        assert_eq!(draw("keys"), 18_219_299_370_460_648_060);
    }
}
