//! The package set that a tag names, and the keys of its images.

use super::{BuildError, Builder};
use crate::waiting::Client;
use firn_shared::{
    cache_key::CacheKey,
    image,
    naming::{image_name::ImageName, package::Words, package_source::Revision},
    oci::reference::Tag,
};

/// Everything that determines an image but its name.
#[derive(Debug, Clone)]
pub struct PackageSetState {
    /// The package set.
    pub revision: Revision,
    /// The package set and the recipe: images of one name and one token are the same for ever.
    pub token: CacheKey,
}

impl PackageSetState {
    /// The key of the image of this name.
    pub fn image_key(&self, name: &ImageName) -> CacheKey {
        CacheKey::builder("image-1").field(self.token.to_string()).field(name.to_string()).build()
    }
}

impl Builder {
    /// What a tag means right now.
    ///
    /// # Errors
    /// When the tag means nothing, or what it means cannot be found out.
    pub async fn package_set(&self, tag: &Tag, client: Client) -> Result<PackageSetState, BuildError> {
        Ok(self.package_set_at(self.revision(tag, client).await?))
    }

    /// The revision that a tag means right now; looked up in the source once per short interval.
    ///
    /// # Errors
    /// When the tag means nothing, or what it means cannot be found out.
    pub async fn revision(&self, tag: &Tag, client: Client) -> Result<Revision, BuildError> {
        Ok(self.packages.revision(tag, client).await?)
    }

    /// Whether answers may hold what a revision says in its own words.
    pub fn words(&self, revision: &Revision) -> Words {
        self.packages.trust(revision).words()
    }

    /// The package set of a revision.
    pub fn package_set_at(&self, revision: Revision) -> PackageSetState {
        let token = self.token(&revision);
        PackageSetState { revision, token }
    }

    pub(super) fn token(&self, revision: &Revision) -> CacheKey {
        let recipe = &self.recipe;
        let token = CacheKey::builder("package-set-3")
            .field(image::FORMAT.to_le_bytes())
            .field(serde_json::to_vec(revision).expect("revisions serialise"))
            .field(recipe.strategy.version())
            .field(recipe.layer_budget.to_le_bytes())
            .field(recipe.platform.system())
            .field([u8::from(recipe.allow_unfree)])
            .field(self.layers.encoder().identity());
        // Images whose hashes come from a key that has been revoked are made again.
        match self.packages.cache_trust() {
            Some(trust) => token.field(trust).build(),
            None => token.build(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{names_key, package_key};
    use firn_shared::oci::platform::Platform;
    use proptest::prelude::*;

    fn revision() -> impl Strategy<Value = Revision> {
        let git = ("[ab/:\"\\\\]{0,3}", "[01]{2}").prop_map(|(url, end)| Revision::Git {
            url: url.as_str().into(),
            rev: format!("{}{end}", "0".repeat(38)).parse().expect("a commit"),
        });
        let flake = ("[ab/]{0,2}", "[ab]{0,2}").prop_map(|(url, dir)| Revision::Flake {
            url: url.as_str().into(),
            dir: dir.parse().expect("a directory"),
            rev: "0".repeat(40).parse().expect("a commit"),
        });
        prop_oneof![git, flake, "[ab01\"]{0,3}".prop_map(|content| Revision::Path { content })]
    }

    fn platform() -> impl Strategy<Value = Platform> {
        prop_oneof![Just(Platform::Amd64), Just(Platform::Arm64)]
    }

    fn image_name() -> impl Strategy<Value = ImageName> {
        let text = "(arm64/|amd64/|shell/|user/|debug/){0,2}[ab]{1,2}([./-][ab]{1,2}){0,3}";
        text.prop_filter_map("two platforms", |text| text.parse().ok())
    }

    proptest! {
        #[test]
        fn different_packages_and_indexes_have_different_keys(
            a in (revision(), platform(), any::<bool>(), "[ab]{1,2}([.-][ab]{1,2}){0,2}"),
            b in (revision(), platform(), any::<bool>(), "[ab]{1,2}([.-][ab]{1,2}){0,2}"),
        ) {
            let package = |(revision, platform, unfree, name): &(Revision, Platform, bool, String)| {
                package_key(revision, *platform, *unfree, &name.parse().expect("a name"))
            };
            prop_assert_eq!(a == b, package(&a) == package(&b), "{:?} {:?}", a, b);
            let names = |of: &(Revision, Platform, bool, String)| names_key(&of.0, of.1, of.2);
            prop_assert_eq!((&a.0, a.1, a.2) == (&b.0, b.1, b.2), names(&a) == names(&b));
            prop_assert_ne!(package(&a), names(&b));
        }

        #[test]
        fn different_images_have_different_keys(
            a in ("[ab]{0,2}", image_name()),
            b in ("[ab]{0,2}", image_name()),
        ) {
            let key = |(token, name): &(String, ImageName)| {
                let revision = Revision::Path { content: String::new() };
                let token = CacheKey::builder("t").field(token).build();
                PackageSetState { revision, token }.image_key(name)
            };
            prop_assert_eq!(a == b, key(&a) == key(&b), "{:?} {:?}", a, b);
        }
    }
}
