//! A pod as a whole.

use super::metadata::metadata;
use super::problem::{At, FieldError, Problems};
use k8s_openapi::api::core::v1::Pod;

/// Every violation of a pod that has its identity and its defaults.
pub fn validate_pod(pod: &Pod) -> Vec<FieldError> {
    let mut problems = Problems::default();
    metadata(&mut problems, &pod.metadata);
    let at = At::top("spec");
    if pod.spec.is_none() {
        problems.required(&at, "a pod has a specification");
    }
    problems.into_errors()
}
