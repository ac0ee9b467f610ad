#!/bin/bash
# The demonstration behind `make demo-kubelet`: three manifests in a folder become pods; a ConfigMap changes, a
# probe fails, a manifest is edited and removed; with the time of each transition, and nothing left in the end.
#
# usage: kubelet.sh                 choose the place: this machine when it can, else the virtual machine
#        BERTH_DEMO=vm kubelet.sh   the virtual machine in any case
#        BERTH_DEMO=native kubelet.sh  this machine in any case, with less isolation if it has no more
#        kubelet.sh inside          the demonstration itself, in a mount namespace that it may change
set -euo pipefail

# shellcheck source=tests/demo/stage.sh
source "$(dirname "${BASH_SOURCE[0]}")/stage.sh"
further='
[kubelet]
manifest_dir = "ROOT/manifests"
pod_logs_dir = "ROOT/pod-logs"
container_logs_dir = "ROOT/container-logs"
node_name = "demo"
cgroup_root = "berth-demo/kubepods"
'
away() {
    rm -f "$root"/manifests/*
    sleep 5
}
stage "$@"

pods() { "$here/pods.py" "$root/state/kubelet/status" "$@"; }
# Since when the next transitions are counted; what was done.
since=0
now() {
    since=$(date +%s.%N)
    note "$*"
}
# came POD WHAT...: waits for the transitions and tells when they came.
came() { pods wait "$since" "$@"; }
statuses() {
    if quiet get --help >/dev/null 2>&1; then shown get pods -o wide; else pods table; fi
}
# Puts a manifest in its place at once: a file that is being written is not read.
put() {
    cp "$here/manifests/$1" "$root/manifests/.$1"
    [ $# -eq 1 ] || sed -i "$2" "$root/manifests/.$1"
    mv "$root/manifests/.$1" "$root/manifests/$1"
}
page() { wget -q -O - "http://$(pods get web status.podIP):8080/" 2>/dev/null; }
page_is() { [ "$(page)" = "$1" ]; }
# The id of a container, as CRI has it.
container() { quiet ps 2>/dev/null | awk -v name="$1" '$0 ~ name { print $1 }' | head -n 1; }
log_of() { cat "$root/pod-logs/default_$1-demo_"*/"$2/$3.log" | cut -d' ' -f4-; }

title "The node"
note "$(uname -sr), $(nproc) processors"
mkdir -p "$root/manifests"
snapshot >"$root/node.before"
start_daemon
"$here/image.py" /bin/busybox busybox.oci localhost/busybox:demo
quiet image import busybox.oci >/dev/null
until_true 60 "the status folder" test -d "$root/state/kubelet/status"
note "berth runs as process $daemon and keeps the pods of $root/manifests"
snapshot >"$root/daemon.before"

title "Three manifests and a ConfigMap"
now "copied into the folder: greeting, web (three probes), job (an init container), crasher"
put greeting.yaml
put web.yaml
put job.yaml
put crasher.yaml
came web phase=Running ready
came job phase=Succeeded
came crasher restarts=1 waiting=CrashLoopBackOff
statuses
note "the job said: $(log_of job count 0)"
note "the page says: $(page)"
first=$(pods get web metadata.uid)

title "A ConfigMap changes"
now "greeting says something else"
put greeting.yaml 's/Hello/Good evening/'
until_true 60 "the other page" page_is "Good evening"
note "$(printf '%8.3f s  the page says: %s' "$(echo "$(date +%s.%N) $since" | awk '{ print $1 - $2 }')" "$(page)")"

title "A readiness probe fails: the pod runs on"
files=$(find "$root/state/kubelet/pods/$first/volumes" -name ready -path '*www*' | head -n 1)
now "the file that its readiness probe asks for is removed, and put back"
rm "$files"
came web unready
touch "$files"
came web ready

title "A liveness probe fails: the container is restarted"
now "the file that its liveness probe looks for is removed"
rm "${files%ready}alive"
came web event=Unhealthy event=Killing restarts=1 ready
pods events web
statuses

title "A manifest is edited: the old pod ends, then the new one starts"
now "web is edition 2 now"
put web.yaml 's/value: "1"/value: "2"/'
came web "other=$first" ready
note "the new pod said: $(log_of web server 0)"
statuses

title "kill -9 of berth: the pods do not notice"
kill -9 "$daemon"
wait "$daemon" 2>/dev/null || true
note "berth is dead; the page says: $(page)"
now "berth starts"
start_daemon
came web ready restarts=0
statuses

title "The manifests are removed"
now "all of them"
rm "$root"/manifests/*.yaml
came web gone
came job gone
came crasher gone
shown image rm localhost/busybox:demo
note "berth still runs; against the node before the pods (the bridge stays until berth ends):"
# The classes of pods and the file system of their ConfigMaps stay for the next one.
left_of_pods() { find "$root/pod-logs" "$root/container-logs" "$root/state/kubelet/pods" "$root/state/kubelet/status" -mindepth 1; }
[ -z "$(left_of_pods)" ] || { left_of_pods; exit 1; }
mkdir -p "$cgroups/berth-demo/kubepods/besteffort"
kept "$root/daemon.before" process mount file
note "and of cgroups of pods: $(find "$cgroups/berth-demo" -type d -name 'pod*' | wc -l) left"
[ -z "$(find "$cgroups/berth-demo" -type d -name 'pod*')" ]
kill "$daemon"
wait "$daemon"
daemon=
printf '\n%s\n' "Done: three pods came, changed and went with their files, and left nothing behind."
