//! The files of a binary cache.

use super::nar;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};
use firn_shared::{StorePath, oci::digest::NarHash};
use std::collections::BTreeMap;
use std::io::{Read, Write};

const KEY: &str = "test-1";

fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// The key that signs narinfos here.
pub(super) fn public_key() -> String {
    format!("{KEY}:{}", STANDARD.encode(signing_key().verifying_key().as_bytes()))
}

pub(super) fn store_path(letter: char, name: &str) -> StorePath {
    format!("/nix/store/{}-{name}", letter.to_string().repeat(32)).parse().expect("a store path")
}

/// The files of a binary cache by name.
#[derive(Debug, Clone, Default)]
pub(super) struct CacheFiles(pub(super) BTreeMap<String, Vec<u8>>);

/// What a narinfo says.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) path: StorePath,
    pub(super) location: String,
    pub(super) compression: &'static str,
    pub(super) file_size: Option<usize>,
    pub(super) nar_hash: String,
    pub(super) nar_size: usize,
    pub(super) references: Vec<StorePath>,
}

impl Facts {
    fn fingerprint(&self) -> String {
        let references: Vec<_> = self.references.iter().map(StorePath::as_str).collect();
        format!("1;{};{};{};{}", self.path, self.nar_hash, self.nar_size, references.join(","))
    }

    pub(super) fn signature(&self) -> String {
        let signature = signing_key().sign(self.fingerprint().as_bytes());
        format!("{KEY}:{}", STANDARD.encode(signature.to_bytes()))
    }

    /// The narinfo with this signature, if any.
    pub(super) fn narinfo(&self, signature: Option<&str>) -> String {
        let references: Vec<_> = self.references.iter().map(StorePath::base_name).collect();
        let mut text = format!(
            "StorePath: {}\nURL: {}\nCompression: {}\nNarHash: {}\nNarSize: {}\nReferences: {}\n",
            self.path,
            self.location,
            self.compression,
            self.nar_hash,
            self.nar_size,
            references.join(" ")
        );
        if let Some(size) = self.file_size {
            text.push_str(&format!("FileSize: {size}\n"));
        }
        if let Some(signature) = signature {
            text.push_str(&format!("Sig: {signature}\n"));
        }
        text
    }
}

/// The sha256 as narinfos have it.
pub(super) fn nar_hash(bytes: &[u8]) -> String {
    let hash = NarHash::of(bytes).to_string();
    nix_derivation::NixHash::parse(&hash).expect("a hash").to_nix_nixbase32_string()
}

impl CacheFiles {
    /// A cache of this priority without paths.
    pub(super) fn new(priority: u32) -> Self {
        let info = format!("StoreDir: /nix/store\nWantMassQuery: 1\nPriority: {priority}\n");
        Self(BTreeMap::from([("nix-cache-info".to_owned(), info.into_bytes())]))
    }

    /// Adds a signed path.
    pub(super) fn add(
        &mut self,
        path: &StorePath,
        nar: &[u8],
        compression: &'static str,
        references: &[StorePath],
    ) -> Facts {
        let compressed = compress(nar, compression);
        let facts = Facts {
            path: path.clone(),
            location: format!("nar/{}.nar.{compression}", path.hash_part()),
            compression,
            file_size: Some(compressed.len()),
            nar_hash: nar_hash(nar),
            nar_size: nar.len(),
            references: references.to_vec(),
        };
        self.0.insert(facts.location.clone(), compressed);
        self.say(&facts, Some(&facts.signature()));
        facts
    }

    /// Adds or replaces a narinfo.
    pub(super) fn say(&mut self, facts: &Facts, signature: Option<&str>) {
        let name = format!("{}.narinfo", facts.path.hash_part());
        self.0.insert(name, facts.narinfo(signature).into_bytes());
    }

    /// Writes the files to a directory.
    pub(super) fn write_to(&self, dir: &std::path::Path) {
        for (name, bytes) in &self.0 {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().expect("in a directory")).expect("mkdir");
            std::fs::write(path, bytes).expect("written");
        }
    }

    /// One path that is a file with these bytes.
    pub(super) fn of_file(priority: u32, bytes: &[u8], compression: &'static str) -> (Self, Facts) {
        let mut files = Self::new(priority);
        let facts = files.add(&store_path('a', "file"), &nar::of_file(bytes), compression, &[]);
        (files, facts)
    }
}

pub(super) fn compress(bytes: &[u8], compression: &str) -> Vec<u8> {
    let mut compressed = Vec::new();
    match compression {
        "none" => compressed.extend_from_slice(bytes),
        "xz" => {
            liblzma::read::XzEncoder::new(bytes, 1).read_to_end(&mut compressed).expect("compresses");
        }
        "zstd" => compressed = zstd::encode_all(bytes, 1).expect("compresses"),
        "bzip2" => {
            bzip2::read::BzEncoder::new(bytes, bzip2::Compression::fast())
                .read_to_end(&mut compressed)
                .expect("compresses");
        }
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(&mut compressed, flate2::Compression::fast());
            encoder.write_all(bytes).expect("compresses");
            encoder.finish().expect("compresses");
        }
        other => panic!("{other}"),
    }
    compressed
}
