use super::*;
use crate::{DiffId, Digest};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::Read as _;

fn path(text: impl AsRef<[u8]>) -> ImagePath {
    ImagePath::parse(text).expect("an absolute path")
}

fn decompress(blob: &Blob) -> Vec<u8> {
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(blob.bytes.as_slice()).read_to_end(&mut tar).expect("compressed data");
    tar
}

/// An entry as another reader (that of the `tar` crate) sees it.
struct Seen {
    name: Vec<u8>,
    mode: u32,
    owner: u64,
    kind: tar::EntryType,
    link: Option<Vec<u8>>,
    bytes: Vec<u8>,
}

fn read_back(tar: &[u8]) -> Vec<Seen> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().expect("an archive");
    entries
        .map(|entry| {
            let mut entry = entry.expect("an entry");
            let header = entry.header();
            assert_eq!(header.uid().expect("uid"), header.gid().expect("gid"));
            assert_eq!(header.mtime().expect("mtime"), 1);
            let (mode, kind) = (header.mode().expect("mode"), header.entry_type());
            let owner = header.uid().expect("uid");
            let name = entry.path_bytes().into_owned();
            let link = entry.link_name_bytes().map(|link| link.into_owned());
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("content");
            Seen { name, mode, owner, kind, link, bytes }
        })
        .collect()
}

#[test]
fn image_paths() {
    let check = |text: &[u8], expect: Result<&[u8], ParseImagePathError>| {
        let parsed = ImagePath::parse(text);
        assert_eq!(
            parsed.as_ref().map(ImagePath::relative),
            expect.as_ref().copied(),
            "{}",
            text.escape_ascii()
        );
    };
    check(b"/nix/store", Ok(b"nix/store"));
    check(b"/a b/\xff\n", Ok(b"a b/\xff\n"));
    check(b"/...", Ok(b"..."));
    check(b"", Err(ParseImagePathError::Relative));
    check(b"nix", Err(ParseImagePathError::Relative));
    check(b"/", Err(ParseImagePathError::Component));
    check(b"//nix", Err(ParseImagePathError::Component));
    check(b"/nix/", Err(ParseImagePathError::Component));
    check(b"/nix/./store", Err(ParseImagePathError::Component));
    check(b"/nix/../etc", Err(ParseImagePathError::Component));
    check(b"/nix\0", Err(ParseImagePathError::Nul));

    assert_eq!(path("/nix").join("store"), Ok(path("/nix/store")));
    for name in ["", ".", "..", "a/b"] {
        assert_eq!(path("/nix").join(name), Err(ParseImagePathError::Component), "{name}");
    }
    assert_eq!(path("/nix").join("\0"), Err(ParseImagePathError::Nul));
    assert_eq!(path("/a/b/c").ancestors().collect::<Vec<_>>(), [path("/a"), path("/a/b")]);
    assert_eq!(path("/a/b").parent(), Some(path("/a")));
    assert_eq!(path("/a").parent(), None);
}

#[test]
fn directories_come_directly_before_what_they_hold() {
    let mut paths = ["/foo-bar", "/foo/x", "/foo", "/foo.d"].map(path);
    paths.sort();
    assert_eq!(paths, ["/foo", "/foo/x", "/foo-bar", "/foo.d"].map(path));
}

