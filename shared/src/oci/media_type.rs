//! Media types (OCI image spec, "media-types.md"; Docker's "image manifest version 2, schema 2").

/// The two families of manifests that clients accept. They differ in media types alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ManifestFormat {
    /// OCI image manifest.
    Oci,
    /// Docker image manifest version 2, schema 2, for clients that do not accept OCI.
    Docker,
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerCompression {
    /// What every client reads.
    Gzip,
    /// Faster and smaller; needs OCI media types and Docker 23 or newer.
    Zstd,
}

/// `application/vnd.oci.image.manifest.v1+json`
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// `application/vnd.docker.distribution.manifest.v2+json`
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// `application/vnd.oci.image.index.v1+json`
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// `application/vnd.docker.distribution.manifest.list.v2+json`
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// The media type of the config that an artifact has which has no config.
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// What blobs are served as: the registry does not know what a client will make of them.
pub const BLOB: &str = "application/octet-stream";
/// What errors, tag lists and everything else that is no manifest are served as.
pub const JSON: &str = "application/json";

/// This media type, if it is a manifest's or an index's.
pub fn of_document(text: &str) -> Option<&'static str> {
    [OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_INDEX].into_iter().find(|known| *known == text)
}

impl ManifestFormat {
    /// The format that a document of this media type has.
    pub(super) fn of(media_type: &str) -> Self {
        match media_type {
            DOCKER_MANIFEST | DOCKER_INDEX => Self::Docker,
            _ => Self::Oci,
        }
    }

    /// The format for a client with these `Accept` header lines, each of which may hold several types
    /// (RFC 9110, section 12.5.1).
    ///
    /// OCI unless the client accepts Docker's format alone, or refuses OCI (`q=0`). Both formats are the same image, so
    /// other weights do not matter. A client that names neither gets OCI: it is most likely to manage with that, and a
    /// refusal would help nobody.
    pub fn negotiate<'a>(accept: impl IntoIterator<Item = &'a str>) -> Self {
        let ranges = accept.into_iter().flat_map(|line| line.split(',')).filter_map(MediaRange::parse);
        let (mut oci, mut docker) = (Acceptance::default(), Acceptance::default());
        for range in ranges {
            oci.take(&range, OCI_MANIFEST);
            docker.take(&range, DOCKER_MANIFEST);
        }
        if docker.rank() > oci.rank() { Self::Docker } else { Self::Oci }
    }

    /// The manifest's own media type.
    pub const fn manifest(self) -> &'static str {
        match self {
            Self::Oci => OCI_MANIFEST,
            Self::Docker => DOCKER_MANIFEST,
        }
    }

    /// The media type of an index of such manifests.
    pub const fn index(self) -> &'static str {
        match self {
            Self::Oci => OCI_INDEX,
            Self::Docker => DOCKER_INDEX,
        }
    }

    /// The config's media type.
    pub const fn config(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.config.v1+json",
            Self::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    /// A layer's media type; Docker's format has none for zstd.
    pub const fn layer(self, compression: LayerCompression) -> Option<&'static str> {
        match (self, compression) {
            (Self::Oci, LayerCompression::Gzip) => Some("application/vnd.oci.image.layer.v1.tar+gzip"),
            (Self::Oci, LayerCompression::Zstd) => Some("application/vnd.oci.image.layer.v1.tar+zstd"),
            (Self::Docker, LayerCompression::Gzip) => {
                Some("application/vnd.docker.image.rootfs.diff.tar.gzip")
            }
            (Self::Docker, LayerCompression::Zstd) => None,
        }
    }
}

/// One element of an `Accept` header.
struct MediaRange<'a> {
    media_type: &'a str,
    /// Whether its weight is more than 0.
    accepted: bool,
}

/// What an `Accept` header says of one media type.
#[derive(Default)]
struct Acceptance {
    /// How specific the range is that decides: a range that names the type goes before one with a `*`.
    precision: u8,
    accepted: bool,
}

impl<'a> MediaRange<'a> {
    fn parse(element: &'a str) -> Option<Self> {
        let mut parts = element.split(';').map(str::trim);
        let media_type = parts.next().filter(|text| !text.is_empty())?;
        let weight = parts
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
        Some(Self { media_type, accepted: !weight.is_some_and(|(_, value)| is_zero(value.trim())) })
    }

