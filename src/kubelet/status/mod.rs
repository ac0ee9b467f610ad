//! A pod's status as the API shows it, from what its runtime has of it; pure.
//!
//! The rules are those of `kubectl get pod -o yaml` on a node: phases in their order, conditions whose times
//! change only with their value, waiting reasons, `lastState`. A terminal phase is never left.

mod conditions;
mod containers;
mod make;
mod message;
mod phase;
mod read;

pub use containers::Waiting;
pub use make::{Input, Verdict, api_time, status};
pub use message::{message_budget, termination_message};
pub use read::{container_id, containers, has_ended, start_time};
