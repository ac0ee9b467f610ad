//! What the pod network needs: plugins and a conflist, or bridge, veth and nf_tables.

use super::report::{Finding, Report};
use crate::config::{Network, NetworkMode};
use rtnetlink::{LinkBridge, LinkVeth};
use std::path::{Path, PathBuf};

pub(super) fn check(config: &Network, report: &mut Report) {
    match config.mode {
        NetworkMode::Cni => cni(config, report),
        NetworkMode::Builtin => builtin(report),
    }
    let file = "/proc/sys/net/ipv4/ip_forward";
    let forwards = std::fs::read_to_string(file).is_ok_and(|t| t.trim() == "1");
    report.add(forwarding(forwards, config.mode));
}

fn forwarding(on: bool, mode: NetworkMode) -> Finding {
    const NAME: &str = "ip forwarding";
    match (on, mode) {
        (true, _) => Finding::ok(NAME, "on"),
        (false, NetworkMode::Builtin) => Finding::ok(NAME, "off; berth switches it on"),
        (false, NetworkMode::Cni) => {
            Finding::warn(NAME, "off", "sysctl -w net.ipv4.ip_forward=1, unless a plugin does it")
        }
    }
}

fn cni(config: &Network, report: &mut Report) {
    let plugins = plugins(&config.cni_bin_dirs);
    let folders: Vec<String> =
        config.cni_bin_dirs.iter().map(|d| d.display().to_string()).collect();
    let folders = folders.join(", ");
    report.add(if plugins.is_empty() {
        let remedy = "install the CNI plugins there, or set network.mode = \"builtin\"";
        Finding::fail("cni plugins", format!("none in {folders}"), remedy)
    } else {
        Finding::ok("cni plugins", format!("{} in {folders}", plugins.len()))
    });
    report.add(conflist(&config.cni_conf_dir, &plugins));
}

/// The names of all programs in the folders.
fn plugins(folders: &[PathBuf]) -> Vec<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let entries = folders.iter().filter_map(|f| std::fs::read_dir(f).ok()).flatten().flatten();
    entries
        .filter(|e| {
            e.path().metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        })
        .filter_map(|e| e.file_name().into_string().ok())
        .collect()
}

/// The first configuration in lexical order, and whether its plugins are there.
fn conflist(folder: &Path, plugins: &[String]) -> Finding {
    const NAME: &str = "cni conflist";
    let shown = folder.display();
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "conflist" || e == "conf" || e == "json"))
        .collect();
    files.sort();
    let Some(file) = files.first() else {
        let remedy = "deploy a network add-on, or set network.mode = \"builtin\"; until then pods \
                      with a network of their own are refused";
        return Finding::warn(NAME, format!("none in {shown}"), remedy);
    };
    let shown = file.display();
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) else {
        return Finding::fail(NAME, format!("{shown} is not JSON"), "repair or remove it");
    };
    let missing: Vec<String> =
        plugin_types(&value).into_iter().filter(|t| !plugins.contains(t)).collect();
    if missing.is_empty() {
        Finding::ok(NAME, shown.to_string())
    } else {
        let found = format!("{shown} names plugins that are not installed: {}", missing.join(", "));
        Finding::fail(NAME, found, "install them")
    }
}

/// The plugins that a configuration runs: those of its list, or itself; and their address plugins.
fn plugin_types(value: &serde_json::Value) -> Vec<String> {
    let single = std::slice::from_ref(value);
    let list = value.get("plugins").and_then(|p| p.as_array()).map_or(single, Vec::as_slice);
    let kind = |v: Option<&serde_json::Value>| Some(v?.as_str()?.to_owned());
    list.iter()
        .flat_map(|p| [kind(p.get("type")), kind(p.get("ipam").and_then(|i| i.get("type")))])
        .flatten()
        .collect()
}

fn builtin(report: &mut Report) {
    let attempt = std::thread::spawn(try_interfaces).join();
    let interfaces = attempt.unwrap_or_else(|_| Err("the attempt was cut off".to_owned()));
    report.add(match interfaces {
        Ok(()) => Finding::ok("bridge and veth", "can be made"),
        Err(error) => Finding::fail(
            "bridge and veth",
            error,
            "modprobe bridge veth; install the kernel's modules where they are missing",
        ),
    });
    let nft = std::thread::spawn(try_nft).join();
    report.add(match nft.unwrap_or_else(|_| Err("the attempt was cut off".to_owned())) {
        Ok(()) => Finding::ok("nf_tables", "a table can be made"),
        Err(error) => Finding::fail(
            "nf_tables",
            error,
            "modprobe nf_tables nft_chain_nat nft_masq; install the nftables package",
        ),
    });
}

/// Gives the calling thread, which ends afterwards, a network namespace of its own.
fn leave_network() -> Result<(), String> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .map_err(|e| format!("make a network namespace: {e}"))
}

fn try_interfaces() -> Result<(), String> {
    leave_network()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|e| format!("start netlink: {e}"))?;
    runtime.block_on(async {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|e| format!("open netlink: {e}"))?;
        let work = async {
            let bridge = LinkBridge::new("berthchk0").build();
            handle.link().add(bridge).execute().await.map_err(|e| format!("make a bridge: {e}"))?;
            let pair = LinkVeth::new("berthchk1", "berthchk2").build();
            handle.link().add(pair).execute().await.map_err(|e| format!("make a veth pair: {e}"))
        };
        tokio::select! {
            result = work => result,
            () = connection => Err("netlink closed".to_owned()),
        }
    })
}

fn try_nft() -> Result<(), String> {
    leave_network()?;
    let rules = "add table inet berthchk; add chain inet berthchk post { type nat hook postrouting \
                 priority 100; }; add rule inet berthchk post masquerade";
    let output = std::process::Command::new("nft")
        .arg(rules)
        .output()
        .map_err(|e| format!("run nft: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    Err(format!("nft: {}", message.lines().next().unwrap_or("failed")))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn the_first_conflist_counts_and_its_plugins_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let installed = ["bridge".to_owned(), "host-local".to_owned()];
        assert_eq!(conflist(dir.path(), &installed).verdict, Verdict::Warn);
        let list = r#"{"plugins":[{"type":"bridge","ipam":{"type":"host-local"}}]}"#;
        std::fs::write(dir.path().join("20-b.conflist"), list).unwrap();
        assert_eq!(conflist(dir.path(), &installed).verdict, Verdict::Ok);
        std::fs::write(dir.path().join("10-a.conf"), r#"{"type":"ptp"}"#).unwrap();
        let finding = conflist(dir.path(), &installed);
        assert_eq!(finding.verdict, Verdict::Fail);
        assert!(finding.found.ends_with("not installed: ptp"), "{}", finding.found);
        std::fs::write(dir.path().join("05-x.conflist"), "not json").unwrap();
        assert_eq!(conflist(dir.path(), &installed).verdict, Verdict::Fail);
    }

    #[test]
    fn only_programs_are_plugins() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("README"), "").unwrap();
        let plugin = dir.path().join("bridge");
        std::fs::write(&plugin, "").unwrap();
        std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(plugins(&[dir.path().to_owned(), "/nowhere".into()]), ["bridge"]);
    }
}
