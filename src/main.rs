//! `berth`: the daemon and the command line; as `berth-oci` an OCI runtime. Reads arguments and environment once, here.

use anyhow::Context as _;
use berth::config::{self, Loaded, Overrides};
use berth::ctl::Place;
use berth::ctl::args::{CheckArgs, Cli, Command, ServeArgs};
use berth::ctl::console::Console;
use berth::{blocking, ctl, daemon, oci_runtime, sys, telemetry};
use clap::Parser as _;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// The most worker threads: RPCs are short, and blocking work has threads of its own.
const MAX_WORKERS: usize = 4;

/// The name by which this program is an OCI runtime.
const OCI_RUNTIME: &str = "berth-oci";

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    if Path::new(&name).file_name() == Some(OCI_RUNTIME.as_ref()) {
        return oci_runtime::main();
    }
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            use io::Write as _;
            // There is nowhere else to tell a failed write to stderr.
            writeln!(io::stderr(), "berth: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match &cli.command {
        Command::Serve(args) => serve(&cli, args),
        Command::Config => {
            ctl::config::print(&load(&cli, &ServeArgs::default())?, &mut io::stdout().lock())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check(args) => check(&cli, args),
        Command::Oci(args) => Ok(oci_runtime::execute(args, cli.config.as_deref())),
        Command::Client(command) => {
            let place = Place::from(&load(&cli, &ServeArgs::default())?.config);
            Ok(ctl::execute(command, &place, &mut Console::of_process()))
        }
    }
}

fn load(cli: &Cli, args: &ServeArgs) -> anyhow::Result<Loaded> {
    let overrides = Overrides { log_level: args.log_level.clone(), log_json: args.log_json };
    Ok(config::load(cli.config.as_deref(), &overrides)?)
}

fn serve(cli: &Cli, args: &ServeArgs) -> anyhow::Result<ExitCode> {
    // Before there is a second thread.
    sys::heap::keep_moderate();
    sys::signals::of_a_daemon().context("set the signals")?;
    let Loaded { config, ignored, .. } = load(cli, args)?;
    let config = Arc::new(config);
    let journal_stream = std::env::var_os("JOURNAL_STREAM");
    telemetry::init(&config.log, journal_stream.as_deref())?;
    for sentence in ignored {
        tracing::warn!(sentence, "a part of the KubeletConfiguration changes nothing");
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(MAX_WORKERS))
        .max_blocking_threads(blocking::THREADS)
        .thread_name("berth")
        .enable_all()
        .build()
        .context("start the worker threads")?;
    runtime.block_on(daemon::serve(config))?;
    // What is left are tasks whose callers have gone; a hung host path must not hold the stop.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

fn check(cli: &Cli, args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let loaded = load(cli, &ServeArgs::default())?;
    let report = ctl::check::run(&loaded.config);
    let mut out = io::stdout().lock();
    ctl::check::print(&report, args.json, &mut out).context("write the report")?;
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
