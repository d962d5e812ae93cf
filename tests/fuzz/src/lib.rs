//! What every parser of outside input must guarantee for any input.
//!
//! A target takes any bytes and panics if a guarantee is broken. `make fuzz` searches for such bytes with libFuzzer.
//! The corpora are in `corpus/`, with past crashes: libFuzzer starts from them and adds to them, and `make test`
//! replays them.

use firn_shared::{
    StorePath,
    cache_key::CacheKey,
    composition::{self, KnownPackage, PackageSetRecord, RecipeRecord, compose},
    image::{self, layer::LayerEncoding},
    layering::{Sharing, Strategy},
    naming::{
        flake_url,
        image_name::ImageName,
        name_index::{NameIndex, Names},
        package::{Output, Package, PackageRecord, Resolution, Resolutions},
        package_name::PackageName,
        package_source::{PackageSource, Revision, Revisions},
    },
    nix::{
        closure::PathInfo,
        dump_db,
        listing::{FileName, Listing},
        log::BuildLog,
    },
    oci::{
        byte_range::ByteRange,
        digest::{Digest, NarHash},
        document::{ChildKind, Document},
        endpoint::Endpoint,
        media_type::{self, LayerCompression},
        platform::Platform,
        reference::{Reference, Tag},
        repository_name::{MAX_NAME_LEN, RepositoryName},
    },
};
use std::collections::{BTreeMap, HashMap};

// The backend's parsers without the rest of the backend, which is not fuzzed and takes minutes to instrument.
#[path = "../../../backend/src/binary_cache/nar/reader.rs"]
mod nar_reader;
#[path = "../../../backend/src/binary_cache/narinfo.rs"]
mod narinfo;

mod nar;

/// A function that takes bytes and returns whether the parser understood them, rather than rejecting them
/// immediately. If no input of a corpus is understood, the corpus is outdated.
pub type Target = fn(&[u8]) -> bool;

/// All targets, by the names of their corpora.
pub const TARGETS: [(&str, Target); 16] = [
    ("image-name", image_name),
    ("reference", reference),
    ("digest", digest),
    ("endpoint", endpoint),
    ("document", document),
    ("resolutions", resolutions),
    ("names", names),
    ("dump-db", dump_db),
    ("nix-log", nix_log),
    ("file-name", file_name),
    ("listing", listing),
    ("byte-range", byte_range),
    ("composition-package", composition_package),
    ("composition-set", composition_set),
    ("narinfo", narinfo_text),
    ("nar", nar::target),
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

/// An image name prints as the text that it was parsed from, in one canonical form, and matches the grammar.
fn image_name(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let parsed = text.parse::<ImageName>();
    match &parsed {
        Ok(name) => {
            let printed = name.to_string();
            assert_eq!(printed.parse::<ImageName>().as_ref(), Ok(name));
            assert!(printed.len() <= MAX_NAME_LEN && printed.parse::<RepositoryName>().is_ok());
            for want in name.wants() {
                assert!(!want.names.is_empty());
                want.names.iter().for_each(check_package_name);
            }
        }
        Err(error) => assert!(error.to_string().len() < 1000),
    }
    if let Ok(name) = text.parse::<PackageName>() {
        check_package_name(&name);
    }
    parsed.is_ok()
}

fn check_package_name(name: &PackageName) {
    let text = name.as_str();
    assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b)));
    assert!(text.starts_with(|c: char| c.is_ascii_alphanumeric()) && !text.contains(".."));
    assert_eq!(text.parse::<PackageName>().as_ref(), Ok(name));
}

/// A tag is safe in paths and on command lines, and so is what it names in a repository.
fn reference(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let parsed = text.parse::<Reference>();
    match &parsed {
        Ok(Reference::Digest(digest)) => assert_eq!(digest.to_string(), text),
        Ok(Reference::Tag(tag)) => {
            assert_eq!(tag.as_str(), text);
            assert!(!text.starts_with('-') && !text.contains('/') && text.len() <= 128);
            let git =
                PackageSource::Git { url: "https://example.org/pkgs".into(), default: None, flake: None };
            if git.select(tag, Revisions::Any).is_ok() {
                assert!(!text.contains("..") && !text.ends_with(".lock"));
            }
        }
        Err(error) => {
            assert!(text.parse::<Tag>().is_err() && error.to_string().len() < 600);
        }
    }
    // The URL of a flake becomes an argument of git, or a path.
    match flake_url::parse(&text) {
        Ok(PackageSource::Git { url, .. }) => {
            assert!(!url.with_credentials().starts_with('-') && url.public().as_str().contains("://"));
        }
        Ok(PackageSource::Path { path, .. }) => assert!(path.is_absolute()),
        Ok(PackageSource::Channel(_)) => unreachable!("no flake is a channel"),
        Err(error) => assert!(error.to_string().len() < 600),
    }
    parsed.is_ok()
}

