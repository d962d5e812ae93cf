//! Runs libFuzzer on the target in `FIRN_FUZZ_TARGET`. All targets are one program, because linking takes the most
//! time, and libFuzzer counts only coverage that the chosen target reaches.
#![no_main]
// libFuzzer's entry point is a C symbol, which the fuzzer's own macro defines.
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
