//! What there is left of the node, read from the kernel.
//!
//! Memory is what the node's processes have not in their working set: all of it, less what is in use, files that nobody
//! used for long counted as free (`MemTotal`, `MemFree` and `Inactive(file)` of /proc/meminfo: the root cgroup of v2 has
//! no `memory.current`). Disks are those of `statvfs`, process ids those of /proc.

use super::machine::{CALM, Measure, Reading, Readings};
use crate::blocking::{self, Overdue};
use crate::config::Signal;
use crate::cri::client::Cri;
use crate::cri::proto;
use crate::kubelet::http::node_usage::{FileSystem, NodeUsage};
use crate::quantity::parse_milli;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tracing::warn;

const PROC: &str = "/proc";

/// How long the runtime may take to tell where images are, and after how long it is asked again.
const ASKED_WITHIN: Duration = Duration::from_secs(10);
const ASKED_AGAIN: Duration = Duration::from_secs(60);

/// How long a file system may take to tell what is left of it: nobody looks at memory meanwhile.
const READ_WITHIN: Duration = Duration::from_secs(2);

/// Where signals are read.
#[derive(Debug)]
pub(super) struct Signals {
    /// A folder of the file system that pods use.
    state: PathBuf,
    place: ImagePlace,
    /// Looks at the file systems of pods and of images that hang.
    hanging: (Overdue, Overdue),
    /// What the kernel thinks could be had of memory, as of the last look, bytes.
    pub(super) kernel_available: u64,
}

/// Where images are.
#[derive(Clone, Debug, Default)]
enum ImagePlace {
    #[default]
    Unasked,
    /// The runtime did not tell when it was asked, and that was told.
    Unknown(Instant),
    Known(PathBuf),
}

impl Signals {
    pub(super) fn new(state: PathBuf) -> Self {
        Self {
            state,
            place: ImagePlace::default(),
            hanging: <(Overdue, Overdue)>::default(),
            kernel_available: 0,
        }
    }

    /// Reads all that can be read, in little time.
    pub(super) async fn read(&mut self) -> Readings {
        let (disks, memory) = tokio::join!(
            self.disks(),
            blocking::run("read what is left of the node", || {
                let text = |name: &str| std::fs::read_to_string(Path::new(PROC).join(name));
                let threads = text("sys/kernel/threads-max").unwrap_or_default();
                let node = NodeUsage::read().unwrap_or_else(|error| {
                    warn!(%error, "what the node uses cannot be read: nobody is evicted by it");
                    NodeUsage::default()
                });
                Seen {
                    node,
                    threads: threads.trim().parse().ok(),
                    stall: text("pressure/memory").unwrap_or_default(),
                    ..Seen::default()
                }
            })
        );
        let (pods, images) = disks;
        let seen = Seen { pods, images, ..memory.unwrap_or_default() };
        self.kernel_available = seen.node.kernel_available_bytes;
        readings(&seen)
    }

    /// What is left of the file systems of pods and of images.
    async fn disks(&self) -> (Option<FileSystem>, Option<FileSystem>) {
        let (of_pods, of_images) = &self.hanging;
        let images = async {
            match self.images() {
                Some(place) => file_system(place, of_images).await,
                None => None,
            }
        };
        tokio::join!(file_system(&self.state, of_pods), images)
    }

    /// A folder of the file system of images, once it is known.
    fn images(&self) -> Option<&PathBuf> {
        match &self.place {
            ImagePlace::Known(place) => Some(place),
            ImagePlace::Unasked | ImagePlace::Unknown(_) => None,
        }
    }

    /// Whether the runtime has to be asked where images are: they stay there, and what it takes is costly to ask.
    pub(super) fn has_to_ask(&self) -> bool {
        match &self.place {
            ImagePlace::Known(_) => false,
            ImagePlace::Unasked => true,
            ImagePlace::Unknown(asked) => asked.elapsed() >= ASKED_AGAIN,
        }
    }

    /// Takes in what the runtime told.
    pub(super) fn told(&mut self, place: Result<PathBuf, String>) {
        self.place = match place {
            Ok(place) => ImagePlace::Known(place),
            Err(error) => {
                if matches!(self.place, ImagePlace::Unasked) {
                    warn!(error, "the file system of images is not looked at");
                }
                ImagePlace::Unknown(Instant::now())
            }
        };
    }

    /// Whether images are on another file system than pods.
    pub(super) async fn apart(&self) -> bool {
        let (state, images) = (self.state.clone(), self.images().cloned());
        let device = |path: &Path| std::fs::metadata(path).ok().map(|about| about.dev());
        let compared = self.hanging.0.run_within("compare file systems", READ_WITHIN, move |_| {
            images.is_some_and(|images| device(&images) != device(&state))
        });
        compared.await.unwrap_or(false)
    }
}

