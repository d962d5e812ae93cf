//! Which tags an image name has, and what refers to an image (distribution spec, "Content Discovery").

use crate::oci::{
    document::{Descriptor, Document, ImageIndex},
    error::{ErrorCode, OciError},
    media_type::ManifestFormat,
    query::Query,
    reference::Tag,
    repository_name::RepositoryName,
};
use serde::Deserialize;

/// The error for a tag of [`Tag::is_of_referrers`] by which there is nothing. No package set has such tags, so that
/// none has to be asked.
pub fn no_referrers_tag(tag: &Tag) -> OciError {
    OciError::new(ErrorCode::ManifestUnknown, format!("{tag}: nothing is attached to an image by this tag"))
}

/// One page of a tag list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagsPage {
    /// The JSON body.
    pub body: Vec<u8>,
    /// The `Link` header, when there are more tags.
    pub link: Option<String>,
}

impl TagsPage {
    /// The page that a query (`n=…&last=…`) asks for, of a name's tags in any order.
    ///
    /// # Errors
    /// `PAGINATION_NUMBER_INVALID` when `n` is no number.
    pub fn new<'a>(
        name: &RepositoryName,
        tags: impl IntoIterator<Item = &'a Tag>,
        query: Query<'_>,
    ) -> Result<Self, OciError> {
        Self::of(name, tags, false, query)
    }

    /// The page that the same query asks for when others have tags of the name too: of their page and these tags.
    /// Theirs is full where it has a link, so that no tag of theirs that it lacks belongs on this page.
    ///
    /// # Errors
    /// As [`TagsPage::new`].
    pub fn merged(
        name: &RepositoryName,
        theirs: &Self,
        own: &[Tag],
        query: Query<'_>,
    ) -> Result<Self, OciError> {
        Self::of(name, theirs.tags().iter().chain(own), theirs.link.is_some(), query)
    }

    /// Whether a tag is on the page.
    pub fn has(&self, tag: &Tag) -> bool {
        self.tags().contains(tag)
    }

    /// The tags on the page; what is no tag is left out.
    fn tags(&self) -> Vec<Tag> {
        #[derive(Deserialize)]
        struct Body {
            tags: Vec<String>,
        }
        let body = serde_json::from_slice::<Body>(&self.body);
        let tags = body.map(|body| body.tags).unwrap_or_default();
        tags.iter().filter_map(|tag| tag.parse().ok()).collect()
    }

    fn of<'a>(
        name: &RepositoryName,
        tags: impl IntoIterator<Item = &'a Tag>,
        are_more: bool,
        query: Query<'_>,
    ) -> Result<Self, OciError> {
        let limit = match query.get("n") {
            None => usize::MAX,
            Some(n) => n.parse().map_err(|_| {
                let message = "n, how many tags to list, is not a number";
                OciError::new(ErrorCode::PaginationNumberInvalid, message)
            })?,
        };
        let mut tags: Vec<&str> = tags.into_iter().map(Tag::as_str).collect();
        tags.sort_unstable();
        tags.dedup();
        if let Some(last) = query.get("last") {
            tags.retain(|tag| *tag > last);
        }
        let more = limit > 0 && (are_more || tags.len() > limit);
        tags.truncate(limit);
        let link = tags
            .last()
            .filter(|_| more)
            .map(|last| format!("</v2/{name}/tags/list?n={limit}&last={last}>; rel=\"next\""));
        let body = serde_json::json!({ "name": name.as_str(), "tags": tags });
        Ok(Self { body: serde_json::to_vec(&body).expect("strings serialise"), link })
    }
}

