//! Names and digests in records and responses: their bytes must stay the same, because records outlive a release.

use firn_shared::{
    Digest, StorePath,
    link::protocol::ImageSetId,
    naming::{
        package_name::PackageName,
        package_source::{Commit, GitRef},
        reason::Reason,
        source_url::PublicUrl,
    },
    nix::listing::FileName,
    oci::digest::{DiffId, NarHash},
};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

const DIGITS: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A value that was read from a text is saved as that text: in JSON as a string, in postcard as its length and its
/// bytes.
#[track_caller]
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &str) {
    let json = format!("\"{text}\"");
    let postcard = [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    assert!(postcard[0] < 128, "a longer text has a length of two bytes");
    let value: T = serde_json::from_str(&json).expect("JSON is read");
    assert_eq!(serde_json::to_string(&value).expect("JSON is written"), json);
    assert_eq!(postcard::to_allocvec(&value).expect("postcard is written"), postcard);
    assert_eq!(postcard::from_bytes::<T>(&postcard).expect("postcard is read"), value);
}

#[test]
fn are_saved_as_their_text() {
    check::<Digest>(&format!("sha256:{DIGITS}"));
    check::<DiffId>(&format!("sha256:{DIGITS}"));
    check::<NarHash>(&format!("sha256:{DIGITS}"));
    check::<StorePath>("/nix/store/3pmppdlqjx4i0ww255kg6wjzlvg8shdc-git-2.39.5");
    check::<PackageName>("python3packages.requests");
    check::<Commit>("0123456789abcdef0123456789abcdef01234567");
    check::<GitRef>("release/24.05");
    check::<ImageSetId>(DIGITS);
    check::<Reason>("git is not available; use gitMinimal");
    check::<PublicUrl>("ssh://git@example.com/set?ref=main");
    check::<FileName>("a%25 b%0a%ff");
}

#[test]
fn that_are_invalid_are_refused_when_they_are_read() {
    fn is_read<T: DeserializeOwned>(text: &str) -> bool {
        serde_json::from_value::<T>(text.into()).is_ok()
            || postcard::to_allocvec(text).is_ok_and(|bytes| postcard::from_bytes::<T>(&bytes).is_ok())
    }
    assert!(!is_read::<Digest>("sha256:e3b0"));
    assert!(!is_read::<StorePath>("/nix/store/../etc"));
    assert!(!is_read::<PackageName>("Git"));
    assert!(!is_read::<Commit>("main"));
    assert!(!is_read::<GitRef>("--option"));
    assert!(!is_read::<ImageSetId>(""));
    assert!(!is_read::<Reason>("/etc/passwd"));
    assert!(!is_read::<FileName>("%2f"));
}

/// Credentials that a record of an older release has are left out when it is read.
#[test]
fn urls_are_read_without_credentials() {
    let url: PublicUrl = serde_json::from_str("\"https://ann:secret@example.com/set\"").expect("any text");
    assert_eq!(url.as_str(), "https://example.com/set");
}
