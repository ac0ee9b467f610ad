//! What of the node is short.

use serde::Serialize;
use std::fmt;

/// What of the node is short: the conditions MemoryPressure, DiskPressure and PIDPressure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pressure {
    /// Memory.
    pub memory: bool,
    /// Bytes or inodes of the file system of pods, or of that of images.
    pub disk: bool,
    /// Process ids.
    pub pid: bool,
}

impl Pressure {
    /// Whether anything is.
    pub fn any(self) -> bool {
        self.memory || self.disk || self.pid
    }
}

/// The conditions that hold, separated by blanks; nothing for none.
impl fmt::Display for Pressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            (self.memory, "MemoryPressure"),
            (self.disk, "DiskPressure"),
            (self.pid, "PIDPressure"),
        ];
        let names: Vec<&str> = rows.iter().filter(|(holds, _)| *holds).map(|(_, n)| *n).collect();
        f.write_str(&names.join(" "))
    }
}
