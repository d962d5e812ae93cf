# Where everything lives that is downloaded or compiled once for all checkouts. Sourced after report.bash.
# shellcheck shell=bash

FIRN_CACHE=${FIRN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/firn}
mkdir -p "$FIRN_CACHE"
export FIRN_CACHE

# Holds the named lock until this script ends, so that two checkouts do not build the same thing at once.
cache_lock() {
    exec {cache_lock_fd}>"$FIRN_CACHE/.$1.lock"
    flock --nonblock "$cache_lock_fd" || {
        say "waiting for another checkout that prepares it"
        flock "$cache_lock_fd"
    }
}

# Makes a new directory beside the cache entry NAME; cache_publish turns it into the entry at once,
# so an interrupted script leaves no half-made entry behind.
cache_stage() {
    rm -rf "$FIRN_CACHE/.$1.part"
    mkdir -p "$FIRN_CACHE/.$1.part"
    printf '%s\n' "$FIRN_CACHE/.$1.part"
}
cache_publish() {
    rm -rf "${FIRN_CACHE:?}/$1"
    mv "$FIRN_CACHE/.$1.part" "$FIRN_CACHE/$1"
}
