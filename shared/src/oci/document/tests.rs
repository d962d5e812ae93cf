use super::*;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn annotations() -> BTreeMap<String, String> {
    ["b", "a", "c"].map(|key| (key.to_owned(), format!("{key}'s"))).into()
}

fn subject() -> Descriptor {
    Descriptor::new(media_type::OCI_MANIFEST, digest("subject"), 3)
}

fn image() -> Document {
    let layers = ["one", "two"].map(|layer| {
        Descriptor::new("application/vnd.oci.image.layer.v1.tar+gzip", digest(layer), layer.len() as u64)
    });
    let image =
        ImageManifest::new(ManifestFormat::Oci, (digest("config"), 6), layers.to_vec(), annotations());
    Document::Image(ImageManifest { subject: Some(subject()), ..image })
}

fn index(format: ManifestFormat) -> Document {
    let manifest = |platform: Platform| Descriptor {
        platform: Some(platform.into()),
        annotations: annotations(),
        artifact_type: Some("application/example".to_owned()),
        ..Descriptor::new(format.manifest(), digest(platform.system()), 10)
    };
    let index = ImageIndex::new(format, [Platform::Amd64, Platform::Arm64].map(manifest).to_vec());
    Document::Index(ImageIndex { subject: Some(subject()), annotations: annotations(), ..index })
}

/// A document's JSON with something changed.
fn changed(document: &Document, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut json = serde_json::from_slice(&document.to_bytes()).expect("JSON");
    change(&mut json);
    serde_json::to_vec(&json).expect("JSON")
}

#[test]
fn manifests_are_what_the_spec_says() {
    let document = image();
    let read = oci_spec::image::ImageManifest::from_reader(&document.to_bytes()[..]).expect("a manifest");
    assert_eq!(read.media_type().as_ref().map(ToString::to_string).as_deref(), Some(document.media_type()));
    assert_eq!(read.config().digest().to_string(), digest("config").to_string());
    assert_eq!(read.config().size(), 6);
    let layers: Vec<_> = read.layers().iter().map(|layer| layer.digest().to_string()).collect();
    assert_eq!(layers, ["one", "two"].map(|layer| digest(layer).to_string()));
    assert_eq!(
        read.subject().as_ref().expect("a subject").digest().to_string(),
        subject().digest.to_string()
    );
    assert_eq!(
        read.annotations().clone().expect("annotations").into_iter().collect::<BTreeMap<_, _>>(),
        annotations()
    );
}

#[test]
fn indexes_are_what_the_spec_says() {
    let read = oci_spec::image::ImageIndex::from_reader(&index(ManifestFormat::Oci).to_bytes()[..]);
    let read = read.expect("an index");
    let platforms = read.manifests().iter().map(|manifest| {
        let platform = manifest.platform().as_ref().expect("a platform");
        (platform.os().to_string(), platform.architecture().to_string(), manifest.digest().to_string())
    });
    let expect = [Platform::Amd64, Platform::Arm64].map(|platform| {
        ("linux".to_owned(), platform.architecture().to_owned(), digest(platform.system()).to_string())
    });
    assert_eq!(platforms.collect::<Vec<_>>(), expect);
    let first = read.manifests().first().expect("a manifest");
    assert_eq!(
        first.artifact_type().as_ref().map(ToString::to_string).as_deref(),
        Some("application/example")
    );
    assert_eq!(first.annotations().as_ref().map(|annotations| annotations.len()), Some(3));
    assert!(read.subject().is_some());
    let docker: Value = serde_json::from_slice(&index(ManifestFormat::Docker).to_bytes()).expect("JSON");
    assert_eq!(docker["mediaType"], "application/vnd.docker.distribution.manifest.list.v2+json");
    assert_eq!(docker["manifests"][0]["mediaType"], media_type::DOCKER_MANIFEST);
}

