//! States, exit codes, reasons: what becomes of a container, and what is told about it.

use crate::harness::scene::{Scene, as_is, bind, in_shared_pids, shared_pids};
use crate::harness::{Node, Test, eventually, kernel, pod, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::{self, ContainerState};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("a_state_follows_each_verb", &[], states),
        shared("exit_codes_and_reasons_are_those_of_the_process", &[], exit_codes),
        shared("a_kill_from_outside_is_an_error_with_137", &[], killed_from_outside),
        shared("a_failed_start_names_the_step_and_the_errno", &[], start_errors),
        shared("a_missing_working_directory_is_made", &[], missing_directory),
        shared("a_user_that_the_image_does_not_know_is_refused", &[], unknown_user),
        shared("a_container_starts_only_once", &[], starts_once),
        shared("removing_a_running_container_ends_it", &[], remove_running),
        shared("an_unknown_container_is_not_found_but_is_stopped_and_removed", &[], unknown),
        shared("a_repeated_create_is_the_same_container", &[], repeated_create),
        shared("the_environment_is_the_images_and_the_requests", &[], environment),
    ]
}

fn states(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "states")?;
    let id = scene.create("main", pod::PATIENT, as_is)?;
    let created = node.container(&id)?;
    ensure!(created.state() == ContainerState::ContainerCreated, "{created:?}");
    ensure!((created.started_at, created.finished_at) == (0, 0), "it has not run: {created:?}");
    ensure!(kernel::pids_in(&node.container_cgroup(&scene.pod, &id)).is_err(), "it has a cgroup");

    node.start_container(&id)?;
    let running = node.container(&id)?;
    ensure!(running.state() == ContainerState::ContainerRunning, "{running:?}");
    ensure!(running.started_at >= created.created_at && created.created_at > 0, "{running:?}");
    let init = node.init_pid(&scene.pod, &id)?;
    ensure!(kernel::alive(init), "RUNNING without a process");

    node.wait_patient(&scene.pod, &id)?;
    node.stop_container(&id, Duration::from_secs(50))?;
    let exited = node.container(&id)?;
    ensure!(exited.state() == ContainerState::ContainerExited, "{exited:?}");
    ensure!(exited.finished_at >= exited.started_at, "{exited:?}");
    ensure!(exited.started_at == running.started_at, "the start moved: {exited:?}");
    ensure!((exited.exit_code, exited.reason.as_str()) == (0, "Completed"), "{exited:?}");
    ensure!(!kernel::alive(init), "EXITED with a process");
    ensure!(!node.container_cgroup(&scene.pod, &id).exists(), "EXITED with a cgroup");

    node.cri.remove_container(proto::RemoveContainerRequest { container_id: id.clone() })?;
    let request = proto::ContainerStatusRequest { container_id: id, ..Default::default() };
    let gone = node.cri.container_status(request).err().context("a removed one has a status")?;
    ensure!(gone.code() == Code::NotFound, "{gone}");
    Ok(())
}

fn exit_codes(node: &Node) -> Result<()> {
    let scene = Scene::with(node, "exit-codes", shared_pids)?;
    let rows = [
        ("zero", "exit 0", 0, "Completed"),
        ("three", "exit 3", 3, "Error"),
        ("high", "exit 255", 255, "Error"),
        // 128 + signal, also when a core was dumped.
        ("term", "kill -TERM $$; sleep 100", 143, "Error"),
        ("segv", "kill -SEGV $$; sleep 100", 139, "Error"),
        // By SIGKILL, but not for memory.
        ("kill", "kill -KILL $$; sleep 100", 137, "Error"),
        ("rt", "kill -40 $$; sleep 100", 168, "Error"),
        // The control: a code that only looks like a signal's.
        ("like-term", "exit 143", 143, "Error"),
    ];
    for (name, script, code, reason) in rows {
        let (status, _) = scene.output(name, script, in_shared_pids)?;
        let told = (status.exit_code, status.reason.as_str());
        ensure!(told == (code, reason), "{name}: {told:?} instead of {:?}", (code, reason));
        ensure!(status.message.is_empty(), "{name}: {}", status.message);
    }
    Ok(())
}

