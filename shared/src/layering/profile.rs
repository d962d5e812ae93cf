//! What a revision of a package set teaches about its store paths.

use super::{
    cotravel,
    imagined::{Imagined, PackageSet, power},
    plan::{self, Plan},
};
use crate::{Closure, StorePath, digest::Digest};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Which store paths of a revision share a layer, how likely each is in an image, and which come first.
///
/// It is made from a whole package set, never from an image, and serves all images alike: that makes the
/// layers of one image those of another. It speaks of names (`git-2.43`), not of store paths, so that the
/// profile of one revision still describes most of the next.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct RevisionProfile {
    id: String,
    places: BTreeMap<String, Option<Place>>,
    /// The names that there are of each name without version.
    bare: HashMap<String, Vec<String>>,
    plan: Arc<Plan>,
}

/// What is known of the store paths of one name. The numbers are whole, so that every machine computes the
/// same from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredPlace", into = "StoredPlace")]
pub(crate) struct Place {
    /// The number of the group that it shares a layer with.
    pub(super) group: u32,
    /// √(p/(1−p)) in units of [`Place::UNIT`], where p is how likely an image has it.
    pub(super) odds: u32,
    /// How likely another image of the same client has it, in units of [`Place::UNIT`].
    pub(super) reuse: u32,
    /// The path's number if it is an anchor of the plan.
    pub(super) anchor: Option<u32>,
}

type StoredPlace = (u32, u32, u32, Option<u32>);

impl Place {
    /// What stands for 1.
    pub(super) const UNIT: u32 = 1 << 16;

    fn new(group: u32, probability: f64, anchor: Option<u32>) -> Self {
        let p = probability.min(CERTAIN);
        let units = |share: f64| (share * f64::from(Self::UNIT)).round() as u32;
        let reuse = 1.0 - power(1.0 - p, OTHER_IMAGES);
        Self { group, odds: units((p / (1.0 - p)).sqrt()).max(1), reuse: units(reuse).max(1), anchor }
    }
}

/// The format in which profiles are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    id: String,
    places: BTreeMap<String, Option<Place>>,
    plan: Plan,
}

/// Why some stored data is not a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseProfileError {
    /// Written by another version of Firn.
    #[error("the profile has format {0}, and this is about format {FORMAT}")]
    Format(u32),
    /// The plan would send an image in circles, or nowhere.
    #[error("the profile's plan leads to a node that is not further on")]
    Plan,
}

/// Changes with what the profile says or means, so that the keys of layers and images do.
const FORMAT: u32 = 2;
/// Images drawn to find out what travels together. Twice as many changed no score by more than 0.004.
const IMAGES_FOR_GROUPS: usize = 8_192;
/// Images drawn to plan the order. With half as many it depends on the draw: scores differ by up to 0.15.
const IMAGES_FOR_PLAN: usize = 24_000;
/// Of so many other images one may have the same path, which makes it worth a layer of its own.
const OTHER_IMAGES: u64 = 1_000;
/// Nothing is in every image for certain.
const CERTAIN: f64 = 0.9999;

impl RevisionProfile {
    /// The profile of a package set, given the closure of all its packages together: a pure function, the same
    /// on every machine. It takes seconds for 60,000 paths.
    pub fn of_package_set(set: &Closure) -> Self {
        let set = PackageSet::new(set);
        let imagined = Imagined::new(&set, IMAGES_FOR_PLAN);
        let probabilities = imagined.probabilities();
        let (plan, anchors) = plan::plan(&imagined);
        let images = &imagined.images[..IMAGES_FOR_GROUPS.min(imagined.images.len())];
        let stages = plan::stages(&plan, &anchors, &set, images);
        let mut groups = cotravel::clusters(&set, images.len(), &stages);
        let mut alone = vec![true; probabilities.len()];
        groups.iter().flatten().for_each(|&i| alone[i] = false);
        groups.extend((0..alone.len()).filter(|&i| alone[i]).map(|i| vec![i]));

        let numbers: HashMap<usize, u32> = anchors.into_iter().zip(0..).collect();
        let mut places = BTreeMap::new();
        for (group, members) in (0..).zip(groups) {
            for i in members {
                let place = Place::new(group, probabilities[i], numbers.get(&i).copied());
                places.entry(set.name(i).to_owned()).or_insert(Some(place));
            }
        }
        let contents = serde_json::to_vec(&(FORMAT, &places, &plan)).expect("names and numbers serialise");
        Self::new(Digest::of(&contents).hex(), places, plan)
    }

    fn new(id: String, places: BTreeMap<String, Option<Place>>, plan: Plan) -> Self {
        let mut bare: HashMap<String, Vec<String>> = HashMap::new();
        for name in places.keys() {
            bare.entry(bare_name(name)).or_default().push(name.clone());
        }
        Self { id, places, bare, plan: Arc::new(plan) }
    }

