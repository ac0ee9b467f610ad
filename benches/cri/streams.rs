//! The course of streams: commands in a running container, one after the other, with much output, with much
//! input, and many at once.

use crate::client::{Client, Input, Pod};
use crate::endpoint::{Endpoint, Progress};
use crate::memory;
use crate::process::Daemon;
use crate::rate;
use crate::samples::{Samples, milliseconds};
use crate::session::{Session, Version};
use anyhow::Result;
use clap::Args;
use futures::future::try_join_all;

use std::time::{Duration, Instant};

/// How long an endpoint may come to rest before its memory is read.
const REST: Duration = Duration::from_secs(2);

/// How many sessions there are at once.
const AT_ONCE: usize = 200;

/// What to measure where.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    endpoint: Endpoint,
    /// Samples of each latency.
    #[arg(long)]
    samples: usize,
    /// Measure version 5 of the protocol, too: not every endpoint speaks it.
    #[arg(long)]
    v5: bool,
}

/// Which way bytes go through a command.
#[derive(Clone, Copy, Debug)]
enum Way {
    Out,
    In,
    Both,
}

/// Takes the endpoint through the course.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let client = Client::connect(&options.endpoint.socket).await?;
    client.pull_image(&format!("{}/pause:latest", options.endpoint.registry)).await?;
    let image = format!("{}/bench:latest", options.endpoint.registry);
    client.pull_image(&image).await?;
    let pod = client.run_pod("streams", &std::env::temp_dir().join("logs")).await?;
    let limited = client.create_container(&pod, &image, "limited").await?;
    let unlimited = client.create_unlimited(&pod, &image, "unlimited").await?;
    for id in [&limited, &unlimited] {
        client.start_container(id).await?;
    }
    let mut course = Course {
        samples: Samples::of(client.version().await?),
        client,
        daemon: Daemon(options.endpoint.daemon),
        progress: Progress::begin(),
    };
    course.latencies(&limited, options).await?;
    for (name, way) in
        [("stream_out", Way::Out), ("stream_in", Way::In), ("stream_both", Way::Both)]
    {
        course.rates(name, way, &unlimited).await?;
    }
    course.at_once(&pod, &unlimited).await?;
    course.client.stop_pod(&pod).await?;
    course.client.remove_pod(&pod).await?;
    course.samples.save(&options.endpoint.out)
}

struct Course {
    client: Client,
    samples: Samples,
    daemon: Daemon,
    progress: Progress,
}

impl Course {
    /// `true`, from the call to its exit code.
    async fn latencies(&mut self, id: &str, options: &Options) -> Result<()> {
        let Self { client, samples, .. } = self;
        // The first command also finds everything cold; it is not counted.
        client.exec_true(id).await?;
        for _ in 0..options.samples {
            samples.time("exec_sync", client.exec_true(id)).await?;
        }
        let mut versions = vec![("exec_v4", Version::V4)];
        if options.v5 {
            versions.push(("exec_v5", Version::V5));
        }
        for (name, version) in versions {
            exec_true(client, id, version).await?;
            for _ in 0..options.samples {
                samples.time(name, exec_true(client, id, version)).await?;
            }
        }
        self.progress.tell("commands run")
    }

    async fn rates(&mut self, name: &str, way: Way, id: &str) -> Result<()> {
        let client = &self.client;
        for rate in rate::measure(async |mib| pass(client, id, way, mib).await).await? {
            self.samples.add(name, rate);
        }
        self.progress.tell(&format!("{name} passed on"))
    }

    /// Many sessions: all are open before the first one ends.
    async fn at_once(&mut self, pod: &Pod, id: &str) -> Result<()> {
        tokio::time::sleep(REST).await;
        self.samples.add("daemon_before_kib", self.daemon.resident()?);
        self.samples.add("pod_before_kib", memory::private_of_pod(&pod.id)?);
        self.daemon.forget_peak()?;
        let began = Instant::now();
        let client = &self.client;
        let sessions = try_join_all((0..AT_ONCE).map(async |_| {
            let mut session = shell(client, id, Input::Piped, "echo up; read line").await?;
            session.hear(UP).await?;
            Ok::<_, anyhow::Error>(session)
        }))
        .await?;
        self.samples.add("sessions_open", milliseconds(began));
        self.samples.add("daemon_open_kib", self.daemon.resident()?);
        let ending = Instant::now();
        try_join_all(sessions.into_iter().map(async |mut session| {
            session.say("down").await?;
            session.success().await
        }))
        .await?;
        self.samples.add("sessions_ended", milliseconds(ending));
        self.samples.add("sessions", milliseconds(began));
        self.samples.add("daemon_peak_kib", self.daemon.peak()?);
        tokio::time::sleep(REST).await;
        self.samples.add("daemon_after_kib", self.daemon.resident()?);
        self.samples.add("pod_after_kib", memory::private_of_pod(&pod.id)?);
        self.progress.tell("many commands at once")
    }
}

/// The bytes of `up`, which the shell says before it does what is measured.
const UP: u64 = 3;

/// The bytes of `done`, which it says after it.
const DONE: u64 = 5;

async fn exec_true(client: &Client, id: &str, version: Version) -> Result<()> {
    let url = client.exec_url(id, &["/bin/true"], Input::Nothing).await?;
    Session::open(&url, version).await?.success().await
}

async fn shell(client: &Client, id: &str, input: Input, script: &str) -> Result<Session> {
    let url = client.exec_url(id, &["/bin/sh", "-c", script], input).await?;
    Session::open(&url, Version::V4).await
}

/// How long so many MiB take through a command that runs already. In version 4 no input has an end, so
/// that the command counts: `dd`, in whole blocks.
async fn pass(client: &Client, id: &str, way: Way, mib: u32) -> Result<Duration> {
    let blocks = mib * 32;
    let bytes = u64::from(mib) << 20;
    let dd = format!("busybox dd bs=32k count={blocks} iflag=fullblock");
    let (script, input) = match way {
        Way::Out => (format!("echo up; {dd} if=/dev/zero"), Input::Nothing),
        Way::In => (format!("echo up; {dd} of=/dev/null; echo done"), Input::Piped),
        Way::Both => (format!("echo up; {dd}"), Input::Piped),
    };
    let mut session = shell(client, id, input, &script).await?;
    session.hear(UP).await?;
    let began = Instant::now();
    let sent = usize::try_from(bytes)?;
    match way {
        Way::Out => session.hear(bytes).await?,
        Way::In => session.exchange(sent, DONE).await?,
        Way::Both => session.exchange(sent, bytes).await?,
    }
    let took = began.elapsed();
    session.success().await?;
    Ok(took)
}