fn killed_from_outside(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "outside")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    kill(Pid::from_raw(made.init()?), Signal::SIGKILL)?;
    let status = made.end()?;
    ensure!((status.exit_code, status.reason.as_str()) == (137, "Error"), "{status:?}");
    Ok(())
}

fn start_errors(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "start-errors")?;
    let folder = node.volume("start-errors")?;
    let script = folder.join("no-format");
    std::fs::write(&script, "this is no program\n")?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    type Change = fn(&mut proto::ContainerConfig);
    let none: Change = |_| {};
    let rows: [(&str, &[&str], Change, &str); 6] = [
        ("missing", &["no-such-program"], none, "exec: no such file or directory"),
        ("missing-path", &["/no/such"], none, "exec: no such file or directory"),
        ("not-executable", &["/not-a-program"], none, "exec: permission denied"),
        ("a-directory", &["/www"], none, "exec: permission denied"),
        ("no-format", &["/v/no-format"], none, "exec: exec format error"),
        ("wrong-cwd", &["true"], |c| c.working_dir = "/etc/passwd".into(), "working directory"),
    ];
    for (name, command, change, words) in rows {
        let id = scene.create(name, command, |config| {
            config.mounts = vec![bind(&folder, "/v")];
            change(config);
        })?;
        let error = node.start_container(&id).err().with_context(|| format!("{name} starts"))?;
        ensure!(error.code() == Code::FailedPrecondition, "{name}: {error}");
        ensure!(error.message().contains(words), "{name}: no {words:?} in {error}");
        ensure!(error.message().contains(name), "{name}: the container is not named: {error}");
        let status = node.container(&id)?;
        ensure!(status.state() == ContainerState::ContainerExited, "{name}: {status:?}");
        let told = (status.exit_code, status.reason.as_str());
        ensure!(told == (128, "StartError"), "{name}: {told:?}");
        ensure!(status.message.contains(words), "{name}: no {words:?} in {:?}", status.message);
        ensure!(status.started_at == 0, "{name}: it never ran: {status:?}");
        ensure!(!node.container_cgroup(&scene.pod, &id).exists(), "{name}: a cgroup is left");
    }
    // The control: the same container with a program.
    let (status, _) =
        scene.output("control", "exit 0", |c| c.mounts = vec![bind(&folder, "/v")])?;
    ensure!((status.exit_code, status.reason.as_str()) == (0, "Completed"), "{status:?}");
    Ok(())
}

fn missing_directory(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "made-cwd")?;
    let deep = |config: &mut proto::ContainerConfig| config.working_dir = "/made/for/it".into();
    ensure!(scene.output("main", "pwd", deep)?.1 == "/made/for/it\n");
    ensure!(scene.output("control", "pwd", as_is)?.1 == "/\n");
    Ok(())
}

fn unknown_user(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "unknown-user")?;
    let error = scene
        .create("main", &["true"], |c| pod::security(c).run_as_username = "nobody-here".into())
        .err()
        .context("an unknown user is created")?;
    ensure!(error.code() == Code::InvalidArgument, "{error}");
    ensure!(
        error.message().contains("\"nobody-here\" is not in the image's /etc/passwd"),
        "{error}"
    );
    let all = node.cri.list_containers(proto::ListContainersRequest::default())?.containers;
    ensure!(all.is_empty(), "left behind: {all:?}");
    ensure!(kernel::names_in(&node.state_dir().join("snapshots")).is_empty(), "a layer is left");
    // The control: one that it knows, under the same name of the container.
    let known = |c: &mut proto::ContainerConfig| pod::security(c).run_as_username = "web".into();
    ensure!(scene.output("main", "id -u", known)?.1 == "1000\n");
    Ok(())
}

