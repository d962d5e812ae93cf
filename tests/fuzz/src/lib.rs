//! What must hold of every parser of outside input, whatever the input.
//!
//! A target takes any bytes and panics where a promise is broken. `make fuzz` looks for such bytes with
//! libFuzzer; the corpora that it starts from and adds to, with past crashes, are in `corpus/` and replayed by
//! `make test`.

use firn_shared::{
    StorePath,
    byte_range::ByteRange,
    digest::Digest,
    dump_db,
    endpoint::{Endpoint, RepositoryName},
    image_name::{ImageName, MAX_NAME_LEN},
    listing::{FileName, Listing},
    name_index::{NameIndex, Names},
    nix_log::BuildLog,
    package::{Resolution, Resolutions},
    package_name::PackageName,
    package_source::{PackageSource, Revisions},
    reference::{Reference, Tag},
};

/// Something that is fed bytes.
pub type Target = fn(&[u8]);

/// All targets, by the names of their corpora.
pub const TARGETS: [(&str, Target); 11] = [
    ("image-name", image_name),
    ("reference", reference),
    ("digest", digest),
    ("endpoint", endpoint),
    ("resolutions", resolutions),
    ("names", names),
    ("dump-db", dump_db),
    ("nix-log", nix_log),
    ("file-name", file_name),
    ("listing", listing),
    ("byte-range", byte_range),
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

/// Image names print as what they were read from, in one way only, and hold nothing but the grammar.
fn image_name(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match text.parse::<ImageName>() {
        Ok(name) => {
            let printed = name.to_string();
            assert_eq!(printed.parse::<ImageName>().as_ref(), Ok(&name));
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
}

fn check_package_name(name: &PackageName) {
    let text = name.as_str();
    assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b)));
    assert!(text.starts_with(|c: char| c.is_ascii_alphanumeric()) && !text.contains(".."));
    assert_eq!(text.parse::<PackageName>().as_ref(), Ok(name));
}

/// Tags are harmless in paths and on command lines, and what they name in a repository is too.
fn reference(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match text.parse::<Reference>() {
        Ok(Reference::Digest(digest)) => assert_eq!(digest.to_string(), text),
        Ok(Reference::Tag(tag)) => {
            assert_eq!(tag.as_str(), text);
            assert!(!text.starts_with('-') && !text.contains('/') && text.len() <= 128);
            let git = PackageSource::Git { url: "https://example.org/pkgs".into(), default: None };
            if git.select(&tag, Revisions::Any).is_ok() {
                assert!(!text.contains("..") && !text.ends_with(".lock"));
            }
        }
        Err(error) => {
            assert!(text.parse::<Tag>().is_err() && error.to_string().len() < 600);
        }
    }
}

/// A digest is its own text.
fn digest(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(path) = text.parse::<StorePath>() {
        assert_eq!(path.as_str(), text);
        assert!(!text.contains("/../") && text.starts_with("/nix/store/"));
    }
}

/// A path that is understood is the path of what was understood; others are refused as the client's fault.
fn endpoint(bytes: &[u8]) {
    let path = String::from_utf8_lossy(bytes);
    let said = path.replace("%3A", ":").replace("%3a", ":");
    match Endpoint::parse(&path) {
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
}

/// Whatever the resolver says, people get a sentence about it, and no more names than a sentence bears.
fn resolutions(bytes: &[u8]) {
    let Ok(resolutions) = serde_json::from_slice::<Resolutions>(bytes) else { return };
    for (name, resolution) in resolutions.packages {
        check_package_name(&name);
        match resolution {
            Resolution::Ok(package) => drop(package.program().to_owned()),
            Resolution::Problem(problem) => {
                let settled = problem.settle(&name);
                assert!(settled.near.len() <= 3);
                assert!(!settled.explain(&name).is_empty());
            }
        }
    }
}

/// An index suggests only what can be asked for. The first line is the word that is looked for.
fn names(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (word, json) = text.split_once('\n').unwrap_or(("", &text));
    let Ok(names) = serde_json::from_str::<Names>(json) else { return };
    let index = NameIndex::new(&names);
    let found = index.nearest(word, 5);
    assert!(found.len() <= 5);
    found.iter().for_each(|found| check_package_name(&found.name));
}

/// A dump has as many records as it says, each of which is written as it was read.
fn dump_db(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(records) = dump_db::parse(&text) else { return };
    let lines: usize = records.iter().map(|record| 5 + record.references.len()).sum();
    assert_eq!(lines, text.lines().count());
}

/// Nix's log may say anything; what is kept of it is bounded.
fn nix_log(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut log = BuildLog::default();
    for line in text.lines() {
        log.line(line);
        let _ = log.summary();
    }
    assert!(log.builds().all(|(_, lines)| lines.count() <= 100));
    serde_json::to_string(&log).expect("a log serialises");
}

/// File names hold any bytes but those that lead elsewhere, and survive being written as text.
fn file_name(bytes: &[u8]) {
    if let Ok(name) = FileName::new(bytes) {
        assert!(!bytes.contains(&b'/') && !bytes.contains(&0) && bytes != b".." && bytes != b".");
        let text = String::from(name.clone());
        assert!(text.bytes().all(|b| b.is_ascii() && !b.is_ascii_control()));
        assert_eq!(FileName::try_from(text), Ok(name));
    }
    if let Ok(name) = FileName::try_from(String::from_utf8_lossy(bytes).into_owned()) {
        assert!(FileName::new(name.as_bytes()).is_ok());
    }
}

/// A listing that is read is written as one that reads the same.
fn listing(bytes: &[u8]) {
    let Ok(listing) = serde_json::from_slice::<Listing>(bytes) else { return };
    let json = serde_json::to_vec(&listing).expect("listings serialise");
    assert_eq!(serde_json::from_slice::<Listing>(&json).expect("and read"), listing);
}

/// A part lies inside the body. The first line is the body's size.
fn byte_range(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (size, header) = text.split_once('\n').unwrap_or(("10", &text));
    let size = size.parse().unwrap_or(10);
    match ByteRange::parse(Some(header), size) {
        ByteRange::Part { start, end } => assert!(start <= end && end < size),
        ByteRange::Whole | ByteRange::Unsatisfiable => {}
    }
}
