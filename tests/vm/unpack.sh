#!/bin/bash
# Downloads Debian packages and unpacks them below a folder.
#
# usage: unpack.sh FOLDER SUITE PACKAGE...
# SUITE  own: what this machine's apt knows; others as for apt.sh
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$1 suite=$2
shift 2
fetch=(apt-get -q -o Acquire::Retries=5 -o APT::Sandbox::User=root)
if [ "$suite" != own ]; then
    fetch=("$here/apt.sh" "$suite" apt-get)
    "${fetch[@]}" update >&2
fi
rm -rf "$folder"
mkdir -p "$folder"
(cd "$folder" && "${fetch[@]}" download "$@" >&2)
for file in "$folder"/*.deb; do
    dpkg -x "$file" "$folder"
    rm "$file"
done
