# Debian packages, installed at most once and in one transaction. Sourced after report.bash.

# Prints those of the given packages that are not installed.
apt_missing() {
    local package
    for package in "$@"; do
        [[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" == installed ]] ||
            printf '%s\n' "$package"
    done
}

# Waits while another process refreshes apt's lists: apt-get itself gives up at once.
apt_wait() {
    local inode
    inode=$(stat -c %i /var/lib/apt/lists/lock 2>/dev/null) || return 0
    grep -q ":$inode " /proc/locks || return 0
    say "waiting for another process that refreshes apt's lists"
    while grep -q ":$inode " /proc/locks; do sleep 1; done
}

# Runs apt-get as root. The lock time-out lets several setup scripts, or an unattended upgrade, run beside
# this one; RUNLEVEL=1 keeps freshly installed daemons (dockerd, nginx) from being started behind our back.
apt_get() {
    local become=()
    apt_wait
    ((EUID == 0)) || become=(sudo)
    "${become[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get -q -y -o DPkg::Lock::Timeout=900 -o Dpkg::Use-Pty=0 "$@" </dev/null >&2
}

# Fetches apt's package lists where there are none, as on a fresh machine.
apt_lists() {
    local lists=(/var/lib/apt/lists/*_Packages*)
    [[ -e ${lists[0]} ]] && return 0
    ((EUID == 0)) || command -v sudo >/dev/null ||
        fail "apt has no package lists, and this is neither root nor has sudo; have somebody run: apt-get update"
    apt_get update || fail "apt-get update failed"
}

# Installs the given packages, unless they all are; fails with the command to run when it may not.
apt_need() {
    command -v dpkg-query >/dev/null ||
        fail "this machine has no apt; install by other means what these Debian packages hold: $*"
    local missing=()
    mapfile -t missing < <(apt_missing "$@")
    ((${#missing[@]})) || return 0
    ((EUID == 0)) || command -v sudo >/dev/null ||
        fail "not root and no sudo; have somebody run: apt-get install --no-install-recommends ${missing[*]}"
    say "apt-get install ${missing[*]}"
    apt_lists
    # Old lists name package files that are gone: refresh them once, then it is an error.
    apt_get install --no-install-recommends "${missing[@]}" ||
        { apt_get update && apt_get install --no-install-recommends "${missing[@]}"; } ||
        fail "apt-get could not install: ${missing[*]}"
}
