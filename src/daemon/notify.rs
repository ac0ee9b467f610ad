//! What the service manager is told (sd_notify(3)): ready, stopping, still alive.

use sd_notify::NotifyState;
use tracing::debug;

/// berth answers RPCs.
pub(super) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// berth is about to end.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Tells the service manager that this runtime still makes progress, twice in the time it allows.
/// Never ends; ends at once without a watchdog.
pub(super) async fn watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut pulse = tokio::time::interval(limit / 2);
    loop {
        pulse.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

/// Without a service manager this does nothing; a manager that does not listen is no failure.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "the service manager was not told");
    }
}
