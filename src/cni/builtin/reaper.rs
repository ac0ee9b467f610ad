//! Removing cables behind the back of the pods that stop.
//!
//! The kernel needs tens of milliseconds to unregister an interface (it waits for every reader of it,
//! several times), which nobody who stops a pod has to wait for: the pod's processes are dead, and
//! its rules are gone. One thread removes cables, many at once where many wait: they are put into an
//! interface group, and the kernel unregisters a group in the time of one. An address is given back
//! when its cable is gone. A daemon killed before that finds both at its start: nobody alive has them.

use super::bridge::accept;
use super::lease::Leases;
use crate::cni::netlink::{self, Netlink};
use crate::ids::SandboxId;
use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The interface group of cables on their way out; "bert" in ASCII, so that nobody else has it.
const GROUP: u32 = 0x6265_7274;
/// How many go in one batch: requests and answers fit the socket's buffers.
const BATCH: usize = 64;

/// A cable to be removed, and what is free then.
pub(super) struct Job {
    pub(super) veth: String,
    pub(super) owner: SandboxId,
    /// Empty: every address that the folder says is the owner's.
    pub(super) ips: Vec<IpAddr>,
}

/// The thread, made with the first job. It ends, after its last job, when this is dropped.
#[derive(Default)]
pub(super) struct Reaper {
    queue: Mutex<Option<Sender<Job>>>,
    pending: Arc<Pending>,
}

#[derive(Default)]
struct Pending {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reaper {
    /// Hands over a cable.
    ///
    /// # Errors
    /// EAGAIN when no thread can be made.
    pub(super) fn push(&self, job: Job, leases: &Arc<Leases>) -> io::Result<()> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.is_none() {
            let (sender, jobs) = channel();
            let (leases, pending) = (Arc::clone(leases), Arc::clone(&self.pending));
            std::thread::Builder::new()
                .name("net-reaper".to_owned())
                .spawn(move || serve(&jobs, &leases, &pending))?;
            *queue = Some(sender);
        }
        *self.pending.lock() += 1;
        if let Some(queue) = queue.as_ref() {
            // The thread ends only when this sender is dropped.
            queue.send(job).ok();
        }
        Ok(())
    }

    /// Waits until every cable handed over is dealt with.
    pub(super) fn settle(&self) {
        let mut count = self.pending.lock();
        while *count > 0 {
            count = self.pending.changed.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn serve(jobs: &Receiver<Job>, leases: &Leases, pending: &Pending) {
    while let Ok(first) = jobs.recv() {
        let mut batch = vec![first];
        batch.extend(jobs.try_iter().take(BATCH - 1));
        match remove_cables(&batch) {
            Ok(()) => {
                for job in &batch {
                    if let Err(error) = give_back(job, leases) {
                        let sandbox_id = &job.owner;
                        tracing::error!(%sandbox_id, %error, "address is not given back");
                    }
                }
            }
            // The addresses may still answer: they stay leased until the next start.
            Err(error) => tracing::error!(%error, count = batch.len(), "cables are not removed"),
        }
        *pending.lock() -= batch.len();
        pending.changed.notify_all();
    }
}

fn remove_cables(batch: &[Job]) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    if let [job] = batch {
        return accept(netlink.one(netlink::delete(&job.veth)), libc::ENODEV);
    }
    let requests = batch.iter().map(|job| netlink::move_to_group(&job.veth, GROUP)).collect();
    for answer in netlink.execute(requests)? {
        accept(answer, libc::ENODEV)?;
    }
    accept(netlink.one(netlink::delete_group(GROUP)), libc::ENODEV)
}

fn give_back(job: &Job, leases: &Leases) -> io::Result<()> {
    if job.ips.is_empty() {
        // Killed between lease and journal, or before: the folder knows.
        return leases.release_where(|owner| owner == Some(&job.owner)).map(|_| ());
    }
    job.ips.iter().try_for_each(|ip| leases.release(*ip, &job.owner))
}
