//! Measures what probes cost: many httpGet probes a second, and beside them the same number of connections made by a
//! bare loop of connect, write, read and close. Only the CPU time of the side that asks counts; the server is another
//! process, this program again.

use anyhow::{Context as _, Result, ensure};
use berth::cri::client::RemoteCri;
use berth::probes::{Checker, PodProbes, Running};
use clap::{Parser, Subcommand};
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Pod, PodSpec, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_util::task::TaskTracker;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
/// As many as the daemon has.
const WORKERS: usize = 2;
/// From the start of the probes to the first measurement: all have begun, each at its time in the period.
const WARM: Duration = Duration::from_secs(2);

#[derive(Debug, Parser)]
struct Cli {
    /// How many probes, each with a period of one second.
    #[arg(long, default_value_t = 1000)]
    probes: u32,
    /// For how many seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How often both are measured.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Answer, until standard input ends.
    Serve,
}

/// A measurement.
struct Cost {
    connections: u64,
    cpu: Duration,
    /// Connections in TIME_WAIT that were not there before.
    waiting: i64,
}

impl Cost {
    fn each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6
            / f64::from(u32::try_from(self.connections.max(1)).unwrap_or(u32::MAX))
    }
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    if let Some(Role::Serve) = cli.role {
        return serve();
    }
    let (mut server, port) = start()?;
    let mut out = std::io::stdout().lock();
    let mut worst: f64 = 0.0;
    for round in 1..=cli.rounds {
        let probed = probe(&cli, port)?;
        let bare = connect(port, probed.connections)?;
        let ratio = probed.each() / bare.each();
        worst = worst.max(ratio);
        for (name, cost) in [("probes", &probed), ("bare loop", &bare)] {
            writeln!(
                out,
                "round {round}: {name:<9} {:>6} connections  {:>6.0} ms CPU  {:>5.1} us each  {:>6} in TIME_WAIT",
                cost.connections,
                cost.cpu.as_secs_f64() * 1e3,
                cost.each(),
                cost.waiting,
            )?;
        }
        writeln!(out, "round {round}: ratio {ratio:.2}")?;
    }
    drop(server.stdin.take());
    server.wait()?;
    ensure!(worst <= 3.0, "probes cost {worst:.2} times the bare loop, and may cost 3");
    Ok(())
}

fn start() -> Result<(Child, u16)> {
    let mut server = Command::new(std::env::current_exe()?)
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(server.stdout.take().context("no output")?).read_line(&mut line)?;
    Ok((server, line.trim().parse()?))
}

fn serve() -> Result<()> {
    let listener = TcpListener::bind((HERE, 0))?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?.port())?;
    for _ in 0..WORKERS {
        let listener = listener.try_clone()?;
        std::thread::spawn(move || {
            let mut request = [0; 4096];
            while let Ok((mut stream, _)) = listener.accept() {
                if stream.read(&mut request).is_ok_and(|n| n > 0) {
                    stream.write_all(ANSWER).ok();
                }
            }
        });
    }
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// The CPU time of this process.
fn cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = |time: TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    let micros = micros(usage.user_time()) + micros(usage.system_time());
    Ok(Duration::from_micros(u64::try_from(micros)?))
}

/// Connections in TIME_WAIT.
fn waiting() -> Result<i64> {
    let table = std::fs::read_to_string("/proc/net/sockstat")?;
    let line = table.lines().find(|line| line.starts_with("TCP:")).context("no TCP")?;
    let count = line.split_whitespace().skip_while(|word| *word != "tw").nth(1);
    Ok(count.context("no tw")?.parse()?)
}

/// Many probes, as the daemon makes them.
fn probe(cli: &Cli, port: u16) -> Result<Cost> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    runtime.block_on(async {
        // No probe here asks the runtime.
        let folder = std::env::temp_dir().join(format!("berth-probe-bench-{}", std::process::id()));
        std::fs::remove_file(&folder).ok();
        let _listener = tokio::net::UnixListener::bind(&folder)?;
        let checker = Arc::new(Checker::new(Arc::new(RemoteCri::connect(&folder).await?))?);
        std::fs::remove_file(&folder)?;
        let (reports, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let tasks = TaskTracker::new();
        let pod = pod(port);
        let mut pods = Vec::new();
        for id in 0..cli.probes {
            let mut probes = PodProbes::new(&checker, &pod, &reports, &tasks, Duration::ZERO);
            let now = SystemTime::now();
            let running = Running {
                container: "c".to_owned(),
                container_id: id.to_string(),
                started_at: now,
                address: Some(HERE),
            };
            probes.sync(&[running], now);
            pods.push(probes);
        }
        let made = |pods: &[PodProbes]| -> u64 {
            pods.iter().flat_map(PodProbes::tallies).map(|(_, _, tally)| tally.successful).sum()
        };
        tokio::time::sleep(WARM).await;
        let (before, begun, tw) = (made(&pods), cpu()?, waiting()?);
        tokio::time::sleep(Duration::from_secs(cli.seconds)).await;
        let (cpu, waiting) = (cpu()?.saturating_sub(begun), waiting()? - tw);
        let connections = made(&pods) - before;
        let ready = pods.iter().filter(|probes| probes.ready("c")).count();
        ensure!(ready == pods.len(), "{ready} of {} are ready", pods.len());
        while let Ok(report) = heard.try_recv() {
            ensure!(matches!(report, berth::probes::Report::Changed(_)), "{report:?}");
        }
        Ok(Cost { connections, cpu, waiting })
    })
}

fn pod(port: u16) -> Pod {
    let get = HTTPGetAction {
        port: IntOrString::Int(port.into()),
        path: Some("/healthz".to_owned()),
        ..Default::default()
    };
    let probe = Probe { http_get: Some(get), period_seconds: Some(1), ..Default::default() };
    let container =
        Container { name: "c".to_owned(), readiness_probe: Some(probe), ..Default::default() };
    let spec = PodSpec { containers: vec![container], ..Default::default() };
    Pod { spec: Some(spec), ..Default::default() }
}

/// As many connections one after the other, and nothing else.
fn connect(port: u16, connections: u64) -> Result<Cost> {
    let request = format!(
        "GET /healthz HTTP/1.1\r\nHost: {HERE}:{port}\r\nUser-Agent: kube-probe/0\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    );
    let (begun, tw) = (cpu()?, waiting()?);
    let mut answer = [0; 4096];
    for _ in 0..connections {
        let mut stream = TcpStream::connect((HERE, port))?;
        setsockopt(&stream, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 1 })?;
        stream.write_all(request.as_bytes())?;
        ensure!(stream.read(&mut answer)? > 0, "no answer");
    }
    Ok(Cost { connections, cpu: cpu()?.saturating_sub(begun), waiting: waiting()? - tw })
}
