//! Measures a CRI endpoint and compares what was measured; `benches/run.sh` drives it.
//!
//! `measure` takes one daemon through the life of many pods, `pulls` through images, `streams` through commands
//! whose streams are the client's, `kept` through pods that a kubelet half keeps, and each writes every sample into a file; `table` sets the files of two daemons
//! and of the floor beside each other. The floor of pods is a program of its own, that of images is `inflate`, that
//! of streams is `copy`, that of a ConfigMap's change is `follow`.

mod client;
mod copy;
mod course;
mod endpoint;
mod inflate;
mod kept;
mod memory;
mod process;
mod pulls;
mod rate;
mod samples;
mod session;
mod streams;
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
    /// Succeed if the endpoint serves: one that recovers its pods tells its version before.
    Ping {
        /// Its socket.
        #[arg(long)]
        socket: PathBuf,
    },
    /// Take one endpoint through the whole course.
    Measure(course::Options),
    /// Pull images of many kinds through one endpoint.
    Pulls(pulls::Options),
    /// Run commands through one endpoint's streaming server.
    Streams(streams::Options),
    /// Have pods kept through one endpoint.
    Kept(kept::Options),
    /// Follow a file by one rename and do nothing else.
    Follow {
        /// A folder to do it in.
        #[arg(long)]
        folder: PathBuf,
        /// How often.
        #[arg(long)]
        times: usize,
    },
    /// Decompress images and do nothing else.
    Inflate(inflate::Options),
    /// Copy bytes between pipes and a connection and do nothing else.
    Copy,
    /// Print the comparison.
    Table(TableArgs),
}

#[derive(Args, Debug)]
struct TableArgs {
    /// Which figures.
    #[arg(long, value_enum, default_value = "pods")]
    of: table::Of,
    /// What a floor program printed; of several runs the mean counts.
    #[arg(long, required = true)]
    floor: Vec<PathBuf>,
    /// Samples of berth, of pods those with its built-in network.
    #[arg(long)]
    berth: PathBuf,
    /// Samples of berth with the peer's network plugins.
    #[arg(long)]
    berth_cni: Option<PathBuf>,
    /// Samples of the peer.
    #[arg(long)]
    peer: PathBuf,
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match Cli::parse().command {
        Command::Ping { socket } => runtime.block_on(async {
            client::Client::connect(&socket).await?.list_pods().await.map(|_| ())
        }),
        Command::Measure(options) => runtime.block_on(course::run(&options)),
        Command::Pulls(options) => runtime.block_on(pulls::run(&options)),
        Command::Streams(options) => runtime.block_on(streams::run(&options)),
        Command::Kept(options) => runtime.block_on(kept::run(&options)),
        Command::Follow { folder, times } => kept::follow(&folder, times),
        Command::Inflate(options) => inflate::run(&options),
        Command::Copy => runtime.block_on(copy::run()),
        Command::Table(args) => {
            let figures = table::Figures {
                floor: samples::load_floor(&args.floor)?,
                berth: samples::Samples::load(&args.berth)?,
                berth_cni: args.berth_cni.as_deref().map(samples::Samples::load).transpose()?,
                peer: samples::Samples::load(&args.peer)?,
            };
            write!(std::io::stdout().lock(), "{}", table::render(&figures, args.of))?;
            Ok(())
        }
    }
}
