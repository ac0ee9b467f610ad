# What a container may do for which its request names no other profile.
#
# It is the third fence: capabilities and read-only mounts come first. It holds where those were
# loosened: for a container with CAP_SYS_ADMIN, for one whose proc and sys are writable.
# Paths are as the container sees them; disconnected ones are those of the overlay's layers.
profile berth-default-1 flags=(attach_disconnected,mediate_deleted) {
  network,
  capability,
  file,
  umount,

  # The node signals its containers; a container signals itself and others of its kind.
  signal (receive) peer=unconfined,
  signal (send, receive) peer=berth-default-*,
  ptrace (read, readby, trace, tracedby) peer=berth-default-*,

  deny mount,
  deny remount,
  deny pivot_root,

  # Memory and keys of the node.
  deny /proc/kcore rwklx,
  deny /proc/kmem rwklx,
  deny /proc/mem rwklx,
  deny /proc/sysrq-trigger rwklx,
  deny /sys/kernel/security/** rwklx,
  deny /sys/firmware/** rwklx,

  # Parameters that belong to no namespace. Those that do are left: net, kernel.msg*, kernel.sem,
  # kernel.shm*, fs.mqueue.
  deny /proc/sys/abi/** wklx,
  deny /proc/sys/crypto/** wklx,
  deny /proc/sys/debug/** wklx,
  deny /proc/sys/dev/** wklx,
  deny /proc/sys/vm/** wklx,
  deny /proc/sys/user/** wklx,
  deny /proc/sys/fs/[^m]** wklx,
  deny /proc/sys/kernel/[^ms]** wklx,
  deny /proc/sys/kernel/m[^s]** wklx,
  deny /proc/sys/kernel/s[^eh]** wklx,
  deny /proc/sys/kernel/se[^m]** wklx,

  # Devices, drivers and file systems of the node. The container's own cgroups are left.
  deny /sys/{block,bus,class,dev,devices,hypervisor,kernel,module,power}/** wklx,
  deny /sys/fs/[^c]** wklx,
}
