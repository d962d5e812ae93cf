//! `.narinfo` files: what a binary cache says of a store path (Nix manual, "HTTP Binary Cache Store").

use firn_shared::{StorePath, nix::closure::PathInfo, oci::digest::NarHash};
use nix_derivation::{CAHash, StoreDir};
use nix_narinfo::{NarInfo, NarInfoSignature, TrustedPublicKey};

/// The size limit of a narinfo, in bytes. One that refers to 5,000 paths has 350 kB.
pub(super) const MAX_SIZE: usize = 512 << 10;
/// How many signatures a narinfo may have. Each costs a verification.
const MAX_SIGNATURES: usize = 16;
/// The longest location, in bytes.
const MAX_LOCATION: usize = 2048;
/// The longest name of a compression, in bytes.
const MAX_COMPRESSION: usize = 20;
/// The largest NAR, in bytes.
const MAX_NAR_SIZE: u64 = 1 << 40;
/// The largest NAR, in bytes, of a path that nobody vouches for: as large as an image may be by default. The path proves the
/// hash, but not the size, and what is too large shows only at the end.
const MAX_PROVED_SIZE: u64 = 32 << 30;

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
    /// A field is longer, or a number higher, than there is a reason for.
    #[error("{0} is more than it can be")]
    TooMuch(&'static str),
}

/// Why the hash and the references in a narinfo are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Authenticity {
    /// A trusted key has signed them, and the size.
    Signed(NarInfoSignature),
    /// The path is a hash of them. It says nothing of the size.
    Proved,
}

/// The most bytes that a compressed NAR of this size has: what does not compress becomes a little larger.
pub(super) fn most_compressed(nar_size: u64) -> u64 {
    nar_size.saturating_add(nar_size / 8).saturating_add(1 << 20)
}

impl Narinfo {
    /// Reads a narinfo.
    pub(super) fn parse(text: &[u8]) -> Result<Self, ParseNarinfoError> {
        let parsed = NarInfo::parse_in(&StoreDir::default(), text)?;
        let path = |path: &nix_derivation::StorePath| path.to_string().parse::<StorePath>();
        for (field, is_too_much) in [
            ("its size", text.len() > MAX_SIZE),
            ("URL", parsed.url().len() > MAX_LOCATION),
            ("Compression", parsed.compression().as_str().len() > MAX_COMPRESSION),
            ("NarSize", parsed.nar_size() > MAX_NAR_SIZE),
            ("the number of signatures", parsed.signatures().len() > MAX_SIGNATURES),
        ] {
            if is_too_much {
                return Err(ParseNarinfoError::TooMuch(field));
            }
        }
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

    /// Whether one of these keys has signed path, hash, size and references, or the path itself proves them. None if there
    /// is no reason to believe them.
    pub(super) fn authenticity(&self, keys: &[TrustedPublicKey]) -> Option<Authenticity> {
        let fingerprint = self.parsed.fingerprint(&StoreDir::default());
        let is_valid = |signature: &&NarInfoSignature| {
            signature.verify(fingerprint.as_bytes(), keys).is_ok_and(|is_valid| is_valid)
        };
        let signature = self.parsed.signatures().iter().find(is_valid);
        let proved =
            || (self.is_proved() && self.info.nar_size <= MAX_PROVED_SIZE).then_some(Authenticity::Proved);
        signature.cloned().map(Authenticity::Signed).or_else(proved)
    }

    /// The narinfo without what nobody needs. Of the signatures, it has the one that counts. So its size is bounded by that of
    /// what is believed: a cache can add nothing to it.
    pub(super) fn kept(&self, authenticity: Option<&Authenticity>) -> String {
        let references = self.info.references.iter().map(StorePath::base_name).collect::<Vec<_>>().join(" ");
        let mut text = format!(
            "StorePath: {}\nURL: {}\nCompression: {}\nNarHash: {}\nNarSize: {}\nReferences: {references}\n",
            self.info.path,
            self.location(),
            self.compression(),
            self.parsed.nar_hash().to_nix_nixbase32_string(),
            self.info.nar_size,
        );
        if let Some(size) = self.file_size() {
            text.push_str(&format!("FileSize: {size}\n"));
        }
        match authenticity {
            Some(Authenticity::Signed(signature)) => {
                text.push_str(&format!("Sig: {}\n", signature.to_nix_string()));
            }
            Some(Authenticity::Proved) => {
                let address = self.parsed.content_address().map(CAHash::to_nix_string);
                text.extend(address.map(|address| format!("CA: {address}\n")));
            }
            None => {}
        }
        text
    }

    /// Whether the path is a hash of the hash of its NAR, and of its references. Other content-addressed paths are hashes
    /// of something that the narinfo does not have, such as of a single file: they need a signature like all others.
    fn is_proved(&self) -> bool {
        let is_of_nar = match self.parsed.content_address() {
            Some(CAHash::Nar(hash)) => hash == self.parsed.nar_hash(),
            _ => false,
        };
        is_of_nar && self.parsed.is_content_addressed(&StoreDir::default())
    }

    /// Where the NAR is, relative to the cache.
    pub(super) fn location(&self) -> &str {
        self.parsed.url()
    }

    /// The name of the compression.
    pub(super) fn compression(&self) -> &str {
        self.parsed.compression().as_str()
    }

    /// Size of the compressed NAR in bytes, if the cache says it. It is not signed: a size that cannot be is not believed.
    pub(super) fn file_size(&self) -> Option<u64> {
        self.parsed.file_size().filter(|size| *size <= most_compressed(self.info.nar_size))
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
    fn refuses_what_is_too_much() {
        let signatures = |number| format!("{NARINFO}{}", "Sig: a:AAAA\n".repeat(number));
        let url = |length| NARINFO.replace("nar/x.nar.xz", &"x".repeat(length));
        let size = |size: u64| NARINFO.replace("NarSize: 120", &format!("NarSize: {size}"));
        let compression =
            |length| NARINFO.replace("Compression: xz", &format!("Compression: {}", "z".repeat(length)));
        for (good, bad) in [
            (signatures(16), signatures(17)),
            (url(2048), url(2049)),
            (size(1 << 40), size((1 << 40) + 1)),
            (size(1), size(u64::MAX)),
            (compression(20), compression(21)),
        ] {
            assert!(parse(&good).is_ok(), "{good}");
            assert!(matches!(parse(&bad), Err(ParseNarinfoError::TooMuch(_))), "{bad}");
        }
    }

    #[test]
    fn a_file_is_not_much_larger_than_its_nar() {
        for (size, expect) in
            [(0, Some(0)), (120 + 15 + (1 << 20), Some(120 + 15 + (1 << 20))), (1_u64 << 62, None)]
        {
            let narinfo = parse(&format!("{NARINFO}FileSize: {size}\n")).expect("a narinfo");
            assert_eq!(narinfo.file_size(), expect);
        }
    }

    #[test]
    fn keeps_what_is_needed() {
        let padded = format!(
            "{NARINFO}FileSize: 77\nDeriver: x\nX-Pad: {}\nSig: a:AAAA\nSig: b:AAAA\n",
            "a".repeat(9000)
        )
        .replace("Deriver: x\n", "Deriver: 3pmppdlqjx4i0ww255kg6wjzlvg8shdc-hello-2.12.drv\n");
        let narinfo = parse(&padded).expect("a narinfo");
        let kept = narinfo.kept(None);
        assert_eq!(kept, format!("{NARINFO}FileSize: 77\n"));
        let again = parse(&kept).expect("a narinfo");
        assert_eq!((again.file_size(), again.info), (Some(77), narinfo.info));
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
