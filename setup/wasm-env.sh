# Source this (bash) from anywhere. It sets the environment for `cargo … --target wasm32-unknown-unknown`,
# `cargo clippy`, `worker-build` and `wrangler`, once setup/wasm-target, setup/worker-tools and setup/node have run.
# `setup/wasm COMMAND…` runs one command in it.
#
# Wasm builds have their own target directory. Their toolchain may differ from the native one, and cargo would
# otherwise rebuild everything when switching between the two.
_firn_wasm_env() {
    local here tool=wasm-env NPM_TREE bin
    here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
    source "$here/lib/report.bash"
    source "$here/lib/cache.bash"
    source "$here/lib/cargo-tool.bash"
    source "$here/lib/npm-tree.bash"
    source "$here/lib/wasm-target.bash"

    npm_tree_place
    bin=$NPM_TREE/node_modules/.bin
    WASM_BINDGEN_BIN=$FIRN_CACHE/wasm-bindgen-cli-$(locked_version wasm-bindgen 0.2.130)/bin/wasm-bindgen
    PATH=$(dirname "$WASM_BINDGEN_BIN"):$FIRN_CACHE/worker-build-$(locked_version worker 0.8.7)/bin:$bin:$PATH
    if ! native_has_wasm32; then
        source "$here/offline/wasm-toolchain.bash"
        if ! wasm_toolchain_use; then
            printf 'wasm-env: no toolchain for wasm32; run setup/wasm-target\n' >&2
            return 1
        fi
    fi
    export PATH WASM_BINDGEN_BIN
    # These keep worker-build and wrangler from downloading or reporting anything.
    export WASM_OPT_BIN=$bin/wasm-opt ESBUILD_BIN=$bin/esbuild
    export WRANGLER_SEND_METRICS=false
    CARGO_TARGET_DIR=$(dirname "$here")/target/wasm
    export CARGO_TARGET_DIR
}
_firn_wasm_env
