//! Random requests to every method: an answer or an error code that CRI knows, and nothing else.
//!
//! Requests are made from the protocol's descriptor: half of them from nothing, half of them by
//! changing a few fields of one that works, so that they come far. Names and paths come from small
//! pools, so that they meet the same objects; none leads out of the test's own folders.

pub(crate) mod call;
mod fill;
mod pool;

use crate::harness::machine::Need;
use crate::harness::{Node, Options, Test, own, pod};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use call::Caller;
use fill::Filler;
use pool::Pool;
use proptest::test_runner::{RngAlgorithm, TestRng};
use prost_reflect::{DescriptorPool, MethodDescriptor};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tonic::Code;

/// Requests between two looks at the daemon.
const ROUND: usize = 1_000;
/// Requests on their way at once.
const AT_ONCE: usize = 16;

pub(crate) fn tests() -> Vec<Test> {
    const NAME: &str = "any_request_is_answered_with_a_known_code";
    vec![own(NAME, &[Need::PodNetwork], |_| Options::default(), any_request)]
}

/// Methods that only look: they never wait for what others do.
fn looks(method: &str) -> bool {
    ["List", "Stream"].iter().any(|word| method.starts_with(word))
        || ["Status", "Stats"].iter().any(|word| method.ends_with(word))
        || ["Version", "RuntimeConfig"].contains(&method)
}

/// Methods that ask somebody who may go away meanwhile: a registry, or the shim of a pod that is stopped.
const AWAY: [&str; 5] =
    ["PullImage", "ReopenContainerLog", "ExecSync", "StartContainer", "CreateContainer"];

/// The codes that semantics of CRI leave to a runtime, by method. `Cancelled` and `DeadlineExceeded` are
/// this client's own, where a stop takes the grace that it asks for and others come after it, but for a
/// command that takes longer than it may.
fn known(method: &str, code: Code) -> bool {
    use Code::{
        AlreadyExists, Cancelled, DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound,
        Ok, OutOfRange, ResourceExhausted, Unavailable, Unimplemented,
    };
    match code {
        Ok | InvalidArgument | NotFound | AlreadyExists | FailedPrecondition | OutOfRange
        | ResourceExhausted | Unimplemented => true,
        DeadlineExceeded | Cancelled => !looks(method),
        Unavailable => AWAY.contains(&method),
        _ => false,
    }
}

/// How often each method answered with each code.
type Counts = BTreeMap<(String, i32), usize>;

#[expect(clippy::print_stdout, reason = "the counts belong to the result")]
fn any_request(node: &mut Node) -> Result<()> {
    let descriptors =
        DescriptorPool::decode(&include_bytes!(concat!(env!("OUT_DIR"), "/cri.bin"))[..])?;
    // Events never end, and what asks for them is answered in a test of its own.
    let methods: Arc<Vec<MethodDescriptor>> = Arc::new(
        descriptors
            .services()
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .filter(|method| method.name() != "GetContainerEvents")
            .collect(),
    );
    ensure!(methods.len() > 40, "only {} methods", methods.len());
    // The virtual machine is ten times slower.
    let rounds = if node.machine.virtual_machine { 5 } else { 100 };
    let pid = node.pid()?;
    let counts = Arc::new(Mutex::new(Counts::new()));
    for round in 0..rounds {
        one_round(node, &methods, round, &counts)
            .with_context(|| format!("round {round} of {rounds}"))?;
        ensure!(node.pid()? == pid, "another daemon in round {round}");
        node.remove_all()?;
        if node.cri.list_images(proto::ListImagesRequest::default())?.images.is_empty() {
            node.import(&node.path("busybox.tar"))?;
        }
    }
    let counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    let total: usize = counts.values().sum();
    ensure!(total == rounds * ROUND, "{total} answers");
    let mut by_code = BTreeMap::<String, usize>::new();
    for ((_, code), count) in counts.iter() {
        *by_code.entry(format!("{:?}", Code::from_i32(*code))).or_default() += count;
    }
    println!("{total} answers: {by_code:?}");
    // The control: requests come far enough to succeed, and are refused for more than one reason.
    // Not each of them is among a few thousand.
    let seldom = if node.machine.virtual_machine { 2 } else { 8 };
    for (method, code) in [
        ("RunPodSandbox", Code::Ok),
        ("RunPodSandbox", Code::InvalidArgument),
        ("CreateContainer", Code::Ok),
        ("CreateContainer", Code::InvalidArgument),
        ("CreateContainer", Code::NotFound),
        ("ContainerStatus", Code::Ok),
        ("ContainerStatus", Code::NotFound),
        ("StopPodSandbox", Code::Ok),
    ]
    .into_iter()
    .take(seldom)
    {
        let seen = counts.get(&(method.to_owned(), code as i32)).copied().unwrap_or(0);
        ensure!(seen > 0, "{method} never answered {code:?}: {counts:?}");
    }
    Ok(())
}

fn one_round(
    node: &Node,
    methods: &Arc<Vec<MethodDescriptor>>,
    round: usize,
    counts: &Arc<Mutex<Counts>>,
) -> Result<()> {
    let config = pod::pod(node, &format!("random-{round}"));
    let sandbox = node.run_pod(&config)?;
    let container = node.create(&sandbox, &config, &pod::container("main", pod::PATIENT))?;
    node.start_container(&container)?;
    let bases = vec![
        pool::base(
            "RunPodSandbox",
            &proto::RunPodSandboxRequest {
                config: Some(pod::pod(node, "of-random")),
                ..Default::default()
            },
        ),
        pool::base(
            "CreateContainer",
            &proto::CreateContainerRequest {
                pod_sandbox_id: sandbox.clone(),
                config: Some(pod::container("of-random", pod::PATIENT)),
                sandbox_config: Some(config),
            },
        ),
        pool::base(
            "ExecSync",
            &proto::ExecSyncRequest {
                container_id: container.clone(),
                cmd: vec!["true".into()],
                timeout: 1,
            },
        ),
    ];
    let pool = Arc::new(Pool::new(node, [sandbox, container], bases)?);
    let mut tasks = Vec::new();
    for worker in 0..AT_ONCE {
        let share = ROUND / AT_ONCE + usize::from(worker < ROUND % AT_ONCE);
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&(round * AT_ONCE + worker).to_le_bytes());
        let mut filler =
            Filler::new(TestRng::from_seed(RngAlgorithm::ChaCha, &seed), Arc::clone(&pool));
        let mut caller = Caller::new(node.cri.channel());
        let (methods, pool, counts) = (Arc::clone(methods), Arc::clone(&pool), Arc::clone(counts));
        tasks.push(node.cri.spawn(async move {
            for _ in 0..share {
                let method = filler.choose(&methods).clone();
                let request = filler.request(&method);
                let answer = caller.call(&method, &request).await;
                let code = answer.as_ref().err().map_or(Code::Ok, tonic::Status::code);
                if let Err(status) = &answer {
                    ensure!(
                        known(method.name(), code) && !status.message().is_empty(),
                        "{}: {status:?} to {request:?}",
                        method.name()
                    );
                }
                pool.learn(&method, answer.unwrap_or_default());
                let key = (method.name().to_owned(), code as i32);
                *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
            }
            Ok(())
        }));
    }
    tasks.into_iter().try_for_each(|task| node.cri.join(task)?)
}
