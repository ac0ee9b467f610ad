//! Telling how far a pull or an import is, to everybody who waits for it.

use super::info::{Phase, Progress, ProgressEvent};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::UnboundedSender;

/// All listeners of one operation. A cheap clone of one list.
#[derive(Clone, Debug, Default)]
pub(super) struct Listeners(Arc<Mutex<Vec<UnboundedSender<ProgressEvent>>>>);

impl Listeners {
    /// Adds a listener, if there is one.
    pub(super) fn add(&self, progress: Progress) {
        if let Some(sender) = progress {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        }
    }

    /// Tells all listeners, and forgets those that left.
    pub(super) fn tell(&self, event: &ProgressEvent) {
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| listener.send(event.clone()).is_ok());
    }

    /// Tells something about the image as a whole.
    pub(super) fn image(&self, image: &str, phase: Phase) {
        self.tell(&ProgressEvent {
            image: image.to_owned(),
            layer: None,
            phase,
            current_bytes: 0,
            total_bytes: 0,
        });
    }
}

/// The progress of one layer.
#[derive(Clone, Debug)]
pub(super) struct LayerProgress {
    listeners: Listeners,
    image: Arc<str>,
    layer: Arc<str>,
    total_bytes: u64,
}

impl LayerProgress {
    pub(super) fn new(listeners: &Listeners, image: &str, layer: &str, total_bytes: u64) -> Self {
        let listeners = listeners.clone();
        Self { listeners, image: image.into(), layer: layer.into(), total_bytes }
    }

    pub(super) fn tell(&self, phase: Phase, current_bytes: u64) {
        self.listeners.tell(&ProgressEvent {
            image: self.image.to_string(),
            layer: Some(self.layer.to_string()),
            phase,
            current_bytes,
            total_bytes: self.total_bytes,
        });
    }

    /// The last event of a layer: all of it is here.
    pub(super) fn end(&self, phase: Phase) {
        self.tell(phase, self.total_bytes);
    }
}
