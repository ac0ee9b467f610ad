use super::*;
use crate::kubelet::backoff::CAP;
use serde_json::{Value, json};
use std::time::UNIX_EPOCH;

#[path = "plan_world.rs"]
mod world;

use world::{World, at};

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "spec": spec})).unwrap()
}

/// What a plan says in few words.
fn words(plan: &Plan) -> Vec<String> {
    let mut words = Vec::new();
    words.extend(plan.rebuild.map(|why| format!("rebuild: {why}")));
    words.extend(plan.kill.iter().map(|kill| format!("kill {}: {}", kill.name, kill.why)));
    words.extend(plan.sandbox.map(|attempt| format!("sandbox {attempt}")));
    words.extend(plan.start.iter().map(|start| format!("start {}#{}", start.name, start.restarts)));
    words.extend(
        plan.held.iter().map(|(name, held)| format!("{name} waits {} s", held.delay.as_secs())),
    );
    words.extend(plan.finished.then(|| "finished".to_owned()));
    words
}

fn names(names: &[&str]) -> Value {
    names.iter().map(|name| json!({ "name": name })).collect()
}

#[test]
fn a_new_pod_gets_a_sandbox_and_then_its_containers_in_order() {
    let mut world = World::new(pod(json!({"containers": names(&["b", "a"])})));
    assert_eq!(words(&world.plan()), ["sandbox 0"]);
    world.step();
    assert_eq!(words(&world.plan()), ["start b#0", "start a#0"]);
    world.step();
    assert_eq!(words(&world.plan()), Vec::<String>::new());
}

#[test]
fn init_containers_run_one_after_the_other() {
    let spec = json!({"initContainers": names(&["i", "j"]), "containers": names(&["a"])});
    let mut world = World::new(pod(spec));
    world.settle();
    assert_eq!(world.running(), ["i"]);
    world.exit("i", 0);
    world.settle();
    assert_eq!(world.running(), ["j"]);
    world.exit("j", 1);
    world.settle();
    assert_eq!(world.running(), ["j"], "it failed and is tried again");
    assert_eq!(world.count("j"), 1);
    world.exit("j", 0);
    world.settle();
    assert_eq!(world.running(), ["a"]);
    // An app that ends does not bring them back.
    world.exit("a", 1);
    world.settle();
    assert_eq!((world.running(), world.count("i")), (vec!["a"], 0));
}

#[test]
fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    let spec = json!({"restartPolicy": "Never", "initContainers": names(&["i"]),
        "containers": names(&["a"])});
    let mut world = World::new(pod(spec));
    world.settle();
    world.exit("i", 3);
    assert_eq!(words(&world.plan()), ["finished"]);
}

#[test]
fn a_sidecar_lets_the_next_begin_when_it_has_started() {
    let sidecar = json!({"name": "s", "restartPolicy": "Always"});
    let spec = json!({"initContainers": [sidecar, {"name": "i"}], "containers": names(&["a"])});
    let mut world = World::new(pod(spec));
    world.unstarted("s");
    world.settle();
    assert_eq!(world.running(), ["s"]);
    world.has_started("s");
    world.settle();
    assert_eq!(world.running(), ["i", "s"]);
    // Once begun, the others do not wait for it again.
    world.exit("s", 1);
    world.exit("i", 0);
    world.settle();
    assert_eq!(world.running(), ["a", "s"]);
    assert_eq!(world.count("s"), 1);
}

#[test]
fn sidecars_restart_under_never_and_end_with_the_apps() {
    let sidecar = json!({"name": "s", "restartPolicy": "Always"});
    let spec = json!({"restartPolicy": "Never", "initContainers": [sidecar],
        "containers": names(&["a"])});
    let mut world = World::new(pod(spec));
    world.settle();
    world.exit("s", 1);
    world.settle();
    assert_eq!(world.running(), ["a", "s"]);
    world.exit("a", 0);
    assert_eq!(words(&world.plan()), ["finished"]);
}

#[test]
fn policies_decide_what_is_restarted() {
    let rules = json!([
        {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}},
    ]);
    for (name, policy, container, code, again) in [
        ("always, well", "Always", json!({}), 0, true),
        ("on failure, well", "OnFailure", json!({}), 0, false),
        ("on failure, badly", "OnFailure", json!({}), 1, true),
        ("never", "Never", json!({}), 1, false),
        ("a container's own", "Always", json!({"restartPolicy": "Never"}), 1, false),
        ("a container's own always", "Never", json!({"restartPolicy": "Always"}), 0, true),
        (
            "a rule for the code",
            "Never",
            json!({"restartPolicy": "Never", "restartPolicyRules": rules.clone()}),
            42,
            true,
        ),
        (
            "a rule for another code",
            "Never",
            json!({"restartPolicy": "Never", "restartPolicyRules": rules}),
            1,
            false,
        ),
    ] {
        let mut container = container;
        container["name"] = json!("a");
        let mut world =
            World::new(pod(json!({"restartPolicy": policy, "containers": [container]})));
        world.settle();
        world.exit("a", code);
        let expected = if again { vec!["start a#1"] } else { vec!["finished"] };
        assert_eq!(words(&world.plan()), expected, "{name}");
    }
}

#[test]
fn crashes_wait_longer_each_time() {
    let mut world = World::new(pod(json!({"containers": names(&["a"])})));
    world.settle();
    let mut delays = Vec::new();
    for _ in 0..5 {
        world.exit("a", 1);
        let plan = world.plan();
        delays.push(plan.held.get("a").map_or(0, |held| held.delay.as_secs()));
        world.now = plan.wake().unwrap_or(world.now);
        world.settle();
    }
    assert_eq!(delays, [0, 10, 20, 40, 80]);
    assert_eq!(world.count("a"), 5);
}

