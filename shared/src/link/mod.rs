//! What edge and backend say to each other, and where they leave what both read.

pub mod authentication;
pub mod base_url;
pub mod client_network;
pub mod credentials;
pub mod edge_cache;
pub mod object_key;
pub mod patience;
pub mod presigned_url;
pub mod protocol;
