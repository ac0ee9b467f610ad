//! A Kubernetes v1 Pod as a file: read strictly, then written as CRI requests; pure.
//!
//! What is in the file and not supported is refused by its path, never ignored.

mod containers;
mod model;
mod parse;
mod resources;
mod to_cri;
mod volumes;
mod yaml;

pub use model::{
    Container, HostAlias, HostPathKind, Pod, Port, Protocol, PullPolicy, Requests, Volume,
    VolumeMount, VolumeSource,
};
pub use parse::parse_pod;
pub use resources::{Qos, qos};
pub use to_cri::{
    ContainerContext, GRACE_ANNOTATION, PodPlace, RUN_LABEL, container_config, logs_dir, pod_dir,
    sandbox_config,
};
pub use yaml::PodError;
