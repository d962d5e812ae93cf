//! Makes an image from packages. Backend and edge run the same code, so that both make the same bytes.
//!
//! A [`Blueprint`] plans the layers of an image. With the records of the packed layers it becomes an [`Image`].

pub mod config;
pub mod forest;
pub mod layer;
pub mod selection;
pub mod settlement;

use crate::{
    StorePath, archive,
    image::{
        forest::{Conflict, Fixtures, Forest, ForestError, PackageFiles, USER_ID},
        layer::{LayerEncoding, LayerPlan, LayerRecord},
        selection::Selected,
    },
    layering::{Layers, Part},
    naming::{
        image_name::{ImageName, Shows},
        package::PackageRecord,
        package_source::Revision,
    },
    nix::closure::{Closure, ClosureError},
    oci::{
        digest::Digest,
        document::{Descriptor, Document, ImageManifest},
        media_type::{LayerCompression, ManifestFormat},
        platform::Platform,
    },
};
use config::{ExecutionConfig, ImageConfig};
use std::collections::{BTreeMap, BTreeSet};

/// The version of the image format. Increase it when the same ingredients give other bytes: for example another file in
/// every image, another word in the config, or another compression of the symlink layer. The keys of images contain it,
/// so that edge and backend never mix the images of two versions. A test pins the bytes.
pub const FORMAT: u32 = 3;
/// The search path of Docker's own images. Derived images add programs to `/usr/local/bin`.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an image is made from.
#[derive(Debug, Clone, Copy)]
pub struct Ingredients<'a> {
    /// The image's name, in canonical form.
    pub name: &'a ImageName,
    /// The platform that the image is for.
    pub platform: Platform,
    /// The revision of the package set.
    pub revision: &'a Revision,
    /// When the revision was committed, in seconds since 1970, if known.
    pub revision_date: Option<i64>,
    /// The image's packages. If two have a file at the same path, the earlier one wins.
    pub packages: &'a [Selected<&'a PackageRecord>],
}

/// Everything that is known about an image before its layers are packed.
#[derive(Debug, Clone)]
pub struct Blueprint {
    /// The layers of store paths, bottom first.
    pub layers: Vec<LayerPlan>,
    /// The step of the layers ([`Layers::step`]).
    pub step: Option<usize>,
    /// The files that are left out because another package has a file at the same path.
    pub conflicts: Vec<Conflict>,
    /// The total NAR size of all store paths, in bytes. Each path counts once.
    pub nar_size: u64,
    top: archive::Blob,
    platform: Platform,
    created: String,
    execution: ExecutionConfig,
}

/// Why an image cannot be made from packages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlueprintError {
    /// The closures of the packages contradict each other.
    #[error(transparent)]
    Closure(#[from] ClosureError),
    /// The files of the packages cannot be merged.
    #[error(transparent)]
    Forest(#[from] ForestError),
}

/// A blob in memory, with its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmallBlob {
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's bytes.
    pub bytes: Vec<u8>,
}

/// An image, without the bytes of its layers of store paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The symlink layer.
    pub top: SmallBlob,
    /// The config.
    pub config: SmallBlob,
    /// The OCI manifest.
    pub oci: SmallBlob,
    /// The Docker manifest, for clients that do not accept OCI. `None` if layers use zstd, which Docker's format lacks.
    pub docker: Option<SmallBlob>,
}

impl Blueprint {
    /// The blueprint for these ingredients. `group` divides the members of the packages' closure into layers.
    /// `encoding` says how the layers will be packed.
    ///
    /// # Errors
    /// If the packages' closures contradict each other in a way that [`settlement`] cannot settle, or if their files
    /// exceed a limit of [`ForestError`].
    pub fn new(
        ingredients: Ingredients<'_>,
        group: impl FnOnce(&Closure, &[Part]) -> Layers,
        encoding: &LayerEncoding,
    ) -> Result<Self, BlueprintError> {
        let records = || ingredients.packages.iter().map(|selected| selected.package);
        let closure = settlement::closure(&records().collect::<Vec<_>>())?;
        let parts: Vec<Part> = ingredients
            .packages
            .iter()
            .map(|selected| selected.package.part(&closure, !selected.requested))
            .collect();
        let Layers { layers, step } = group(&closure, &parts);
        let layers = layers
            .into_iter()
            .map(|layer| LayerPlan::new(layer.members.into_iter().map(|i| &closure.paths()[i]), encoding))
            .collect();
        // Two names can stand for the same package.
        let mut seen = BTreeSet::new();
        let (mut trees, mut files) = (Vec::new(), Vec::new());
        for selected in ingredients.packages {
            let record = selected.package;
            for output in &record.package.outputs {
                let tree = PackageFiles { path: &output.path, listing: &record.listing };
                match selected.shows {
                    Shows::Everything if seen.insert(&output.path) => trees.push(tree),
                    Shows::Everything => {}
                    Shows::Only(paths) => files.extend(paths.iter().map(|path| (*path, tree))),
                }
            }
        }
        let first = |provider: fn(&PackageRecord) -> Option<&StorePath>| records().filter_map(provider).min();
        let fixtures = Fixtures {
            sh: first(|record| record.sh.as_ref()),
            env: first(|record| record.env.as_ref()),
            zoneinfo: first(|record| record.zoneinfo.as_ref()),
            files: &files,
        };
        let forest = Forest::new(&trees, fixtures)?;
        let created = rfc3339(ingredients.revision_date.unwrap_or(0));
        Ok(Self {
            layers,
            step,
            execution: execution(ingredients, &forest, &created),
            top: archive::pack(forest.entries).expect("a forest has every path once, below directories"),
            conflicts: forest.conflicts,
            nar_size: closure.nar_size(),
            platform: ingredients.platform,
            created,
        })
    }

