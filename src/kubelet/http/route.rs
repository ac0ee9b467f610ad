//! Which answer a path stands for; pure.
//!
//! | path | method |
//! | --- | --- |
//! | `/healthz`, `/healthz/ping`, `/healthz/syncloop` | GET |
//! | `/node`, `/pods`, `/runningpods/`, `/configz`, `/stats/summary` | GET |
//! | `/metrics`, `/metrics/cadvisor`, `/metrics/resource`, `/metrics/probes` | GET |
//! | `/containerLogs/{namespace}/{pod}/{container}` | GET |
//! | `/exec/...`, `/attach/{namespace}/{pod}[/{uid}]/{container}` | GET, POST |
//! | `/portForward/{namespace}/{pod}[/{uid}]` | GET, POST |
//! | `/run/{namespace}/{pod}[/{uid}]/{container}` | POST |

use hyper::Method;

/// A pod as a path names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodPath {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: Option<String>,
}

/// A container as a path names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContainerPath {
    pub(super) pod: PodPath,
    pub(super) name: String,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Ping,
    Health,
    Node,
    Pods,
    RunningPods,
    Configz,
    Summary,
    Metrics,
    Cadvisor,
    Resource,
    Probes,
    Logs(ContainerPath),
    Exec(ContainerPath),
    Attach(ContainerPath),
    PortForward(PodPath),
    Run(ContainerPath),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoute {
    /// 404.
    Path,
    /// 405; these are allowed.
    Method(&'static str),
}

/// Finds the answer to `method` and `path`.
pub(super) fn route(method: &Method, path: &str) -> Result<Route, NoRoute> {
    let route = find(path).ok_or(NoRoute::Path)?;
    let get = matches!(*method, Method::GET | Method::HEAD);
    let post = *method == Method::POST;
    match route {
        Route::Exec(_) | Route::Attach(_) | Route::PortForward(_) => {
            let upgrade = *method == Method::GET || post;
            if upgrade { Ok(route) } else { Err(NoRoute::Method("GET, POST")) }
        }
        Route::Run(_) => {
            if post {
                Ok(route)
            } else {
                Err(NoRoute::Method("POST"))
            }
        }
        _ => {
            if get {
                Ok(route)
            } else {
                Err(NoRoute::Method("GET, HEAD"))
            }
        }
    }
}

fn find(path: &str) -> Option<Route> {
    let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    // A slash at the end says nothing.
    let parts = match parts.as_slice() {
        [rest @ .., ""] => rest,
        all => all,
    };
    if parts.contains(&"") {
        return None;
    }
    Some(match parts {
        ["healthz", "ping"] => Route::Ping,
        ["healthz"] | ["healthz", "syncloop"] => Route::Health,
        ["node"] => Route::Node,
        ["pods"] => Route::Pods,
        ["runningpods"] => Route::RunningPods,
        ["configz"] => Route::Configz,
        ["stats", "summary"] => Route::Summary,
        ["metrics"] => Route::Metrics,
        ["metrics", "cadvisor"] => Route::Cadvisor,
        ["metrics", "resource"] => Route::Resource,
        ["metrics", "probes"] => Route::Probes,
        ["containerLogs", namespace, pod, name] => {
            Route::Logs(container(namespace, pod, None, name))
        }
        ["exec", rest @ ..] => Route::Exec(of_container(rest)?),
        ["attach", rest @ ..] => Route::Attach(of_container(rest)?),
        ["run", rest @ ..] => Route::Run(of_container(rest)?),
        ["portForward", namespace, name] => Route::PortForward(pod(namespace, name, None)),
        ["portForward", namespace, name, uid] => {
            Route::PortForward(pod(namespace, name, Some(uid)))
        }
        _ => return None,
    })
}

fn of_container(parts: &[&str]) -> Option<ContainerPath> {
    match parts {
        [namespace, pod, name] => Some(container(namespace, pod, None, name)),
        [namespace, pod, uid, name] => Some(container(namespace, pod, Some(uid), name)),
        _ => None,
    }
}

fn pod(namespace: &str, name: &str, uid: Option<&str>) -> PodPath {
    let uid = uid.map(str::to_owned);
    PodPath { namespace: namespace.to_owned(), name: name.to_owned(), uid }
}

fn container(namespace: &str, name: &str, uid: Option<&str>, container: &str) -> ContainerPath {
    ContainerPath { pod: pod(namespace, name, uid), name: container.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_its_answer_and_its_methods() {
        let uid = Some("u");
        let rows = [
            ("GET", "/healthz", Ok(Route::Health)),
            ("GET", "/healthz/ping", Ok(Route::Ping)),
            ("HEAD", "/healthz/syncloop", Ok(Route::Health)),
            ("GET", "/node", Ok(Route::Node)),
            ("POST", "/node", Err(NoRoute::Method("GET, HEAD"))),
            ("GET", "/pods", Ok(Route::Pods)),
            ("GET", "/pods/", Ok(Route::Pods)),
            ("POST", "/pods", Err(NoRoute::Method("GET, HEAD"))),
            ("GET", "/runningpods/", Ok(Route::RunningPods)),
            ("GET", "/configz", Ok(Route::Configz)),
            ("GET", "/stats/summary", Ok(Route::Summary)),
            ("GET", "/stats", Err(NoRoute::Path)),
            ("GET", "/metrics", Ok(Route::Metrics)),
            ("GET", "/metrics/cadvisor", Ok(Route::Cadvisor)),
            ("GET", "/metrics/resource", Ok(Route::Resource)),
            ("GET", "/metrics/probes", Ok(Route::Probes)),
            ("GET", "/metrics/other", Err(NoRoute::Path)),
            ("GET", "/containerLogs/n/p/c", Ok(Route::Logs(container("n", "p", None, "c")))),
            ("GET", "/containerLogs/n/p", Err(NoRoute::Path)),
            ("GET", "/containerLogs/n//c", Err(NoRoute::Path)),
            ("GET", "/exec/n/p/c", Ok(Route::Exec(container("n", "p", None, "c")))),
            ("POST", "/exec/n/p/u/c", Ok(Route::Exec(container("n", "p", uid, "c")))),
            ("PUT", "/exec/n/p/c", Err(NoRoute::Method("GET, POST"))),
            ("HEAD", "/exec/n/p/c", Err(NoRoute::Method("GET, POST"))),
            ("POST", "/attach/n/p/u/c", Ok(Route::Attach(container("n", "p", uid, "c")))),
            ("GET", "/portForward/n/p", Ok(Route::PortForward(pod("n", "p", None)))),
            ("POST", "/portForward/n/p/u", Ok(Route::PortForward(pod("n", "p", uid)))),
            ("POST", "/run/n/p/c", Ok(Route::Run(container("n", "p", None, "c")))),
            ("GET", "/run/n/p/c", Err(NoRoute::Method("POST"))),
            ("GET", "/Exec/n/p/c", Err(NoRoute::Path)),
            ("GET", "/", Err(NoRoute::Path)),
            ("GET", "pods", Err(NoRoute::Path)),
            ("GET", "//pods", Err(NoRoute::Path)),
        ];
        for (method, path, expected) in rows {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(route(&method, path), expected, "{method} {path}");
        }
    }
}
