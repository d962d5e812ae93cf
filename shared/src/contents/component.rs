//! A store path as a component of an image.

use super::web_address::is_web_address;
use crate::{
    naming::package::Package,
    nix::{closure::ClosurePath, derivation_name::DerivationName},
};

/// A store path, with what is known of its package.
#[derive(Debug, Clone, Copy)]
pub(super) struct Component<'a> {
    pub(super) member: &'a ClosurePath,
    pub(super) named: DerivationName<'a>,
    /// The package that the path is an output of, if it is one of the image's packages.
    pub(super) package: Option<&'a Package>,
}

impl<'a> Component<'a> {
    pub(super) fn new(member: &'a ClosurePath, package: Option<&'a Package>) -> Self {
        Self { member, named: DerivationName::of(&member.path), package }
    }

    /// The package URL. Its type `nix` is not registered; the qualifiers are those that Syft writes.
    pub(super) fn purl(&self) -> String {
        let DerivationName { name, version, output } = self.named;
        let mut purl = format!("pkg:nix/{}", escaped(name));
        if let Some(version) = version {
            purl.push('@');
            purl.push_str(&escaped(version));
        }
        let output = output.map(|output| format!("output={}&", escaped(output)));
        let hash = self.member.path.hash_part();
        purl.push_str(&format!("?{}outputhash={hash}", output.unwrap_or_default()));
        purl
    }

    pub(super) fn description(&self) -> Option<&'a str> {
        self.package?.description.as_deref()
    }

    pub(super) fn homepage(&self) -> Option<&'a str> {
        self.package?.homepage.as_deref().filter(|text| is_web_address(text))
    }
}

/// A part of a store path's name in a package URL. Of the characters that store paths may have, three are escaped.
fn escaped(text: &str) -> String {
    text.replace('+', "%2B").replace('=', "%3D").replace('?', "%3F")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::digest::NarHash;

    #[test]
    fn package_urls() {
        let hash = "3pmppdlqjx4i0ww255kg6wjzlvg8shdc";
        for (name, expect) in [
            ("git-2.39.5", "pkg:nix/git@2.39.5?outputhash="),
            ("glibc-2.34-210-bin", "pkg:nix/glibc@2.34-210?output=bin&outputhash="),
            ("libstdc++-12+rc=?", "pkg:nix/libstdc%2B%2B@12%2Brc%3D%3F?outputhash="),
            ("source", "pkg:nix/source?outputhash="),
        ] {
            let member = ClosurePath {
                path: format!("/nix/store/{hash}-{name}").parse().expect("a store path"),
                nar_hash: NarHash::of(b""),
                nar_size: 0,
                references: Vec::new(),
            };
            assert_eq!(Component::new(&member, None).purl(), format!("{expect}{hash}"));
        }
    }
}
