//! Random numbers with which a test can be repeated.

use std::time::Duration;

/// A generator (SplitMix64, Steele et al. 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The generator of a test. The seed is `$FIRN_TEST_SEED` or the time, and is printed.
    ///
    /// # Panics
    /// If the variable is not a number.
    pub fn seeded(test: &str) -> Self {
        let seed = match std::env::var("FIRN_TEST_SEED") {
            Ok(seed) => seed.parse().expect("FIRN_TEST_SEED is a number"),
            Err(_) => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                u64::from(now.expect("after 1970").subsec_nanos()) ^ u64::from(std::process::id())
            }
        };
        eprintln!("{test}: FIRN_TEST_SEED={seed}");
        Self(seed)
    }

    /// Another generator, for the `n`th of several concurrent threads.
    pub fn split(&self, n: usize) -> Self {
        Self(self.0 ^ Self(n as u64).number())
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number less than `bound`, which must not be 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound as u64) as usize
    }

    /// A duration up to this one.
    pub fn within(&mut self, time: Duration) -> Duration {
        time.mul_f64((self.number() >> 11) as f64 / (1_u64 << 53) as f64)
    }
}
