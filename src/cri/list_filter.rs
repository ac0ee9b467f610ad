//! List filters: every part that is given must fit. Pure.
//!
//! An id fits as a prefix. A filter that fits nothing is no error: the list is empty.

use super::from_proto::RequestError;
use super::proto;
use crate::engine::view::{ContainerState, ContainerView, SandboxView};
use std::collections::BTreeMap;

/// What a list is reduced to; empty and absent parts fit everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListFilter<S> {
    id: String,
    sandbox: String,
    state: Option<S>,
    labels: BTreeMap<String, String>,
}

/// The filter of containers.
pub(crate) type ContainerFilter = ListFilter<ContainerState>;
/// The filter of sandboxes; its state is "ready".
pub(crate) type SandboxFilter = ListFilter<Ready>;

/// Whether a sandbox is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready(bool);

impl ContainerFilter {
    pub(crate) fn fits(&self, view: &ContainerView) -> bool {
        view.id.as_str().starts_with(&self.id)
            && view.sandbox.as_str().starts_with(&self.sandbox)
            && self.state.is_none_or(|s| s == view.state)
            && includes(&view.config.labels, &self.labels)
    }
}

impl SandboxFilter {
    pub(crate) fn fits(&self, view: &SandboxView) -> bool {
        view.id.as_str().starts_with(&self.id)
            && self.state.is_none_or(|Ready(ready)| ready == view.ready)
            && includes(&view.config.labels, &self.labels)
    }
}

/// Whether every pair that is wanted is among the labels.
fn includes(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

impl TryFrom<Option<proto::ContainerFilter>> for ContainerFilter {
    type Error = RequestError;

    fn try_from(filter: Option<proto::ContainerFilter>) -> Result<Self, RequestError> {
        let filter = filter.unwrap_or_default();
        let state = filter.state.map(|s| container_state(s.state)).transpose()?;
        Ok(Self {
            id: filter.id,
            sandbox: filter.pod_sandbox_id,
            state,
            labels: filter.label_selector,
        })
    }
}

impl TryFrom<Option<proto::PodSandboxFilter>> for SandboxFilter {
    type Error = RequestError;

    fn try_from(filter: Option<proto::PodSandboxFilter>) -> Result<Self, RequestError> {
        let filter = filter.unwrap_or_default();
        let state = filter.state.map(|s| sandbox_state(s.state)).transpose()?;
        let sandbox = String::new();
        Ok(Self { id: filter.id, sandbox, state, labels: filter.label_selector })
    }
}

impl From<Option<proto::ContainerStatsFilter>> for ContainerFilter {
    fn from(filter: Option<proto::ContainerStatsFilter>) -> Self {
        let filter = filter.unwrap_or_default();
        Self {
            id: filter.id,
            sandbox: filter.pod_sandbox_id,
            state: None,
            labels: filter.label_selector,
        }
    }
}

impl From<Option<proto::PodSandboxStatsFilter>> for SandboxFilter {
    /// Only ready sandboxes have figures.
    fn from(filter: Option<proto::PodSandboxStatsFilter>) -> Self {
        let filter = filter.unwrap_or_default();
        let state = Some(Ready(true));
        Self { id: filter.id, sandbox: String::new(), state, labels: filter.label_selector }
    }
}

fn container_state(value: i32) -> Result<ContainerState, RequestError> {
    match proto::ContainerState::try_from(value) {
        Ok(proto::ContainerState::ContainerCreated) => Ok(ContainerState::Created),
        Ok(proto::ContainerState::ContainerRunning) => Ok(ContainerState::Running),
        Ok(proto::ContainerState::ContainerExited) => Ok(ContainerState::Exited),
        Ok(proto::ContainerState::ContainerUnknown) => Ok(ContainerState::Unknown),
        Err(_) => Err(RequestError::unknown("filter.state", value)),
    }
}

fn sandbox_state(value: i32) -> Result<Ready, RequestError> {
    match proto::PodSandboxState::try_from(value) {
        Ok(proto::PodSandboxState::SandboxReady) => Ok(Ready(true)),
        Ok(proto::PodSandboxState::SandboxNotready) => Ok(Ready(false)),
        Err(_) => Err(RequestError::unknown("filter.state", value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::view_fixture::{container, labels, sandbox};

    fn value(state: i32) -> Option<proto::ContainerStateValue> {
        Some(proto::ContainerStateValue { state })
    }

    #[test]
    fn every_part_of_a_container_filter_must_fit() {
        let fit = proto::ContainerFilter {
            id: "cdcd".into(),
            pod_sandbox_id: "ab".into(),
            state: value(2),
            label_selector: labels(&[("app", "web")]),
        };
        let cases = [
            (proto::ContainerFilter::default(), true),
            (fit.clone(), true),
            (proto::ContainerFilter { id: "cc".into(), ..fit.clone() }, false),
            (proto::ContainerFilter { pod_sandbox_id: "b".into(), ..fit.clone() }, false),
            (proto::ContainerFilter { state: value(0), ..fit.clone() }, false),
            (
                proto::ContainerFilter { label_selector: labels(&[("app", "")]), ..fit.clone() },
                false,
            ),
            (proto::ContainerFilter { label_selector: labels(&[("x", "web")]), ..fit }, false),
        ];
        for (filter, expected) in cases {
            let made = ContainerFilter::try_from(Some(filter.clone())).unwrap();
            assert_eq!(made.fits(&container()), expected, "{filter:?}");
        }
        assert!(
            ContainerFilter::try_from(None::<proto::ContainerFilter>).unwrap().fits(&container())
        );
    }

    #[test]
    fn every_part_of_a_sandbox_filter_must_fit() {
        let state = |state| Some(proto::PodSandboxStateValue { state });
        let fit = proto::PodSandboxFilter {
            id: "abab".into(),
            state: state(0),
            label_selector: labels(&[("app", "web"), ("tier", "front")]),
        };
        let cases = [
            (fit.clone(), true),
            (proto::PodSandboxFilter { id: "ba".into(), ..fit.clone() }, false),
            (proto::PodSandboxFilter { state: state(1), ..fit.clone() }, false),
            (proto::PodSandboxFilter { label_selector: labels(&[("app", "db")]), ..fit }, false),
        ];
        for (filter, expected) in cases {
            let made = SandboxFilter::try_from(Some(filter.clone())).unwrap();
            assert_eq!(made.fits(&sandbox()), expected, "{filter:?}");
        }
    }

    #[test]
    fn figures_are_of_ready_sandboxes_alone() {
        let filter = SandboxFilter::from(None::<proto::PodSandboxStatsFilter>);
        assert!(filter.fits(&sandbox()));
        assert!(!filter.fits(&SandboxView { ready: false, ..sandbox() }));
    }

    #[test]
    fn a_state_that_does_not_exist_is_refused() {
        let filter = proto::ContainerFilter { state: value(9), ..Default::default() };
        assert!(ContainerFilter::try_from(Some(filter)).is_err());
    }
}