#[test]
fn headers_need_extra_records_only_when_long() {
    let check = |name: &str, target_len: usize, blocks: usize| {
        let name = path(name);
        let target = vec![b't'; target_len];
        let to = ImagePath::parse([b"/", target.as_slice()].concat());
        let kinds = match &to {
            Err(_) => vec![Kind::Directory, Kind::File { size: 0 }],
            Ok(to) => vec![Kind::Symlink { target: &target }, Kind::HardLink { to }],
        };
        for kind in kinds {
            let mut out = Vec::new();
            encode_header(&name, Permissions::STORE_DIRECTORY, kind, &mut out);
            assert_eq!(out.len(), blocks * 512, "{name} {kind:?}");
            out.extend(END);
            let entries = read_back(&out);
            assert_eq!(entries.len(), 1);
            let expect = [name.relative(), if kind == Kind::Directory { b"/" } else { b"" }].concat();
            assert_eq!(entries[0].name, expect);
            assert_eq!(entries[0].link.as_deref().unwrap_or_default(), target);
        }
    };
    let (n, m) = (|length| "n".repeat(length), |length| "m".repeat(length));
    check("/a", 1, 1);
    check(&format!("/{}", n(100)), 100, 1);
    check(&format!("/{}", n(101)), 100, 3);
    check(&format!("/{}", n(100)), 101, 3);
    check(&format!("/{}", n(511)), 512, 1 + 2 + 3);
    check(&format!("/{}", n(4096)), 4096, 1 + 10 + 10);
    // Names of two parts go into the fields of a USTAR header if both fit.
    check(&format!("/{}/{}", n(155), m(99)), 0, 1);
    check(&format!("/{}/{}", n(155), m(100)), 100, 1);
    check(&format!("/{}/{}", n(156), m(99)), 0, 3);
    check(&format!("/{}/{}", n(155), m(101)), 0, 3);
    check(&format!("/{}/{}", n(155), m(100)), 101, 3 + 2);
    check(&format!("/{0}/{0}/{0}/{0}", n(50)), 0, 1);
}

#[test]
fn sizes_beyond_the_octal_field() {
    const LARGEST_OCTAL: u64 = 0o77_777_777_777;
    for size in [0, 1, LARGEST_OCTAL, LARGEST_OCTAL + 1, 1 << 40, u64::MAX >> 1] {
        let mut out = Vec::new();
        encode_header(&path("/big"), Permissions::STORE_FILE, Kind::File { size }, &mut out);
        let header = tar::Header::from_byte_slice(&out);
        assert_eq!(header.entry_size().expect("size"), size);
        assert_eq!((size + padding(size) as u64) % 512, 0);
    }
}

#[test]
fn a_file_that_ends_early_is_an_error() {
    let mut archive = Writer::new(Vec::new());
    let error = archive.file(&path("/f"), Permissions::FILE, 3, b"ab".as_slice()).expect_err("too short");
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}

fn forest() -> Vec<Entry> {
    let entry = |at: &str, content| Entry { path: path(at), content };
    vec![
        entry("/tmp", Content::Directory(Permissions::new(0o1777, 0))),
        entry("/etc/passwd", Content::File(Permissions::FILE, b"root:x:0:0::/root:/bin/sh\n".to_vec())),
        entry(
            "/bin/git",
            Content::Symlink(b"/nix/store/3pmppdlqjx4i0ww255kg6wjzlvg8shdc-git-2.39.5/bin/git".to_vec()),
        ),
        entry("/home/user", Content::Directory(Permissions::new(0o4700, 1000))),
    ]
}

#[test]
fn packs_a_forest() {
    let blob = pack(forest()).expect("a layer");
    let tar = decompress(&blob);
    let seen: Vec<_> = read_back(&tar)
        .into_iter()
        .map(|seen| (String::from_utf8(seen.name).expect("ASCII"), seen.mode, seen.owner))
        .collect();
    let expect = [
        ("bin/", 0o755, 0),
        ("bin/git", 0o777, 0),
        ("etc/", 0o755, 0),
        ("etc/passwd", 0o644, 0),
        ("home/", 0o755, 0),
        ("home/user/", 0o700, 1000),
        ("tmp/", 0o1777, 0),
    ];
    assert_eq!(seen, expect.map(|(name, mode, owner)| (name.to_owned(), mode, owner)));
    assert_eq!(blob.digest, Digest::of(&blob.bytes));
    assert_eq!(blob.diff_id, DiffId::of(&tar));
    assert_eq!(blob.uncompressed, tar.len() as u64);
}

