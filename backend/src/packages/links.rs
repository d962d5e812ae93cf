//! Following symlinks in the Nix store as in a container that has one closure and nothing else.

use super::files::{Files, Kind};
use firn_shared::StorePath;
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What a path leads to. The paths here have no symlinks in them.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Leads {
    /// To a directory in one of the closure's store paths.
    Directory(PathBuf),
    /// To anything else in one of them.
    File(PathBuf),
    /// Out of the Nix store.
    Outside,
    /// Nowhere: something is missing, is no directory, or links lead in a circle.
    Nowhere,
}

/// How many links are followed, as in Linux (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// The store paths that links are followed into.
pub(super) struct Links<'a> {
    pub(super) files: &'a dyn Files,
    store: PathBuf,
    members: BTreeMap<&'a [u8], &'a StorePath>,
    /// How many names have been looked at.
    steps: Cell<usize>,
}

impl<'a> Links<'a> {
    /// Links in a Nix store at this place, as far as they lead to these store paths.
    pub(super) fn new(
        files: &'a dyn Files,
        store: &Path,
        closure: impl IntoIterator<Item = &'a StorePath>,
    ) -> Self {
        let members = closure.into_iter().map(|path| (path.base_name().as_bytes(), path));
        Self { files, store: store.to_owned(), members: members.collect(), steps: Cell::new(0) }
    }

    /// How many names have been looked at so far: the cost of following links.
    pub(super) fn steps(&self) -> usize {
        self.steps.get()
    }

    /// Where a store path is on this machine.
    pub(super) fn place(&self, path: &StorePath) -> PathBuf {
        self.store.join(path.base_name())
    }

    /// The store path that a place without symlinks is in, and the names that lead there from it.
    pub(super) fn inside<'p>(
        &self,
        place: &'p Path,
    ) -> Option<(&'a StorePath, impl Iterator<Item = &'p OsStr> + use<'p, 'a>)> {
        let mut names = place.strip_prefix(&self.store).ok()?.iter();
        Some((*self.members.get(names.next()?.as_bytes())?, names))
    }

    /// Where a path inside a store path leads; the empty one is the store path itself.
    ///
    /// # Errors
    /// When something that is there cannot be read.
    pub(super) fn follow(&self, path: &StorePath, inside: &str) -> io::Result<Leads> {
        let mut names = path.base_name().as_bytes().to_vec();
        if !inside.is_empty() {
            names.extend([b"/", inside.as_bytes()].concat());
        }
        self.walk(self.store.clone(), names, 0)
    }

    /// Where a symlink in a directory leads, which is given without symlinks.
    ///
    /// # Errors
    /// When something that is there cannot be read.
    pub(super) fn follow_link(&self, directory: &Path, link: &Path) -> io::Result<Leads> {
        self.walk(directory.to_owned(), self.files.target(link)?.into_os_string().into_vec(), 1)
    }

    /// Where a path leads from a directory, after this many links.
    fn walk(&self, mut at: PathBuf, path: Vec<u8>, mut links: usize) -> io::Result<Leads> {
        let mut rest = VecDeque::new();
        push(&mut rest, &mut at, &path);
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                at.pop();
            }
            if name == ".." || name == "." {
                continue;
            }
            let next = at.join(&name);
            if self.store.starts_with(&next) {
                at = next;
                continue;
            }
            if !next.starts_with(&self.store) {
                return Ok(Leads::Outside);
            }
            let is_store_path = match self.inside(&next) {
                // Nix says that a member is there: without it, nothing is known.
                Some((_, mut below)) => below.next().is_none(),
                None => return Ok(Leads::Nowhere),
            };
            self.steps.set(self.steps.get() + 1);
            let kind = match self.files.kind(&next) {
                Ok(kind) => kind,
                Err(error) if is_nowhere(&error) && !is_store_path => return Ok(Leads::Nowhere),
                Err(error) => return Err(error),
            };
            match kind {
                Kind::Symlink => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Ok(Leads::Nowhere);
                    }
                    push(&mut rest, &mut at, self.files.target(&next)?.as_os_str().as_bytes());
                }
                Kind::Directory => at = next,
                Kind::File => return Ok(if rest.is_empty() { Leads::File(next) } else { Leads::Nowhere }),
            }
        }
        Ok(if self.inside(&at).is_some() { Leads::Directory(at) } else { Leads::Outside })
    }
}

/// Whether the error says that nothing is there.
fn is_nowhere(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | InvalidFilename)
}

