//! From arguments to an exit code.

use super::args::{Cli, OciArgs, Verb};
use super::context::Context;
use super::error::{Doing as _, RuntimeError};
use super::log::Log;
use super::{
    create, delete, events, exec, features, kill, list, pause, ps, run, seal, spec, start, state,
    update,
};
use crate::error::chain;
use crate::sys::{fds, signals};
use clap::Parser as _;
use std::path::Path;
use std::process::ExitCode;

/// `berth-oci`, by the process's own arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    execute(&cli.oci, cli.config.as_deref())
}

/// Runs one verb to its end. An error is a line on standard error and in the log.
pub fn execute(args: &OciArgs, config: Option<&Path>) -> ExitCode {
    // Before anything is opened: what is opened takes the lowest free number.
    let handed_on = check_handed_on(&args.verb);
    let log = match Log::open(args) {
        Ok(log) => log,
        Err(error) => {
            use std::io::Write as _;
            // There is nowhere else to tell a failed write to standard error.
            writeln!(std::io::stderr(), "berth-oci: {}", chain(&error)).ok();
            return ExitCode::FAILURE;
        }
    };
    match handed_on.and_then(|()| run_verb(args, config, &log)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            log.error(&chain(&error));
            ExitCode::from(if matches!(args.verb, Verb::Exec(_)) { 255 } else { 1 })
        }
    }
}

/// Descriptors that are to be handed on must be open: they would be some of our own otherwise.
fn check_handed_on(verb: &Verb) -> Result<(), RuntimeError> {
    let count = match verb {
        Verb::Create(args) => args.preserve_fds,
        Verb::Run(args) => args.create.preserve_fds,
        Verb::Exec(args) => args.preserve_fds,
        _ => 0,
    };
    match (3..count.saturating_add(3)).find(|number| !fds::is_open(*number)) {
        None => Ok(()),
        Some(number) => Err(RuntimeError::refused(format!(
            "--preserve-fds {count}: descriptor {number} is not open"
        ))),
    }
}

fn run_verb(args: &OciArgs, config: Option<&Path>, log: &Log) -> Result<u8, RuntimeError> {
    match &args.verb {
        // Neither needs a kernel that can run containers.
        Verb::Features => return features::features().map(|()| 0),
        Verb::Spec(args) => return spec::spec(args).map(|()| 0),
        _ => {}
    }
    prepare(args)?;
    dispatch(&Context::open(args, config, log)?, args)
}

/// Before anything is opened.
fn prepare(args: &OciArgs) -> Result<(), RuntimeError> {
    signals::of_a_daemon().doing(|| "set the signals")?;
    if matches!(args.verb, Verb::Create(_) | Verb::Run(_) | Verb::Exec(_)) {
        seal::seal().doing(|| "execute berth-oci out of containers' reach")?;
    }
    // Those that are to be handed on lose the mark between clone and exec.
    fds::close_all_on_exec(3).doing(|| "mark descriptors close-on-exec")
}

fn dispatch(ctx: &Context<'_>, args: &OciArgs) -> Result<u8, RuntimeError> {
    match &args.verb {
        Verb::Create(args) => create::create(ctx, args),
        Verb::Start(args) => start::start(ctx, &args.id),
        Verb::State(args) => state::print(ctx, &args.id),
        Verb::Kill(args) => kill::kill(ctx, args),
        Verb::Delete(args) => delete::delete(ctx, args),
        Verb::Exec(args) => return exec::exec(ctx, args),
        Verb::Ps(args) => ps::ps(ctx, args),
        Verb::Pause(args) => pause::pause(ctx, &args.id),
        Verb::Resume(args) => pause::resume(ctx, &args.id),
        Verb::Update(args) => update::update(ctx, args),
        Verb::Events(args) => events::events(ctx, args),
        Verb::Run(args) => return run::run(ctx, args),
        Verb::List(args) => list::list(ctx, args),
        Verb::Features | Verb::Spec(_) => Ok(()),
    }
    .map(|()| 0)
}
