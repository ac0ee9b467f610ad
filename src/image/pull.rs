//! Pulling from a registry; identical pulls in flight are one.

use super::assemble::{Assembler, Source, plan};
use super::error::ImageError;
use super::info::{Auth, Phase, Progress};
use super::policy;
use super::progress::Listeners;
use super::reference::Reference;
use super::registry::{Access, Repository};
use crate::ids::ImageId;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

type Outcome = Result<ImageId, Arc<ImageError>>;
type Pull = Shared<BoxFuture<'static, Outcome>>;
type WeakPull = WeakShared<BoxFuture<'static, Outcome>>;

/// What makes two pulls the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    reference: Reference,
    auth: Option<Auth>,
}

/// Pulls in flight. They live in those who wait for them: when the last one leaves, the pull ends.
pub(super) struct Pulls {
    running: Mutex<HashMap<Key, (WeakPull, Listeners)>>,
    access: Arc<Access>,
}

impl std::fmt::Debug for Pulls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pulls").finish_non_exhaustive()
    }
}

impl Pulls {
    /// None yet; registries are reached in this way.
    pub(super) fn new(access: Access) -> Self {
        Self { running: Mutex::default(), access: Arc::new(access) }
    }

    /// How registries are reached.
    pub(super) fn access(&self) -> &Arc<Access> {
        &self.access
    }

    /// Pulls an image, or joins the pull of the same that is in flight.
    pub(super) async fn pull(
        &self,
        assembler: &Arc<Assembler>,
        reference: Reference,
        auth: Option<Auth>,
        progress: Progress,
    ) -> Result<ImageId, ImageError> {
        let pull = self.join(assembler, Key { reference, auth }, progress);
        pull.await.map_err(ImageError::Joined)
    }

    fn join(&self, assembler: &Arc<Assembler>, key: Key, progress: Progress) -> Pull {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // A finished one answers no one new: the image may have been removed since.
        running.retain(|_, (pull, _)| pull.upgrade().is_some_and(|p| p.peek().is_none()));
        if let Some((pull, listeners)) = running.get(&key)
            && let Some(pull) = pull.upgrade()
        {
            listeners.add(progress);
            return pull;
        }
        let listeners = Listeners::default();
        listeners.add(progress);
        let (assembler, access) = (Arc::clone(assembler), Arc::clone(&self.access));
        let (key_of, heard) = (key.clone(), listeners.clone());
        let work =
            async move { pull_now(&assembler, &access, key_of, &heard).await.map_err(Arc::new) };
        let pull = work.boxed().shared();
        if let Some(weak) = pull.downgrade() {
            running.insert(key, (weak, listeners));
        }
        pull
    }
}

async fn pull_now(
    assembler: &Assembler,
    access: &Arc<Access>,
    key: Key,
    listeners: &Listeners,
) -> Result<ImageId, ImageError> {
    let Key { reference, auth } = key;
    let name = reference.to_string();
    listeners.image(&name, Phase::Resolving);
    let signed = match assembler.policy() {
        Some(policy) => policy::demand(policy, &reference).await?,
        None => None,
    };
    let repository = Repository::open(&reference, auth.as_ref(), access).await?;
    let (document, digest) = repository.top().await?;
    if let Some(signed) = signed {
        signed.check(&repository, &reference, &digest).await?;
    }
    let source = Source::Registry(Box::new(repository));
    let mut plan = plan(&source, &name, document).await?;
    plan.tags.extend(reference.as_tag());
    plan.digests.push(reference.with_digest(&digest));
    let info = assembler.assemble(&source, plan, listeners).await?;
    tracing::info!(image = name, image_id = %info.id, "image pulled");
    Ok(info.id)
}
