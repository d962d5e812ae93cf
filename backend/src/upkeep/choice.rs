//! Chooses the images to remove: those that no client has pulled for long, those that are old, and, while the rest is
//! larger than the budget, those that were used least.
//!
//! Names are free, so anybody can have a thousand unwanted images made. Uses tell such a flood from images in demand.
//! An image that was used once is removed before one that was used again, even if the latter was pulled earlier. (A
//! week without a pull halves the uses.) New images cannot be removed before their grace period has passed. So that
//! they do not displace images in demand, images that were used repeatedly keep half of the space.

use crate::config::RetentionPolicy;
use firn_shared::Digest;
use serde::Serialize;
use std::collections::HashMap;
use std::time::Duration;

/// Why an image is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RemovalReason {
    /// Its manifests are missing or cannot be read.
    Broken,
    /// No client has pulled it for long.
    Unused,
    /// It was built long ago.
    Old,
    /// Others were used more, or more recently, and there is no room for all.
    Budget,
}

/// What the choice needs to know about an image.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// Time of the last pull or of the build, in milliseconds since 1970 by the store's clock.
    pub(super) pulled_ms: i64,
    /// Time of the build, by the same clock.
    pub(super) built_ms: i64,
    /// How many uses were counted.
    pub(super) uses: u32,
    /// All its blobs. None if they cannot be determined.
    pub(super) blobs: Option<Vec<Digest>>,
    /// The space of its records in bytes.
    pub(super) records: u64,
}

/// How much of the budget images may fill. The rest is for images that are being built, and for removed ones in their
/// grace period.
const FILLED: (u64, u64) = (4, 5);
/// After this time without a pull, uses count half.
const WEEK_MS: i64 = 7 * 24 * 3600 * 1000;

/// For each image, the reason to remove it, or None to keep it. `sizes` is the space of each blob with its record,
/// and `others` the space of what belongs to no image and stays, both in bytes. `now_ms` is the store's time.
pub(super) fn choose(
    images: &[Candidate],
    sizes: &HashMap<Digest, u64>,
    others: u64,
    policy: &RetentionPolicy,
    now_ms: i64,
) -> Vec<Option<RemovalReason>> {
    let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    // If a time is in the future, the clock that wrote it was corrected since.
    let age = |time_ms: i64| now_ms.saturating_sub(time_ms).max(0);
    let is_young = |image: &Candidate| age(image.pulled_ms) <= ms(policy.grace);
    let mut reasons: Vec<Option<RemovalReason>> = images
        .iter()
        .map(|image| match &image.blobs {
            _ if is_young(image) => None,
            None => Some(RemovalReason::Broken),
            Some(_) if age(image.pulled_ms) > ms(policy.unused) => Some(RemovalReason::Unused),
            Some(_) if policy.age.is_some_and(|limit| age(image.built_ms) > ms(limit)) => {
                Some(RemovalReason::Old)
            }
            Some(_) => None,
        })
        .collect();
    let Some(budget) = policy.budget else { return reasons };

    let goal = budget / FILLED.1 * FILLED.0;
    let rank = |i: &usize| (worth(&images[*i], now_ms), images[*i].pulled_ms);
    let is_wanted = |i: &usize| worth(&images[*i], now_ms) > 1;
    let mut by_rank: Vec<usize> = (0..images.len()).filter(|i| reasons[*i].is_none()).collect();
    by_rank.sort_by_key(rank);
    let (mut all, mut wanted) = (Room::new(sizes, others), Room::new(sizes, 0));
    for i in &by_rank {
        all.take(&images[*i]);
        if is_wanted(i) {
            wanted.take(&images[*i]);
        }
    }
    for i in by_rank {
        if all.held <= goal || is_wanted(&i) && wanted.held <= goal / 2 {
            break;
        }
        if is_young(&images[i]) {
            continue;
        }
        reasons[i] = Some(RemovalReason::Budget);
        all.leave(&images[i]);
        if is_wanted(&i) {
            wanted.leave(&images[i]);
        }
    }
    reasons
}

/// The current worth of an image's uses.
fn worth(image: &Candidate, now_ms: i64) -> u32 {
    let weeks = now_ms.saturating_sub(image.pulled_ms).max(0) / WEEK_MS;
    image.uses.checked_shr(u32::try_from(weeks).unwrap_or(u32::MAX)).unwrap_or(0).max(1)
}

/// The space of some images together. A blob that several of them share counts once.
struct Room<'a> {
    sizes: &'a HashMap<Digest, u64>,
    users: HashMap<&'a Digest, u32>,
    held: u64,
}

impl<'a> Room<'a> {
    fn new(sizes: &'a HashMap<Digest, u64>, held: u64) -> Self {
        Self { sizes, users: HashMap::new(), held }
    }

    fn size(&self, digest: &Digest) -> u64 {
        self.sizes.get(digest).copied().unwrap_or_default()
    }

    fn take(&mut self, image: &'a Candidate) {
        self.held += image.records;
        for digest in image.blobs.iter().flatten() {
            let users = self.users.entry(digest).or_default();
            *users += 1;
            if *users == 1 {
                self.held += self.size(digest);
            }
        }
    }

