//! Seccomp profiles from files: what they let pass and refuse, and files that are none.

use crate::harness::scene::Scene;
use crate::harness::syscalls::{
    PROGRAM, PROGRAM32, X32, call, command, file, filters, localhost, one, profile, start, try_call,
};
use crate::harness::{Node, Test, pod, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use berth::cri::proto::security_profile::ProfileType;
use serde_json::{Value, json};
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("a_profile_decides_about_programs_of_each_architecture", &[], architectures),
        shared("the_widely_used_format_loads_and_its_terms_decide", &[], engine_format),
        shared("arguments_are_compared", &[], arguments),
        shared("an_action_is_carried_out", &[], actions),
        shared("a_profile_needs_to_permit_little_for_the_start", &[], little),
        shared("a_program_that_may_not_be_executed_is_killed", &[], no_exec),
        shared("a_profile_is_read_when_the_container_is_created", &[], read_once),
        shared("a_file_that_is_no_profile_is_refused_and_nothing_is_left", &[], bad),
        shared("a_sandbox_with_a_bad_profile_is_refused_and_nothing_is_left", &[], bad_sandbox),
    ]
}

/// 128 and SIGSYS.
const KILLED: i32 = 159;
const GETPPID: &str = "110";
const GETPPID_32: &str = "64";

fn write(node: &Node, name: &str, value: &Value) -> Result<std::path::PathBuf> {
    file(node, name, &value.to_string())
}

fn refusing(architectures: &[&str], refused: &[&str]) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures,
        "syscalls": [{ "names": refused, "action": "SCMP_ACT_ERRNO", "errnoRet": 77 }],
    })
}

/// A real 32-bit program, 32-bit calls of a 64-bit one, and x32.
fn architectures(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "seccomp-architectures")?;
    let all = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
    type Found = (Option<i64>, i32);
    let refused: Found = (Some(-77), 0);
    let killed: Found = (None, KILLED);
    let x32 = (X32 | 110).to_string();
    let rows: [(&str, Value, [Option<Found>; 4]); 4] = [
        // 64 bits, a 32-bit program, int 0x80, x32; `None`: the kernel's own answer.
        ("refused", refusing(&all, &["getppid"]), [Some(refused); 4]),
        ("allowed", refusing(&all, &["getuid"]), [None; 4]),
        ("own-alone", refusing(&[], &["getuid"]), [None, Some(killed), Some(killed), Some(killed)]),
        (
            "without-x32",
            refusing(&["SCMP_ARCH_X86"], &["getppid"]),
            [Some(refused), Some(refused), Some(refused), Some(killed)],
        ),
    ];
    for (name, value, expected) in rows {
        let path = write(node, name, &value)?;
        let made = start(&scene, name, |c| localhost(c, &path))?;
        let ways = [
            (PROGRAM, "native", GETPPID),
            (PROGRAM32, "native", GETPPID_32),
            (PROGRAM, "int80", GETPPID_32),
            (PROGRAM, "native", x32.as_str()),
        ];
        for ((program, entry, number), expected) in ways.into_iter().zip(expected) {
            let found = try_call(&made, program, entry, &[number])?;
            let row = format!("{name}: {number} of {program} by {entry}: {found:?}");
            match expected {
                Some(expected) => ensure!(found == expected, "{row}, not {expected:?}"),
                // Of x32 a kernel without it says ENOSYS. The parent is outside the pid namespace.
                None => ensure!(matches!(found, (Some(0 | -38), 0)), "{row}"),
            }
        }
    }
    Ok(())
}

