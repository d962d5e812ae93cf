# Installs Debian packages, at most once and in one transaction. Source this after report.bash.

# Prints the given packages that are not installed.
apt_missing() {
    local package
    for package in "$@"; do
        [[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" == installed ]] ||
            printf '%s\n' "$package"
    done
}

# Waits while another process refreshes apt's lists. apt-get would fail at once.
apt_wait() {
    local inode
    inode=$(stat -c %i /var/lib/apt/lists/lock 2>/dev/null) || return 0
    grep -q ":$inode " /proc/locks || return 0
    say "waiting for another process that refreshes apt's lists"
    while grep -q ":$inode " /proc/locks; do sleep 1; done
}

# Runs apt-get as root. The lock timeout lets other setup scripts, or an unattended upgrade, run at the same time.
# RUNLEVEL=1 prevents newly installed daemons (dockerd, nginx) from being started.
apt_get() {
    local become=()
    apt_wait
    ((EUID == 0)) || become=(sudo)
    "${become[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get -q -y -o DPkg::Lock::Timeout=900 -o Dpkg::Use-Pty=0 "$@" </dev/null >&2
}

# Downloads apt's package lists if there are none, as on a new machine.
apt_lists() {
    local lists=(/var/lib/apt/lists/*_Packages*)
    [[ -e ${lists[0]} ]] && return 0
    ((EUID == 0)) || command -v sudo >/dev/null ||
        fail "apt has no package lists, and this is neither root nor has sudo; ask an administrator to run: apt-get update"
    apt_get update || fail "apt-get update failed"
}

# Installs the given packages unless they are installed. If it may not, it fails with the command to run.
apt_need() {
    command -v dpkg-query >/dev/null ||
        fail "this machine has no apt; install the contents of these Debian packages by other means: $*"
    local missing=()
    mapfile -t missing < <(apt_missing "$@")
    ((${#missing[@]})) || return 0
    ((EUID == 0)) || command -v sudo >/dev/null ||
        fail "not root and no sudo; ask an administrator to run: apt-get install --no-install-recommends ${missing[*]}"
    say "apt-get install ${missing[*]}"
    apt_lists
    # Outdated lists name files that no longer exist. Refresh the lists once; after that, it is an error.
    apt_get install --no-install-recommends "${missing[@]}" ||
        { apt_get update && apt_get install --no-install-recommends "${missing[@]}"; } ||
        fail "apt-get could not install: ${missing[*]}"
}