    fn leave(&mut self, image: &'a Candidate) {
        self.held = self.held.saturating_sub(image.records);
        for digest in image.blobs.iter().flatten() {
            let users = self.users.entry(digest).or_default();
            *users = users.saturating_sub(1);
            if *users == 0 {
                self.held = self.held.saturating_sub(self.size(digest));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 24 * 3600 * 1000;
    const NOW: i64 = 1000 * DAY_MS;

    fn image(pulled_days_ago: i64, built_days_ago: i64, blobs: &[u8]) -> Candidate {
        Candidate {
            pulled_ms: NOW - pulled_days_ago * DAY_MS,
            built_ms: NOW - built_days_ago * DAY_MS,
            uses: 1,
            blobs: Some(blobs.iter().map(|blob| Digest::of(&[*blob])).collect()),
            records: 4096,
        }
    }

    fn used(uses: u32, image: Candidate) -> Candidate {
        Candidate { uses, ..image }
    }

    fn check(images: &[Candidate], policy: RetentionPolicy, expect: &[Option<RemovalReason>]) {
        // Blob n has n MB.
        let sizes = (0..20).map(|n: u8| (Digest::of(&[n]), u64::from(n) * 1_000_000)).collect();
        assert_eq!(choose(images, &sizes, 0, &policy, NOW), expect);
    }

    fn policy() -> RetentionPolicy {
        RetentionPolicy {
            budget: None,
            unused: Duration::from_secs(60 * 24 * 3600),
            age: None,
            grace: Duration::from_secs(3600),
        }
    }

    #[test]
    fn unused_and_broken_images_go() {
        let broken = Candidate { blobs: None, ..image(2, 2, &[]) };
        let just_made = Candidate { blobs: None, ..image(0, 0, &[]) };
        let images = [image(59, 900, &[1]), image(61, 900, &[1]), image(-400, 900, &[1]), broken, just_made];
        check(
            &images,
            policy(),
            &[None, Some(RemovalReason::Unused), None, Some(RemovalReason::Broken), None],
        );
        let aged = RetentionPolicy { age: Some(Duration::from_secs(100 * 24 * 3600)), ..policy() };
        check(&[image(1, 101, &[]), image(1, 99, &[])], aged, &[Some(RemovalReason::Old), None]);
        // An image that was just pulled stays, whatever its age.
        check(&[image(0, 101, &[])], aged, &[None]);
    }

    #[test]
    fn over_the_budget_the_longest_unused_go_first() {
        let budget = |mb: u64| RetentionPolicy { budget: Some(mb * 1_000_000), ..policy() };
        let gone = Some(RemovalReason::Budget);
        let images = [image(1, 5, &[10, 1]), image(3, 5, &[10, 2]), image(2, 5, &[10, 3])];
        check(&images, budget(21), &[None, None, None]);
        // Blob 10 stays while one image needs it.
        check(&images, budget(19), &[None, gone, None]);
        check(&images, budget(15), &[None, gone, gone]);
        check(&images, budget(12), &[gone, gone, gone]);
        // An image that was pulled within the grace period stays, even if it is too large.
        check(&[image(0, 5, &[19]), image(1, 5, &[18])], budget(1), &[None, gone]);
        // An image that is removed for another reason makes room.
        check(&[image(90, 99, &[15]), image(2, 5, &[5])], budget(10), &[Some(RemovalReason::Unused), None]);
    }

    #[test]
    fn images_used_once_go_before_popular_ones() {
        let budget = |mb: u64| RetentionPolicy { budget: Some(mb * 1_000_000), ..policy() };
        let gone = Some(RemovalReason::Budget);
        // However much later the other images were pulled.
        let flood = [used(2, image(6, 9, &[10])), image(1, 1, &[8]), image(2, 2, &[9])];
        check(&flood, budget(26), &[None, None, gone]);
        check(&flood, budget(14), &[None, gone, gone]);
        // Old uses are worth less.
        let former = [used(4, image(15, 30, &[10])), used(2, image(1, 30, &[9]))];
        check(&former, budget(14), &[gone, None]);
        let former = [used(8, image(15, 30, &[10])), used(2, image(6, 30, &[9]))];
        check(&former, budget(14), &[gone, None]);
        let former = [used(12, image(15, 30, &[10])), used(2, image(6, 30, &[9]))];
        check(&former, budget(14), &[None, gone]);
    }

    #[test]
    fn new_images_do_not_displace_popular_ones() {
        let budget = |mb: u64| RetentionPolicy { budget: Some(mb * 1_000_000), ..policy() };
        let gone = Some(RemovalReason::Budget);
        let young = || image(0, 0, &[15, 16, 17]);
        // There is no room for both the wanted images and the new one, which must stay.
        let images = [young(), used(2, image(2, 9, &[8])), used(3, image(2, 9, &[7]))];
        check(&images, budget(40), &[None, None, None]);
        // What exceeds half of the space is removed, the least wanted first.
        check(&images, budget(30), &[None, gone, None]);
        // The image that was used once makes room for both.
        let images = [young(), image(1, 9, &[8]), used(3, image(2, 9, &[7]))];
        check(&images, budget(40), &[None, gone, None]);
    }
}
