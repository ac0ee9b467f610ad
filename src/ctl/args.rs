//! The command line: one variant a subcommand.

use super::commands::ClientCommand;
use crate::oci_runtime::args::OciArgs;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// A node-level container runtime.
#[derive(Debug, Parser)]
#[command(name = "berth", version, about, arg_required_else_help = true)]
pub struct Cli {
    /// The configuration file [default: /etc/berth/config.toml].
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve CRI v1 on a unix socket.
    Serve(ServeArgs),
    /// Print the effective configuration with the origin of each value.
    Config,
    /// Check whether this node can run pods; exit code 1 if it cannot.
    Check(CheckArgs),
    /// Run containers of OCI bundles, as `berth-oci` does.
    Oci(Box<OciArgs>),
    /// Everything that asks the daemon.
    #[command(flatten)]
    Client(ClientCommand),
}

/// Options of `berth serve`.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeArgs {
    /// error, warn, info, debug, trace, or a tracing filter.
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Log one JSON object a line on stderr.
    #[arg(long)]
    pub log_json: bool,
}

/// Options of `berth check`.
#[derive(Args, Clone, Debug, Default)]
pub struct CheckArgs {
    /// Print JSON instead of lines for people.
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
