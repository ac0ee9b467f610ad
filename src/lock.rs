//! The one way to take a std mutex.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also when a holder panicked: release builds abort on panic, and in tests the value is
/// replaced whole under the lock, so that it is never half-changed.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
