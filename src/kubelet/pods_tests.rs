use super::*;
use proptest::prelude::*;
use serde_json::json;

fn source_pod(name: &str, uid: &str) -> SourcePod {
    let pod = json!({"metadata": {"name": name, "namespace": "n", "uid": uid}});
    SourcePod { pod: Arc::new(serde_json::from_value(pod).unwrap()), origin: format!("{uid}.yaml") }
}

/// Actions in few words.
fn words(actions: &[Action]) -> Vec<String> {
    let word = |action: &Action| match action {
        Action::Start(pod) => format!("start {}", uid(&pod.pod)),
        Action::Update(pod) => format!("update {}", uid(pod)),
        Action::Terminate(uid) => format!("end {uid}"),
    };
    actions.iter().map(word).collect()
}

#[test]
fn an_edited_pod_starts_when_the_old_one_has_finished() {
    let mut pods = Pods::new([Source::File]);
    let first = pods.set(Source::File, vec![source_pod("a", "1")]);
    assert_eq!(words(&first), ["start 1"]);
    let edited = pods.set(Source::File, vec![source_pod("a", "2")]);
    assert_eq!(words(&edited), ["end 1"]);
    let again = pods.set(Source::File, vec![source_pod("a", "3")]);
    assert_eq!(words(&again), Vec::<String>::new(), "2 never began, and 3 waits for 1");
    assert_eq!(words(&pods.ended("1")), ["start 3"]);
}

#[test]
fn pods_of_one_name_start_in_the_order_of_their_arrival() {
    let mut pods = Pods::new([Source::File, Source::Http]);
    pods.set(Source::File, vec![source_pod("a", "1")]);
    pods.set(Source::Http, vec![source_pod("a", "2")]);
    assert_eq!(pods.waiting().map(|(name, _)| name).collect::<Vec<_>>(), ["n/a"]);
    assert_eq!(words(&pods.set(Source::File, vec![])), ["end 1"]);
    assert_eq!(words(&pods.ended("1")), ["start 2"]);
    assert_eq!(pods.waiting().count(), 0);
}

#[test]
fn a_pod_that_comes_back_while_it_ends_starts_anew() {
    let mut pods = Pods::new([Source::File]);
    pods.set(Source::File, vec![source_pod("a", "1")]);
    pods.set(Source::File, vec![]);
    assert_eq!(words(&pods.set(Source::File, vec![source_pod("a", "1")])), Vec::<String>::new());
    assert_eq!(words(&pods.ended("1")), ["start 1"]);
}

#[test]
fn a_pod_that_ended_for_a_shutdown_begins_again_when_that_is_over() {
    let mut pods = Pods::new([Source::File]);
    pods.set(Source::File, vec![source_pod("a", "1")]);
    assert_eq!(pods.again("1"), Some(Action::Terminate("1".into())));
    assert_eq!(pods.again("1"), None, "it is under way");
    assert_eq!(pods.again("2"), None, "nobody wants it");
    assert_eq!(words(&pods.ended("1")), ["start 1"]);
    assert_eq!(words(&pods.set(Source::File, vec![])), ["end 1"]);
    assert_eq!(pods.again("1"), None);
    assert_eq!(words(&pods.ended("1")), Vec::<String>::new());
}

#[test]
fn a_pod_of_two_sources_goes_with_the_last_of_them() {
    let mut pods = Pods::new([Source::File, Source::Http]);
    pods.set(Source::File, vec![source_pod("a", "1")]);
    pods.set(Source::Http, vec![source_pod("a", "1")]);
    assert_eq!(words(&pods.set(Source::File, vec![])), Vec::<String>::new());
    assert_eq!(words(&pods.set(Source::Http, vec![])), ["end 1"]);
}

#[test]
fn nothing_is_known_to_be_unwanted_before_every_source_has_spoken() {
    let mut pods = Pods::new([Source::File, Source::Http]);
    pods.set(Source::File, vec![]);
    assert!(!pods.all_spoke());
    pods.set(Source::Http, vec![]);
    assert!(pods.all_spoke());
}

