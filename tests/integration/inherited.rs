//! What a process inherits is set, not inherited: every line that the kernel has about a
//! container's first process and about a command in it, compared with a table; also when the daemon
//! was started with odd values of each.

use crate::harness::machine::{Machine, Need};
use crate::harness::scene::{Made, Scene, as_is};
use crate::harness::{Node, Options, Test, kernel, own, shared};
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeMap;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("nothing_is_inherited_from_the_daemon", &[], everything),
        own("nothing_is_inherited_from_an_odd_daemon", &[], odd, odd_daemon),
    ]
}

/// A daemon with odd values of what is inherited over fork and exec.
fn odd(_: &Machine) -> Options {
    let limits = "--nofile=300:400 --stack=4194304:8388608 --sigpending=1000:1000 --core=0:0 \
        --msgqueue=1000:1000 --memlock=1048576:1048576 --nproc=3000:3000 --cpu=100000:200000";
    let shell = "umask 077; exec 7</etc/passwd 9>>/dev/null; \
        echo 3 >/proc/self/coredump_filter; exec \"$@\"";
    let words = format!(
        "prlimit {limits} choom -n 300 -- nice -n 7 ionice -c 3 taskset 1 chrt --batch 0 SHELL \
         env --ignore-signal=PIPE,HUP,USR1"
    );
    let mut wrapper = Vec::new();
    for word in words.split_whitespace() {
        match word {
            "SHELL" => wrapper.extend(["sh", "-c", shell, "sh"].map(String::from)),
            word => wrapper.push(word.to_owned()),
        }
    }
    Options { wrapper, ..Options::default() }
}

fn odd_daemon(node: &mut Node) -> Result<()> {
    // The control: the daemon has them.
    let pid = node.pid()?;
    let daemon = |file: &str| kernel::read(format!("/proc/{pid}/{file}"));
    ensure!(kernel::status_field(pid, "Umask")? == "0077", "the umask is not odd");
    ensure!(kernel::status_field(pid, "Cpus_allowed")?.ends_with('1'), "the affinity is not odd");
    ensure!(daemon("oom_score_adj")? == "300", "oom_score_adj is not odd");
    ensure!(daemon("coredump_filter")? == "00000003", "the filter of cores is not odd");
    ensure!(scheduling(&daemon("stat")?)? == [27, 7, 3], "the scheduling is not odd");
    for (field, signal) in [("SigIgn", 1), ("SigIgn", 10)] {
        let bits = u64::from_str_radix(&kernel::status_field(pid, field)?, 16)?;
        ensure!(bits & (1 << (signal - 1)) != 0, "{field} of {signal} is not odd");
    }
    everything(node)
}

/// Which process is asked about, from inside the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// The container's first process.
    Init,
    /// A command.
    Exec,
}

fn everything(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "inherited")?;
    let made = scene.start("main", &["sleep", "100000"], as_is)?;
    for who in [Who::Init, Who::Exec] {
        let check =
            |what: &str, outcome: Result<()>| outcome.with_context(|| format!("{what} of {who:?}"));
        check("status", status(node, &made, who))?;
        check("limits", limits(node, &made, who))?;
        check("stat", stat(node, &made, who))?;
        check("descriptors", descriptors(node, &made, who))?;
        for (file, expected) in [
            ("oom_score_adj", "0"),
            ("coredump_filter", "00000033"),
            ("personality", "00000000"),
            ("timerslack_ns", "50000"),
        ] {
            let found = read(node, &made, who, file)?;
            ensure!(found == expected, "{file} of {who:?}: {found:?} instead of {expected:?}");
        }
    }
    pause(node, &scene.pod).context("pause")
}

fn read(node: &Node, made: &Made<'_>, who: Who, file: &str) -> Result<String> {
    if (who, file) == (Who::Init, "timerslack_ns") {
        // Another process's needs a capability that the container has not.
        return kernel::read(format!("/proc/{}/{file}", made.init()?));
    }
    let process = if who == Who::Init { "1" } else { "self" };
    node.exec_ok(&made.id, &["cat", &format!("/proc/{process}/{file}")])
}

/// What a line must be.
enum Want {
    Is(String),
    /// Differs from run to run and is not inherited.
    Any,
    /// As of a thread of this program with every CPU.
    AllCpus,
}

