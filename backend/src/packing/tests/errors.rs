use super::*;
use std::io::{self, Write};

/// Runs `meddle` at the first write, before the rest of the layer has been read.
struct Meddler<F> {
    meddle: Option<F>,
}

impl<F: FnOnce() -> io::Result<()>> Write for Meddler<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(meddle) = self.meddle.take() {
            meddle()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Packs a layer that is much larger than all blocks of the packer. Its last file is read long after the first byte
/// was written; `meddle` changes that file in between.
fn meddled(meddle: impl FnOnce(&Path) -> io::Result<()>) -> Result<PackedLayer, PackingError> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path();
    for index in 0..20 {
        fs::write(root.join(format!("{index:02}")), noise(1 << 20, index)).expect("write");
    }
    fs::create_dir(root.join("last")).expect("mkdir");
    fs::write(root.join("last/file"), b"something to lose").expect("write");
    let packer = packer("gzip", 1);
    let result = packer.pack(as_store_path(root), Meddler { meddle: Some(|| meddle(&root.join("last"))) });
    // Whatever happened, the packer still works with all its blocks.
    for _ in 0..8 {
        pack(&packer, vec![tree("/a", &root.join("00"))]).expect("packs");
    }
    result
}

#[test]
fn what_stays_still_is_packed() {
    meddled(|_| Ok(())).expect("packs");
}

#[test]
fn a_path_that_vanishes() {
    let result = meddled(|last| fs::remove_dir_all(last));
    assert!(matches!(result, Err(PackingError::Read { path, .. }) if path.ends_with("last")));
}

#[test]
fn a_directory_that_becomes_a_device() {
    let result = meddled(|last| {
        fs::remove_dir_all(last)?;
        rustix::fs::mkfifoat(rustix::fs::CWD, last, 0o600.into()).map_err(Into::into)
    });
    assert!(
        matches!(result, Err(PackingError::Read { .. } | PackingError::Unsupported { .. })),
        "{result:?}"
    );
}

/// Packs one file of many blocks, which is changed after its first block was written.
fn changed_file(change: impl FnOnce(&fs::File) -> io::Result<()>) -> Result<PackedLayer, PackingError> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("large");
    fs::write(&path, noise(20 << 20, 1)).expect("write");
    let meddle = || change(&fs::OpenOptions::new().write(true).open(&path)?);
    packer("gzip", 1).pack(as_store_path(&path), Meddler { meddle: Some(meddle) })
}

#[test]
fn a_file_that_changes() {
    let is_changed = |result: Result<PackedLayer, PackingError>| {
        assert!(
            matches!(&result, Err(PackingError::Changed { path }) if path.ends_with("large")),
            "{result:?}"
        );
    };
    is_changed(changed_file(|file| file.set_len(10)));
    is_changed(changed_file(|file| file.set_len(30 << 20)));
    // The same size, but other bytes.
    is_changed(changed_file(|mut file| file.write_all(b"x")));
    changed_file(|_| Ok(())).expect("unchanged");
}

#[test]
fn a_writer_that_fails() {
    let full = || Err(io::ErrorKind::StorageFull.into());
    let result = meddled(|_| full());
    assert!(matches!(result, Err(PackingError::Write(error)) if error.kind() == io::ErrorKind::StorageFull));
}

#[test]
fn paths_that_cannot_be_packed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path();
    let check = |trees: Vec<FileTree>| pack(&packer("gzip", 1), trees).expect_err("fails");

    let missing = check(vec![tree("/a", &root.join("missing"))]);
    assert!(matches!(missing, PackingError::Read { path, .. } if path.ends_with("missing")));

    let pipe = root.join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).expect("mkfifo");
    // Nothing ever writes to the pipe. The test ends only if the packer does not wait for it.
    assert!(matches!(check(vec![tree("/a", root)]), PackingError::Unsupported { path } if path == pipe));

    let overlap = |first: &str, second: &str| {
        let error = check(vec![tree(first, root), tree(second, &pipe)]);
        assert!(matches!(error, PackingError::Overlap { .. }), "{error:?}");
    };
    overlap("/a", "/a");
    overlap("/a", "/a/b");

    for bad in ["relative", "/a/../b", "/a/", "/"] {
        assert!(matches!(FileTree::absolute(Path::new(bad)), Err(PackingError::Path { .. })), "{bad}");
    }
}

/// A client that unpacks a layer treats such a name as the deletion of another file, whatever the file contains.
#[test]
fn whiteouts() {
    let packer = packer("gzip", 1);
    for name in [".wh.nix", ".wh..wh..opq", ".wh..wh.plnk", ".wh."] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let place = directory.path().join("share").join(name);
        fs::create_dir_all(place.join("below")).expect("mkdir");
        let result = pack(&packer, as_store_path(directory.path()));
        assert!(
            matches!(&result, Err(PackingError::Whiteout { path }) if *path == place),
            "{name}: {result:?}"
        );
        let result = pack(&packer, vec![tree(&format!("/a/{name}/b"), &place)]);
        assert!(matches!(result, Err(PackingError::Whiteout { .. })), "{name}");
        // Names that only look similar are allowed.
        for name in [".wh", ".WH.x", "x.wh.y"] {
            fs::write(directory.path().join(name), b"").expect("write");
        }
        fs::remove_dir_all(&place).expect("rm");
        pack(&packer, as_store_path(directory.path())).expect("packs");
    }
}
