//! An image as a client asks for it.

use firn_shared::{naming::image_name::ImageName, oci::media_type::ManifestFormat, oci::reference::Tag};

/// An image by tag, in the format that the client wants.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub(crate) image: ImageName,
    pub(crate) tag: Tag,
    pub(crate) format: ManifestFormat,
}
