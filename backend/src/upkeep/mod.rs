//! Maintains the store beside the servers that use it: garbage collection and checking.

mod background;
mod choice;
mod fsck;
mod gc;

pub use background::look_after;
pub use choice::RemovalReason;
pub use fsck::{Finding, FsckReport, Problem, check};
pub use gc::{Collection, Removal, collect};

#[cfg(test)]
mod tests;
