//! Images that people could ask a package set for: what the profile of a revision is learnt from.
//!
//! Nothing is known about real requests, so the guess is plain: one to four packages, each as likely as any
//! other, and a shell in every other image. The draw is the same on every machine.

use super::profile::bare_name;
use crate::Closure;
use sha2::{Digest as _, Sha256};

/// What the shell of an image is made of, by name without version.
const SHELL: [&str; 3] = ["bash", "bash-interactive", "coreutils"];
/// At most so many packages are drawn for one image.
const MOST_PACKAGES: u64 = 4;
/// A client that has pulled so many images tells what a layer costs it.
pub(super) const CLIENT_IMAGES: u64 = 200;
/// Images drawn for each member of the set, at most.
const ENOUGH_PER_MEMBER: usize = 16;

/// Points that a package has on the ring that images are drawn from: more make all packages equally likely.
const POINTS: u64 = 16;

/// A package set, its members in the order of their names.
///
/// Numbers, draws and ties go by name, not by store path: the next revision has other paths for nearly the same
/// names, and should come to nearly the same profile.
#[derive(Debug)]
pub(super) struct PackageSet<'a> {
    closure: &'a Closure,
    members: Vec<Member>,
}

/// One member of a [`PackageSet`].
#[derive(Debug)]
pub(super) struct Member {
    /// Where the closure has it.
    pub(super) index: usize,
    /// Its name without version.
    bare: String,
    /// Size in bytes.
    pub(super) size: u64,
    /// Which members it refers to.
    pub(super) references: Vec<usize>,
}

/// A package set with some images drawn from it.
#[derive(Debug)]
pub(super) struct Imagined<'a> {
    /// The package set.
    pub(super) set: &'a PackageSet<'a>,
    /// Each image: the members of its closure, ascending.
    pub(super) images: Vec<Vec<usize>>,
}

/// The members that each start reaches, itself included.
#[derive(Debug)]
pub(super) struct Reach<'a> {
    set: &'a PackageSet<'a>,
    seen: Vec<u32>,
    round: u32,
}

impl<'a> PackageSet<'a> {
    /// The members of this closure.
    pub(super) fn new(closure: &'a Closure) -> Self {
        let bare: Vec<String> = closure.paths().iter().map(|member| bare_name(member.path.name())).collect();
        let mut order: Vec<usize> = (0..closure.len()).collect();
        order.sort_by_key(|&index| (&bare[index], closure.paths()[index].path.name(), index));
        let mut position = vec![0; order.len()];
        order.iter().enumerate().for_each(|(i, &index)| position[index] = i);
        let members = order
            .into_iter()
            .map(|index| {
                let member = &closure.paths()[index];
                let references = member.references.iter().map(|&to| position[to]).collect();
                Member { index, bare: bare[index].clone(), size: member.nar_size, references }
            })
            .collect();
        Self { closure, members }
    }

    /// All members.
    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The name of a member, with its version.
    pub(super) fn name(&self, member: usize) -> &'a str {
        self.closure.paths()[self.members[member].index].path.name()
    }

    /// Points on a ring, ascending, with the members that they belong to. Whoever draws a place on the ring gets
    /// the next point. A package that comes or goes changes few draws; counting members off would change all.
    fn ring(&self) -> Vec<(u64, usize)> {
        let mut ring = Vec::with_capacity(self.members.len() * POINTS as usize);
        let mut namesakes = 0;
        for (i, member) in self.members.iter().enumerate() {
            namesakes = if i > 0 && self.members[i - 1].bare == member.bare { namesakes + 1 } else { 0 };
            let digest = Sha256::digest(format!("{}\0{namesakes}", member.bare));
            let (seed, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
            let mut points = SplitMix64(u64::from_le_bytes(*seed));
            ring.extend((0..POINTS).map(|_| (points.next(), i)));
        }
        ring.sort_unstable();
        ring
    }
}

impl<'a> Imagined<'a> {
    /// Draws so many images; fewer where a small set has not so many to tell apart.
    pub(super) fn new(set: &'a PackageSet<'a>, images: usize) -> Self {
        let members = set.members();
        let shell: Vec<usize> =
            (0..members.len()).filter(|&i| SHELL.contains(&members[i].bare.as_str())).collect();
        let ring = set.ring();
        let mut random = SplitMix64(0);
        let mut reach = Reach::new(set);
        let mut draw = || {
            let mut requested = if random.below(2) == 0 { shell.clone() } else { Vec::new() };
            for _ in 0..=random.below(MOST_PACKAGES) {
                let place = random.next();
                let point = ring.partition_point(|point| point.0 < place) % ring.len();
                requested.push(ring[point].1);
            }
            let mut members = reach.from(&requested);
            members.sort_unstable();
            members
        };
        let images = images.min(members.len().saturating_mul(ENOUGH_PER_MEMBER));
        Self { set, images: (0..images).map(|_| draw()).collect() }
    }

    /// How likely each member is in an image: by the draw, or by the number of packages that have it in their
    /// closure where that says more, as it does for what is rare.
    pub(super) fn probabilities(&self) -> Vec<f64> {
        let mut drawn = vec![0u32; self.set.members().len()];
        for &i in self.images.iter().flatten() {
            drawn[i] += 1;
        }
        let mut within = vec![0u32; self.set.members().len()];
        let mut reach = Reach::new(self.set);
        for start in 0..self.set.members().len() {
            for i in reach.from(&[start]) {
                within[i] += 1;
            }
        }
        let by_count = |count: u32| {
            let absent = 1.0 - f64::from(count) / self.set.members().len() as f64;
            let of_any: f64 = (1..=MOST_PACKAGES).map(|packages| 1.0 - power(absent, packages)).sum();
            of_any / MOST_PACKAGES as f64
        };
        let by_draw = |count: u32| f64::from(count) / self.images.len() as f64;
        within.into_iter().zip(drawn).map(|(within, drawn)| by_count(within).max(by_draw(drawn))).collect()
    }
}

impl<'a> Reach<'a> {
    pub(super) fn new(set: &'a PackageSet<'a>) -> Self {
        Self { set, seen: vec![0; set.members().len()], round: 0 }
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
            self.set.members()[i].references.iter().for_each(|&to| visit(to, &mut reached));
        }
        reached
    }
}

/// How likely a client is to have seen what so many of the images have, when it has pulled [`CLIENT_IMAGES`].
pub(super) fn seen(images: usize) -> Vec<f64> {
    let absent = |count: usize| 1.0 - count as f64 / images.max(1) as f64;
    (0..=images).map(|count| 1.0 - power(absent(count), CLIENT_IMAGES)).collect()
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
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
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
