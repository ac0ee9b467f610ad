//! The name of a pod; pure.

use crate::error::{ErrorKind, kinded};
use crate::kubelet::spec;
use k8s_openapi::api::core::v1::Pod;

/// A label of DNS, bytes.
const LABEL_MAX: usize = 63;
/// HOST_NAME_MAX of the kernel, bytes.
const KERNEL_MAX: usize = 64;

/// How a pod is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodHostname {
    /// Its short name.
    pub hostname: String,
    /// The domain that it is in, where it has a subdomain: `web.shop.svc.cluster.local`.
    pub domain: Option<String>,
    /// What the kernel calls it (uname(2)): the short name, or with `setHostnameAsFQDN` the full one.
    pub kernel: String,
}

/// A name that the kernel cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostnameError {
    /// The full name, with `setHostnameAsFQDN`.
    #[error("setHostnameAsFQDN: {fqdn:?} has {} bytes, and a hostname at most 64", fqdn.len())]
    TooLong {
        /// The name.
        fqdn: String,
    },
    /// `hostnameOverride`.
    #[error("hostnameOverride: {name:?} has {} bytes, and a hostname at most 64", name.len())]
    Override {
        /// The name.
        name: String,
    },
}

impl HostnameError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

kinded!(HostnameError);

/// The names of a pod in a cluster of that domain; an empty one counts as none.
///
/// # Errors
/// A name that the kernel cannot have.
pub fn pod_hostname(pod: &Pod, cluster_domain: &str) -> Result<PodHostname, HostnameError> {
    let spec = pod.spec.as_ref();
    let given = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned();
    if let Some(name) = given(spec.and_then(|spec| spec.hostname_override.as_ref())) {
        return match name.len() <= KERNEL_MAX {
            true => Ok(PodHostname { hostname: name.clone(), domain: None, kernel: name }),
            false => Err(HostnameError::Override { name }),
        };
    }
    let hostname = match given(spec.and_then(|spec| spec.hostname.as_ref())) {
        Some(hostname) => hostname,
        None => shortened(pod.metadata.name.as_deref().unwrap_or_default()),
    };
    let namespace = spec::namespace(pod);
    let subdomain = given(spec.and_then(|spec| spec.subdomain.as_ref()));
    let domain = subdomain.map(|subdomain| {
        let parts = [&subdomain, namespace, "svc", cluster_domain];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
    });
    let full = spec.and_then(|spec| spec.set_hostname_as_fqdn) == Some(true);
    let kernel = match &domain {
        Some(domain) if full => format!("{hostname}.{domain}"),
        _ => hostname.clone(),
    };
    if kernel.len() > KERNEL_MAX {
        return Err(HostnameError::TooLong { fqdn: kernel });
    }
    Ok(PodHostname { hostname, domain, kernel })
}

/// A pod's name as a label of DNS, which does not end in a dash or a dot.
fn shortened(name: &str) -> String {
    if name.len() <= LABEL_MAX {
        return name.to_owned();
    }
    let mut end = LABEL_MAX;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let (short, _) = name.split_at(end);
    short.trim_end_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn named(name: &str, spec: Value) -> Result<PodHostname, HostnameError> {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let pod = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
        pod_hostname(&from_value(pod).unwrap(), "cluster.local")
    }

    #[test]
    fn the_names_follow_the_spec() {
        let full = json!({"hostname": "h", "subdomain": "web", "setHostnameAsFQDN": true});
        let domain = Some("web.shop.svc.cluster.local");
        let rows = [
            ("the pod's name", json!({}), "p", None, "p"),
            ("its own", json!({"hostname": "h"}), "h", None, "h"),
            ("with a subdomain", json!({"subdomain": "web"}), "p", domain, "p"),
            ("as the full name", full, "h", domain, "h.web.shop.svc.cluster.local"),
            ("full without a subdomain", json!({"setHostnameAsFQDN": true}), "p", None, "p"),
            (
                "overridden",
                json!({"hostname": "h", "subdomain": "web", "hostnameOverride": "x.y"}),
                "x.y",
                None,
                "x.y",
            ),
        ];
        for (row, spec, hostname, domain, kernel) in rows {
            let made = named("p", spec).unwrap();
            let domain = domain.map(str::to_owned);
            let expected = PodHostname { hostname: hostname.into(), domain, kernel: kernel.into() };
            assert_eq!(made, expected, "{row}");
        }
    }

    #[test]
    fn a_long_name_is_cut_where_a_label_may_end() {
        let cut = format!("{}-.-{}", "a".repeat(60), "b".repeat(20));
        assert_eq!(named(&cut, json!({})).unwrap().hostname, "a".repeat(60));
        let exact = "a".repeat(63);
        assert_eq!(named(&exact, json!({})).unwrap().hostname, exact);
    }

    #[test]
    fn a_full_name_of_more_than_64_bytes_is_refused() {
        let spec = |hostname: usize| json!({"hostname": "h".repeat(hostname), "subdomain": "web", "setHostnameAsFQDN": true});
        // ".web.shop.svc.cluster.local" has 27 bytes.
        assert_eq!(named("p", spec(37)).unwrap().kernel.len(), 64);
        let error = named("p", spec(38)).unwrap_err();
        assert!(error.to_string().contains("65 bytes"), "{error}");
        let error = named("p", json!({"hostnameOverride": "x".repeat(65)})).unwrap_err();
        assert!(matches!(error, HostnameError::Override { .. }), "{error}");
    }
}
