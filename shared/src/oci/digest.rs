//! Content digests: `sha256:` and 64 lower-case hexadecimal digits (OCI image spec, "Digests").
//!
//! A [`Digest`] names a blob as it travels (compressed), a [`DiffId`] the tar inside it, a [`NarHash`] a
//! store path as Nix serialises it. They are different types because mixing them up makes images that no
//! client can verify.

use serde_with::{DeserializeFromStr, SerializeDisplay};
use sha2::Digest as _;
use std::fmt;
use std::str::FromStr;

/// Why a text is not a sha256 digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDigestError {
    /// There is no `algorithm:` in front.
    #[error("a digest looks like sha256:<64 hex digits>")]
    NoAlgorithm,
    /// An algorithm other than sha256, which Firn never produces.
    #[error("only sha256 digests are supported")]
    Algorithm,
    /// Not exactly 64 lower-case hexadecimal digits.
    #[error("a sha256 digest has exactly 64 lower-case hexadecimal digits")]
    Hex,
}

macro_rules! sha256_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The digest of these bytes.
            pub fn of(bytes: &[u8]) -> Self {
                Self(sha2::Sha256::digest(bytes).into())
            }

            /// The digest that a hasher has arrived at.
            pub fn from_hasher(hasher: sha2::Sha256) -> Self {
                Self(hasher.finalize().into())
            }

            /// The digest with these 32 raw bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 64 hexadecimal digits, without the algorithm.
            pub fn hex(&self) -> String {
                hex::encode(self.0)
            }

            /// The 32 raw bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "sha256:{}", self.hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseDigestError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let (algorithm, digits) = text.split_once(':').ok_or(ParseDigestError::NoAlgorithm)?;
                if algorithm != "sha256" {
                    return Err(ParseDigestError::Algorithm);
                }
                if digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    return Err(ParseDigestError::Hex);
                }
                let mut bytes = [0; 32];
                hex::decode_to_slice(digits, &mut bytes).map_err(|_| ParseDigestError::Hex)?;
                Ok(Self(bytes))
            }
        }
    };
}

sha256_newtype! {
    /// The sha256 of a blob as clients fetch it: a manifest, a config, a compressed layer.
    Digest
}
sha256_newtype! {
    /// The sha256 of a layer's uncompressed tar, as image configs list them.
    DiffId
}
sha256_newtype! {
    /// The sha256 of a store path's NAR serialisation, as Nix's database records it.
    NarHash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let digest = Digest::of(b"");
        assert_eq!(
            digest.to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let json = serde_json::to_string(&digest).expect("digests serialise");
        assert_eq!(serde_json::from_str::<Digest>(&json).expect("and parse"), digest);
    }

    #[test]
    fn invalid_digests_are_refused() {
        let check = |text: &str, expect| assert_eq!(text.parse::<Digest>(), Err(expect), "{text}");
        check("", ParseDigestError::NoAlgorithm);
        check("latest", ParseDigestError::NoAlgorithm);
        check("md5:d41d8cd98f00b204e9800998ecf8427e", ParseDigestError::Algorithm);
        check("sha256:", ParseDigestError::Hex);
        check("sha256:baddigest", ParseDigestError::Hex);
        check(&format!("sha256:{}", "A".repeat(64)), ParseDigestError::Hex);
        check(&format!("sha256:{}", "a".repeat(63)), ParseDigestError::Hex);
        check(&format!("sha256:{}", "a".repeat(65)), ParseDigestError::Hex);
        check(&format!("sha256:{}\n", "a".repeat(64)), ParseDigestError::Hex);
    }
}
