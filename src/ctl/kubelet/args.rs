//! The options of the commands for pods of the kubelet half.

use crate::ctl::commands::OutputArgs;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// `berth get …`.
#[derive(Clone, Debug, Subcommand)]
pub enum GetCommand {
    /// Pods
    #[command(visible_aliases = ["pod", "po"])]
    Pods(GetPodsArgs),
    /// Manifests: what became of each, and of what is wrong in it
    #[command(visible_alias = "manifest")]
    Manifests(OutputArgs),
    /// The node: what it is, what it has, whether it is well
    #[command(visible_aliases = ["nodes", "no"])]
    Node(GetNodeArgs),
    /// The newest events of pods, also of those that are gone; the newest last
    #[command(visible_aliases = ["event", "ev"])]
    Events(GetEventsArgs),
}

/// Which namespaces are meant.
#[derive(Args, Clone, Debug, Default)]
pub struct NamespacesArgs {
    /// The namespace [default: default]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
}

impl NamespacesArgs {
    /// The only namespace that is meant; `None`: all of them.
    pub fn only(&self) -> Option<&str> {
        if self.all_namespaces { None } else { Some(namespace_of(self.namespace.as_deref())) }
    }
}

/// The namespace that was given, or the one that is meant without.
pub fn namespace_of(given: Option<&str>) -> &str {
    given.unwrap_or("default")
}

/// How pods, or the node, are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PodFormat {
    /// Columns, for people.
    #[default]
    Table,
    /// Columns, with addresses and more.
    Wide,
    /// A v1 object or a v1 List as JSON.
    Json,
    /// A v1 object or a v1 List as YAML.
    Yaml,
    /// pod/NAME or node/NAME, a line each.
    Name,
}

/// Options of `berth get pods`.
#[derive(Args, Clone, Debug)]
pub struct GetPodsArgs {
    /// Only this one; the node's name at its end may be left out
    pub name: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the type says it")]
    pub namespaces: NamespacesArgs,
    /// How to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: PodFormat,
    /// Go on with what changes, until the daemon stops
    #[arg(short, long)]
    pub watch: bool,
}

/// Options of `berth get node`.
#[derive(Args, Clone, Copy, Debug)]
pub struct GetNodeArgs {
    /// How to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: PodFormat,
}

/// Options of `berth get events`.
#[derive(Args, Clone, Debug)]
pub struct GetEventsArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "the type says it")]
    pub namespaces: NamespacesArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the type says it")]
    pub output: OutputArgs,
}

/// `berth describe …`.
#[derive(Clone, Debug, Subcommand)]
pub enum DescribeCommand {
    /// A pod
    #[command(visible_aliases = ["pods", "po"])]
    Pod(OnePodArgs),
    /// The node
    #[command(visible_aliases = ["nodes", "no"])]
    Node,
}

/// A command about one pod.
#[derive(Args, Clone, Debug)]
pub struct OnePodArgs {
    /// The pod; the node's name at its end may be left out
    pub name: String,
    /// The namespace [default: default]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

/// Options of `berth apply`.
#[derive(Args, Clone, Debug)]
pub struct ApplyArgs {
    /// Manifests in YAML or JSON; `-` for standard input
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

/// Options of `berth delete`.
#[derive(Args, Clone, Debug)]
pub struct DeleteArgs {
    /// pod, configmap, secret or service
    #[arg(required_unless_present = "files", conflicts_with = "files")]
    pub kind: Option<String>,
    /// The names
    #[arg(value_name = "NAME", required_unless_present = "files")]
    pub names: Vec<String>,
    /// Do not wait until the pods have ended
    #[arg(long)]
    pub no_wait: bool,
    /// What these manifests name; `-` for standard input
    #[arg(short, long = "filename", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The namespace [default: default]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}
