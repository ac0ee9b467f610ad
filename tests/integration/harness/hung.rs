//! A file system that answers nothing.

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

/// Whoever touches a path in it waits until it is ended.
pub(crate) struct Hung {
    pub(crate) at: PathBuf,
    device: Option<File>,
}

impl Hung {
    /// Mounts one.
    ///
    /// # Errors
    /// The machine has no FUSE.
    pub(crate) fn at(at: &Path) -> Result<Self> {
        std::fs::create_dir_all(at)?;
        let device = File::options().read(true).write(true).open("/dev/fuse")?;
        let fd = device.as_raw_fd();
        let options = format!("fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other");
        mount(Some("hung"), at, Some("fuse"), MsFlags::empty(), Some(options.as_str()))
            .context("mount a file system that hangs")?;
        Ok(Self { at: at.into(), device: Some(device) })
    }

    /// Everyone who waits gets ENOTCONN.
    pub(crate) fn end(&mut self) {
        drop(self.device.take());
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        self.end();
        umount2(&self.at, MntFlags::MNT_DETACH).ok();
    }
}
