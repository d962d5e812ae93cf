# Source this (bash): Nix's settings for Firn's tests and demo. It does not change /etc.
#
# If root runs it on a machine without Nix's build users, Nix must build as root. The bundled package set needs no
# binary cache, and without a network, asking for one only takes time. For other package sets, the configured caches
# are kept.
_firn_nix_env() {
    local settings='extra-experimental-features = nix-command flakes'
    if ((EUID == 0)) && [[ -z $(getent group nixbld | cut -d: -f4) ]]; then
        settings+=$'\nbuild-users-group =\nsandbox = false'
    fi
    if [[ -z ${FIRN_PKGS_PATH:-}${FIRN_PKGS_REPO:-}${FIRN_FLAKE:-}${FIRN_CHANNEL:-} ]]; then
        settings+=$'\nsubstitute = false'
    fi
    # The caller's settings come last, so they take precedence.
    export NIX_CONFIG=$settings${NIX_CONFIG:+$'\n'$NIX_CONFIG}
}
_firn_nix_env
