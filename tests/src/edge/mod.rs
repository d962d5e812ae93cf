//! The Worker in real workerd, and a backend that fails on request.
//!
//! The real backend has its own tests, and end-to-end tests use both. These tests show what the edge does if KV, R2
//! or the backend fail.

mod origin;
pub mod planet;
pub mod pull;
pub mod receipts;
pub mod records;
mod workerd;

pub use origin::{Behaviour, Origin, Seen};
pub use workerd::{Edge, Reads, Settings};
