//! Reading the files and directories of a package's outputs.

use super::files::Kind;
use super::links::{Leads, Links};
use crate::store_paths::MAX_PROPAGATED;
use firn_shared::{
    StorePath,
    nix::listing::{Directory, FileName, Listing, Node, Root, Target},
};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How much there may be of a package.
#[derive(Debug, Clone, Copy)]
struct ListingLimits {
    /// Files, directories and links.
    files: usize,
    /// Names that are looked at to find where links lead. A link can lead through 40 links, each with a path of 2,000
    /// names.
    steps: usize,
    /// Length of the paths of all directories together, in bytes. Memory is needed for three times as much.
    path_bytes: usize,
}

/// All of texlive has a quarter of these files. As many steps take some ten seconds.
const LIMITS: ListingLimits = ListingLimits { files: 1_000_000, steps: 10_000_000, path_bytes: 128 << 20 };

/// Why there is no listing of a package.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadListingError {
    /// There are too many, or links lead to them in too many steps.
    #[error("it has more than {} files, or too long paths or chains of symlinks between them", LIMITS.files)]
    TooLarge,
    /// Something cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The listing of these outputs and of the store paths that they propagate, with all directories that their symlinks lead
/// to.
///
/// # Errors
/// When there is too much, or something cannot be read.
pub(super) fn read<'a>(
    outputs: impl IntoIterator<Item = &'a StorePath>,
    links: &Links<'a>,
) -> Result<Listing, ReadListingError> {
    read_within(LIMITS, outputs, links)
}

fn read_within<'a>(
    limits: ListingLimits,
    outputs: impl IntoIterator<Item = &'a StorePath>,
    links: &Links<'a>,
) -> Result<Listing, ReadListingError> {
    let mut reader = Reader::new(links, limits);
    let mut wanted: Vec<&StorePath> = outputs.into_iter().collect();
    let mut roots = Vec::new();
    while let Some(path) = wanted.get(roots.len()).copied() {
        let propagated = propagated(links, path)?;
        let new: Vec<_> = propagated.iter().copied().filter(|path| !wanted.contains(path)).collect();
        wanted.extend(new);
        let node = reader.node_of(links.follow(path, "").map_err(error(&links.place(path)))?, Some(path));
        roots.push(Root { path: path.clone(), node, propagated: propagated.into_iter().cloned().collect() });
    }
    while let Some(place) = reader.places.get(reader.directories.len()).cloned() {
        let directory = reader.directory(&place)?;
        reader.directories.push(directory);
    }
    let listing = Listing::new(reader.directories, reader.targets, roots);
    Ok(listing.expect("every index was given to a directory or target"))
}

/// Whether a store path has a program that a container can start.
pub(super) fn has_program(
    path: &StorePath,
    program: &str,
    links: &Links<'_>,
) -> Result<bool, ReadListingError> {
    let program = format!("bin/{program}");
    let leads = links.follow(path, &program).map_err(error(&links.place(path).join(&program)))?;
    Ok(matches!(leads, Leads::File(_)))
}

/// Whether a store path has a directory at this place, or a symlink that leads to one in the closure.
pub(super) fn has_directory(
    path: &StorePath,
    inside: &str,
    links: &Links<'_>,
) -> Result<bool, ReadListingError> {
    let leads = links.follow(path, inside).map_err(error(&links.place(path).join(inside)))?;
    Ok(matches!(leads, Leads::Directory(_)))
}

fn error(path: &Path) -> impl FnOnce(io::Error) -> ReadListingError {
    let path = path.to_owned();
    |source| ReadListingError::Read { path, source }
}

