//! Image names: meta-packages first, then packages.
//!
//! `docs/names.md` has the table of meta-packages for users.

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

/// An image name in canonical form. Two names with the same meaning are equal, and so are their texts.
///
/// It contains at least one package, `shell` or `debug`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    platform: Option<Platform>,
    /// Whether the name contains `user`. `root` is the default and is not stored.
    user: bool,
    shell: bool,
    debug: bool,
    /// The packages without repetition, in the order of [`canonical`].
    packages: Vec<PackageName>,
}

/// A component with a special meaning. It has that meaning only before the first package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MetaPackage {
    Platform(Platform),
    /// The user as which containers start.
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
    /// The name is longer than [`MAX_NAME_LEN`].
    #[error("image names have at most {MAX_NAME_LEN} characters, this one has {0}")]
    Length(usize),
    /// The name has only meta-packages that add nothing to an image, such as `arm64`.
    #[error("the image name asks for no package: write for example shell/git")]
    NoPackage,
    /// The name has both `root` and `user`.
    #[error("the image name asks for two users, root and user")]
    TwoUsers,
    /// The name has two platforms.
    #[error("the image name asks for two platforms, {0} and {1}")]
    TwoPlatforms(Platform, Platform),
    /// A component is not a package name.
    #[error(transparent)]
    Package(#[from] ParsePackageNameError),
}

/// A package that an image name asks for, spelled out or implied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Names to try, best first.
    pub names: Vec<PackageName>,
    /// Whether the image cannot be made without the package.
    pub required: bool,
    /// Whether the image name spells the package out instead of implying it.
    pub requested: bool,
    /// Which of the package's files appear at the root of the image.
    pub shows: Shows,
}

/// Which files of a package appear at the root of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// All files.
    Everything,
    /// These files only, unless another package has a file at the same path. Paths are relative to the root and have no
    /// leading slash.
    Only(&'static [&'static str]),
}

/// A package that an image name implies.
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

/// The shell. Package sets without `bashInteractive` have `bash`.
const BASH: Implied = Implied::required(&["bashinteractive", "bash"]);

/// The packages that `shell` implies. The list is Nixery's. moreutils and nano are optional because small package sets
/// may lack them.
const SHELL: [Implied; 4] = [
    BASH,
    Implied::required(&["coreutils"]),
    Implied::optional(&["moreutils"]),
    Implied::optional(&["nano"]),
];

/// The packages that `debug` implies: tools to inspect processes, files, sockets and name resolution inside a
/// container. Only the shell is required. The names are those of nixpkgs.
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

/// CA certificates, for TLS. Every image contains them if the package set has them.
const CA_BUNDLE: Implied = Implied::optional(&["cacert"]);
/// The names of services and protocols. Every image contains them if the package set has them. Other files of the
/// package do not appear, because the image name did not ask for them.
const SERVICES: Implied =
    Implied { names: &["iana-etc"], required: false, shows: Shows::Only(&["etc/protocols", "etc/services"]) };

impl ImageName {
    /// Parses the name of a repository as an image name.
    ///
    /// # Errors
    /// `NAME_INVALID` if it is not an image name.
    pub fn of(repository: &RepositoryName) -> Result<Self, OciError> {
        Ok(repository.as_str().parse::<Self>()?)
    }

    /// The platform in the name, if there is one.
    pub fn platform(&self) -> Option<Platform> {
        self.platform
    }

    /// Whether the name contains `shell`.
    pub fn shell(&self) -> bool {
        self.shell
    }

    /// Whether containers start as an ordinary user instead of root.
    pub fn user(&self) -> bool {
        self.user
    }

    /// Whether containers start a shell. They do if the name contains `shell`, or no package.
    pub fn starts_shell(&self) -> bool {
        self.shell || self.packages.is_empty()
    }

    /// The packages that the name spells out, in canonical order.
    pub fn packages(&self) -> impl ExactSizeIterator<Item = &PackageName> {
        self.packages.iter()
    }

    /// All packages that the name asks for. If two have a file at the same path, the earlier one wins. Packages that
    /// the name spells out come before implied ones.
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
            // The packages of `shell` come first because some are required there and optional in `debug`.
            if !wants.iter().any(|want| want.names == names) {
                let Implied { required, shows, .. } = *implied;
                wants.push(Want { names, required, requested: false, shows });
            }
        }
        wants
    }

    /// All package names that are needed to make the image.
    pub fn candidates(&self) -> BTreeSet<PackageName> {
        self.wants().into_iter().flat_map(|want| want.names).collect()
    }
}

/// Sorts the packages. Packages whose names are also meta-packages come last, so that the printed name parses as the
/// same name. At least one package has another name, because the first package of an image name cannot be a
/// meta-package.
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
