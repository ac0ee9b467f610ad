//! Traffic counters of a pod's interfaces, from `/proc/<pid>/net/dev` (proc_pid_net(5)).

use std::io;

/// The counters of one interface since it was made, as its namespace sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceStats {
    /// The interface's name.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets received with errors.
    pub rx_errors: u64,
    /// Packets received and dropped.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets not sent for errors.
    pub tx_errors: u64,
    /// Packets dropped instead of sent.
    pub tx_dropped: u64,
}

/// Reads the counters of every interface in the network namespace of process `pid`, `lo` included.
///
/// # Errors
/// ENOENT when there is no such process.
pub fn read_interface_stats(pid: i32) -> io::Result<Vec<InterfaceStats>> {
    std::fs::read_to_string(format!("/proc/{pid}/net/dev")).map(|text| parse_net_dev(&text))
}

/// Reads the text of a `net/dev` file. Lines that are not an interface's are passed over.
pub fn parse_net_dev(text: &str) -> Vec<InterfaceStats> {
    text.lines().filter_map(parse_line).collect()
}

/// `name: rx(bytes packets errs drop fifo frame compressed multicast) tx(bytes packets errs …)`.
fn parse_line(line: &str) -> Option<InterfaceStats> {
    // A name may hold a colon (an old alias); a number never does.
    let (name, numbers) = line.rsplit_once(':')?;
    let numbers: Vec<u64> =
        numbers.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    Some(InterfaceStats {
        name: name.trim().to_owned(),
        rx_bytes: *numbers.first()?,
        rx_packets: *numbers.get(1)?,
        rx_errors: *numbers.get(2)?,
        rx_dropped: *numbers.get(3)?,
        tx_bytes: *numbers.get(8)?,
        tx_packets: *numbers.get(9)?,
        tx_errors: *numbers.get(10)?,
        tx_dropped: *numbers.get(11)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     840      10    0    0    0     0          0         0      840      10    0    0    0     0       0          0
  eth0: 1296612     954    3    1    0     0          0         0    67036     871    7    0    0     0       0          0
";

    #[test]
    fn the_counters_of_every_interface_are_read_by_column() {
        let eth0 = InterfaceStats {
            name: "eth0".into(),
            rx_bytes: 1_296_612,
            rx_packets: 954,
            rx_errors: 3,
            rx_dropped: 1,
            tx_bytes: 67_036,
            tx_packets: 871,
            tx_errors: 7,
            tx_dropped: 0,
        };
        let lo = InterfaceStats {
            name: "lo".into(),
            rx_bytes: 840,
            rx_packets: 10,
            tx_bytes: 840,
            tx_packets: 10,
            ..InterfaceStats::default()
        };
        assert_eq!(parse_net_dev(TEXT), [lo, eth0]);
    }

    #[test]
    fn a_short_or_foreign_line_is_passed_over() {
        assert_eq!(parse_net_dev("eth0: 1 2 3\nno colon\n: \neth1: x\n"), []);
    }

    #[test]
    fn this_process_has_a_loopback_interface() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(read_interface_stats(own).unwrap().iter().any(|i| i.name == "lo"));
        assert!(read_interface_stats(-1).is_err());
    }
}