/// A digest prints as the text that it was parsed from.
fn digest(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let (digest, path) = (text.parse::<Digest>(), text.parse::<StorePath>());
    if let Ok(digest) = &digest {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(path) = &path {
        assert_eq!(path.as_str(), text);
        assert!(!text.contains("/../") && text.starts_with("/nix/store/"));
    }
    digest.is_ok() || path.is_ok()
}

/// A parsed path can be rebuilt from the result. Other paths are refused as the client's error.
fn endpoint(bytes: &[u8]) -> bool {
    let path = String::from_utf8_lossy(bytes);
    // Some HTTP libraries escape the colon, and some clients the slashes of a name.
    let said = path.replace("%3A", ":").replace("%3a", ":").replace("%2F", "/").replace("%2f", "/");
    let parsed = Endpoint::parse(&path);
    match &parsed {
        Ok(Endpoint::Base) => assert!(matches!(&*path, "/v2" | "/v2/")),
        Ok(Endpoint::Manifest(name, Reference::Tag(tag))) => {
            assert_eq!(said, format!("/v2/{name}/manifests/{tag}"));
        }
        Ok(Endpoint::Manifest(name, Reference::Digest(digest))) => {
            assert_eq!(said, format!("/v2/{name}/manifests/{digest}"));
        }
        Ok(Endpoint::Blob(name, digest)) => assert_eq!(said, format!("/v2/{name}/blobs/{digest}")),
        Ok(Endpoint::Referrers(name, digest)) => assert_eq!(said, format!("/v2/{name}/referrers/{digest}")),
        Ok(Endpoint::Tags(name)) => assert_eq!(said, format!("/v2/{name}/tags/list")),
        Err(error) => {
            assert!((400..406).contains(&error.status()));
            assert!(serde_json::from_slice::<serde_json::Value>(&error.body()).is_ok());
        }
    }
    parsed.is_ok()
}

/// A document that is read is written as one that reads the same, and refers to nothing but digests with sizes.
fn document(bytes: &[u8]) -> bool {
    let parsed = Document::parse(bytes);
    match &parsed {
        Ok(document) => {
            assert_eq!(Document::parse(&document.to_bytes()).as_ref(), Ok(document));
            assert_eq!(media_type::of_document(document.media_type()), Some(document.media_type()));
            for child in document.children() {
                assert!(i64::try_from(child.descriptor.size).is_ok());
                let is_document = media_type::of_document(&child.descriptor.media_type).is_some();
                assert!(is_document || child.kind == ChildKind::Blob);
            }
        }
        Err(error) => assert!(error.to_string().len() < 1000),
    }
    parsed.is_ok()
}

/// Whatever the resolver answers, the client gets a sentence about it, with a limited number of names.
fn resolutions(bytes: &[u8]) -> bool {
    let Ok(resolutions) = serde_json::from_slice::<Resolutions>(bytes) else { return false };
    for (name, resolution) in resolutions.packages {
        check_package_name(&name);
        match resolution {
            Resolution::Ok(package) => drop(package.program().to_owned()),
            Resolution::Problem(problem) => {
                let settled = problem.settle(&name);
                assert!(settled.near.len() <= 3);
                assert!(!settled.explain(&name, firn_shared::naming::package::Words::Shown).is_empty());
            }
        }
    }
    true
}

/// An index suggests only valid names. The first line of the input is the word to search for.
fn names(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let (word, json) = text.split_once('\n').unwrap_or(("", &text));
    let Ok(names) = serde_json::from_str::<Names>(json) else { return false };
    let index = NameIndex::new(&names);
    let found = index.nearest(word, 5);
    assert!(found.len() <= 5);
    found.iter().for_each(|found| check_package_name(&found.name));
    !found.is_empty()
}

/// A dump has the stated number of path infos, each of which is written as it was read.
fn dump_db(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Ok(records) = dump_db::parse(&text) else { return false };
    let lines: usize = records.iter().map(|record| 5 + record.references.len()).sum();
    assert_eq!(lines, text.lines().count());
    !records.is_empty()
}

/// Nix's log may say anything. What is kept of it is limited.
fn nix_log(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let mut log = BuildLog::default();
    for line in text.lines() {
        log.line(line);
        let _ = log.summary();
    }
    assert!(log.builds().all(|(_, lines)| lines.count() <= 100));
    serde_json::to_string(&log).expect("a log serialises");
    log.builds().next().is_some()
}

/// A file name has any bytes except those that lead elsewhere, and survives conversion to text.
fn file_name(bytes: &[u8]) -> bool {
    if let Ok(name) = FileName::new(bytes) {
        assert!(!bytes.contains(&b'/') && !bytes.contains(&0) && bytes != b".." && bytes != b".");
        let text = name.to_string();
        assert!(text.bytes().all(|b| b.is_ascii() && !b.is_ascii_control()));
        assert_eq!(text.parse(), Ok(name));
    }
    if let Ok(name) = String::from_utf8_lossy(bytes).parse::<FileName>() {
        assert!(FileName::new(name.as_bytes()).is_ok());
    }
    FileName::new(bytes).is_ok()
}

/// A listing that was read and written again reads the same.
fn listing(bytes: &[u8]) -> bool {
    let Ok(listing) = serde_json::from_slice::<Listing>(bytes) else { return false };
    let json = serde_json::to_vec(&listing).expect("listings serialise");
    assert_eq!(serde_json::from_slice::<Listing>(&json).expect("and read"), listing);
    true
}

/// A range lies inside the body. The first line of the input is the body's size.
fn byte_range(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let (size, header) = text.split_once('\n').unwrap_or(("10", &text));
    let size = size.parse().unwrap_or(10);
    match ByteRange::parse(Some(header), size) {
        ByteRange::Part { start, end } => assert!(start <= end && end < size),
        ByteRange::Unsatisfiable => {}
        ByteRange::Whole => return false,
    }
    true
}

/// A package's record that was read and written again reads the same. Composing an image from it may fail but not
/// panic. The input is the body: the header contains a digest that random input would never match.
fn composition_package(bytes: &[u8]) -> bool {
    let key = CacheKey::builder("fuzz").build();
    let Ok(known) = KnownPackage::decode(&key, &sealed(&key, bytes)) else { return false };
    let encoded = known.encode(&key).expect("it was read");
    assert_eq!(KnownPackage::decode(&key, &encoded).as_ref(), Ok(&known));
    let set = package_set();
    for name in ["a", "user/a"] {
        let name: ImageName = name.parse().expect("a name");
        if let Ok(image) = compose(&name, &set, |_| Some(&known)) {
            assert!(serde_json::from_slice::<serde_json::Value>(&image.oci.bytes).is_ok());
        }
    }
    true
}

/// The same for the record of a package set.
fn composition_set(bytes: &[u8]) -> bool {
    let key = CacheKey::builder("fuzz").build();
    let Ok(set) = PackageSetRecord::decode(&key, &sealed(&key, bytes)) else { return false };
    assert_eq!(PackageSetRecord::decode(&key, &set.encode(&key)).as_ref(), Ok(&set));
    let known = package();
    let name: ImageName = "a".parse().expect("a name");
    // The package's layers were never packed, but computing their keys needs the recipe.
    assert!(compose(&name, &set, |_| Some(&known)).is_err());
    true
}

/// A narinfo contains store paths and a hash, whatever else is in it.
fn narinfo_text(bytes: &[u8]) -> bool {
    let Ok(narinfo) = narinfo::Narinfo::parse(bytes) else { return false };
    assert!(!narinfo.location().contains("..") || narinfo.location().contains(['?', '#']));
    assert!(bytes.len() <= narinfo::MAX_SIZE && !narinfo.compression().contains('\n'));
    let kept = narinfo::Narinfo::parse(narinfo.kept(None).as_bytes());
    assert_eq!(kept.expect("what is kept of a narinfo is one").info, narinfo.info);
    assert!(narinfo.file_size().is_none() || String::from_utf8_lossy(bytes).contains("FileSize:"));
    assert!(narinfo.authenticity(&[]).is_none() || String::from_utf8_lossy(bytes).contains("CA:"));
    let info = narinfo.info;
    for path in info.references.iter().chain([&info.path]) {
        assert_eq!(path.as_str().parse::<StorePath>().as_ref(), Ok(path));
    }
    assert_eq!(info.nar_hash.to_string().parse::<NarHash>().as_ref(), Ok(&info.nar_hash));
    true
}

/// A record with this body.
fn sealed(key: &CacheKey, body: &[u8]) -> Vec<u8> {
    let versions = [composition::VERSION.to_le_bytes(), image::FORMAT.to_le_bytes()].concat();
    let prologue = [b"firn", &versions[..]].concat();
    let digest = Digest::of(&[&prologue, &key.as_bytes()[..], body].concat());
    [&prologue, &digest.as_bytes()[..], body].concat()
}

/// A package set without a profile.
fn package_set() -> PackageSetRecord {
    let strategy = Sharing::default();
    let recipe = RecipeRecord {
        platform: Platform::Amd64,
        layer_budget: 3,
        closure_bytes: 1 << 40,
        encoding: LayerEncoding { compression: LayerCompression::Gzip, identity: "fuzz".into() },
        strategy: strategy.version(),
    };
    let revision = Revision::Path { content: "00".into() };
    PackageSetRecord::new(revision, None, recipe, strategy.profile())
}

/// A package whose layers were never packed.
fn package() -> KnownPackage {
    let path = |name: char| -> StorePath {
        format!("/nix/store/{}-{name}", name.to_string().repeat(32)).parse().expect("a store path")
    };
    let info = |name, references| PathInfo {
        path: path(name),
        nar_hash: NarHash::of(b""),
        nar_size: 1 << 20,
        references,
    };
    let record = PackageRecord {
        package: Package {
            attribute: "a".into(),
            drv: path('d'),
            outputs: vec![Output { name: "out".into(), path: path('a') }],
            name: "a-1".into(),
            pname: None,
            version: None,
            license: Vec::new(),
            main_program: None,
            description: None,
            homepage: None,
        },
        closure: vec![info('b', vec![]), info('c', vec![path('b')]), info('a', vec![path('c')])],
        listing: Listing::default(),
        sh: None,
        env: None,
        zoneinfo: None,
        decided: BTreeMap::new(),
    };
    let strategy = Sharing::default();
    KnownPackage::new(record, strategy.profile(), HashMap::new(), false)
}
