//! `/nix-cache-info`, in which a binary cache describes itself (Nix manual, "HTTP Binary Cache Store").

use firn_shared::nix::store_path::STORE_DIR;

/// Nix's default for a cache that states no priority.
const PRIORITY: u32 = 50;

/// What a cache says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CacheInfo {
    /// The Nix store whose paths it has.
    pub(super) store_dir: String,
    /// The cache with the lowest number is asked first.
    pub(super) priority: u32,
}

impl CacheInfo {
    /// Reads it. Lines that are not understood are ignored, as by Nix.
    pub(super) fn parse(text: &str) -> Self {
        let field = |wanted: &str| {
            let value =
                |line: &str| line.strip_prefix(wanted)?.strip_prefix(':').map(|rest| rest.trim().to_owned());
            text.lines().find_map(value)
        };
        Self {
            store_dir: field("StoreDir").unwrap_or_else(|| STORE_DIR.to_owned()),
            priority: field("Priority").and_then(|value| value.parse().ok()).unwrap_or(PRIORITY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_knows() {
        for (text, store_dir, priority) in [
            ("StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n", "/nix/store", 40),
            ("StoreDir: /gnu/store", "/gnu/store", 50),
            ("Priority: high\nPriorityX: 1\n<html>", "/nix/store", 50),
            ("", "/nix/store", 50),
        ] {
            assert_eq!(CacheInfo::parse(text), CacheInfo { store_dir: store_dir.into(), priority }, "{text}");
        }
    }
}
