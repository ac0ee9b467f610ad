//! Holding all processes of a cgroup where they are (cgroup-v2.rst, "cgroup.freeze").

use super::CgroupError;
use super::events::{gone, pause_for};
use super::group::Group;
use super::parse::parse_flat;
use std::time::{Duration, Instant};

impl Group {
    /// Freezes it with all below it, and waits no longer than `limit` until all of them stand still;
    /// `false` when they do not. They freeze in any case, as soon as each can.
    ///
    /// # Errors
    /// [`CgroupError::Access`], [`CgroupError::Write`].
    pub fn freeze(&self, limit: Duration) -> Result<bool, CgroupError> {
        self.dir()?.write("cgroup.freeze", "1")?;
        let deadline = Instant::now() + limit;
        let mut delay = Duration::from_micros(200);
        while !self.frozen()? {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            pause_for(delay);
            delay = (delay * 2).min(Duration::from_millis(20));
        }
        Ok(true)
    }

    /// Lets everything go on. A cgroup that is gone is not frozen.
    ///
    /// # Errors
    /// As [`Group::freeze`].
    pub fn thaw(&self) -> Result<(), CgroupError> {
        match self.dir().and_then(|dir| dir.write("cgroup.freeze", "0")) {
            Err(CgroupError::Access { source, .. } | CgroupError::Write { source, .. })
                if gone(&source) =>
            {
                Ok(())
            }
            result => result,
        }
    }

    /// Whether everything in it stands still; false for a cgroup that is gone.
    ///
    /// # Errors
    /// [`CgroupError::Access`].
    pub fn frozen(&self) -> Result<bool, CgroupError> {
        match self.dir().and_then(|dir| dir.read("cgroup.events")) {
            Ok(text) => {
                Ok(parse_flat(&text.unwrap_or_default()).any(|line| line == Ok(("frozen", 1))))
            }
            Err(CgroupError::Access { source, .. }) if gone(&source) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
