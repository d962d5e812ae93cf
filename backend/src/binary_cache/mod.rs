//! Reads the references of a whole package set from a binary cache or from Nix's database.
//!
//! Layering uses them: how many paths refer to a path, and which paths occur together. Only `.narinfo` files are
//! downloaded.

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
    /// An HTTP binary cache, such as `https://cache.nixos.org`.
    Http(String),
    /// A directory that `nix copy --to file://DIR` wrote.
    Directory(PathBuf),
}

/// The text is not the URL of a binary cache.
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
