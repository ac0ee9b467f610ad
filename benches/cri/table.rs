//! One table: what, the floor, berth, the peer, their ratio, the budget.

use crate::samples::Samples;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Everything that was measured.
pub(crate) struct Figures {
    pub(crate) floor: BTreeMap<String, f64>,
    pub(crate) berth: Samples,
    pub(crate) berth_cni: Option<Samples>,
    pub(crate) peer: Samples,
}

/// What was measured.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Of {
    Pods,
    Images,
    Streams,
    Kept,
}

/// Which values are the good ones.
#[derive(Clone, Copy)]
enum Better {
    Less,
    More,
}

/// Rows of one unit.
struct Part {
    unit: &'static str,
    better: Better,
    rows: &'static [Row],
}

const fn part(unit: &'static str, rows: &'static [Row]) -> Part {
    Part { unit, better: Better::Less, rows }
}

/// Which network berth had.
#[derive(Clone, Copy)]
enum Net {
    BuiltIn,
    Cni,
}

/// What a row must reach.
#[derive(Clone, Copy)]
enum Budget {
    None,
    /// At most this share of the peer's value.
    Share(f64),
    /// At most this, whatever the peer has.
    AtMost(f64),
    /// Both.
    Both(f64, f64),
}

struct Row {
    what: &'static str,
    figure: &'static str,
    net: Net,
    budget: Budget,
}

const fn row(what: &'static str, figure: &'static str, budget: Budget) -> Row {
    Row { what, figure, net: Net::BuiltIn, budget }
}

const fn cni(what: &'static str, figure: &'static str, budget: Budget) -> Row {
    Row { what, figure, net: Net::Cni, budget }
}

const TIMES: &[Row] = &[
    row("RunPodSandbox, built-in network", "run_pod", Budget::Share(1.0 / 12.0)),
    cni("RunPodSandbox, same CNI plugins", "run_pod", Budget::Share(1.0 / 2.0)),
    row("CreateContainer", "create_container", Budget::None),
    row("StartContainer", "start_container", Budget::None),
    row("  create + start", "create_start", Budget::Share(1.0 / 8.0)),
    row("ExecSync of true", "exec_sync", Budget::Share(1.0 / 15.0)),
    row("StopContainer, heeds SIGTERM", "stop_container", Budget::Share(1.0 / 8.0)),
    row("StopPodSandbox", "stop_pod", Budget::None),
    row("RemovePodSandbox", "remove_pod", Budget::None),
    row("  stop + remove", "stop_remove", Budget::Share(1.0 / 8.0)),
    cni("  stop + remove, same CNI plugins", "stop_remove", Budget::None),
    row("PullImage", "pull_image", Budget::Share(0.7)),
    row("16 MiB of log lines, start to end", "log", Budget::Share(1.0 / 2.0)),
    row("ListContainers, 10 a pod", "list_containers", Budget::Share(1.0 / 4.0)),
    row("ListPodSandbox", "list_pods", Budget::Share(1.0 / 4.0)),
    row("ListContainerStats", "list_stats", Budget::Share(1.0 / 50.0)),
    row("all pods at once: start", "burst_start", Budget::Share(1.0 / 10.0)),
    row("all pods at once: stop + remove", "burst_end", Budget::Share(1.0 / 10.0)),
];

const SIZES: &[Row] = &[
    row("private memory a pod", "pod_memory_kib", Budget::Both(1.0 / 40.0, 250.0)),
    row("kernel slab a pod", "pod_slab_kib", Budget::None),
    row("daemon, idle", "daemon_idle_kib", Budget::AtMost(20.0 * 1024.0)),
    row("daemon, with the pods", "daemon_busy_kib", Budget::None),
];

