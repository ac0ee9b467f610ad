//! The course of kept pods: how long the kubelet half takes from the end of a container to its next start, and from
//! a ConfigMap's file to the file in a container.
//!
//! The pods come from the folder of manifests of a berth that drives the endpoint; the endpoint tells when a
//! container ended and when the next one started.

use crate::client::Client;
use crate::endpoint::{Endpoint, Progress};
use crate::samples::{Samples, milliseconds};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(120);
/// How often files are looked at: finer than what is measured.
const LOOK: Duration = Duration::from_micros(200);

/// What to measure where.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    endpoint: Endpoint,
    /// The folder of manifests.
    #[arg(long)]
    manifests: PathBuf,
    /// The tmpfs of the node with the files of ConfigMaps.
    #[arg(long)]
    payload: PathBuf,
    /// Samples of each figure.
    #[arg(long)]
    samples: usize,
}

/// Takes the endpoint through the course.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let client = Client::connect(&options.endpoint.socket).await?;
    let progress = Progress::begin();
    let image = format!("{}/bench:latest", options.endpoint.registry);
    for image in [&format!("{}/pause:latest", options.endpoint.registry), &image] {
        client.pull_image(image).await?;
    }
    let mut samples = Samples::of(client.version().await?);
    for number in 0..options.samples {
        let name = format!("crasher-{number}");
        put(&options.manifests, &name, &pod(&name, &image, "exit 1", ""))?;
        let took = restarted(&client, &name).await?;
        samples.add("exit_to_restart", took.as_secs_f64() * 1e3);
        fs::remove_file(options.manifests.join(format!("{name}.yaml")))?;
        gone(&client, &name).await?;
    }
    progress.tell("restarts")?;
    let mount = "    volumeMounts: [{name: words, mountPath: /words}]\n  \
                 volumes: [{name: words, configMap: {name: words}}]\n";
    put(&options.manifests, "words", &words("begin"))?;
    put(&options.manifests, "reader", &pod("reader", &image, "exec sleep 100000", mount))?;
    started(&client, "reader").await?;
    let file = find(&options.payload)?.context("no file of the ConfigMap")?;
    for number in 0..options.samples {
        let text = format!("change {number}");
        let began = Instant::now();
        put(&options.manifests, "words", &words(&text))?;
        reads(&file, &text)?;
        samples.add("config_map_change", milliseconds(began));
        // The next one is not to find the daemon awake with this one.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    progress.tell("changes of a ConfigMap")?;
    for name in ["reader", "words"] {
        fs::remove_file(options.manifests.join(format!("{name}.yaml")))?;
    }
    gone(&client, "reader").await?;
    samples.save(&options.endpoint.out)
}

fn pod(name: &str, image: &str, script: &str, further: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
         containers:\n  - name: main\n    image: {image}\n    imagePullPolicy: Never\n    \
         command: [/bin/busybox, sh, -c, {script:?}]\n{further}"
    )
}

fn words(text: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: words}}\ndata: {{text: {text:?}}}\n"
    )
}

/// Puts a manifest into its place at once.
fn put(folder: &Path, name: &str, text: &str) -> Result<()> {
    let new = folder.join(format!(".{name}"));
    fs::write(&new, text)?;
    Ok(fs::rename(new, folder.join(format!("{name}.yaml")))?)
}

/// The time from the end of the first instance to the start of the second one.
async fn restarted(client: &Client, pod: &str) -> Result<Duration> {
    let nanos = within(async || {
        let all = client.instances(pod).await?;
        let (Some(first), Some(second)) = (all.first(), all.get(1)) else { return Ok(None) };
        let both = first.finished_at > 0 && second.started_at > 0;
        Ok(both.then_some(second.started_at - first.finished_at))
    });
    Ok(Duration::from_nanos(u64::try_from(nanos.await.context("a restart")?)?))
}

async fn started(client: &Client, pod: &str) -> Result<()> {
    let running = async || {
        let all = client.instances(pod).await?;
        Ok(all.iter().any(|instance| instance.started_at > 0).then_some(()))
    };
    within(running).await.context("a start")
}

async fn gone(client: &Client, pod: &str) -> Result<()> {
    let none = async || Ok(client.instances(pod).await?.is_empty().then_some(()));
    within(none).await.context("an end")
}

async fn within<T>(mut ask: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("not within {LIMIT:?}")
}

/// The file `text` of the only ConfigMap, by its name for users.
fn find(folder: &Path) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name == "..data") {
            return Ok(Some(path.join("text")));
        }
        let below = if path.is_dir() && !path.is_symlink() { find(&path)? } else { None };
        if below.is_some() {
            return Ok(below);
        }
    }
    Ok(None)
}

/// Waits until a file has the text.
#[expect(clippy::disallowed_methods, reason = "a thread that looks at a file again and again")]
fn reads(file: &Path, text: &str) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        if fs::read_to_string(file).is_ok_and(|found| found == text) {
            return Ok(());
        }
        thread::sleep(LOOK);
    }
    bail!("{} has not become {text:?}", file.display())
}

/// Prints the floor of a change, a line `name<TAB>ms`: a thread waits for the folder's event, reads the file, and
/// replaces a generation of files by one rename.
pub(crate) fn follow(folder: &Path, times: usize) -> Result<()> {
    let (source, target) = (folder.join("source"), folder.join("target"));
    fs::create_dir_all(&source)?;
    fs::create_dir_all(&target)?;
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    inotify.add_watch(&source, AddWatchFlags::IN_MOVED_TO)?;
    let (from, to) = (source.join("words.yaml"), target.clone());
    let follower = thread::spawn(move || -> Result<()> {
        for number in 0..times {
            inotify.read_events()?;
            let generation = to.join(format!("..{number}"));
            fs::create_dir(&generation)?;
            fs::write(generation.join("text"), fs::read(&from)?)?;
            symlink(&generation, to.join("..new"))?;
            fs::rename(to.join("..new"), to.join("..data"))?;
        }
        Ok(())
    });
    let mut floor = Samples::default();
    for number in 0..times {
        let text = format!("change {number}");
        let began = Instant::now();
        put(&source, "words", &text)?;
        reads(&target.join("..data/text"), &text)?;
        floor.add("config_map_change", milliseconds(began));
    }
    match follower.join() {
        Ok(followed) => followed?,
        Err(_) => bail!("the follower panicked"),
    }
    let (median, _) = floor.median("config_map_change").unwrap_or_default();
    writeln!(std::io::stdout().lock(), "config_map_change\t{median:.3}")?;
    Ok(())
}
