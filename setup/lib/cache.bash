# The cache of everything that is downloaded or compiled once for all checkouts. Source this after report.bash.
# shellcheck shell=bash

FIRN_CACHE=${FIRN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/firn}
mkdir -p "$FIRN_CACHE"
export FIRN_CACHE

# Holds the named lock until this script ends, so that two checkouts do not build the same entry at once.
cache_lock() {
    exec {cache_lock_fd}>"$FIRN_CACHE/.$1.lock"
    flock --nonblock "$cache_lock_fd" || {
        say "waiting for another checkout that is building the same"
        flock "$cache_lock_fd"
    }
}

# Creates a new directory for the cache entry NAME. cache_publish renames it to the entry, so an interrupted script
# leaves no incomplete entry.
cache_stage() {
    rm -rf "$FIRN_CACHE/.$1.part"
    mkdir -p "$FIRN_CACHE/.$1.part"
    printf '%s\n' "$FIRN_CACHE/.$1.part"
}
cache_publish() {
    rm -rf "${FIRN_CACHE:?}/$1"
    mv "$FIRN_CACHE/.$1.part" "$FIRN_CACHE/$1"
}
