//! The journal of one sandbox's network: what was begun, with what, and what came of it.
//!
//! It is written before each effect and after it. DEL follows the journal and nothing else: not the
//! configuration folder, not the mode in `config.toml`, not whether the network is ready.

use super::conf::ConfList;
use super::request::{AttachRequest, Attachment};
use crate::ids::SandboxId;
use crate::sandbox::config::PortMapping;
use crate::store::{self, Layout, StoreError};
use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// What a journal says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Journal {
    /// The sandbox.
    pub(super) sandbox: SandboxId,
    /// `namespace/name` of the pod, for messages.
    pub(super) pod: String,
    /// The network namespace by path.
    pub(super) netns: PathBuf,
    /// The work, by mode.
    pub(super) work: Work,
    /// The result; `None` while the work is not finished.
    pub(super) attachment: Option<Attachment>,
}

/// The work of one mode. It stands for the mode that the pod was attached with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
pub(super) enum Work {
    /// By plugins.
    Cni(CniWork),
    /// By the built-in bridge.
    Builtin(BuiltinWork),
}

/// A chain of plugins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct CniWork {
    /// The configuration used.
    pub(super) conf: ConfList,
    /// CNI_ARGS.
    pub(super) args: String,
    /// What plugins with capabilities are given, by capability.
    pub(super) capabilities: Map<String, Value>,
    /// How many plugins' ADD was begun.
    pub(super) begun: usize,
    /// The result of the last ADD that answered.
    pub(super) result: Option<Value>,
}

/// The built-in network's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct BuiltinWork {
    /// The bridge.
    pub(super) bridge: String,
    /// The bridge's IPv4 network.
    pub(super) subnet: Ipv4Net,
    /// The bridge's IPv6 network.
    pub(super) subnet6: Option<Ipv6Net>,
    /// The host's end of the veth pair.
    pub(super) veth: String,
    /// Host ports.
    pub(super) ports: Vec<PortMapping>,
    /// The pod's IPv4 address, once leased.
    pub(super) ip: Option<Ipv4Addr>,
    /// The pod's IPv6 address, once leased.
    pub(super) ip6: Option<Ipv6Addr>,
}

impl Journal {
    /// A journal of work that has not begun.
    pub(super) fn new(request: &AttachRequest, work: Work) -> Self {
        Self {
            sandbox: request.sandbox.clone(),
            pod: format!("{}/{}", request.namespace, request.name),
            netns: request.netns.clone(),
            work,
            attachment: None,
        }
    }

    /// Writes it.
    pub(super) fn save(&self, layout: &Layout) -> Result<(), StoreError> {
        store::save(&layout.network_journal(&self.sandbox), self)
    }

    /// Reads the journal of a sandbox; `None` when its network was never touched.
    pub(super) fn load(layout: &Layout, id: &SandboxId) -> Result<Option<Self>, StoreError> {
        Ok(store::load(&layout.network_journal(id))?.map(|loaded| loaded.value))
    }
}

/// All journals below the layout, by sandbox; a damaged one is in the second list, with its error.
pub(super) fn load_all(layout: &Layout) -> (BTreeMap<SandboxId, Journal>, Vec<StoreError>) {
    let mut journals = BTreeMap::new();
    let mut damaged = Vec::new();
    // A folder that cannot be read holds no sandbox that could be told.
    for entry in std::fs::read_dir(layout.sandboxes()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| SandboxId::parse(name).ok()) else { continue };
        match Journal::load(layout, &id) {
            Ok(Some(journal)) => {
                journals.insert(id, journal);
            }
            Ok(None) => {}
            Err(e) => damaged.push(e),
        }
    }
    (journals, damaged)
}
