# Sourced (bash): settings under which Nix serves Firn's tests and demo, without touching /etc.
#
# As root on a machine without Nix's build users, Nix must build as root. The bundled package set needs no
# binary cache, and where there is no network asking for one only waits; with somebody else's package set
# it stays as configured.
_firn_nix_env() {
    local settings='extra-experimental-features = nix-command flakes'
    if ((EUID == 0)) && [[ -z $(getent group nixbld | cut -d: -f4) ]]; then
        settings+=$'\nbuild-users-group =\nsandbox = false'
    fi
    if [[ -z ${FIRN_PKGS_PATH:-}${FIRN_PKGS_REPO:-}${FIRN_CHANNEL:-} ]]; then
        settings+=$'\nsubstitute = false'
    fi
    # What the caller has set comes last, and so wins.
    export NIX_CONFIG=$settings${NIX_CONFIG:+$'\n'$NIX_CONFIG}
}
_firn_nix_env
