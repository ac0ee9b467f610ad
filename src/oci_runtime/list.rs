//! list: the containers below `--root`.

use super::args::{Format, ListArgs};
use super::context::Context;
use super::error::{Doing as _, RuntimeError};
use super::state::{Container, State, print_json};
use crate::error::chain;
use std::io::{self, Write as _};

/// The verb `list`.
pub(super) fn list(ctx: &Context<'_>, args: &ListArgs) -> Result<(), RuntimeError> {
    let containers = all(ctx)?;
    let mut states: Vec<State<'_>> = Vec::new();
    for container in &containers {
        let status = container.status(ctx)?;
        states.push(container.state(status, container.pid(status)));
    }
    let mut text = String::new();
    match (args.quiet, args.format) {
        (false, Format::Json) => return print_json(&states),
        (true, _) => states.iter().for_each(|state| text.push_str(&format!("{}\n", state.id))),
        (false, Format::Table) => {
            let width = states.iter().map(|s| s.id.len()).max().unwrap_or(0).max(2);
            text = format!("{:width$}  {:>7}  {:8}  BUNDLE\n", "ID", "PID", "STATUS");
            for State { id, pid, status, bundle, .. } in &states {
                let (status, bundle) = (status.to_string(), bundle.display());
                text.push_str(&format!("{id:width$}  {pid:>7}  {status:8}  {bundle}\n"));
            }
        }
    }
    io::stdout().write_all(text.as_bytes()).doing(|| "write to standard output")
}

/// All of them, by name. One that is being made or removed right now may be missing.
fn all(ctx: &Context<'_>) -> Result<Vec<Container>, RuntimeError> {
    let entries = match std::fs::read_dir(&ctx.root) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.doing(|| format!("list {}", ctx.root.display()))?,
    };
    let mut ids: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    ids.sort();
    let mut containers = Vec::new();
    for id in ids {
        match Container::load(ctx, &id) {
            Ok(container) => containers.push(container),
            Err(RuntimeError::NotFound { .. }) => {}
            Err(error) => ctx.log.warn(&chain(&error)),
        }
    }
    Ok(containers)
}
