//! A pod's traffic, by interface. Containers have none of their own.

use super::family::{Family, Samples};
use crate::cni::InterfaceStats;
use crate::cri::proto::MetricDescriptor;

const INTERFACE: [&str; 1] = ["interface"];
const RX_BYTES: Family<1> =
    Family::counter("container_network_receive_bytes_total", INTERFACE, "Bytes received.");
const RX_PACKETS: Family<1> =
    Family::counter("container_network_receive_packets_total", INTERFACE, "Packets received.");
const RX_ERRORS: Family<1> =
    Family::counter("container_network_receive_errors_total", INTERFACE, "Errors of receiving.");
const RX_DROPPED: Family<1> = Family::counter(
    "container_network_receive_packets_dropped_total",
    INTERFACE,
    "Packets received and dropped.",
);
const TX_BYTES: Family<1> =
    Family::counter("container_network_transmit_bytes_total", INTERFACE, "Bytes sent.");
const TX_PACKETS: Family<1> =
    Family::counter("container_network_transmit_packets_total", INTERFACE, "Packets sent.");
const TX_ERRORS: Family<1> =
    Family::counter("container_network_transmit_errors_total", INTERFACE, "Errors of sending.");
const TX_DROPPED: Family<1> = Family::counter(
    "container_network_transmit_packets_dropped_total",
    INTERFACE,
    "Packets dropped instead of sent.",
);

pub(super) fn descriptors() -> Vec<MetricDescriptor> {
    [RX_BYTES, RX_PACKETS, RX_ERRORS, RX_DROPPED, TX_BYTES, TX_PACKETS, TX_ERRORS, TX_DROPPED]
        .iter()
        .map(Family::descriptor)
        .collect()
}

/// What a pod tells itself by `lo` is no traffic.
pub(super) fn add(samples: &mut Samples, interfaces: &[InterfaceStats]) {
    for i in interfaces.iter().filter(|i| i.name != "lo") {
        let name = [i.name.as_str()];
        samples.add(&RX_BYTES, name, i.rx_bytes);
        samples.add(&RX_PACKETS, name, i.rx_packets);
        samples.add(&RX_ERRORS, name, i.rx_errors);
        samples.add(&RX_DROPPED, name, i.rx_dropped);
        samples.add(&TX_BYTES, name, i.tx_bytes);
        samples.add(&TX_PACKETS, name, i.tx_packets);
        samples.add(&TX_ERRORS, name, i.tx_errors);
        samples.add(&TX_DROPPED, name, i.tx_dropped);
    }
}
