//! What a revision of a package set teaches about its store paths.

use super::{bare_name::bare_name, learning, likelihood::Likelihoods, score::PullCosts};
use crate::{Closure, StorePath, oci::digest::Digest};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Which store paths of a revision have layers of their own, and how likely each is in an image.
///
/// It is made from a whole package set, never from an image, and serves all images alike: that makes the
/// layers of one image those of another. It speaks of names (`git-2.43`), not of store paths, so that the
/// profile of one revision still describes most of the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct RevisionProfile {
    id: String,
    layer_bytes: u64,
    places: BTreeMap<String, Option<Place>>,
    /// The names that there are of each name without version.
    bare: HashMap<String, Vec<String>>,
}

/// What is known of the store paths of one name. The numbers are whole, so that every machine computes the
/// same from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredPlace", into = "StoredPlace")]
pub(crate) struct Place {
    /// The fourth root of how likely an image has it, in units of 1/65,536: what comes first is decided by it, and other
    /// powers did worse.
    pub(super) weight: u32,
    /// Whether it has a layer of its own.
    pub(super) head: bool,
}

type StoredPlace = (u32, bool);

impl Place {
    /// The weight of what no profile knows: it is new, or of a package that hardly anybody uses.
    pub(super) const UNKNOWN_WEIGHT: u32 = 1 << 12;
    /// What stands for 1.
    const UNIT: f64 = 65_536.0;

    fn new(in_image: f64, head: bool) -> Self {
        let weight = (in_image.sqrt().sqrt() * Self::UNIT).round() as u32;
        Self { weight: weight.max(1), head }
    }
}

/// The format in which profiles are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    id: String,
    layer_bytes: u64,
    places: BTreeMap<String, Option<Place>>,
}

/// Why some stored data is not a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseProfileError {
    /// Written by another version of Firn.
    #[error("the profile has format {0}, and this is about format {FORMAT}")]
    Format(u32),
    /// No client is like that.
    #[error("a layer cannot cost as much as {0} bytes")]
    Price(u64),
}

/// Changes with what the profile says or means, so that the keys of layers and images do.
const FORMAT: u32 = 3;

impl RevisionProfile {
    /// What a layer counts for at least, in bytes. With less there are more heads than an image may have layers, so that
    /// many images take a higher step, and the steps of one client's images differ: `images-1` then has a content of 1.44
    /// instead of 1.10.
    const MIN_LAYER_BYTES: u64 = 1_000_000;
    /// More than a layer can cost, in bytes: ten minutes at 1 GB/s. So that what is computed from it cannot overflow.
    pub(crate) const MAX_LAYER_BYTES: u64 = 600_000_000_000;

    /// The profile of a package set, given the closure of all its packages together and what pulls cost its clients: a
    /// pure function, the same on every machine. It takes seconds for 60,000 paths.
    pub fn of_package_set(set: &Closure, costs: PullCosts) -> Self {
        let likelihoods = Likelihoods::of(set);
        let layer_bytes = Self::price(costs);
        let heads = learning::heads(set, &likelihoods, layer_bytes as f64);
        let mut places: BTreeMap<String, Option<Place>> = BTreeMap::new();
        for ((member, &in_image), head) in set.paths().iter().zip(&likelihoods.in_image).zip(heads) {
            let place = Place::new(in_image, head);
            let of_name = places.entry(member.path.name().to_owned()).or_default();
            // Several paths can have one name.
            let other = of_name.unwrap_or(place);
            *of_name = Some(Place { weight: place.weight.max(other.weight), head: place.head || other.head });
        }
        let contents =
            serde_json::to_vec(&(FORMAT, layer_bytes, &places)).expect("names and numbers serialise");
        Self::new(Digest::of(&contents).hex(), layer_bytes, places)
    }

