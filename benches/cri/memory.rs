//! What pods cost in memory, read from /proc. KiB throughout.

use anyhow::{Context as _, Result, ensure};
use std::path::PathBuf;

/// The name of the containers' process, which is no cost of the runtime.
const PAYLOAD: &str = "heed";

/// The private memory of what stands behind one pod: its shim and its pause.
///
/// Both are known by the pod's id, in their cgroup's path or in their arguments.
pub(crate) fn private_of_pod(id: &str) -> Result<f64> {
    let mut processes = 0;
    let mut sum = 0.0;
    for process in processes_on_host()? {
        let read = |file: &str| std::fs::read_to_string(process.join(file)).unwrap_or_default();
        let named = read("cgroup").contains(id) || read("cmdline").contains(id);
        if !named || read("comm").trim_end() == PAYLOAD {
            continue;
        }
        processes += 1;
        let rollup = read("smaps_rollup");
        for field in ["Private_Clean:", "Private_Dirty:", "Swap:"] {
            sum += field_kib(&rollup, field)?;
        }
    }
    ensure!(processes == 2, "{processes} processes stand behind pod {id}, not a shim and a pause");
    Ok(sum)
}

/// What the kernel holds in slabs.
pub(crate) fn slab() -> Result<f64> {
    field_kib(&std::fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?, "Slab:")
}

fn processes_on_host() -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir("/proc").context("list /proc")?;
    let numbered = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()))
    };
    Ok(entries.flatten().map(|e| e.path()).filter(numbered).collect())
}

/// A field of a file of /proc that is in KiB.
pub(crate) fn field_kib(text: &str, field: &str) -> Result<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix(field)?.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("no field {field}"))
}
