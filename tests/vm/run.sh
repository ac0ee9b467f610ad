#!/bin/bash
# Boots a virtual machine on the root file system of this one and runs one command in it.
#
# usage: run.sh [--kernel 6.12|6.1] [--timeout SECONDS] [--out DIR] [--memory SIZE] [--append WORDS] COMMAND [ARGUMENT...]
#
# The command's output is printed as it comes and its exit status becomes ours. Everything it writes
# into $BERTH_VM_OUT is found in DIR afterwards (default target/vm). The kernel's console log and
# the command's output stay there as console.log and output.log. The root file system is shared read-only; what
# the machine changes is in its memory.
# --append adds words to the kernel's command line.
# Exit status 124: out of time; 125: the machine did not boot or died before the command had ended.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$here/../.." && pwd)
kernel=6.12 limit=2400 out=$project/target/vm memory=4G append=
while [ $# -gt 0 ]; do
    case $1 in
        --kernel) kernel=$2; shift 2 ;;
        --timeout) limit=$2; shift 2 ;;
        --out) out=$2; shift 2 ;;
        --memory) memory=$2; shift 2 ;;
        --append) append=$2; shift 2 ;;
        --) shift; break ;;
        -*) echo "run.sh: unknown option $1" >&2; exit 2 ;;
        *) break ;;
    esac
done
[ $# -gt 0 ] || { echo "run.sh: no command" >&2; exit 2; }

tools=${BERTH_CACHE:-$HOME/.cache/berth}/venv/bin
vng=$tools/vng
[ -x "$vng" ] || { echo "run.sh: no virtme-ng, run make deps" >&2; exit 125; }
vmlinuz=$("$here/kernel.sh" "$kernel")
qemu=$("$here/qemu.sh")

mkdir -p "$out"
out=$(cd "$out" && pwd)
rm -f "$out"/{status,output.log,console.log,command}
touch "$out/output.log"
{
    printf 'cd %q\n' "$project"
    printf 'export BERTH_VM_OUT=%q PATH=%q HOME=%q\n' "$out" "$PATH" "$HOME"
    env | grep -E '^(BERTH_|RUST_)[A-Z_]*=' | while IFS='=' read -r name value; do
        [ "$name" = BERTH_VM_OUT ] || printf 'export %s=%q\n' "$name" "$value"
    done
    printf '%q ' "$@"
    printf '\n'
} >"$out/command"

started=$SECONDS
accel=(--disable-kvm)
[ -w /dev/kvm ] && [ -n "${BERTH_VM_KVM:-}" ] && accel=()
# Only --verbose sends the kernel's console to us, and with it the reason of a panic.
# The machine's own process group, so that a machine out of time is ended with all its children.
PATH=$tools:$PATH setsid timeout --signal=TERM --kill-after=20 "$limit" \
    "$vng" --verbose --qemu "$qemu" "${accel[@]}" --force-9p -r "$vmlinuz" --cpus "$(nproc)" --memory "$memory" \
    --rwdir="$out" --append "loglevel=4 printk.time=1 panic=-1 $append" \
    -- "$here/guest.sh $out" </dev/null >"$out/console.log" 2>&1 &
machine=$!
tail -n +1 --pid=$machine -s 0.5 -f "$out/output.log" &
printer=$!
trap 'kill -TERM -- -$machine 2>/dev/null || true; kill $printer 2>/dev/null || true' INT TERM
boot=0
wait $machine || boot=$?
wait $printer 2>/dev/null || true

if [ -s "$out/status" ]; then
    status=$(cat "$out/status")
elif [ $boot -eq 124 ] || [ $boot -eq 137 ]; then
    status=124
    echo "run.sh: out of time after $limit s" >&2
else
    status=125
    echo "run.sh: the machine ended without a result (vng says $boot)" >&2
fi
echo "run.sh: kernel $(basename "$vmlinuz" | cut -d- -f2-), $((SECONDS - started)) s, exit status $status" >&2
if [ "$status" -ne 0 ]; then
    echo "run.sh: console: $out/console.log, output: $out/output.log" >&2
    [ "$status" -lt 124 ] || tail -n 40 "$out/console.log" >&2
fi
exit "$status"
