//! How much swap is switched on (proc(5), "/proc/swaps"). It changes while the node runs (swapon(8)), so that nobody
//! keeps it.

use std::io;
use std::path::Path;

/// The unit of the sizes there, bytes.
const KIB: u64 = 1024;

/// Bytes of swap that the node has now. A kernel without swap has none.
///
/// # Errors
/// It cannot be read, or is not the table that it is to be.
pub fn swap_bytes() -> io::Result<u64> {
    read(Path::new("/proc/swaps"))
}

fn read(file: &Path) -> io::Result<u64> {
    match std::fs::read_to_string(file) {
        Ok(text) => sum(&text).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "it has no size in its third column")
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// The third column of all lines but the first, which is a heading. The kernel escapes blanks of names.
fn sum(text: &str) -> Option<u64> {
    text.lines().skip(1).try_fold(0_u64, |sum, line| {
        let size: u64 = line.split_whitespace().nth(2)?.parse().ok()?;
        Some(sum.saturating_add(size.saturating_mul(KIB)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADING: &str = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";

    #[test]
    fn the_sizes_of_all_devices_and_files_count() {
        let one = "/dev/loop0                              partition\t65532\t\t0\t\t-2\n";
        let two = "/swap\\040file\t\t\t\tfile\t\t1048572\t\t12\t\t-3\n";
        for (rows, expected) in [
            ("", Some(0)),
            (one, Some(65_532 * 1024)),
            (&format!("{one}{two}"), Some((65_532 + 1_048_572) * 1024)),
            ("/dev/sda1 partition\n", None),
            ("/dev/sda1 partition much 0 -2\n", None),
        ] {
            assert_eq!(sum(&format!("{HEADING}{rows}")), expected, "{rows}");
        }
    }

    #[test]
    fn a_kernel_without_swap_has_none_and_a_table_of_something_else_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(&dir.path().join("swaps")).unwrap(), 0);
        std::fs::write(dir.path().join("swaps"), format!("{HEADING}x\n")).unwrap();
        assert!(read(&dir.path().join("swaps")).is_err());
        swap_bytes().unwrap();
    }
}