/// archMap, includes, excludes, comments, errors by name.
fn engine_format(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "seccomp-format")?;
    let value = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "defaultErrnoRet": null,
        "archMap": [
            {
                "architecture": "SCMP_ARCH_X86_64",
                "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            },
            { "architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"] },
        ],
        "syscalls": [
            {
                "names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errno": "EBADR",
                "comment": "not for those who may not change owners", "args": [],
                "includes": {}, "excludes": { "caps": ["CAP_CHOWN"] },
            },
            {
                "names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": [],
                "includes": { "caps": ["CAP_CHOWN"], "arches": ["amd64"], "minKernel": "4.8" },
                "excludes": {},
            },
            {
                "names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 78,
                "includes": { "arches": ["s390x"] },
            },
            {
                "names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 79,
                "excludes": { "minKernel": "4.8" },
            },
        ],
    });
    let path = write(node, "engine", &value)?;
    let holds = start(&scene, "holds", |c| localhost(c, &path))?;
    let lacks = start(&scene, "lacks", |c| {
        localhost(c, &path);
        let capabilities = pod::security(c).capabilities.get_or_insert_default();
        capabilities.drop_capabilities = vec!["CHOWN".into()];
    })?;
    for (made, expected) in [(&holds, -77), (&lacks, -i64::from(libc_ebadr()))] {
        for (program, entry, number) in
            [(PROGRAM, "native", GETPPID), (PROGRAM32, "native", GETPPID_32)]
        {
            let found = try_call(made, program, entry, &[number])?;
            ensure!(found == (Some(expected), 0), "{program}: {found:?}, not {expected}");
        }
        ensure!(call(made, "native", &["39"])? > 0, "getpid is refused");
    }
    Ok(())
}

fn libc_ebadr() -> i32 {
    nix::errno::Errno::EBADR as i32
}

fn arguments(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "seccomp-arguments")?;
    let rule = |index: u32, op: &str, value: u64, second: u64, errno: u32| {
        json!({
            "names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno,
            "args": [{ "index": index, "op": op, "value": value, "valueTwo": second }],
        })
    };
    let value = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            rule(0, "SCMP_CMP_EQ", 7, 0, 70),
            rule(0, "SCMP_CMP_GE", 1 << 40, 0, 71),
        ],
    });
    let path = write(node, "arguments", &value)?;
    let made = start(&scene, "main", |c| localhost(c, &path))?;
    for (argument, expected) in
        [("7", -70), ("8", 0), ("0x10000000000", -71), ("0xffffffffff", 0), ("0x100000007", 0)]
    {
        let found = call(&made, "native", &[GETPPID, argument])?;
        ensure!(found == expected, "{argument}: {found}, not {expected}");
    }
    Ok(())
}

fn actions(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "seccomp-actions")?;
    for (action, expected) in [
        ("SCMP_ACT_ALLOW", (Some(0), 0)),
        ("SCMP_ACT_LOG", (Some(0), 0)),
        ("SCMP_ACT_ERRNO", (Some(-1), 0)),
        ("SCMP_ACT_TRACE", (Some(-38), 0)),
        ("SCMP_ACT_TRAP", (None, KILLED)),
        ("SCMP_ACT_KILL", (None, KILLED)),
        ("SCMP_ACT_KILL_THREAD", (None, KILLED)),
        ("SCMP_ACT_KILL_PROCESS", (None, KILLED)),
    ] {
        let name = action.to_ascii_lowercase().replace('_', "-");
        let value = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
            "syscalls": [{ "names": ["getppid"], "action": action }],
        });
        let path = write(node, &name, &value)?;
        let made = start(&scene, &name, |c| localhost(c, &path))?;
        let found = try_call(&made, PROGRAM, "native", &[GETPPID])?;
        ensure!(found == expected, "{action}: {found:?}, not {expected:?}");
    }
    Ok(())
}