/// Puts a path's names before the rest. What begins with a slash starts again at the root.
fn push(rest: &mut VecDeque<OsString>, at: &mut PathBuf, path: &[u8]) {
    if path.starts_with(b"/") {
        *at = PathBuf::from("/");
    }
    let mut names: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|name| *name != b"." && !name.is_empty()).collect();
    // `file/` and `file/.` lead nowhere, so that what ends like a directory has a name more. It leads to itself.
    if matches!(path, [.., b'/'] | [.., b'/', b'.']) && !names.is_empty() {
        names.push(b".");
    }
    names.into_iter().rev().for_each(|name| rest.push_front(OsStr::from_bytes(name).to_owned()));
}

#[cfg(test)]
mod tests {
    use super::super::files::Disk;
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn store_path(letter: char) -> StorePath {
        format!("/nix/store/{}-{letter}", letter.to_string().repeat(32)).parse().expect("a store path")
    }

    #[test]
    fn follows_as_linux_does_and_stays_in_the_closure() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = dir.path().canonicalize().expect("a path");
        let [a, b, foreign] = ['a', 'b', 'c'].map(store_path);
        let place = |path: &StorePath| store.join(path.base_name());
        for (path, name) in [(&a, "bin/x"), (&a, "d/e/f"), (&b, "lib/y"), (&foreign, "z")] {
            let file = place(path).join(name);
            fs::create_dir_all(file.parent().expect("a directory")).expect("made");
            fs::write(file, "").expect("written");
        }
        let member = |path: &StorePath, inside: &str| place(path).join(inside).display().to_string();
        let (up, inside_b) = (format!("../{}/lib", b.base_name()), member(&b, "lib"));
        for (name, target) in [
            ("self", "."),
            ("relative", up.as_str()),
            ("absolute", &inside_b),
            (
                "around",
                &format!("../../{}/{}/lib/", store.file_name().expect("a name").display(), b.base_name()),
            ),
            ("d/up", ".."),
            ("d/e/down", "../up/d/up/bin/./"),
            ("file", "bin//x"),
            ("file-as-directory", "bin/x/"),
            ("file-dot", "bin/x/."),
            ("through-file", "bin/x/../y"),
            ("missing", "bin/missing"),
            ("foreign", &member(&foreign, "z")),
            ("out", "/etc/hostname"),
            ("store", ".."),
            ("loop", "loop"),
            ("ping", "pong"),
            ("pong", "ping"),
            ("link-0", "bin"),
            ("long", &"x/".repeat(2000)),
        ] {
            symlink(target, place(&a).join(name)).expect("linked");
        }
        for i in 1..=41 {
            symlink(format!("link-{}", i - 1), place(&a).join(format!("link-{i}"))).expect("linked");
        }
        let links = Links::new(&Disk, &store, [&a, &b]);
        let check = |link: &str, expect: Leads| {
            let link = place(&a).join(link);
            let parent = link.parent().expect("a directory");
            assert_eq!(
                links.follow_link(parent, &link).expect("it can be read"),
                expect,
                "{}",
                link.display()
            );
        };
        let directory = |path: &StorePath, inside: &str| Leads::Directory(place(path).join(inside));
        check("self", Leads::Directory(place(&a)));
        for link in ["relative", "absolute", "around"] {
            check(link, directory(&b, "lib"));
        }
        check("d/up", Leads::Directory(place(&a)));
        check("d/e/down", directory(&a, "bin"));
        check("file", Leads::File(place(&a).join("bin/x")));
        for link in
            ["file-as-directory", "file-dot", "through-file", "missing", "foreign", "loop", "ping", "long"]
        {
            check(link, Leads::Nowhere);
        }
        check("out", Leads::Outside);
        check("store", Leads::Outside);
        // Linux follows 40.
        check("link-39", directory(&a, "bin"));
        check("link-40", Leads::Nowhere);
        assert!(place(&a).join("link-39").exists() && !place(&a).join("link-40").exists());

        assert_eq!(links.follow(&a, "self/bin/x").expect("read"), Leads::File(place(&a).join("bin/x")));
        assert_eq!(links.follow(&a, "").expect("read"), Leads::Directory(place(&a)));
        assert_eq!(links.follow(&foreign, "z").expect("read"), Leads::Nowhere);
        let gone = store_path('d');
        assert!(
            Links::new(&Disk, &store, [&gone]).follow(&gone, "bin/x").is_err(),
            "a member that is not there"
        );
        let inside = place(&b).join("lib/y");
        let (path, names) = links.inside(&inside).expect("it is in b");
        assert_eq!((path, names.collect::<PathBuf>()), (&b, PathBuf::from("lib/y")));
    }
}
