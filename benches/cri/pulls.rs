//! The course of images: pulls of few and many layers, what they take in time, memory and on disk, and a
//! list of many images.

use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::process::{self, Daemon};
use crate::samples::Samples;
use anyhow::{Context as _, Result, ensure};
use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The images, and how often each is pulled.
const PULLED: &[(&str, usize)] = &[("small", 9), ("large-gzip", 3), ("large-zstd", 3)];

/// How many images `many` are.
const MANY: usize = 500;

/// How many of them are pulled at once.
const AT_ONCE: usize = 8;

/// How often they are listed.
const LISTED: usize = 20;

/// What to measure where.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    endpoint: Endpoint,
    /// The folder in which the daemon keeps images and layers.
    #[arg(long)]
    state: PathBuf,
    /// What each image's files take on disk: lines `image<TAB>bytes`.
    #[arg(long)]
    sizes: PathBuf,
}

/// Takes the endpoint through the course.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let client = Client::connect(&options.endpoint.socket).await?;
    let mut samples = Samples::of(client.version().await?);
    let daemon = Daemon(options.endpoint.daemon);
    // The first pull also finds everything cold; it is not counted.
    let small = format!("{}/small:latest", options.endpoint.registry);
    client.pull_image(&small).await?;
    client.remove_image(&small).await?;
    for (image, rounds) in PULLED {
        let unpacked = size(&options.sizes, image)?;
        let figure = image.replace('-', "_");
        let reference = format!("{}/{image}:latest", options.endpoint.registry);
        for _ in 0..*rounds {
            let before = process::disk(&options.state)?;
            daemon.forget_peak()?;
            let worked = daemon.worked()?;
            samples.time(&format!("pull_{figure}"), client.pull_image(&reference)).await?;
            samples.add(&format!("work_{figure}"), daemon.worked()? - worked);
            samples.add(&format!("peak_{figure}"), daemon.peak()?);
            let taken = process::disk(&options.state)? - before;
            samples.add(&format!("disk_{figure}"), 100.0 * taken / unpacked);
            client.remove_image(&reference).await?;
        }
        tell(&format!("{image} pulled"))?;
    }
    let many = futures::stream::iter((0..MANY).map(|number| {
        let (client, reference) =
            (client.clone(), format!("{}/many:{number}", options.endpoint.registry));
        async move { client.pull_image(&reference).await }
    }));
    many.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    tell("many pulled")?;
    for _ in 0..LISTED {
        let listed = samples.time("list_images", client.list_images()).await?;
        ensure!(listed >= MANY, "{listed} images are listed of {MANY}");
    }
    tell("many listed")?;
    samples.save(&options.endpoint.out)
}

fn tell(what: &str) -> Result<()> {
    writeln!(std::io::stdout().lock(), "  {what}")?;
    Ok(())
}

/// What an image's files take on disk, bytes.
fn size(sizes: &Path, image: &str) -> Result<f64> {
    let text =
        std::fs::read_to_string(sizes).with_context(|| format!("read {}", sizes.display()))?;
    let line =
        text.lines().filter_map(|line| line.split_once('\t')).find(|(name, _)| *name == image);
    let (_, bytes) = line.with_context(|| format!("no size of {image}"))?;
    bytes.parse().with_context(|| format!("size of {image}"))
}
