#!/bin/bash
# Installs what building and testing needs: Debian packages, two Python packages in an environment of their
# own, the kernel of the test machine. Does nothing, quickly, when all is there.
#
# usage: deps.sh [bench]
#
# Assumes Debian 12 and a Rust toolchain. Which mirrors are asked is decided by the machine's own configuration
# of apt, pip and cargo. With `bench`, also fetches the peers that `make bench` measures: unpacked
# below the cache folder, not installed, so that no service of theirs starts.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${BERTH_CACHE:-$HOME/.cache/berth}
mkdir -p "$cache"
exec 8>"$cache/.deps.lock"
flock 8

packages=(binutils busybox-static ca-certificates containernetworking-plugins docker-registry gcc iproute2
    iptables kmod libc6-dev nftables procps python3 python3-venv qemu-system-x86 umoci)
missing=()
for package in "${packages[@]}"; do
    case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true) in
        installed) ;;
        *) missing+=("$package") ;;
    esac
done
if [ ${#missing[@]} -gt 0 ]; then
    sudo=()
    [ "$(id -u)" -eq 0 ] || sudo=(sudo)
    export DEBIAN_FRONTEND=noninteractive
    "${sudo[@]}" apt-get -q -o Acquire::Retries=5 update
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=5 \
        -o Dpkg::Use-Pty=0 install --no-install-recommends "${missing[@]}"
fi

wanted=$(sha256sum "$here/../requirements.txt" | cut -d' ' -f1)
if [ "$(cat "$cache/venv/.requirements" 2>/dev/null)" != "$wanted" ]; then
    python=/usr/bin/python3
    rm -rf "$cache/venv"
    "$python" -m venv "$cache/venv"
    "$cache/venv/bin/pip" --quiet --disable-pip-version-check install -r "$here/../requirements.txt"
    echo "$wanted" >"$cache/venv/.requirements"
fi

"$here/kernel.sh" 6.12 >/dev/null

if [ "${1:-}" = bench ] && [ ! -x "$cache/peers/usr/bin/containerd" ]; then
    rm -rf "$cache/peers.new"
    mkdir -p "$cache/peers.new"
    (cd "$cache/peers.new" && apt-get -q -o Acquire::Retries=5 -o APT::Sandbox::User=root download containerd runc)
    for file in "$cache"/peers.new/*.deb; do
        dpkg -x "$file" "$cache/peers.new"
        rm "$file"
    done
    rm -rf "$cache/peers"
    mv "$cache/peers.new" "$cache/peers"
fi
