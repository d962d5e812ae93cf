//! The records, and their binary format.
//!
//! A record has these parts, in this order:
//!
//! - the bytes `firn`;
//! - [`VERSION`] and the image format, 4 bytes each, little-endian;
//! - a SHA-256 over the parts above, the record's key and the body, 32 bytes;
//! - the body, in `postcard`'s format: a number takes as many bytes as it needs, a digest takes 32.
//!
//! A body has each store path once and refers to it by index. It is not compressed because it consists mostly of
//! hashes.
//!
//! Decoding checks all invariants of the resulting types, so that images can be composed from every decoded record.

use super::VERSION;
use crate::{
    StorePath,
    cache_key::CacheKey,
    image::{
        self,
        layer::{LayerEncoding, LayerRecord},
    },
    layering::{ProfileEntry, RevisionProfile},
    naming::{
        package::{Package, PackageRecord},
        package_source::Revision,
    },
    nix::{
        closure::PathInfo,
        listing::{Directory, FileName, Listing, Node, Root, Target},
        store_path::STORE_DIR,
    },
    oci::{
        digest::{DiffId, Digest, NarHash},
        media_type::LayerCompression,
        platform::Platform,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, HashMap};

/// What all images of an image set have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageSetRecord {
    /// The revision of the package set.
    pub revision: Revision,
    /// When the revision was committed, in seconds since 1970, if known.
    pub revision_date: Option<i64>,
    /// How images are made from the package set.
    pub recipe: RecipeRecord,
    /// The id of the package set's profile.
    pub profile: String,
    /// The profile's price of a layer, in bytes. The rest of the profile is in the records of packages.
    pub(super) layer_bytes: u64,
}

/// A backend's settings for making images. They do not depend on the packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipeRecord {
    /// The platform of images whose name has none.
    pub platform: Platform,
    /// The greatest number of layers of an image, without the symlink layer.
    pub layer_budget: usize,
    /// The largest closure that an image may have, in bytes of NAR.
    pub closure_bytes: u64,
    /// The encoding of layers.
    pub encoding: LayerEncoding,
    /// The layering strategy's version, which includes its data.
    pub strategy: String,
}

/// The record of a package name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownPackage {
    /// There is no such package in this revision. Images that only imply the name are made without it.
    Absent,
    /// Everything that an image needs to know about the package.
    Described(Box<Described>),
}

/// Everything that an image needs to know about a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub(super) record: PackageRecord,
    /// The places of the closure's members in the profile, in the order of the members.
    places: Vec<Option<ProfileEntry>>,
    pub(super) layers: HashMap<CacheKey, LayerRecord>,
    complete: bool,
}