/// The index of what refers to a manifest: the descriptors of artifacts, of the type that the client asks for if it asks
/// for one. It may be empty. Its media type is [`crate::oci::media_type::OCI_INDEX`].
pub fn referrers_index(referrers: &[Descriptor], artifact_type: Option<&str>) -> Vec<u8> {
    let is_wanted = |referrer: &&Descriptor| match artifact_type {
        Some(wanted) => referrer.artifact_type.as_deref() == Some(wanted),
        None => true,
    };
    let wanted = referrers.iter().filter(is_wanted).cloned().collect();
    Document::Index(ImageIndex::new(ManifestFormat::Oci, wanted)).to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{
        digest::Digest,
        media_type::{OCI_INDEX, OCI_MANIFEST},
    };
    use proptest::{collection::btree_set, prelude::*};
    use std::collections::BTreeSet;

    #[test]
    fn pages_are_sorted_and_link_to_the_next() {
        let name: RepositoryName = "shell/git".parse().expect("a name");
        let tags: Vec<Tag> = ["v2", "latest", "v1", "v1"].map(|tag| tag.parse().expect("a tag")).into();
        let check = |query: Option<&str>, expect: &[&str], link: Option<&str>| {
            let page = TagsPage::new(&name, &tags, Query::new(query)).expect("a page");
            let body: serde_json::Value = serde_json::from_slice(&page.body).expect("JSON");
            assert_eq!(body, serde_json::json!({ "name": "shell/git", "tags": expect }), "{query:?}");
            let link = link.map(|query| format!("</v2/shell/git/tags/list?{query}>; rel=\"next\""));
            assert_eq!(page.link, link, "{query:?}");
        };
        check(None, &["latest", "v1", "v2"], None);
        check(Some("n=3"), &["latest", "v1", "v2"], None);
        check(Some("n=2&ns=x"), &["latest", "v1"], Some("n=2&last=v1"));
        check(Some("last=v1&n=1"), &["v2"], None);
        check(Some("n=0"), &[], None);
        check(Some("last=zzz"), &[], None);
        let error = TagsPage::new(&name, &tags, Query::new(Some("n=x"))).expect_err("no number");
        assert_eq!((error.status(), error.code), (400, ErrorCode::PaginationNumberInvalid));
    }

    proptest! {
        #[test]
        fn pages_of_two_lists_are_pages_of_their_union(
            theirs in btree_set("[a-d]{1,2}", 0..8),
            own in btree_set("[a-d]{1,2}", 0..8),
            n in 1_usize..5,
        ) {
            let name: RepositoryName = "git".parse().expect("a name");
            let parse = |tags: &BTreeSet<String>| -> Vec<Tag> {
                tags.iter().map(|tag| tag.parse().expect("a tag")).collect()
            };
            let union: BTreeSet<String> = theirs.union(&own).cloned().collect();
            let (theirs, own, all) = (parse(&theirs), parse(&own), parse(&union));
            let mut query = format!("n={n}");
            loop {
                let page = TagsPage::new(&name, &theirs, Query::new(Some(&query))).expect("a page");
                let merged = TagsPage::merged(&name, &page, &own, Query::new(Some(&query))).expect("a page");
                prop_assert_eq!(&merged, &TagsPage::new(&name, &all, Query::new(Some(&query))).expect("a page"));
                let Some(link) = merged.link else { break };
                query = link.split_once('?').and_then(|(_, rest)| rest.split_once('>')).expect("a link").0.into();
            }
        }
    }

    #[test]
    fn no_referrers_is_an_image_index() {
        let bytes = referrers_index(&[], None);
        let index = oci_spec::image::ImageIndex::from_reader(bytes.as_slice()).expect("an index");
        assert!(index.manifests().is_empty());
        assert_eq!(index.media_type().as_ref().map(ToString::to_string).as_deref(), Some(OCI_INDEX));
    }

    #[test]
    fn referrers_are_filtered_by_type() {
        let of_type = |artifact_type: &str| Descriptor {
            artifact_type: Some(artifact_type.into()),
            ..Descriptor::new(OCI_MANIFEST, Digest::of(artifact_type.as_bytes()), 1)
        };
        let all = [of_type("a/a"), of_type("b/b"), Descriptor::new(OCI_MANIFEST, Digest::of(b""), 1)];
        let listed = |wanted| match Document::parse(&referrers_index(&all, wanted)).expect("a document") {
            Document::Index(index) => index.manifests,
            Document::Image(_) => panic!("an image"),
        };
        assert_eq!(listed(None), all);
        assert_eq!(listed(Some("b/b")), all[1..2]);
        assert_eq!(listed(Some("b")), []);
    }
}
