# Sourced by the scripts beside it: packages from this machine's own Debian archives, and from Debian sid.
# shellcheck shell=bash
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
me=.ci/$(basename -- "$0")
policy=/usr/sbin/policy-rc.d
scratch=$(mktemp -d)
partial=()
own_policy=

tidy() {
    rm -rf "$scratch" "${partial[@]}"
    if [ -n "$own_policy" ]; then rm -f "$policy"; fi
}
trap tidy EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
    echo "$me: $*" >&2
    exit 1
}

# quietly TRIES COMMAND...: the output is only worth reading when the last try fails.
quietly() {
    local tries=$1 try
    shift
    for ((try = 1; try <= tries; try++)); do
        if "$@" >"$scratch/output" 2>&1; then return 0; fi
        if ((try < tries)); then sleep $((try * 5)); fi
    done
    cat "$scratch/output" >&2
    return 1
}

# from_debian PACKAGE...: installs them from this machine's own archives.
from_debian() {
    [ "$(id -u)" = 0 ] || fail "only root can install what is missing: $*"
    # Without systemd a package's init script would start a server and leave it running.
    if [ ! -e "$policy" ]; then
        own_policy=yes
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    quietly 3 apt-get update -o Acquire::Retries=3 || fail "apt-get update failed"
    quietly 3 apt-get install -y --no-install-recommends -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 "$@" ||
        fail "apt-get install $* failed"
}

# apt itself says where this machine's archives are, whichever way its sources are written.
archives() { apt-get update --print-uris | sed -nE "s|^'(.*)/dists/[^']*/InRelease' .*|\1|p" | awk '!seen[$0]++'; }

# sid ARGUMENT...: apt-get with a state of its own, so that the machine's lists, pins and packages stay as they are.
sid() {
    local private=$scratch/apt
    apt-get -o Dir::State="$private" -o Dir::State::status="$private/status" -o Dir::Cache="$private/cache" \
        -o Dir::Etc::sourcelist="$private/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::Etc::preferences=- -o Dir::Etc::preferencesparts=- \
        -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3 -o APT::Update::Error-Mode=any \
        -o Acquire::Check-Valid-Until=false "$@"
}

# download_from ARCHIVE CHECK PLACE PACKAGE [PACKAGE_THAT_MAY_BE_MISSING]: unpacks sid's packages beside the final place;
# false when this archive has none that passes the check.
download_from() {
    local keys=/usr/share/keyrings/debian-archive-keyring.gpg options package archive=$1 check=$2 place=$3
    shift 3
    options="arch=$(dpkg --print-architecture)"
    if [ -e "$keys" ]; then options+=" signed-by=$keys"; fi
    partial+=("$place.partial")
    rm -rf "$scratch/apt" "$scratch/debs" "$place.partial"
    mkdir -p "$scratch/apt/lists/partial" "$scratch/apt/cache/archives/partial" "$scratch/debs" "$place.partial"
    : >"$scratch/apt/status"
    echo "deb [$options] $archive sid main" >"$scratch/apt/sources.list"
    quietly 2 sid update || return 1
    (
        cd "$scratch/debs"
        quietly 3 sid download "$1" || exit 1
        [ -z "${2-}" ] || quietly 1 sid download "$2" || true
    ) || return 1
    for package in "$scratch"/debs/*.deb; do
        dpkg-deb -x "$package" "$place.partial" || return 1
    done
    "$check" "$place.partial/usr/bin"
}

# from_sid CHECK PLACE PACKAGE...: as download_from, from the first archive that has it.
from_sid() {
    local archive place=$2
    while read -r archive; do
        if download_from "$archive" "$@"; then
            rm -rf "$place"
            mv "$place.partial" "$place"
            return 0
        fi
        echo "$me: no $3 that is new enough in the suite sid of $archive" >&2
    done < <(archives)
    fail "none of this machine's apt archives gave a new $3 from sid"
}