#[test]
fn the_bytes_are_pinned() {
    let config = (digest(""), 7);
    let layer = Descriptor::new("application/vnd.oci.image.layer.v1.tar+gzip", digest(""), 1);
    let image = ImageManifest::new(ManifestFormat::Oci, config, vec![layer], annotations());
    let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let expect = format!(
        concat!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","#,
            r#""config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{empty}","size":7}},"#,
            r#""layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{empty}","size":1}}],"#,
            r#""annotations":{{"a":"a's","b":"b's","c":"c's"}}}}"#,
        ),
        empty = empty
    );
    assert_eq!(String::from_utf8(Document::Image(image).to_bytes()).expect("JSON"), expect);
    let nothing = Document::Index(ImageIndex::new(ManifestFormat::Oci, Vec::new()));
    let expect =
        r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    assert_eq!(String::from_utf8(nothing.to_bytes()).expect("JSON"), expect);
}

#[test]
fn children_are_all_that_must_be_stored() {
    let children = |document: &Document| -> Vec<_> {
        document.children().map(|child| (child.descriptor.digest, child.kind)).collect()
    };
    let blobs = ["config", "one", "two"].map(|blob| (digest(blob), ChildKind::Blob));
    assert_eq!(children(&image()), blobs);
    for format in [ManifestFormat::Oci, ManifestFormat::Docker] {
        let manifests = [Platform::Amd64, Platform::Arm64]
            .map(|platform| (digest(platform.system()), ChildKind::Manifest));
        assert_eq!(children(&index(format)), manifests);
    }
}

#[test]
fn refuses() {
    use ParseDocumentError as Error;
    let check = |bytes: &[u8], expect: Error| assert_eq!(Document::parse(bytes), Err(expect));
    let (image, index) = (image(), index(ManifestFormat::Docker));
    for document in [&image, &index] {
        let check = |change: &dyn Fn(&mut Value), expect: Error| check(&changed(document, change), expect);
        check(&|json| json["schemaVersion"] = json!(1), Error::SchemaVersion);
        check(&|json| json["schemaVersion"] = json!(2.5), Error::SchemaVersion);
        check(&|json| json["schemaVersion"] = Value::Null, Error::SchemaVersion);
        check(&|json| json["mediaType"] = Value::Null, Error::DocumentType(String::new()));
        check(&|json| json["mediaType"] = json!("x".repeat(200)), Error::DocumentType("x".repeat(100)));
        let oci = "application/vnd.oci.image.config.v1+json";
        check(&|json| json["mediaType"] = json!(oci), Error::DocumentType(oci.to_owned()));
        check(&|json| json["subject"]["digest"] = json!("sha256:0"), Error::Digest(ParseDigestError::Hex));
    }
    check(&changed(&image, |json| json["config"] = Value::Null), Error::Missing("config"));
    check(&changed(&image, |json| json["layers"] = Value::Null), Error::Missing("layers"));
    check(&changed(&index, |json| json["manifests"] = Value::Null), Error::Missing("manifests"));
    check(&changed(&image, |json| json["manifests"] = json!([])), Error::Ambiguous("manifests"));
    check(&changed(&index, |json| json["layers"] = json!([])), Error::Ambiguous("layers"));
    let both =
        |json: &mut Value| json["config"] = json!({ "mediaType": "a/b", "digest": digest(""), "size": 0 });
    check(&changed(&index, both), Error::Ambiguous("config"));

    let layer = |field: &'static str, value: Value| changed(&image, |json| json["layers"][1][field] = value);
    check(&layer("digest", json!("md5:00")), Error::Digest(ParseDigestError::Algorithm));
    check(&layer("digest", json!("")), Error::Digest(ParseDigestError::NoAlgorithm));
    for size in [json!(-1), json!(1.5), json!(1_u64 << 63)] {
        check(&layer("size", size.clone()), Error::Size(size.to_string()));
    }
    for text in ["", "gzip", "/gzip", "a/", "a/b c", "a/b; c=d", "a/b/c", "ä/b"] {
        check(&layer("mediaType", json!(text)), Error::MediaType(text.to_owned()));
    }
    let long = format!("a/{}", "b".repeat(128));
    check(&layer("mediaType", json!(long)), Error::MediaType(long.chars().take(100).collect()));
    let config = "application/vnd.oci.image.config.v1+json";
    let listed = changed(&index, |json| json["manifests"][0]["mediaType"] = json!(config));
    check(&listed, Error::DocumentType(config.to_owned()));

    let mut long = image.to_bytes();
    long.resize(MAX_BYTES, b' ');
    assert_eq!(Document::parse(&long).as_ref(), Ok(&image));
    long.push(b' ');
    check(&long, Error::TooLong);
    let of_no_shape = [
        b"".to_vec(),
        b"[]".to_vec(),
        [&image.to_bytes()[..], b"{}"].concat(),
        changed(&image, |json| json["layers"] = json!({})),
        layer("size", json!("7")),
        layer("digest", Value::Null),
        changed(&image, |json| json["annotations"] = json!({ "a": 1 })),
        // Two readers could take one or the other.
        String::from_utf8(image.to_bytes()).expect("JSON").replacen('{', r#"{"layers":[],"#, 1).into_bytes(),
        [&b"{\"x\":"[..], &b"[".repeat(MAX_BYTES / 2)].concat(),
    ];
    for bytes in of_no_shape {
        let parsed = Document::parse(&bytes);
        assert!(matches!(parsed, Err(Error::Json(_))), "{parsed:?}");
    }
}

#[test]
fn what_is_not_known_is_ignored() {
    let document = image();
    let more = changed(&document, |json| {
        json["vendor"] = json!({ "deep": [1, 2, { "more": null }] });
        json["layers"][0]["urls"] = json!(["https://example.org"]);
        json["config"]["data"] = json!("e30=");
    });
    assert_eq!(Document::parse(&more), Ok(document));
}

fn text() -> impl Strategy<Value = String> {
    // Also what JSON has to escape.
    "[a-c\"\\\\\u{0}-\u{1f}é😀]{0,4}"
}

fn texts() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(text(), text(), 0..3)
}

