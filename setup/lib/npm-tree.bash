# The directory of the npm packages that setup/node installs. It is keyed by the lock file, so an update never mixes
# with the old tree. Source this after cache.bash, with `here` set to setup/.

# Sets NPM_TREE.
npm_tree_place() {
    local sum
    sum=$(sha256sum <"${here:?}/npm/package-lock.json")
    # shellcheck disable=SC2034 # read by those who source this
    NPM_TREE=$FIRN_CACHE/npm-${sum:0:16}
}
