//! Reading a whole package set's dependencies out of a binary cache or of Nix's database.
//!
//! This is where the data for layering comes from: how many paths refer to one, and which travel together.
//! Nothing is downloaded but the `.narinfo` files.

mod crawl;
mod journal;
mod narinfo;

pub use crawl::{CrawlError, crawl};
pub use journal::Journal;

use std::path::PathBuf;
use std::str::FromStr;

/// Where the `.narinfo` files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BinaryCache {
    /// `https://cache.nixos.org` and its like.
    Http(String),
    /// What `nix copy --to file://DIR` writes.
    Directory(PathBuf),
}

/// A text that names no binary cache.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a binary cache is an http://, https:// or file:// URL")]
pub struct ParseBinaryCacheError;

impl FromStr for BinaryCache {
    type Err = ParseBinaryCacheError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim_end_matches('/');
        if let Some(dir) = text.strip_prefix("file://").filter(|dir| dir.starts_with('/')) {
            Ok(Self::Directory(dir.into()))
        } else if text.starts_with("https://") || text.starts_with("http://") {
            Ok(Self::Http(text.into()))
        } else {
            Err(ParseBinaryCacheError)
        }
    }
}
