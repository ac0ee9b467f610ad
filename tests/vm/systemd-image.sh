#!/bin/bash
# Makes what a virtual machine with systemd boots from, once, in the cache folder, and prints its folder: a disk with
# a minimal Debian (root.ext4) and an initial RAM disk with the modules to reach it (initrd.gz).
#
# usage: systemd-image.sh VMLINUZ
#
# Needs root: debootstrap makes device nodes and runs programs in its tree. Which mirror is asked is decided
# by the apt sources of the machine.
set -euo pipefail

vmlinuz=${1:?usage: systemd-image.sh VMLINUZ}
cache=${BERTH_CACHE:-$HOME/.cache/berth}/systemd
release=${vmlinuz##*/vmlinuz-}
modules=${vmlinuz%/boot/*}/lib/modules/$release
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
# What is made anew when any of it changes.
name=$(cat "$0" <(echo "$codename $release") | sha256sum | cut -c1-16)
image=$cache/$name
mkdir -p "$cache"

exec 9>"$cache/.lock"
flock 9
if [ -e "$image/complete" ]; then
    echo "$image"
    exit
fi
[ "$(id -u)" -eq 0 ] || { echo "systemd-image.sh: needs root" >&2; exit 1; }
work=$(mktemp -d "$cache/.new.XXXXXX")
trap 'rm -rf "$work"' EXIT

uri=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
    awk -v release="$codename" '$2 == release { print $1; exit }')
[ -n "$uri" ] || { echo "systemd-image.sh: the apt sources of this machine have no $codename" >&2; exit 1; }
echo "systemd-image.sh: installing a minimal $codename" >&2
root=$work/root
debootstrap --variant=minbase \
    --include=apparmor,busybox-static,dbus,iproute2,kmod,procps,systemd,systemd-sysv \
    "$codename" "$root" "$uri" >"$work/debootstrap.log" 2>&1 ||
    { tail -n 20 "$work/debootstrap.log" >&2; exit 1; }

rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,info,locale,man}
# A machine that has booted before: no presets, nothing asked.
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
echo node >"$root/etc/hostname"
echo "root / ext4 defaults 0 0" >"$root/etc/fstab"
# berth loads its profile itself; those of the distribution take time.
for unit in apparmor.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer getty.target serial-getty@ttyS0.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

ram=$work/ram
mkdir -p "$ram"/{bin,dev,modules,payload,proc,root}
cp /bin/busybox "$ram/bin/busybox"
ln -s busybox "$ram/bin/sh"
# In the order in which they are loaded.
for module in crypto/crc32c_generic lib/libcrc32c lib/crc16 fs/mbcache fs/jbd2/jbd2 fs/ext4/ext4 \
    drivers/block/virtio_blk fs/overlayfs/overlay; do
    file=$modules/kernel/$module.ko
    # What a kernel has built in, it has no file of.
    [ -e "$file.xz" ] || [ -e "$file" ] || continue
    if [ -e "$file.xz" ]; then xz -dc "$file.xz"; else cat "$file"; fi >"$ram/modules/${module##*/}.ko"
    echo "${module##*/}" >>"$ram/modules/order"
done
cat >"$ram/init" <<'INIT'
#!/bin/sh
# The disk, with the payload of this run over it.
fail() { echo "init: $1 failed"; exec busybox poweroff -f; }
busybox mount -t devtmpfs dev /dev || fail devtmpfs
busybox mount -t proc proc /proc || fail proc
while read -r module; do
    busybox insmod "/modules/$module.ko" || fail "insmod $module"
done </modules/order
busybox mount -t ext4 /dev/vda /root || fail "mount of the disk"
busybox mount -t ext4 -o ro /dev/vdb /payload || fail "mount of the payload"
busybox cp -a /payload/. /root/ || fail "copy of the payload"
busybox umount /payload
busybox umount /proc
busybox mount -o move /dev /root/dev || fail "move of /dev"
exec busybox switch_root /root /sbin/init
INIT
chmod 0755 "$ram/init"

mkdir "$work/image"
(cd "$ram" && find . | busybox cpio -o -H newc 2>/dev/null) | gzip -1 >"$work/image/initrd.gz"
# No journal: the machine is thrown away.
mke2fs -q -t ext4 -O ^has_journal -L root -d "$root" "$work/image/root.ext4" 1500M >&2
touch "$work/image/complete"
rm -rf "$image"
mv "$work/image" "$image"
echo "$image"
