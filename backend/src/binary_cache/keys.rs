//! The keys whose signatures are trusted, as in Nix's `trusted-public-keys`.

use nix_narinfo::{KeyError, TrustedPublicKey};
use std::collections::BTreeSet;
use std::str::FromStr;

/// Public Ed25519 keys, written `NAME:BASE64`, with spaces or commas between them. There may be none.
#[derive(Debug, Clone, Default)]
pub struct TrustedKeys {
    keys: Vec<TrustedPublicKey>,
    texts: BTreeSet<String>,
}

/// A text is not a public key.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a public key, which is NAME:BASE64")]
pub struct ParseKeysError {
    /// The text. Public keys are no secrets, but a private key that was given by mistake is: only the beginning is kept.
    text: String,
    source: KeyError,
}

impl TrustedKeys {
    pub(super) fn keys(&self) -> &[TrustedPublicKey] {
        &self.keys
    }

    /// The same keys as they were written, sorted.
    pub(super) fn texts(&self) -> &BTreeSet<String> {
        &self.texts
    }
}

impl FromStr for TrustedKeys {
    type Err = ParseKeysError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let texts = text.split(|c: char| c.is_whitespace() || c == ',').filter(|key| !key.is_empty());
        let texts: BTreeSet<String> = texts.map(str::to_owned).collect();
        let key = |text: &String| {
            let beginning = || text.split(':').next().unwrap_or_default().chars().take(40).collect();
            TrustedPublicKey::parse(text).map_err(|source| ParseKeysError { text: beginning(), source })
        };
        Ok(Self { keys: texts.iter().map(key).collect::<Result<_, _>>()?, texts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFICIAL: &str = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

    #[test]
    fn reads_lists() {
        for (text, keys) in [
            ("", 0),
            (OFFICIAL, 1),
            (&format!("{OFFICIAL} , {OFFICIAL}\n"), 1),
            (&format!("{OFFICIAL} other{OFFICIAL}"), 2),
        ] {
            assert_eq!(text.parse::<TrustedKeys>().expect("keys").keys().len(), keys, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_public_key() {
        for bad in ["name", "name:", ":AAAA", "name:!!", "name:AAAA"] {
            assert!(bad.parse::<TrustedKeys>().is_err(), "{bad}");
        }
        // A private key has twice the length.
        let private = format!("name:{}", "A".repeat(86) + "==");
        let error = private.parse::<TrustedKeys>().expect_err("refused").to_string();
        assert!(!error.contains("AAAA"), "{error}");
    }
}
