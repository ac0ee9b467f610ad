//! events: what a container uses, in runc's form, and out-of-memory kills.

use super::args::EventsArgs;
use super::context::Context;
use super::error::{Doing as _, RuntimeError};
use super::state::{Container, Status};
use crate::cgroups::{CgroupStats, Limit};
use nix::poll::{PollTimeout, poll};
use serde_json::{Value, json};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;

/// The verb `events`.
pub(super) fn events(ctx: &Context<'_>, args: &EventsArgs) -> Result<(), RuntimeError> {
    let container = Container::load(ctx, &args.id)?;
    match container.status(ctx)? {
        Status::Created | Status::Running | Status::Paused => {}
        status => return Err(RuntimeError::NotRunning { id: args.id.clone(), status }),
    }
    let leaf = container.leaf(ctx);
    let read = || leaf.stats().doing(|| format!("read the figures of {:?}", args.id));
    let mut kills = kills_of(&read()?);
    if args.stats {
        return print("stats", &args.id, &figures(&read()?));
    }
    let Some(init) = container.init()? else { return Ok(()) };
    let interval = PollTimeout::try_from(args.interval).unwrap_or(PollTimeout::MAX);
    loop {
        let mut fds = [nix::poll::PollFd::new(init.as_fd(), nix::poll::PollFlags::POLLIN)];
        let ended = match poll(&mut fds, interval) {
            Ok(n) => n > 0,
            Err(nix::errno::Errno::EINTR) => false,
            Err(e) => return Err(e).doing(|| "wait for the container"),
        };
        // Its last figures may be gone with it.
        let now = match read() {
            Err(_) if ended => return Ok(()),
            other => other?,
        };
        if kills_of(&now) > kills {
            kills = kills_of(&now);
            print("oom", &args.id, &Value::Null)?;
        }
        if ended {
            return Ok(());
        }
        print("stats", &args.id, &figures(&now))?;
    }
}

fn kills_of(stats: &CgroupStats) -> u64 {
    stats.memory.map_or(0, |memory| memory.events.oom_kill)
}

fn print(kind: &str, id: &str, data: &Value) -> Result<(), RuntimeError> {
    let event = match data {
        Value::Null => json!({ "type": kind, "id": id }),
        data => json!({ "type": kind, "id": id, "data": data }),
    };
    let mut out = io::stdout();
    writeln!(out, "{event}").and_then(|()| out.flush()).doing(|| "write to standard output")
}

/// A ceiling as runc prints it.
fn ceiling(limit: Option<Limit>) -> u64 {
    match limit {
        Some(Limit::Value(value)) => value,
        Some(Limit::Max) | None => u64::MAX,
    }
}

fn figures(stats: &CgroupStats) -> Value {
    let cpu = stats.cpu.unwrap_or_default();
    let nanos = |usec: u64| usec.saturating_mul(1000);
    let memory = stats.memory.unwrap_or_default();
    let pids = stats.pids.map(|pids| {
        let limit = match pids.max {
            Some(Limit::Value(limit)) => limit,
            Some(Limit::Max) | None => 0,
        };
        json!({ "current": pids.current, "limit": limit })
    });
    let io = stats.io.unwrap_or_default();
    json!({
        "cpu": {
            "usage": {
                "total": nanos(cpu.usage_usec),
                "kernel": nanos(cpu.system_usec),
                "user": nanos(cpu.user_usec),
            },
            "throttling": {
                "periods": cpu.nr_periods,
                "throttledPeriods": cpu.nr_throttled,
                "throttledTime": nanos(cpu.throttled_usec),
            },
        },
        "memory": {
            "usage": {
                "usage": memory.current,
                "limit": ceiling(memory.limit),
                "max": memory.peak.unwrap_or(0),
                "failcnt": memory.events.max,
            },
            "swap": {
                "usage": memory.swap.unwrap_or(0),
                "limit": ceiling(memory.swap_limit),
            },
            "raw": {
                "anon": memory.rss,
                "inactive_file": memory.current.saturating_sub(memory.working_set),
                "pgfault": memory.page_faults,
                "pgmajfault": memory.major_page_faults,
            },
        },
        "pids": pids.unwrap_or_else(|| json!({})),
        "blkio": {
            "bytes": { "read": io.read_bytes, "write": io.write_bytes },
            "operations": { "read": io.read_ops, "write": io.write_ops },
        },
    })
}
