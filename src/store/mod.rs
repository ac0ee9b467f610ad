//! Records on disk: where they are, how they are replaced, how long they live.
//!
//! Live records sit on the tmpfs below `/run/berth`; what outlives a boot below `/var/lib/berth`.

mod atomic;
mod boot;
mod layout;
mod record;

pub use atomic::{StoreError, replace};
pub use boot::boot_id;
pub use layout::Layout;
pub use record::{Loaded, load, load_dir, remove, save};
