#!/bin/bash
# Fetches a Debian kernel for the test machine and prints the path of its vmlinuz.
#
# usage: kernel.sh 6.12|6.1
#
# 6.12 comes from the backports of the machine's own release, 6.1 from the release itself. Nothing is
# installed: the package is unpacked below the cache folder and its modules folder is linked into
# /lib/modules, where the virtual machine (which shares the root file system) looks for them.
# Which mirror is asked is decided by the apt sources of the machine.
set -euo pipefail

series=${1:?usage: kernel.sh 6.12|6.1}
cache=${BERTH_CACHE:-$HOME/.cache/berth}/kernel
mkdir -p "$cache"

find_vmlinuz() {
    compgen -G "$cache/linux-image-$series.*/boot/vmlinuz-$series.*" | sort -V | tail -n 1 || true
}

link_modules() {
    local root=$1 release=$2
    local target=$root/lib/modules/$release
    [ "$(readlink -f "/lib/modules/$release" 2>/dev/null)" = "$(readlink -f "$target")" ] && return
    if [ -e "/lib/modules/$release" ] && [ ! -L "/lib/modules/$release" ]; then
        return # the package itself is installed: its own modules are as good
    fi
    mkdir -p /lib/modules
    ln -sfn "$target" "/lib/modules/$release"
}

fetch() {
    local codename uri suite lists options package file root release
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    case $series in
        6.1) suite=$codename ;;
        *) suite=$codename-backports ;;
    esac
    uri=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
        awk -v release="$codename" '$2 == release { print $1; exit }')
    [ -n "$uri" ] || { echo "kernel.sh: the apt sources of this machine have no $codename" >&2; exit 1; }

    lists=$cache/apt-$suite
    mkdir -p "$lists/lists/partial" "$lists/archives/partial"
    {
        echo "Types: deb"
        echo "URIs: $uri"
        echo "Suites: $suite"
        echo "Components: main"
        keyring=/usr/share/keyrings/debian-archive-keyring.gpg
        [ -e "$keyring" ] && echo "Signed-By: $keyring"
    } >"$lists/berth.sources"
    options=(-q -q -o "Dir::Etc::sourcelist=$lists/berth.sources" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$lists/lists" -o "Dir::Cache=$lists" -o APT::Sandbox::User=root
        -o "Dir::Etc::preferencesparts=/dev/null" -o "Acquire::Languages=none" -o Acquire::Retries=5)
    apt-get "${options[@]}" update >&2
    package=$(apt-cache "${options[@]}" search --names-only "^linux-image-$series\.[0-9.+a-z-]*-amd64$" |
        awk '$1 !~ /cloud|rt-amd64|unsigned|dbg/ { print $1 }' | sort -V | tail -n 1)
    [ -n "$package" ] || { echo "kernel.sh: $suite has no linux-image-$series.*-amd64" >&2; exit 1; }
    echo "kernel.sh: fetching $package" >&2
    (cd "$lists" && apt-get "${options[@]}" download "$package" >&2)
    file=$(compgen -G "$lists/${package}_*.deb" | tail -n 1)
    root=$cache/$package
    rm -rf "$root.new"
    dpkg -x "$file" "$root.new"
    release=${package#linux-image-}
    depmod -b "$root.new" "$release"
    rm -rf "$root" "$file"
    mv "$root.new" "$root"
}

exec 9>"$cache/.lock"
flock 9
vmlinuz=$(find_vmlinuz)
if [ -z "$vmlinuz" ]; then
    fetch
    vmlinuz=$(find_vmlinuz)
fi
release=${vmlinuz##*/vmlinuz-}
root=${vmlinuz%/boot/*}
link_modules "$root" "$release"
echo "$vmlinuz"
