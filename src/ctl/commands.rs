//! The subcommands that talk to the daemon, and those that write files for the shell.

use super::console::Format;
use super::kubelet::args::{ApplyArgs, DeleteArgs, DescribeCommand, GetCommand, OnePodArgs};
use super::port_forward::Ports;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use std::net::IpAddr;
use std::path::PathBuf;

/// A pod is named by its id, a unique prefix of it, its name, or NAMESPACE/NAME; a container by its
/// id, a unique prefix, its name, POD/NAME, or NAMESPACE/POD/NAME.
#[derive(Clone, Debug, Subcommand)]
pub enum ClientCommand {
    /// Apply the pods of a file, and wait until they run; what fails is taken back
    Run(RunArgs),
    /// List pods
    Pods(PodsArgs),
    /// List containers
    Ps(PsArgs),
    /// List images
    Images(OutputArgs),
    /// Images: import, pull, look into, remove, collect
    #[command(subcommand)]
    Image(ImageCommand),
    /// Print the log of a container
    Logs(LogsArgs),
    /// Run a command in a container; the exit code is the command's, 125 if it could not be run
    Exec(ExecArgs),
    /// Talk to a running container; the exit code is the container's, 0 after detaching
    Attach(AttachArgs),
    /// Lead ports of this machine to ports of a pod, until a signal
    PortForward(PortForwardArgs),
    /// Print what containers or pods use
    Stats(StatsArgs),
    /// Print all about a pod, a container or an image
    Inspect(InspectArgs),
    /// Stop pods or containers
    Stop(StopArgs),
    /// Remove pods or containers
    Rm(RmArgs),
    /// Print what happens, as it happens; `--pods`: to pods of the kubelet half, `berth get events` lists those
    Events(EventsArgs),
    /// List what the kubelet half keeps: pods, manifests, events
    #[command(subcommand)]
    Get(GetCommand),
    /// Print all about a pod that the kubelet half keeps, for people
    #[command(subcommand)]
    Describe(DescribeCommand),
    /// Print why a pod of the kubelet half does not run or is not ready, the first cause first
    Why(OnePodArgs),
    /// Give pods, ConfigMaps, Secrets and Services to the kubelet half
    Apply(ApplyArgs),
    /// Take back what was applied
    Delete(DeleteArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Write manual pages
    Man(ManArgs),
}

/// How lists are printed.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct OutputArgs {
    /// How to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

/// Options of `berth events`.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct EventsArgs {
    /// Events of the pods of the kubelet half, in the words of `berth describe pod`
    #[arg(long)]
    pub pods: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the type says it")]
    pub output: OutputArgs,
}

/// Options of `berth run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The Pod file; `-` for standard input
    #[arg(value_name = "POD.yaml")]
    pub file: PathBuf,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the type says it")]
    pub output: OutputArgs,
}

/// Options of `berth pods`.
#[derive(Args, Clone, Debug)]
pub struct PodsArgs {
    /// Only pods with this label
    #[arg(short, long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the type says it")]
    pub output: OutputArgs,
}

/// Options of `berth ps`.
#[derive(Args, Clone, Debug)]
pub struct PsArgs {
    /// Containers that do not run, too
    #[arg(short, long)]
    pub all: bool,
    /// Only containers of this pod
    #[arg(long, value_name = "POD")]
    pub pod: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the type says it")]
    pub output: OutputArgs,
}

