//! A runtime of the tests': it answers what it was given, and holds up what it is told to.

use super::verbs::with_verbs;
use super::{Cri, CriError, Events};
use crate::cri::proto::*;
use crate::lock::lock;
use futures::StreamExt as _;
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// A runtime without any state of its own.
#[derive(Default)]
pub(crate) struct FakeCri {
    answers: Mutex<BTreeMap<&'static str, Box<dyn Any + Send>>>,
    held: Mutex<BTreeMap<&'static str, CancellationToken>>,
    calls: Mutex<Vec<String>>,
}

impl FakeCri {
    /// What a verb answers from now on; by default, with nothing.
    pub(crate) fn answers<T: Any + Send>(&self, verb: &'static str, answer: T) {
        lock(&self.answers).insert(verb, Box::new(answer));
    }

    /// Has a verb's next calls wait until what this answers is cancelled.
    pub(crate) fn hold(&self, verb: &'static str) -> CancellationToken {
        let token = CancellationToken::new();
        lock(&self.held).insert(verb, token.clone());
        token
    }

    /// The calls so far: `verb` as one begins, `verb.` as it ends.
    pub(crate) fn calls(&self) -> Vec<String> {
        lock(&self.calls).clone()
    }

    async fn called<T: Any + Clone + Default>(&self, verb: &'static str) -> Result<T, CriError> {
        lock(&self.calls).push(verb.to_owned());
        let held = lock(&self.held).get(verb).cloned();
        if let Some(held) = held {
            held.cancelled().await;
        }
        lock(&self.calls).push(format!("{verb}."));
        let answers = lock(&self.answers);
        let answer = answers.get(verb).and_then(|answer| answer.downcast_ref::<T>());
        Ok(answer.cloned().unwrap_or_default())
    }
}

macro_rules! implement {
    ($($service:ident $verb:ident($request:ident) -> $answer:ident within $limit:literal;)*) => {
        #[tonic::async_trait]
        impl Cri for FakeCri {
            $(
                async fn $verb(&self, _: $request) -> Result<$answer, CriError> {
                    self.called(stringify!($verb)).await
                }
            )*

            async fn events(&self) -> Result<Events, CriError> {
                Ok(futures::stream::pending().boxed())
            }
        }
    };
}
with_verbs!(implement);
