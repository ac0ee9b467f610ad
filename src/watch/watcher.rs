//! The one instance, its thread, and who is called back.

use super::folder::{Change, Folder, Watches};
use crate::error::chain;
use crate::lock::lock;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{InitFlags, Inotify, InotifyEvent};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// Is told of each change in a folder, on the watcher's thread: it may not wait for anything.
type Told = Arc<dyn Fn(Change) + Send + Sync>;

/// Watches folders. Cheap to clone; all clones share one instance.
#[derive(Clone, Default)]
pub struct Watcher(Arc<Mutex<Option<Arc<Running>>>>);

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watcher")
    }
}

/// A folder that is watched. Dropping it ends that; a call that is under way may come after.
pub struct Watch {
    running: Arc<Running>,
    number: u64,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watch({})", self.number)
    }
}

struct Running {
    state: Arc<Mutex<State>>,
    /// The end of the pipe is the end of the thread.
    _alive: OwnedFd,
}

struct State {
    watches: Watches,
    folders: BTreeMap<u64, (Folder, Told)>,
    next: u64,
}

impl Watcher {
    /// Watches a folder from now on; it need not exist. `told` gets every change, on the watcher's thread.
    ///
    /// # Errors
    /// Those of inotify: no instance left, no watch left; and of making a pipe or a thread.
    pub fn folder(
        &self,
        dir: PathBuf,
        told: impl Fn(Change) + Send + Sync + 'static,
    ) -> io::Result<Watch> {
        let running = self.running()?;
        let mut state = lock(&running.state);
        let folder = Folder::open(dir, &mut state.watches)?;
        let number = state.next;
        state.next += 1;
        state.folders.insert(number, (folder, Arc::new(told)));
        drop(state);
        Ok(Watch { running, number })
    }

    fn running(&self) -> io::Result<Arc<Running>> {
        let mut own = lock(&self.0);
        if let Some(running) = &*own {
            return Ok(Arc::clone(running));
        }
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let events = inotify.as_fd().try_clone_to_owned()?;
        let (ends, alive) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let watches = Watches::new(inotify);
        let state = State { watches, folders: BTreeMap::new(), next: 0 };
        let state = Arc::new(Mutex::new(state));
        let of_thread = Arc::clone(&state);
        std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || serve(&of_thread, &events, &ends))?;
        let running = Arc::new(Running { state, _alive: alive });
        *own = Some(Arc::clone(&running));
        Ok(running)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = lock(&self.running.state);
        let state = &mut *state;
        if let Some((mut folder, _)) = state.folders.remove(&self.number) {
            folder.close(&mut state.watches);
        }
    }
}

fn serve(state: &Mutex<State>, events: &OwnedFd, ends: &OwnedFd) {
    loop {
        let mut fds = [events, ends].map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN));
        // Fails when it is interrupted; what there is to do is asked for below.
        poll(&mut fds, PollTimeout::NONE).ok();
        if fds.get(1).and_then(PollFd::any).unwrap_or_default() {
            return;
        }
        // Called without the lock: one of them may end a watch.
        for (told, change) in lock(state).changes() {
            told(change);
        }
    }
}

impl State {
    /// What there is to tell; the watches are where they belong then.
    fn changes(&mut self) -> Vec<(Told, Change)> {
        let events = self.events();
        let mut changes = Vec::new();
        for (folder, told) in self.folders.values_mut() {
            let before = changes.len();
            for event in &events {
                let change = folder.change(event).map(|change| (Arc::clone(told), change));
                // A file is written in many pieces.
                changes.extend(
                    change.filter(|new| changes.last().is_none_or(|last| !same(last, new))),
                );
            }
            if changes.len() > before
                && let Err(error) = folder.arm(&mut self.watches)
            {
                tracing::error!(error = chain(&error), "a folder is not watched any more");
            }
        }
        changes
    }

    fn events(&self) -> Vec<InotifyEvent> {
        let mut all = Vec::new();
        loop {
            match self.watches.inotify.read_events() {
                Ok(events) => all.extend(events),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return all,
                Err(error) => {
                    tracing::error!(%error, "events of watched folders cannot be read");
                    return all;
                }
            }
        }
    }
}