/// The record of a package is incomplete: a store path of its closure is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not in the closure of the package that refers to it")]
pub struct Undescribable(StorePath);

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadRecordError {
    /// The bytes are not a record, or a record of another version of Firn.
    #[error("it is not a record of this version of Firn")]
    Version,
    /// The bytes are not those that were written under this key.
    #[error("its checksum is wrong")]
    Digest,
    /// The record is invalid although its checksum is right.
    #[error("it is invalid: {0}")]
    Malformed(&'static str),
}

const MAGIC: &[u8; 4] = b"firn";
/// The size of the parts before the body, in bytes.
const HEADER: usize = MAGIC.len() + 2 * size_of::<u32>() + size_of::<Digest>();
/// The largest store path, in bytes of NAR. The limit keeps sums from overflowing.
const MAX_NAR: u64 = 1 << 44;

impl PackageSetRecord {
    /// The record for images whose layers are made with this profile.
    pub fn new(
        revision: Revision,
        revision_date: Option<i64>,
        recipe: RecipeRecord,
        profile: &RevisionProfile,
    ) -> Self {
        let (profile, layer_bytes) = (profile.id().to_owned(), profile.layer_bytes());
        Self { revision, revision_date, recipe, profile, layer_bytes }
    }

    /// The bytes to store under this key.
    pub fn encode(&self, key: &CacheKey) -> Vec<u8> {
        let revision = match &self.revision {
            Revision::Git { url, rev } => WireRevision::Git(url.as_str().to_owned(), rev.as_str().to_owned()),
            Revision::Flake { url, dir, rev } => {
                let [url, dir, rev] = [url.as_str(), dir.as_str(), rev.as_str()].map(str::to_owned);
                WireRevision::Flake { url, dir, rev }
            }
            Revision::Path { content } => WireRevision::Path(content.clone()),
        };
        seal(
            key,
            &WireSet {
                revision,
                revision_date: self.revision_date,
                recipe: self.recipe.clone(),
                profile: self.profile.clone(),
                layer_bytes: self.layer_bytes,
            },
        )
    }

    /// Reads what is stored under this key.
    ///
    /// # Errors
    /// When it is not a record of this version that was written under this key.
    pub fn decode(key: &CacheKey, bytes: &[u8]) -> Result<Self, ReadRecordError> {
        let wire: WireSet = owned(open(key, bytes)?)?;
        if wire.layer_bytes > RevisionProfile::MAX_LAYER_BYTES {
            return Err(ReadRecordError::Malformed("the price of a layer is too high"));
        }
        let malformed = |_| ReadRecordError::Malformed("the commit is malformed");
        let revision = match wire.revision {
            WireRevision::Git(url, rev) => {
                Revision::Git { url: url.as_str().into(), rev: rev.parse().map_err(malformed)? }
            }
            WireRevision::Flake { url, dir, rev } => Revision::Flake {
                url: url.as_str().into(),
                dir: dir.parse().map_err(|_| ReadRecordError::Malformed("the directory is malformed"))?,
                rev: rev.parse().map_err(malformed)?,
            },
            WireRevision::Path(content) => Revision::Path { content },
        };
        Ok(Self {
            revision,
            revision_date: wire.revision_date,
            recipe: wire.recipe,
            profile: wire.profile,
            layer_bytes: wire.layer_bytes,
        })
    }
}

impl KnownPackage {
    /// The record of a package. `layers` are the layers that it brings into images, by key, as far as they are packed.
    /// `complete` says whether all layers of the first step that fits the package are packed.
    pub fn new(
        record: PackageRecord,
        profile: &RevisionProfile,
        layers: HashMap<CacheKey, LayerRecord>,
        complete: bool,
    ) -> Self {
        let places = record.closure.iter().map(|member| profile.place(&member.path)).collect();
        Self::Described(Box::new(Described { record, places, layers, complete }))
    }

    /// Whether the record is complete, so that it need not be fetched again.
    pub fn is_complete(&self) -> bool {
        self.described().is_none_or(|described| described.complete)
    }

    /// The layers that the record guarantees to exist, by key.
    pub fn layers(&self) -> impl Iterator<Item = (&CacheKey, &LayerRecord)> {
        self.described().into_iter().flat_map(|described| &described.layers)
    }

    /// Whether the record has the layer with this key.
    pub fn has_layer(&self, key: &CacheKey) -> bool {
        self.described().is_some_and(|described| described.layers.contains_key(key))
    }

    /// Adds a layer that the package does not, or no longer, bring into images. It is then guaranteed to exist, too.
    pub fn add_layer(&mut self, key: CacheKey, layer: LayerRecord) {
        if let Self::Described(described) = self {
            described.layers.insert(key, layer);
        }
    }

    pub(super) fn described(&self) -> Option<&Described> {
        match self {
            Self::Absent => None,
            Self::Described(described) => Some(described),
        }
    }

    /// The bytes to store under this key.
    ///
    /// # Errors
    /// If the closure lacks a store path to which the record refers.
    pub fn encode(&self, key: &CacheKey) -> Result<Vec<u8>, Undescribable> {
        let wire = self.described().map(WirePackage::new).transpose()?;
        Ok(seal(key, &wire))
    }

    /// Reads what is stored under this key.
    ///
    /// # Errors
    /// When it is not a record of this version that was written under this key.
    pub fn decode(key: &CacheKey, bytes: &[u8]) -> Result<Self, ReadRecordError> {
        let body = open(key, bytes)?;
        let (wire, rest): (Option<WirePackage<'_>>, _) =
            postcard::take_from_bytes(body).map_err(|_| ReadRecordError::Malformed("encoding"))?;
        if !rest.is_empty() {
            return Err(ReadRecordError::Malformed("length"));
        }
        match wire {
            None => Ok(Self::Absent),
            Some(wire) => Ok(Self::Described(Box::new(wire.read().map_err(ReadRecordError::Malformed)?))),
        }
    }
}

impl Described {
    pub(super) fn places(&self) -> impl Iterator<Item = (&StorePath, Option<ProfileEntry>)> {
        self.record.closure.iter().map(|member| &member.path).zip(self.places.iter().copied())
    }
}

#[derive(Serialize, Deserialize)]
enum WireRevision {
    Git(String, String),
    Path(String),
    // Last, because records hold the variants' numbers. An edge that does not know it asks the backend.
    Flake { url: String, dir: String, rev: String },
}

#[derive(Serialize, Deserialize)]
struct WireSet {
    revision: WireRevision,
    revision_date: Option<i64>,
    recipe: RecipeRecord,
    profile: String,
    layer_bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct WirePackage<'a> {
    package: Package,
    #[serde(borrow)]
    closure: Vec<WirePath<'a>>,
    #[serde(borrow)]
    listing: WireListing<'a>,
    sh: Option<u32>,
    env: Option<u32>,
    zoneinfo: Option<u32>,
    /// Pairs of an index into the closure and the value of [`PackageRecord::decided`].
    decided: Vec<(u32, u32)>,
    #[serde(borrow)]
    layers: Vec<WireLayer<'a>>,
    complete: bool,
}

#[derive(Serialize, Deserialize)]
struct WirePath<'a> {
    base_name: &'a str,
    nar_hash: &'a [u8],
    nar_size: u64,
    /// Indices into the closure.
    references: Vec<u32>,
    place: Option<ProfileEntry>,
}

/// A listing. Store paths are indices into the closure.
#[derive(Serialize, Deserialize)]
struct WireListing<'a> {
    #[serde(borrow)]
    directories: Vec<Vec<(&'a [u8], Node)>>,
    #[serde(borrow)]
    targets: Vec<WireTarget<'a>>,
    roots: Vec<WireRoot>,
}

#[derive(Serialize, Deserialize)]
struct WireTarget<'a> {
    directory: u32,
    path: u32,
    #[serde(borrow)]
    below: Vec<&'a [u8]>,
}