fn starts_once(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "once")?;
    let made = scene.script("main", "exit 7", as_is)?;
    made.end()?;
    let again = node.start_container(&made.id).err().context("it starts again")?;
    ensure!(again.code() == Code::FailedPrecondition, "{again}");
    let status = made.status()?;
    ensure!((status.exit_code, status.reason.as_str()) == (7, "Error"), "{status:?}");

    let runs = scene.start("runs", pod::PATIENT, as_is)?;
    let init = runs.init()?;
    let again = node.start_container(&runs.id).err().context("a running one starts again")?;
    ensure!(again.code() == Code::FailedPrecondition, "{again}");
    ensure!(runs.status()?.state() == ContainerState::ContainerRunning, "it was disturbed");
    ensure!(runs.init()? == init && kernel::alive(init), "another process");
    Ok(())
}

fn remove_running(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "remove-running")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    let init = made.init()?;
    let request = proto::RemoveContainerRequest { container_id: made.id.clone() };
    node.cri.remove_container(request.clone())?;
    ensure!(!kernel::alive(init), "removed, but its process runs");
    ensure!(!made.cgroup().exists(), "removed, but its cgroup is there");
    ensure!(kernel::names_in(&node.state_dir().join("snapshots")).is_empty(), "its layer is left");
    node.cri.remove_container(request).context("a repeated remove")?;
    // Its name is free.
    scene.create("main", &["true"], as_is)?;
    Ok(())
}

fn unknown(node: &Node) -> Result<()> {
    let id = "0".repeat(64);
    let not_found = |what: &str, answer: Result<(), tonic::Status>| -> Result<()> {
        let error = answer.err().with_context(|| format!("{what} of an unknown one succeeds"))?;
        ensure!(error.code() == Code::NotFound, "{what}: {error}");
        Ok(())
    };
    not_found("start", node.start_container(&id))?;
    not_found("exec", node.exec(&id, &["true"], 0).map(drop))?;
    let request = proto::ContainerStatusRequest { container_id: id.clone(), ..Default::default() };
    not_found("status", node.cri.container_status(request).map(drop))?;
    let request = proto::ContainerStatsRequest { container_id: id.clone() };
    not_found("stats", node.cri.container_stats(request).map(drop))?;
    node.stop_container(&id, Duration::ZERO).context("stop of an unknown one")?;
    let request = proto::RemoveContainerRequest { container_id: id };
    node.cri.remove_container(request).context("remove of an unknown one")?;
    Ok(())
}

fn repeated_create(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "repeated")?;
    let id = scene.create("main", pod::PATIENT, as_is)?;
    ensure!(scene.create("main", pod::PATIENT, as_is)? == id, "another container");
    let other = scene.create("main", &["true"], as_is).err().context("the name is taken")?;
    ensure!(other.code() == Code::AlreadyExists, "{other}");
    ensure!(other.message().contains(&id), "the holder is not named: {other}");
    node.start_container(&id)?;
    let late = scene.create("main", pod::PATIENT, as_is).err().context("it was started")?;
    ensure!(late.code() == Code::AlreadyExists, "{late}");
    let next = |c: &mut proto::ContainerConfig| c.metadata.get_or_insert_default().attempt = 1;
    ensure!(scene.create("main", pod::PATIENT, next)? != id, "an attempt is another container");
    Ok(())
}

fn environment(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "environment")?;
    let made = scene.start("main", pod::PATIENT, |config| {
        config.envs = vec![
            proto::KeyValue { key: "MINE".into(), value: b"a b=c".to_vec() },
            proto::KeyValue { key: "FROM_IMAGE".into(), value: b"no".to_vec() },
        ];
    })?;
    // What the kernel handed to the program.
    let text = eventually("the environment", || {
        let text = kernel::read(format!("/proc/{}/environ", made.init()?))?;
        Ok(text.contains("MINE").then_some(text))
    })?;
    let found: Vec<&str> =
        text.split_terminator('\0').filter(|e| !e.starts_with("HOSTNAME=")).collect();
    let expected = ["PATH=/bin:/usr/bin", "FROM_IMAGE=no", "MINE=a b=c", "HOME=/root"];
    ensure!(found == expected, "{found:?}");
    Ok(())
}
