# Programs from crates.io, compiled once per version into the cache. Sourced after cache.bash.

# cargo_tool CRATE VERSION [CARGO-INSTALL-OPTION…]: afterwards $FIRN_CACHE/CRATE-VERSION/bin has it. With `--path DIR` it
# is the repository's own, and the version is whatever changes when its source does.
cargo_tool() {
    local crate=$1 version=$2 name=$1-$2 stage
    shift 2
    [[ -d $FIRN_CACHE/$name/bin ]] && return 0
    cache_lock "$name"
    [[ -d $FIRN_CACHE/$name/bin ]] && return 0
    say "cargo install $crate $version (a few minutes, once)"
    stage=$(cache_stage "$name")
    # The lock file that the crate came with is preferred; where a version in it cannot be had, cargo picks.
    cargo_tool_install --locked "$@" || cargo_tool_install "$@" ||
        fail "cargo could not install $crate $version; is crates.io reachable through cargo?"
    rm -rf "$stage/target"
    cache_publish "$name"
}

# Called by cargo_tool alone, whose variables it reads. The caller's flags and target directory are for the
# project, not for its tools. Little optimisation: these programs run for a second at a time.
cargo_tool_install() {
    local what=("$crate" --version "$version")
    [[ " $* " != *" --path "* ]] || what=()
    env -u RUSTFLAGS -u RUSTC -u CARGO_BUILD_TARGET CARGO_TARGET_DIR="$stage/target" \
        CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG=0 \
        CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        cargo install "${what[@]}" --root "$stage" "$@" </dev/null >&2
}

# The version of CRATE in the workspace's Cargo.lock, else the one given.
locked_version() {
    local lock
    lock=$(dirname "${here:?}")/Cargo.lock
    [[ -e $lock ]] &&
        awk -v crate="$1" '$1 == "name" { found = $3 == "\"" crate "\"" }
            $1 == "version" && found { gsub(/"/, "", $3); print $3; hit = 1; exit } END { exit !hit }' "$lock" ||
        printf '%s\n' "$2"
}