    /// How specifically this names an `application/…` type; 0 when it does not.
    fn precision(&self, media_type: &str) -> u8 {
        match self.media_type {
            "*/*" => 1,
            text if text.eq_ignore_ascii_case("application/*") => 2,
            text if text.eq_ignore_ascii_case(media_type) => 3,
            _ => 0,
        }
    }
}

/// Whether a weight is 0, with up to three decimals (RFC 9110, section 12.4.2). Parsing it as a floating-point number
/// would add tables of 10 KB to the Worker.
fn is_zero(weight: &str) -> bool {
    let (whole, decimals) = weight.split_once('.').unwrap_or((weight, ""));
    whole == "0" && decimals.bytes().all(|digit| digit == b'0')
}

impl Acceptance {
    fn take(&mut self, range: &MediaRange<'_>, media_type: &str) {
        let precision = range.precision(media_type);
        if precision > self.precision {
            *self = Self { precision, accepted: range.accepted };
        } else if precision == self.precision {
            self.accepted |= range.accepted;
        }
    }

    /// Types that are accepted come before those that are not named, and last come those that are refused.
    fn rank(&self) -> u8 {
        match (self.precision, self.accepted) {
            (0, _) => 1,
            (_, true) => 2,
            (_, false) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negotiates() {
        let check = |accept: &[&str], expect| {
            assert_eq!(ManifestFormat::negotiate(accept.iter().copied()), expect, "{accept:?}");
        };
        check(&[], ManifestFormat::Oci);
        check(&["*/*"], ManifestFormat::Oci);
        check(&["text/html"], ManifestFormat::Oci);
        check(&[DOCKER_MANIFEST], ManifestFormat::Docker);
        check(&[&format!("{DOCKER_MANIFEST}, {OCI_MANIFEST}")], ManifestFormat::Oci);
        // skopeo sends one type a line.
        check(&[DOCKER_MANIFEST, OCI_MANIFEST], ManifestFormat::Oci);
        check(&["application/vnd.docker.distribution.manifest.v2+json;q=0.5"], ManifestFormat::Docker);
    }

    #[test]
    fn what_is_refused_is_not_given() {
        let check = |accept: &[&str], expect| {
            let accept: Vec<_> = accept
                .iter()
                .map(|line| line.replace("OCI", OCI_MANIFEST).replace("DOCKER", DOCKER_MANIFEST))
                .collect();
            let lines = accept.iter().map(String::as_str);
            assert_eq!(ManifestFormat::negotiate(lines), expect, "{accept:?}");
        };
        for refusal in ["OCI;q=0", "OCI;q=0.", "OCI; q=0.0", "OCI ; Q = 0.000", "OCI;version=1;q=0"] {
            check(&[refusal], ManifestFormat::Docker);
            check(&[refusal, "DOCKER"], ManifestFormat::Docker);
            check(&["DOCKER", refusal], ManifestFormat::Docker);
            // What names the type goes before what has a `*`, whichever comes first.
            check(&[refusal, "*/*"], ManifestFormat::Docker);
            check(&["*/*, application/*", refusal], ManifestFormat::Docker);
        }
        check(&["DOCKER;q=0, */*"], ManifestFormat::Oci);
        check(&["*/*;q=0, OCI"], ManifestFormat::Oci);
        check(&["*/*;q=0, DOCKER;q=0.1"], ManifestFormat::Docker);
        check(&["application/*;q=0, */*"], ManifestFormat::Oci);
        // Whoever refuses both gets what most clients understand.
        check(&["OCI;q=0, DOCKER;q=0"], ManifestFormat::Oci);
        // Weights above 0 are no refusals, and nonsense is no weight.
        check(&["DOCKER, OCI;q=0.1"], ManifestFormat::Oci);
        check(&["OCI;q=0.001, DOCKER;q=1"], ManifestFormat::Oci);
        check(&["OCI;q=x"], ManifestFormat::Oci);
        check(&["OCI;quality=0"], ManifestFormat::Oci);
        check(&["Application/*;q=0.5"], ManifestFormat::Oci);
        check(&["", ",,"], ManifestFormat::Oci);
    }
}
