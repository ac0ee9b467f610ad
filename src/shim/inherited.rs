//! What a shim is started with: the numbers of its descriptors (the table is in `launch`) and its
//! arguments.

/// The listening socket.
pub const LISTENER: i32 = 3;
/// The folder for exit records.
pub const EXITS: i32 = 4;
/// The pause program.
pub const PAUSE_PROGRAM: i32 = 5;
/// The shim's own cgroup.
pub const OWN_CGROUP: i32 = 6;

/// The argument after the sandbox id that has refused privileges passed over.
pub const BEST_EFFORT: &str = "--privileges=best-effort";