/// Runs the program as a container of its own under a profile: exit code, output.
fn run(
    scene: &Scene<'_>,
    name: &str,
    value: &Value,
    change: impl FnOnce(&mut proto::ContainerConfig),
) -> Result<(i32, String)> {
    let path = write(scene.node, name, value)?;
    let programs = crate::harness::syscalls::programs(scene.node)?;
    let words = command(PROGRAM, "native", &[GETPPID]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let made = scene.start(name, &words, |c| {
        c.mounts.push(programs);
        localhost(c, &path);
        change(c);
    })?;
    let status = made.end()?;
    Ok((status.exit_code, made.text()?))
}

fn permitting(names: &[&str], default: &str) -> Value {
    json!({
        "defaultAction": default,
        "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
    })
}

/// The program's own three calls, execve, and capset where CAP_SYS_ADMIN loads the filter.
fn little(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "seccomp-little")?;
    let kill = "SCMP_ACT_KILL_PROCESS";
    let own = ["execve", "write", "exit", "getppid"];
    let with = [&own[..], &["capset"]].concat();
    let web = |c: &mut proto::ContainerConfig| pod::security(c).run_as_username = "web".into();
    let locked = |c: &mut proto::ContainerConfig| {
        web(c);
        pod::security(c).no_new_privs = true;
    };
    let fine = (0, "0\n".to_owned());
    let found = run(&scene, "root", &permitting(&with, kill), |_| {})?;
    ensure!(found == fine, "as root: {found:?}");
    let found = run(&scene, "web", &permitting(&with, kill), web)?;
    ensure!(found == fine, "as another user: {found:?}");
    let found = run(&scene, "locked", &permitting(&own, kill), locked)?;
    ensure!(found == fine, "with no_new_privs: {found:?}");
    // The control: without one of the program's own calls it is killed.
    let found = run(&scene, "control", &permitting(&own[..3], kill), locked)?;
    ensure!(found == (KILLED, String::new()), "without getppid: {found:?}");
    Ok(())
}

fn no_exec(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "seccomp-no-exec")?;
    let locked = |c: &mut proto::ContainerConfig| pod::security(c).no_new_privs = true;
    let found = run(&scene, "killed", &permitting(&["write"], "SCMP_ACT_KILL_PROCESS"), locked)?;
    ensure!(found == (KILLED, String::new()), "{found:?}");
    // An error instead is told as one of the start.
    let path = write(node, "refused", &permitting(&["write", "exit_group"], "SCMP_ACT_ERRNO"))?;
    let id = scene.create("refused", &["true"], |c| {
        localhost(c, &path);
        locked(c);
    })?;
    let error = node.start_container(&id).err().context("it starts")?;
    ensure!(error.message().contains("exec"), "{error}");
    Ok(())
}

fn read_once(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "seccomp-read-once")?;
    let path = write(node, "once", &refusing(&[], &["getppid"]))?;
    let programs = crate::harness::syscalls::programs(node)?;
    let words = command(PROGRAM, "native", &[GETPPID]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let created = scene.create("main", &words, |c| {
        c.mounts.push(programs);
        localhost(c, &path);
    })?;
    std::fs::remove_file(&path)?;
    node.start_container(&created)?;
    let status = node.wait_exited(&created)?;
    ensure!(status.exit_code == 0, "{status:?}");
    let text = std::fs::read_to_string(node.log_of("seccomp-read-once", "main"))?;
    ensure!(text.trim_end().ends_with("F -77"), "{text}");
    Ok(())
}

fn rule(extra: Value) -> Value {
    let mut rule = json!({ "names": ["read"], "action": "SCMP_ACT_ERRNO" });
    for (key, value) in extra.as_object().into_iter().flatten() {
        rule[key] = value.clone();
    }
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] })
}

