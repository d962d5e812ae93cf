//! `.narinfo` files: what a binary cache says of a store path (Nix manual, "HTTP Binary Cache Store").

use firn_shared::{StorePath, nix::closure::PathInfo, oci::digest::NarHash};
use nix_derivation::{CAHash, StoreDir};
use nix_narinfo::{NarInfo, TrustedPublicKey};

/// The size limit of a narinfo, in bytes.
pub(super) const MAX_SIZE: usize = nix_narinfo::MAX_NARINFO_SIZE;

/// A narinfo with well-formed fields. Whether they are true, nobody knows yet.
#[derive(Debug, Clone)]
pub(super) struct Narinfo {
    parsed: NarInfo,
    /// What Nix's database would have of the path.
    pub(super) info: PathInfo,
}

/// Why a text is not a narinfo.
#[derive(Debug, thiserror::Error)]
pub(super) enum ParseNarinfoError {
    /// A field is missing or malformed.
    #[error(transparent)]
    Field(#[from] nix_narinfo::ParseError),
    /// A store path that the crate allows and Firn does not.
    #[error(transparent)]
    StorePath(#[from] firn_shared::nix::store_path::ParseStorePathError),
    /// Another hash than sha256.
    #[error("NarHash is not a sha256")]
    Hash,
    /// The location leads out of the cache.
    #[error("URL {0:?} does not lead to a file of the cache")]
    Location(String),
}

impl Narinfo {
    /// Reads a narinfo.
    pub(super) fn parse(text: &[u8]) -> Result<Self, ParseNarinfoError> {
        let parsed = NarInfo::parse_in(&StoreDir::default(), text)?;
        let path = |path: &nix_derivation::StorePath| path.to_string().parse::<StorePath>();
        // The location is not signed. It must not make Firn fetch from elsewhere.
        if !is_below(parsed.url()) {
            return Err(ParseNarinfoError::Location(parsed.url().chars().take(200).collect()));
        }
        let hash = parsed.nar_hash().to_nix_base16_string();
        let info = PathInfo {
            path: path(parsed.store_path())?,
            nar_hash: hash.parse::<NarHash>().map_err(|_| ParseNarinfoError::Hash)?,
            nar_size: parsed.nar_size(),
            references: parsed.references().iter().map(path).collect::<Result<_, _>>()?,
        };
        Ok(Self { parsed, info })
    }

    /// Whether one of these keys has signed path, hash, size and references, or the path itself proves them.
    pub(super) fn is_authentic(&self, keys: &[TrustedPublicKey]) -> bool {
        let store = StoreDir::default();
        (self.hash_is_proved() && self.parsed.is_content_addressed(&store))
            || self.parsed.has_valid_signature(&store, keys)
    }

    /// Whether the path is made from the very hash with which the content will be compared. Other content addresses, of
    /// flat files or in other algorithms, say nothing of the NAR's hash, so these paths need a signature.
    fn hash_is_proved(&self) -> bool {
        match self.parsed.content_address() {
            Some(CAHash::Nar(hash)) => hash == self.parsed.nar_hash(),
            _ => false,
        }
    }

    /// Where the NAR is, relative to the cache.
    pub(super) fn location(&self) -> &str {
        self.parsed.url()
    }

    /// The name of the compression.
    pub(super) fn compression(&self) -> &str {
        self.parsed.compression().as_str()
    }

    /// Size of the compressed NAR in bytes, if the cache says it.
    pub(super) fn file_size(&self) -> Option<u64> {
        self.parsed.file_size()
    }
}

/// Whether a location relative to the cache stays below it. A query may follow.
fn is_below(location: &str) -> bool {
    let path = location.split(['?', '#']).next().unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\' && byte != b':';
    !path.is_empty()
        && location.bytes().all(|byte| byte.is_ascii_graphic())
        && path.bytes().all(is_plain)
        && path.split('/').all(|part| {
            // Also in the form that a server decodes.
            let part = part.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/");
            !part.is_empty() && !part.split('/').any(|part| matches!(part, "." | ".." | ""))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NARINFO: &str = "StorePath: /nix/store/3pmppdlqjx4i0ww255kg6wjzlvg8shdc-hello-2.12\n\
        URL: nar/x.nar.xz\nCompression: xz\n\
        NarHash: sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73\nNarSize: 120\n\
        References: 3pmppdlqjx4i0ww255kg6wjzlvg8shdc-hello-2.12 qnikzm2hw7glz47yfby8byy4p2hvnckn-libc\n";

    fn parse(text: &str) -> Result<Narinfo, ParseNarinfoError> {
        Narinfo::parse(text.as_bytes())
    }

    #[test]
    fn reads_what_layering_needs() {
        let info = parse(NARINFO).expect("a narinfo").info;
        assert_eq!(info.path.name(), "hello-2.12");
        assert_eq!((info.nar_size, info.references.len()), (120, 2));
        // The sha256 of no bytes, as Nix writes it.
        assert_eq!(info.nar_hash, NarHash::of(b""));
        let none = NARINFO.replace(
            "References: 3pmppdlqjx4i0ww255kg6wjzlvg8shdc-hello-2.12 qnikzm2hw7glz47yfby8byy4p2hvnckn-libc",
            "References: ",
        );
        assert!(parse(&none).is_ok_and(|narinfo| narinfo.info.references.is_empty()));
    }

    #[test]
    fn refuses_garbage() {
        for bad in [
            String::new(),
            "<html>".into(),
            NARINFO.replace("NarSize: 120", "NarSize: many"),
            NARINFO.replace("NarHash: sha256:0", "NarHash: sha256:e"),
            NARINFO.replace("NarHash: sha256", "NarHash: md5"),
            NARINFO.replace("qnik", "../q"),
        ] {
            assert!(parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn refuses_locations_outside_the_cache() {
        for bad in [
            "https://169.254.169.254/x",
            "//elsewhere.example/x",
            "/etc/passwd",
            "../x",
            "nar/../../x",
            "nar/%2e%2E/x",
            "nar/..%2fx",
            "nar\\x",
            "nar//x",
            "nar/",
            "file:///etc/passwd",
            "nar/x y",
            "?x",
        ] {
            let narinfo = NARINFO.replace("nar/x.nar.xz", bad);
            assert!(
                matches!(parse(&narinfo), Err(ParseNarinfoError::Location(_) | ParseNarinfoError::Field(_))),
                "{bad}"
            );
        }
        for good in ["nar/x.nar", "x", "nar/a.b/x.nar.zst?hash=y/../z"] {
            assert_eq!(parse(&NARINFO.replace("nar/x.nar.xz", good)).expect(good).location(), good);
        }
    }
}
