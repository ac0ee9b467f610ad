#!/bin/bash
# Fetches a criu that works on present kernels and prints the path of a program that runs it.
#
# usage: criu.sh
#
# Debian 12 has criu 3.17, which knows no kernel from 6.13 on ("Unexpected rt vDSO area bounds"). That of Debian 13
# is unpacked below the cache folder together with its C library; the other libraries are those of the release's
# own package, criu, which is installed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${BERTH_CACHE:-$HOME/.cache/berth}
root=$cache/criu
mkdir -p "$cache"
exec 9>"$cache/.criu.lock"
flock 9
if [ ! -e "$root/.whole" ]; then
    echo "criu.sh: fetching criu" >&2
    "$here/unpack.sh" "$root" next criu libcompel1 libc6
    triplet=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || gcc -print-multiarch)
    loader=$(compgen -G "$root/usr/lib/$triplet/ld-linux*.so.*" | head -n 1)
    {
        echo '#!/bin/sh'
        echo "exec $loader --library-path $root/usr/lib/$triplet:/usr/lib/$triplet:/lib/$triplet $root/usr/sbin/criu \"\$@\""
    } >"$root/criu"
    chmod +x "$root/criu"
    touch "$root/.whole"
fi
echo "$root/criu"
