#!/bin/bash
# Runs the tests inside the virtual machine with systemd (see systemd.sh), and turns it off.
exec </dev/null >/dev/ttyS1 2>&1
here=/opt/berth-tests
export BERTH_STAGE=/usr/bin BERTH_TEST_VM=1 BERTH_TEST_ROOT=/var/lib/berth-tests BERTH_TEST_SYSTEMD=1
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root RUST_BACKTRACE=1
mkdir -p "$BERTH_TEST_ROOT"
echo "guest.sh: Linux $(uname -r), systemd $(systemctl --version | head -n 1 | cut -d' ' -f2), up $(cut -d' ' -f1 /proc/uptime) s"
eval "arguments=($(cat $here/arguments))"
$here/integration "${arguments[@]}"
status=$?
if [ $status -ne 0 ]; then
    echo "guest.sh: the unit's log:"
    journalctl --no-pager -o short-monotonic -u berth.service | tail -n 60
    systemctl --no-pager --failed
fi
echo "guest.sh: exit status $status, up $(cut -d' ' -f1 /proc/uptime) s"
sync
systemctl poweroff --force --force
