//! Disks: I/O by device, and the writable layer.

use super::family::{Family, Samples};
use crate::cgroups::{CgroupDetails, IoStats};
use crate::cri::proto::MetricDescriptor;
use crate::image::FsUsage;
use crate::sys::fs::{Space, device_name};

const DEVICE: [&str; 1] = ["device"];
const READ_BYTES: Family<1> =
    Family::counter("container_fs_reads_bytes_total", DEVICE, "Bytes read.");
const READS: Family<1> = Family::counter("container_fs_reads_total", DEVICE, "Reads.");
const WRITE_BYTES: Family<1> =
    Family::counter("container_fs_writes_bytes_total", DEVICE, "Bytes written.");
const WRITES: Family<1> = Family::counter("container_fs_writes_total", DEVICE, "Writes.");
const USAGE: Family<1> =
    Family::gauge("container_fs_usage_bytes", DEVICE, "What the writable layer takes, bytes.");
const LIMIT: Family<1> = Family::gauge(
    "container_fs_limit_bytes",
    DEVICE,
    "The size of the writable layer's file system, bytes.",
);
const INODES: Family<1> = Family::gauge(
    "container_fs_inodes_total",
    DEVICE,
    "The inodes of the writable layer's file system.",
);
const INODES_FREE: Family<1> = Family::gauge(
    "container_fs_inodes_free",
    DEVICE,
    "The free inodes of the writable layer's file system.",
);
const BLKIO: Family<4> = Family::counter(
    "container_blkio_device_usage_total",
    ["device", "major", "minor", "operation"],
    "Bytes by device and operation.",
);

pub(super) fn descriptors() -> Vec<MetricDescriptor> {
    [READ_BYTES, READS, WRITE_BYTES, WRITES, USAGE, LIMIT, INODES, INODES_FREE]
        .iter()
        .map(Family::descriptor)
        .chain([BLKIO.descriptor()])
        .collect()
}

/// Devices without I/O have no sample.
pub(super) fn add_io(samples: &mut Samples, details: &CgroupDetails) {
    for device in &details.io {
        let name = device_name(device.major, device.minor);
        let IoStats { read_bytes, write_bytes, read_ops, write_ops, discard_bytes, .. } = device.io;
        samples.add(&READ_BYTES, [&name], read_bytes);
        samples.add(&READS, [&name], read_ops);
        samples.add(&WRITE_BYTES, [&name], write_bytes);
        samples.add(&WRITES, [&name], write_ops);
        let (major, minor) = (device.major.to_string(), device.minor.to_string());
        for (operation, bytes) in
            [("Read", read_bytes), ("Write", write_bytes), ("Discard", discard_bytes)]
        {
            samples.add(&BLKIO, [&name, &major, &minor, operation], bytes);
        }
    }
}

pub(super) fn add_layer(samples: &mut Samples, layer: Option<&FsUsage>, space: Option<&Space>) {
    let (Some(layer), Some(space)) = (layer, space) else { return };
    let name = device_name(space.major, space.minor);
    samples.add(&USAGE, [&name], layer.used_bytes);
    samples.add(&LIMIT, [&name], space.bytes);
    samples.add(&INODES, [&name], space.inodes);
    samples.add(&INODES_FREE, [&name], space.inodes_free);
}
