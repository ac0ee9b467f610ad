//! The tests as a table, and what happens around each of them.
//!
//! A *shared* test runs against a daemon that serves many; after it no pod, process, mount, link,
//! lease, cgroup, descriptor or file of the test may be left. A failed test takes the daemon with
//! it, so that the next one starts from scratch. An *own* test gets a daemon for itself.
//!
//! Where another runtime is to run the pods of manifests, only the groups of [`elsewhere`] are there.

use super::leaks::Baseline;
use super::machine::{Machine, Need};
use super::node::{Node, Options};
use super::slowest::Slowest;
use super::{runtime, sent};
use crate::conformance::peer;
use crate::conformance::table::{self, Row, Verdict};
use crate::kubelet::elsewhere;
use anyhow::{Context as _, Result, anyhow};
use libtest_mimic::{Arguments, Failed, Trial};
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What a test does.
#[derive(Clone, Copy)]
enum Body {
    Shared(fn(&Node) -> Result<()>),
    Own(fn(&Machine) -> Options, fn(&mut Node) -> Result<()>),
}

/// A test: a sentence, its needs, its body.
pub(crate) struct Test {
    name: &'static str,
    needs: &'static [Need],
    body: Body,
}

/// A test against the shared daemon.
pub(crate) fn shared(
    name: &'static str,
    needs: &'static [Need],
    body: fn(&Node) -> Result<()>,
) -> Test {
    Test { name, needs, body: Body::Shared(body) }
}

/// A test with a daemon of its own, which it may stop, kill and start.
pub(crate) fn own(
    name: &'static str,
    needs: &'static [Need],
    options: fn(&Machine) -> Options,
    body: fn(&mut Node) -> Result<()>,
) -> Test {
    Test { name, needs, body: Body::Own(options, body) }
}

impl Test {
    /// Its name in its file.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Runs it against `node`, which must be as before afterwards. `None`: it wants a daemon of its own, or
    /// more than this machine has.
    pub(crate) fn against(&self, node: &Node) -> Option<Result<()>> {
        match self.body {
            Body::Shared(body) if self.needs.iter().all(|&need| node.machine.has(need)) => {
                Some(check(node, body))
            }
            Body::Shared(_) | Body::Own(..) => None,
        }
    }
}

/// The daemon that shared tests use.
#[derive(Default)]
struct Pool(Mutex<Option<Node>>);

/// The names of all tests, as the command line has them.
pub(crate) static NAMES: OnceLock<BTreeSet<String>> = OnceLock::new();

/// The fields that a test shows by the table in docs/conformance.md.
fn claims(table: &[Row], test: &str) -> BTreeSet<String> {
    let shown =
        |row: &&Row| row.verdict == Verdict::Honoured && row.tests.iter().any(|t| t == test);
    table.iter().filter(shown).map(|row| row.field.clone()).collect()
}

