//! Trees that are on no disk.

use super::*;
use crate::packing::{FileContent, Step, TreeEntry, TreeReader};
use bytes::Bytes;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// A tree as a list of steps.
pub(super) struct MemoryTree(pub(super) std::vec::IntoIter<Step>);

impl TreeReader for MemoryTree {
    fn origin(&self) -> &Path {
        Path::new("memory")
    }

    fn step(&mut self) -> Result<Option<Step>, PackingError> {
        Ok(self.0.next())
    }
}

pub(super) fn in_memory(steps: Vec<Step>) -> Vec<FileTree> {
    let at = ImagePath::parse(STORE_PATH).expect("absolute");
    vec![FileTree::new(at, MemoryTree(steps.into_iter()))]
}

/// The steps through what is at this path. `content` says where the bytes of a file come from.
pub(super) fn steps(
    path: &Path,
    name: Vec<u8>,
    content: &mut dyn FnMut(&Path) -> FileContent,
    steps: &mut Vec<Step>,
) {
    let metadata = path.symlink_metadata().expect("it is there");
    if metadata.is_dir() {
        steps.push(Step::Enter(name, TreeEntry::Directory));
        let mut names: Vec<_> =
            fs::read_dir(path).expect("a directory").map(|e| e.expect("an entry").file_name()).collect();
        names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for name in names {
            self::steps(&path.join(&name), name.into_vec(), content, steps);
        }
        steps.push(Step::Leave);
    } else if metadata.is_symlink() {
        let target = fs::read_link(path).expect("a link").into_os_string().into_vec();
        steps.push(Step::Enter(name, TreeEntry::Symlink(target)));
    } else {
        let is_executable = metadata.permissions().mode() & 0o100 != 0;
        steps.push(Step::Enter(name, TreeEntry::File { is_executable, content: content(path) }));
    }
}

/// Small files in memory, others on the disk.
fn up_to(largest: u64) -> impl FnMut(&Path) -> FileContent {
    move |path| {
        let metadata = path.symlink_metadata().expect("it is there");
        match metadata.len() <= largest {
            true => FileContent::Bytes(Bytes::from(fs::read(path).expect("a file"))),
            false => FileContent::File(SourceFile::new(path.to_owned(), &metadata).into()),
        }
    }
}

#[test]
fn where_a_tree_is_read_from_leaves_no_trace() {
    let directory = specimen();
    for encoder in ["gzip", "zstd"] {
        let packer = packer(encoder, 2);
        let from_disk = pack(&packer, as_store_path(directory.path())).expect("packs");
        // Files that are equal may be one in memory and one on the disk.
        for largest in [0, 1_000, 2_600_000, u64::MAX] {
            let mut all = Vec::new();
            steps(directory.path(), Vec::new(), &mut up_to(largest), &mut all);
            assert!(pack(&packer, in_memory(all)).expect("packs") == from_disk, "{encoder} {largest}");
        }
    }
}

#[test]
fn a_tree_that_is_no_nar_is_refused() {
    let check = |steps: Vec<Step>| pack(&packer("gzip", 1), in_memory(steps)).expect_err("refused");
    let directory = |name: &str| Step::Enter(name.into(), TreeEntry::Directory);
    let link = |name: &str| Step::Enter(name.into(), TreeEntry::Symlink(b"x".to_vec()));
    let out_of_order = |steps: Vec<Step>, at: &str| {
        let error = check(steps);
        assert!(matches!(&error, PackingError::Order { path } if path == Path::new(at)), "{error:?}");
    };
    out_of_order(vec![directory(""), directory("d"), link("b"), link("a")], "memory/d/a");
    out_of_order(vec![directory(""), link("a"), link("a")], "memory/a");
    // A directory comes before what is beside it.
    out_of_order(vec![directory(""), directory("b"), Step::Leave, link("a")], "memory/a");
    out_of_order(vec![directory(""), Step::Leave, link("second root")], "memory/second root");
    for bad in ["", ".", "..", "a/b"] {
        let error = check(vec![directory(""), link(bad)]);
        assert!(matches!(error, PackingError::Path { .. }), "{bad:?}: {error:?}");
    }
    let whiteout = check(vec![directory(""), link(".wh.x")]);
    assert!(matches!(whiteout, PackingError::Whiteout { .. }), "{whiteout:?}");
}
