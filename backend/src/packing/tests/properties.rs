use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

#[derive(Debug, Clone, PartialEq)]
enum TreeEntry {
    Directory(BTreeMap<Vec<u8>, TreeEntry>),
    File { executable: bool, bytes: Vec<u8> },
    Symlink(Vec<u8>),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let bytes =
        prop::collection::vec(any::<u8>().prop_filter("separator", |b| !matches!(b, 0 | b'/')), 1..120);
    bytes.prop_filter("dots", |name| !matches!(name.as_slice(), b"." | b".."))
}

fn node() -> impl Strategy<Value = TreeEntry> {
    let size = prop_oneof![20 => 0..3000_usize, 1 => 0..3_000_000_usize];
    let leaf = prop_oneof![
        3 => (any::<bool>(), size, any::<u64>(), any::<bool>()).prop_map(|(executable, size, seed, noisy)| {
            TreeEntry::File { executable, bytes: if noisy { noise(size, seed) } else { text(size, seed) } }
        }),
        // Few different contents, so that some files are equal.
        1 => (any::<bool>(), 0..2_u64).prop_map(|(executable, seed)| {
            TreeEntry::File { executable, bytes: noise(100_000, seed) }
        }),
        1 => prop::collection::vec(1..=255_u8, 1..300).prop_map(TreeEntry::Symlink),
    ];
    leaf.prop_recursive(3, 24, 8, |inner| {
        prop::collection::btree_map(name(), inner, 0..8).prop_map(TreeEntry::Directory)
    })
}

fn make(at: &Path, node: &TreeEntry) {
    match node {
        TreeEntry::Directory(entries) => {
            fs::create_dir(at).expect("mkdir");
            for (name, node) in entries {
                make(&at.join(OsStr::from_bytes(name)), node);
            }
        }
        TreeEntry::File { executable, bytes } => {
            fs::write(at, bytes).expect("write");
            let mode = if *executable { 0o750 } else { 0o604 };
            fs::set_permissions(at, fs::Permissions::from_mode(mode)).expect("chmod");
        }
        TreeEntry::Symlink(target) => symlink(OsStr::from_bytes(target), at).expect("symlink"),
    }
}

/// The tree that a tar reader sees. Asserts that every entry follows its parent.
fn read_back(tar: &[u8], root: &str) -> TreeEntry {
    let mut top = TreeEntry::Directory(BTreeMap::new());
    for entry in tar::Archive::new(tar).entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let name = entry.path_bytes().into_owned();
        let name = name.strip_suffix(b"/").unwrap_or(&name);
        let (mode, kind) = (entry.header().mode().expect("mode"), entry.header().entry_type());
        assert_eq!(entry.header().mtime().expect("mtime"), 1);
        assert_eq!(entry.header().uid().expect("uid") + entry.header().gid().expect("gid"), 0);
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("content");
        let inside = name.starts_with(root.as_bytes());
        let node = match kind {
            tar::EntryType::Directory => {
                assert_eq!(mode, if inside { 0o555 } else { 0o755 });
                TreeEntry::Directory(BTreeMap::new())
            }
            tar::EntryType::Regular => {
                assert!(matches!(mode, 0o444 | 0o555));
                TreeEntry::File { executable: mode == 0o555, bytes }
            }
            tar::EntryType::Link => {
                let target = entry.link_name_bytes().expect("link");
                let mut at = &top;
                for component in target.split(|byte| *byte == b'/') {
                    let TreeEntry::Directory(entries) = at else { panic!("not a directory") };
                    at = entries.get(component).expect("the file comes first");
                }
                let TreeEntry::File { executable, .. } = at else { panic!("not a file") };
                assert_eq!(mode, if *executable { 0o555 } else { 0o444 });
                at.clone()
            }
            tar::EntryType::Symlink => {
                TreeEntry::Symlink(entry.link_name_bytes().expect("link").into_owned())
            }
            other => panic!("unexpected {other:?}"),
        };
        let mut at = &mut top;
        let components: Vec<&[u8]> = name.split(|byte| *byte == b'/').collect();
        let (last, parents) = components.split_last().expect("a name");
        for parent in parents {
            let TreeEntry::Directory(entries) = at else { panic!("not a directory") };
            at = entries.get_mut(*parent).expect("a parent comes first");
        }
        let TreeEntry::Directory(entries) = at else { panic!("not a directory") };
        assert_eq!(entries.insert(last.to_vec(), node), None, "given twice");
    }
    for component in root.split('/') {
        let TreeEntry::Directory(mut entries) = top else { panic!("not a directory") };
        top = entries.remove(component.as_bytes()).expect("on the way to the root");
        assert!(entries.is_empty());
    }
    top
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_layer_holds_exactly_the_tree(node in node(), threads in 1..4_usize, encoder in prop_oneof![Just("gzip"), Just("zstd")]) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().join("root");
        make(&root, &node);
        let (layer, bytes) = pack(&packer(encoder, threads), as_store_path(&root)).expect("packs");
        let tar = decompress(encoder.parse().expect("valid"), &bytes);
        prop_assert_eq!(layer.diff_id, DiffId::of(&tar));
        prop_assert!(read_back(&tar, &STORE_PATH[1..]) == node);
        // The layer does not depend on the directory or on the number of threads.
        let elsewhere = directory.path().join("elsewhere");
        make(&elsewhere, &node);
        prop_assert_eq!(pack(&packer(encoder, 1), as_store_path(&elsewhere)).expect("packs").0, layer);
    }
}