fn bad(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "seccomp-bad")?;
    let compare = |op: &str| json!({ "args": [{ "index": 0, "value": 1, "op": op }] });
    let invalid = Code::InvalidArgument;
    let rows: [(&str, String, Code, &str); 14] = [
        ("empty", String::new(), invalid, "EOF while parsing"),
        ("text", "not a profile".into(), invalid, "line 1"),
        ("cut", r#"{ "defaultAction": "SCMP_"#.into(), invalid, "EOF while parsing"),
        ("no-default", "{}".into(), invalid, "defaultAction"),
        ("key", rule(json!({ "nmaes": [] })).to_string(), invalid, "unknown field `nmaes`"),
        ("action", rule(json!({ "action": "ALLOW" })).to_string(), invalid, "`ALLOW`"),
        ("operator", rule(compare("SCMP_CMP_IS")).to_string(), invalid, "`SCMP_CMP_IS`"),
        ("call", rule(json!({ "names": ["mout"] })).to_string(), invalid, "\"mout\""),
        ("errno", rule(json!({ "errnoRet": 4096 })).to_string(), invalid, "errnoRet"),
        ("errno-name", rule(json!({ "errno": "EWHAT" })).to_string(), invalid, "EWHAT"),
        (
            "architecture",
            refusing(&["SCMP_ARCH_Z80"], &["read"]).to_string(),
            invalid,
            "SCMP_ARCH_Z80",
        ),
        (
            "overlap",
            json!({
                "defaultAction": "SCMP_ACT_LOG",
                "syscalls": [
                    { "names": ["read"], "action": "SCMP_ACT_ALLOW" },
                    { "names": ["read"], "action": "SCMP_ACT_ERRNO",
                      "args": [{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }] },
                ],
            })
            .to_string(),
            invalid,
            "can both match",
        ),
        (
            "notify",
            rule(json!({ "action": "SCMP_ACT_NOTIFY" })).to_string(),
            Code::Unimplemented,
            "SCMP_ACT_NOTIFY",
        ),
        (
            "flag",
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
            })
            .to_string(),
            Code::Unimplemented,
            "WAIT_KILLABLE_RECV",
        ),
    ];
    for (name, text, code, words) in rows {
        let path = file(node, name, &text)?;
        let error = scene.create(name, &["true"], |c| localhost(c, &path)).err();
        let error = error.with_context(|| format!("{name}: it is created"))?;
        ensure!(error.code() == code && error.message().contains(words), "{name}: {error}");
    }
    let volume = node.volume("profiles")?;
    for (name, path) in [("missing", volume.join("no-such-file.json")), ("folder", volume)] {
        let error = scene.create(name, &["true"], |c| localhost(c, &path)).err();
        let error = error.with_context(|| format!("{name}: it is created"))?;
        let named = error.message().contains(&*path.to_string_lossy());
        ensure!(error.code() == invalid && named, "{name}: {error}");
    }
    // What a rule would permit, and no kernel has, stays refused.
    let path = write(node, "fine", &permitting(&FINE, "SCMP_ACT_ERRNO"))?;
    let made = scene.start("fine", &["sleep", "100000"], |c| localhost(c, &path))?;
    ensure!(filters(made.init()?)? == one(), "it is not filtered");
    Ok(())
}

/// What busybox's sleep needs, and a call of tomorrow.
const FINE: [&str; 20] = [
    "call_of_tomorrow",
    "capset",
    "execve",
    "write",
    "read",
    "brk",
    "mmap",
    "mprotect",
    "munmap",
    "arch_prctl",
    "set_tid_address",
    "set_robust_list",
    "rseq",
    "prlimit64",
    "getrandom",
    "clock_nanosleep",
    "nanosleep",
    "exit_group",
    "getuid",
    "readlinkat",
];

fn bad_sandbox(node: &Node) -> Result<()> {
    let notify = rule(json!({ "action": "SCMP_ACT_NOTIFY" })).to_string();
    let notify = file(node, "sandbox-notify", &notify)?;
    // Pause is executed by its descriptor.
    let refused = write(node, "sandbox-exec", &permitting(&["exit_group"], "SCMP_ACT_ERRNO"))?;
    for (name, path, code, words) in [
        ("missing", "/no/such/profile.json".into(), Code::InvalidArgument, "/no/such/profile.json"),
        ("notify", notify, Code::Unimplemented, "SCMP_ACT_NOTIFY"),
        ("refused", refused, Code::Internal, "exec"),
    ] {
        let mut config = pod::pod(node, &format!("seccomp-sandbox-{name}"));
        let linux = config.linux.get_or_insert_default();
        linux.security_context.get_or_insert_default().seccomp =
            profile(ProfileType::Localhost, &path.to_string_lossy());
        let error = node.run_pod(&config).err().with_context(|| format!("{name}: it runs"))?;
        ensure!(error.code() == code && error.message().contains(words), "{name}: {error}");
    }
    Ok(())
}
