//! URLs that can be used once, within a minute: what Exec, Attach and PortForward answer.

use crate::lock::lock;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a token can be used (CRI: one minute).
pub(super) const LIFETIME: Duration = Duration::from_secs(60);
/// How many may wait for their use.
const MOST: usize = 1000;

/// Too many tokens wait for their use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MOST} streaming URLs wait for their use; each can be used for a minute")]
pub(super) struct TooMany;

/// Tokens that wait for their use, each with what it stands for.
#[derive(Debug)]
pub(super) struct Tokens<T>(Mutex<HashMap<String, (Instant, T)>>);

impl<T> Default for Tokens<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Tokens<T> {
    /// Keeps `what` under `token`, which nobody can guess.
    ///
    /// # Errors
    /// Too many wait.
    pub(super) fn keep(&self, token: String, what: T, now: Instant) -> Result<(), TooMany> {
        let mut kept = lock(&self.0);
        kept.retain(|_, (since, _)| fresh(*since, now));
        if kept.len() >= MOST {
            return Err(TooMany);
        }
        kept.insert(token, (now, what));
        Ok(())
    }

    /// Something about what a token stands for, without using it up; `None` when it is not known.
    pub(super) fn peek<R>(
        &self,
        token: &str,
        now: Instant,
        look: impl FnOnce(&T) -> R,
    ) -> Option<R> {
        let kept = lock(&self.0);
        kept.get(token).filter(|(since, _)| fresh(*since, now)).map(|(_, what)| look(what))
    }

    /// What a token stands for, once.
    pub(super) fn take(&self, token: &str, now: Instant) -> Option<T> {
        let (since, what) = lock(&self.0).remove(token)?;
        fresh(since, now).then_some(what)
    }
}

fn fresh(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) < LIFETIME
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_once_and_for_a_minute() {
        let tokens = Tokens::default();
        let start = Instant::now();
        let late = start + LIFETIME;
        tokens.keep("a".into(), 1, start).unwrap();
        tokens.keep("b".into(), 2, start).unwrap();
        assert_eq!(tokens.take("forged", start), None);
        assert_eq!(tokens.peek("a", start, |n| *n), Some(1));
        assert_eq!(tokens.take("a", late - Duration::from_nanos(1)), Some(1));
        assert_eq!(tokens.take("a", start), None, "used");
        assert_eq!(tokens.peek("b", late, |n| *n), None);
        assert_eq!(tokens.take("b", late), None, "expired");
    }

    #[test]
    fn too_many_are_refused_until_the_old_ones_expire() {
        let tokens = Tokens::default();
        let start = Instant::now();
        for number in 0..MOST {
            tokens.keep(number.to_string(), (), start).unwrap();
        }
        assert_eq!(tokens.keep("more".into(), (), start), Err(TooMany));
        tokens.keep("later".into(), (), start + LIFETIME).unwrap();
        assert_eq!(lock(&tokens.0).len(), 1);
    }
}
