//! Layers mounted together by overlayfs, as a detached mount.
//!
//! `lowerdir+` of fsconfig(2), a layer a call, works from Linux 6.8 and has no limit but overlayfs's
//! own 500 layers. Whether it works is found out by really mounting once: kernels between accept
//! the key and refuse the mount. Otherwise mount(2), whose options fit one page: layers are named by
//! short names relative to the working directory of a thread that has one of its own.
//!
//! In a user namespace the lower layers are id-mapped: for the time of the mount their folder is
//! covered by an id-mapped view of itself, in a thread's own namespace. The upper layer is not: it
//! holds the host's ids, since overlayfs itself writes there as the host's root, whom no pod maps.
//!
//! Documentation/filesystems/overlayfs.rst, fsconfig(2), mount(2).

use crate::sys::mount::{
    Change, FsContext, Propagation, Reach, attach, clone_tree, mount, set_attributes_idmapped,
    set_propagation,
};
use crate::sys::path::{Resolve, c_path, open_in};
use nix::sched::CloneFlags;
use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// mount(2) takes one page of options, and the last byte ends it.
const MAX_MOUNT_DATA: usize = 4095;
/// fsconfig(2) takes at most this many bytes of value.
const MAX_VALUE: usize = 255;

/// What is stacked.
#[derive(Clone, Debug)]
pub(super) struct Stack {
    /// Names below the layers folder, topmost first, none twice.
    pub(super) lowers: Vec<String>,
    /// The writable layer, and overlayfs's work folder on the same file system.
    pub(super) upper: Option<(PathBuf, PathBuf)>,
    /// The SELinux label of all files.
    pub(super) label: Option<String>,
}

/// How layers are handed to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// fsconfig(2), `lowerdir+`.
    LowerPlus,
    /// mount(2), one page of options.
    MountData,
}

/// A refused mount: the errno and what the kernel logged.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) source: io::Error,
    pub(super) detail: String,
}

impl From<io::Error> for Refused {
    fn from(source: io::Error) -> Self {
        Self { source, detail: String::new() }
    }
}

/// Mounts stacks of layers below one folder.
#[derive(Debug)]
pub(super) struct Overlay {
    /// Holds the layers, each as `<name>/`.
    layers: PathBuf,
    /// A folder to mount on, in a namespace of a thread's own.
    target: PathBuf,
    /// An empty folder: overlayfs wants two lower layers when there is no upper one.
    empty: String,
    way: OnceLock<Way>,
}

impl Overlay {
    /// `layers`, `target` and `layers/empty` exist and stay.
    pub(super) fn new(layers: PathBuf, target: PathBuf, empty: &str) -> Self {
        Self { layers, target, empty: empty.to_owned(), way: OnceLock::new() }
    }

    /// Always this way: for tests of both.
    #[cfg(test)]
    pub(super) fn with_way(self, way: Way) -> Self {
        self.way.set(way).unwrap();
        self
    }

    /// Mounts a stack whose lower layers are id-mapped by a user namespace. As [`Overlay::mount`].
    pub(super) fn mount_id_mapped(
        &self,
        stack: &Stack,
        space: BorrowedFd<'_>,
    ) -> Result<OwnedFd, Refused> {
        let mut stack = stack.clone();
        if stack.lowers.is_empty() || (stack.upper.is_none() && stack.lowers.len() < 2) {
            stack.lowers.push(self.empty.clone());
        }
        on_a_thread(|| {
            self.cover_layers(space)?;
            match self.way.get() {
                Some(Way::MountData) => Ok(self.mount_in_namespace(&stack)?),
                Some(Way::LowerPlus) => self.mount_by_context(&stack),
                None => self
                    .mount_by_context(&stack)
                    .or_else(|refused| self.mount_in_namespace(&stack).map_err(|_| refused)),
            }
        })
    }

    /// Covers the layers' folder, in the present mount namespace.
    fn cover_layers(&self, space: BorrowedFd<'_>) -> Result<(), Refused> {
        let folder = super::tree::Tree::open(&self.layers)?;
        let view = clone_tree(folder.root(), c"", Reach::One)?;
        set_attributes_idmapped(view.as_fd(), Change::default(), Reach::One, Some(space)).map_err(
            |source| Refused { source, detail: " (the layers' ids cannot be mapped)".to_owned() },
        )?;
        Ok(attach(view.as_fd(), folder.root())?)
    }

    /// Mounts a stack. The mount lives as long as the descriptor, or where it is attached to.
    pub(super) fn mount(&self, stack: &Stack) -> Result<OwnedFd, Refused> {
        let mut stack = stack.clone();
        if stack.lowers.is_empty() || (stack.upper.is_none() && stack.lowers.len() < 2) {
            stack.lowers.push(self.empty.clone());
        }
        if stack.upper.is_none() && stack.lowers.len() < 2 {
            // The same folder twice is refused by the kernel; one empty folder is its own view.
            let empty = self.layers.join(&self.empty);
            let fd = fs::File::open(&empty)?;
            return Ok(clone_tree(fd.as_fd(), c"", Reach::One)?);
        }
        match self.way.get() {
            Some(Way::LowerPlus) => self.mount_by_context(&stack),
            Some(Way::MountData) => Ok(self.mount_by_thread(&stack)?),
            None => self.mount_and_learn(&stack),
        }
    }