#[test]
fn who_fails_a_probe_is_killed_and_then_restarted_by_policy() {
    for (policy, after) in
        [("Always", "start a#1"), ("OnFailure", "start a#1"), ("Never", "finished")]
    {
        let spec = json!({"restartPolicy": policy, "containers": names(&["a"])});
        let mut world = World::new(pod(spec));
        world.settle();
        world.fail_probe("a");
        assert_eq!(words(&world.plan()), ["kill a: it failed its liveness probe"]);
        world.kill_exit_code = 0;
        world.step();
        assert_eq!(words(&world.plan()), [after], "{policy}, whatever its exit code");
    }
}

#[test]
fn another_specification_is_another_container_under_any_policy() {
    let spec = |image: &str| json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": image}]});
    let mut world = World::new(pod(spec("x")));
    world.settle();
    world.pod = pod(spec("y"));
    assert_eq!(words(&world.plan()), ["kill a: its specification has changed", "start a#1"]);
}

#[test]
fn a_sandbox_that_ended_takes_all_with_it_and_init_runs_again() {
    let spec = json!({"initContainers": names(&["i"]), "containers": names(&["a", "b"])});
    let mut world = World::new(pod(spec));
    world.settle();
    world.exit("i", 0);
    world.settle();
    world.observed.sandboxes[0].ready = false;
    assert_eq!(words(&world.plan()), ["rebuild: its sandbox has ended", "sandbox 1"]);
    world.step();
    world.now += CAP;
    world.settle();
    assert_eq!(world.running(), ["i"]);
    world.exit("i", 0);
    world.settle();
    assert_eq!((world.running(), world.count("a")), (vec!["a", "b"], 1));
}

#[test]
fn sandboxes_that_will_not_do_are_replaced() {
    type Spoil = fn(&mut World);
    let rows: [(&str, Spoil); 3] = [
        ("its network is another", |world| world.observed.sandboxes[0].host_network = true),
        ("its sandbox has no address", |world| world.observed.sandboxes[0].ips.clear()),
        ("it has several sandboxes", |world| {
            let mut older = world.observed.sandboxes[0].clone();
            older.id = "older".to_owned();
            world.observed.sandboxes.push(older);
        }),
    ];
    for (why, spoil) in rows {
        let mut world = World::new(pod(json!({"containers": names(&["a"])})));
        world.settle();
        spoil(&mut world);
        assert_eq!(words(&world.plan()), [format!("rebuild: {why}"), "sandbox 1".to_owned()]);
    }
}

#[test]
fn a_finished_pod_gets_no_new_sandbox() {
    let spec = json!({"restartPolicy": "OnFailure", "containers": names(&["a"])});
    let mut world = World::new(pod(spec));
    world.settle();
    world.exit("a", 0);
    world.observed.sandboxes[0].ready = false;
    assert_eq!(words(&world.plan()), ["finished"]);
}

#[test]
fn a_start_that_was_cut_off_is_no_restart() {
    let mut world = World::new(pod(json!({"containers": names(&["a"])})));
    world.settle();
    world.observed.instances[0].state = InstanceState::Created;
    let plan = world.plan();
    assert_eq!(words(&plan), ["start a#0"]);
    assert!(plan.start[0].remove.is_some(), "its name is to be free");
}

#[test]
fn an_unknown_state_is_killed_before_it_is_restarted() {
    let mut world = World::new(pod(json!({"containers": names(&["a"])})));
    world.settle();
    world.observed.instances[0].state = InstanceState::Unknown;
    assert_eq!(words(&world.plan()), ["kill a: its state is unknown", "start a#1"]);
}

#[test]
fn restarts_go_on_from_what_was_known_when_the_runtime_forgot() {
    let mut world = World::new(pod(json!({"containers": names(&["a"])})));
    world.counts = BTreeMap::from([("a".to_owned(), 6)]);
    world.step();
    assert_eq!(words(&world.plan()), ["start a#7"]);
    assert_eq!(at(1), UNIX_EPOCH + Duration::from_secs(1_000_001));
}

#[test]
fn an_ephemeral_container_begins_at_once_and_only_once() {
    let spec = json!({"initContainers": names(&["i"]), "containers": names(&["a"])});
    let mut world = World::new(pod(spec));
    world.settle();
    world.add(&["e"]);
    assert_eq!(words(&world.plan()), ["start e#0"], "though the pod is not initialized");
    world.settle();
    assert_eq!(world.running(), ["e", "i"]);
    world.exit("e", 1);
    assert_eq!(
        words(&world.plan()),
        Vec::<String>::new(),
        "it is not restarted, whatever its code"
    );
    // Nor when the runtime has forgotten it.
    world.observed.instances.retain(|instance| instance.name != "e");
    world.counts.insert("e".to_owned(), 0);
    assert_eq!(words(&world.plan()), Vec::<String>::new());
}

#[test]
fn an_ephemeral_container_that_is_named_no_more_ends_and_the_pod_ends_without_it() {
    let spec = json!({"restartPolicy": "Never", "containers": names(&["a"])});
    let mut world = World::new(pod(spec));
    world.add(&["e", "f"]);
    world.settle();
    assert_eq!(world.running(), ["a", "e", "f"]);
    world.add(&["f"]);
    assert_eq!(words(&world.plan()), ["kill e: the pod has it no more"]);
    world.settle();
    assert_eq!(world.running(), ["a", "f"]);
    world.exit("a", 0);
    assert_eq!(words(&world.plan()), ["finished"]);
}
