//! Requests and limits, of containers and of the pod.

use super::super::defaults::aggregate;
use super::names::qualified_name;
use super::problem::{At, Problems};
use crate::kubelet::quantity::{HUGE_PAGES, ResourceList, milli, page_bytes};
use crate::quantity::parse_milli;
use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A quantity in thousandths; what is wrong with it is told.
pub(super) fn quantity(problems: &mut Problems, at: &At, quantity: &Quantity) -> Option<u64> {
    // An amount of bytes may be too large for thousandths, and is none that a node has.
    parse_milli(&quantity.0).map_err(|why| problems.invalid(at, &quantity.0, why)).ok()
}

/// What a container requests and may use.
pub(super) fn resources(problems: &mut Problems, at: &At, of: Option<&ResourceRequirements>) {
    let Some(of) = of else { return };
    if of.claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        let why = "claims of devices need an API server, which a static pod does not have";
        problems.forbidden(&at.field("claims"), why);
    }
    each_list(problems, at, of, known);
    let lists = [&of.limits, &of.requests];
    let names: Vec<&String> = lists.into_iter().flatten().flat_map(ResourceList::keys).collect();
    let plain = names.iter().any(|name| *name == "cpu" || *name == "memory");
    if !plain && names.iter().any(|name| name.starts_with(HUGE_PAGES)) {
        problems.forbidden(at, "huge pages come with a request of cpu or memory");
    }
}

fn each_list(
    problems: &mut Problems,
    at: &At,
    of: &ResourceRequirements,
    known: fn(&str) -> Result<(), &'static str>,
) {
    let (limits, requests) = (at.field("limits"), at.field("requests"));
    for (at, list) in [(&limits, &of.limits), (&requests, &of.requests)] {
        for (name, amount) in list.iter().flatten() {
            problems.check(at, name, known(name));
            if let Some(milli) = quantity(problems, &at.key(name), amount)
                && !in_parts(name)
                && milli % 1000 != 0
            {
                problems.invalid(&at.key(name), &amount.0, "must be a whole number");
            }
            page_size(problems, at, name);
        }
    }
    for (name, request) in of.requests.iter().flatten() {
        let limit = of.limits.as_ref().and_then(|limits| limits.get(name));
        let at = requests.key(name);
        let overcommits = ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str());
        match (milli(request), limit.map(|limit| (limit, milli(limit)))) {
            (Some(request), Some((limit, Some(most)))) if request > most => {
                problems.invalid(
                    &at,
                    request_text(of, name),
                    format_args!("must be at most the limit, {}", limit.0),
                );
            }
            (Some(request), Some((limit, Some(most)))) if !overcommits && request != most => {
                problems.invalid(
                    &at,
                    request_text(of, name),
                    format_args!("must be the limit, {}", limit.0),
                );
            }
            (Some(_), None) if !overcommits => {
                problems.required(&limits.key(name), "this resource is requested with its limit");
            }
            _ => {}
        }
    }
}

fn request_text<'a>(of: &'a ResourceRequirements, name: &str) -> &'a str {
    of.requests.as_ref().and_then(|list| list.get(name)).map_or("", |quantity| &quantity.0)
}

/// Whether a part of one is an amount.
fn in_parts(name: &str) -> bool {
    // Bytes are rounded up.
    ["cpu", "memory", "ephemeral-storage"].contains(&name)
}

fn page_size(problems: &mut Problems, at: &At, name: &str) {
    if name.starts_with(HUGE_PAGES) && page_bytes(name).is_none() {
        problems.invalid(at, name, "must end with a page size such as 2Mi");
    }
}

fn known(name: &str) -> Result<(), &'static str> {
    if in_parts(name) || name.starts_with(HUGE_PAGES) {
        return Ok(());
    }
    if !name.contains('/') {
        return Err("is no resource of a container; others have a domain before a '/'");
    }
    qualified_name(name)
}

fn known_of_pods(name: &str) -> Result<(), &'static str> {
    if ["cpu", "memory"].contains(&name) || name.starts_with(HUGE_PAGES) {
        return Ok(());
    }
    Err("is no resource of a pod: cpu, memory and hugepages-SIZE are")
}

/// What a pod requests and may use as a whole: its containers stay within it.
pub(super) fn pod_resources(problems: &mut Problems, at: &At, spec: &PodSpec) {
    let containers = at.field("containers");
    let at = at.field("resources");
    let Some(of) = &spec.resources else { return };
    if of.claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        problems.forbidden(&at.field("claims"), "claims of devices need an API server");
    }
    each_list(problems, &at, of, known_of_pods);
    for name in ["cpu", "memory"] {
        let request = of.requests.as_ref().and_then(|list| list.get(name));
        let together = aggregate(spec, name);
        if let (Some(request), Some(together)) = (request, together)
            && milli(&together) > milli(request)
        {
            let why = format_args!("must be at least what its containers request, {}", together.0);
            problems.invalid(&at.field("requests").key(name), &request.0, why);
        }
        let most = of.limits.as_ref().and_then(|list| list.get(name));
        for (at, container) in containers.each(&spec.containers) {
            let limits = container.resources.as_ref().and_then(|of| of.limits.as_ref());
            let limit = limits.and_then(|limits| limits.get(name));
            if let (Some(limit), Some(most)) = (limit, most)
                && milli(limit) > milli(most)
            {
                let why = format_args!("must be at most the limit of the pod, {}", most.0);
                problems.invalid(&at.field("resources.limits").key(name), &limit.0, why);
            }
        }
    }
}
