//! The registry's words, as the OCI distribution and image specifications have them.

pub mod byte_range;
pub mod digest;
pub mod discovery;
pub mod document;
pub mod endpoint;
pub mod entity_tag;
pub mod error;
mod escaping;
pub mod media_type;
pub mod platform;
pub mod query;
pub mod reference;
pub mod repository_name;
pub mod request;
pub mod respond;
