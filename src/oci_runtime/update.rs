//! update: limits, in place. A refused value changes nothing.

use super::args::UpdateArgs;
use super::context::Context;
use super::error::{Doing as _, RuntimeError};
use super::state::{Container, Status};
use super::{resources, scope};
use crate::cgroups::{Limit, Resources};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};
use std::io::Read as _;
use std::path::Path;

/// The verb `update`.
pub(super) fn update(ctx: &Context<'_>, args: &UpdateArgs) -> Result<(), RuntimeError> {
    let given = match &args.resources {
        Some(file) => read(file)?,
        None => of_options(args),
    };
    let (container, _lock) = Container::load_locked(ctx, &args.id)?;
    match container.status(ctx)? {
        Status::Created | Status::Running | Status::Paused => {}
        status => {
            return Err(RuntimeError::State { verb: "update", id: args.id.clone(), status });
        }
    }
    let leaf = container.leaf(ctx);
    let doing = || format!("set the limits of {:?}", args.id);
    let mut limits = resources::limits(&given)?;
    keep_swap(&mut limits, || leaf.read_back("memory.swap.max").doing(doing))?;
    match container.record.scope {
        true => scope::apply(ctx, &container, &limits)?,
        false => leaf.apply(&limits).doing(doing)?,
    }
    if given.devices().as_ref().is_some_and(|list| !list.is_empty()) {
        leaf.set_devices(&resources::devices(Some(&given))?)
            .doing(|| format!("set the device rules of {:?}", args.id))?;
    }
    Ok(())
}

/// A memory limit without a swap limit would mean no swap. An update that does not speak of swap
/// leaves it as it is.
fn keep_swap(
    limits: &mut Resources,
    present: impl FnOnce() -> Result<Option<String>, RuntimeError>,
) -> Result<(), RuntimeError> {
    let (Some(Limit::Value(memory)), None) = (limits.memory_limit, limits.memory_swap_limit) else {
        return Ok(());
    };
    limits.memory_swap_limit = match present()?.as_deref() {
        None => None,
        Some("max") => Some(Limit::Max),
        Some(text) => {
            let swap: u64 = text.parse().doing(|| "read memory.swap.max")?;
            Some(Limit::Value(memory.saturating_add(swap)))
        }
    };
    Ok(())
}

fn read(file: &Path) -> Result<LinuxResources, RuntimeError> {
    let doing = || format!("read resources from {}", file.display());
    let mut text = Vec::new();
    match file == Path::new("-") {
        true => std::io::stdin().read_to_end(&mut text).map(drop),
        false => std::fs::read(file).map(|bytes| text = bytes),
    }
    .doing(doing)?;
    serde_json::from_slice(&text).doing(doing)
}

fn of_options(args: &UpdateArgs) -> LinuxResources {
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(args.memory)
        .set_reservation(args.memory_reservation)
        .set_swap(args.memory_swap);
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(args.cpu_share)
        .set_quota(args.cpu_quota)
        .set_period(args.cpu_period)
        .set_burst(args.cpu_burst)
        .set_idle(args.cpu_idle)
        .set_cpus(args.cpuset_cpus.clone())
        .set_mems(args.cpuset_mems.clone());
    let mut block_io = LinuxBlockIo::default();
    block_io.set_weight(args.blkio_weight);
    let mut resources = LinuxResources::default();
    resources.set_memory(Some(memory)).set_cpu(Some(cpu)).set_block_io(Some(block_io));
    if let Some(limit) = args.pids_limit {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    resources
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_of_memory_alone_leaves_the_swap_as_it_is() {
        let updated = |present: &'static str| {
            let mut limits =
                Resources { memory_limit: Some(Limit::Value(100)), ..Resources::default() };
            keep_swap(&mut limits, || Ok(Some(present.to_owned()))).unwrap();
            limits.memory_swap_limit
        };
        assert_eq!(updated("max"), Some(Limit::Max));
        assert_eq!(updated("0"), Some(Limit::Value(100)));
        assert_eq!(updated("7"), Some(Limit::Value(107)));
    }
}