/// Every line of /proc/PID/status. One that is not here fails, so that somebody judges it.
fn status_table(who: Who) -> BTreeMap<&'static str, Want> {
    let mut table = BTreeMap::new();
    let counters = "State FDSize VmPeak VmSize VmLck VmPin VmHWM VmRSS RssAnon RssFile RssShmem \
        VmData VmStk VmExe VmLib VmPTE VmSwap HugetlbPages untag_mask SigQ THP_enabled \
        Speculation_Store_Bypass SpeculationIndirectBranch voluntary_ctxt_switches \
        nonvoluntary_ctxt_switches";
    table.extend(counters.split_whitespace().map(|name| (name, Want::Any)));
    let zero = "0000000000000000";
    let default = "00000000a80425fb";
    let fixed = [
        ("Umask", "0022"),
        ("Ngid", "0"),
        ("PPid", "0"),
        ("TracerPid", "0"),
        ("Uid", "0\t0\t0\t0"),
        ("Gid", "0\t0\t0\t0"),
        ("Groups", "0"),
        ("Kthread", "0"),
        ("CoreDumping", "0"),
        ("Threads", "1"),
        ("SigPnd", zero),
        ("ShdPnd", zero),
        ("SigBlk", zero),
        ("SigIgn", zero),
        ("SigCgt", zero),
        ("CapInh", zero),
        ("CapPrm", default),
        ("CapEff", default),
        ("CapBnd", default),
        ("CapAmb", zero),
        ("NoNewPrivs", "0"),
        ("Seccomp", "0"),
        ("Seccomp_filters", "0"),
        ("x86_Thread_features", ""),
        ("x86_Thread_features_locked", ""),
        ("Name", if who == Who::Init { "sleep" } else { "cat" }),
    ];
    table.extend(fixed.map(|(name, value)| (name, Want::Is(value.to_owned()))));
    for name in ["Cpus_allowed", "Cpus_allowed_list", "Mems_allowed", "Mems_allowed_list"] {
        table.insert(name, Want::AllCpus);
    }
    table
}

fn status(node: &Node, made: &Made<'_>, who: Who) -> Result<()> {
    let text = read(node, made, who, "status")?;
    let pid = kernel::field_of(&text, "Pid").context("no Pid")?;
    ensure!(who == Who::Exec || pid == "1", "the first process is {pid}");
    let mut table = status_table(who);
    // A process, a group, a session of its own.
    for name in ["Tgid", "Pid", "NStgid", "NSpid", "NSpgid", "NSsid"] {
        table.insert(name, Want::Is(pid.clone()));
    }
    let all_cpus = with_all_cpus()?;
    for line in text.lines() {
        let (name, value) = line.split_once(':').with_context(|| format!("line {line:?}"))?;
        let expected = match table.get(name) {
            None => bail!("{line:?} is in no table: is it inherited?"),
            Some(Want::Any) => continue,
            Some(Want::Is(value)) => value.clone(),
            Some(Want::AllCpus) => kernel::field_of(&all_cpus, name).unwrap_or_default(),
        };
        ensure!(value.trim() == expected, "{line:?}: {expected:?} expected");
    }
    Ok(())
}

/// The status of a thread that may run wherever its cpuset lets it.
fn with_all_cpus() -> Result<String> {
    let thread = std::thread::spawn(|| {
        let mut set = nix::sched::CpuSet::new();
        for cpu in 0..nix::sched::CpuSet::count() {
            set.set(cpu)?;
        }
        nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)?;
        kernel::read("/proc/thread-self/status")
    });
    thread.join().ok().context("the thread")?
}

/// Name, soft, hard as /proc/PID/limits has them.
const LIMITS: [(&str, &str, &str); 16] = [
    ("Max cpu time", "unlimited", "unlimited"),
    ("Max file size", "unlimited", "unlimited"),
    ("Max data size", "unlimited", "unlimited"),
    ("Max stack size", "8388608", "unlimited"),
    ("Max core file size", "0", "unlimited"),
    ("Max resident set", "unlimited", "unlimited"),
    ("Max processes", "unlimited", "unlimited"),
    ("Max open files", "1024", "524288"),
    ("Max locked memory", "8388608", "8388608"),
    ("Max address space", "unlimited", "unlimited"),
    ("Max file locks", "unlimited", "unlimited"),
    ("Max pending signals", "131072", "131072"),
    ("Max msgqueue size", "819200", "819200"),
    ("Max nice priority", "0", "0"),
    ("Max realtime priority", "0", "0"),
    ("Max realtime timeout", "unlimited", "unlimited"),
];

