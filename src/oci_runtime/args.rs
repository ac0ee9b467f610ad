//! The command line, in runc's spelling.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// `berth-oci`: an OCI runtime.
#[derive(Debug, Parser)]
#[command(
    name = "berth-oci",
    version,
    long_version = concat!(env!("CARGO_PKG_VERSION"), "\nspec: 1.2.0"),
    about = "Run containers of OCI bundles",
    arg_required_else_help = true
)]
pub struct Cli {
    /// The configuration file, of which `cgroups` and `process` count [default:
    /// /etc/berth/config.toml].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Everything else.
    #[command(flatten)]
    pub oci: OciArgs,
}

/// What `berth-oci` and `berth oci` share.
#[derive(Args, Clone, Debug)]
pub struct OciArgs {
    /// The folder that keeps what is known of containers; on a tmpfs.
    #[arg(long, value_name = "FOLDER", default_value = "/run/berth-oci")]
    pub root: PathBuf,
    /// Where errors are logged beside standard error.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// How.
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// Log more than errors and warnings.
    #[arg(long)]
    pub debug: bool,
    /// Have systemd make a container's cgroup: a scope. `linux.cgroupsPath` is `slice:prefix:name`
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Work without root: true is not part of this version, and an error.
    #[arg(long, value_enum, default_value = "auto")]
    pub rootless: Rootless,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `time="…" level=… msg="…"`.
    Text,
    /// One JSON object a line: level, msg, time.
    Json,
}

/// `--rootless`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rootless {
    /// As root.
    Auto,
    /// As root.
    False,
    /// Without.
    True,
}

/// The verbs.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Make a container whose process waits for its start.
    Create(CreateArgs),
    /// Let the process of a created container begin.
    Start(IdArgs),
    /// Print the state of a container.
    State(IdArgs),
    /// Send a signal to a container.
    Kill(KillArgs),
    /// Remove what is left of a container.
    Delete(DeleteArgs),
    /// Run a command in a container.
    Exec(Box<ExecArgs>),
    /// List the processes of a container.
    Ps(PsArgs),
    /// Hold all processes of a container where they are.
    Pause(IdArgs),
    /// Let the processes of a paused container go on.
    Resume(IdArgs),
    /// Change limits.
    Update(Box<UpdateArgs>),
    /// Print what a container uses, and out-of-memory events.
    Events(EventsArgs),
    /// Print what this runtime can do.
    Features,
    /// Create and start.
    Run(RunArgs),
    /// Write a config.json to begin with.
    Spec(SpecArgs),
    /// List the containers below --root.
    List(ListArgs),
}

/// A container.
#[derive(Args, Clone, Debug)]
pub struct IdArgs {
    /// The container's id.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

/// Options of `create`.
#[derive(Args, Clone, Debug)]
pub struct CreateArgs {
    /// The bundle [default: the working directory].
    #[arg(long, short, value_name = "FOLDER")]
    pub bundle: Option<PathBuf>,
    /// Where the terminal's master is sent.
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Where the pid is written.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Change the root without pivot_root(2). Not part of this version: an error.
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the session keyring.
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Hand on so many descriptors from 3 on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// The container's id.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

/// Options of `run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Those of `create`.
    #[command(flatten)]
    pub create: CreateArgs,
    /// Do not wait for the end.
    #[arg(long, short)]
    pub detach: bool,
    /// Keep the container after its end.
    #[arg(long)]
    pub keep: bool,
}

/// Options of `kill`.
#[derive(Args, Clone, Debug)]
pub struct KillArgs {
    /// To every process of the container.
    #[arg(long, short)]
    pub all: bool,
    /// The container's id.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
    /// By name or number.
    #[arg(value_name = "SIGNAL", default_value = "SIGTERM")]
    pub signal: String,
}

/// Options of `delete`.
#[derive(Args, Clone, Debug)]
pub struct DeleteArgs {
    /// Kill it when it runs; a container that does not exist is removed already.
    #[arg(long, short)]
    pub force: bool,
    /// The container's id.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

/// Options of `exec`.
#[derive(Args, Clone, Debug)]
pub struct ExecArgs {
    /// Where the terminal's master is sent.
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// The working directory.
    #[arg(long, value_name = "FOLDER")]
    pub cwd: Option<PathBuf>,
    /// NAME=value, beside the container's own.
    #[arg(long, short, value_name = "VARIABLE")]
    pub env: Vec<String>,
    /// With a terminal.
    #[arg(long, short)]
    pub tty: bool,
    /// UID or UID:GID.
    #[arg(long, short, value_name = "USER")]
    pub user: Option<String>,
    /// Further groups.
    #[arg(long, short = 'g', value_name = "GID")]
    pub additional_gids: Vec<u32>,
    /// The whole process, as in config.json.
    #[arg(long, short, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Do not wait for the end.
    #[arg(long, short)]
    pub detach: bool,
    /// Where the pid is written.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// The SELinux label.
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// The AppArmor profile.
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// Set no_new_privs.
    #[arg(long)]
    pub no_new_privs: bool,
    /// A capability beside the container's own.
    #[arg(long, short, value_name = "CAPABILITY")]
    pub cap: Vec<String>,
    /// Hand on so many descriptors from 3 on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Also in a paused container, where it will not run before the container goes on.
    #[arg(long)]
    pub ignore_paused: bool,
    /// The container's id.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
    /// The command and its arguments.
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Options of `ps`.
#[derive(Args, Clone, Debug)]
pub struct PsArgs {
    /// How it is printed.
    #[arg(long, short, value_enum, default_value = "table")]
    pub format: Format,
    /// The container's id.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
    /// Options of ps(1) in the place of -ef.
    #[arg(value_name = "OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
}

/// Options of `list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// How it is printed.
    #[arg(long, short, value_enum, default_value = "table")]
    pub format: Format,
    /// Only ids.
    #[arg(long, short)]
    pub quiet: bool,
}

/// Options of `events`.
#[derive(Args, Clone, Debug)]
pub struct EventsArgs {
    /// Print what it uses once, and end.
    #[arg(long)]
    pub stats: bool,
    /// Seconds between two prints.
    #[arg(long, value_name = "INTERVAL", default_value = "5s", value_parser = parse_interval)]
    pub interval: std::time::Duration,
    /// The container's id.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

/// `5s`, `500ms`, `1m`.
fn parse_interval(text: &str) -> Result<std::time::Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| "expected a number and ms, s or m".to_owned())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err("expected the unit ms, s or m".to_owned()),
    };
    match number.checked_mul(millis) {
        None | Some(0) => Err("is no interval".to_owned()),
        Some(millis) => Ok(std::time::Duration::from_millis(millis)),
    }
}

