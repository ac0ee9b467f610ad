//! Runs one subcommand and turns its outcome into an exit code.

use super::commands::ClientCommand;
use super::connect::Daemon;
use super::console::Console;
use super::error::{CtlError, NOT_RUN};
use super::stream::Trust;
use super::{
    attach, events, exec, generate, images, inspect, kubelet, list, logs, port_forward, stats,
    stop, why,
};
use crate::config::Config;
use std::path::PathBuf;
use std::process::ExitCode;

/// Where the daemon is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its socket.
    pub socket: PathBuf,
    /// Where the runtime of its kubelet half's pods listens, if that is another one.
    pub runtime: Option<PathBuf>,
    /// Whom its streams are believed.
    pub trust: Trust,
}

impl From<&Config> for Place {
    fn from(config: &Config) -> Self {
        Self {
            socket: config.server.socket.clone(),
            runtime: config.kubelet.as_ref().and_then(|kubelet| kubelet.runtime_endpoint.clone()),
            trust: Trust::of_certificate(config.streaming.tls_cert.clone()),
        }
    }
}

/// Runs a subcommand to its end. Errors are one line on the console.
pub fn execute(command: &ClientCommand, place: &Place, console: &mut Console) -> ExitCode {
    // Theirs is the exit code of another program.
    let passes_code = matches!(command, ClientCommand::Exec(_) | ClientCommand::Attach(_));
    match execute_blocking(command, place, console) {
        Ok(code) => ExitCode::from(code),
        // Whoever read the output has had enough.
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            console.note(&format!("berth: {}", error.line()));
            ExitCode::from(if passes_code { NOT_RUN } else { error.exit_code() })
        }
    }
}

fn execute_blocking(
    command: &ClientCommand,
    place: &Place,
    console: &mut Console,
) -> Result<u8, CtlError> {
    match command {
        ClientCommand::Completions(args) => generate::completions(*args, console).map(|()| 0),
        ClientCommand::Man(args) => generate::man(args).map(|()| 0),
        _ => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(CtlError::file("start", "the event loop"))?;
            let result = runtime.block_on(ask(command, place, console));
            // A read of standard input may still be under way, and will never end.
            runtime.shutdown_background();
            result
        }
    }
}

async fn ask(
    command: &ClientCommand,
    place: &Place,
    console: &mut Console,
) -> Result<u8, CtlError> {
    use ClientCommand as Cmd;
    let daemon = Daemon::connect(&place.socket).await?;
    let trust = &place.trust;
    match command {
        Cmd::Exec(args) => return exec::exec(args, &daemon, trust).await,
        Cmd::Attach(args) => return attach::attach(args, &daemon, trust, console).await,
        Cmd::PortForward(args) => {
            return port_forward::port_forward(args, &daemon, trust, console).await;
        }
        Cmd::Run(args) => kubelet::run(args, &daemon, console).await,
        Cmd::Pods(args) => list::pods(args, &daemon, console).await,
        Cmd::Ps(args) => list::ps(args, &daemon, console).await,
        Cmd::Images(args) => images::list(args, &daemon, console).await,
        Cmd::Image(command) => images::image(command, &daemon, console).await,
        Cmd::Logs(args) => logs::logs(args, &daemon, place.runtime.as_deref(), console).await,
        Cmd::Stats(args) => stats::stats(args, &daemon, console).await,
        Cmd::Inspect(args) => inspect::inspect(args, &daemon, console).await,
        Cmd::Stop(args) => stop::stop(args, &daemon, console).await,
        Cmd::Rm(args) => stop::remove(args, &daemon, console).await,
        Cmd::Events(args) if args.pods => {
            kubelet::follow_events(&args.output, &daemon, console).await
        }
        Cmd::Events(args) => events::events(&args.output, &daemon, console).await,
        Cmd::Get(command) => kubelet::get(command, &daemon, console).await,
        Cmd::Describe(command) => kubelet::describe(command, &daemon, console).await,
        Cmd::Why(args) => why::why(args, &daemon, console).await,
        Cmd::Apply(args) => kubelet::apply(args, &daemon, console).await,
        Cmd::Delete(args) => kubelet::delete(args, &daemon, console).await,
        Cmd::Completions(_) | Cmd::Man(_) => Ok(()),
    }
    .map(|()| 0)
}
