//! Work that clients wait for: the clients that wait, their turns, and the progress of the work. Work that several clients
//! want is done once.
//!
//! Nothing here knows what the work is.

mod audience;
mod flights;
mod progress;
mod queue;
mod remembered;
mod turns;

pub use audience::{Abandoned, Attendance, Audience, Client};
pub use flights::{Flight, Flights};
pub(crate) use progress::DEFECT;
pub use progress::{BuildPage, Builds, Phase, Progress};
pub use queue::{Place, Queue, QueueError};
pub(crate) use remembered::for_a_while;
pub use turns::{Turn, Turns};
