//! libFuzzer on the target that `FIRN_FUZZ_TARGET` names. One program for all targets: linking is what takes
//! time, and libFuzzer only counts coverage that the chosen target reaches.
#![no_main]
// libFuzzer's entry point is a C symbol; the macro that makes it is the fuzzer's own.
#![allow(unsafe_code)]

use std::sync::LazyLock;

static TARGET: LazyLock<firn_fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("FIRN_FUZZ_TARGET").unwrap_or_default();
    firn_fuzz::target(&name).unwrap_or_else(|| {
        let known: Vec<_> = firn_fuzz::TARGETS.iter().map(|(name, _)| *name).collect();
        panic!("FIRN_FUZZ_TARGET is {name:?}, not one of {}", known.join(", "))
    })
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    TARGET(bytes);
});
