//! delete: nothing of a container is left. Every step can be done again: what one `delete` did not
//! finish, the next one does.

use super::args::DeleteArgs;
use super::context::Context;
use super::error::{Doing as _, RuntimeError};
use super::hooks::{self, Hooks};
use super::scope;
use super::state::{Container, Status, check_id, lock};
use crate::error::chain;
use crate::sys::process;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

/// So long a removal waits for killed processes.
const ENDED_WITHIN: Duration = Duration::from_secs(10);

/// The verb `delete`.
pub(super) fn delete(ctx: &Context<'_>, args: &DeleteArgs) -> Result<(), RuntimeError> {
    check_id(&args.id)?;
    let dir = ctx.root.join(&args.id);
    if args.force
        && let Ok(container) = Container::load(ctx, &args.id)
    {
        // Before the lock: a start that waits for a hook holds it.
        kill_all(ctx, &container)?;
    }
    let locked = Container::load_locked(ctx, &args.id);
    let (container, _lock) = match locked {
        Err(RuntimeError::NotFound { .. }) if args.force => return remove_remains(&dir),
        other => other?,
    };
    match container.status(ctx)? {
        Status::Stopped | Status::Created => {}
        _ if args.force => {}
        status => {
            return Err(RuntimeError::State { verb: "delete", id: args.id.clone(), status });
        }
    }
    let hooks = container.config().map(|(_, hooks)| hooks);
    kill_all(ctx, &container)?;
    remove_cgroup(ctx, &container)?;
    remove_dir(&container)?;
    match hooks {
        Ok(hooks) => run_poststop(ctx, &container, &hooks),
        Err(error) => ctx.log.warn(&format!("no poststop hooks were run: {}", chain(&error))),
    }
    Ok(())
}

/// The folder of a `create` that was killed before it wrote its record. It had made nothing else.
fn remove_remains(dir: &Path) -> Result<(), RuntimeError> {
    let _lock = match lock(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.doing(|| format!("lock {}", dir.display()))?,
    };
    std::fs::remove_dir_all(dir).doing(|| format!("remove {}", dir.display()))
}

/// Kills everything of a container, the first process first: with it its pid namespace ends.
pub(super) fn kill_all(ctx: &Context<'_>, container: &Container) -> Result<(), RuntimeError> {
    if let Some(init) = container.init()? {
        process::kill(init.as_fd()).doing(|| format!("kill {:?}", container.id))?;
    }
    let leaf = container.leaf(ctx);
    // A record that was written before its cgroup was made: somebody else's may be there.
    if container.record.init.is_none() && !owned_only(ctx, container)? {
        return Ok(());
    }
    leaf.kill().doing(|| format!("kill what is left of {:?}", container.id))
}

/// Whether the cgroup of a cut-off create is the container's own. `create` takes no cgroup that
/// holds processes, so what is in it now was cloned by it, as long as nobody else has its path.
fn owned_only(ctx: &Context<'_>, container: &Container) -> Result<bool, RuntimeError> {
    let entries = match std::fs::read_dir(&ctx.root) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(true),
        other => other.doing(|| format!("list {}", ctx.root.display()))?,
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().filter(|id| *id != container.id) else { continue };
        if let Ok(other) = Container::load(ctx, id)
            && other.record.cgroup == container.record.cgroup
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes the cgroup, with the kernel's own patience.
pub(super) fn remove_cgroup(ctx: &Context<'_>, container: &Container) -> Result<(), RuntimeError> {
    if container.record.init.is_none() && !owned_only(ctx, container)? {
        return Ok(());
    }
    let leaf = container.leaf(ctx);
    let doing = || format!("remove the cgroup of {:?}", container.id);
    leaf.kill().doing(doing)?;
    // Killed processes end only when they run.
    leaf.thaw().doing(doing)?;
    leaf.wait_empty(ENDED_WITHIN).doing(doing)?;
    match container.record.scope {
        true => scope::remove(ctx, container),
        false => leaf.remove().doing(doing),
    }
}

/// Removes the container's folder. The record goes last: without it nobody knows the rest.
pub(super) fn remove_dir(container: &Container) -> Result<(), RuntimeError> {
    let doing = || format!("remove {}", container.dir.display());
    for entry in std::fs::read_dir(&container.dir).doing(doing)?.flatten() {
        if entry.file_name() != "state.json" {
            std::fs::remove_file(entry.path()).doing(doing)?;
        }
    }
    std::fs::remove_dir_all(&container.dir).doing(doing)
}

/// Runs the poststop hooks. One that fails is logged and holds up nothing.
pub(super) fn run_poststop(ctx: &Context<'_>, container: &Container, hooks: &Hooks) {
    let state = container.state(Status::Stopped, 0);
    let bundle = &container.record.bundle;
    let directory = if bundle.is_dir() { bundle } else { Path::new("/") };
    for hook in &hooks.poststop {
        let one = std::slice::from_ref(hook);
        if let Err(error) = hooks::run_all("poststop", one, &state, directory) {
            ctx.log.warn(&chain(&error));
        }
    }
}