    /// The first mount decides: what works once is used from then on.
    fn mount_and_learn(&self, stack: &Stack) -> Result<OwnedFd, Refused> {
        match self.mount_by_context(stack) {
            Ok(fd) => {
                self.way.get_or_init(|| Way::LowerPlus);
                Ok(fd)
            }
            Err(refused) => match self.mount_by_thread(stack) {
                Ok(fd) => {
                    tracing::info!(
                        cause = %refused.source,
                        "overlayfs does not take lowerdir+; layers are mounted by mount(2)"
                    );
                    self.way.get_or_init(|| Way::MountData);
                    Ok(fd)
                }
                // Neither way works: a wrong stack says nothing about the kernel.
                Err(_) => Err(refused),
            },
        }
    }

    fn mount_by_context(&self, stack: &Stack) -> Result<OwnedFd, Refused> {
        let context = FsContext::open(c"overlay")?;
        let configure = || -> io::Result<()> {
            context.set(c"source", c"overlay")?;
            for name in &stack.lowers {
                set_path(&context, c"lowerdir+", &self.layers.join(name))?;
            }
            if let Some((upper, work)) = &stack.upper {
                set_path(&context, c"upperdir", upper)?;
                set_path(&context, c"workdir", work)?;
            }
            for (key, value) in OPTIONS {
                context.set(key, value)?;
            }
            context.set_label(stack.label.as_deref())
        };
        configure().and_then(|()| context.mount(0)).map_err(|source| {
            let log = context.log();
            let detail = if log.is_empty() { log } else { format!(" ({})", log.trim_end()) };
            Refused { source, detail }
        })
    }

    /// A folder or file below the root of a detached mount, as a mount of its own. Kernels before
    /// 6.15 clone nothing but what is attached in the caller's namespace: a thread gets one for it.
    pub(super) fn part_of(&self, root: OwnedFd, path: &Path) -> io::Result<OwnedFd> {
        let (target, path) = (self.target.clone(), path.to_owned());
        let work = move || {
            let target = super::tree::Tree::open(&target)?;
            attach(root.as_fd(), target.root())?;
            let part = open_in(root.as_fd(), &path, libc::O_PATH, 0, Resolve::InRoot)?;
            Ok(clone_tree(part.as_fd(), c"", Reach::One)?)
        };
        on_a_thread(work).map_err(|refused| refused.source)
    }

    /// mount(2) on a thread with a working directory and a mount namespace of its own. The clone
    /// outlives both.
    fn mount_by_thread(&self, stack: &Stack) -> io::Result<OwnedFd> {
        on_a_thread(|| Ok(self.mount_in_namespace(stack)?)).map_err(|refused| refused.source)
    }

    /// mount(2) in the present mount namespace, and a clone of what it mounted.
    fn mount_in_namespace(&self, stack: &Stack) -> io::Result<OwnedFd> {
        let data = self.mount_data(stack)?;
        nix::unistd::chdir(&self.layers)?;
        mount(c"overlay", &c_path(&self.target)?, c"overlay", 0, &data)?;
        let mounted = super::tree::Tree::open(&self.target)?;
        clone_tree(mounted.root(), c"", Reach::One)
    }

    fn mount_data(&self, stack: &Stack) -> io::Result<String> {
        let mut data = format!("lowerdir={}", stack.lowers.join(":"));
        if let Some((upper, work)) = &stack.upper {
            data.push_str(&format!(",upperdir={},workdir={}", escape(upper)?, escape(work)?));
        }
        for (key, value) in OPTIONS {
            data.push_str(&format!(",{}={}", key.to_string_lossy(), value.to_string_lossy()));
        }
        if let Some(label) = &stack.label {
            // The categories have a comma, which would end the option.
            data.push_str(&format!(",context=\"{label}\""));
        }
        if data.len() > MAX_MOUNT_DATA {
            let n = stack.lowers.len();
            return Err(io::Error::other(format!("{n} layers do not fit one page of options")));
        }
        Ok(data)
    }
}

/// Runs `work` on a thread with a working directory and a mount namespace of its own.
fn on_a_thread(work: impl FnOnce() -> Result<OwnedFd, Refused> + Send) -> Result<OwnedFd, Refused> {
    let enter = || -> Result<(), Refused> {
        let flags = CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS;
        nix::sched::unshare(flags).map_err(io::Error::from)?;
        Ok(set_propagation(c"/", Propagation::Private, Reach::Tree)?)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("overlay-mount".to_owned())
            .spawn_scoped(scope, || enter().and_then(|()| work()))?;
        let panicked = || io::Error::other("the mounting thread panicked").into();
        thread.join().unwrap_or_else(|_| Err(panicked()))
    })
}

/// What a distribution's kernel may default otherwise. An image must not steer lookups by extended
/// attributes, so redirects are neither made nor followed.
const OPTIONS: [(&CStr, &CStr); 3] =
    [(c"redirect_dir", c"nofollow"), (c"metacopy", c"off"), (c"index", c"off")];

/// Sets a path; one that is too long for fsconfig(2) is named by a descriptor.
fn set_path(context: &FsContext, key: &CStr, path: &Path) -> io::Result<()> {
    // Before 6.13 overlayfs reads `\` and `:` in upperdir as it does in mount(2)'s options.
    let plain = !path.as_os_str().as_bytes().iter().any(|b| matches!(b, b'\\' | b':' | b','));
    if plain && path.as_os_str().len() <= MAX_VALUE {
        return context.set(key, &c_path(path)?);
    }
    let tree = super::tree::Tree::open(path)?;
    let by_fd = PathBuf::from(format!("/proc/self/fd/{}", tree.root().as_raw_fd()));
    // The path is looked up before the call returns.
    context.set(key, &c_path(&by_fd)?)
}

fn escape(path: &Path) -> io::Result<String> {
    let text = path.to_str().ok_or_else(|| io::Error::other("the state folder is not UTF-8"))?;
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | ':' | ',') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    Ok(escaped)
}