/// The backend and the Worker must agree on these bytes, and clients cache layers by digest. If these digests change,
/// the version in the image set id must change, too (`backend/src/images/mod.rs`).
#[test]
fn bytes_are_pinned() {
    // The content is so large and varied that another encoder would choose other matches.
    let links = (0..500_u32).map(|n| {
        let store_path = format!("/nix/store/{}-tool", &Digest::of(&n.to_le_bytes()).hex()[..32]);
        let at = path(format!("/bin/tool-{n}"));
        Entry { path: at, content: Content::Symlink(format!("{store_path}/bin/tool-{n}").into_bytes()) }
    });
    let entries: Vec<_> = forest().into_iter().chain(links).collect();
    let blob = pack(entries).expect("a layer");
    assert_eq!(
        blob.diff_id.to_string(),
        "sha256:ff1cccf749d8c6d5f9c4bc36c1d7b7243613a9af8e90f1f7fa39ece461f14d98"
    );
    assert_eq!(blob.digest.hex(), "8ba55a5119d9805d23b8f0ceac49b47c03308967004e98ecbc0e673da126e1c3");
}

#[test]
fn refuses_what_no_file_system_holds() {
    let check = |paths: &[(&str, Content)], expect| {
        let entries = paths.iter().map(|(at, content)| Entry { path: path(at), content: content.clone() });
        assert_eq!(pack(entries).map(|_| ()), Err(expect));
    };
    let file = Content::File(Permissions::FILE, vec![]);
    let directory = Content::Directory(Permissions::DIRECTORY);
    check(&[("/a", file.clone()), ("/a", directory)], ArchiveError::Duplicate(path("/a")));
    check(&[("/a/b", file.clone()), ("/a", file)], ArchiveError::NotADirectory(path("/a/b")));
    check(
        &[("/l", Content::Symlink(b"/".to_vec())), ("/l/x/y", Content::Symlink(b"z".to_vec()))],
        ArchiveError::NotADirectory(path("/l/x/y")),
    );
}

fn component() -> impl Strategy<Value = Vec<u8>> {
    let bytes =
        prop::collection::vec(any::<u8>().prop_filter("separator", |b| !matches!(b, 0 | b'/')), 1..150);
    bytes.prop_filter("dots", |bytes| !matches!(bytes.as_slice(), b"." | b".."))
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let content = prop_oneof![
        Just(Content::Directory(Permissions::STORE_DIRECTORY)),
        prop::collection::vec(any::<u8>(), 0..2000)
            .prop_map(|bytes| Content::File(Permissions::STORE_FILE, bytes)),
        prop::collection::vec(1..=255_u8, 1..300).prop_map(Content::Symlink),
    ];
    // Every entry is at the top or in one shared directory, so that most sets are valid.
    let at = (any::<bool>(), component()).prop_map(|(nested, name)| {
        let top = path(if nested { "/shared/directory" } else { "/top" });
        top.join(name).expect("a component")
    });
    prop::collection::btree_map(at, content, 0..20)
        .prop_map(|tree| tree.into_iter().map(|(path, content)| Entry { path, content }).collect())
}

proptest! {
    #[test]
    fn any_order_gives_the_same_readable_bytes(given in entries(), seed in any::<u64>()) {
        let blob = pack(given.clone()).expect("a layer");
        let mut shuffled = given.clone();
        shuffled.sort_by_key(|entry| Digest::of(&[entry.path.relative(), &seed.to_le_bytes()].concat()));
        prop_assert_eq!(&pack(shuffled).expect("a layer"), &blob);

        let seen: BTreeMap<_, _> = read_back(&decompress(&blob))
            .into_iter()
            .map(|seen| (seen.name.clone(), seen))
            .collect();
        for entry in given {
            let name = entry.path.relative().to_vec();
            match entry.content {
                Content::Directory(_) => {
                    let seen = &seen[&[&name, b"/".as_slice()].concat()];
                    prop_assert_eq!(seen.kind, tar::EntryType::Directory);
                }
                Content::File(_, bytes) => prop_assert_eq!(&seen[&name].bytes, &bytes),
                Content::Symlink(target) => prop_assert_eq!(&seen[&name].link, &Some(target)),
            }
        }
    }
}
