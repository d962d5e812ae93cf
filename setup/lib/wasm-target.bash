# shellcheck shell=bash

# True when the rustc in PATH has the standard library for wasm32-unknown-unknown.
native_has_wasm32() {
    local libdir
    libdir=$(rustc --target wasm32-unknown-unknown --print target-libdir 2>/dev/null) &&
        compgen -G "$libdir/libcore-*.rlib" >/dev/null
}
