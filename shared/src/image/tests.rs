use super::*;
use crate::{
    StorePath,
    layering::{Grouping, Layer},
    naming::package::{Output, Package},
    nix::{closure::PathInfo, listing::tests::Sketch},
    oci::{
        digest::{DiffId, NarHash},
        media_type::LayerCompression,
    },
};

fn store_path(name: &str) -> StorePath {
    let letter = name.chars().next().expect("a name");
    format!("/nix/store/{}-{name}", letter.to_string().repeat(32)).parse().expect("a store path")
}

/// A package that depends on `libc` and has one program, named like the package.
fn record(name: &str) -> PackageRecord {
    let info = |path: StorePath, references: Vec<StorePath>| PathInfo {
        nar_hash: NarHash::of(path.as_str().as_bytes()),
        path,
        nar_size: 1000,
        references,
    };
    let (libc, own) = (store_path("libc"), store_path(name));
    PackageRecord {
        package: Package {
            attribute: name.into(),
            drv: format!("{own}.drv").parse().expect("a store path"),
            outputs: vec![Output { name: "out".into(), path: own.clone() }],
            name: format!("{name}-1.0"),
            pname: Some(name.into()),
            version: Some("1.0".into()),
            license: vec!["MIT".into()],
            main_program: None,
            description: None,
            homepage: None,
        },
        listing: Sketch::default().path(&own, &format!("bin/{name}")).listing(&[]),
        closure: vec![info(libc.clone(), vec![]), info(own, vec![libc])],
        sh: None,
        env: None,
        zoneinfo: None,
        decided: BTreeMap::new(),
    }
}

fn encoding(compression: LayerCompression, identity: &str) -> LayerEncoding {
    LayerEncoding { compression, identity: identity.to_owned() }
}

fn image(name: &str, packages: &[&str]) -> (Blueprint, Image) {
    compressed_image(name, packages, LayerCompression::Gzip)
}

fn compressed_image(name: &str, packages: &[&str], compression: LayerCompression) -> (Blueprint, Image) {
    let name: ImageName = name.parse().expect("an image name");
    let records: Vec<_> = packages.iter().map(|name| record(name)).collect();
    let selected: Vec<_> = records
        .iter()
        .map(|package| Selected { package, requested: true, shows: Shows::Everything })
        .collect();
    let blueprint = Blueprint::new(
        Ingredients {
            name: &name,
            platform: Platform::Amd64,
            revision: &Revision::Path { content: "c0ffee".into() },
            revision_date: None,
            packages: &selected,
        },
        |closure, _| {
            let layer = |i| Layer { members: vec![i], reason: Grouping::Needed(i) };
            Layers { layers: (0..closure.len()).map(layer).collect(), step: None }
        },
        &encoding(compression, "test-1"),
    )
    .expect("a closure");
    let packed: Vec<_> = blueprint
        .layers
        .iter()
        .map(|plan| LayerRecord {
            digest: Digest::of(plan.key.to_string().as_bytes()),
            diff_id: DiffId::of(plan.key.to_string().as_bytes()),
            size: 10,
            uncompressed: 20,
            compression,
        })
        .collect();
    let image = blueprint.clone().assemble(&packed);
    (blueprint, image)
}

#[test]
fn manifests_and_configs_are_what_the_spec_says() {
    let (blueprint, image) = image("git/htop", &["git", "htop"]);
    let manifest =
        oci_spec::image::ImageManifest::from_reader(&image.oci.bytes[..]).expect("an OCI manifest");
    assert_eq!(manifest.layers().len(), blueprint.layers.len() + 1);
    assert_eq!(manifest.config().digest().to_string(), image.config.digest.to_string());
    assert_eq!(manifest.config().size(), image.config.bytes.len() as u64);
    let config = oci_spec::image::ImageConfiguration::from_reader(&image.config.bytes[..]).expect("a config");
    assert_eq!(config.rootfs().diff_ids().len(), manifest.layers().len());
    let top = manifest.layers().last().expect("a layer");
    assert_eq!(
        (top.digest().to_string(), top.size()),
        (image.top.digest.to_string(), image.top.bytes.len() as u64)
    );
    // A config has the digests of the tars, a manifest those of the blobs.
    let diff_ids = config.rootfs().diff_ids();
    assert_ne!(diff_ids.last().map(String::as_str), Some(top.digest().to_string().as_str()));
    assert_eq!(config.created().as_deref(), Some("1970-01-01T00:00:00Z"));
    let docker: serde_json::Value =
        serde_json::from_slice(&image.docker.expect("gzip layers").bytes).expect("JSON");
    assert_eq!(docker["mediaType"], crate::oci::media_type::DOCKER_MANIFEST);
    assert!(
        docker["layers"]
            .as_array()
            .expect("layers")
            .iter()
            .all(|layer| { layer["mediaType"] == "application/vnd.docker.image.rootfs.diff.tar.gzip" })
    );
}