/// Options of `update`.
#[derive(Args, Clone, Debug)]
pub struct UpdateArgs {
    /// The resources as in config.json; `-`: standard input. Other options are not read then.
    #[arg(long, short, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// Block I/O weight, 10 to 1000.
    #[arg(long, value_name = "N")]
    pub blkio_weight: Option<u16>,
    /// CPU period, microseconds.
    #[arg(long, value_name = "N")]
    pub cpu_period: Option<u64>,
    /// CPU quota, microseconds; -1: none.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub cpu_quota: Option<i64>,
    /// CPU burst, microseconds.
    #[arg(long, value_name = "N")]
    pub cpu_burst: Option<u64>,
    /// CPU shares.
    #[arg(long, value_name = "N", alias = "cpu-shares")]
    pub cpu_share: Option<u64>,
    /// 1: only what nobody else uses.
    #[arg(long, value_name = "N")]
    pub cpu_idle: Option<i64>,
    /// CPUs.
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes.
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Memory, bytes; -1: no limit.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub memory: Option<i64>,
    /// Memory that is not reclaimed as long as others have some, bytes.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub memory_reservation: Option<i64>,
    /// Memory and swap together, bytes; -1: no limit.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub memory_swap: Option<i64>,
    /// Tasks; -1: no limit.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,
    /// The container's id.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

/// Options of `spec`.
#[derive(Args, Clone, Debug)]
pub struct SpecArgs {
    /// The bundle [default: the working directory].
    #[arg(long, short, value_name = "FOLDER")]
    pub bundle: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn parse(line: &str) -> OciArgs {
        Cli::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}")).oci
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_containerd_and_conmon_say_is_understood() {
        let args = parse(
            "berth-oci --root /run/x --log /l --log-format json --systemd-cgroup create --bundle /b \
             --pid-file /p --console-socket /s --no-pivot --preserve-fds 2 --no-new-keyring c1",
        );
        assert!(args.systemd_cgroup && args.log_format == LogFormat::Json);
        let Verb::Create(create) = args.verb else { panic!("not create") };
        assert_eq!((create.id.as_str(), create.preserve_fds), ("c1", 2));
        assert!(create.no_pivot && create.no_new_keyring);

        let args = parse("berth-oci --rootless=false kill --all c1 9");
        let Verb::Kill(kill) = args.verb else { panic!("not kill") };
        assert_eq!((kill.all, kill.signal.as_str()), (true, "9"));

        let args =
            parse("berth-oci exec --process /p.json --detach --pid-file /p --console-socket /s c1");
        let Verb::Exec(exec) = args.verb else { panic!("not exec") };
        assert!(exec.detach && exec.command.is_empty());

        let args = parse("berth-oci exec --env A=b --cwd /x --user 1:2 -t c1 ls -l --color");
        let Verb::Exec(exec) = args.verb else { panic!("not exec") };
        assert_eq!(exec.command, ["ls", "-l", "--color"]);
        assert!(exec.tty);

        let Verb::Update(update) = parse("berth-oci update --resources - c1").verb else {
            panic!("not update")
        };
        assert_eq!(update.resources.unwrap().to_str(), Some("-"));
        let Verb::Ps(ps) = parse("berth-oci ps --format json c1").verb else { panic!("not ps") };
        assert_eq!(ps.format, Format::Json);
        let Verb::Events(events) = parse("berth-oci events --stats c1").verb else {
            panic!("not events")
        };
        assert!(events.stats);
        assert!(matches!(parse("berth-oci delete --force c1").verb, Verb::Delete(d) if d.force));
    }

    #[test]
    fn intervals_have_units() {
        assert_eq!(parse_interval("500ms").unwrap().as_millis(), 500);
        assert_eq!(parse_interval("2m").unwrap().as_secs(), 120);
        for bad in ["", "5", "s", "0s", "-1s", "5h"] {
            assert!(parse_interval(bad).is_err(), "{bad}");
        }
    }
}
