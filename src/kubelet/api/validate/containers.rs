//! Init containers and those that the pod is for; those that are added later are [`super::ephemeral`].

use super::env::env;
use super::ephemeral;
use super::mounts::mounts;
use super::ports::{HostPorts, ports};
use super::probes::{hooks, probes};
use super::problem::{At, Problems};
use super::resources::resources;
use super::security::container_security;
use super::spec::name;
use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, PodSpec};
use std::collections::BTreeSet;

/// What a container is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It runs as long as the pod.
    App,
    /// The same, from before the others on.
    Sidecar,
    /// It ends before the others begin.
    Init,
}

/// Most rules of one container, and most exit codes of one rule.
const MOST_RULES: usize = 20;
const MOST_CODES: usize = 255;

/// The containers of a pod.
pub(super) fn containers(problems: &mut Problems, at: &At, spec: &PodSpec) {
    if spec.containers.is_empty() {
        problems.required(&at.field("containers"), "a pod has at least one container");
    }
    let (mut names, mut host_ports) = (BTreeSet::new(), HostPorts::default());
    let init = at.field("initContainers");
    for (at, container) in init.each_of(&spec.init_containers) {
        let always = container.restart_policy.as_deref() == Some("Always");
        let role = if always { Role::Sidecar } else { Role::Init };
        // One that ends before the others begin leaves them its ports.
        let mut own = HostPorts::default();
        let taken = if always { &mut host_ports } else { &mut own };
        one(problems, &at, container, role);
        on_pod(problems, &at, spec, container, taken);
        unique(problems, &at, container, &mut names);
    }
    for (at, container) in at.field("containers").each(&spec.containers) {
        one(problems, &at, container, Role::App);
        on_pod(problems, &at, spec, container, &mut host_ports);
        unique(problems, &at, container, &mut names);
    }
    ephemeral::containers(problems, at, spec, names);
}

fn unique<'a>(
    problems: &mut Problems,
    at: &At,
    container: &'a Container,
    names: &mut BTreeSet<&'a str>,
) {
    if !names.insert(&container.name) {
        problems.duplicate(&at.field("name"), &container.name);
    }
}

/// What depends on the rest of the pod.
pub(super) fn on_pod(
    problems: &mut Problems,
    at: &At,
    spec: &PodSpec,
    container: &Container,
    taken: &mut HostPorts,
) {
    ports(problems, &at.field("ports"), container, spec, taken);
    mounts(problems, &at.field("volumeMounts"), container, spec);
    container_security(problems, &at.field("securityContext"), container, spec);
}

/// What a container is on its own.
pub(super) fn one(problems: &mut Problems, at: &At, container: &Container, role: Role) {
    name(problems, &at.field("name"), &container.name);
    image(problems, &at.field("image"), container.image.as_deref().unwrap_or_default());
    let policies = ["Always", "IfNotPresent", "Never"];
    let policy = container.image_pull_policy.as_deref();
    problems.one_of(&at.field("imagePullPolicy"), policy, &policies);
    let policies = ["File", "FallbackToLogsOnError"];
    let policy = container.termination_message_policy.as_deref();
    problems.one_of(&at.field("terminationMessagePolicy"), policy, &policies);
    restarts(problems, at, container);
    env(problems, at, container);
    resources(problems, &at.field("resources"), container.resources.as_ref());
    resize(problems, at, container);
    probes(problems, at, container, role);
    hooks(problems, &at.field("lifecycle"), container, role);
    if container.volume_devices.as_ref().is_some_and(|devices| !devices.is_empty()) {
        let why = "block devices come from persistent volumes, which need an API server";
        problems.forbidden(&at.field("volumeDevices"), why);
    }
}

fn image(problems: &mut Problems, at: &At, image: &str) {
    if image.is_empty() {
        problems.required(at, "a container has an image");
    } else if image.contains(char::is_whitespace) {
        problems.invalid(at, image, "must not contain white space");
    }
}

fn resize(problems: &mut Problems, at: &At, container: &Container) {
    let mut names = BTreeSet::new();
    for (at, policy) in at.field("resizePolicy").each_of(&container.resize_policy) {
        let (name, way) = (policy.resource_name.as_str(), policy.restart_policy.as_str());
        problems.one_of(&at.field("resourceName"), Some(name), &["cpu", "memory"]);
        problems.one_of(
            &at.field("restartPolicy"),
            Some(way),
            &["NotRequired", "RestartContainer"],
        );
        if !names.insert(name) {
            problems.duplicate(&at.field("resourceName"), name);
        }
    }
}

fn restarts(problems: &mut Problems, at: &At, container: &Container) {
    let policy = container.restart_policy.as_deref();
    problems.one_of(&at.field("restartPolicy"), policy, &["Always", "OnFailure", "Never"]);
    let rules = container.restart_policy_rules.as_deref().unwrap_or_default();
    if !rules.is_empty() && policy.is_none() {
        let why = "restartPolicyRules say when to depart from it";
        problems.required(&at.field("restartPolicy"), why);
    }
    let at = at.field("restartPolicyRules");
    if rules.len() > MOST_RULES {
        problems.invalid(&at, rules.len(), format_args!("must be no more than {MOST_RULES} rules"));
    }
    for (at, rule) in at.each(rules) {
        rule_of_codes(problems, &at, rule);
    }
}

fn rule_of_codes(problems: &mut Problems, at: &At, rule: &ContainerRestartRule) {
    problems.one_of(&at.field("action"), Some(&rule.action), &["Restart"]);
    let at = at.field("exitCodes");
    let Some(codes) = &rule.exit_codes else {
        return problems.required(&at, "a rule is about exit codes");
    };
    problems.one_of(&at.field("operator"), Some(&codes.operator), &["In", "NotIn"]);
    let values = codes.values.as_deref().unwrap_or_default();
    match values.len() {
        0 => problems.required(&at.field("values"), "a rule names at least one exit code"),
        1..=MOST_CODES => {}
        more => {
            let why = format_args!("must be no more than {MOST_CODES} exit codes");
            problems.invalid(&at.field("values"), more, why);
        }
    }
    let mut seen = BTreeSet::new();
    for (at, value) in at.field("values").each(values) {
        if !seen.insert(value) {
            problems.duplicate(&at, value);
        }
    }
}
