//! Upper bounds of numbers in options, so that computing with them cannot overflow.

use clap::{builder::RangedU64ValueParser, value_parser};

/// Seconds: at most a century, which can be added to any time.
pub(crate) fn seconds() -> RangedU64ValueParser {
    value_parser!(u64).range(..=100 * 365 * 24 * 3600)
}

/// Seconds: at least one, at most a century.
pub(crate) fn some_seconds() -> RangedU64ValueParser {
    value_parser!(u64).range(1..=100 * 365 * 24 * 3600)
}

/// MiB: at most so many that the number of bytes fits into 64 bits.
pub(crate) fn mebibytes() -> RangedU64ValueParser {
    value_parser!(u64).range(..=u64::MAX >> 20)
}
