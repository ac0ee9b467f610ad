//! The built-in network on the real kernel, with traffic, in namespaces of the tests' own.

use super::fixture::{Node, inside, on_a_node, sh};
use super::request::{AttachRequest, Attachment};
use crate::sandbox::config::{PortMapping, Protocol};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(30);

/// Listens on a port of a pod, every address, both families, and answers each connection with its
/// peer's address, for as long as the process lives.
fn serve(pod: &AttachRequest, port: u16) {
    let listener = inside(pod, || TcpListener::bind((IpAddr::from([0_u16; 8]), port)).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let peer = stream.peer_addr().unwrap().ip().to_canonical();
            (&stream).write_all(peer.to_string().as_bytes()).ok();
        }
    });
}

/// Connects from the calling thread's namespace; who the server saw.
fn ask(ip: IpAddr, port: u16) -> io::Result<IpAddr> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(ip, port), WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    text.parse().map_err(|_| io::Error::other(text))
}

fn ask_from(pod: &AttachRequest, ip: IpAddr, port: u16) -> io::Result<IpAddr> {
    inside(pod, || ask(ip, port))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn port(host_port: u16, host_ip: Option<&str>) -> PortMapping {
    let host_ip = host_ip.map(ip);
    PortMapping { protocol: Protocol::Tcp, container_port: 80, host_port, host_ip }
}

fn texts(attachment: &Attachment) -> Vec<String> {
    attachment.ips.iter().map(ToString::to_string).collect()
}

/// Something outside of the node, at 192.0.2.2 and 2001:db8::2; the node is .1 and ::1 there.
fn outside(node: &Node) -> AttachRequest {
    let outside = node.pod("outside");
    let pid = std::process::id();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&*outside.netns_fd);
    sh(&format!(
        "ip link add out0 type veth peer name out1 netns /proc/{pid}/fd/{fd}
         ip addr add 192.0.2.1/24 dev out0; ip -6 addr add 2001:db8::1/64 dev out0 nodad
         ip link set out0 up"
    ));
    inside(&outside, || {
        sh("ip addr add 192.0.2.2/24 dev out1; ip -6 addr add 2001:db8::2/64 dev out1 nodad
            ip link set lo up; ip link set out1 up")
    });
    outside
}

#[test]
fn two_pods_get_addresses_reach_each_other_and_leave_nothing() {
    on_a_node(|node| {
        let network = node.open();
        let (a, b) = (node.pod("a"), node.pod("b"));
        assert_eq!(texts(&network.attach(&a).unwrap()), ["10.77.0.2", "fd77::2"]);
        assert_eq!(texts(&network.attach(&b).unwrap()), ["10.77.0.3", "fd77::3"]);
        serve(&a, 80);
        assert_eq!(ask_from(&b, ip("10.77.0.2"), 80).unwrap(), ip("10.77.0.3"));
        assert_eq!(ask_from(&b, ip("fd77::2"), 80).unwrap(), ip("fd77::3"));
        assert_eq!(ask_from(&a, ip("127.0.0.1"), 80).unwrap(), ip("127.0.0.1"));
        assert_eq!(ask(ip("10.77.0.2"), 80).unwrap(), ip("10.77.0.1"));
        network.check(&a.sandbox).unwrap();
        network.detach(&a.sandbox).unwrap();
        network.detach(&a.sandbox).unwrap();
        network.detach(&b.sandbox).unwrap();
        network.close().unwrap();
        assert_eq!(node.leftovers(), [""; 0]);
    });
}

#[test]
fn a_repeated_attach_answers_the_same_and_check_sees_a_lost_cable() {
    on_a_node(|node| {
        let network = node.open();
        let a = node.pod("a");
        let first = network.attach(&a).unwrap();
        assert_eq!(network.attach(&a).unwrap(), first);
        sh(&format!("ip link del bt{}", &a.sandbox.as_str()[..12]));
        assert!(network.check(&a.sandbox).is_err());
        network.detach(&a.sandbox).unwrap();
    });
}

#[test]
fn a_host_port_answers_on_every_address_on_loopback_from_pods_and_from_the_pod_itself() {
    on_a_node(|node| {
        let outside = outside(node);
        let network = node.open();
        let (mut a, b) = (node.pod("a"), node.pod("b"));
        a.port_mappings = vec![port(8080, None)];
        network.attach(&a).unwrap();
        network.attach(&b).unwrap();
        serve(&a, 80);
        let gateway = ip("10.77.0.1");
        assert_eq!(ask(ip("127.0.0.1"), 8080).unwrap(), gateway, "loopback");
        assert!(ask(ip("192.0.2.1"), 8080).is_ok(), "own address");
        assert!(ask(ip("2001:db8::1"), 8080).is_ok(), "own IPv6 address");
        assert_eq!(ask_from(&outside, ip("192.0.2.1"), 8080).unwrap(), ip("192.0.2.2"));
        assert_eq!(ask_from(&outside, ip("2001:db8::1"), 8080).unwrap(), ip("2001:db8::2"));
        assert_eq!(ask_from(&b, ip("192.0.2.1"), 8080).unwrap(), gateway, "another pod");
        assert_eq!(ask_from(&a, ip("192.0.2.1"), 8080).unwrap(), gateway, "itself");
        assert_eq!(ask_from(&a, gateway, 8080).unwrap(), gateway, "itself by the gateway");
        assert_eq!(ask_from(&a, ip("2001:db8::1"), 8080).unwrap(), ip("fd77::1"), "itself, IPv6");
        // Control: the port is not open by itself, and `[::1]` is the documented exception.
        assert!(ask(ip("127.0.0.1"), 80).is_err());
        assert!(ask(ip("::1"), 8080).is_err());
        network.detach(&a.sandbox).unwrap();
        assert!(ask(ip("127.0.0.1"), 8080).is_err(), "the port goes with the pod");
        network.detach(&b.sandbox).unwrap();
    });
}

#[test]
fn a_host_ip_keeps_a_port_to_one_address() {
    on_a_node(|node| {
        let outside = outside(node);
        let network = node.open();
        let mut a = node.pod("a");
        a.port_mappings = vec![port(8080, Some("127.0.0.1")), port(8081, Some("192.0.2.1"))];
        network.attach(&a).unwrap();
        serve(&a, 80);
        assert!(ask(ip("127.0.0.1"), 8080).is_ok());
        assert!(ask_from(&outside, ip("192.0.2.1"), 8081).is_ok());
        assert!(ask(ip("127.0.0.1"), 8081).is_err());
        assert!(ask_from(&outside, ip("192.0.2.1"), 8080).is_err());
        network.detach(&a.sandbox).unwrap();
    });
}

/// kubernetes#58336: the first packet's way is remembered, and a sender that goes on keeps it.
#[test]
fn a_udp_sender_that_goes_on_is_led_to_the_new_pod() {
    on_a_node(|node| {
        let outside = outside(node);
        let network = node.open();
        // Somebody is attached, so that connections are tracked at all.
        network.attach(&node.pod("other")).unwrap();
        let sender = inside(&outside, || UdpSocket::bind("192.0.2.2:4000").unwrap());
        sender.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let send = || {
            // The refusal of an earlier packet is told to the next call.
            while sender.send_to(b"x", "192.0.2.1:5353").is_err() {}
            let mut answer = [0; 1];
            sender.recv(&mut answer).map(|_| answer[0])
        };
        assert!(send().is_err());
        for name in [b'a', b'b'] {
            let mut pod = node.pod("pod");
            let mapping = PortMapping { protocol: Protocol::Udp, ..port(5353, None) };
            pod.port_mappings = vec![mapping];
            network.attach(&pod).unwrap();
            let socket = inside(&pod, || UdpSocket::bind("0.0.0.0:80").unwrap());
            std::thread::spawn(move || {
                while let Ok((_, peer)) = socket.recv_from(&mut [0; 16]) {
                    socket.send_to(&[name], peer).ok();
                }
            });
            let answers: Vec<u8> = (0..5).filter_map(|_| send().ok()).collect();
            assert!(answers.contains(&name), "pod {}: {answers:?}", char::from(name));
            network.detach(&pod.sandbox).unwrap();
            assert!(send().is_err());
        }
    });
}

#[test]
fn what_leaves_the_bridge_carries_the_nodes_address() {
    on_a_node(|node| {
        let outside = outside(node);
        let network = node.open();
        let a = node.pod("a");
        network.attach(&a).unwrap();
        serve(&outside, 80);
        assert_eq!(ask_from(&a, ip("192.0.2.2"), 80).unwrap(), ip("192.0.2.1"));
        assert_eq!(ask_from(&a, ip("2001:db8::2"), 80).unwrap(), ip("2001:db8::1"));
        // Control: without the table nothing comes back, since nobody outside knows the subnet.
        sh("nft delete table inet berth");
        let refused = inside(&a, || {
            let to = SocketAddr::new(ip("192.0.2.2"), 80);
            TcpStream::connect_timeout(&to, Duration::from_millis(300)).map(|_| ())
        });
        assert!(refused.is_err());
        network.detach(&a.sandbox).unwrap();
    });
}

/// CVE-2020-8558: with route_localnet, a neighbour reaches what listens on 127.0.0.1.
#[test]
fn a_pod_cannot_reach_the_nodes_loopback() {
    on_a_node(|node| {
        let network = node.open();
        let a = node.pod("a");
        network.attach(&a).unwrap();
        let listener = UdpSocket::bind("127.0.0.1:9999").unwrap();
        let heard = |wait: u64| {
            listener.set_read_timeout(Some(Duration::from_millis(wait))).unwrap();
            listener.recv(&mut [0; 16]).is_ok()
        };
        // A pod with CAP_NET_ADMIN that sends what its own kernel would keep.
        inside(&a, || {
            sh("ip addr del 127.0.0.1/8 dev lo
                sysctl -qw net.ipv4.conf.all.route_localnet=1
                ip route add 127.0.0.1 via 10.77.0.1")
        });
        let send = || {
            inside(&a, || {
                let socket = UdpSocket::bind("10.77.0.2:0").unwrap();
                socket.send_to(b"x", "127.0.0.1:9999").unwrap();
            });
        };
        send();
        assert!(!heard(500));
        // Control: it is the guard that keeps it out.
        sh("nft delete chain inet berth loopback_guard");
        send();
        assert!(heard(5000));
        network.detach(&a.sandbox).unwrap();
    });
}

#[test]
fn a_taken_port_and_a_full_network_refuse_the_pod_and_leave_nothing_of_it() {
    on_a_node(|node| {
        let network = node.open_with(|config| {
            config.subnet = "10.77.0.0/30".parse().unwrap();
            config.subnet6 = None;
        });
        let (mut a, mut b) = (node.pod("a"), node.pod("b"));
        a.port_mappings = vec![port(8080, None)];
        b.port_mappings = a.port_mappings.clone();
        assert_eq!(texts(&network.attach(&a).unwrap()), ["10.77.0.2"]);
        let taken = network.attach(&b).unwrap_err();
        assert_eq!(taken.to_string(), "hostPort 8080/tcp is taken by pod default/a");
        b.port_mappings.clear();
        let full = network.attach(&b).unwrap_err();
        assert_eq!(full.to_string(), "no free address in 10.77.0.0/30: all 1 are leased");
        assert!(!node.layout.network_journal(&b.sandbox).exists());
        network.detach(&a.sandbox).unwrap();
        assert_eq!(texts(&network.attach(&b).unwrap()), ["10.77.0.2"]);
        network.detach(&b.sandbox).unwrap();
        network.close().unwrap();
        assert_eq!(node.leftovers(), [""; 0]);
    });
}

#[test]
fn after_a_kill_the_living_keep_their_network_and_the_rest_goes() {
    on_a_node(|node| {
        let (mut a, b) = (node.pod("a"), node.pod("b"));
        a.port_mappings = vec![port(8080, None)];
        {
            let network = node.open();
            network.attach(&a).unwrap();
            network.attach(&b).unwrap();
        }
        serve(&a, 80);
        // As kill -9 leaves it in the middle: a lease and a cable without a journal, a lost table.
        let stray = node.layout.leases().join("10.77.0.99");
        std::os::unix::fs::symlink("f".repeat(64), &stray).unwrap();
        sh("ip link add btffffffffffff type veth peer name other
            ip link set btffffffffffff master berth0; nft delete table inet berth");
        let network = node.open();
        let notes = network.recover(&[a.sandbox.clone()]);
        for part in ["detached pod default/b", "btffffffffffff", "10.77.0.99"] {
            assert!(notes.iter().any(|note| note.contains(part)), "{part}: {notes:?}");
        }
        assert!(ask(ip("127.0.0.1"), 8080).is_ok());
        assert!(!node.layout.network_journal(&b.sandbox).exists() && !stray.is_symlink());
        let mut c = node.pod("c");
        c.port_mappings = vec![port(8080, None)];
        let taken = network.attach(&c).unwrap_err();
        assert!(taken.to_string().contains("default/a"), "{taken}");
        drop(network);
        let network = node.open();
        network.recover(&[]);
        assert_eq!(node.leftovers(), [""; 0]);
    });
}

#[test]
fn a_pod_goes_by_its_own_mode_when_another_is_configured() {
    on_a_node(|node| {
        let mut a = node.pod("a");
        a.port_mappings = vec![port(8080, None)];
        node.open().attach(&a).unwrap();
        serve(&a, 80);
        let network = node.open_with(|config| config.mode = crate::config::NetworkMode::Cni);
        network.recover(&[a.sandbox.clone()]);
        assert!(network.ready().is_err());
        assert!(ask(ip("127.0.0.1"), 8080).is_ok(), "the pod keeps its port");
        assert!(network.attach(&node.pod("b")).is_err(), "and no other pod gets that network");
        network.detach(&a.sandbox).unwrap();
        assert_eq!(node.leftovers(), [""; 0]);
    });
}

#[test]
fn a_pod_is_detached_when_its_namespace_or_its_bridge_is_gone() {
    on_a_node(|node| {
        let network = node.open();
        let (a, b) = (node.pod("a"), node.pod("b"));
        network.attach(&a).unwrap();
        let id = a.sandbox.clone();
        drop(a);
        network.detach(&id).unwrap();
        sh("ip link del berth0");
        assert_eq!(texts(&network.attach(&b).unwrap())[0], "10.77.0.3");
        let mut c = node.pod("c");
        c.port_mappings = vec![port(8080, None)];
        network.attach(&c).unwrap();
        serve(&c, 80);
        assert!(ask(ip("127.0.0.1"), 8080).is_ok(), "the new bridge has its parameters");
        network.detach(&b.sandbox).unwrap();
        network.detach(&c.sandbox).unwrap();
        network.close().unwrap();
        assert_eq!(node.leftovers(), [""; 0]);
    });
}

#[test]
fn twenty_pods_at_once_get_twenty_addresses() {
    on_a_node(|node| {
        let network = node.open();
        let pods: Vec<_> = (0..20).map(|n| node.pod(&format!("p{n}"))).collect();
        let mut ips: Vec<IpAddr> = std::thread::scope(|scope| {
            let network = &network;
            let attach = |pod| scope.spawn(move || network.attach(pod).unwrap().ips[0]);
            let threads: Vec<_> = pods.iter().map(attach).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        ips.sort();
        ips.dedup();
        assert_eq!(ips.len(), 20);
        for pod in &pods {
            network.detach(&pod.sandbox).unwrap();
        }
        network.close().unwrap();
        assert_eq!(node.leftovers(), [""; 0]);
    });
}
#[test]
fn many_pods_go_and_leave_nothing() {
    on_a_node(|node| {
        let network = node.open();
        let pods: Vec<_> = (0..40).map(|n| node.pod(&format!("p{n}"))).collect();
        for pod in &pods {
            network.attach(pod).unwrap();
        }
        sh("ip link add foreign0 type veth peer name foreign1");
        for pod in &pods {
            network.detach(&pod.sandbox).unwrap();
        }
        network.close().unwrap();
        sh("ip link del foreign0");
        assert_eq!(node.leftovers(), [""; 0]);
    });
}
