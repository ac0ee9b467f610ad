//! Results of plugins (CNI spec, section 5), as far as a runtime reads them.
//!
//! A result is handed on to the next plugin exactly as it came; only addresses and interfaces are
//! read here. The shapes of 0.3.1 to 1.1.0 differ in keys that are not read.

use super::request::Attachment;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;
use std::net::IpAddr;

#[derive(Deserialize)]
struct RawResult {
    #[serde(default)]
    interfaces: Vec<RawInterface>,
    #[serde(default)]
    ips: Vec<RawIp>,
}

#[derive(Deserialize)]
struct RawInterface {
    #[serde(default)]
    name: String,
    #[serde(default)]
    sandbox: String,
}

#[derive(Deserialize)]
struct RawIp {
    address: String,
    interface: Option<i64>,
}

/// What an error message of a plugin says (CNI spec, section 5, Error).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct PluginMessage {
    #[serde(default)]
    pub(super) code: u32,
    #[serde(default)]
    pub(super) msg: String,
    #[serde(default)]
    pub(super) details: String,
}

/// Reads the result of the last plugin of an ADD.
///
/// Addresses count when they are on `interface` inside the pod, or say no interface at all.
///
/// # Errors
/// What is wrong with it. A result without an address is not wrong here.
pub(super) fn parse_result(value: &Value, interface: &str) -> Result<Attachment, String> {
    if !value.is_object() {
        return Err("it is not a JSON object".to_owned());
    }
    let raw = RawResult::deserialize(value).map_err(|e| e.to_string())?;
    let mut ips: Vec<IpAddr> = Vec::new();
    for ip in &raw.ips {
        let on = ip.interface.and_then(|index| usize::try_from(index).ok());
        if let Some(index) = on {
            let there = raw
                .interfaces
                .get(index)
                .ok_or_else(|| format!("address {} is on interface {index}", ip.address))?;
            if there.name != interface || there.sandbox.is_empty() {
                continue;
            }
        }
        let net: IpNet =
            ip.address.parse().map_err(|_| format!("{:?} is not an address", ip.address))?;
        ips.push(net.addr());
    }
    // Stable: the plugins' order within a family stands.
    ips.sort_by_key(IpAddr::is_ipv6);
    ips.dedup();
    Ok(Attachment { ips, interface: interface.to_owned() })
}

/// Reads the error that a plugin printed; `None` when it is not one.
pub(super) fn parse_error(stdout: &[u8]) -> Option<PluginMessage> {
    let message: PluginMessage = serde_json::from_slice(stdout).ok()?;
    (message.code != 0 || !message.msg.is_empty()).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_addresses_of_eth0_in_the_pod_are_taken_ipv4_first() {
        let result = json!({"cniVersion": "0.4.0",
            "interfaces": [{"name": "cni0"}, {"name": "veth1", "mac": "x"},
                {"name": "eth0", "sandbox": "/run/netns/a"}, {"name": "eth0"}],
            "ips": [{"version": "6", "address": "fd00::5/64", "interface": 2},
                {"version": "4", "address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 2},
                {"version": "4", "address": "10.9.0.1/16", "interface": 0},
                {"version": "4", "address": "10.9.0.2/16", "interface": 3},
                {"address": "10.1.0.6/16"}],
            "routes": [{"dst": "0.0.0.0/0"}], "dns": {}});
        let found = parse_result(&result, "eth0").unwrap();
        let ips: Vec<String> = found.ips.iter().map(ToString::to_string).collect();
        assert_eq!(ips, ["10.1.0.5", "10.1.0.6", "fd00::5"]);
    }

    #[test]
    fn a_result_that_contradicts_itself_is_an_error() {
        for bad in [
            json!({"ips": [{"address": "10.1.0.5/16", "interface": 4}]}),
            json!({"ips": [{"address": "10.1.0.5"}]}),
            json!({"ips": 3}),
            json!([]),
        ] {
            assert!(parse_result(&bad, "eth0").is_err(), "{bad}");
        }
        assert_eq!(parse_result(&json!({}), "eth0").unwrap().ips, Vec::<IpAddr>::new());
    }

    #[test]
    fn an_error_is_told_from_other_output() {
        let error = parse_error(br#"{"cniVersion":"1.0.0","code":7,"msg":"m","details":"d"}"#);
        assert_eq!(error, Some(PluginMessage { code: 7, msg: "m".into(), details: "d".into() }));
        assert_eq!(parse_error(b"{}"), None);
        assert_eq!(parse_error(b"panic: nil map"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "\\PC{0,64}") {
            parse_error(text.as_bytes());
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                parse_result(&value, "eth0").ok();
            }
        }
    }
}