#[derive(Serialize, Deserialize)]
struct WireRoot {
    path: u32,
    node: Node,
    propagated: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
struct WireLayer<'a> {
    key: &'a [u8],
    digest: &'a [u8],
    diff_id: &'a [u8],
    size: u64,
    uncompressed: u64,
    zstd: bool,
}

impl<'a> WirePackage<'a> {
    fn new(described: &'a Described) -> Result<Self, Undescribable> {
        let record = &described.record;
        let index: BTreeMap<&StorePath, u32> =
            record.closure.iter().map(|member| &member.path).zip(0..).collect();
        let position = |path: &StorePath| index.get(path).copied().ok_or_else(|| Undescribable(path.clone()));
        let closure = record.closure.iter().zip(&described.places).map(|(member, place)| {
            Ok(WirePath {
                base_name: member.path.base_name(),
                nar_hash: member.nar_hash.as_bytes(),
                nar_size: member.nar_size,
                references: member.references.iter().map(position).collect::<Result<_, _>>()?,
                place: *place,
            })
        });
        let closure = closure.collect::<Result<_, _>>()?;
        for output in &record.package.outputs {
            position(&output.path)?;
        }
        let mut layers: Vec<_> = described.layers.iter().collect();
        layers.sort_unstable_by_key(|(key, _)| **key);
        let layers = layers.into_iter().map(|(key, layer)| WireLayer {
            key: key.as_bytes(),
            digest: layer.digest.as_bytes(),
            diff_id: layer.diff_id.as_bytes(),
            size: layer.size,
            uncompressed: layer.uncompressed,
            zstd: layer.compression == LayerCompression::Zstd,
        });
        Ok(Self {
            package: record.package.clone(),
            closure,
            listing: WireListing::new(&record.listing, position)?,
            sh: record.sh.as_ref().map(position).transpose()?,
            env: record.env.as_ref().map(position).transpose()?,
            zoneinfo: record.zoneinfo.as_ref().map(position).transpose()?,
            decided: record
                .decided
                .iter()
                .map(|(path, decided)| Ok((position(path)?, *decided)))
                .collect::<Result<_, _>>()?,
            layers: layers.collect(),
            complete: described.complete,
        })
    }

    /// Converts and checks the record. The error says what is invalid.
    fn read(self) -> Result<Described, &'static str> {
        let mut text = format!("{STORE_DIR}/");
        let mut paths = Vec::with_capacity(self.closure.len());
        for member in &self.closure {
            text.truncate(STORE_DIR.len() + 1);
            text.push_str(member.base_name);
            paths.push(text.parse::<StorePath>().map_err(|_| "a store path is malformed")?);
        }
        let path = |index: u32| paths.get(index as usize).cloned().ok_or("a reference is out of range");
        let mut closure = Vec::with_capacity(paths.len());
        let mut places = Vec::with_capacity(paths.len());
        for (member, own) in self.closure.into_iter().zip(&paths) {
            if member.nar_size > MAX_NAR {
                return Err("a store path is too large");
            }
            places.push(member.place);
            closure.push(PathInfo {
                path: own.clone(),
                nar_hash: NarHash::from_bytes(array(member.nar_hash)?),
                nar_size: member.nar_size,
                references: member.references.into_iter().map(path).collect::<Result<_, _>>()?,
            });
        }
        let outputs = &self.package.outputs;
        if outputs.iter().any(|output| !paths.contains(&output.path)) {
            return Err("an output is not in the closure");
        }
        let layers = self.layers.into_iter().map(|layer| {
            let record = LayerRecord {
                digest: Digest::from_bytes(array(layer.digest)?),
                diff_id: DiffId::from_bytes(array(layer.diff_id)?),
                size: layer.size,
                uncompressed: layer.uncompressed,
                compression: if layer.zstd { LayerCompression::Zstd } else { LayerCompression::Gzip },
            };
            Ok((CacheKey::from_bytes(array(layer.key)?), record))
        });
        Ok(Described {
            layers: layers.collect::<Result<_, &'static str>>()?,
            places,
            complete: self.complete,
            record: PackageRecord {
                listing: self.listing.read(path)?,
                sh: self.sh.map(path).transpose()?,
                env: self.env.map(path).transpose()?,
                zoneinfo: self.zoneinfo.map(path).transpose()?,
                decided: self
                    .decided
                    .into_iter()
                    .map(|(index, decided)| Ok((path(index)?, decided)))
                    .collect::<Result<_, &'static str>>()?,
                package: self.package,
                closure,
            },
        })
    }
}

