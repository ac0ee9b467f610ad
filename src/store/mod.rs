//! Records on disk: where they are, how they are replaced, how long they live.
//!
//! Live records sit on the tmpfs below `/run/berth`; what outlives a boot below `/var/lib/berth`.

mod atomic;
mod durable;
mod layout;
mod record;

pub use crate::sys::process::boot_id;
pub use atomic::{StoreError, replace};
pub use durable::Durable;
pub use layout::Layout;
pub use record::{Loaded, load, load_dir, remove, save};

crate::error::kinded!(StoreError);
