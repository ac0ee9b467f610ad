//! Measures a CRI endpoint and compares what was measured; `benches/run.sh` drives it.
//!
//! `measure` takes one daemon through the life of many pods and writes every sample into a file;
//! `table` sets the files of two daemons and of the kernel's floor beside each other.

mod client;
mod course;
mod memory;
mod samples;
mod table;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use std::io::Write as _;
use std::path::PathBuf;

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Succeed if the endpoint answers.
    Ping {
        /// Its socket.
        #[arg(long)]
        socket: PathBuf,
    },
    /// Take one endpoint through the whole course.
    Measure(course::Options),
    /// Print the comparison.
    Table(TableArgs),
}

#[derive(Args, Debug)]
struct TableArgs {
    /// What the floor program printed; of several runs the mean counts.
    #[arg(long, required = true)]
    floor: Vec<PathBuf>,
    /// Samples of berth with its built-in network.
    #[arg(long)]
    berth: PathBuf,
    /// Samples of berth with the peer's network plugins.
    #[arg(long)]
    berth_cni: PathBuf,
    /// Samples of the peer.
    #[arg(long)]
    peer: PathBuf,
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match Cli::parse().command {
        Command::Ping { socket } => runtime.block_on(async {
            client::Client::connect(&socket).await?.version().await.map(|_| ())
        }),
        Command::Measure(options) => runtime.block_on(course::run(&options)),
        Command::Table(args) => {
            let figures = table::Figures {
                floor: samples::load_floor(&args.floor)?,
                berth: samples::Samples::load(&args.berth)?,
                berth_cni: samples::Samples::load(&args.berth_cni)?,
                peer: samples::Samples::load(&args.peer)?,
            };
            write!(std::io::stdout().lock(), "{}", table::render(&figures))?;
            Ok(())
        }
    }
}