/// Runs what the command line asks for.
///
/// # Errors
/// The list of allowed skips or the table of conformance cannot be read.
pub(crate) fn run(mut groups: Vec<(&'static str, Vec<Test>)>, allowed: &str) -> Result<ExitCode> {
    if let Some(socket) = peer::asked() {
        return peer::run(&socket);
    }
    let other = runtime::socket().is_some();
    if other {
        groups.retain(|(group, _)| elsewhere::GROUPS.contains(group));
    }
    let of = |(group, tests): &(&str, Vec<Test>)| -> Vec<String> {
        tests.iter().map(|test| format!("{group}::{}", test.name)).collect()
    };
    NAMES.set(groups.iter().flat_map(of).collect()).ok();
    let mut arguments = Arguments::from_args();
    // One at a time: what is left is judged after each.
    arguments.test_threads = Some(1);
    let machine = Arc::new(Machine::probe());
    let pool = Arc::new(Pool::default());
    let slowest = Arc::new(Slowest::default());
    let table = table::read()?;
    let mut skips = Vec::new();
    let mut otherwise = Vec::new();
    let mut trials = Vec::new();
    for (group, tests) in groups {
        for test in tests {
            let name = format!("{group}::{}", test.name);
            let missing = test.needs.iter().copied().find(|need| !machine.has(*need));
            let chosen = arguments.filter.as_ref().is_none_or(|filter| name.contains(filter));
            let why = if other { elsewhere::otherwise(&name) } else { None };
            otherwise.extend(why.filter(|_| chosen).map(|why| (name.clone(), why)));
            if let Some(need) = missing.filter(|_| chosen && why.is_none()) {
                skips.push((name.clone(), need));
            }
            let (machine, pool) = (Arc::clone(&machine), Arc::clone(&pool));
            let (slowest, named) = (Arc::clone(&slowest), name.clone());
            let claims = claims(&table, &name);
            let body =
                move || slowest.time(&named, || attempt(&machine, &pool, test.body, &claims));
            let trial = Trial::test(name, body);
            trials.push(trial.with_ignored_flag(missing.is_some() || why.is_some()));
        }
    }
    let listed = arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(pool.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    if listed {
        return Ok(ExitCode::SUCCESS);
    }
    slowest.report();
    let unexpected = report_skips(&machine, &skips, allowed)?;
    let mut failed = conclusion.has_failed() || unexpected > 0;
    if other {
        let whole = arguments.filter.is_none() && arguments.skip.is_empty();
        let passed = usize::try_from(conclusion.num_passed)?;
        failed |= !elsewhere::judge(&otherwise, passed, skips.len(), whole)?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Names every skip; answers how many of them are not allowed.
#[expect(clippy::print_stdout, reason = "a test runner reports on standard output")]
fn report_skips(machine: &Machine, skips: &[(String, Need)], allowed: &str) -> Result<usize> {
    let path = allowed;
    let text = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let allowed: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.starts_with('#')).collect();
    let mut unexpected = 0;
    for (name, need) in skips {
        // Of the virtual machines only one has systemd and one SELinux, and each runs nothing else; one has a
        // kernel of before 6.3.
        let other = matches!(need, Need::Systemd | Need::Selinux | Need::MappedTmpfs);
        let may = !machine.virtual_machine || other;
        let fine = may && allowed.contains(&name.as_str());
        unexpected += usize::from(!fine);
        println!("skipped: {name}: needs {need:?}{}", if fine { "" } else { " (NOT ALLOWED)" });
    }
    println!("{} skipped, {unexpected} of them not allowed", skips.len());
    if unexpected > 0 {
        // The runner's own summary says ok: this line is the one that `suite.sh summary` shows.
        println!("FAILED: {unexpected} skips that {path} does not allow");
    }
    Ok(unexpected)
}

fn attempt(
    machine: &Machine,
    pool: &Pool,
    body: Body,
    claims: &BTreeSet<String>,
) -> Result<(), Failed> {
    let mut slot = pool.0.lock().unwrap_or_else(PoisonError::into_inner);
    sent::take();
    let outcome = match body {
        Body::Shared(body) => shared_attempt(machine, &mut slot, body),
        Body::Own(options, body) => {
            // Both would use the same cgroups and rules.
            drop(slot.take());
            own_attempt(machine, &options(machine), body)
        }
    };
    outcome.map_err(|error| Failed::from(format!("{error:#}")))?;
    // What a test does not even send it cannot show.
    let sent = sent::take();
    let is_sent = |claim: &&String| match claim.strip_suffix("**") {
        // A message: it has any field.
        Some(above) => sent.iter().any(|field| field.starts_with(above)),
        None => sent.contains(*claim),
    };
    let unsent: Vec<&String> = claims.iter().filter(|claim| !is_sent(claim)).collect();
    if unsent.is_empty() {
        return Ok(());
    }
    Err(Failed::from(format!("{} says that this test shows {unsent:?}", table::PATH)))
}

fn shared_attempt(
    machine: &Machine,
    slot: &mut Option<Node>,
    body: fn(&Node) -> Result<()>,
) -> Result<()> {
    let node = match slot.take() {
        Some(node) => node,
        None => Node::start(machine, &Options::default())?,
    };
    let outcome = check(&node, body);
    match outcome {
        Ok(()) => {
            *slot = Some(node);
            Ok(())
        }
        Err(error) => Err(anyhow!("{error:#}\n{}", node.last_words())),
    }
}

fn check(node: &Node, body: fn(&Node) -> Result<()>) -> Result<()> {
    let before = Baseline::take(node)?;
    body(node)?;
    node.remove_all().context("remove what the test left to the harness")?;
    before.compare(node)
}

fn own_attempt(
    machine: &Machine,
    options: &Options,
    body: fn(&mut Node) -> Result<()>,
) -> Result<()> {
    let mut node = Node::start(machine, options)?;
    let before = Baseline::take(&node)?;
    let outcome = body(&mut node).and_then(|()| {
        node.ensure_running()?;
        if node.is_kubelet() {
            node.end_pods()?;
        }
        node.remove_all().context("remove what the test left to the harness")?;
        before.compare(&node)
    });
    outcome.map_err(|error| anyhow!("{error:#}\n{}", node.last_words()))
}
