use super::*;
use crate::{
    Closure, StorePath,
    image::{
        layer::{LayerEncoding, LayerPlan},
        settlement::Settlement,
    },
    naming::{
        package::{Output, Package, PackageRecord},
        package_source::Revision,
    },
    nix::{closure::PathInfo, listing::tests::Sketch},
    oci::{
        digest::{DiffId, Digest, NarHash},
        media_type::LayerCompression,
    },
};
use std::collections::{BTreeMap, HashMap};

const BUDGET: usize = 12;

fn encoding() -> LayerEncoding {
    LayerEncoding { compression: LayerCompression::Gzip, identity: "test-1".into() }
}

fn token() -> ImageSetId {
    "c0ffee".parse().expect("a token")
}

fn name(text: &str) -> ImageName {
    text.parse().expect("an image name")
}

fn package_name(text: &str) -> PackageName {
    text.parse().expect("a package name")
}

fn store_path(name: &str) -> StorePath {
    let hash: String = Digest::of(name.as_bytes()).hex().replace('e', "g").chars().take(32).collect();
    format!("/nix/store/{hash}-{name}").parse().expect("a store path")
}

/// A package with these dependencies. It has a program named like the package, and files in directories that other
/// packages have, too.
fn record(name: &str, dependencies: &[&str], sh: bool) -> PackageRecord {
    let info = |path: &str, references: &[&str]| PathInfo {
        path: store_path(path),
        nar_hash: NarHash::of(path.as_bytes()),
        // The path is so large that it has a layer of its own.
        nar_size: 2_000_000 + path.len() as u64,
        references: references.iter().map(|name| store_path(name)).collect(),
    };
    let program = if sh { "bin/sh; " } else { "" };
    let files = format!("{program}bin/{name}; share/doc/{name}/; sbin -> bin; share/away -> ?; share/%ff%25");
    let listing = match dependencies.first() {
        Some(first) => Sketch::default()
            .path(&store_path(first), "lib/x")
            .path(&store_path(name), &format!("{files}; lib -> {first}:lib"))
            .listing(&[&store_path(first)]),
        None => Sketch::default().path(&store_path(name), &files).listing(&[]),
    };
    let own = [dependencies, &[name]].concat();
    PackageRecord {
        package: Package {
            attribute: name.into(),
            drv: store_path(&format!("{name}.drv")),
            outputs: vec![Output { name: "out".into(), path: store_path(name) }],
            name: format!("{name}-1.0"),
            pname: Some(name.into()),
            version: Some("1.0".into()),
            license: vec!["MIT".into()],
            main_program: None,
            description: Some(format!("The {name}")),
            homepage: None,
        },
        closure: dependencies.iter().map(|name| info(name, &[])).chain([info(name, &own)]).collect(),
        listing,
        sh: sh.then(|| store_path(name)),
        env: None,
        zoneinfo: dependencies.first().map(|name| store_path(name)),
        decided: BTreeMap::new(),
    }
}

/// The package that every image has, and of which two files appear.
fn services() -> PackageRecord {
    let files = "etc/protocols; etc/rpc; etc/services";
    let listing = Sketch::default().path(&store_path("iana-etc"), files).listing(&[]);
    PackageRecord { listing, ..record("iana-etc", &[], false) }
}

fn packages() -> BTreeMap<PackageName, Option<PackageRecord>> {
    [
        ("bashinteractive", Some(record("bash", &["libc-2"], true))),
        ("coreutils", Some(record("coreutils", &["libc-2", "libacl-1"], false))),
        ("moreutils", None),
        ("nano", None),
        ("cacert", None),
        ("iana-etc", Some(services())),
        ("git", Some(record("git", &["libc-2", "curl-8", "zlib-1"], false))),
        ("jq", Some(record("jq", &["libc-2", "onig-6"], false))),
        ("curl", Some(record("curl-8", &["libc-2", "zlib-1"], false))),
    ]
    .map(|(name, record)| (package_name(name), record))
    .into()
}

