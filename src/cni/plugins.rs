//! The `cni` mode: a pod is attached by the plugins of a list, and detached by its journal.

use super::capability::{capabilities, cni_args};
use super::chain::{self, Chain};
use super::conf::ConfList;
use super::error::NetworkError;
use super::helper;
use super::invoke::{Invoker, PluginError, Target};
use super::journal::{CniWork, Journal, Work};
use super::loopback::raise_loopback;
use super::request::{AttachRequest, Attachment, POD_INTERFACE};
use super::result::parse_result;
use crate::cgroups::Leaf;
use crate::store::{Layout, StoreError};
use nix::sys::statfs::statfs;
use serde_json::Value;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

/// Runs ADD over `conf`. The journal is written before and after each plugin. On an error the
/// journal tells what was begun, and the caller detaches by it.
pub(super) fn attach(
    request: &AttachRequest,
    conf: &ConfList,
    invoker: &Invoker,
    group: &Leaf,
    layout: &Layout,
) -> Result<Attachment, NetworkError> {
    let mut work = CniWork {
        conf: conf.clone(),
        args: cni_args(request),
        capabilities: capabilities(request).map_err(NetworkError::Bandwidth)?,
        begun: 0,
        result: None,
    };
    raise_loopback(request.netns_fd.as_fd())
        .map_err(|e| NetworkError::kernel("set up", "lo", e))?;
    let target = target(&request.netns, request.sandbox.as_str(), &work);
    let mut journal = Journal::new(request, Work::Cni(work.clone()));
    let chain = Chain { invoker, group, target };
    let added = chain.add(&mut work, |work| {
        journal.work = Work::Cni(work.clone());
        journal.save(layout).map_err(ChainError::Journal)
    });
    added.map_err(|e| e.of(&conf.name))?;
    helper::tidy_group(group);
    let attachment = read_attachment(work.result.as_ref(), &conf.name)?;
    journal.attachment = Some(attachment.clone());
    journal.save(layout)?;
    Ok(attachment)
}

fn read_attachment(result: Option<&Value>, network: &str) -> Result<Attachment, NetworkError> {
    let bad = |why| NetworkError::Result { network: network.to_owned(), why };
    let result = result.ok_or_else(|| bad("no plugin answered".to_owned()))?;
    let attachment = parse_result(result, POD_INTERFACE).map_err(bad)?;
    if attachment.ips.is_empty() {
        return Err(bad(format!("no address on {POD_INTERFACE}")));
    }
    Ok(attachment)
}

/// Runs DEL by the journal. What is left is in the errors; nothing left, no errors.
pub(super) fn detach(
    journal: &Journal,
    work: &CniWork,
    invoker: &Invoker,
    group: &Leaf,
) -> Vec<PluginError> {
    let netns = if is_netns(&journal.netns) { journal.netns.as_path() } else { Path::new("") };
    let chain = Chain { invoker, group, target: target(netns, journal.sandbox.as_str(), work) };
    let mut errors = chain.del(work);
    if journal.attachment.is_none() {
        // An ADD that never answered may have made nothing for DEL to find. A plugin that could
        // not be asked at all is another matter: what it made stays until it can.
        errors.retain(|error| match error {
            PluginError::Failed { .. } | PluginError::Answer { .. } => {
                let error = crate::error::chain(error);
                tracing::warn!(sandbox_id = %journal.sandbox, error, "undo of a half-made ADD");
                false
            }
            PluginError::Missing { .. } | PluginError::Run { .. } => true,
        });
    }
    errors
}

/// Runs CHECK by the journal.
pub(super) fn check(
    journal: &Journal,
    work: &CniWork,
    invoker: &Invoker,
    group: &Leaf,
) -> Result<(), NetworkError> {
    let target = target(&journal.netns, journal.sandbox.as_str(), work);
    let answer = Chain { invoker, group, target }.check(work);
    helper::tidy_group(group);
    answer.map_err(|e| ChainError::Plugin(e).of(&work.conf.name))
}

/// Runs GC over `conf` with the sandboxes of `live` that are on this network.
pub(super) fn collect_garbage(
    conf: &ConfList,
    live: &[&Journal],
    invoker: &Invoker,
    group: &Leaf,
) -> Vec<PluginError> {
    let on_it = |journal: &&&Journal| matches!(&journal.work, Work::Cni(work) if work.conf.name == conf.name);
    let live: Vec<(String, String)> = live
        .iter()
        .filter(on_it)
        .map(|journal| (journal.sandbox.to_string(), POD_INTERFACE.to_owned()))
        .collect();
    chain::gc(invoker, group, conf, &live)
}

fn target(netns: &Path, container: &str, work: &CniWork) -> Target {
    Target {
        container: container.to_owned(),
        netns: PathBuf::from(netns),
        interface: POD_INTERFACE.to_owned(),
        args: work.args.clone(),
    }
}

/// Whether a path leads to a namespace now. A pin that is unmounted is an empty file, which plugins
/// do not take for a namespace that is gone.
fn is_netns(path: &Path) -> bool {
    // The kernel's NSFS_MAGIC; libc has it for no target.
    const NSFS_MAGIC: i64 = 0x6e73_6673;
    statfs(path).is_ok_and(|found| found.filesystem_type().0 == NSFS_MAGIC)
}

/// What stops a chain half-way.
enum ChainError {
    Plugin(PluginError),
    Journal(StoreError),
}

impl From<PluginError> for ChainError {
    fn from(error: PluginError) -> Self {
        Self::Plugin(error)
    }
}

impl ChainError {
    fn of(self, network: &str) -> NetworkError {
        match self {
            Self::Plugin(source) => {
                NetworkError::Plugin { network: network.to_owned(), source: Box::new(source) }
            }
            Self::Journal(source) => NetworkError::Journal(source),
        }
    }
}
