//! The engine, once there is one: the socket answers before the engine has been opened.
//!
//! Until then, and while the engine recovers, every method but Version is UNAVAILABLE. An empty
//! list in that time would make a kubelet start every pod again.

use super::status::to_status;
use crate::engine::{Engine, EngineError};
use std::sync::{Arc, OnceLock};
use tonic::Status;

/// Where the engine will be. Cheap to clone.
#[derive(Clone, Default)]
pub struct EngineGate(Arc<OnceLock<Engine>>);

impl EngineGate {
    /// A gate without an engine.
    pub fn pending() -> Self {
        Self::default()
    }

    /// Lets calls through to `engine`. A gate opens once; a second engine is dropped.
    pub fn open(&self, engine: Engine) {
        self.0.set(engine).ok();
    }

    /// The engine, when it knows its state.
    ///
    /// # Errors
    /// UNAVAILABLE: the engine is not there yet or still recovers.
    pub fn engine(&self) -> Result<&Engine, Status> {
        let engine = self.0.get().ok_or(EngineError::Recovering);
        engine.and_then(|e| e.ready().map(|()| e)).map_err(|e| to_status(e.kind(), &e))
    }
}
