# Compiles programs from crates.io into the cache, once per version. Source this after cache.bash.

# cargo_tool CRATE VERSION [CARGO-INSTALL-OPTION…]: installs it into $FIRN_CACHE/CRATE-VERSION/bin. With `--path DIR`
# it is a crate of this repository, and VERSION must change whenever its source does.
cargo_tool() {
    local crate=$1 version=$2 name=$1-$2 stage
    shift 2
    [[ -d $FIRN_CACHE/$name/bin ]] && return 0
    cache_lock "$name"
    [[ -d $FIRN_CACHE/$name/bin ]] && return 0
    say "cargo install $crate $version (a few minutes, once)"
    stage=$(cache_stage "$name")
    # Prefer the crate's own lock file. If a version in it is unavailable, cargo chooses.
    cargo_tool_install --locked "$@" || cargo_tool_install "$@" ||
        fail "cargo could not install $crate $version; is crates.io reachable through cargo?"
    rm -rf "$stage/target"
    cache_publish "$name"
}

# Called only by cargo_tool, whose variables it reads. The caller's flags and target directory are for the project,
# not for its tools. Optimises little, because these programs run for about a second.
cargo_tool_install() {
    local what=("$crate" --version "$version")
    [[ " $* " != *" --path "* ]] || what=()
    env -u RUSTFLAGS -u RUSTC -u CARGO_BUILD_TARGET CARGO_TARGET_DIR="$stage/target" \
        CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG=0 \
        CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        cargo install "${what[@]}" --root "$stage" "$@" </dev/null >&2
}

# The version of CRATE in the workspace's Cargo.lock, or the given one.
locked_version() {
    local lock
    lock=$(dirname "${here:?}")/Cargo.lock
    [[ -e $lock ]] &&
        awk -v crate="$1" '$1 == "name" { found = $3 == "\"" crate "\"" }
            $1 == "version" && found { gsub(/"/, "", $3); print $3; hit = 1; exit } END { exit !hit }' "$lock" ||
        printf '%s\n' "$2"
}