const PULL_TIMES: &[Row] = &[
    row("pull: 1 layer, 5 MB, gzip", "pull_small", Budget::Share(0.7)),
    row("pull: 10 layers, 300 MB, gzip", "pull_large_gzip", Budget::Share(0.7)),
    row("pull: 10 layers, 300 MB, zstd", "pull_large_zstd", Budget::Share(0.7)),
    row("processor time: 1 layer, gzip", "work_small", Budget::None),
    row("processor time: 10 layers, gzip", "work_large_gzip", Budget::None),
    row("processor time: 10 layers, zstd", "work_large_zstd", Budget::None),
    row("ListImages of 500", "list_images", Budget::Share(1.0 / 4.0)),
];

const PULL_PEAKS: &[Row] = &[
    row("daemon's peak: 1 layer, gzip", "peak_small", Budget::AtMost(60.0 * 1024.0)),
    row("daemon's peak: 10 layers, gzip", "peak_large_gzip", Budget::AtMost(60.0 * 1024.0)),
    row("daemon's peak: 10 layers, zstd", "peak_large_zstd", Budget::AtMost(60.0 * 1024.0)),
];

const PULL_DISK: &[Row] = &[
    row("on disk: 1 layer, gzip", "disk_small", Budget::AtMost(104.0)),
    row("on disk: 10 layers, gzip", "disk_large_gzip", Budget::AtMost(104.0)),
    row("on disk: 10 layers, zstd", "disk_large_zstd", Budget::AtMost(104.0)),
];

const STREAM_TIMES: &[Row] = &[
    row("ExecSync of true", "exec_sync", Budget::Share(1.0 / 15.0)),
    row("Exec of true, v4", "exec_v4", Budget::None),
    row("Exec of true, v5", "exec_v5", Budget::None),
    row("200 sessions: until all run", "sessions_open", Budget::None),
    row("200 sessions: until all have ended", "sessions_ended", Budget::None),
    row("  both", "sessions", Budget::None),
];

const STREAM_RATES: &[Row] = &[
    row("out of a command", "stream_out", Budget::None),
    row("into a command", "stream_in", Budget::None),
    row("through a command", "stream_both", Budget::None),
];

const STREAM_SIZES: &[Row] = &[
    row("daemon, before the sessions", "daemon_before_kib", Budget::None),
    row("daemon, with 200 open", "daemon_open_kib", Budget::None),
    row("daemon's peak with them", "daemon_peak_kib", Budget::None),
    row("daemon, after them", "daemon_after_kib", Budget::None),
    row("private memory of the pod, before", "pod_before_kib", Budget::None),
    row("private memory of the pod, after", "pod_after_kib", Budget::None),
];

const KEPT_TIMES: &[Row] = &[
    row("a container's end to its next start", "exit_to_restart", Budget::None),
    row("a ConfigMap's file to the container", "config_map_change", Budget::AtMost(100.0)),
];

/// The whole report.
pub(crate) fn render(figures: &Figures, of: Of) -> String {
    let mut out = String::new();
    header(&mut out, figures, of).ok();
    let parts: &[Part] = match of {
        Of::Pods => &[part("ms", TIMES), part("KiB", SIZES)],
        Of::Images => {
            &[part("ms", PULL_TIMES), part("KiB", PULL_PEAKS), part("% of the files", PULL_DISK)]
        }
        Of::Streams => &[
            part("ms", STREAM_TIMES),
            Part { unit: "MB/s", better: Better::More, rows: STREAM_RATES },
            part("KiB", STREAM_SIZES),
        ],
        Of::Kept => &[part("ms", KEPT_TIMES)],
    };
    for Part { unit, better, rows } in parts {
        heading(&mut out, unit).ok();
        for row in *rows {
            line(&mut out, row, *better, figures).ok();
        }
    }
    out
}

