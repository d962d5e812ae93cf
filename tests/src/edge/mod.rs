//! The Worker in real workerd, and a backend that misbehaves on request.
//!
//! The real backend has its own tests, and end-to-end tests have both. What is here shows what the edge does
//! when KV, R2 or the backend do what they should not.

mod origin;
mod workerd;

pub use origin::{Behaviour, Origin, Seen};
pub use workerd::{Edge, Reads, Settings};
