//! What of the node is short.

/// What of the node is short: the conditions MemoryPressure, DiskPressure and PIDPressure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Memory.
    pub memory: bool,
    /// Bytes or inodes of the file system of pods, or of that of images.
    pub disk: bool,
    /// Process ids.
    pub pid: bool,
}
