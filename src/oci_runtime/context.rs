//! What every verb has at hand.

use super::args::{OciArgs, Rootless};
use super::error::{Doing as _, RuntimeError};
use super::log::Log;
use crate::cgroups::Cgroups;
use crate::config::{self, Config, Overrides};
use std::path::{Path, PathBuf};

/// What every verb has at hand.
#[derive(Debug)]
pub(super) struct Context<'a> {
    /// Where containers are kept.
    pub(super) root: PathBuf,
    /// The node's cgroups.
    pub(super) cgroups: Cgroups,
    /// `[cgroups]` and `[process]` count.
    pub(super) config: Config,
    /// Where is logged.
    pub(super) log: &'a Log,
    /// Whether systemd shall make cgroups.
    pub(super) systemd_cgroup: bool,
}

impl<'a> Context<'a> {
    /// Reads the configuration and looks at the cgroups.
    pub(super) fn open(
        args: &OciArgs,
        file: Option<&Path>,
        log: &'a Log,
    ) -> Result<Self, RuntimeError> {
        if args.rootless == Rootless::True {
            return Err(RuntimeError::refused("--rootless true is not supported: run as root"));
        }
        let config =
            config::load(file, &Overrides::default()).doing(|| "read the configuration")?.config;
        // The daemon may have its cgroups made by systemd; this command is told by an option.
        let driver = config::CgroupDriver::Cgroupfs;
        let cgroups = Cgroups::open(&config::Cgroups { driver, ..config.cgroups.clone() })
            .doing(|| "open the cgroups")?;
        for missing in cgroups.degraded() {
            log.debug(&missing);
        }
        let root = std::path::absolute(&args.root).doing(|| "find the root folder")?;
        Ok(Self { root, cgroups, config, log, systemd_cgroup: args.systemd_cgroup })
    }
}