fn limits(node: &Node, made: &Made<'_>, who: Who) -> Result<()> {
    let found = parse_limits(&read(node, made, who, "limits")?);
    let daemon = parse_limits(&kernel::read(format!("/proc/{}/limits", node.pid()?))?);
    let number = |text: &str| text.parse().unwrap_or(u64::MAX);
    ensure!(found.len() == LIMITS.len(), "{found:?}");
    for (name, soft, hard) in LIMITS {
        let mut expected = (number(soft), number(hard));
        if !node.machine.has(Need::Resources) {
            // Nobody here can raise a hard limit.
            let most = number(&daemon.get(name).context("no limit")?.1);
            expected = (expected.0.min(most), expected.1.min(most));
        }
        let (soft, hard) = found.get(name).with_context(|| format!("no {name}"))?;
        let is = (number(soft), number(hard));
        ensure!(is == expected, "{name}: {is:?} instead of {expected:?}");
    }
    Ok(())
}

fn parse_limits(text: &str) -> BTreeMap<String, (String, String)> {
    let row = |line: &str| {
        let mut parts = line.split("  ").map(str::trim).filter(|part| !part.is_empty());
        let mut next = || parts.next().unwrap_or_default().to_owned();
        (next(), (next(), next()))
    };
    text.lines().skip(1).map(row).collect()
}

/// Fields 18, 19 and 41 of /proc/PID/stat: priority, niceness, policy.
fn scheduling(stat: &str) -> Result<[i64; 3]> {
    let rest = stat.rsplit_once(") ").context("no name")?.1;
    let fields: Vec<&str> = rest.split(' ').collect();
    let at = |number: usize| -> Result<i64> {
        Ok(fields.get(number - 3).context("a short line")?.parse()?)
    };
    Ok([at(18)?, at(19)?, at(41)?])
}

fn stat(node: &Node, made: &Made<'_>, who: Who) -> Result<()> {
    let text = read(node, made, who, "stat")?;
    ensure!(scheduling(&text)? == [20, 0, 0], "not SCHED_OTHER with nice 0: {text}");
    let fields: Vec<&str> = text.rsplit_once(") ").context("no name")?.1.split(' ').collect();
    // State, parent, group, session, terminal.
    ensure!(fields.get(4) == Some(&"0"), "it has a terminal: {text}");
    let process = if who == Who::Init { "1" } else { "$$" };
    let class = node.exec_ok(&made.id, &["sh", "-c", &format!("ionice -p {process}")])?;
    ensure!(class == "none: prio 0" || class == "best-effort: prio 4", "I/O priority {class:?}");
    Ok(())
}

/// Standard input is the null device, the outputs are two pipes, and there is nothing else.
fn descriptors(node: &Node, made: &Made<'_>, who: Who) -> Result<()> {
    let process = if who == Who::Init { "1" } else { "self" };
    let text = node.exec_ok(&made.id, &["ls", "-l", &format!("/proc/{process}/fd")])?;
    let mut found: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.split_once(" -> "))
        .map(|(left, to)| (left.rsplit(' ').next().unwrap_or_default(), to))
        .collect();
    if who == Who::Exec {
        // The folder that ls itself reads.
        found.retain(|(number, to)| *number != "3" || !to.starts_with("/proc/"));
    }
    ensure!(found.len() == 3, "{found:?}");
    ensure!(found[0] == ("0", "/dev/null"), "{found:?}");
    ensure!(found[1].1.starts_with("pipe:[") && found[2].1.starts_with("pipe:["), "{found:?}");
    ensure!(found[1].1 != found[2].1, "both outputs are one: {found:?}");
    Ok(())
}

/// Seen from the host, since nothing can be run beside it.
fn pause(node: &Node, pod: &str) -> Result<()> {
    let pid = node.pause_pid(pod)?;
    let zero = "0000000000000000";
    for (field, expected) in [("Umask", "0022"), ("SigIgn", zero), ("NoNewPrivs", "0")] {
        let found = kernel::status_field(pid, field)?;
        ensure!(found == expected, "{field}: {found:?} instead of {expected:?}");
    }
    let ids = kernel::status_field(pid, "NSsid")?;
    let own = kernel::status_field(pid, "NSpid")?;
    ensure!(ids == own, "it is in session {ids} and not in its own, {own}");
    let stat = kernel::read(format!("/proc/{pid}/stat"))?;
    ensure!(scheduling(&stat)? == [20, 0, 0], "not SCHED_OTHER with nice 0: {stat}");
    let open = kernel::descriptors(pid)?;
    ensure!(open.iter().all(|target| target == "/dev/null"), "it holds {open:?}");
    Ok(())
}
