//! The records that a backend has published for edges, and images that `firn-shared` alone composes from them.

use crate::registry::Registry;
use firn_shared::{
    cache_key::CacheKey,
    composition::{
        ComposeError, KnownPackage, PATH, PackageSetRecord, compose, package_key, package_set_key,
    },
    image::Image,
    link::protocol::ImageSetId,
    naming::{image_name::ImageName, package_name::PackageName},
    oci::platform::Platform,
};
use std::cell::RefCell;
use std::collections::HashMap;

/// The records of one image set id. They are fetched when they are needed.
pub struct Published<'a> {
    registry: &'a Registry,
    token: ImageSetId,
    /// What all images of the token have in common.
    pub set: PackageSetRecord,
    known: RefCell<HashMap<CacheKey, Option<&'static KnownPackage>>>,
    /// Size in bytes of each record that was fetched, by package name.
    pub sizes: RefCell<HashMap<String, usize>>,
}

impl<'a> Published<'a> {
    /// The records of the package set that `latest` names. At least one of its images must have been built.
    ///
    /// # Panics
    /// If there are none.
    pub fn by(registry: &'a Registry, image: &str) -> Self {
        let answer = registry.built(image, "latest");
        let token: ImageSetId =
            answer.header("x-firn-package-set").and_then(|token| token.parse().ok()).expect("a token");
        let key = package_set_key(&token);
        let bytes = record(registry, &key).expect("the package set's record");
        let set = PackageSetRecord::decode(&key, &bytes).expect("a record");
        Self { registry, token, set, known: RefCell::default(), sizes: RefCell::default() }
    }

    /// Composes the image of a name.
    ///
    /// # Errors
    /// If only the backend can make it.
    pub fn compose(&self, name: &ImageName) -> Result<Image, ComposeError> {
        let platform = name.platform().unwrap_or(self.set.recipe.platform);
        compose(name, &self.set, |package| self.look_up(package, platform))
    }

    /// The record of a package for the default platform.
    ///
    /// # Panics
    /// If the name is invalid.
    pub fn known(&self, package: &str) -> Option<&'static KnownPackage> {
        self.look_up(&package.parse().expect("a package name"), self.set.recipe.platform)
    }

    fn look_up(&self, package: &PackageName, platform: Platform) -> Option<&'static KnownPackage> {
        let key = package_key(&self.token, platform, package);
        *self.known.borrow_mut().entry(key).or_insert_with(|| {
            let bytes = record(self.registry, &key)?;
            self.sizes.borrow_mut().insert(package.to_string(), bytes.len());
            let known = KnownPackage::decode(&key, &bytes).expect("a record");
            // The leak ends with the test.
            Some(Box::leak(Box::new(known)))
        })
    }
}

fn record(registry: &Registry, key: &CacheKey) -> Option<Vec<u8>> {
    let answer = registry.get(&format!("{PATH}{key}"));
    match answer.status {
        200 => Some(answer.body),
        404 => None,
        status => panic!("{key}: {status} {}", answer.text()),
    }
}

/// Names of images: many combinations of at least two of these packages, the same in every run.
pub fn combinations<'a>(packages: &'a [&'a str], most: usize) -> impl Iterator<Item = ImageName> + 'a {
    // The generator of "Numerical Recipes". Any numbers will do.
    let mut state = 1u32;
    let mut next = move |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    let mut seen = std::collections::HashSet::new();
    std::iter::from_fn(move || {
        loop {
            let switches = ["", "shell/", "user/", "user/shell/"][next(4)];
            let names: Vec<&str> = (0..2 + next(most - 1)).map(|_| packages[next(packages.len())]).collect();
            let name: ImageName = format!("{switches}{}", names.join("/")).parse().expect("an image name");
            if name.packages().len() > 1 && seen.insert(name.clone()) {
                return Some(name);
            }
        }
    })
}
