#!/bin/bash
# Runs a command of apt for a Debian suite that the machine itself may not have, with package lists of its own:
# nothing about the machine's own apt changes.
#
# usage: apt.sh release|backports|next apt-get|apt-cache ARGUMENT...
#
# `apt-get download` leaves its files in the current folder. Which mirror is asked is decided by the machine's
# own apt sources.
set -euo pipefail

codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
case ${1:-} in
    release) suite=$codename ;;
    backports) suite=$codename-backports ;;
    next) suite=trixie ;;
    *) echo "usage: apt.sh release|backports|next apt-get|apt-cache ARGUMENT..." >&2; exit 2 ;;
esac
command=$2
shift 2
uri=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
    awk -v release="$codename" '$2 == release { print $1; exit }')
[ -n "$uri" ] || { echo "apt.sh: the apt sources of this machine have no $codename" >&2; exit 1; }

folder=${BERTH_CACHE:-$HOME/.cache/berth}/apt/$suite
mkdir -p "$folder/lists/partial" "$folder/archives/partial"
{
    echo "Types: deb"
    echo "URIs: $uri"
    echo "Suites: $suite"
    echo "Components: main"
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ ! -e "$keyring" ] || echo "Signed-By: $keyring"
} >"$folder/berth.sources"
exec "$command" -q -q -o "Dir::Etc::sourcelist=$folder/berth.sources" -o Dir::Etc::sourceparts=/dev/null \
    -o "Dir::State::lists=$folder/lists" -o "Dir::Cache=$folder" -o APT::Sandbox::User=root \
    -o Dir::Etc::preferencesparts=/dev/null -o Acquire::Languages=none -o Acquire::Retries=5 "$@"