async fn file_system(place: &Path, hanging: &Overdue) -> Option<FileSystem> {
    let path = place.to_owned();
    let read =
        hanging.run_within("read a file system", READ_WITHIN, move |_| FileSystem::read(&path));
    read.await.unwrap_or_else(|error| {
        warn!(%error, place = %place.display(), "a file system is not looked at");
        None
    })
}

/// Asks the runtime where images are, for a while: it may walk through all of its layers before it answers.
pub(super) async fn ask_image_place(cri: &dyn Cri) -> Result<PathBuf, String> {
    let told = timeout(ASKED_WITHIN, image_place(cri)).await;
    told.unwrap_or_else(|_| Err("the runtime does not answer".to_owned()))
}

/// A folder of the file system of images, as the runtime names it.
pub(super) async fn image_place(cri: &dyn Cri) -> Result<PathBuf, String> {
    let told = cri.image_fs_info(proto::ImageFsInfoRequest {}).await.map_err(|e| e.to_string())?;
    let first = told.image_filesystems.into_iter().next().and_then(|fs| fs.fs_id);
    let place = first.map(|id| id.mountpoint).filter(|place| !place.is_empty());
    place.map(PathBuf::from).ok_or_else(|| "the runtime names none".to_owned())
}

/// What was read.
#[derive(Debug, Default)]
struct Seen {
    node: NodeUsage,
    threads: Option<u64>,
    pods: Option<FileSystem>,
    images: Option<FileSystem>,
    /// /proc/pressure/memory; empty where the kernel has none.
    stall: String,
}

fn readings(seen: &Seen) -> Readings {
    let mut all = Readings::new();
    let mut put = |measure, available, capacity| {
        // A file system without a number of inodes has as many as are asked for.
        if capacity > 0 {
            all.insert(measure, Reading { available, capacity });
        }
    };
    let node = &seen.node;
    let memory = node.available_bytes.saturating_add(node.working_set_bytes);
    put(Measure::Of(Signal::MemoryAvailable), node.available_bytes, memory);
    let pids = seen.threads.map_or(node.pid_max, |threads| threads.min(node.pid_max));
    put(Measure::Of(Signal::PidAvailable), pids.saturating_sub(node.tasks), pids);
    if let Some(fs) = seen.pods {
        put(Measure::Of(Signal::NodeFsAvailable), fs.available_bytes, fs.capacity_bytes);
        put(Measure::Of(Signal::NodeFsInodesFree), fs.inodes_free, fs.inodes);
    }
    if let Some(fs) = seen.images {
        put(Measure::Of(Signal::ImageFsAvailable), fs.available_bytes, fs.capacity_bytes);
        put(Measure::Of(Signal::ImageFsInodesFree), fs.inodes_free, fs.inodes);
    }
    if let Some(stalled) = stalled(&seen.stall) {
        put(Measure::MemoryCalm, CALM.saturating_sub(stalled), CALM);
    }
    all
}

/// Thousandths of a percent of the last ten seconds in which every process waited:
/// `full avg10=1.25 avg60=0.50 avg300=0.10 total=123` (Documentation/accounting/psi.rst).
fn stalled(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("full "))?;
    let word = line.split_whitespace().find_map(|word| word.strip_prefix("avg10="))?;
    parse_milli(word).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_with_what_there_is() {
        let fs = |available_bytes, inodes_free| FileSystem {
            capacity_bytes: 1000,
            available_bytes,
            used_bytes: 1,
            inodes: 50,
            inodes_free,
        };
        let seen = Seen {
            node: NodeUsage {
                available_bytes: 300,
                working_set_bytes: 700,
                tasks: 10,
                pid_max: 4000,
                ..NodeUsage::default()
            },
            threads: Some(100),
            pods: Some(fs(400, 5)),
            images: Some(FileSystem { inodes: 0, ..fs(200, 0) }),
            stall: "some avg10=9.00 avg60=0 avg300=0 total=1\nfull avg10=1.25 avg60=0 avg300=0 total=1\n"
                .into(),
        };
        let expected = [
            (Measure::Of(Signal::MemoryAvailable), 300, 1000),
            (Measure::Of(Signal::NodeFsAvailable), 400, 1000),
            (Measure::Of(Signal::NodeFsInodesFree), 5, 50),
            (Measure::Of(Signal::ImageFsAvailable), 200, 1000),
            (Measure::Of(Signal::PidAvailable), 90, 100),
            (Measure::MemoryCalm, CALM - 1250, CALM),
        ];
        let found: Vec<_> =
            readings(&seen).into_iter().map(|(m, r)| (m, r.available, r.capacity)).collect();
        assert_eq!(found, expected);
        assert!(readings(&Seen::default()).is_empty(), "what cannot be read is not short");
    }
}
