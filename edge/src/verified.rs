//! Manifests out of KV, and which of them this isolate has verified.

use crate::manifest::Manifest;
use firn_shared::{link::edge_cache::ManifestMetadata, oci::digest::Digest};
use std::{cell::RefCell, collections::HashMap};
use worker::js_sys::{ArrayBuffer, Uint8Array};

/// How many manifests are remembered as verified. Which of them does not matter, so all are forgotten at once.
const MAX_VERIFIED: usize = 256;

thread_local! {
    /// The length of the bytes that were seen to have each digest.
    static VERIFIED: RefCell<HashMap<Digest, u32>> = RefCell::default();
}

/// A manifest of bytes out of KV; none when they do not have the digest that stands beside them.
///
/// They were verified before they were written. An isolate hashes them again when it first reads them, and
/// afterwards compares their length alone: hashing costs more than all the rest of an answer.
pub(crate) fn from_cache(bytes: ArrayBuffer, metadata: ManifestMetadata) -> Option<Manifest> {
    let length = bytes.byte_length();
    if VERIFIED.with_borrow(|verified| verified.get(&metadata.digest) != Some(&length)) {
        if Digest::of(&Uint8Array::new(&bytes).to_vec()) != metadata.digest {
            return None;
        }
        VERIFIED.with_borrow_mut(|verified| {
            if verified.len() >= MAX_VERIFIED {
                verified.clear();
            }
            verified.insert(metadata.digest, length);
        });
    }
    Some(Manifest { bytes, metadata })
}
