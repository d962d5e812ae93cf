# Downloads packages of newer Debian releases, from this machine's mirror and verified with its keys. It installs
# nothing, and does not change apt's own state. Source this after report.bash; needs debian-archive-keyring and dpkg.
# shellcheck shell=bash

# Packages that `download` treats as installed, even if other packages depend on them.
unused=()

# Sets `mirror` to this machine's mirror of its own release.
find_mirror() {
    local codename
    codename=$(. /etc/os-release && printf '%s\n' "$VERSION_CODENAME")
    # shellcheck disable=SC2016 # $(SITE) and $(RELEASE) are for apt-get
    mirror=$(apt-get indextargets --format '$(RELEASE) $(SITE)' 'Identifier: Packages' |
        awk -v release="$codename" '$1 == release { print $2; exit }')
    [[ -n $mirror ]] || fail "apt's sources name no mirror of Debian $codename"
}

# download DIR SUITE KEYRING PACKAGE: downloads the package and its dependencies to DIR/archives, except those in
# `unused`.
download() {
    local dir=$1 suite=$2 keyring=$3 package=$4 name
    mkdir -p "$dir/lists/partial" "$dir/archives/partial"
    for name in "${unused[@]}"; do
        printf 'Package: %s\nStatus: install ok installed\nArchitecture: %s\nVersion: 9:9\n' \
            "$name" "$(dpkg --print-architecture)"
        printf 'Maintainer: none\nMulti-Arch: foreign\nDescription: not needed\n\n'
    done >"$dir/status"
    echo "deb [signed-by=$keyring] $mirror $suite main" >"$dir/sources.list"
    cat >"$dir/apt.conf" <<END
Dir::State::lists "$dir/lists";
Dir::State::status "$dir/status";
Dir::Cache "$dir";
Dir::Cache::archives "$dir/archives";
Dir::Etc::SourceList "$dir/sources.list";
Dir::Etc::SourceParts "/dev/null";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
END
    APT_CONFIG=$dir/apt.conf apt-get -q update >&2 ||
        fail "apt-get cannot read the package index of Debian $suite"
    APT_CONFIG=$dir/apt.conf apt-get -q -y --no-install-recommends --download-only install "$package" >&2 ||
        fail "apt-get cannot download $package of Debian $suite"
}

# Prints the keyring with the keys of a suite. A release's own keyring has the keys of its successor: this machine's
# has trixie's keys, and trixie's has forky's.
keyring_for() {
    local suite=$1 dir=$2
    if [[ $suite == trixie ]]; then
        printf '%s\n' /usr/share/keyrings/debian-archive-keyring.gpg
        return
    fi
    download "$dir" trixie "$(keyring_for trixie "$dir")" debian-archive-keyring
    dpkg-deb -x "$dir"/archives/debian-archive-keyring_*.deb "$dir/root"
    local keyring=$dir/root/usr/share/keyrings/debian-archive-keyring
    # The file was renamed from .gpg to .pgp. The old name is a link.
    [[ -e $keyring.pgp ]] && printf '%s\n' "$keyring.pgp" || printf '%s\n' "$keyring.gpg"
}