fn packed(key: &CacheKey) -> LayerRecord {
    LayerRecord {
        digest: Digest::of(key.as_bytes()),
        diff_id: DiffId::of(key.as_bytes()),
        size: 10,
        uncompressed: 20,
        compression: LayerCompression::Gzip,
    }
}

/// A strategy with a profile by which `onig` has no layer of its own.
fn strategy() -> Sharing {
    let json = r#"{"format":3,"id":"x","layer_bytes":1000000,"places":{"jq":[99,true],"onig-6":[99,false],
        "libc-2":[900,true],"git":[70,true],"bash":[50,false]}}"#;
    Sharing::new(Arc::new(serde_json::from_str(json).expect("a profile")))
}

/// The records that the backend publishes after building an image of each package alone.
struct Published {
    set: PackageSetRecord,
    known: BTreeMap<PackageName, KnownPackage>,
    strategy: Sharing,
}

/// The record of a package with the layers that it brings into images.
fn described(record: PackageRecord, strategy: &Sharing) -> KnownPackage {
    let closure = Closure::new(&record.closure).expect("a closure");
    let parts = [record.part(&closure, false)];
    let layers = strategy.layers_at(&closure, &parts, 0).into_iter().map(|layer| {
        let key = LayerPlan::new(layer.members.into_iter().map(|i| &closure.paths()[i]), &encoding()).key;
        (key, packed(&key))
    });
    let layers = layers.collect();
    KnownPackage::new(record, strategy.profile(), layers, true)
}

fn published() -> Published {
    let strategy = strategy();
    let profile = strategy.profile();
    let revision =
        Revision::Git { url: "https://example.org".into(), rev: "0a".repeat(20).parse().expect("a commit") };
    let known = packages().into_iter().map(|(name, record)| {
        let known = record.map_or(KnownPackage::Absent, |record| described(record, &strategy));
        (name, known)
    });
    let known = known.collect();
    let version = strategy.version();
    let set = PackageSetRecord::new(
        revision,
        Some(1_700_000_000),
        RecipeRecord {
            platform: Platform::Amd64,
            layer_budget: BUDGET,
            closure_bytes: 1 << 30,
            encoding: encoding(),
            strategy: version,
        },
        profile,
    );
    Published { set, known, strategy }
}

impl Published {
    fn compose(&self, image: &str) -> Result<Image, ComposeError> {
        compose(&name(image), &self.set, |name| self.known.get(name))
    }

    /// Makes the image as the backend does, with the whole profile and every layer.
    fn build(&self, image: &str) -> Image {
        let (name, packages) = (name(image), packages());
        let resolve = |package: &PackageName| match packages.get(package) {
            Some(Some(record)) => Ok(record),
            _ => Err(PackageProblem::new(ProblemKind::NotFound, "")),
        };
        let selected = select(&name, |one: &&PackageRecord, other| one.is_same(other), resolve);
        let ingredients = Ingredients {
            name: &name,
            platform: Platform::Amd64,
            revision: &self.set.revision,
            revision_date: self.set.revision_date,
            packages: &selected.expect("the packages are there"),
        };
        let blueprint = Blueprint::new(
            ingredients,
            |closure, parts| self.strategy.layers(closure, parts, BUDGET),
            &encoding(),
        )
        .expect("closed");
        let layers: Vec<_> = blueprint.layers.iter().map(|plan| packed(&plan.key)).collect();
        blueprint.assemble(&layers)
    }
}

#[test]
fn composes_what_the_backend_builds() {
    let published = published();
    for image in
        ["git", "git/jq", "shell/git/jq", "user/shell/curl/git", "shell/coreutils", "amd64/jq/git/curl"]
    {
        assert_eq!(published.compose(image), Ok(published.build(image)), "{image}");
    }
}