fn header(out: &mut String, figures: &Figures, of: Of) -> std::fmt::Result {
    let (berth, peer) = (&figures.berth.runtime, &figures.peer.runtime);
    match of {
        Of::Pods => {
            let pods = figures.berth.median("run_pod").map_or(0, |(_, n)| n);
            writeln!(out, "{berth} against {peer}, {pods} pods")?;
            writeln!(
                out,
                "Medians of {pods}, log lines: of 5; all pods at once and the daemons' memory: one sample."
            )
        }
        Of::Images => {
            writeln!(out, "{berth} against {peer}, images")?;
            writeln!(out, "Medians; the floor is decompression alone, with all processors.")
        }
        Of::Streams => {
            let samples = figures.berth.median("exec_sync").map_or(0, |(_, n)| n);
            writeln!(out, "{berth} against {peer}, streams")?;
            writeln!(out, "Medians of {samples}, MB/s: of 5; 200 sessions at once: one sample.")
        }
        Of::Kept => {
            let samples = figures.berth.median("exit_to_restart").map_or(0, |(_, n)| n);
            writeln!(out, "berth's kubelet half over {berth} and over {peer}, kept pods")?;
            writeln!(out, "Medians of {samples}.")
        }
    }
}

fn heading(out: &mut String, unit: &str) -> std::fmt::Result {
    writeln!(
        out,
        "\n{:<34} {:>9} {:>9} {:>10} {:>8} {:>8}  {:<14} met",
        format!("what ({unit})"),
        "floor",
        "berth",
        "containerd",
        "/ floor",
        "ratio",
        "budget"
    )
}

fn line(out: &mut String, row: &Row, better: Better, figures: &Figures) -> std::fmt::Result {
    let berth = match row.net {
        Net::BuiltIn => figures.berth.median(row.figure),
        Net::Cni => figures.berth_cni.as_ref().and_then(|cni| cni.median(row.figure)),
    };
    let berth = berth.map(|(median, _)| median);
    let peer = figures.peer.median(row.figure).map(|(median, _)| median);
    let floor = match row.net {
        Net::BuiltIn => figures.floor.get(floor_of(row.figure)).copied(),
        Net::Cni => None,
    };
    let cost = |value: Option<f64>| match better {
        Better::Less => value,
        Better::More => value.map(f64::recip),
    };
    let both = |a, b| cost(a).zip(cost(b)).filter(|(_, b)| *b > 0.0);
    writeln!(
        out,
        "{:<34} {:>9} {:>9} {:>10} {:>8} {:>8}  {:<14} {}",
        row.what,
        number(floor),
        number(berth),
        number(peer),
        both(berth, floor).map_or_else(dash, |(b, f)| format!("{:.1}", b / f)),
        both(peer, berth).map_or_else(dash, |(p, b)| format!("1/{:.1}", p / b)),
        budget_text(row.budget),
        met(row.budget, cost(berth), cost(peer)),
    )
}

/// The floor's name of a figure.
fn floor_of(figure: &str) -> &str {
    match figure {
        "run_pod" => "run_sandbox",
        "exec_v4" | "exec_v5" => "exec_sync",
        "exit_to_restart" => "create_start",
        same => same,
    }
}

fn budget_text(budget: Budget) -> String {
    match budget {
        Budget::None => dash(),
        Budget::Share(share) if share > 0.5 => format!("{share}"),
        Budget::Share(share) => format!("1/{:.0}", 1.0 / share),
        Budget::AtMost(most) => format!("{most}"),
        Budget::Both(share, most) => format!("1/{:.0}, < {most}", 1.0 / share),
    }
}

fn met(budget: Budget, berth: Option<f64>, peer: Option<f64>) -> &'static str {
    let Some(berth) = berth else { return "not measured" };
    let within = |share: f64| peer.is_some_and(|peer| berth <= peer * share);
    let good = match budget {
        Budget::None => return "",
        Budget::Share(share) => within(share),
        Budget::AtMost(most) => berth < most,
        Budget::Both(share, most) => within(share) && berth < most,
    };
    if good { "met" } else { "MISSED" }
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(dash, |v| if v < 100.0 { format!("{v:.1}") } else { format!("{v:.0}") })
}

fn dash() -> String {
    "–".to_owned()
}
