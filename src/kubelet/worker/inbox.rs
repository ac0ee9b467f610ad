//! What the others have to say to a worker.

use crate::kubelet::status::Verdict;
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

/// A word to a worker.
#[derive(Clone, Debug)]
pub enum Command {
    /// The pod is another now.
    Update(Arc<Pod>),
    /// The pod is to end. Said again, it can only shorten the grace, and delete what was to stay.
    End(Ending),
    /// Something may have changed: look.
    Look,
}

/// How a pod is to end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// Whether no source wants it any more: nothing of it is to stay.
    pub deleted: bool,
    /// The grace, instead of the pod's own; it is never longer.
    pub grace: Option<Duration>,
    /// Why it has failed, if that is not for its containers to say.
    pub verdict: Option<Verdict>,
}

impl Ending {
    /// Both orders in one: the shorter grace, the first verdict.
    fn and(self, later: Self) -> Self {
        Self {
            deleted: self.deleted || later.deleted,
            grace: match (self.grace, later.grace) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
            verdict: self.verdict.or(later.verdict),
        }
    }
}

/// The other end of a worker's inbox.
#[derive(Clone, Debug)]
pub struct Handle {
    sender: UnboundedSender<Command>,
    ended: watch::Receiver<bool>,
}

impl Handle {
    /// Says it. A worker that has ended does not mind.
    pub fn tell(&self, command: Command) {
        self.sender.send(command).ok();
    }

    /// Waits until nothing of the pod runs any more, and nothing will.
    pub async fn ended(&self) {
        // A worker that is gone has ended.
        self.ended.clone().wait_for(|ended| *ended).await.ok();
    }
}

/// What was said and not yet heeded.
#[derive(Debug)]
pub(super) struct Inbox {
    ended: watch::Sender<bool>,
    receiver: UnboundedReceiver<Command>,
    update: Option<Arc<Pod>>,
    look: bool,
    ending: Option<Ending>,
}

/// An inbox and its other end.
pub(super) fn inbox() -> (Handle, Inbox) {
    let (sender, receiver) = unbounded_channel();
    let (tell, ended) = watch::channel(false);
    let inbox = Inbox { ended: tell, receiver, update: None, look: false, ending: None };
    (Handle { sender, ended }, inbox)
}

impl Inbox {
    /// Nothing of the pod runs any more.
    pub(super) fn has_ended(&self) {
        self.ended.send_replace(true);
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Update(pod) => {
                self.update = Some(pod);
                self.look = true;
            }
            Command::End(ending) => {
                let before = self.ending.take().unwrap_or_default();
                self.ending = Some(before.and(ending));
            }
            Command::Look => self.look = true,
        }
    }

    /// Takes what is there, or waits for the next word. Never ends when nobody is left to speak.
    async fn listen(&mut self) {
        match self.receiver.recv().await {
            Some(command) => self.take(command),
            None => std::future::pending().await,
        }
        while let Ok(command) = self.receiver.try_recv() {
            self.take(command);
        }
    }

    /// The newest pod, if it is another.
    pub(super) fn update(&mut self) -> Option<Arc<Pod>> {
        self.update.take()
    }

    /// The order to end so far.
    pub(super) fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// The order to end that was given by now, heeding all that was said.
    pub(super) fn ordered(&mut self) -> Option<Ending> {
        while let Ok(command) = self.receiver.try_recv() {
            self.take(command);
        }
        self.ending.clone()
    }

    /// Waits for an order to end that is not `known`.
    pub(super) async fn ends(&mut self, known: Option<&Ending>) -> Ending {
        loop {
            if let Some(ending) = self.ending.as_ref().filter(|ending| Some(*ending) != known) {
                return ending.clone();
            }
            self.listen().await;
        }
    }

    /// Waits for a reason to look that came since the last one, or for an order to end.
    pub(super) async fn word(&mut self) {
        while !self.look && self.ending.is_none() {
            self.listen().await;
        }
        self.look = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(grace: u64) -> Ending {
        Ending { grace: Some(Duration::from_secs(grace)), ..Ending::default() }
    }

    #[tokio::test]
    async fn a_grace_can_only_shrink() {
        let (handle, mut inbox) = inbox();
        handle.tell(Command::End(ending(10)));
        handle.tell(Command::End(ending(30)));
        let first = inbox.ends(None).await;
        assert_eq!(first.grace, Some(Duration::from_secs(10)));
        handle.tell(Command::End(Ending { deleted: true, ..ending(3) }));
        let later = inbox.ends(Some(&first)).await;
        assert_eq!((later.grace, later.deleted), (Some(Duration::from_secs(3)), true));
    }

    #[tokio::test]
    async fn the_end_is_waited_for_whether_it_comes_or_was() {
        let (handle, inbox) = inbox();
        let wait = || tokio::time::timeout(Duration::from_millis(20), handle.ended());
        assert!(wait().await.is_err());
        inbox.has_ended();
        assert!(wait().await.is_ok());
        drop(inbox);
        assert!(wait().await.is_ok());
    }

    #[tokio::test]
    async fn many_words_are_one_reason_to_look() {
        let (handle, mut inbox) = inbox();
        for _ in 0..3 {
            handle.tell(Command::Look);
        }
        inbox.word().await;
        let again = tokio::time::timeout(Duration::from_millis(20), inbox.word()).await;
        assert!(again.is_err(), "all three were heeded");
    }
}
