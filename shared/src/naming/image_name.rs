//! Image names: meta-packages at the front, then packages.
//!
//! `docs/names.md` is the table of meta-packages for users.

use crate::{
    naming::package_name::{PackageName, ParsePackageNameError},
    oci::{
        error::{ErrorCode, OciError},
        platform::Platform,
        repository_name::{MAX_NAME_LEN, RepositoryName},
    },
};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// What an image is asked to hold, in canonical form: two names that ask for the same are equal, and so are
/// the texts that they print as.
///
/// At least one package, `shell` or `debug` is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    platform: Option<Platform>,
    /// `root` is what images are without a word about it, so it is not kept.
    user: bool,
    shell: bool,
    debug: bool,
    /// Without repetition, in the order of [`canonical`].
    packages: Vec<PackageName>,
}

/// What a component means where no package stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MetaPackage {
    Platform(Platform),
    /// Containers start as this user.
    User(User),
    Shell,
    Debug,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum User {
    Root,
    Other,
}

impl MetaPackage {
    fn parse(component: &str) -> Option<Self> {
        Some(match component {
            "amd64" => Self::Platform(Platform::Amd64),
            "arm64" => Self::Platform(Platform::Arm64),
            "root" => Self::User(User::Root),
            "user" => Self::User(User::Other),
            "shell" => Self::Shell,
            "debug" => Self::Debug,
            _ => return None,
        })
    }
}

/// Why a text is not an image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseImageNameError {
    /// Longer than [`MAX_NAME_LEN`].
    #[error("image names have at most {MAX_NAME_LEN} characters, this one has {0}")]
    Length(usize),
    /// Only meta-packages such as `arm64`, which put nothing into an image.
    #[error("the image name asks for no package: write for example shell/git")]
    NoPackage,
    /// `root` and `user`.
    #[error("the image name asks for two users, root and user")]
    TwoUsers,
    /// Two platforms.
    #[error("the image name asks for two platforms, {0} and {1}")]
    TwoPlatforms(Platform, Platform),
    /// A component that is no package name.
    #[error(transparent)]
    Package(#[from] ParsePackageNameError),
}

/// A package that an image is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Names to try, best first.
    pub names: Vec<PackageName>,
    /// Whether the image cannot be made without it.
    pub required: bool,
    /// Whether the image name spells it out, rather than implying it.
    pub requested: bool,
    /// Which of its files show at the root of the image.
    pub shows: Shows,
}

/// Which files of a package show at the root of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// All of them.
    Everything,
    /// These, where nothing else is in their place. Paths from the root, without leading slash.
    Only(&'static [&'static str]),
}

/// A want that an image name implies.
struct Implied {
    /// Names to try, best first.
    names: &'static [&'static str],
    required: bool,
    shows: Shows,
}

impl Implied {
    const fn required(names: &'static [&'static str]) -> Self {
        Self { names, required: true, shows: Shows::Everything }
    }

    const fn optional(names: &'static [&'static str]) -> Self {
        Self { names, required: false, shows: Shows::Everything }
    }
}

/// Sets that lack `bashInteractive` have a `bash`.
const BASH: Implied = Implied::required(&["bashinteractive", "bash"]);

/// What `shell` stands for. Nixery's list; moreutils and nano are conveniences that small sets may not have.
const SHELL: [Implied; 4] = [
    BASH,
    Implied::required(&["coreutils"]),
    Implied::optional(&["moreutils"]),
    Implied::optional(&["nano"]),
];

/// What `debug` stands for: enough to see processes, files, sockets and name resolution from inside a
/// container. Only the shell must be there; the names are nixpkgs'.
const DEBUG: [Implied; 13] = [
    BASH,
    Implied::optional(&["coreutils"]),
    Implied::optional(&["findutils"]),
    Implied::optional(&["gnugrep"]),
    Implied::optional(&["less"]),
    Implied::optional(&["procps"]),
    Implied::optional(&["strace"]),
    Implied::optional(&["lsof"]),
    Implied::optional(&["iproute2"]),
    Implied::optional(&["dnsutils"]),
    Implied::optional(&["socat"]),
    Implied::optional(&["curl"]),
    Implied::optional(&["file"]),
];

/// In every image where the package set has it, so that TLS works.
const CA_BUNDLE: Implied = Implied::optional(&["cacert"]);
/// In every image where the package set has it, so that names of services and protocols are known. The package
/// may hold more, which is nothing that the image was asked for.
const SERVICES: Implied =
    Implied { names: &["iana-etc"], required: false, shows: Shows::Only(&["etc/protocols", "etc/services"]) };

