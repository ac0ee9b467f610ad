#!/bin/bash
# Boots a virtual machine with systemd, in which berth is installed as `make install` does it, and runs the
# integration tests of the systemd cgroup driver in it.
#
# usage: systemd.sh [--timeout SECONDS] [ARGUMENT...]
#
# Needs what `make build-tests` made. ARGUMENTs go to the integration tests; without any they are `systemd::`. What
# they print is printed as it comes, and kept with the console's log in $(TARGET)/vm-systemd.
# Exit status 124: out of time; 125: the machine did not boot or died before the tests had ended.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
target=${CARGO_TARGET_DIR:-target}
limit=1200
if [ "${1:-}" = --timeout ]; then
    limit=$2
    shift 2
fi
[ $# -gt 0 ] || set -- systemd::

vmlinuz=$("$here/kernel.sh" "${KERNEL:-6.12}")
qemu=$("$here/qemu.sh")
image=$("$here/systemd-image.sh" "$vmlinuz")
out=$target/vm-systemd
rm -rf "$out"
mkdir -p "$out"
work=$(mktemp -d "${TMPDIR:-/tmp}/berth-systemd.XXXXXX")
machine=
trap 'rm -rf "$work"; [ -z "$machine" ] || kill -TERM -- "-$machine" 2>/dev/null || true' EXIT

payload=$work/payload
make --no-print-directory install-files DESTDIR="$payload" PREFIX=/usr >/dev/null
# In Debian /lib is a link, which a folder of the payload would meet.
install -D -m 0755 "$here/systemd-guest.sh" "$payload/opt/berth-tests/guest.sh"
strip --strip-debug -o "$payload/opt/berth-tests/integration" "$(cat "$target/logs/integration")"
printf '%q ' "$@" >"$payload/opt/berth-tests/arguments"
install -D -m 0644 tests/integration/allowed-skips.txt "$payload$PWD/tests/integration/allowed-skips.txt"
units=$payload/etc/systemd/system
mkdir -p "$units/multi-user.target.wants"
cat >"$units/integration-tests.service" <<'UNIT'
[Unit]
Description=Integration tests of berth
After=dbus.service
[Service]
Type=oneshot
ExecStart=/opt/berth-tests/guest.sh
TimeoutStartSec=infinity
UNIT
ln -s ../integration-tests.service "$units/multi-user.target.wants/integration-tests.service"
mke2fs -q -t ext4 -O ^has_journal -d "$payload" "$work/payload.ext4" "$(($(du -sm "$payload" | cut -f1) * 5 / 4 + 16))M"

touch "$out/output.log"
started=$SECONDS
accel=(-accel tcg,thread=multi)
[ -w /dev/kvm ] && [ -n "${BERTH_VM_KVM:-}" ] && accel=(-accel kvm)
# snapshot: what the machine writes is thrown away.
setsid timeout --signal=TERM --kill-after=20 "$limit" "$qemu" "${accel[@]}" -cpu max -m 2G \
    -smp "$(nproc)" -nodefaults -no-reboot -display none \
    -kernel "$vmlinuz" -initrd "$image/initrd.gz" \
    -append "console=ttyS0 loglevel=4 printk.time=1 panic=-1 systemd.show_status=0" \
    -drive "file=$image/root.ext4,format=raw,if=virtio,snapshot=on" \
    -drive "file=$work/payload.ext4,format=raw,if=virtio,readonly=on" \
    -serial "file:$out/console.log" -serial "file:$out/output.log" </dev/null >"$out/qemu.log" 2>&1 &
machine=$!
tail -n +1 --pid=$machine -s 0.5 -f "$out/output.log" &
printer=$!
boot=0
wait $machine || boot=$?
machine=
wait $printer 2>/dev/null || true
status=$(sed -n 's/^guest.sh: exit status \([0-9]*\).*$/\1/p' "$out/output.log" | tail -n 1)
if [ -z "$status" ] && { [ $boot -eq 124 ] || [ $boot -eq 137 ]; }; then
    status=124
    echo "systemd.sh: out of time after $limit s" >&2
elif [ -z "$status" ]; then
    status=125
    echo "systemd.sh: the machine ended without a result (qemu says $boot)" >&2
    tail -n 5 "$out/qemu.log" >&2
fi
cp "$out/output.log" "$target/logs/vm-systemd.log"
echo "systemd.sh: kernel ${vmlinuz##*/vmlinuz-}, $((SECONDS - started)) s, exit status $status" >&2
if [ "$status" -ne 0 ]; then
    echo "systemd.sh: console: $out/console.log, output: $out/output.log" >&2
    [ "$status" -lt 124 ] || tail -n 40 "$out/console.log" >&2
fi
exit "$status"