fn same(one: &(Told, Change), other: &(Told, Change)) -> bool {
    one.1 == other.1 && Arc::ptr_eq(&one.0, &other.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::eventually;
    use std::fs;
    use std::path::Path;
    use std::sync::mpsc;

    /// A folder `a/b` that does not exist, in one that does; and what is told of it.
    struct Watched {
        top: tempfile::TempDir,
        dir: PathBuf,
        watcher: Watcher,
        told: mpsc::Receiver<Change>,
        _watch: Watch,
    }

    impl Watched {
        fn new() -> Self {
            let top = tempfile::tempdir().unwrap();
            let (watcher, dir) = (Watcher::default(), top.path().join("a/b"));
            let (told, _watch) = watch(&watcher, &dir);
            Self { top, dir, watcher, told, _watch }
        }

        /// All that is told of what has happened until now.
        fn changes(&self) -> Vec<Change> {
            let (told, watch) = watch(&self.watcher, self.top.path());
            fs::write(self.top.path().join("mark"), "").unwrap();
            // Events come in order, and this one is the last.
            eventually("the mark is told", || {
                told.try_iter().any(|change| change == Change::Written("mark".into()))
            });
            drop(watch);
            self.told.try_iter().collect()
        }
    }

    fn watch(watcher: &Watcher, dir: &Path) -> (mpsc::Receiver<Change>, Watch) {
        let (tell, told) = mpsc::channel();
        let watch = watcher.folder(dir.to_owned(), move |change| tell.send(change).unwrap_or(()));
        (told, watch.unwrap())
    }

    #[test]
    fn what_only_reads_wakes_nobody() {
        let watched = Watched::new();
        let beside = watched.top.path().join("beside");
        fs::write(&beside, "x").unwrap();
        fs::read(&beside).unwrap();
        fs::read_dir(watched.top.path()).unwrap().count();
        assert_eq!(watched.changes(), [], "beside the way to the folder");
        fs::create_dir_all(&watched.dir).unwrap();
        let file = watched.dir.join("file");
        fs::write(&file, "x").unwrap();
        assert_ne!(watched.changes(), [], "the control");
        assert_eq!(watched.changes(), [], "told once");
        fs::read(&file).unwrap();
        fs::read_dir(&watched.dir).unwrap().count();
        assert_eq!(watched.changes(), [], "in the folder");
    }

    #[test]
    fn each_step_towards_the_folder_and_within_it_is_told() {
        let watched = Watched::new();
        let top = watched.top.path();
        let (a, b, aside) = (top.join("a"), watched.dir.clone(), top.join("c"));
        let steps: [(&str, &dyn Fn()); 9] = [
            ("a is made", &|| fs::create_dir(&a).unwrap()),
            ("b is made", &|| fs::create_dir(&b).unwrap()),
            ("a file is written", &|| fs::write(b.join("x"), "x").unwrap()),
            ("it is written again", &|| fs::write(b.join("x"), "y").unwrap()),
            ("it is renamed", &|| fs::rename(b.join("x"), b.join("y")).unwrap()),
            ("a goes", &|| fs::rename(&a, &aside).unwrap()),
            ("a comes back", &|| fs::rename(&aside, &a).unwrap()),
            ("b goes with its file", &|| fs::remove_dir_all(&b).unwrap()),
            ("b is made with a file", &|| {
                fs::create_dir(&b).unwrap();
                fs::write(b.join("z"), "z").unwrap();
            }),
        ];
        for (what, step) in steps {
            step();
            assert_ne!(watched.changes(), [], "{what}");
        }
        fs::write(b.join("z"), "after").unwrap();
        assert_ne!(watched.changes(), [], "the watch is on the folder that is there now");
    }

    #[test]
    fn a_file_is_written_only_when_it_is_closed() {
        use std::io::Write as _;
        let watched = Watched::new();
        fs::create_dir_all(&watched.dir).unwrap();
        watched.changes();
        let mut file = fs::File::create(watched.dir.join("f")).unwrap();
        file.write_all(b"half").unwrap();
        let name = || "f".into();
        assert_eq!(watched.changes(), [Change::Other, Change::Writing(name())]);
        drop(file);
        assert_eq!(watched.changes(), [Change::Written(name())]);
    }

    #[test]
    fn folders_beside_each_other_share_an_instance_and_each_hears_of_its_own() {
        let top = tempfile::tempdir().unwrap();
        let watcher = Watcher::default();
        let (one, two) = (top.path().join("one"), top.path().join("two"));
        let ((of_one, first), (of_two, second)) = (watch(&watcher, &one), watch(&watcher, &two));
        let (of_top, _third) = watch(&watcher, top.path());
        assert!(Arc::ptr_eq(&first.running, &second.running));
        let hears = |told: &mpsc::Receiver<Change>| {
            eventually("a change is told", || told.try_recv().is_ok());
        };
        fs::create_dir(&one).unwrap();
        hears(&of_one);
        hears(&of_top);
        // The shared watch of the folder above stays for the others.
        drop(first);
        fs::create_dir(&two).unwrap();
        hears(&of_two);
        fs::write(two.join("f"), "x").unwrap();
        eventually("the file is told", || {
            of_two.try_iter().any(|c| c == Change::Written("f".into()))
        });
        assert_eq!(of_one.try_iter().count(), 0, "it is not watched any more");
        fs::write(top.path().join("f"), "x").unwrap();
        eventually("the file is told", || {
            of_top.try_iter().any(|c| c == Change::Written("f".into()))
        });
        assert_eq!(of_two.try_iter().filter(|c| *c != Change::Other).count(), 0);
    }

    #[test]
    fn the_thread_ends_with_the_last_that_watches() {
        let watched = Watched::new();
        let state = Arc::downgrade(&watched._watch.running.state);
        assert!(state.upgrade().is_some());
        drop(watched);
        eventually("the thread ends", || state.upgrade().is_none());
    }
}