impl ImageName {
    /// The image that a repository's name asks for.
    ///
    /// # Errors
    /// `NAME_INVALID` when it asks for none.
    pub fn of(repository: &RepositoryName) -> Result<Self, OciError> {
        Ok(repository.as_str().parse::<Self>()?)
    }

    /// The platform that the name asks for, if it does.
    pub fn platform(&self) -> Option<Platform> {
        self.platform
    }

    /// Whether `shell` is asked for.
    pub fn shell(&self) -> bool {
        self.shell
    }

    /// Whether containers start as an ordinary user rather than as root.
    pub fn user(&self) -> bool {
        self.user
    }

    /// Whether what containers run is a shell: it was asked for, or there is nothing else to run.
    pub fn starts_shell(&self) -> bool {
        self.shell || self.packages.is_empty()
    }

    /// The packages that the name spells out, in canonical order.
    pub fn packages(&self) -> impl ExactSizeIterator<Item = &PackageName> {
        self.packages.iter()
    }

    /// Everything that goes in, in the order in which conflicts between files are decided: what was asked
    /// for before what is implied.
    pub fn wants(&self) -> Vec<Want> {
        let mut wants: Vec<Want> = self
            .packages
            .iter()
            .map(|name| Want {
                names: vec![name.clone()],
                required: true,
                requested: true,
                shows: Shows::Everything,
            })
            .collect();
        let shell = SHELL.iter().filter(|_| self.shell);
        let debug = DEBUG.iter().filter(|_| self.debug);
        for implied in shell.chain(debug).chain([&CA_BUNDLE, &SERVICES]) {
            let names = implied.names.iter();
            let names: Vec<_> = names.map(|name| name.parse().expect("a constant package name")).collect();
            // `shell` requires what `debug` only likes to have; it comes first.
            if !wants.iter().any(|want| want.names == names) {
                let Implied { required, shows, .. } = *implied;
                wants.push(Want { names, required, requested: false, shows });
            }
        }
        wants
    }

    /// Every package name that may play a part.
    pub fn candidates(&self) -> BTreeSet<PackageName> {
        self.wants().into_iter().flat_map(|want| want.names).collect()
    }
}

/// Sorted, but what would be a meta-package at the front stands after what would not, so that the text that
/// a name prints as means the same name. At least one does not: otherwise no package had been read.
fn canonical(packages: &mut Vec<PackageName>) {
    packages.sort_unstable_by(|a, b| {
        let key = |name: &PackageName| MetaPackage::parse(name.as_str()).is_some();
        key(a).cmp(&key(b)).then_with(|| a.cmp(b))
    });
    packages.dedup();
}

impl FromStr for ImageName {
    type Err = ParseImageNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_NAME_LEN {
            return Err(ParseImageNameError::Length(text.len()));
        }
        let (mut platform, mut user) = (None, None);
        let mut name = Self { platform, user: false, shell: false, debug: false, packages: Vec::new() };
        for component in text.split('/') {
            match MetaPackage::parse(component).filter(|_| name.packages.is_empty()) {
                Some(MetaPackage::Shell) => name.shell = true,
                Some(MetaPackage::Debug) => name.debug = true,
                Some(MetaPackage::Platform(asked)) => {
                    if let Some(other) = platform.replace(asked).filter(|other| *other != asked) {
                        return Err(ParseImageNameError::TwoPlatforms(other, asked));
                    }
                }
                Some(MetaPackage::User(asked)) => {
                    if user.replace(asked).is_some_and(|other| other != asked) {
                        return Err(ParseImageNameError::TwoUsers);
                    }
                }
                None => name.packages.push(component.parse()?),
            }
        }
        if name.packages.is_empty() && !name.shell && !name.debug {
            return Err(ParseImageNameError::NoPackage);
        }
        name.platform = platform;
        name.user = user == Some(User::Other);
        canonical(&mut name.packages);
        Ok(name)
    }
}

impl From<ParseImageNameError> for OciError {
    fn from(error: ParseImageNameError) -> Self {
        Self::new(ErrorCode::NameInvalid, error.to_string())
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let platform = self.platform.map(Platform::architecture);
        let switches = [(self.user, "user"), (self.shell, "shell"), (self.debug, "debug")];
        let switches = switches.into_iter().filter_map(|(on, word)| on.then_some(word));
        let packages = self.packages.iter().map(PackageName::as_str);
        for (i, component) in platform.into_iter().chain(switches).chain(packages).enumerate() {
            if i > 0 {
                f.write_str("/")?;
            }
            f.write_str(component)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