    fn new(id: String, layer_bytes: u64, places: BTreeMap<String, Option<Place>>) -> Self {
        let mut bare: HashMap<String, Vec<String>> = HashMap::new();
        for name in places.keys() {
            bare.entry(bare_name(name)).or_default().push(name.clone());
        }
        Self { id, layer_bytes, places, bare }
    }

    /// A profile that says nothing of any path, for clients that pulls cost so much.
    pub fn empty(costs: PullCosts) -> Self {
        Self::new(String::new(), Self::price(costs), BTreeMap::new())
    }

    fn price(costs: PullCosts) -> u64 {
        costs.layer_bytes().clamp(Self::MIN_LAYER_BYTES, Self::MAX_LAYER_BYTES)
    }

    /// What is enough of the profile with this identity and price for images made of these paths, given the
    /// place of each: as good as the whole for them, and small.
    pub(crate) fn excerpt<'a>(
        id: &str,
        layer_bytes: u64,
        places: impl IntoIterator<Item = (&'a StorePath, Option<Place>)>,
    ) -> Self {
        let places = places.into_iter().map(|(path, place)| (path.name().to_owned(), place)).collect();
        Self { id: id.to_owned(), layer_bytes, places, bare: HashMap::new() }
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

    /// What a layer costs, as the bytes that are fetched in the same time.
    pub fn layer_bytes(&self) -> u64 {
        self.layer_bytes
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
        if stored.layer_bytes > Self::MAX_LAYER_BYTES {
            return Err(ParseProfileError::Price(stored.layer_bytes));
        }
        Ok(Self::new(stored.id, stored.layer_bytes, stored.places))
    }
}

impl From<RevisionProfile> for Stored {
    fn from(profile: RevisionProfile) -> Self {
        let RevisionProfile { id, layer_bytes, places, .. } = profile;
        Self { format: FORMAT, id, layer_bytes, places }
    }
}

impl Default for RevisionProfile {
    fn default() -> Self {
        Self::empty(PullCosts::default())
    }
}

impl From<StoredPlace> for Place {
    fn from((weight, head): StoredPlace) -> Self {
        Self { weight, head }
    }
}

impl From<Place> for StoredPlace {
    fn from(place: Place) -> Self {
        (place.weight, place.head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_names_in_other_versions() {
        let json = r#"{"format":3,"id":"x","layer_bytes":5,"places":{"glibc-2.38":[1,true],"git-2.43":[2,true],
            "gcc-12.2":[3,false],"gcc-13.1":[4,false],"gone-1":null}}"#;
        let profile: RevisionProfile = serde_json::from_str(json).expect("parses");
        for (name, expect) in [
            ("glibc-2.38", Some(1)),
            ("glibc-2.39", Some(1)),
            ("git-2.44", Some(2)),
            ("gcc-13.1", Some(4)),
            ("gcc-12.3", Some(3)),
            ("gcc-14.1", None),
            ("gone-1", None),
            ("curl-8", None),
        ] {
            let path = format!("/nix/store/{}-{name}", "0".repeat(32)).parse().expect("a store path");
            assert_eq!(profile.place(&path).map(|place| place.weight), expect, "{name}");
        }
    }

    #[test]
    fn refuses_what_it_cannot_mean() {
        let json = r#"{"format":3,"id":"x","layer_bytes":5,"places":{"a":[9,true]}}"#;
        let profile: RevisionProfile = serde_json::from_str(json).expect("parses");
        assert_eq!(serde_json::to_string(&profile).expect("serialises"), json);
        for (from, to) in [
            (":3,", ":2,"),
            (":5,", ":-5,"),
            (":5,", ":600000000001,"),
            ("places", "place"),
            ("[9,true]", "[-1,true]"),
            ("[9,true]", "[9]"),
        ] {
            let bad = json.replacen(from, to, 1);
            assert_ne!(bad, json);
            assert!(serde_json::from_str::<RevisionProfile>(&bad).is_err(), "{bad}");
        }
    }
}
