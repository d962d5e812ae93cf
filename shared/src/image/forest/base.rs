//! What an image has beside the files of its packages: users, temporary directories, and the files that
//! programs look for at fixed places.
//!
//! [`Fixtures::lay`] adds what no package may replace, before the packages are merged. [`Fixtures::complete`]
//! adds what a package may have in its own way, after that.

use super::{Tree, skeleton::Skeleton};
use crate::{
    StorePath,
    archive::{Content, Permissions},
};

/// The user that images have besides root and nobody.
pub const USER_ID: u32 = 1000;
/// Where `cacert` puts the bundle of certificates, without leading slash.
pub(super) const CA_BUNDLE: &str = "etc/ssl/certs/ca-bundle.crt";
/// The other names that programs look for [`CA_BUNDLE`] under.
pub(super) const CA_ALIASES: [&str; 2] =
    ["etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt"];

/// A directory in which everybody may create files and nobody may remove another's.
const SHARED: Permissions = Permissions::new(0o1777, 0);

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    nobody:x:65534:65534:nobody:/var/empty:/bin/false\n\
    user:x:1000:1000:user:/home/user:/bin/sh\n";
const GROUP: &str = "root:x:0:\nnobody:x:65534:\nuser:x:1000:\n";
const NSSWITCH: &str = "hosts: files dns\n";
/// What the image is, as os-release(5) says it. The same for every image: a revision in it would give every image
/// another symlink layer with each commit, also where no package has changed. The image's label has the revision.
const OS_RELEASE: &str = "NAME=Firn\nID=firn\nPRETTY_NAME=\"Firn image of Nix packages\"\n";
/// Where C libraries, Go and others look for time zones: nixpkgs' C library in the first of these, and the others in
/// the second.
const ZONEINFO: [&str; 2] = ["etc/zoneinfo", "usr/share/zoneinfo"];

/// What an image has at fixed places if its packages bring it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fixtures<'a> {
    /// What has `bin/sh`.
    pub sh: Option<&'a StorePath>,
    /// What has `bin/env`.
    pub env: Option<&'a StorePath>,
    /// What has `share/zoneinfo`.
    pub zoneinfo: Option<&'a StorePath>,
    /// Files (paths without leading slash) that come from these packages, which show nothing else.
    pub files: &'a [(&'a str, Tree<'a>)],
}

impl Fixtures<'_> {
    /// Adds what no package may replace, and the directories that have to be real.
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

    /// Adds what is not there by now.
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

/// Directories in which people and programs add and replace single files, at any depth.
const OPEN: [&[u8]; 7] = [b"/etc", b"/home", b"/opt", b"/root", b"/run", b"/srv", b"/var"];
/// Roots of their own, with directories like those at the image's root.
const PREFIXES: [&[u8]; 2] = [b"/usr/local", b"/usr"];

/// Whether the directory at this path (components joined by and beginning with slashes) is a real one, even if
/// only one package has it. What is no real directory is a symlink into the store, and a derived image that copies
/// a directory over it replaces it or fails. `docs/decisions/real-directories.md` has what it costs.
pub(super) fn is_real(path: &[u8]) -> bool {
    let below = |parent: &[u8]| path.strip_prefix(parent).filter(|rest| matches!(rest, [] | [b'/', ..]));
    let from_prefix = PREFIXES.into_iter().find_map(below).unwrap_or(path);
    let depth = from_prefix.iter().filter(|byte| **byte == b'/').count();
    depth <= 1 || OPEN.into_iter().any(|open| below(open).is_some())
}
