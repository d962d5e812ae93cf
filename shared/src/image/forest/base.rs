//! The files that every image has in addition to those of its packages: users, temporary directories, and files that
//! programs expect at fixed paths.
//!
//! [`Fixtures::lay`] adds files that packages must not replace, before the packages are merged. [`Fixtures::complete`]
//! adds files for which packages may have their own version, after the merge.

use super::{PackageFiles, skeleton::Skeleton};
use crate::{
    StorePath,
    archive::{Content, Permissions},
};

/// The id of the user that images have in addition to root and nobody.
pub const USER_ID: u32 = 1000;
/// The path of the CA bundle in `cacert`, without leading slash.
pub(super) const CA_BUNDLE: &str = "etc/ssl/certs/ca-bundle.crt";
/// Other paths at which programs look for [`CA_BUNDLE`].
pub(super) const CA_ALIASES: [&str; 2] =
    ["etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt"];

/// A directory in which every user may create files, and only the owner of a file may remove it.
const SHARED: Permissions = Permissions::new(0o1777, 0);

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    nobody:x:65534:65534:nobody:/var/empty:/bin/false\n\
    user:x:1000:1000:user:/home/user:/bin/sh\n";
const GROUP: &str = "root:x:0:\nnobody:x:65534:\nuser:x:1000:\n";
const NSSWITCH: &str = "hosts: files dns\n";
/// The content of os-release(5). It is the same for every image. With a revision in it, every image would get a new
/// symlink layer with each commit, even if no package has changed. The image's labels have the revision.
const OS_RELEASE: &str = "NAME=Firn\nID=firn\nPRETTY_NAME=\"Firn image of Nix packages\"\n";
/// The directories in which programs look for time zones. The C library of nixpkgs uses the first, other C libraries,
/// Go and more use the second.
const ZONEINFO: [&str; 2] = ["etc/zoneinfo", "usr/share/zoneinfo"];

/// The store paths from which an image gets files at fixed paths.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fixtures<'a> {
    /// The store path with `bin/sh`.
    pub sh: Option<&'a StorePath>,
    /// The store path with `bin/env`.
    pub env: Option<&'a StorePath>,
    /// The store path with `share/zoneinfo`.
    pub zoneinfo: Option<&'a StorePath>,
    /// Single files (paths without leading slash) of packages of which no other files appear in the image.
    pub files: &'a [(&'a str, PackageFiles<'a>)],
}

impl Fixtures<'_> {
    /// Adds the files that packages must not replace, and the directories that have to be real.
    pub(super) fn lay(&self, root: &mut Skeleton, has_ca_bundle: bool) {
        for (path, permissions) in [
            ("bin", Permissions::DIRECTORY),
            ("etc", Permissions::DIRECTORY),
            ("home/user", Permissions::new(0o755, USER_ID)),
            ("root", Permissions::new(0o700, 0)),
            ("tmp", SHARED),
            ("var/empty", Permissions::STORE_DIRECTORY),
            ("var/tmp", SHARED),
        ] {
            root.add(path, Content::Directory(permissions));
        }
        let real = [(has_ca_bundle, "etc/ssl/certs"), (has_ca_bundle, "etc/pki/tls/certs")];
        let real =
            real.into_iter().chain([(self.env.is_some(), "usr/bin"), (self.zoneinfo.is_some(), "usr/share")]);
        for (_, path) in real.filter(|(wanted, _)| *wanted) {
            root.add(path, Content::Directory(Permissions::DIRECTORY));
        }
        for (path, text) in [("etc/passwd", PASSWD), ("etc/group", GROUP), ("etc/nsswitch.conf", NSSWITCH)] {
            root.add(path, Content::File(Permissions::FILE, text.into()));
        }
    }

    /// Adds the remaining files if no package has them.
    pub(super) fn complete(&self, root: &mut Skeleton, has_ca_bundle: bool) {
        root.add("etc/os-release", Content::File(Permissions::FILE, OS_RELEASE.into()));
        let mut link = |path: &str, target: String| root.add(path, Content::Symlink(target.into()));
        if has_ca_bundle {
            CA_ALIASES.into_iter().for_each(|alias| link(alias, format!("/{CA_BUNDLE}")));
        }
        let programs = [(self.sh, "bin/sh", "bin/sh"), (self.env, "bin/env", "usr/bin/env")];
        let zoneinfo = ZONEINFO.map(|path| (self.zoneinfo, "share/zoneinfo", path));
        for (provider, inside, path) in programs.into_iter().chain(zoneinfo) {
            if let Some(provider) = provider {
                link(path, format!("{provider}/{inside}"));
            }
        }
        for (path, tree) in self.files.iter().filter(|(path, tree)| tree.has(path)) {
            link(path, format!("{}/{path}", tree.path));
        }
    }
}

/// Directories in which people and programs add or replace single files, at any depth.
const OPEN: [&[u8]; 7] = [b"/etc", b"/home", b"/opt", b"/root", b"/run", b"/srv", b"/var"];
/// Prefixes below which there are directories like those at the root.
const PREFIXES: [&[u8]; 2] = [b"/usr/local", b"/usr"];

/// Whether the directory at this path (with a slash before each component) is real even if only one package has it. A
/// directory that is not real is a symlink into the store. A derived image that copies a directory over such a symlink
/// replaces it or fails. `docs/decisions/real-directories.md` says what real directories cost.
pub(super) fn is_real(path: &[u8]) -> bool {
    let below = |parent: &[u8]| path.strip_prefix(parent).filter(|rest| matches!(rest, [] | [b'/', ..]));
    let from_prefix = PREFIXES.into_iter().find_map(below).unwrap_or(path);
    let depth = from_prefix.iter().filter(|byte| **byte == b'/').count();
    depth <= 1 || OPEN.into_iter().any(|open| below(open).is_some())
}
