//! The contract between edge and backend: the headers they exchange, and the keys of data that both read.

pub mod authentication;
pub mod base_url;
pub mod client_network;
pub mod credentials;
pub mod edge_cache;
pub mod object_key;
pub mod presigned_url;
pub mod protocol;
pub mod tag_pointer;
pub mod waiting;
