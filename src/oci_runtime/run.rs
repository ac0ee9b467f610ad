//! run: create and start; in the foreground also wait and delete.

use super::args::RunArgs;
use super::bundle::Bundle;
use super::context::Context;
use super::create::{Created, Terminal, make};
use super::error::{Doing as _, RuntimeError};
use super::foreground::Foreground;
use super::{console, delete, start};
use std::os::fd::AsFd as _;

/// The verb `run`: the exit code of the container's process, or 0 when nobody waits for it.
pub(super) fn run(ctx: &Context<'_>, args: &RunArgs) -> Result<u8, RuntimeError> {
    let bundle = Bundle::load(args.create.bundle.as_deref())?;
    let terminal = bundle.terminal();
    let kept = terminal && args.create.console_socket.is_none() && !args.detach;
    let console = match kept {
        true => None,
        false => console::connect(terminal, args.create.console_socket.as_deref())?,
    };
    let foreground = match args.detach {
        true => None,
        false => Some(Foreground::begin().doing(|| "take over signals")?),
    };
    let mut master = None;
    let place = match (&console, kept) {
        (Some(to), _) => Terminal::Sent(to),
        (None, true) => Terminal::Kept(&mut master),
        (None, false) => Terminal::None,
    };
    let created = make(ctx, &args.create, &bundle, place)?;
    if let Err(error) = start::begin(ctx, &created.container, &bundle.hooks) {
        remove(ctx, &created, &bundle);
        return Err(error);
    }
    let Some(foreground) = foreground else { return Ok(0) };
    let Created { container, process, lock } = created;
    // Others may signal and pause it while we wait.
    drop(lock);
    let code = foreground
        .attend(process.pidfd.as_fd(), master)
        .doing(|| format!("wait for {:?}", container.id))?;
    if !args.keep {
        let id = container.id;
        delete::delete(ctx, &super::args::DeleteArgs { force: true, id })?;
    }
    Ok(code)
}

/// What did not start is not left.
fn remove(ctx: &Context<'_>, created: &Created, bundle: &Bundle) {
    let container = &created.container;
    let removed = delete::kill_all(ctx, container)
        .and_then(|()| delete::remove_cgroup(ctx, container))
        .and_then(|()| delete::remove_dir(container));
    if let Err(error) = removed {
        ctx.log.warn(&crate::error::chain(&error));
    }
    delete::run_poststop(ctx, container, &bundle.hooks);
}
