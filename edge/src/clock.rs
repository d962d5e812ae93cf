//! What time it is. Workers' clocks stand still while code runs and move with I/O.

use worker::js_sys;

/// Milliseconds since 1970.
pub(crate) fn now_millis() -> u64 {
    js_sys::Date::now() as u64
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    now_millis() / 1000
}
