#!/bin/bash
# Installs what building and testing needs: Debian packages, a few of Python and of npm in places of their
# own, kernel and emulator of the test machine, the engines that drive berth-oci in tests and that `make bench` measures
# (containerd, podman), and Prometheus: these are unpacked below the cache folder, not installed, so that no service of
# theirs starts.
# Does nothing, quickly, when all is there.
#
# usage: deps.sh
#
# Assumes Debian 12 and a Rust toolchain. Which mirrors are asked is decided by the machine's own configuration
# of apt, pip, npm and cargo.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${BERTH_CACHE:-$HOME/.cache/berth}
mkdir -p "$cache"
exec 8>"$cache/.deps.lock"
flock 8

packages=(apparmor binutils busybox-static ca-certificates containernetworking-plugins criu curl debootstrap docker-registry e2fsprogs gcc
    iproute2 iptables kmod libc6-dev nftables openssl procps python3 python3-venv qemu-system-x86 secilc skopeo umoci xz-utils zstd)
# Of these any that is there will do.
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
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

wanted=$(cat "$here"/../peers/package*.json | sha256sum | cut -d' ' -f1)
if [ "$(cat "$cache/npm/.packages" 2>/dev/null)" != "$wanted" ]; then
    rm -rf "$cache/npm"
    mkdir -p "$cache/npm"
    cp "$here"/../peers/package*.json "$cache/npm/"
    (cd "$cache/npm" && npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error >/dev/null)
    echo "$wanted" >"$cache/npm/.packages"
fi

"$here/kernel.sh" 6.12 >/dev/null
"$here/qemu.sh" >/dev/null
"$here/criu.sh" >/dev/null

# unpacked FOLDER PACKAGE...: has them below the cache folder, and nothing else.
unpacked() {
    local folder=$cache/$1
    shift
    [ "$(cat "$folder/.packages" 2>/dev/null)" != "$*" ] || return 0
    "$here/unpack.sh" "$folder.new" own "$@"
    echo "$*" >"$folder.new/.packages"
    rm -rf "$folder.old"
    [ ! -e "$folder" ] || mv "$folder" "$folder.old"
    mv "$folder.new" "$folder"
    rm -rf "$folder.old"
}

# Podman's libraries are those that Debian's base installation does not have.
unpacked peers conmon containerd crun golang-github-containers-common golang-github-containers-image libgpgme11 \
    libsubid4 libyajl2 podman runc
unpacked prometheus prometheus
