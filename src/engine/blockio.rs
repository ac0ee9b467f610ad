//! Classes of block I/O: what they limit is in the configuration, who is in which is in annotations.

use super::error::EngineError;
use crate::cgroups::Resources;
use crate::config::BlockIo;
use crate::container::class::class_of;
use crate::container::config::ContainerConfig;
use crate::sandbox::config::SandboxConfig;
use nix::sys::stat::{SFlag, major, minor, stat};
use std::collections::BTreeMap;

/// Adds the files of the container's class to its limits. What the request itself says of a file stays.
///
/// # Errors
/// Invalid for a class that is not configured; Precondition for a device that is not there.
pub(super) fn add_class(
    classes: &BTreeMap<String, BlockIo>,
    config: &ContainerConfig,
    sandbox: &SandboxConfig,
    resources: &mut Resources,
) -> Result<(), EngineError> {
    let Some((key, name)) = class_of("blockio", config, sandbox) else { return Ok(()) };
    let class = classes.get(name).ok_or_else(|| {
        EngineError::Invalid(format!("annotation {key}: there is no table [blockio.{name}]"))
    })?;
    let failed = |why| EngineError::Precondition(format!("class of block I/O {name:?}: {why}"));
    for (file, value) in files(class).map_err(failed)? {
        resources.unified.entry(file.to_owned()).or_insert(value);
    }
    Ok(())
}

/// Files of the cgroup, and what they get: a line a device.
fn files(class: &BlockIo) -> Result<Vec<(&'static str, String)>, String> {
    let weight = class.weight.map(|weight| ("io.weight", format!("default {weight}")));
    let lines: Vec<String> = class.max.iter().map(|limit| line(limit)).collect::<Result<_, _>>()?;
    let max = (!lines.is_empty()).then(|| ("io.max", lines.join("\n")));
    Ok(weight.into_iter().chain(max).collect())
}

/// `/dev/NAME LIMITS` as the kernel wants it, `MAJOR:MINOR LIMITS`.
fn line(limit: &str) -> Result<String, String> {
    let (device, limits) = limit.split_once(' ').unwrap_or((limit, ""));
    if !device.starts_with('/') {
        return Ok(limit.to_owned());
    }
    let about = stat(device).map_err(|e| format!("{device}: {e}"))?;
    if about.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFBLK.bits() {
        return Err(format!("{device} is not a block device"));
    }
    Ok(format!("{}:{} {limits}", major(about.st_rdev), minor(about.st_rdev)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_a_line_a_device() {
        let max = ["7:0 rbps=1 wiops=2".to_owned(), "7:1 rbps=max".to_owned()].into();
        let class = BlockIo { weight: Some(50), max };
        let expected =
            [("io.weight", "default 50"), ("io.max", "7:0 rbps=1 wiops=2\n7:1 rbps=max")];
        assert_eq!(files(&class).unwrap(), expected.map(|(f, v)| (f, v.to_owned())));
        assert!(files(&BlockIo::default()).unwrap().is_empty());
    }

    #[test]
    fn a_path_that_is_no_block_device_is_named() {
        for (path, words) in [("/dev/null", "not a block device"), ("/dev/no-such", "ENOENT")] {
            let error = line(&format!("{path} rbps=1")).unwrap_err();
            assert!(error.contains(path) && error.contains(words), "{error}");
        }
    }
}