/// `berth image …`.
#[derive(Clone, Debug, Subcommand)]
pub enum ImageCommand {
    /// Import an OCI layout (folder or tar) or a docker-save archive
    Import {
        /// The folder or the file
        path: PathBuf,
        /// How to print
        #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
        output: Format,
    },
    /// Pull an image from its registry
    Pull {
        /// The image's name
        reference: String,
        /// How to print
        #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
        output: Format,
    },
    /// List images
    Ls(OutputArgs),
    /// Print all about an image
    Inspect(ImageInspectArgs),
    /// Compare an image with its digests; exit code 1 if a part of it is damaged
    Verify(ImageArgs),
    /// Print how an image was built
    History(ImageArgs),
    /// Print images with their layers
    Tree(ImageTreeArgs),
    /// Write an image to an OCI layout: a folder, or a tar if the name ends with .tar
    Export {
        /// A name or an id
        image: String,
        /// The folder or the file
        path: PathBuf,
    },
    /// Remove images that no container uses, those used longest ago first
    Prune(PruneArgs),
    /// Remove images, with all their names
    Rm {
        /// Names or ids
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
}

/// A command about one image.
#[derive(Args, Clone, Debug)]
pub struct ImageArgs {
    /// A name or an id
    pub image: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the type says it")]
    pub output: OutputArgs,
}

/// Options of `berth image tree`.
#[derive(Args, Clone, Debug)]
pub struct ImageTreeArgs {
    /// Names or ids; none: all images
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the type says it")]
    pub output: OutputArgs,
}

/// Options of `berth image inspect`.
#[derive(Args, Clone, Debug)]
pub struct ImageInspectArgs {
    /// A name or an id
    pub image: String,
    /// How to print; a table is JSON here
    #[arg(short, long, value_enum, default_value = "json", value_name = "FORMAT")]
    pub output: Format,
}

/// Options of `berth image prune`.
#[derive(Args, Clone, Debug)]
pub struct PruneArgs {
    /// Also images that have a tag
    #[arg(short, long)]
    pub all: bool,
    /// Only images that came, or were used, longer ago: a number and s, m, h or d
    #[arg(long, value_name = "AGE", value_parser = super::prune::parse_age)]
    pub older_than: Option<std::time::Duration>,
    /// Only until their file system is used by so many percent
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub to: Option<u32>,
    /// Only tell what would be removed
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the type says it")]
    pub output: OutputArgs,
}

/// Options of `berth logs`.
#[derive(Args, Clone, Debug, Default)]
pub struct LogsArgs {
    /// A pod of the kubelet half, else a container
    #[arg(value_name = "POD|CONTAINER")]
    pub name: String,
    /// The pod's container [default: the first one]
    #[arg(short, long, value_name = "CONTAINER")]
    pub container: Option<String>,
    /// The pod's namespace [default: default]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Of the instance before the newest
    #[arg(short, long)]
    pub previous: bool,
    /// Go on until the container has ended
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last lines, of the log's newest file
    #[arg(long, value_name = "N")]
    pub tail: Option<usize>,
    /// Only what is no older: a number and s, m, h or d
    #[arg(long, value_name = "AGE", value_parser = super::prune::parse_age, conflicts_with = "since_time")]
    pub since: Option<std::time::Duration>,
    /// Only from this time on, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = super::log_since::parse_time)]
    pub since_time: Option<Timestamp>,
    /// The time of each line before it
    #[arg(short, long)]
    pub timestamps: bool,
}

/// Options of `berth exec`.
#[derive(Args, Clone, Debug)]
pub struct ExecArgs {
    /// Pass standard input on
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// The container
    pub container: String,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// Options of `berth attach`.
#[derive(Args, Clone, Debug)]
pub struct AttachArgs {
    /// Only listen
    #[arg(long)]
    pub no_stdin: bool,
    /// The container
    pub container: String,
}

/// Options of `berth port-forward`.
#[derive(Args, Clone, Debug)]
pub struct PortForwardArgs {
    /// Listen at these addresses [default: 127.0.0.1 and ::1]
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub address: Vec<IpAddr>,
    /// The pod
    pub pod: String,
    /// The pod's port, behind the local one if that is another; without a number before the colon, one that is free
    #[arg(required = true, value_name = "[[LOCAL]:]REMOTE")]
    pub ports: Vec<Ports>,
}

/// Options of `berth stats`.
#[derive(Args, Clone, Debug)]
pub struct StatsArgs {
    /// Whole pods instead of containers
    #[arg(long)]
    pub pods: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the type says it")]
    pub output: OutputArgs,
}

/// Options of `berth inspect`.
#[derive(Args, Clone, Debug)]
pub struct InspectArgs {
    /// A pod, a container or an image
    pub name: String,
    /// How to print; a table is JSON here
    #[arg(short, long, value_enum, default_value = "json", value_name = "FORMAT")]
    pub output: Format,
}

/// Options of `berth stop`.
#[derive(Args, Clone, Debug)]
pub struct StopArgs {
    /// Pods or containers
    #[arg(required = true, value_name = "POD|CONTAINER")]
    pub names: Vec<String>,
    /// Seconds until a container is killed [default: the pod's, else 30]
    #[arg(short, long, value_name = "SECONDS")]
    pub time: Option<u32>,
}

/// Options of `berth rm`.
#[derive(Args, Clone, Debug)]
pub struct RmArgs {
    /// Pods or containers
    #[arg(required = true, value_name = "POD|CONTAINER")]
    pub names: Vec<String>,
    /// Also those that run; they are killed
    #[arg(short, long)]
    pub force: bool,
}

/// Options of `berth completions`.
#[derive(Args, Clone, Copy, Debug)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Options of `berth man`.
#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// The folder to write into; it is made when missing
    pub dir: PathBuf,
}
