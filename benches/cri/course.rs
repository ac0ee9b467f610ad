//! The course that every endpoint is taken through: a node's worth of pods, one verb after the
//! other, then the same number of pods all at once.

use crate::client::{Client, Pod};
use crate::endpoint::{Endpoint, Progress};
use crate::memory;
use crate::process::Daemon;
use crate::samples::{Samples, milliseconds};
use anyhow::{Result, ensure};
use clap::Args;
use futures::future::try_join_all;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long an endpoint may come to rest before its memory is read.
const REST: Duration = Duration::from_secs(2);

/// Containers a pod when many are listed.
const CONTAINERS: usize = 10;

/// How often a log is written, and how long it is.
const WRITERS: usize = 5;
const WRITTEN_MIB: u64 = 16;

/// What to measure where.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    endpoint: Endpoint,
    /// Samples of each figure, and pods that run at once.
    #[arg(long)]
    pods: usize,
    /// Measure only what depends on the pod network.
    #[arg(long)]
    network_only: bool,
}

/// Takes the endpoint through the course.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let client = Client::connect(&options.endpoint.socket).await?;
    let mut course = Course {
        samples: Samples::of(client.version().await?),
        client,
        image: format!("{}/bench:latest", options.endpoint.registry),
        logs: std::env::temp_dir().join("logs"),
        pods: options.pods,
        progress: Progress::begin(),
    };
    course.client.pull_image(&format!("{}/pause:latest", options.endpoint.registry)).await?;
    if options.network_only {
        course.empty_pods().await?;
    } else {
        course.pulls().await?;
        course.resident("daemon_idle_kib", options.endpoint.daemon).await?;
        course.full_pods(options.endpoint.daemon).await?;
        course.burst().await?;
    }
    course.samples.add_sum("create_start", "create_container", "start_container");
    course.samples.add_sum("stop_remove", "stop_pod", "remove_pod");
    course.samples.save(&options.endpoint.out)
}

struct Course {
    client: Client,
    samples: Samples,
    image: String,
    logs: PathBuf,
    pods: usize,
    progress: Progress,
}

impl Course {
    async fn pulls(&mut self) -> Result<()> {
        // The first pull also finds everything cold; it is not counted.
        self.client.pull_image(&self.image).await?;
        for _ in 0..self.pods {
            self.client.remove_image(&self.image).await?;
            self.samples.time("pull_image", self.client.pull_image(&self.image)).await?;
        }
        self.progress.tell("pulled")
    }

    async fn resident(&mut self, name: &str, daemon: u32) -> Result<()> {
        tokio::time::sleep(REST).await;
        self.samples.add(name, Daemon(daemon).resident()?);
        Ok(())
    }

    async fn run_pods(&mut self) -> Result<Vec<Pod>> {
        let before = memory::slab()?;
        let mut pods = Vec::new();
        for i in 0..self.pods {
            let name = format!("pod-{i}");
            let pod = self.client.run_pod(&name, &self.logs);
            pods.push(self.samples.time("run_pod", pod).await?);
        }
        let count = u32::try_from(self.pods)?;
        self.samples.add("pod_slab_kib", (memory::slab()? - before) / f64::from(count));
        self.progress.tell("pods run")?;
        Ok(pods)
    }

    async fn end_pods(&mut self, pods: &[Pod]) -> Result<()> {
        for pod in pods {
            self.samples.time("stop_pod", self.client.stop_pod(pod)).await?;
            self.samples.time("remove_pod", self.client.remove_pod(pod)).await?;
        }
        self.progress.tell("pods stopped and removed")
    }

    async fn empty_pods(&mut self) -> Result<()> {
        let pods = self.run_pods().await?;
        self.end_pods(&pods).await
    }

    async fn full_pods(&mut self, daemon: u32) -> Result<()> {
        let pods = self.run_pods().await?;
        let mut containers = Vec::new();
        for pod in &pods {
            let created = self.client.create_container(pod, &self.image, "main");
            let id = self.samples.time("create_container", created).await?;
            self.samples.time("start_container", self.client.start_container(&id)).await?;
            containers.push(id);
        }
        self.progress.tell("containers run")?;
        for id in &containers {
            self.samples.time("exec_sync", self.client.exec_true(id)).await?;
        }
        self.progress.tell("commands run")?;
        self.resident("daemon_busy_kib", daemon).await?;
        self.lists(&pods).await?;
        for pod in &pods {
            self.samples.add("pod_memory_kib", memory::private_of_pod(&pod.id)?);
        }
        self.logs(&pods).await?;
        for id in &containers {
            self.samples.time("stop_container", self.client.stop_container(id)).await?;
        }
        self.progress.tell("containers stopped")?;
        self.end_pods(&pods).await
    }

    /// Lists with the pods and their containers, and with ten times as many containers.
    async fn lists(&mut self, pods: &[Pod]) -> Result<()> {
        for _ in 0..self.pods {
            let listed = [
                self.samples.time("list_pods", self.client.list_pods()).await?,
                self.samples.time("list_stats", self.client.list_container_stats()).await?,
            ];
            ensure!(listed == [self.pods; 2], "{listed:?} listed of {} pods", self.pods);
        }
        let mut further = Vec::new();
        for pod in pods {
            for n in 1..CONTAINERS {
                let name = format!("further-{n}");
                further.push(self.client.create_container(pod, &self.image, &name).await?);
            }
        }
        for _ in 0..self.pods {
            let list = self.client.list_containers();
            let listed = self.samples.time("list_containers", list).await?;
            ensure!(listed == self.pods * CONTAINERS, "{listed} containers are listed");
        }
        for id in &further {
            self.client.remove_container(id).await?;
        }
        self.progress.tell("lists read")
    }

    /// What one container writes at full speed, until the runtime tells its end.
    async fn logs(&mut self, pods: &[Pod]) -> Result<()> {
        let Some(pod) = pods.first() else { return Ok(()) };
        for n in 0..WRITERS {
            let name = format!("writer-{n}");
            let id = self.client.create_writer(pod, &self.image, &name, WRITTEN_MIB).await?;
            let client = &self.client;
            let course = async {
                client.start_container(&id).await?;
                client.ended(&id).await
            };
            self.samples.time("log", course).await?;
            let log = self.logs.join(&pod.name).join(&name).join("0.log");
            let size = std::fs::metadata(&log)?.len();
            ensure!(size > WRITTEN_MIB << 20, "{size} bytes are in {}", log.display());
            self.client.remove_container(&id).await?;
            std::fs::remove_file(log)?;
        }
        self.progress.tell("logs written")
    }

    /// All pods with a container started at once, then ended at once.
    async fn burst(&mut self) -> Result<()> {
        let Self { client, image, logs, .. } = &*self;
        let start = |i: usize| async move { start(client, image, logs, i).await };
        let began = Instant::now();
        let pods = try_join_all((0..self.pods).map(start)).await?;
        let started = milliseconds(began);
        let began = Instant::now();
        try_join_all(pods.iter().map(|pod| async move {
            client.stop_pod(pod).await?;
            client.remove_pod(pod).await
        }))
        .await?;
        let ended = milliseconds(began);
        self.samples.add("burst_start", started);
        self.samples.add("burst_end", ended);
        self.progress.tell("as many pods at once")
    }
}

async fn start(client: &Client, image: &str, logs: &Path, i: usize) -> Result<Pod> {
    let pod = client.run_pod(&format!("burst-{i}"), logs).await?;
    let id = client.create_container(&pod, image, "main").await?;
    client.start_container(&id).await?;
    Ok(pod)
}