/// The very bytes, and for a person to read a line for each name.
#[test]
fn documents_match_their_snapshots() {
    let (_, image) = image("shell/git/htop", &["git", "htop"]);
    let lines = |blob: SmallBlob| {
        let text = String::from_utf8(blob.bytes).expect("JSON is UTF-8");
        text.replace("{\"", "{\n\"").replace(",\"", ",\n\"")
    };
    insta::assert_snapshot!("config", lines(image.config));
    insta::assert_snapshot!("manifest_oci", lines(image.oci));
    insta::assert_snapshot!("manifest_docker", lines(image.docker.expect("gzip layers")));
    let (_, zstd) = compressed_image("git", &["git"], LayerCompression::Zstd);
    insta::assert_snapshot!("manifest_zstd", lines(zstd.oci));
}

#[test]
fn the_symlink_layer_is_gzip() {
    let (blueprint, image) = compressed_image("git/htop", &["git", "htop"], LayerCompression::Zstd);
    let manifest: serde_json::Value = serde_json::from_slice(&image.oci.bytes).expect("JSON");
    let layers = manifest["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), blueprint.layers.len() + 1);
    let (top, others) = layers.split_last().expect("layers");
    for layer in others {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    }
    // The symlink layer is gzip, so that the Worker can compose images with zstd layers without a zstd encoder.
    assert_eq!(top["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(image.top.bytes[..2], [0x1f, 0x8b], "the magic number of gzip");
    assert_eq!(image.docker, None, "Docker's format has no zstd");
}

#[test]
fn commands_follow_the_name() {
    let check = |name: &str, packages: &[&str], expect: &[&str]| {
        let config: serde_json::Value =
            serde_json::from_slice(&image(name, packages).1.config.bytes).expect("JSON");
        let cmd = config["config"]["Cmd"].as_array().cloned().unwrap_or_default();
        assert_eq!(cmd, expect, "{name}");
    };
    check("git", &["git"], &["/bin/git"]);
    check("git/htop", &["git", "htop"], &[]);
    check("shell/git", &["bash", "git"], &["/bin/bash"]);
    check("debug", &["bash"], &["/bin/bash"]);
}

#[test]
fn the_user_follows_the_name() {
    let config = |name: &str| -> serde_json::Value {
        let config: serde_json::Value =
            serde_json::from_slice(&image(name, &["git"]).1.config.bytes).expect("JSON");
        config["config"].clone()
    };
    let (user, root) = (config("user/git"), config("git"));
    assert_eq!((user["User"].as_str(), user["WorkingDir"].as_str()), (Some("1000:1000"), Some("/home/user")));
    assert!(user["Env"].as_array().expect("a list").contains(&"HOME=/home/user".into()));
    assert!(root.get("User").is_none() && root.get("WorkingDir").is_none());
    assert_eq!(image("user/git", &["git"]).1.top, image("git", &["git"]).1.top, "the files are the same");
}

#[test]
fn layer_keys_depend_on_contents_and_encoder_alone() {
    let key = |name: &str, packages: &[&str], path: &str| {
        let plans = image(name, packages).0.layers;
        plans.into_iter().find(|plan| plan.paths == [store_path(path)]).expect("a layer").key
    };
    assert_eq!(key("git", &["git"], "libc"), key("htop", &["htop"], "libc"));
    assert_ne!(key("git", &["git"], "git"), key("git", &["git"], "libc"));
    let closure = Closure::new(&record("git").closure).expect("a closure");
    let key = |encoder| LayerPlan::new(closure.paths(), &encoding(LayerCompression::Gzip, encoder)).key;
    assert_ne!(key("a"), key("b"));
}

#[test]
fn image_bytes_are_pinned_to_the_format() {
    let image = image("user/git/htop", &["git", "htop"]).1;
    // If these digests change, FORMAT must change, because the keys of images contain it.
    assert_eq!(FORMAT, 3);
    assert_eq!(image.oci.digest.hex(), "baeac2947f6ce4c4b1e35c4c14a93d68b031f9b06edd5394fe2612586afb5765");
}

#[test]
fn the_same_ingredients_make_the_same_bytes() {
    assert_eq!(image("git/htop", &["git", "htop"]).1, image("git/htop", &["git", "htop"]).1);
}
