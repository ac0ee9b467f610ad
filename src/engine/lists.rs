//! What there is, and how each object is: copies under short locks, never behind a verb.

use super::error::EngineError;
use super::open::Engine;
use super::view::{ContainerView, SandboxView};
use crate::container::state::State;
use crate::ids::SandboxId;
use crate::sandbox::state::Phase;

impl Engine {
    /// PodSandboxStatus.
    ///
    /// # Errors
    /// Recovering, NotFound, Ambiguous.
    pub fn sandbox_status(&self, id: &str) -> Result<SandboxView, EngineError> {
        self.ready()?;
        Ok(self.known_sandbox(id)?.view(&self.node))
    }

    /// ListPodSandbox. Sandboxes still being made are not listed: their id is not told yet.
    ///
    /// # Errors
    /// Recovering: never an empty list instead.
    pub fn list_sandboxes(&self) -> Result<Vec<SandboxView>, EngineError> {
        self.ready()?;
        let all = self.registry.sandboxes();
        Ok(all
            .iter()
            .filter(|s| s.phase() != Phase::Creating)
            .map(|s| s.view(&self.node))
            .collect())
    }

    /// ContainerStatus.
    ///
    /// # Errors
    /// Recovering, NotFound, Ambiguous.
    pub fn container_status(&self, id: &str) -> Result<ContainerView, EngineError> {
        self.ready()?;
        Ok(self.known_container(id)?.view(&self.node))
    }

    /// ListContainers. Containers still being made are not listed.
    ///
    /// # Errors
    /// Recovering: never an empty list instead.
    pub fn list_containers(&self) -> Result<Vec<ContainerView>, EngineError> {
        self.ready()?;
        let all = self.registry.containers();
        let made = all.iter().filter(|c| c.state() != State::Creating);
        Ok(made.map(|c| c.view(&self.node)).collect())
    }

    /// The containers of one sandbox, as [`Engine::list_containers`] tells them.
    pub fn containers_of(&self, sandbox: &SandboxId) -> Vec<ContainerView> {
        let all = self.registry.containers_of(sandbox);
        let made = all.iter().filter(|c| c.state() != State::Creating);
        made.map(|c| c.view(&self.node)).collect()
    }
}
