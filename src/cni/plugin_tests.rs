//! Plugins on the real kernel: Debian's own, and scripts that fail, sleep and write down how they
//! were called.

use super::conf::CniVersion;
use super::fixture::{Node, inside, on_a_node, sh};
use super::helper;
use super::invoke::Invoker;
use super::network::Inner;
use super::plugins;
use crate::config::NetworkMode;
use crate::error::{ErrorKind, chain};
use crate::testing::eventually;
use std::path::PathBuf;
use std::time::Duration;

/// How long to wait for what must come: a bound against hanging, on a machine of any speed.
const SOON: Duration = Duration::from_secs(60);

fn open(node: &Node) -> Inner {
    node.open_with(|config| config.mode = NetworkMode::Cni)
}

/// Writes a conflist and the folder for it.
fn network(node: &Node, version: CniVersion, plugins: &str) {
    std::fs::create_dir_all(&node.config.cni_conf_dir).unwrap();
    let text =
        format!(r#"{{"cniVersion":"{}","name":"podnet","plugins":[{plugins}]}}"#, version.as_str());
    std::fs::write(node.config.cni_conf_dir.join("10-podnet.conflist"), text).unwrap();
}

/// Writes a plugin that appends `name COMMAND` to the log and then runs `body`. For ADD it answers
/// with an address unless `body` answers for it.
fn plugin(node: &Node, name: &str, body: &str) {
    let dir = node.path().join("bin");
    std::fs::create_dir_all(&dir).unwrap();
    let log = log_path(node);
    let script = format!(
        "#!/bin/sh\nIN=$(cat)\necho \"{name} $CNI_COMMAND\" >> {log}\nLOG={log}\n{body}\n\
         if [ $CNI_COMMAND = ADD ]; then\n\
         echo '{{\"cniVersion\":\"1.0.0\",\"interfaces\":[{{\"name\":\"eth0\",\"sandbox\":\"x\"}}],\
         \"ips\":[{{\"address\":\"10.5.0.7/24\",\"interface\":0}}]}}'\nfi\n",
        log = log.display()
    );
    // Written by another process: a program that another test is just starting would hold a copy
    // of the descriptor, and a file that is open for writing is not executed.
    let (draft, path) = (node.path().join("draft"), dir.join(name));
    std::fs::write(&draft, script).unwrap();
    sh(&format!("install -m 755 {} {}", draft.display(), path.display()));
}

fn log_path(node: &Node) -> PathBuf {
    node.path().join("log")
}

/// What was called since the last look.
fn calls(node: &Node) -> Vec<String> {
    let text = std::fs::read_to_string(log_path(node)).unwrap_or_default();
    std::fs::remove_file(log_path(node)).ok();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn debians_bridge_attaches_checks_and_detaches_also_without_its_configuration() {
    on_a_node(|node| {
        let data = node.path().join("ipam");
        let ipam = format!(
            r#""ipam":{{"type":"host-local","dataDir":"{}",
                "ranges":[[{{"subnet":"10.6.0.0/24"}}]],"routes":[{{"dst":"0.0.0.0/0"}}]}}"#,
            data.display()
        );
        let bridge = format!(r#"{{"type":"bridge","bridge":"cni7","isGateway":true,{ipam}}}"#);
        network(node, CniVersion::V1_0_0, &bridge);
        let network = open(node);
        let a = node.pod("a");
        let attachment = network.attach(&a).unwrap();
        assert_eq!(attachment.ips, ["10.6.0.2".parse::<std::net::IpAddr>().unwrap()]);
        inside(&a, || {
            let addresses = sh("ip -o addr show");
            assert!(addresses.contains("eth0    inet 10.6.0.2/24"), "{addresses}");
            assert!(addresses.contains("inet 127.0.0.1/8"), "{addresses}");
            sh("ping -c1 -W5 10.6.0.1 || true");
        });
        network.check(&a.sandbox).unwrap();
        assert!(data.join("podnet/10.6.0.2").exists());
        std::fs::remove_dir_all(&node.config.cni_conf_dir).unwrap();
        eventually("not ready", || network.ready().is_err());
        let id = a.sandbox.clone();
        drop(a);
        network.detach(&id).unwrap();
        network.detach(&id).unwrap();
        assert!(!data.join("podnet/10.6.0.2").exists());
        sh("ip link del cni7");
        // With the namespace gone the cable is the kernel's to remove, and it does that later.
        eventually("the cable is gone", || node.leftovers().is_empty());
    });
}

#[test]
fn a_network_appears_changes_and_goes_without_a_restart() {
    on_a_node(|node| {
        let network_now = open(node);
        let refused = network_now.ready().unwrap_err();
        assert_eq!(refused.reason, "NetworkPluginNotReady");
        let error = network_now.attach(&node.pod("a")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        plugin(node, "one", "");
        // The folder itself is missing at first: made and filled, then replaced, then emptied.
        network(node, CniVersion::V1_0_0, r#"{"type":"one"}"#);
        eventually("appears", || network_now.ready().is_ok());
        let (dir, aside) = (&node.config.cni_conf_dir, node.path().join("aside"));
        std::fs::rename(dir, &aside).unwrap();
        eventually("goes", || network_now.ready().is_err());
        std::fs::rename(&aside, dir).unwrap();
        eventually("comes back", || network_now.ready().is_ok());
        std::fs::write(dir.join("05-first.conflist"), "{").unwrap();
        eventually("breaks", || network_now.ready().is_err());
        let message = network_now.ready().unwrap_err().message;
        assert!(message.contains("05-first.conflist"), "{message}");
        std::fs::remove_file(dir.join("05-first.conflist")).unwrap();
        eventually("is mended", || network_now.ready().is_ok());
        let a = node.pod("a");
        network_now.attach(&a).unwrap();
        network_now.detach(&a.sandbox).unwrap();
        assert_eq!(calls(node), ["one ADD", "one DEL"]);
    });
}

#[test]
fn a_failing_plugin_is_undone_in_reverse_and_named() {
    on_a_node(|node| {
        plugin(node, "one", "");
        plugin(node, "two", "");
        let fail = r#"[ $CNI_COMMAND = ADD ] && {
            echo '{"code":7,"msg":"no more addresses","details":"in 10.5.0.0/24"}'; exit 1; }"#;
        plugin(node, "three", fail);
        plugin(node, "four", "");
        let list = r#"{"type":"one"},{"type":"two"},{"type":"three"},{"type":"four"}"#;
        network(node, CniVersion::V1_0_0, list);
        let network = open(node);
        let a = node.pod("a");
        let error = chain(&network.attach(&a).unwrap_err());
        assert_eq!(
            error,
            "network podnet: plugin three ADD: no more addresses; in 10.5.0.0/24 (code 7)"
        );
        assert_eq!(
            calls(node),
            ["one ADD", "two ADD", "three ADD", "three DEL", "two DEL", "one DEL"]
        );
        assert_eq!(node.leftovers(), [""; 0]);
        assert_eq!(network.attach(&node.pod("b")).unwrap_err().kind(), ErrorKind::Internal);
    });
}

#[test]
fn a_plugin_that_does_not_end_is_killed_with_its_children() {
    on_a_node(|node| {
        plugin(node, "slow", "[ $CNI_COMMAND = ADD ] && { sleep 300 & sleep 300; }");
        network(node, CniVersion::V1_0_0, r#"{"type":"slow"}"#);
        let network = node.open_with(|config| {
            config.mode = NetworkMode::Cni;
            config.cni_timeout_seconds = 1;
        });
        let a = node.pod("a");
        let error = network.attach(&a).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{}", chain(&error));
        assert_eq!(calls(node), ["slow ADD", "slow DEL"]);
        assert_eq!(node.leftovers(), [""; 0]);
    });
}

/// The daemon was killed while a plugin slept between its effect and its answer.
#[test]
fn an_orphaned_add_is_killed_before_its_del_runs() {
    on_a_node(|node| {
        let body = "[ $CNI_COMMAND = ADD ] && { sleep 2; echo late >> $LOG; }";
        plugin(node, "slow", body);
        network(node, CniVersion::V1_0_0, r#"{"type":"slow"}"#);
        let a = node.pod("a");
        let group = node.cgroups.helpers(&a.sandbox);
        let conf = super::conf::load_dir(&node.config.cni_conf_dir).unwrap();
        let invoker = Invoker { bin_dirs: node.config.cni_bin_dirs.clone(), limit: SOON };
        std::thread::scope(|scope| {
            // Half of a verb: what a killed daemon leaves does not undo itself.
            let half = scope.spawn(|| plugins::attach(&a, &conf, &invoker, &group, &node.layout));
            eventually("is called", || {
                std::fs::read_to_string(log_path(node)).is_ok_and(|log| log.contains("ADD"))
            });
            let notes = open(node).recover(&[]);
            assert!(notes.iter().any(|note| note.contains("detached")), "{notes:?}");
            assert!(half.join().unwrap().is_err());
        });
        let calls = calls(node);
        assert!(!calls.contains(&"late".to_owned()), "{calls:?}");
        assert_eq!(calls, ["slow ADD", "slow DEL"]);
        assert_eq!(node.leftovers(), [""; 0]);
    });
}

#[test]
fn a_detach_that_fails_is_told_and_tried_again() {
    on_a_node(|node| {
        let flag = node.path().join("fail");
        let fail = format!("[ $CNI_COMMAND = DEL ] && [ -e {} ] && exit 3", flag.display());
        plugin(node, "one", &fail);
        plugin(node, "two", "");
        network(node, CniVersion::V0_4_0, r#"{"type":"one"},{"type":"two"}"#);
        let network = open(node);
        let a = node.pod("a");
        network.attach(&a).unwrap();
        std::fs::write(&flag, "").unwrap();
        let error = network.detach(&a.sandbox).unwrap_err().to_string();
        assert_eq!(
            error,
            "network of pod default/a is not undone in full: plugin one DEL: exit code 3"
        );
        std::fs::remove_file(&flag).unwrap();
        // By a daemon that knows nothing but the journal.
        open(node).detach(&a.sandbox).unwrap();
        let expected =
            ["one ADD", "two ADD", "two DEL", "one DEL", "two DEL", "one DEL"].map(str::to_owned);
        assert_eq!(calls(node), expected);
        assert_eq!(node.leftovers(), [""; 0]);
    });
}

#[test]
fn the_plugins_see_the_pod_the_result_before_and_del_sees_the_last_one() {
    on_a_node(|node| {
        let record =
            "echo \"$IN\" >> $LOG; echo \"$CNI_ARGS $CNI_IFNAME ${CNI_NETNS:-gone}\" >> $LOG";
        plugin(node, "one", "");
        plugin(node, "two", record);
        let list = r#"{"type":"one"},{"type":"two","capabilities":{"portMappings":true}}"#;
        network(node, CniVersion::V1_0_0, list);
        let network = open(node);
        let mut a = node.pod("a");
        a.port_mappings = vec![crate::sandbox::config::PortMapping {
            protocol: crate::sandbox::config::Protocol::Tcp,
            container_port: 80,
            host_port: 8080,
            host_ip: None,
        }];
        network.attach(&a).unwrap();
        let add = calls(node);
        assert!(add[2].contains(r#""prevResult":{"cniVersion""#), "{add:?}");
        assert!(add[2].contains(r#""runtimeConfig":{"portMappings":[{"#), "{add:?}");
        assert!(add[3].starts_with("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;"), "{add:?}");
        assert!(add[3].contains(" eth0 /proc/"), "{add:?}");
        let id = a.sandbox.clone();
        drop(a);
        network.detach(&id).unwrap();
        let del = calls(node);
        assert!(del[1].contains("prevResult") && del[2].ends_with(" eth0 gone"), "{del:?}");
    });
}

#[test]
fn status_and_gc_are_asked_of_a_1_1_0_network_alone() {
    on_a_node(|node| {
        let flag = node.path().join("down");
        let body = format!(
            "[ $CNI_COMMAND = GC ] && echo \"$IN\" >> $LOG\n[ $CNI_COMMAND = STATUS ] && [ -e {} ] \
             && {{ echo '{{\"code\":50,\"msg\":\"no uplink\"}}'; exit 1; }}",
            flag.display()
        );
        plugin(node, "one", &body);
        network(node, CniVersion::V1_1_0, r#"{"type":"one"}"#);
        std::fs::write(&flag, "").unwrap();
        let network_now = open(node);
        let message = network_now.ready().unwrap_err().message;
        assert_eq!(message, "network podnet: plugin one STATUS: no uplink (code 50)");
        std::fs::remove_file(&flag).unwrap();
        network(node, CniVersion::V1_1_0, r#"{"type":"one","changed":1}"#);
        eventually("ready", || network_now.ready().is_ok());
        let a = node.pod("a");
        network_now.attach(&a).unwrap();
        calls(node);
        network_now.recover(std::slice::from_ref(&a.sandbox));
        let gc = calls(node);
        assert_eq!(gc[0], "one GC");
        let live = format!(
            r#""cni.dev/valid-attachments":[{{"containerID":"{}","ifname":"eth0"}}]"#,
            a.sandbox
        );
        assert!(gc[1].contains(&live), "{gc:?}");
        network_now.detach(&a.sandbox).unwrap();
        network(node, CniVersion::V1_0_0, r#"{"type":"one"}"#);
        calls(node);
        open(node).recover(&[]);
        assert_eq!(calls(node), [""; 0]);
        network_now.close().unwrap();
    });
}

#[test]
fn a_result_without_an_address_is_an_error_and_undone() {
    on_a_node(|node| {
        plugin(node, "one", "[ $CNI_COMMAND = ADD ] && { echo '{\"ips\":[]}'; exit 0; }");
        network(node, CniVersion::V1_0_0, r#"{"type":"one"}"#);
        let error = open(node).attach(&node.pod("a")).unwrap_err();
        assert_eq!(error.to_string(), "network podnet gave no usable result: no address on eth0");
        assert_eq!(calls(node), ["one ADD", "one DEL"]);
        assert_eq!(node.leftovers(), [""; 0]);
    });
}

#[test]
fn a_helper_reads_all_is_heard_to_the_end_and_is_held_to_its_output() {
    on_a_node(|node| {
        let group = node.cgroups.helpers(&node.pod("a").sandbox);
        let run = |script: &str, stdin: &[u8]| {
            let helper = helper::Helper {
                program: "/bin/sh".as_ref(),
                args: &["-c", script],
                env: &[("PATH", "/usr/bin:/bin".to_owned())],
                stdin,
                limit: Duration::from_secs(20),
            };
            helper::run(&helper, &group)
        };
        let large = vec![b'x'; 300_000];
        let output = run("wc -c; cat /proc/self/cgroup >&2", &large).unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "300000");
        assert!(output.stderr.contains(&group.path().to_string()), "{}", output.stderr);
        // It does not read, closes its output early, and leaves a child that holds the pipes.
        let output = run("sleep 60 & echo done; exec >&-; exit 4", &large).unwrap();
        assert_eq!((output.stdout, output.ended.exit_code()), (b"done\n".to_vec(), 4));
        helper::kill_group(&group).unwrap();
        let refused = run("exec yes", b"").unwrap_err();
        assert!(matches!(refused, helper::HelperError::TooMuch { .. }), "{refused}");
        assert!(!group.populated().unwrap());
        helper::tidy_group(&group);
    });
}
