//! Image names: meta-packages at the front, then packages.

use crate::{
    package_name::{PackageName, ParsePackageNameError},
    platform::Platform,
};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// The longest name that clients accept, in bytes (distribution spec, "Pulling manifests").
pub const MAX_NAME_LEN: usize = 255;

/// What an image is asked to hold, in canonical form: two names that ask for the same are equal.
///
/// Packages are sorted and without repetition; meta-packages stand before them. At least one package or
/// `shell` is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    platform: Option<Platform>,
    shell: bool,
    packages: BTreeSet<PackageName>,
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
}

/// What `shell` stands for. Nixery's list; sets that lack `bashInteractive` have a `bash`, and moreutils
/// and nano are conveniences that small sets may not have.
const SHELL: [(&[&str], bool); 4] = [
    (&["bashinteractive", "bash"], true),
    (&["coreutils"], true),
    (&["moreutils"], false),
    (&["nano"], false),
];

/// In every image where the package set has it, so that TLS works.
const CA_BUNDLE: &str = "cacert";

impl ImageName {
    /// The platform that the name asks for, if it does.
    pub fn platform(&self) -> Option<Platform> {
        self.platform
    }

    /// Whether the name begins with `shell`.
    pub fn shell(&self) -> bool {
        self.shell
    }

    /// The packages that the name spells out, sorted.
    pub fn packages(&self) -> impl ExactSizeIterator<Item = &PackageName> {
        self.packages.iter()
    }

    /// Everything that goes in, in the order in which conflicts between files are decided: what was asked
    /// for before what is implied.
    pub fn wants(&self) -> Vec<Want> {
        let implied = |names: &[&str], required| Want {
            names: names.iter().map(|name| name.parse().expect("a constant package name")).collect(),
            required,
            requested: false,
        };
        let mut wants: Vec<Want> = self
            .packages
            .iter()
            .map(|name| Want { names: vec![name.clone()], required: true, requested: true })
            .collect();
        if self.shell {
            wants.extend(SHELL.iter().map(|(names, required)| implied(names, *required)));
        }
        wants.push(implied(&[CA_BUNDLE], false));
        wants
    }
}

impl FromStr for ImageName {
    type Err = ParseImageNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_NAME_LEN {
            return Err(ParseImageNameError::Length(text.len()));
        }
        let mut name = Self { platform: None, shell: false, packages: BTreeSet::new() };
        for component in text.split('/') {
            let at_front = name.packages.is_empty();
            match component {
                "shell" if at_front => name.shell = true,
                "amd64" | "arm64" if at_front => {
                    let platform = if component == "amd64" { Platform::Amd64 } else { Platform::Arm64 };
                    match name.platform.replace(platform) {
                        Some(other) if other != platform => {
                            return Err(ParseImageNameError::TwoPlatforms(other, platform));
                        }
                        _ => {}
                    }
                }
                package => {
                    name.packages.insert(package.parse()?);
                }
            }
        }
        if name.packages.is_empty() && !name.shell {
            return Err(ParseImageNameError::NoPackage);
        }
        Ok(name)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let platform = self.platform.map(Platform::architecture);
        let shell = self.shell.then_some("shell");
        let packages = self.packages.iter().map(PackageName::as_str);
        for (i, component) in platform.into_iter().chain(shell).chain(packages).enumerate() {
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
