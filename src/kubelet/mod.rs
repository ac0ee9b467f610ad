//! The kubelet half: pods from files, HTTP and the control socket, kept running through the verbs of CRI.
//!
//! `source → pods → worker → plan (pure) → Cri verbs → pleg → status → board`:
//!
//! * [`api`]: manifests to objects with defaults, checked; [`source`]: where they come from; [`objects`]: the ConfigMaps,
//!   Secrets and Services that pods may name.
//! * [`serve()`], [`mod@prepare`] and [`run`]: from the configuration to one [`worker`] a pod; [`pods`] and [`admission`] decide which.
//! * [`observed`], [`plan`], [`backoff`], [`spec`], [`qos`], [`wants`]: what a worker decides from, pure; [`request`]: how it asks.
//! * [`mod@env`], [`files`], [`volumes`], [`cgroups`], [`userns`]: what a container finds; [`node`], [`reserved`]: where it is;
//!   [`node_status`]: how that is told.
//! * [`eviction`], [`shutdown`]: pods end when the node runs short, and before it ends itself.
//! * [`logs`]: kept from growing without end.
//! * [`pleg`]: what the runtime tells; [`status`] and [`board`]: what everybody may see; [`control`] and [`http`]: how they ask.

pub mod admission;
pub mod api;
pub mod backoff;
pub mod board;
pub mod cgroups;
pub mod control;
pub mod env;
pub mod ephemeral;
mod error;
pub mod eviction;
pub mod files;
pub mod http;
pub mod logs;
pub mod node;
pub mod node_status;
pub mod objects;
pub mod observed;
pub mod plan;
pub mod pleg;
pub mod pods;
mod prepare;
pub mod qos;
pub mod quantity;
pub mod request;
pub mod reserved;
pub mod run;
mod serve;
pub mod shutdown;
pub mod source;
pub mod spec;
pub mod status;
pub mod userns;
pub mod volumes;
pub mod wants;
pub mod worker;

pub use error::KubeletError;
pub use serve::serve;
