//! The profile of a package set: which store paths are heads, and how likely each is in an image.

use super::{bare_name::bare_name, learning, likelihood::Likelihoods, score::PullCosts};
use crate::{Closure, StorePath, oci::digest::Digest};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Which store paths of a revision have layers of their own, and how likely each is in an image.
///
/// A profile is made from a whole package set, never from one image, so that images share layers. It refers to names
/// (`git-2.43`) instead of store paths, so that the profile of one revision still describes most of the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct RevisionProfile {
    id: String,
    layer_bytes: u64,
    places: BTreeMap<String, Option<ProfileEntry>>,
    /// For each name without version, the names in `places`.
    bare: HashMap<String, Vec<String>>,
}

/// What the profile says about the store paths of one name. Its numbers are integers, so that every machine computes
/// the same results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredEntry", into = "StoredEntry")]
pub(crate) struct ProfileEntry {
    /// The fourth root of the probability that an image has the store path, in units of 1/65,536. It decides the
    /// order of layers. Other powers gave worse results.
    pub(super) weight: u32,
    /// Whether the store path has a layer of its own.
    pub(super) head: bool,
}

type StoredEntry = (u32, bool);

impl ProfileEntry {
    /// The weight of a store path that the profile does not know, because it is new or rarely used.
    pub(super) const UNKNOWN_WEIGHT: u32 = 1 << 12;
    /// The weight that stands for a probability of 1.
    const UNIT: f64 = 65_536.0;

    fn new(in_image: f64, head: bool) -> Self {
        let weight = (in_image.sqrt().sqrt() * Self::UNIT).round() as u32;
        Self { weight: weight.max(1), head }
    }
}

/// The JSON format of a stored profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    id: String,
    layer_bytes: u64,
    places: BTreeMap<String, Option<ProfileEntry>>,
}

/// Why stored data is not a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseProfileError {
    /// Written by another version of Firn.
    #[error("the profile has format {0}, and this is about format {FORMAT}")]
    Format(u32),
    /// The price of a layer is above `MAX_LAYER_BYTES`.
    #[error("a layer cannot cost as much as {0} bytes")]
    Price(u64),
}

/// The format version. Increase it when the content or meaning of a profile changes, so that the keys of layers and
/// images change too.
const FORMAT: u32 = 3;

impl RevisionProfile {
    /// The price of a layer is so many times what the layer costs a client. At the cost alone, all pulls together take
    /// the least time, but the first pull takes longer than with other strategies, which have fewer layers
    /// (`docs/decisions/pulls.md`). With three times the cost all pulls take 4 % longer, and the first pull 9 % less.
    const PRICE_FACTOR: u64 = 3;
    /// The lowest price of a layer, in bytes. A lower price gives more heads than an image may have layers, so many
    /// images take a higher step and the images of one client differ in step. At a price of 1 MB, clients fetch 8 % more
    /// bytes for `images-1`, and longer pulls follow.
    const MIN_LAYER_BYTES: u64 = 2_500_000;
    /// The highest price of a layer, in bytes: ten minutes at 1 GB/s. The limit keeps computations from overflowing.
    pub(crate) const MAX_LAYER_BYTES: u64 = 600_000_000_000;

    /// The profile of a package set. `set` is the closure of all its packages; `costs` is what pulls cost clients. The
    /// result is the same on every machine. Takes seconds for 60,000 store paths.
    pub fn of_package_set(set: &Closure, costs: PullCosts) -> Self {
        let likelihoods = Likelihoods::of(set);
        let layer_bytes = Self::price(costs);
        let heads = learning::heads(set, &likelihoods, layer_bytes as f64);
        let mut places: BTreeMap<String, Option<ProfileEntry>> = BTreeMap::new();
        for ((member, &in_image), head) in set.paths().iter().zip(&likelihoods.in_image).zip(heads) {
            let place = ProfileEntry::new(in_image, head);
            let of_name = places.entry(member.path.name().to_owned()).or_default();
            // Several store paths can have the same name.
            let other = of_name.unwrap_or(place);
            *of_name =
                Some(ProfileEntry { weight: place.weight.max(other.weight), head: place.head || other.head });
        }
        let contents =
            serde_json::to_vec(&(FORMAT, layer_bytes, &places)).expect("names and numbers serialise");
        Self::new(Digest::of(&contents).hex(), layer_bytes, places)
    }

    fn new(id: String, layer_bytes: u64, places: BTreeMap<String, Option<ProfileEntry>>) -> Self {
        let mut bare: HashMap<String, Vec<String>> = HashMap::new();
        for name in places.keys() {
            bare.entry(bare_name(name)).or_default().push(name.clone());
        }
        Self { id, layer_bytes, places, bare }
    }

    /// A profile without any store paths, for clients with these costs.
    pub fn empty(costs: PullCosts) -> Self {
        Self::new(String::new(), Self::price(costs), BTreeMap::new())
    }

    fn price(costs: PullCosts) -> u64 {
        let price = costs.layer_bytes().saturating_mul(Self::PRICE_FACTOR);
        price.clamp(Self::MIN_LAYER_BYTES, Self::MAX_LAYER_BYTES)
    }

    /// A small part of the profile with this id and price. For images of these store paths it gives the same layers as
    /// the whole profile. Each store path comes with its place in the whole profile.
    pub(crate) fn excerpt<'a>(
        id: &str,
        layer_bytes: u64,
        places: impl IntoIterator<Item = (&'a StorePath, Option<ProfileEntry>)>,
    ) -> Self {
        let places = places.into_iter().map(|(path, place)| (path.name().to_owned(), place)).collect();
        Self { id: id.to_owned(), layer_bytes, places, bare: HashMap::new() }
    }

    /// The place of the store path. If its name is not in the profile, as after an update, the place of another version
    /// counts: the version whose name has the longest prefix in common. `None` if several have an equally long one.
    pub(crate) fn place(&self, path: &StorePath) -> Option<ProfileEntry> {
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
            // Choosing one of several would be a guess.
            _ => None,
        }
    }

    /// The price of a layer: the bytes that a layer of its own must spare to be worth it.
    pub fn layer_bytes(&self) -> u64 {
        self.layer_bytes
    }

    /// Identifies the content of the profile; empty for an empty profile.
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

impl From<StoredEntry> for ProfileEntry {
    fn from((weight, head): StoredEntry) -> Self {
        Self { weight, head }
    }
}

impl From<ProfileEntry> for StoredEntry {
    fn from(place: ProfileEntry) -> Self {
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
