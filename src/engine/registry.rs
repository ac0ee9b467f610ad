//! What exists: sandboxes and containers by id, and who holds which name.

use super::error::EngineError;
use crate::container::object::Container;
use crate::ids::{ContainerId, SandboxId};
use crate::lock::lock;
use crate::sandbox::object::Sandbox;
use futures::future::{BoxFuture, Shared};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

/// A verb in flight that repeats of it join: the id that it makes, or why it failed.
pub(crate) type Flight = Shared<BoxFuture<'static, Result<String, Arc<EngineError>>>>;

/// Who holds a name.
#[derive(Clone)]
pub(crate) struct Holder {
    /// The id of the object.
    pub(crate) id: String,
    /// The hash of the request that made it.
    pub(crate) request_hash: String,
    /// The verb that is making it, until that ends.
    pub(crate) flight: Option<Flight>,
}

/// Everything by id and name. Locks are short and never held over an await.
#[derive(Default)]
pub(crate) struct Registry {
    sandboxes: Mutex<BTreeMap<SandboxId, Arc<Sandbox>>>,
    containers: Mutex<BTreeMap<ContainerId, Arc<Container>>>,
    names: Mutex<HashMap<String, Holder>>,
}

impl Registry {
    /// The name table, for the two verbs that reserve.
    pub(crate) fn names(&self) -> std::sync::MutexGuard<'_, HashMap<String, Holder>> {
        lock(&self.names)
    }

    /// Frees the name held by `id`.
    pub(crate) fn release(&self, id: &str) {
        lock(&self.names).retain(|_, holder| holder.id != id);
    }

    /// The verb that made `id` has ended.
    pub(crate) fn landed(&self, id: &str) {
        if let Some(holder) = lock(&self.names).values_mut().find(|h| h.id == id) {
            holder.flight = None;
        }
    }

    /// Adds a sandbox.
    pub(crate) fn add_sandbox(&self, sandbox: Arc<Sandbox>) {
        lock(&self.sandboxes).insert(sandbox.id.clone(), sandbox);
    }

    /// Adds a container.
    pub(crate) fn add_container(&self, container: Arc<Container>) {
        lock(&self.containers).insert(container.id.clone(), container);
    }

    /// Drops a sandbox and its name.
    pub(crate) fn drop_sandbox(&self, id: &SandboxId) {
        lock(&self.sandboxes).remove(id);
        self.release(id.as_str());
    }

    /// Drops a container and its name.
    pub(crate) fn drop_container(&self, id: &ContainerId) {
        lock(&self.containers).remove(id);
        self.release(id.as_str());
    }

    /// All sandboxes, by id.
    pub(crate) fn sandboxes(&self) -> Vec<Arc<Sandbox>> {
        lock(&self.sandboxes).values().cloned().collect()
    }

    /// All containers, by id.
    pub(crate) fn containers(&self) -> Vec<Arc<Container>> {
        lock(&self.containers).values().cloned().collect()
    }

    /// The containers of one sandbox.
    pub(crate) fn containers_of(&self, sandbox: &SandboxId) -> Vec<Arc<Container>> {
        lock(&self.containers).values().filter(|c| c.sandbox.id == *sandbox).cloned().collect()
    }

    /// The sandbox with this id, exactly.
    pub(crate) fn sandbox(&self, id: &SandboxId) -> Option<Arc<Sandbox>> {
        lock(&self.sandboxes).get(id).cloned()
    }

    /// The container with this id, exactly.
    pub(crate) fn container(&self, id: &ContainerId) -> Option<Arc<Container>> {
        lock(&self.containers).get(id).cloned()
    }

    /// The sandbox with this id, or with an id that alone starts with this text.
    ///
    /// # Errors
    /// NotFound, Ambiguous.
    pub(crate) fn find_sandbox(&self, id: &str) -> Result<Arc<Sandbox>, EngineError> {
        find("sandbox", id, lock(&self.sandboxes).iter().map(|(k, v)| (k.as_str(), v)))
    }

    /// The container with this id, or with an id that alone starts with this text.
    ///
    /// # Errors
    /// NotFound, Ambiguous.
    pub(crate) fn find_container(&self, id: &str) -> Result<Arc<Container>, EngineError> {
        find("container", id, lock(&self.containers).iter().map(|(k, v)| (k.as_str(), v)))
    }
}

fn find<'a, T: 'a>(
    what: &'static str,
    id: &str,
    all: impl Iterator<Item = (&'a str, &'a Arc<T>)>,
) -> Result<Arc<T>, EngineError> {
    // An empty prefix fits everything; it is a missing id, not a wish.
    if id.is_empty() {
        return Err(EngineError::NotFound { what, id: String::new() });
    }
    let mut fitting = all.filter(|(key, _)| key.starts_with(id));
    let Some((_, first)) = fitting.next() else {
        return Err(EngineError::NotFound { what, id: id.to_owned() });
    };
    match fitting.count() {
        0 => Ok(Arc::clone(first)),
        more => Err(EngineError::Ambiguous { what, id: id.to_owned(), count: more + 1 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_finds_one_object_and_says_so_when_it_fits_more() {
        let (a, b) = (Arc::new(1), Arc::new(2));
        let all = || [("abc", &a), ("abd", &b)].into_iter();
        assert_eq!(*find("x", "abc", all()).unwrap(), 1);
        assert_eq!(*find("x", "abd", all()).unwrap(), 2);
        assert!(matches!(find("x", "ab", all()), Err(EngineError::Ambiguous { count: 2, .. })));
        assert!(matches!(find("x", "z", all()), Err(EngineError::NotFound { .. })));
        assert!(matches!(find("x", "", all()), Err(EngineError::NotFound { .. })));
    }
}
