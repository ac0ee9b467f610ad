//! A runtime and its clock, as far as plans can tell: plans are carried out on it, containers end when told.

use super::super::*;
use crate::kubelet::backoff::CAP;
use crate::kubelet::ephemeral::named;
use crate::kubelet::observed::{Exit, Instance, Sandbox};
use proptest::prelude::*;
use serde_json::json;
use std::time::UNIX_EPOCH;

/// So many seconds after the beginning.
pub(super) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

pub(super) struct World {
    pub(super) pod: Pod,
    pub(super) observed: Observed,
    pub(super) now: SystemTime,
    pub(super) counts: BTreeMap<String, u32>,
    /// How a container ends that is killed.
    pub(super) kill_exit_code: i32,
    health: Health,
    backoff: Backoff,
    unstarted: BTreeSet<String>,
    made: u64,
}

impl World {
    pub(super) fn new(pod: Pod) -> Self {
        Self {
            pod,
            observed: Observed::default(),
            now: at(0),
            counts: BTreeMap::new(),
            kill_exit_code: 137,
            health: Health::default(),
            backoff: Backoff::new(CAP),
            unstarted: BTreeSet::new(),
            made: 0,
        }
    }

    pub(super) fn plan(&mut self) -> Plan {
        let running = self.observed.instances.iter().filter(|i| i.running().is_some());
        self.health.started = running
            .map(|instance| instance.name.clone())
            .filter(|name| !self.unstarted.contains(name))
            .collect();
        plan(&Input {
            pod: &self.pod,
            observed: &self.observed,
            health: &self.health,
            backoff: &self.backoff,
            counts: &self.counts,
            now: self.now,
        })
    }

    /// Carries out one plan; whether there was anything to do.
    pub(super) fn step(&mut self) -> bool {
        let plan = self.plan();
        if plan.finished {
            self.end_all();
            return false;
        }
        if plan.rebuild.is_some() {
            self.end_all();
            self.observed.sandboxes.iter_mut().for_each(|sandbox| sandbox.ready = false);
        }
        for kill in &plan.kill {
            if kill.by_probe {
                self.health.killed.insert(kill.id.clone());
            }
            self.health.failed.remove(&kill.name);
            let code = self.kill_exit_code;
            self.end(&kill.id, code);
        }
        if let Some(attempt) = plan.sandbox {
            self.made += 1;
            let sandbox = Sandbox {
                id: format!("s{attempt}"),
                attempt,
                ready: true,
                created: self.now + Duration::from_nanos(self.made),
                host_network: host_network(&self.pod),
                ips: vec!["10.0.0.2".parse().unwrap()],
            };
            self.observed.sandboxes.insert(0, sandbox);
        }
        for start in &plan.start {
            self.start(start);
        }
        !plan.is_idle()
    }

    fn start(&mut self, start: &Start) {
        let named = named(&self.pod, &start.name).unwrap();
        let member = named.member();
        if let Some(exit) = self.observed.latest(&start.name).and_then(Instance::exit) {
            self.backoff.step(&backoff_key(&self.pod, member), exit.finished, self.now);
        }
        self.observed.instances.retain(|i| Some(&i.id) != start.remove.as_ref());
        self.made += 1;
        let created = self.now + Duration::from_nanos(self.made);
        let instance = Instance {
            id: format!("c{}", self.made),
            name: start.name.clone(),
            sandbox: self.observed.sandbox().unwrap().id.clone(),
            restarts: start.restarts,
            hash: container_hash(member.container),
            image: String::new(),
            image_ref: String::new(),
            created,
            log_path: String::new(),
            message_file: None,
            state: InstanceState::Running { started: created },
        };
        self.observed.instances.insert(0, instance);
    }

    /// Carries out plans until there is nothing to do.
    pub(super) fn settle(&mut self) {
        for _ in 0..50 {
            if !self.step() {
                return;
            }
        }
        panic!("plans without an end: {:?}", self.plan());
    }

    fn end(&mut self, id: &str, code: i32) {
        let now = self.now;
        let instance = self.observed.instances.iter_mut().find(|i| i.id == id).unwrap();
        let started = instance.running();
        instance.state = InstanceState::Exited(Exit {
            code,
            reason: String::new(),
            message: String::new(),
            started,
            finished: now,
        });
    }

    fn end_all(&mut self) {
        let ids: Vec<String> = self.observed.alive().map(|i| i.id.clone()).collect();
        ids.iter().for_each(|id| self.end(id, 137));
    }

    /// A running container ends by itself.
    pub(super) fn exit(&mut self, name: &str, code: i32) {
        let id = self.observed.latest(name).unwrap().id.clone();
        self.end(&id, code);
    }

    pub(super) fn unstarted(&mut self, name: &str) {
        self.unstarted.insert(name.to_owned());
    }

    pub(super) fn has_started(&mut self, name: &str) {
        self.unstarted.remove(name);
    }

    pub(super) fn fail_probe(&mut self, name: &str) {
        let failure = ProbeFailure { probe: "liveness", grace: None };
        self.health.failed.insert(name.to_owned(), failure);
    }