fn descriptor(media_type: impl Strategy<Value = String>) -> impl Strategy<Value = Descriptor> {
    let platform = (text(), text(), option::of(text()))
        .prop_map(|(architecture, os, variant)| DescriptorPlatform { architecture, os, variant });
    let size = 0..=u64::try_from(i64::MAX).expect("positive");
    (media_type, any::<[u8; 32]>(), size, texts(), option::of(platform), option::of(text())).prop_map(
        |(media_type, digest, size, annotations, platform, artifact_type)| Descriptor {
            media_type,
            digest: Digest::from_bytes(digest),
            size,
            annotations,
            platform,
            artifact_type,
        },
    )
}

fn any_media_type() -> impl Strategy<Value = String> {
    "[a-z][a-z.+-]{0,8}/[a-z0-9][a-z.+!_-]{0,8}"
}

fn document_media_type() -> impl Strategy<Value = String> {
    use media_type::{DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
    proptest::sample::select(vec![OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_INDEX])
        .prop_map(Into::into)
}

fn document() -> impl Strategy<Value = Document> {
    let format = || prop_oneof![Just(ManifestFormat::Oci), Just(ManifestFormat::Docker)];
    let about = || (format(), option::of(text()), option::of(descriptor(any_media_type())), texts());
    let image = (about(), descriptor(any_media_type()), vec(descriptor(any_media_type()), 0..3)).prop_map(
        |((format, artifact_type, subject, annotations), config, layers)| {
            Document::Image(ImageManifest { format, artifact_type, config, layers, subject, annotations })
        },
    );
    let index = (about(), vec(descriptor(document_media_type()), 0..3)).prop_map(
        |((format, artifact_type, subject, annotations), manifests)| {
            Document::Index(ImageIndex { format, artifact_type, manifests, subject, annotations })
        },
    );
    prop_oneof![image, index]
}

proptest! {
    #[test]
    fn what_is_written_is_read(document in document()) {
        let bytes = document.to_bytes();
        prop_assert_eq!(Document::parse(&bytes), Ok(document));
    }

    #[test]
    fn descriptors_are_read_as_they_are_written(descriptor in descriptor(any_media_type())) {
        let bytes = serde_json::to_vec(&descriptor).expect("JSON");
        prop_assert_eq!(serde_json::from_slice::<Descriptor>(&bytes).expect("a descriptor"), descriptor);
    }

    #[test]
    fn parsing_any_bytes_ends(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Document::parse(&bytes);
    }

    /// Documents with a byte or two changed get further than noise.
    #[test]
    fn what_is_nearly_a_document_is_read_or_refused(
        document in document(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..3),
    ) {
        let mut bytes = document.to_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(document) = Document::parse(&bytes) {
            prop_assert_eq!(Document::parse(&document.to_bytes()), Ok(document));
        }
    }
}
