//! Holds the lock, and says when a shutdown begins and when it was called off.

use super::groups::{Group, together};
use super::logind::{LoginProxy, PrepareForShutdownStream, ShutdownError, ask, connect, delay_for};
use crate::error::chain;
use futures::StreamExt as _;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};
use zbus::zvariant::OwnedFd;

/// After how long a lost bus is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// What is to be done.
#[derive(Debug)]
pub enum Order {
    /// A shutdown begins: end the pods, and say so when they have ended.
    Begin(oneshot::Sender<()>),
    /// It was called off.
    Over,
}

/// A connection to logind with a lock.
pub struct Inhibitor {
    login: LoginProxy<'static>,
    signals: PrepareForShutdownStream,
    lock: Option<OwnedFd>,
    /// Whether a shutdown had begun before.
    preparing: bool,
}

impl Inhibitor {
    /// Takes the lock.
    ///
    /// # Errors
    /// logind does not answer, or does not wait as long as the groups may take.
    pub async fn take(groups: &[Group]) -> Result<Self, ShutdownError> {
        let login = connect().await?;
        // Before anything is asked: no signal is missed.
        let signals = ask("listen to", login.receive_prepare_for_shutdown()).await?;
        delay_for(&login, together(groups)).await?;
        let preparing = ask("ask", login.preparing_for_shutdown()).await?;
        let mut taken = Self { login, signals, lock: None, preparing };
        if !preparing {
            taken.lock().await?;
        }
        Ok(taken)
    }

    /// Whether a shutdown has begun already.
    pub fn is_preparing(&self) -> bool {
        self.preparing
    }

    async fn lock(&mut self) -> Result<(), ShutdownError> {
        let why = "pods are to end before the node does";
        let lock = self.login.inhibit("shutdown", "berth", why, "delay");
        self.lock = Some(ask("take a lock of", lock).await?);
        Ok(())
    }

    /// Until the connection is lost.
    async fn follow(mut self, orders: &mpsc::Sender<Order>) -> Result<(), ShutdownError> {
        let mut ending = if self.preparing { Some(begin(orders).await) } else { None };
        loop {
            tokio::select! {
                signal = self.signals.next() => {
                    let Some(signal) = signal else { return Ok(()) };
                    let args = signal.args().map_err(|source| ShutdownError::Logind {
                        operation: "understand",
                        source: Box::new(source),
                    })?;
                    if args.start {
                        info!("the node is shutting down");
                        ending = Some(begin(orders).await);
                    } else {
                        info!("the shutdown was called off");
                        ending = None;
                        orders.send(Order::Over).await.ok();
                        self.lock().await?;
                    }
                }
                () = wait(&mut ending) => {
                    info!("the pods have ended: the shutdown goes on");
                    ending = None;
                    self.lock = None;
                }
            }
        }
    }
}

async fn begin(orders: &mpsc::Sender<Order>) -> oneshot::Receiver<()> {
    let (done, ended) = oneshot::channel();
    orders.send(Order::Begin(done)).await.ok();
    ended
}

/// Until the pods have ended; for ever when nobody ends them.
async fn wait(ending: &mut Option<oneshot::Receiver<()>>) {
    match ending {
        // An end that was given up is one, too.
        Some(ended) => drop(ended.await),
        None => std::future::pending().await,
    }
}

/// Tells of shutdowns, for ever. A bus that was lost is looked for again.
pub async fn watch(first: Inhibitor, groups: Vec<Group>, orders: mpsc::Sender<Order>) {
    let mut next = Some(first);
    loop {
        let followed = match next.take() {
            Some(inhibitor) => inhibitor.follow(&orders).await,
            None => Ok(()),
        };
        if let Err(error) = followed {
            warn!(error = %chain(&error), "a shutdown of the node may not be seen");
        }
        tokio::time::sleep(AGAIN).await;
        match Inhibitor::take(&groups).await {
            Ok(inhibitor) => {
                if !inhibitor.preparing {
                    // It may have been called off while nobody listened.
                    orders.send(Order::Over).await.ok();
                }
                next = Some(inhibitor);
            }
            Err(error) => {
                warn!(error = %chain(&error), "a shutdown of the node is not seen");
            }
        }
    }
}
