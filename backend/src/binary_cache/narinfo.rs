//! `.narinfo` files (Nix manual, "HTTP Binary Cache Store"): lines of `Key: value`.

use firn_shared::{
    StorePath,
    nix::{
        closure::PathInfo,
        store_path::{ParseStorePathError, STORE_DIR},
    },
    oci::digest::NarHash,
};
use std::collections::HashMap;

/// Why a text is not a narinfo.
#[derive(Debug, thiserror::Error)]
pub(super) enum NarInfoError {
    /// A required field is missing.
    #[error("the field {0} is missing")]
    Missing(&'static str),
    /// A store path is invalid.
    #[error(transparent)]
    StorePath(#[from] ParseStorePathError),
    /// A hash that is not sha256 in Nix's base-32 or in hexadecimal.
    #[error("NarHash is not a sha256")]
    Hash,
    /// A size that is not a number.
    #[error("NarSize is not a number")]
    Size,
}

/// Reads the path info from the text of a narinfo.
pub(super) fn parse(text: &str) -> Result<PathInfo, NarInfoError> {
    let fields: HashMap<&str, &str> = text.lines().filter_map(|line| line.split_once(": ")).collect();
    let field = |name| fields.get(name).copied().ok_or(NarInfoError::Missing(name));
    let in_store = |base: &str| format!("{STORE_DIR}/{base}").parse::<StorePath>();
    // For a path without references, `References:` has no value.
    let references = fields.get("References").copied().unwrap_or_default();
    Ok(PathInfo {
        path: field("StorePath")?.parse()?,
        nar_hash: nar_hash(field("NarHash")?).ok_or(NarInfoError::Hash)?,
        nar_size: field("NarSize")?.parse().map_err(|_| NarInfoError::Size)?,
        references: references.split_whitespace().map(in_store).collect::<Result<_, _>>()?,
    })
}

fn nar_hash(text: &str) -> Option<NarHash> {
    let digits = text.strip_prefix("sha256:")?;
    match digits.len() {
        52 => Some(NarHash::from_bytes(nix_base32::from_nix_base32(digits)?.try_into().ok()?)),
        _ => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NARINFO: &str = "StorePath: /nix/store/3pmppdlqjx4i0ww255kg6wjzlvg8shdc-hello-2.12\n\
        URL: nar/x.nar.xz\nCompression: xz\n\
        NarHash: sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73\nNarSize: 120\n\
        References: 3pmppdlqjx4i0ww255kg6wjzlvg8shdc-hello-2.12 qnikzm2hw7glz47yfby8byy4p2hvnckn-libc\n";

    #[test]
    fn reads_what_layering_needs() {
        let info = parse(NARINFO).expect("a narinfo");
        assert_eq!(info.path.name(), "hello-2.12");
        assert_eq!((info.nar_size, info.references.len()), (120, 2));
        // The sha256 of no bytes, as Nix writes it.
        assert_eq!(info.nar_hash, NarHash::of(b""));
        let none = NARINFO.replace(
            "References: 3pmppdlqjx4i0ww255kg6wjzlvg8shdc-hello-2.12 qnikzm2hw7glz47yfby8byy4p2hvnckn-libc",
            "References: ",
        );
        assert!(parse(&none).is_ok_and(|info| info.references.is_empty()));
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
}
