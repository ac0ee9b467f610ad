//! A pod as the requests of CRI; pure. What a runtime keeps of them is enough to end the pod correctly by another
//! kubelet, or by this one after a restart, without the pod's specification.

mod container;
mod labels;
mod memory;
mod resources;
mod sandbox;
mod security;

pub use container::{ContainerInput, container_config};
pub use labels::{
    DELETION_GRACE_ANNOTATION, Identity, MESSAGE_PATH_ANNOTATION, MESSAGE_POLICY_ANNOTATION,
    PRE_STOP_ANNOTATION, TERMINATION_GRACE_ANNOTATION,
};
pub use memory::MemoryRules;
pub use resources::{container_resources, pod_resources, qos_shares};
pub use sandbox::{SandboxInput, sandbox_config};
pub use security::{ImageUser, SecurityInput, UserError, user_of};
