//! Figures by name: every sample is kept, the median is what counts.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What was measured at one endpoint. Times in milliseconds, memory in KiB.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Samples {
    /// Name and version of the runtime.
    pub(crate) runtime: String,
    values: BTreeMap<String, Vec<f64>>,
}

impl Samples {
    pub(crate) fn of(runtime: String) -> Self {
        Self { runtime, values: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, name: &str, value: f64) {
        self.values.entry(name.to_owned()).or_default().push(value);
    }

    /// Waits for `work` and notes how long it took.
    pub(crate) async fn time<T>(
        &mut self,
        name: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let began = Instant::now();
        let result = work.await?;
        self.add(name, milliseconds(began));
        Ok(result)
    }

    /// The median and how many samples it is of.
    pub(crate) fn median(&self, name: &str) -> Option<(f64, usize)> {
        let mut sorted = self.values.get(name)?.clone();
        sorted.sort_by(f64::total_cmp);
        Some((*sorted.get(sorted.len() / 2)?, sorted.len()))
    }

    /// Adds the sums of two figures, sample by sample, as a third one.
    pub(crate) fn add_sum(&mut self, name: &str, first: &str, second: &str) {
        let of = |name| self.values.get(name).cloned().unwrap_or_default();
        let sums = of(first).into_iter().zip(of(second)).map(|(a, b)| a + b).collect();
        self.values.insert(name.to_owned(), sums);
    }

    pub(crate) fn save(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
    }

    pub(crate) fn load(file: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("parse {}", file.display()))
    }
}

/// The milliseconds since `began`.
pub(crate) fn milliseconds(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

/// The means of the lines `name<TAB>median` over the floor program's runs.
pub(crate) fn load_floor(files: &[PathBuf]) -> Result<BTreeMap<String, f64>> {
    let mut floor = BTreeMap::new();
    for file in files {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        for line in text.lines() {
            let figure = line.split_once('\t').and_then(|(name, v)| Some((name, v.parse().ok()?)));
            let (name, value): (&str, f64) =
                figure.with_context(|| format!("not a figure: {line}"))?;
            let runs = u32::try_from(files.len())?;
            *floor.entry(name.to_owned()).or_default() += value / f64::from(runs);
        }
    }
    Ok(floor)
}
