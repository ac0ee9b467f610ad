use super::*;
use serde_json::{Value, json};

fn pod(pod: Value, container: Value) -> Pod {
    serde_json::from_value(json!({"spec": {"securityContext": pod,
        "containers": [{"name": "c", "image": "i:1", "securityContext": container}]}}))
    .unwrap()
}

fn only(pod: &Pod) -> &Container {
    &pod.spec.as_ref().unwrap().containers[0]
}

fn image(uid: Option<i64>, name: &str) -> ImageUser {
    ImageUser { uid, name: name.to_owned() }
}

fn input(seccomp_default: bool) -> SecurityInput<'static> {
    SecurityInput { profiles: Path::new("/profiles"), seccomp_default, userns: None }
}

fn security(pod: &Pod) -> cri::LinuxContainerSecurityContext {
    let user = user_of(pod, only(pod), &image(Some(7), "")).unwrap();
    container_security(pod, only(pod), &user, &input(false))
}

#[test]
fn a_user_is_the_containers_the_pods_or_the_images() {
    let own = json!({"runAsUser": 1});
    for (name, pod_context, container, of_image, expected) in [
        ("container", json!({"runAsUser": 2}), own, image(Some(3), ""), image(Some(1), "")),
        ("pod", json!({"runAsUser": 2}), json!({}), image(Some(3), ""), image(Some(2), "")),
        ("image", json!({}), json!({}), image(Some(3), ""), image(Some(3), "")),
        ("image by name", json!({}), json!({}), image(None, "web"), image(None, "web")),
    ] {
        let pod = pod(pod_context, container);
        assert_eq!(user_of(&pod, only(&pod), &of_image).unwrap(), expected, "{name}");
    }
}

#[test]
fn who_must_not_be_root_is_refused_when_it_may_be() {
    let non_root = json!({"runAsNonRoot": true});
    for (name, container, of_image, expected) in [
        ("by its specification", json!({"runAsUser": 0}), image(Some(3), ""), "own specification"),
        ("by its image", json!({}), image(Some(0), ""), "will run as root"),
        ("by an image without a user", json!({}), image(None, ""), "will run as root"),
        ("by a name", json!({}), image(None, "web"), "cannot verify"),
    ] {
        let pod = pod(non_root.clone(), container);
        let error = user_of(&pod, only(&pod), &of_image).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
    let allowed = pod(non_root.clone(), json!({}));
    assert!(user_of(&allowed, only(&allowed), &image(Some(3), "")).is_ok());
    let overridden = pod(non_root, json!({"runAsNonRoot": false}));
    assert!(user_of(&overridden, only(&overridden), &image(Some(0), "")).is_ok());
}

#[test]
fn the_container_goes_before_the_pod() {
    let of_pod = json!({
        "seccompProfile": {"type": "RuntimeDefault"}, "runAsGroup": 5, "fsGroup": 9,
        "supplementalGroups": [8], "supplementalGroupsPolicy": "Strict",
    });
    let found = security(&pod(of_pod.clone(), json!({})));
    let profile = found.seccomp.unwrap();
    assert_eq!(profile.profile_type(), cri::security_profile::ProfileType::RuntimeDefault);
    assert_eq!(found.run_as_group.unwrap().value, 5);
    assert_eq!(found.supplemental_groups, [8, 9]);
    assert_eq!(found.supplemental_groups_policy, i32::from(cri::SupplementalGroupsPolicy::Strict));
    let own = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"},
        "runAsGroup": 6, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
        "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}});
    let found = security(&pod(of_pod, own));
    let profile = found.seccomp.unwrap();
    assert_eq!(profile.localhost_ref, "/profiles/a/b.json");
    assert_eq!(found.run_as_group.unwrap().value, 6);
    assert!(found.readonly_rootfs && found.no_new_privs);
    let capabilities = found.capabilities.unwrap();
    assert_eq!(
        (capabilities.add_capabilities, capabilities.drop_capabilities),
        (vec!["NET_ADMIN".to_owned()], vec!["ALL".to_owned()])
    );
}

#[test]
fn a_privileged_container_hides_nothing_and_is_confined_by_nothing() {
    let of_pod = json!({"seccompProfile": {"type": "RuntimeDefault"}});
    let found = security(&pod(of_pod.clone(), json!({"privileged": true})));
    assert!(found.privileged && found.seccomp.is_none());
    assert!(found.masked_paths.is_empty() && found.readonly_paths.is_empty());
    let found = security(&pod(of_pod, json!({})));
    assert!(found.masked_paths.contains(&"/proc/kcore".to_owned()));
    let found = security(&pod(json!({}), json!({"procMount": "Unmasked"})));
    assert!(found.masked_paths.is_empty() && !found.privileged);
}

#[test]
fn pod_and_container_agree_on_namespaces() {
    use cri::NamespaceMode::{Container as Own, Node, Pod as Shared};
    for (spec, expected) in [
        (json!({}), [Shared, Own, Shared]),
        (json!({"shareProcessNamespace": true}), [Shared, Shared, Shared]),
        (json!({"hostPID": true}), [Shared, Node, Shared]),
        (json!({"hostNetwork": true}), [Node, Own, Shared]),
        (json!({"hostIPC": true}), [Shared, Own, Node]),
    ] {
        let mut all = spec.clone();
        all["containers"] = json!([]);
        let pod: Pod = serde_json::from_value(json!({ "spec": all })).unwrap();
        let options = namespaces(&pod, None);
        assert_eq!([options.network(), options.pid(), options.ipc()], expected, "{spec}");
    }
}

#[test]
fn who_says_nothing_of_seccomp_has_the_nodes_choice() {
    use cri::security_profile::ProfileType;
    let kind = |pod: &Pod, by_default| {
        let user = ImageUser::default();
        let made = container_security(pod, only(pod), &user, &input(by_default));
        made.seccomp.map(|profile| profile.profile_type())
    };
    let unconfined = json!({"seccompProfile": {"type": "Unconfined"}});
    for (name, of_pod, of_container, by_default, expected) in [
        ("off", json!({}), json!({}), false, None),
        ("on", json!({}), json!({}), true, Some(ProfileType::RuntimeDefault)),
        ("asked", json!({}), unconfined.clone(), true, Some(ProfileType::Unconfined)),
        ("of the pod", unconfined, json!({}), true, Some(ProfileType::Unconfined)),
        ("privileged", json!({}), json!({"privileged": true}), true, None),
    ] {
        assert_eq!(kind(&pod(of_pod, of_container), by_default), expected, "{name}");
    }
}

#[test]
fn pod_and_container_agree_on_the_pods_ids() {
    let ids = crate::kubelet::userns::namespace(3);
    let input = SecurityInput { userns: Some(&ids), ..input(false) };
    let pod = pod(json!({}), json!({}));
    let user = ImageUser::default();
    let container = container_security(&pod, only(&pod), &user, &input).namespace_options;
    assert_eq!(container, sandbox_security(&pod, &input).namespace_options);
    let told = container.unwrap().userns_options.unwrap();
    assert_eq!((told.uids[0].host_id, told.uids[0].length), (3 * 65_536, 65_536));
}
