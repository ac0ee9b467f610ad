//! Single system calls made in a container, by a program that calls nothing else, and the seccomp
//! profiles under which they are made.

use super::node::Node;
use super::scene::{Made, Scene, bind};
use super::{kernel, pod};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use berth::cri::proto::security_profile::ProfileType;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The program in a container, and the same as a 32-bit one.
pub(crate) const PROGRAM: &str = "/call/test-syscall";
pub(crate) const PROGRAM32: &str = "/call/test-syscall32";
/// The first, set-user-id root.
pub(crate) const SET_USER_ID: &str = "/call/set-user-id";

/// x32: the bit of its numbers.
pub(crate) const X32: u64 = 0x4000_0000;

/// A mount of the programs.
///
/// # Errors
/// They were not built (`make build-tests`) or cannot be copied.
pub(crate) fn programs(node: &Node) -> Result<proto::Mount> {
    let stage =
        std::env::var_os("BERTH_STAGE").map_or_else(|| "target/stage".into(), PathBuf::from);
    let folder = node.volume("programs")?;
    for (from, to) in [
        ("test-syscall", "test-syscall"),
        ("test-syscall32", "test-syscall32"),
        ("test-syscall", "set-user-id"),
    ] {
        let to = folder.join(to);
        if !to.exists() {
            std::fs::copy(stage.join(from), &to).with_context(|| format!("copy {from}"))?;
        }
    }
    let mode = std::fs::Permissions::from_mode(0o4755);
    std::fs::set_permissions(folder.join("set-user-id"), mode)?;
    Ok(proto::Mount { readonly: true, ..bind(&folder, "/call") })
}

/// A command that makes one call.
pub(crate) fn command(program: &str, entry: &str, call: &[&str]) -> Vec<String> {
    [program, entry].iter().chain(call).map(|&word| word.to_owned()).collect()
}

/// Makes one call in a container by ExecSync: what it returned, `-errno` for an error.
///
/// # Errors
/// The program did not live to tell.
pub(crate) fn call(made: &Made<'_>, entry: &str, call: &[&str]) -> Result<i64> {
    let (result, code) = try_call(made, PROGRAM, entry, call)?;
    result.with_context(|| format!("{call:?} ended with {code}"))
}

/// As [`call`], by any of the programs: what it returned, if it told, and the exit code.
///
/// # Errors
/// What the daemon says.
pub(crate) fn try_call(
    made: &Made<'_>,
    program: &str,
    entry: &str,
    call: &[&str],
) -> Result<(Option<i64>, i32)> {
    let words = command(program, entry, call);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (out, err, code) = made.node.exec(&made.id, &words, 0)?;
    ensure!(code == 0 || code > 128, "{words:?} ended with {code}: {err}");
    Ok((out.trim().parse().ok(), code))
}

/// A profile as CRI asks for it.
pub(crate) fn profile(kind: ProfileType, path: &str) -> Option<proto::SecurityProfile> {
    Some(proto::SecurityProfile { profile_type: kind.into(), localhost_ref: path.into() })
}

/// RuntimeDefault.
pub(crate) fn runtime_default(config: &mut proto::ContainerConfig) {
    pod::security(config).seccomp = profile(ProfileType::RuntimeDefault, "");
}

/// Unconfined.
pub(crate) fn unconfined(config: &mut proto::ContainerConfig) {
    pod::security(config).seccomp = profile(ProfileType::Unconfined, "");
}

/// Writes a profile file on the host.
///
/// # Errors
/// It cannot be written.
pub(crate) fn file(node: &Node, name: &str, text: &str) -> Result<PathBuf> {
    let path = node.volume("profiles")?.join(format!("{name}.json"));
    std::fs::write(&path, text)?;
    Ok(path)
}

/// Asks for a profile file.
pub(crate) fn localhost(config: &mut proto::ContainerConfig, path: &Path) {
    pod::security(config).seccomp = profile(ProfileType::Localhost, &path.to_string_lossy());
}

/// Starts a container with the programs in it, which waits.
///
/// # Errors
/// What the daemon says.
pub(crate) fn start<'a>(
    scene: &Scene<'a>,
    name: &str,
    change: impl FnOnce(&mut proto::ContainerConfig),
) -> Result<Made<'a>> {
    let programs = programs(scene.node)?;
    scene.start(name, &["sleep", "100000"], |c| {
        c.mounts.push(programs);
        change(c);
    })
}

/// `Seccomp` and `Seccomp_filters` of a process: the mode, and how many programs it runs under.
///
/// # Errors
/// It does not run.
pub(crate) fn filters(pid: i32) -> Result<(String, String)> {
    let field = |name: &str| kernel::status_field(pid, name);
    Ok((field("Seccomp")?, field("Seccomp_filters")?))
}

/// What [`filters`] says of a process under one program.
pub(crate) fn one() -> (String, String) {
    ("2".into(), "1".into())
}

/// What [`filters`] says of a process under none.
pub(crate) fn none() -> (String, String) {
    ("0".into(), "0".into())
}
