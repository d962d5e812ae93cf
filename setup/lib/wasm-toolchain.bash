# Finds a Rust toolchain on this machine that compiles for wasm32-unknown-unknown. Source this after cache.bash.
#
# Usually it is the one in PATH (rustup, or a distribution that ships the target). If its target cannot be added,
# setup/wasm32-std makes another one in the cache, from Debian's rustc-web. $WASM_TOOLCHAIN is its path. The path
# contains the compiler's version, because a standard library works only with the compiler that built it.

# Succeeds if the rustc in PATH has the wasm32 standard library.
native_has_wasm32() {
    local libdir
    libdir=$(rustc --target wasm32-unknown-unknown --print target-libdir 2>/dev/null) &&
        compgen -G "$libdir/libcore-*.rlib" >/dev/null
}

# Sets WASM_TOOLCHAIN. Fails if Debian's compiler is not installed.
wasm_toolchain_place() {
    [[ -x /usr/bin/rustc && -x /usr/bin/cargo ]] || return 1
    local release
    release=$(/usr/bin/rustc -vV | sed -n 's/^release: //p')
    # shellcheck disable=SC2034 # read by those who source this
    WASM_TOOLCHAIN=$FIRN_CACHE/wasm-toolchain-$release
}