/// `jq` was recorded after `libc-2` had been built again.
#[test]
fn records_that_disagree_make_the_image_of_those_that_agree() {
    for content in [[0x00; 32], [0xff; 32]] {
        let mut published = published();
        let strategy = published.strategy.clone();
        let mut know = |name: &str, record: &PackageRecord| {
            published.known.insert(package_name(name), described(record.clone(), &strategy));
        };
        // The links of a package lead to its first dependency.
        let git = record("git", &["curl-8", "libc-2", "zlib-1"], false);
        let mut jq = record("jq", &["onig-6", "libc-2"], false);
        (jq.closure[1].nar_hash, jq.closure[1].nar_size) = (NarHash::from_bytes(content), 3_000_000);
        know("git", &git);
        know("jq", &jq);
        let image = published.compose("git/jq").expect("the rule decides");
        assert!(disagree(published.known.values()));
        let jq_wins = content < *NarHash::of(b"libc-2").as_bytes();
        // A link of curl leads into libc, so the files are known only for the content with which curl was recorded.
        assert_eq!(published.compose("curl/jq").is_err(), jq_wins);

        let settlement = Settlement::new(&[&git, &jq]).expect("settled");
        for (name, record) in [("git", &git), ("jq", &jq)] {
            let renewed = settlement.renewed(record).unwrap_or_else(|| record.clone());
            published.known.insert(package_name(name), described(renewed, &strategy));
        }
        assert_eq!(published.compose("git/jq"), Ok(image));
        // Only one content of libc is known to have a shell.
        jq.sh = Some(store_path("libc-2"));
        published.known.insert(package_name("jq"), described(jq, &strategy));
        published.known.insert(package_name("git"), described(git, &strategy));
        assert_eq!(published.compose("git/jq").is_ok(), jq_wins);
    }
}

#[test]
fn images_with_unknown_records_are_left_to_the_backend() {
    let published = published();
    let check =
        |image: &str, expect: ComposeError| assert_eq!(published.compose(image), Err(expect), "{image}");
    check("git/htop", ComposeError::Unknown(package_name("htop")));
    check("nano", ComposeError::Problem);
    check("debug", ComposeError::Unknown(package_name("findutils")));
    let with = |change: fn(&mut PackageSetRecord)| {
        let mut set = published.set.clone();
        change(&mut set);
        compose(&name("shell/git/jq"), &set, |name| published.known.get(name)).expect_err("it has to give up")
    };
    assert!(matches!(with(|set| set.recipe.strategy = "sharing-2-x".into()), ComposeError::Strategy(_)));
    assert!(matches!(with(|set| set.recipe.closure_bytes = 5000), ComposeError::TooLarge(_)));
    // With a smaller budget the image takes a step at which no layers were packed.
    assert!(matches!(with(|set| set.recipe.layer_budget = 6), ComposeError::NeverPacked(_, 1..)));
    // With a budget smaller than the number of packages, the image has a layer that no other image has.
    assert!(matches!(with(|set| set.recipe.layer_budget = 3), ComposeError::OwnLayer));
    assert!(matches!(
        with(|set| set.recipe.encoding.identity = "test-2".into()),
        ComposeError::NeverPacked(..)
    ));
}

#[test]
fn records_are_read_as_they_were_written() {
    let published = published();
    let key = package_set_key(&token());
    assert_eq!(PackageSetRecord::decode(&key, &published.set.encode(&key)).as_ref(), Ok(&published.set));
    let path =
        PackageSetRecord { revision: Revision::Path { content: "00".into() }, ..published.set.clone() };
    assert_eq!(PackageSetRecord::decode(&key, &path.encode(&key)), Ok(path));
    for (name, known) in &published.known {
        let key = package_key(&token(), Platform::Amd64, name);
        let bytes = known.encode(&key).expect("a closure");
        assert_eq!(KnownPackage::decode(&key, &bytes).as_ref(), Ok(known), "{name}");
        assert!(known.is_complete());
    }
    assert_eq!(published.known[&package_name("git")].layers().count(), 4);
}

