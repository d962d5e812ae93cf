//! How large numbers in options may be, so that nothing overflows that is computed with them.

use clap::{builder::RangedU64ValueParser, value_parser};

/// Seconds: a century at most, which can be added to any time.
pub(crate) fn seconds() -> RangedU64ValueParser {
    value_parser!(u64).range(..=100 * 365 * 24 * 3600)
}

/// Seconds of patience: there must be some.
pub(crate) fn some_seconds() -> RangedU64ValueParser {
    value_parser!(u64).range(1..=100 * 365 * 24 * 3600)
}

/// MiB: as many as have a number of bytes.
pub(crate) fn mebibytes() -> RangedU64ValueParser {
    value_parser!(u64).range(..=u64::MAX >> 20)
}
