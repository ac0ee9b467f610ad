//! What a pod's specification says, with the API's defaults where it says nothing; pure.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// How long a pod may take to end when it does not say.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// A pod's uid; empty for a pod that no source has named.
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// A pod's namespace.
pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or(super::objects::DEFAULT_NAMESPACE)
}

/// A pod's name.
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// `namespace/name`, of which there is one pod at a time.
pub fn full_name(pod: &Pod) -> String {
    format!("{}/{}", namespace(pod), name(pod))
}

/// The folder of a pod's logs, as tools look for it.
pub fn log_folder(namespace: &str, name: &str, uid: &str) -> String {
    format!("{namespace}_{name}_{uid}")
}

/// The specification; an empty one for a pod without.
pub fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::OnceLock<PodSpec> = std::sync::OnceLock::new();
    pod.spec.as_ref().unwrap_or_else(|| EMPTY.get_or_init(PodSpec::default))
}

/// `terminationGracePeriodSeconds`; 30 s when absent.
pub fn grace(pod: &Pod) -> Duration {
    let seconds = spec(pod).termination_grace_period_seconds;
    seconds.and_then(|s| u64::try_from(s).ok()).map_or(DEFAULT_GRACE, Duration::from_secs)
}

/// Whether the pod is in the node's network.
pub fn host_network(pod: &Pod) -> bool {
    spec(pod).host_network.unwrap_or(false)
}

/// When a container that has ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Always.
    Always,
    /// When its exit code is not 0.
    OnFailure,
    /// Never.
    Never,
}

impl RestartPolicy {
    fn parse(text: Option<&str>) -> Option<Self> {
        match text? {
            "Always" => Some(Self::Always),
            "OnFailure" => Some(Self::OnFailure),
            "Never" => Some(Self::Never),
            _ => None,
        }
    }

    /// Whether a container that ended with `code` is started again.
    pub fn restarts(self, code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

/// The pod's restart policy; `Always` when absent.
pub fn restart_policy(pod: &Pod) -> RestartPolicy {
    RestartPolicy::parse(spec(pod).restart_policy.as_deref()).unwrap_or(RestartPolicy::Always)
}

/// The part a container plays in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next.
    Init,
    /// An init container with `restartPolicy: Always`: runs beside the others until they have ended.
    Sidecar,
    /// What the pod is for.
    App,
    /// Added to look into the pod, see [`super::ephemeral`]; none of [`members`].
    Ephemeral,
}

/// A container of a pod.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Its part.
    pub role: Role,
    /// What it is.
    pub container: &'a Container,
}

impl<'a> Member<'a> {
    /// Its name in the pod.
    pub fn name(self) -> &'a str {
        &self.container.name
    }

    /// Whether it is started again after it ended with `code`: by the first of its rules that speaks of
    /// the code (KEP-5307), else by its own policy, else by the pod's. Init containers restart until
    /// they succeed, unless the policy is `Never`.
    pub fn restarts(self, pod: &Pod, code: i32) -> bool {
        match self.role {
            Role::Sidecar => return true,
            Role::Ephemeral => return false,
            Role::Init | Role::App => {}
        }
        for rule in self.container.restart_policy_rules.iter().flatten() {
            let Some(codes) = &rule.exit_codes else { continue };
            let named = codes.values.iter().flatten().any(|value| *value == code);
            let speaks = match codes.operator.as_str() {
                "In" => named,
                "NotIn" => !named,
                _ => false,
            };
            if speaks {
                return rule.action == "Restart";
            }
        }
        let policy = self.policy(pod);
        match self.role {
            Role::Init => code != 0 && policy != RestartPolicy::Never,
            Role::App | Role::Sidecar | Role::Ephemeral => policy.restarts(code),
        }
    }

    /// The policy in force for it.
    pub fn policy(self, pod: &Pod) -> RestartPolicy {
        match self.role {
            Role::Sidecar => return RestartPolicy::Always,
            Role::Ephemeral => return RestartPolicy::Never,
            Role::Init | Role::App => {}
        }
        let own = RestartPolicy::parse(self.container.restart_policy.as_deref());
        own.unwrap_or_else(|| restart_policy(pod))
    }
}

/// The containers that make the pod, in the order in which they start: init containers and sidecars, then the others.
pub fn members(pod: &Pod) -> Vec<Member<'_>> {
    let spec = spec(pod);
    let init = spec.init_containers.iter().flatten().map(|container| Member {
        role: match RestartPolicy::parse(container.restart_policy.as_deref()) {
            Some(RestartPolicy::Always) => Role::Sidecar,
            _ => Role::Init,
        },
        container,
    });
    init.chain(spec.containers.iter().map(|container| Member { role: Role::App, container }))
        .collect()
}

/// The container of a name.
pub fn member<'a>(pod: &'a Pod, name: &str) -> Option<Member<'a>> {
    members(pod).into_iter().find(|member| member.name() == name)
}

/// A hash of what a container is made from: 16 hexadecimal digits. Another hash is another container.
pub fn container_hash(container: &Container) -> String {
    use std::fmt::Write as _;
    // Maps are ordered, so that the same container has the same text.
    let text = serde_json::to_vec(container).unwrap_or_default();
    Sha256::digest(text).iter().take(8).fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        write!(hex, "{byte:02x}").ok();
        hex
    })
}