    /// The image. `layers` are the records of [`Blueprint::layers`], in the same order.
    pub fn assemble(self, layers: &[LayerRecord]) -> Image {
        assert_eq!(layers.len(), self.layers.len(), "every planned layer is packed");
        let comments = self.layers.iter().map(|plan| match plan.paths.as_slice() {
            [path] => path.base_name().to_owned(),
            [first, rest @ ..] => format!("{} and {} more store paths", first.base_name(), rest.len()),
            [] => String::new(),
        });
        let mut contents: Vec<_> = layers.iter().map(|layer| layer.diff_id).zip(comments).collect();
        contents.push((self.top.diff_id, "symlinks and /etc".to_owned()));
        let annotations = self.execution.labels.clone();
        let config = ImageConfig::new(self.created, self.platform, self.execution, contents);
        let config = small_blob(serde_json::to_vec(&config).expect("texts and numbers serialise"));
        let manifest = |format: ManifestFormat| {
            let descriptor =
                |digest, size, compression| Some(Descriptor::new(format.layer(compression)?, digest, size));
            let layers = layers
                .iter()
                .map(|layer| descriptor(layer.digest, layer.size, layer.compression))
                .chain([descriptor(self.top.digest, self.top.bytes.len() as u64, LayerCompression::Gzip)])
                .collect::<Option<Vec<_>>>()?;
            let config = (config.digest, config.bytes.len() as u64);
            let manifest = ImageManifest::new(format, config, layers, annotations.clone());
            Some(small_blob(Document::Image(manifest).to_bytes()))
        };
        Image {
            oci: manifest(ManifestFormat::Oci).expect("OCI has a media type for every compression"),
            docker: manifest(ManifestFormat::Docker),
            top: SmallBlob { digest: self.top.digest, bytes: self.top.bytes },
            config,
        }
    }
}

/// How containers of the image start.
fn execution(ingredients: Ingredients<'_>, forest: &Forest, created: &str) -> ExecutionConfig {
    let mut env = vec![PATH.to_owned(), "LANG=C.UTF-8".to_owned()];
    if forest.has(Forest::CA_BUNDLE) {
        env.push(format!("SSL_CERT_FILE=/{}", Forest::CA_BUNDLE));
    }
    let user = ingredients.name.user();
    if user {
        // Some runtimes do not read the home directory from /etc/passwd.
        env.push(format!("HOME={}", Forest::USER_HOME));
    }
    let mut requested = ingredients.packages.iter().filter(|selected| selected.requested);
    let only = requested.next().filter(|_| requested.next().is_none()).map(|selected| selected.package);
    let program = match only {
        _ if ingredients.name.starts_shell() => Some("bash"),
        Some(record) => Some(record.package.program()),
        None => None,
    };
    let cmd = program.map(|program| format!("bin/{program}")).filter(|path| forest.has(path));
    ExecutionConfig {
        user: user.then(|| format!("{USER_ID}:{USER_ID}")),
        working_dir: user.then_some(Forest::USER_HOME),
        env,
        cmd: cmd.map(|path| format!("/{path}")).into_iter().collect(),
        labels: labels(ingredients, only, created),
    }
}

/// The image's labels, with the keys of the OCI image spec, "annotations.md".
fn labels(
    ingredients: Ingredients<'_>,
    only: Option<&PackageRecord>,
    created: &str,
) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut label = |key: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            labels.insert(format!("org.opencontainers.image.{key}"), value.to_owned());
        }
    };
    label("title", Some(&ingredients.name.to_string()));
    label("created", Some(created));
    label("revision", Some(ingredients.revision.id()));
    if let Some((url, _)) = ingredients.revision.commit() {
        label("source", Some(url.as_str()));
    }
    if let Some(PackageRecord { package, .. }) = only {
        label("version", package.version.as_deref());
        label("description", package.description.as_deref());
        label("url", package.homepage.as_deref());
        label("licenses", Some(&package.license.join(" AND ")));
    }
    labels
}

/// A time in the format of image configs (RFC 3339). The epoch if it cannot be expressed.
pub(crate) fn rfc3339(seconds: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned())
}

fn small_blob(bytes: Vec<u8>) -> SmallBlob {
    SmallBlob { digest: Digest::of(&bytes), bytes }
}

#[cfg(test)]
mod tests;