/// The members of the closure that a store path propagates into a user's environment, as Nix reads them when it makes
/// one.
fn propagated<'a>(links: &Links<'a>, path: &StorePath) -> Result<Vec<&'a StorePath>, ReadListingError> {
    const FILE: &str = "nix-support/propagated-user-env-packages";
    let Leads::File(place) = links.follow(path, FILE).map_err(error(&links.place(path).join(FILE)))? else {
        return Ok(Vec::new());
    };
    let bytes = links.files.beginning(&place, MAX_PROPAGATED).map_err(error(&place))?;
    let words = bytes.split(|byte| matches!(byte, b' ' | b'\n')).filter(|word| !word.is_empty());
    let mut found: Vec<&StorePath> = Vec::new();
    for word in words {
        let place = Path::new(OsStr::from_bytes(word));
        if let Some((member, mut below)) = links.inside(place)
            && below.next().is_none()
            && !found.contains(&member)
        {
            found.push(member);
        }
    }
    Ok(found)
}

/// A listing that is being read.
struct Reader<'l, 'a> {
    links: &'l Links<'a>,
    /// Directories that were read, those of the first of the places.
    directories: Vec<Directory>,
    /// Directories by index, and the indices.
    places: Vec<PathBuf>,
    indices: HashMap<PathBuf, u32>,
    targets: Vec<Target>,
    /// The indices of targets, by the index of the directory.
    target_indices: HashMap<u32, u32>,
    limits: ListingLimits,
    files: usize,
    path_bytes: usize,
}

impl<'l, 'a> Reader<'l, 'a> {
    fn new(links: &'l Links<'a>, limits: ListingLimits) -> Self {
        Self {
            links,
            limits,
            directories: Vec::new(),
            places: Vec::new(),
            indices: HashMap::new(),
            targets: Vec::new(),
            target_indices: HashMap::new(),
            files: 0,
            path_bytes: 0,
        }
    }

    /// Reads a directory, and gives those that it refers to an index.
    fn directory(&mut self, place: &Path) -> Result<Directory, ReadListingError> {
        let mut directory = Directory::new();
        for (name, kind) in self.links.files.names(place).map_err(error(place))? {
            self.files += 1;
            if self.files > self.limits.files
                || self.links.steps() > self.limits.steps
                || self.path_bytes > self.limits.path_bytes
            {
                return Err(ReadListingError::TooLarge);
            }
            let below = place.join(&name);
            let node = match kind {
                Kind::Directory => Node::Directory(self.index(below)),
                Kind::Symlink => {
                    let leads = self.links.follow_link(place, &below).map_err(error(&below))?;
                    self.node_of(leads, None)
                }
                Kind::File => Node::File,
            };
            let name = FileName::new(name.as_bytes()).expect("directories hold file names");
            directory.insert(name, node);
        }
        Ok(directory)
    }

    /// The node for a path that leads there; `own` is the store path if the path is its root.
    fn node_of(&mut self, leads: Leads, own: Option<&StorePath>) -> Node {
        match leads {
            Leads::Directory(place) => {
                let is_link = own.is_none_or(|path| self.links.place(path) != place);
                let index = self.index(place);
                if is_link { Node::Link(self.target(index)) } else { Node::Directory(index) }
            }
            Leads::File(_) | Leads::Outside => Node::File,
            Leads::Nowhere => Node::Dangling,
        }
    }

    fn index(&mut self, place: PathBuf) -> u32 {
        let next = u32::try_from(self.places.len()).expect("no more than there are files");
        *self.indices.entry(place).or_insert_with_key(|place| {
            self.path_bytes += place.as_os_str().len();
            self.places.push(place.clone());
            next
        })
    }

    fn target(&mut self, directory: u32) -> u32 {
        *self.target_indices.entry(directory).or_insert_with(|| {
            let place = &self.places[directory as usize];
            let (path, below) = self.links.inside(place).expect("links are followed into the closure only");
            let name = |name: &OsStr| FileName::new(name.as_bytes()).expect("paths consist of file names");
            self.targets.push(Target { directory, path: path.clone(), below: below.map(name).collect() });
            u32::try_from(self.targets.len() - 1).expect("no more than there are files")
        })
    }
}

#[cfg(test)]
mod tests;