    /// The names of what runs, in alphabetical order.
    pub(super) fn running(&self) -> Vec<&str> {
        let running = self.observed.instances.iter().filter(|i| i.running().is_some());
        let mut names: Vec<&str> = running.map(|i| i.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// How often a container was restarted.
    pub(super) fn count(&self, name: &str) -> u32 {
        self.observed.latest(name).map_or(0, |instance| instance.restarts)
    }

    /// The manifest names these ephemeral containers, and no others.
    pub(super) fn add(&mut self, names: &[&str]) {
        let added = names.iter().map(|name| serde_json::from_value(json!({ "name": name })));
        let added = added.collect::<Result<Vec<_>, _>>().unwrap();
        self.pod.spec.as_mut().unwrap().ephemeral_containers = Some(added);
    }

    /// A kubelet that is restarted knows only what the runtime has.
    fn forget(&mut self) {
        self.health = Health::default();
        self.backoff = Backoff::new(CAP);
    }
}

/// Something happens to the pod.
#[derive(Clone, Debug)]
enum Happens {
    Exit(prop::sample::Index, bool),
    ProbeFails(prop::sample::Index),
    SandboxEnds,
    Restart,
    Added(bool),
    Time(u64),
    Plan,
}

fn happens() -> impl Strategy<Value = Happens> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        3 => (at(), any::<bool>()).prop_map(|(at, well)| Happens::Exit(at, well)),
        1 => at().prop_map(Happens::ProbeFails),
        1 => Just(Happens::SandboxEnds),
        1 => Just(Happens::Restart),
        1 => any::<bool>().prop_map(Happens::Added),
        2 => (0..400_u64).prop_map(Happens::Time),
        6 => Just(Happens::Plan),
    ]
}

proptest! {
    /// Whatever happens in whatever order: no two instances of a container run at once, no app runs before the
    /// init containers of its sandbox are done, restart counts only ever go up by one; and when nothing happens
    /// any more, an Always pod runs all of its apps and sidecars, and no other pod has anything left to do. What was
    /// added to it ran once at most, and does not when it was taken away again.
    #[test]
    fn any_order_of_events_converges(
        policy in prop::sample::select(vec!["Always", "OnFailure", "Never"]),
        events in prop::collection::vec(happens(), 0..60),
    ) {
        let sidecar = json!({"name": "s", "restartPolicy": "Always"});
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "u"},
            "spec": {
                "restartPolicy": policy,
                "initContainers": [{"name": "i"}, sidecar, {"name": "j"}],
                "containers": [{"name": "a"}, {"name": "b"}],
            },
        }));
        let mut world = World::new(pod.unwrap());
        for event in events {
            let running: Vec<String> = world.running().iter().map(|n| (*n).to_owned()).collect();
            match event {
                Happens::Exit(at, well) if !running.is_empty() => {
                    world.exit(at.get(running.as_slice()).as_str(), i32::from(!well));
                }
                Happens::ProbeFails(at) if !running.is_empty() => {
                    let name = at.get(&running).clone();
                    if name != "i" && name != "j" {
                        world.fail_probe(&name);
                    }
                }
                Happens::SandboxEnds => {
                    world.end_all();
                    world.observed.sandboxes.iter_mut().for_each(|s| s.ready = false);
                }
                Happens::Restart => world.forget(),
                Happens::Added(is_there) => world.add(if is_there { &["e"] } else { &[] }),
                Happens::Time(seconds) => world.now += Duration::from_secs(seconds),
                _ => {
                    world.step();
                }
            }
            check(&world);
        }
        // Now everything that still has to end does so well, and time goes on.
        for _ in 0..200 {
            while world.step() {
                check(&world);
            }
            for name in ["i", "j"] {
                if world.running().contains(&name) {
                    world.exit(name, 0);
                }
            }
            world.now += Duration::from_secs(301);
        }
        world.add(&[]);
        world.settle();
        let plan = world.plan();
        if policy == "Always" {
            prop_assert!(plan.is_idle(), "{plan:?}");
            prop_assert_eq!(world.running(), ["a", "b", "s"]);
        } else {
            prop_assert!(plan.finished || plan.is_idle(), "{plan:?}");
            prop_assert!(plan.held.is_empty());
        }
    }
}

fn check(world: &World) {
    let running = world.running();
    let distinct: BTreeSet<&&str> = running.iter().collect();
    assert_eq!(distinct.len(), running.len(), "two of a name: {running:?}");
    let sandbox = world.observed.sandbox().map_or("", |sandbox| &sandbox.id);
    for app in ["a", "b"].iter().filter(|app| running.contains(app)) {
        for init in ["i", "j"] {
            let done = world.observed.latest_in(sandbox, init).and_then(Instance::exit);
            assert!(done.is_some_and(|exit| exit.code == 0), "{app} runs before {init} is done");
        }
    }
    let added = world.observed.instances.iter().filter(|instance| instance.name == "e").count();
    assert!(added < 2, "what was added began twice");
    for name in ["i", "s", "j", "a", "b"] {
        let counts: Vec<u32> = world
            .observed
            .instances
            .iter()
            .filter(|instance| instance.name == name)
            .map(|instance| instance.restarts)
            .collect();
        let expected: Vec<u32> = (0..u32::try_from(counts.len()).unwrap()).rev().collect();
        assert_eq!(counts, expected, "{name}");
    }
}