#[test]
fn damaged_records_are_refused() {
    let published = published();
    let (git, jq) = (package_name("git"), package_name("jq"));
    let key = package_key(&token(), Platform::Amd64, &git);
    let bytes = published.known[&git].encode(&key).expect("a closure");
    let read = |bytes: &[u8]| KnownPackage::decode(&key, bytes).expect_err("it is no record");
    for cut in 0..bytes.len() {
        read(&bytes[..cut]);
    }
    for i in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[i] ^= 1;
        assert_eq!(matches!(read(&damaged), ReadRecordError::Version), i < 12, "byte {i}");
    }
    assert_eq!(read(&[&bytes[..], b"x"].concat()), ReadRecordError::Digest);
    assert_eq!(read(b""), ReadRecordError::Version);
    // An intact record under another key is refused.
    for other in [
        package_key(&token(), Platform::Amd64, &jq),
        package_key(&token(), Platform::Arm64, &git),
        package_key(&"other".parse().expect("a token"), Platform::Amd64, &git),
        package_set_key(&token()),
    ] {
        assert_eq!(KnownPackage::decode(&other, &bytes), Err(ReadRecordError::Digest));
        assert!(PackageSetRecord::decode(&other, &bytes).is_err());
    }
}

#[test]
fn a_package_without_its_closure_has_no_record() {
    let published = published();
    let mut record = record("git", &["libc-2"], false);
    record.closure.remove(0);
    let profile = published.strategy.profile();
    let known = KnownPackage::new(record, profile, HashMap::new(), false);
    let key = package_key(&token(), Platform::Amd64, &package_name("git"));
    let error = known.encode(&key).expect_err("a path is missing").to_string();
    assert!(error.contains("libc-2"), "{error}");
    assert!(!known.is_complete());
}

/// Workers KV allows 25 MiB, and composing an image hashes and copies every byte. This closure has 1,000 paths, each
/// with 8 references, a layer of its own and 10 files.
#[test]
fn large_closures_have_small_records() {
    let names: Vec<String> = (0..1000).map(|i| format!("a-library-of-some-length-{i}.0.1")).collect();
    let mut record = record("git", &[], false);
    let mut layers = HashMap::new();
    record.closure.extend(names.iter().enumerate().map(|(i, name)| PathInfo {
        path: store_path(name),
        nar_hash: NarHash::of(name.as_bytes()),
        nar_size: 1_000_000 + i as u64,
        references: (0..8).map(|j| store_path(&names[i.saturating_sub(j * 7)])).collect(),
    }));
    for member in Closure::new(&record.closure).expect("a closure").paths() {
        let key = LayerPlan::new([member], &encoding()).key;
        layers.insert(key, packed(&key));
    }
    let files = (0..10_000).map(|i| format!("lib/{}/file-{i}", i / 10)).collect::<Vec<_>>().join("\n");
    record.listing = Sketch::default().path(&store_path("git"), &files).listing(&[]);
    let strategy = strategy();
    let known = KnownPackage::new(record, strategy.profile(), layers, true);
    let key = package_key(&token(), Platform::Amd64, &package_name("git"));
    let bytes = known.encode(&key).expect("a closure");
    println!("1,000 paths, 10,000 files: {} bytes", bytes.len());
    assert!(bytes.len() < 512 << 10, "{}", bytes.len());
    assert_eq!(KnownPackage::decode(&key, &bytes), Ok(known));
}

/// Whatever a package set is, the edge knows which one its record is of.
#[test]
fn a_record_has_the_revision_that_it_was_made_of() {
    let set = published().set;
    let rev = || "0b".repeat(20).parse().expect("a commit");
    let url = || "https://example.org/o/r".into();
    let flake =
        |dir: &str| Revision::Flake { url: url(), dir: dir.parse().expect("a directory"), rev: rev() };
    let revisions = [
        Revision::Git { url: url(), rev: rev() },
        flake(""),
        flake("a/b"),
        Revision::Path { content: "0c".repeat(32) },
    ];
    let key = CacheKey::builder("test").build();
    for revision in revisions {
        let record = PackageSetRecord { revision: revision.clone(), ..set.clone() };
        let read = PackageSetRecord::decode(&key, &record.encode(&key)).expect("it is a record");
        assert_eq!(read.revision, revision);
    }
}
