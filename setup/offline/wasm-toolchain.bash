# Where setup/offline/wasm32-std puts its toolchain: keyed by the compiler's version, because a standard library only fits
# the compiler that built it. Sourced after cache.bash.
# shellcheck shell=bash

# Sets WASM_TOOLCHAIN; false when Debian's compiler is not installed.
wasm_toolchain_place() {
    [[ -x /usr/bin/rustc && -x /usr/bin/cargo ]] || return 1
    local release
    release=$(/usr/bin/rustc -vV | sed -n 's/^release: //p')
    # shellcheck disable=SC2034 # read by those who source this
    WASM_TOOLCHAIN=$FIRN_CACHE/wasm-toolchain-$release
}

# Puts the toolchain in front of PATH and sets SYSROOT, for cargo, clippy and worker-build; false where it was not made.
wasm_toolchain_use() {
    local WASM_TOOLCHAIN
    wasm_toolchain_place && [[ -e $WASM_TOOLCHAIN/complete ]] || return 1
    PATH=$WASM_TOOLCHAIN/bin:$PATH
    # clippy-driver does not ask the rustc wrapper for its sysroot.
    export SYSROOT=$WASM_TOOLCHAIN
    unset RUSTC RUSTUP_TOOLCHAIN
}
