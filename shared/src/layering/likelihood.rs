//! Estimates how likely it is that an image has a store path.
//!
//! Real requests are not known. The assumption is: an image has one to four packages, every package is equally likely,
//! and every other image has a shell.

use super::bare_name::bare_name;
use crate::Closure;

/// The packages of an image's shell, by name without version.
const SHELL: [&str; 3] = ["bash", "bash-interactive", "coreutils"];
/// The greatest number of packages that one image asks for.
const MOST_PACKAGES: u64 = 4;
/// How many images a client pulls.
const CLIENT_IMAGES: u64 = 200;
/// One pull of this many is by an empty client, such as a new machine or a CI job. A smaller number would lead to fewer
/// layers.
const PULLS_FOR_ONE_FIRST: f64 = 20.0;

/// The closures of a package set, and the likelihoods that follow from them.
#[derive(Debug)]
pub(super) struct Likelihoods {
    /// The closure of each member.
    pub(super) closures: Vec<Vec<u32>>,
    /// The probability that an image has each member, 0 to 1.
    pub(super) in_image: Vec<f64>,
    /// The members that make up a shell.
    pub(super) shell: Vec<u32>,
}

impl Likelihoods {
    /// The likelihoods of a whole package set.
    pub(super) fn of(set: &Closure) -> Self {
        let members = set.len();
        let mut seen = vec![usize::MAX; members];
        let mut within = vec![0u32; members];
        let mut closures = Vec::with_capacity(members);
        for start in 0..members {
            let mut reached = vec![start as u32];
            seen[start] = start;
            let mut next = 0;
            while let Some(&i) = reached.get(next) {
                next += 1;
                for &to in &set.paths()[i as usize].references {
                    if std::mem::replace(&mut seen[to], start) != start {
                        reached.push(to as u32);
                    }
                }
            }
            reached.iter().for_each(|&i| within[i as usize] += 1);
            closures.push(reached);
        }
        let is_shell = |i: &u32| {
            let name = set.paths()[*i as usize].path.name();
            SHELL.contains(&bare_name(name).as_str())
        };
        let shell: Vec<u32> = (0..members as u32).filter(is_shell).collect();
        let mut in_shell = vec![false; members];
        shell.iter().flat_map(|&i| &closures[i as usize]).for_each(|&i| in_shell[i as usize] = true);
        let by_packages = |count: u32| {
            let absent = 1.0 - f64::from(count) / members as f64;
            (1..=MOST_PACKAGES).map(|packages| 1.0 - power(absent, packages)).sum::<f64>()
                / MOST_PACKAGES as f64
        };
        let in_image = within
            .into_iter()
            .zip(in_shell)
            .map(|(count, in_shell)| match in_shell {
                true => 0.5 + 0.5 * by_packages(count),
                false => by_packages(count),
            })
            .collect();
        Self { closures, in_image, shell }
    }

    /// The probability that a request for an image names one particular package, 0 to 1.
    pub(super) fn of_request(&self) -> f64 {
        (1 + MOST_PACKAGES) as f64 / 2.0 / self.closures.len().max(1) as f64
    }
}

/// How often a layer is fetched per pull, given the probability that an image has it. The sum counts a client that
/// pulls one image after another and keeps layers by digest, and empty clients.
pub(super) fn fetches(in_image: f64) -> f64 {
    let ever = 1.0 - power(1.0 - in_image, CLIENT_IMAGES);
    ever / CLIENT_IMAGES as f64 + in_image / PULLS_FOR_ONE_FIRST
}

/// `base` to the power of `exponent`, by multiplication only. `powf` and `powi` may differ between machines, and all
/// backends must agree.
fn power(base: f64, mut exponent: u64) -> f64 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_by_squaring_is_exact() {
        for (base, exponent, expect) in [(2.0, 10, 1024.0), (0.5, 3, 0.125), (7.0, 0, 1.0), (0.0, 5, 0.0)] {
            assert_eq!(power(base, exponent), expect);
        }
    }
}