#[test]
fn the_same_uid_with_another_pod_is_an_update() {
    let mut pods = Pods::new([Source::File]);
    pods.set(Source::File, vec![source_pod("a", "1")]);
    let same = pods.set(Source::File, vec![source_pod("a", "1")]);
    assert_eq!(words(&same), Vec::<String>::new());
    let mut other = source_pod("a", "1");
    Arc::make_mut(&mut other.pod).metadata.labels = Some([("x".to_owned(), "y".to_owned())].into());
    assert_eq!(words(&pods.set(Source::File, vec![other])), ["update 1"]);
}

#[test]
fn an_orphan_holds_its_name_until_it_has_ended() {
    let mut pods = Pods::new([Source::File]);
    pods.adopt_orphan("old", "n/a");
    assert_eq!(words(&pods.set(Source::File, vec![source_pod("a", "1")])), Vec::<String>::new());
    assert_eq!(words(&pods.ended("old")), ["start 1"]);
}

/// A step of the world around the pods.
#[derive(Clone, Debug)]
enum Step {
    /// A source says these pods: pairs of name and version.
    Say(bool, Vec<(u8, u8)>),
    /// A terminating worker ends.
    End(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (any::<bool>(), prop::collection::vec((0..3_u8, 0..3_u8), 0..4))
            .prop_map(|(file, pods)| Step::Say(file, pods)),
        any::<prop::sample::Index>().prop_map(Step::End),
    ]
}

proptest! {
    /// Whatever the order: never two workers of one name; and when all that is to end has ended, a worker for
    /// each name that is wanted, of a uid that is wanted, and none beside.
    #[test]
    fn any_order_of_updates_converges(steps in prop::collection::vec(step(), 1..40)) {
        let mut pods = Pods::new([Source::File, Source::Http]);
        // The workers there are: uid → (name, whether it ends).
        let mut workers: BTreeMap<String, (u8, bool)> = BTreeMap::new();
        let name_of = |uid: &str| uid.as_bytes()[0] - b'a';
        let take = |actions: Vec<Action>, workers: &mut BTreeMap<String, (u8, bool)>| {
            for action in actions {
                match action {
                    Action::Start(pod) => {
                        let uid = uid(&pod.pod).to_owned();
                        let name = name_of(&uid);
                        assert!(workers.values().all(|(other, _)| *other != name), "two of a name");
                        workers.insert(uid, (name, false));
                    }
                    Action::Update(_) => {}
                    Action::Terminate(uid) => workers.get_mut(&uid).unwrap().1 = true,
                }
            }
        };
        let mut wanted = [Vec::new(), Vec::new()];
        for step in steps {
            let actions = match step {
                Step::Say(file, said) => {
                    let mut seen = BTreeSet::new();
                    let said: Vec<String> = said
                        .into_iter()
                        .filter(|(name, _)| seen.insert(*name))
                        .map(|(name, version)| format!("{}{version}", char::from(b'a' + name)))
                        .collect();
                    let source = if file { Source::File } else { Source::Http };
                    wanted[usize::from(file)].clone_from(&said);
                    pods.set(source, said.iter().map(|uid| source_pod(&uid[..1], uid)).collect())
                }
                Step::End(at) => {
                    let ending: Vec<String> =
                        workers.iter().filter(|(_, w)| w.1).map(|(uid, _)| uid.clone()).collect();
                    if ending.is_empty() {
                        continue;
                    }
                    let uid = at.get(&ending).clone();
                    workers.remove(&uid);
                    pods.ended(&uid)
                }
            };
            take(actions, &mut workers);
        }
        while let Some(uid) = workers.iter().find(|(_, w)| w.1).map(|(uid, _)| uid.clone()) {
            workers.remove(&uid);
            let actions = pods.ended(&uid);
            take(actions, &mut workers);
        }
        let wanted: BTreeSet<String> = wanted.concat().into_iter().collect();
        let names: BTreeSet<u8> = wanted.iter().map(|uid| name_of(uid)).collect();
        prop_assert_eq!(workers.len(), names.len());
        prop_assert!(workers.keys().all(|uid| wanted.contains(uid)));
    }
}
