//! A file system that answers nothing, and may come back: then everything in it is a folder.

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs::File;
use std::io::{Read as _, Write as _};
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

    /// Answers those who wait, and all that come, on a thread that ends with the mount: each name is a folder that is
    /// there, and nothing can be done with it.
    pub(crate) fn answer(&mut self) {
        if let Some(device) = self.device.take() {
            std::thread::spawn(move || serve(device));
        }
    }

    /// Everyone who waits gets ENOTCONN.
    pub(crate) fn end(&mut self) {
        drop(self.device.take());
    }
}

/// Requests of linux/fuse.h, and what is answered.
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const INIT: u32 = 26;
const BATCH_FORGET: u32 = 42;

fn serve(mut device: File) {
    let mut request = vec![0; 1 << 20];
    // ENODEV once it is unmounted.
    while let Ok(length) = device.read(&mut request) {
        let field = |at: usize| request[at..at + 4].try_into().map_or(0, u32::from_ne_bytes);
        if length < 40 {
            return;
        }
        let mut body = Vec::new();
        let mut error = 0_i32;
        match field(4) {
            // Major and minor version, readahead, flags; background, threshold, most to write; the rest.
            INIT => {
                body.extend([7_u32, 31, 0, 0, 0, 4096].iter().flat_map(|n| n.to_ne_bytes()));
                body.resize(64, 0);
            }
            // Inode 2, generation, valid for nothing; its attributes.
            LOOKUP => {
                body.extend(2_u64.to_ne_bytes());
                body.resize(40, 0);
                body.extend(folder());
            }
            GETATTR => {
                body.resize(16, 0);
                body.extend(folder());
            }
            FORGET | BATCH_FORGET => continue,
            _ => error = -libc::ENOSYS,
        }
        let mut answer = Vec::new();
        let whole = u32::try_from(16 + body.len()).unwrap_or(0);
        answer.extend(whole.to_ne_bytes());
        answer.extend(error.to_ne_bytes());
        answer.extend(&request[8..16]);
        answer.extend(body);
        device.write_all(&answer).ok();
    }
}

/// The attributes of a folder.
fn folder() -> Vec<u8> {
    // Inode, size, blocks, three times.
    let mut all: Vec<u8> = [2_u64, 0, 0, 0, 0, 0].iter().flat_map(|n| n.to_ne_bytes()).collect();
    // Three fractions, mode, links, user, group, device, block size, flags.
    let rest = [0_u32, 0, 0, libc::S_IFDIR | 0o755, 2, 0, 0, 0, 4096, 0];
    all.extend(rest.iter().flat_map(|n| n.to_ne_bytes()));
    all
}

impl Drop for Hung {
    fn drop(&mut self) {
        self.end();
        umount2(&self.at, MntFlags::MNT_DETACH).ok();
    }
}
