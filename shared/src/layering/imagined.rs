//! Images that people could ask a package set for: what the profile of a revision is learnt from.
//!
//! Nothing is known about real requests, so the guess is plain: one to four packages, each as likely as any
//! other, and a shell in every other image. The draw is the same on every machine.

use super::profile::bare_name;
use crate::Closure;
use std::borrow::Cow;

/// What the shell of an image is made of, by name without version.
const SHELL: [&str; 3] = ["bash", "bash-interactive", "coreutils"];
/// At most so many packages are drawn for one image.
const MOST_PACKAGES: u64 = 4;
/// Images drawn for each member of the set, at most.
const ENOUGH_PER_MEMBER: usize = 16;

/// A package set with some images drawn from it.
#[derive(Debug)]
pub(super) struct Imagined<'a> {
    /// The package set.
    pub(super) set: &'a Closure,
    /// Each image: the members of its closure, ascending.
    pub(super) images: Cow<'a, [Vec<usize>]>,
}

/// The members that each start reaches, itself included.
#[derive(Debug)]
pub(super) struct Reach<'a> {
    set: &'a Closure,
    seen: Vec<u32>,
    round: u32,
}

impl<'a> Imagined<'a> {
    /// Draws so many images; fewer where a small set has not so many to tell apart.
    pub(super) fn new(set: &'a Closure, images: usize) -> Self {
        let shell: Vec<usize> = (0..set.len())
            .filter(|&i| SHELL.contains(&bare_name(set.paths()[i].path.name()).as_str()))
            .collect();
        let mut random = SplitMix64(0);
        let mut reach = Reach::new(set);
        let mut draw = || {
            let mut requested = if random.below(2) == 0 { shell.clone() } else { Vec::new() };
            for _ in 0..=random.below(MOST_PACKAGES) {
                requested.push(random.below(set.len() as u64) as usize);
            }
            let mut members = reach.from(&requested);
            members.sort_unstable();
            members
        };
        let images = images.min(set.len().saturating_mul(ENOUGH_PER_MEMBER));
        Self { set, images: (0..images).map(|_| draw()).collect() }
    }

    /// The first so many of the images.
    pub(super) fn first(&self, images: usize) -> Imagined<'_> {
        Imagined { set: self.set, images: Cow::Borrowed(&self.images[..images.min(self.images.len())]) }
    }

    /// How likely each member is in an image: by the draw, or by the number of packages that have it in their
    /// closure where that says more, as it does for what is rare.
    pub(super) fn probabilities(&self) -> Vec<f64> {
        let mut drawn = vec![0u32; self.set.len()];
        for &i in self.images.iter().flatten() {
            drawn[i] += 1;
        }
        let mut within = vec![0u32; self.set.len()];
        let mut reach = Reach::new(self.set);
        for start in 0..self.set.len() {
            for i in reach.from(&[start]) {
                within[i] += 1;
            }
        }
        let by_count = |count: u32| {
            let absent = 1.0 - f64::from(count) / self.set.len() as f64;
            let of_any: f64 = (1..=MOST_PACKAGES).map(|packages| 1.0 - power(absent, packages)).sum();
            of_any / MOST_PACKAGES as f64
        };
        let by_draw = |count: u32| f64::from(count) / self.images.len() as f64;
        within.into_iter().zip(drawn).map(|(within, drawn)| by_count(within).max(by_draw(drawn))).collect()
    }
}

impl<'a> Reach<'a> {
    pub(super) fn new(set: &'a Closure) -> Self {
        Self { set, seen: vec![0; set.len()], round: 0 }
    }

    /// What these members and their references come to, in no particular order.
    pub(super) fn from(&mut self, starts: &[usize]) -> Vec<usize> {
        self.round += 1;
        let mut reached = Vec::with_capacity(starts.len());
        let mut visit = |i: usize, reached: &mut Vec<usize>| {
            if self.seen[i] != self.round {
                self.seen[i] = self.round;
                reached.push(i);
            }
        };
        starts.iter().for_each(|&i| visit(i, &mut reached));
        let mut next = 0;
        while let Some(&i) = reached.get(next) {
            next += 1;
            self.set.paths()[i].references.iter().for_each(|&to| visit(to, &mut reached));
        }
        reached
    }
}

/// `base` to the power of `exponent`, by multiplication alone: `powf` and `powi` may differ between machines,
/// and two backends must agree.
pub(super) fn power(base: f64, mut exponent: u64) -> f64 {
    let (mut result, mut square) = (1.0, base);
    while exponent > 0 {
        if exponent % 2 == 1 {
            result *= square;
        }
        square *= square;
        exponent /= 2;
    }
    result
}

/// Steele, Lea & Flood, "Fast splittable pseudorandom number generators" (2014). By hand because the draw is
/// part of the format: another version of a library must not change it.
#[derive(Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        ((u128::from(z) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers() {
        for (base, exponent, expect) in [(2.0, 10, 1024.0), (0.5, 3, 0.125), (7.0, 0, 1.0), (0.0, 5, 0.0)] {
            assert_eq!(power(base, exponent), expect);
        }
    }

    #[test]
    fn draws_as_the_paper_does() {
        // The first output for seed 0 is e220a8397b1dcdaf: its upper half times the bound.
        assert_eq!(SplitMix64(0).below(1 << 32), 0xE220_A839);
    }
}