impl<'a> WireListing<'a> {
    fn new(
        listing: &'a Listing,
        position: impl Fn(&StorePath) -> Result<u32, Undescribable>,
    ) -> Result<Self, Undescribable> {
        let entries = |directory: &'a Directory| {
            directory.iter().map(|(name, node)| (name.as_bytes(), *node)).collect::<Vec<_>>()
        };
        let targets = listing.targets().iter().map(|Target { directory, path, below }| {
            let below = below.iter().map(FileName::as_bytes).collect();
            Ok(WireTarget { directory: *directory, path: position(path)?, below })
        });
        let roots = listing.roots().iter().map(|Root { path, node, propagated }| {
            let propagated = propagated.iter().map(&position).collect::<Result<_, _>>()?;
            Ok(WireRoot { path: position(path)?, node: *node, propagated })
        });
        Ok(Self {
            directories: listing.directories().iter().map(entries).collect(),
            targets: targets.collect::<Result<_, _>>()?,
            roots: roots.collect::<Result<_, _>>()?,
        })
    }

    fn read(self, path: impl Fn(u32) -> Result<StorePath, &'static str>) -> Result<Listing, &'static str> {
        let name = |bytes: &[u8]| FileName::new(bytes).map_err(|_| "a file name is malformed");
        let mut directories = Vec::with_capacity(self.directories.len());
        for entries in self.directories {
            let mut directory = Directory::new();
            for (bytes, node) in entries {
                if directory.insert(name(bytes)?, node).is_some() {
                    return Err("a directory has two files of the same name");
                }
            }
            directories.push(directory);
        }
        let targets = self.targets.into_iter().map(|target| {
            let below = target.below.into_iter().map(name).collect::<Result<_, _>>()?;
            Ok(Target { directory: target.directory, path: path(target.path)?, below })
        });
        let roots = self.roots.into_iter().map(|root| {
            let propagated = root.propagated.into_iter().map(&path).collect::<Result<_, _>>()?;
            Ok(Root { path: path(root.path)?, node: root.node, propagated })
        });
        let targets = targets.collect::<Result<_, &'static str>>()?;
        let roots = roots.collect::<Result<_, &'static str>>()?;
        Listing::new(directories, targets, roots).map_err(|_| "an index in a listing is out of range")
    }
}

fn array(bytes: &[u8]) -> Result<[u8; 32], &'static str> {
    bytes.try_into().map_err(|_| "a digest is not 32 bytes long")
}

fn owned<T: DeserializeOwned>(body: &[u8]) -> Result<T, ReadRecordError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(ReadRecordError::Malformed("length")),
        Err(_) => Err(ReadRecordError::Malformed("encoding")),
    }
}

/// The magic bytes and the versions.
fn prologue() -> [u8; HEADER - 32] {
    let mut bytes = [0; HEADER - 32];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
    bytes[8..].copy_from_slice(&image::FORMAT.to_le_bytes());
    bytes
}

fn checksum(key: &CacheKey, body: &[u8]) -> Digest {
    use sha2::Digest as _;
    let hasher = sha2::Sha256::new().chain_update(prologue()).chain_update(key.as_bytes());
    Digest::from_hasher(hasher.chain_update(body))
}

fn seal(key: &CacheKey, value: &impl Serialize) -> Vec<u8> {
    let body = postcard::to_allocvec(value).expect("plain data serialises into memory");
    [&prologue()[..], checksum(key, &body).as_bytes(), &body].concat()
}

fn open<'a>(key: &CacheKey, bytes: &'a [u8]) -> Result<&'a [u8], ReadRecordError> {
    let (header, body) = bytes.split_at_checked(HEADER).ok_or(ReadRecordError::Version)?;
    let (versions, digest) = header.split_at(HEADER - 32);
    if versions != prologue() {
        return Err(ReadRecordError::Version);
    }
    if digest != checksum(key, body).as_bytes() {
        return Err(ReadRecordError::Digest);
    }
    Ok(body)
}