    /// What is enough of the profile with this identity and plan for images made of these paths, given the
    /// place of each: as good as the whole for them, and small.
    pub(crate) fn excerpt<'a>(
        id: &str,
        plan: Arc<Plan>,
        places: impl IntoIterator<Item = (&'a StorePath, Option<Place>)>,
    ) -> Self {
        let places = places.into_iter().map(|(path, place)| (path.name().to_owned(), place)).collect();
        Self { id: id.to_owned(), places, bare: HashMap::new(), plan }
    }

    /// What is known of the path. After an update that is what was known of another version: of the only one, or
    /// of the one whose name agrees furthest.
    pub(crate) fn place(&self, path: &StorePath) -> Option<Place> {
        let name = path.name();
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let agreement = |other: &str| name.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
        let others = self.bare.get(&bare_name(name))?;
        let most = others.iter().map(|other| agreement(other)).max()?;
        let mut nearest = others.iter().filter(|other| agreement(other) == most);
        match (nearest.next(), nearest.next()) {
            (Some(other), None) => self.places.get(other).copied().flatten(),
            // Anything would be a guess.
            _ => None,
        }
    }

    pub(crate) fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Identifies what the profile says; empty when it says nothing.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl TryFrom<Stored> for RevisionProfile {
    type Error = ParseProfileError;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        if stored.format != FORMAT {
            return Err(ParseProfileError::Format(stored.format));
        }
        if !stored.plan.is_sound() {
            return Err(ParseProfileError::Plan);
        }
        Ok(Self::new(stored.id, stored.places, stored.plan))
    }
}

impl From<RevisionProfile> for Stored {
    fn from(profile: RevisionProfile) -> Self {
        Self {
            format: FORMAT,
            id: profile.id,
            places: profile.places,
            plan: Arc::unwrap_or_clone(profile.plan),
        }
    }
}

impl From<StoredPlace> for Place {
    fn from((group, odds, reuse, anchor): StoredPlace) -> Self {
        Self { group, odds, reuse, anchor }
    }
}

impl From<Place> for StoredPlace {
    fn from(place: Place) -> Self {
        (place.group, place.odds, place.reuse, place.anchor)
    }
}

/// The name without its version: what stands between a dash before a digit and the next dash is the version,
/// what follows is an output (`openssl-3.0.9-bin` is `openssl-bin`).
pub(super) fn bare_name(name: &str) -> String {
    let is_version = |part: &&str| part.starts_with(|c: char| c.is_ascii_digit());
    let mut parts = name.split('-');
    let first = parts.next().unwrap_or_default();
    std::iter::once(first).chain(parts.filter(|part| !is_version(part))).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_names() {
        for (name, expect) in [
            ("git-2.39.5", "git"),
            ("openssl-3.0.9-bin", "openssl-bin"),
            ("python3.11-requests-2.28.1", "python3.11-requests"),
            ("libstdc++6", "libstdc++6"),
            ("7zip-23.01", "7zip"),
            ("-1-", "-"),
            ("", ""),
        ] {
            assert_eq!(bare_name(name), expect, "{name}");
        }
    }

    #[test]
    fn finds_names_in_other_versions() {
        let json = r#"{"format":2,"id":"x","plan":[],"places":{"glibc-2.38":[0,9,9,null],"git-2.43":[1,8,8,0],
            "gcc-12.2":[2,7,7,null],"gcc-13.1":[3,6,6,null],"gone-1":null}}"#;
        let profile: RevisionProfile = serde_json::from_str(json).expect("parses");
        for (name, expect) in [
            ("glibc-2.38", Some(0)),
            ("glibc-2.39", Some(0)),
            ("git-2.44", Some(1)),
            ("gcc-13.1", Some(3)),
            ("gcc-12.3", Some(2)),
            ("gcc-14.1", None),
            ("gone-1", None),
            ("curl-8", None),
        ] {
            let path = format!("/nix/store/{}-{name}", "0".repeat(32)).parse().expect("a store path");
            assert_eq!(profile.place(&path).map(|place| place.group), expect, "{name}");
        }
    }

    #[test]
    fn refuses_what_it_cannot_mean() {
        let json = r#"{"format":2,"id":"x","places":{"a":[0,9,8,0]},"plan":[[[0,1]],[[1,null]]]}"#;
        let profile: RevisionProfile = serde_json::from_str(json).expect("parses");
        assert_eq!(serde_json::to_string(&profile).expect("serialises"), json);
        for (from, to) in [
            (":2,", ":1,"),
            ("[0,1]", "[0,0]"),
            ("[0,1]", "[0,2]"),
            ("[1,null]", "[1,1]"),
            ("places", "place"),
            ("[0,9,8,0]", "[-1,9,8,0]"),
        ] {
            let bad = json.replacen(from, to, 1);
            assert_ne!(bad, json);
            assert!(serde_json::from_str::<RevisionProfile>(&bad).is_err(), "{bad}");
        }
    }
}
