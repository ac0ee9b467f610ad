//! Ephemeral containers: added to a pod that runs, to look into it; pure.
//!
//! They are no part of what the pod is: they begin as soon as they are named, are never started again, hold nobody up,
//! and the pod ends whether they run or not. An API server takes them by a request of their own; here a manifest names
//! them, and naming another one leaves the pod the same (its uid does not depend on them).

use super::spec::{Member, Role, member, spec};
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod};

/// A pod's ephemeral containers, as containers.
pub fn ephemerals(pod: &Pod) -> Vec<Container> {
    spec(pod).ephemeral_containers.iter().flatten().map(as_container).collect()
}

/// The container whose processes an ephemeral one is to see, if it names one.
pub fn target<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let mut all = spec(pod).ephemeral_containers.iter().flatten();
    let target = all.find(|one| one.name == name)?.target_container_name.as_deref();
    target.filter(|target| !target.is_empty())
}

/// The same container without its target: every other field of it is one of a container's.
pub fn as_container(ephemeral: &EphemeralContainer) -> Container {
    let value = serde_json::to_value(ephemeral).unwrap_or_default();
    serde_json::from_value(value).unwrap_or_default()
}

/// The other way.
pub fn as_ephemeral(container: &Container, target: Option<String>) -> EphemeralContainer {
    let value = serde_json::to_value(container).unwrap_or_default();
    let ephemeral: EphemeralContainer = serde_json::from_value(value).unwrap_or_default();
    EphemeralContainer { target_container_name: target, ..ephemeral }
}

/// A container of a pod, of whichever list.
#[derive(Clone, Debug)]
pub enum Named<'a> {
    /// One that the pod is made of.
    Member(Member<'a>),
    /// One that was added.
    Ephemeral(Box<Container>),
}

impl Named<'_> {
    /// It, for as long as this is held.
    pub fn member(&self) -> Member<'_> {
        match self {
            Self::Member(member) => *member,
            Self::Ephemeral(container) => Member { role: Role::Ephemeral, container },
        }
    }
}

/// The container of a name.
pub fn named<'a>(pod: &'a Pod, name: &str) -> Option<Named<'a>> {
    let own = member(pod, name).map(Named::Member);
    own.or_else(|| {
        let added = ephemerals(pod).into_iter().find(|container| container.name == name)?;
        Some(Named::Ephemeral(Box::new(added)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn an_ephemeral_container_is_a_container_with_a_target() {
        let pod: Pod = from_value(json!({"spec": {
            "containers": [{"name": "c"}],
            "ephemeralContainers": [
                {"name": "e", "image": "i", "command": ["sh"], "tty": true, "targetContainerName": "c",
                 "env": [{"name": "A", "value": "b"}], "securityContext": {"privileged": true}},
                {"name": "f", "targetContainerName": ""},
            ],
        }}))
        .unwrap();
        let all = ephemerals(&pod);
        let expected = json!({
            "name": "e", "image": "i", "command": ["sh"], "tty": true, "env": [{"name": "A", "value": "b"}],
            "securityContext": {"privileged": true},
        });
        assert_eq!(serde_json::to_value(&all[0]).unwrap(), expected);
        let back = as_ephemeral(&all[0], Some("c".into()));
        assert_eq!(back, pod.spec.as_ref().unwrap().ephemeral_containers.as_ref().unwrap()[0]);
        assert_eq!(
            (target(&pod, "e"), target(&pod, "f"), target(&pod, "c")),
            (Some("c"), None, None)
        );
        assert_eq!(named(&pod, "e").unwrap().member().role, Role::Ephemeral);
        assert_eq!(named(&pod, "c").unwrap().member().role, Role::App);
        assert!(named(&pod, "x").is_none());
    }
}
