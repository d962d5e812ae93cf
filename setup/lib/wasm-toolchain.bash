# Which Rust toolchain can compile for wasm32-unknown-unknown on this machine. Sourced after cache.bash.
#
# Usually the one in PATH (rustup, or a distribution that ships the target). Where its target cannot be
# added, setup/wasm32-std makes another in the cache, from Debian's rustc-web; $WASM_TOOLCHAIN is its
# place, keyed by the compiler's version because a standard library only fits the compiler that built it.

# True when the rustc in PATH has the wasm32 standard library.
native_has_wasm32() {
    local libdir
    libdir=$(rustc --target wasm32-unknown-unknown --print target-libdir 2>/dev/null) &&
        compgen -G "$libdir/libcore-*.rlib" >/dev/null
}

# Sets WASM_TOOLCHAIN; false when Debian's compiler is not installed.
wasm_toolchain_place() {
    [[ -x /usr/bin/rustc && -x /usr/bin/cargo ]] || return 1
    local release
    release=$(/usr/bin/rustc -vV | sed -n 's/^release: //p')
    # shellcheck disable=SC2034 # read by those who source this
    WASM_TOOLCHAIN=$FIRN_CACHE/wasm-toolchain-$release
}
