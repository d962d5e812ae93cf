//! Reading what lies below a store path.

use super::BuildError;
use firn_shared::{
    StorePath,
    listing::{FileName, Listing, Node},
};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What lies below a package's output: nothing where the output is a plain file.
///
/// A symlink to a directory inside the same output counts as that directory, as in Nix's `buildEnv`, so that
/// `sbin -> bin` of one package does not hide `sbin` of another.
pub(super) fn read(output: &StorePath) -> Result<Listing, BuildError> {
    let root = Path::new(output.as_str());
    if root.symlink_metadata().map_err(error(root))?.is_dir() {
        directory(root, root)
    } else {
        Ok(Listing::new())
    }
}

/// Whether a program is there; symlinks are followed, also to other store paths.
pub(super) fn has_program(path: &StorePath, program: &str) -> bool {
    Path::new(path.as_str()).join("bin").join(program).exists()
}

fn error(path: &Path) -> impl FnOnce(std::io::Error) -> BuildError {
    let path = path.to_owned();
    |source| BuildError::Read { path, source }
}

fn directory(root: &Path, path: &Path) -> Result<Listing, BuildError> {
    let mut listing = Listing::new();
    for entry in path.read_dir().map_err(error(path))? {
        let entry = entry.map_err(error(path))?;
        let below = entry.path();
        let kind = entry.file_type().map_err(error(&below))?;
        let is_directory = kind.is_dir() || (kind.is_symlink() && leads_down(root, path, &below));
        let node = if is_directory { Node::Directory(directory(root, &below)?) } else { Node::File(()) };
        let name = FileName::new(entry.file_name().as_bytes()).expect("directories hold file names");
        listing.insert(name, node);
    }
    Ok(listing)
}

/// Whether a symlink leads to a directory of the same output that it does not itself lie in: following it
/// ends.
fn leads_down(root: &Path, directory: &Path, link: &Path) -> bool {
    link.canonicalize().is_ok_and(|target| {
        let real = directory.canonicalize();
        target.is_dir()
            && target.starts_with(root)
            && real.is_ok_and(|real| !real.starts_with(&target))
            // One link is followed, not a chain through directories that hold further links up.
            && directory.canonicalize().is_ok_and(|real| real == directory)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn names(listing: &Listing, at: &str, all: &mut Vec<String>) {
        for (name, node) in listing {
            let path = format!("{at}{}", String::from(name.clone()));
            match node {
                Node::File(()) => all.push(path),
                Node::Directory(below) => {
                    all.push(format!("{path}/"));
                    names(below, &format!("{path}/"), all);
                }
            }
        }
    }

    #[test]
    fn follows_links_to_directories_inside_and_no_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("a path");
        fs::create_dir_all(root.join("bin")).expect("made");
        fs::create_dir_all(root.join("lib/empty")).expect("made");
        fs::write(root.join("bin/x"), "").expect("written");
        symlink("bin", root.join("sbin")).expect("linked");
        symlink("/", root.join("out")).expect("linked");
        symlink("..", root.join("lib/up")).expect("linked");
        symlink("missing", root.join("dangling")).expect("linked");
        symlink("x", root.join("bin/y")).expect("linked");
        let mut all = Vec::new();
        names(&directory(&root, &root).expect("a listing"), "", &mut all);
        assert_eq!(
            all,
            [
                "bin/",
                "bin/x",
                "bin/y",
                "dangling",
                "lib/",
                "lib/empty/",
                "lib/up",
                "out",
                "sbin/",
                "sbin/x",
                "sbin/y"
            ]
        );
    }
}
