//! The floor of a pull: its layers decompressed, and nothing else, on as many threads as there are processors.

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Deserialize;
use std::collections::VecDeque;
use std::io::{self, Cursor, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use crate::samples::milliseconds;

/// What to decompress.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The folder of the registry's storage.
    #[arg(long)]
    storage: PathBuf,
    /// How often; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The images.
    #[arg(required = true)]
    images: Vec<String>,
}

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
}

/// Prints `pull_<image><TAB>milliseconds` for each image.
pub(crate) fn run(options: &Options) -> Result<()> {
    for image in &options.images {
        let layers = layers(&options.storage, image)?;
        let mut times = Vec::new();
        for _ in 0..options.rounds {
            times.push(inflate(&layers)?);
        }
        times.sort_by(f64::total_cmp);
        let median = times.get(times.len() / 2).context("no rounds")?;
        writeln!(io::stdout().lock(), "pull_{}\t{median}", image.replace('-', "_"))?;
    }
    Ok(())
}

/// The media type and the bytes of each layer.
fn layers(storage: &Path, image: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let root = storage.join("docker/registry/v2");
    let read =
        |path: PathBuf| std::fs::read(&path).with_context(|| format!("read {}", path.display()));
    let blob = |digest: &str| {
        let hex = digest.strip_prefix("sha256:").with_context(|| format!("digest {digest}"))?;
        let start = hex.get(..2).with_context(|| format!("digest {digest}"))?;
        read(root.join("blobs/sha256").join(start).join(hex).join("data"))
    };
    let tag = root.join("repositories").join(image).join("_manifests/tags/latest/current/link");
    let manifest: Manifest = serde_json::from_slice(&blob(&String::from_utf8(read(tag)?)?)?)?;
    manifest.layers.into_iter().map(|layer| Ok((layer.media_type, blob(&layer.digest)?))).collect()
}

/// How long all take together, milliseconds.
fn inflate(layers: &[(String, Vec<u8>)]) -> Result<f64> {
    let waiting = Mutex::new(layers.iter().collect::<VecDeque<_>>());
    let next = || waiting.lock().ok().and_then(|mut waiting| waiting.pop_front());
    let work = || -> Result<()> {
        while let Some((kind, bytes)) = next() {
            let bytes = Cursor::new(bytes.as_slice());
            let mut plain: Box<dyn Read> = match kind.rsplit_once('+') {
                Some((_, "gzip")) => Box::new(flate2::bufread::GzDecoder::new(bytes)),
                Some((_, "zstd")) => Box::new(zstd::stream::read::Decoder::with_buffer(bytes)?),
                _ => bail!("media type {kind}"),
            };
            let mut buffer = vec![0; 128 << 10];
            while plain.read(&mut buffer)? > 0 {}
        }
        Ok(())
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in running {
            thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        Ok(milliseconds(began))
    })
}
