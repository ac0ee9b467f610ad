//! Why a verb failed, with the pod and container in it.

use crate::error::ErrorKind;

/// A failed verb.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No object answers to this id.
    #[error("{what} {id:?} does not exist")]
    NotFound {
        /// `sandbox` or `container`.
        what: &'static str,
        /// The id as it was given.
        id: String,
    },
    /// A prefix fits more than one object.
    #[error("{what} id prefix {id:?} is ambiguous: {count} objects start with it")]
    Ambiguous {
        /// `sandbox` or `container`.
        what: &'static str,
        /// The prefix as it was given.
        id: String,
        /// How many objects start with it.
        count: usize,
    },
    /// The name belongs to another object, or to one in another state.
    #[error("{what} name {name:?} is taken by {id}: {differs}")]
    NameTaken {
        /// `sandbox` or `container`.
        what: &'static str,
        /// The reservation.
        name: String,
        /// Who holds it.
        id: String,
        /// What differs from the request, or the state that forbids the repeat.
        differs: String,
    },
    /// The request cannot be carried out by this version or in this form.
    #[error("{0}")]
    Invalid(String),
    /// The object is in a state that does not allow the verb.
    #[error("{0}")]
    Precondition(String),
    /// Start-up has not finished.
    #[error("berth is still recovering its state after a start")]
    Recovering,
    /// What an earlier daemon left of a pod is still being looked at.
    #[error("pod {0} is still being recovered after a start: its shim has not answered yet")]
    PodRecovering(String),
    /// A named step of a verb failed.
    #[error("{verb} {subject}: {step}")]
    Step {
        /// The verb, as CRI names it.
        verb: &'static str,
        /// Pod or container, by name and id.
        subject: String,
        /// What was attempted.
        step: &'static str,
        /// How the caller shall see it.
        kind: ErrorKind,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A command ran out of time and was killed.
    #[error("command in container {container} did not end within {seconds} s and was killed")]
    ExecTimeout {
        /// The container.
        container: String,
        /// The limit.
        seconds: u64,
    },
    /// The verb's task ended without an answer.
    #[error("{0} was cut off: berth is shutting down")]
    CutOff(&'static str),
    /// Not part of this version.
    #[error("{0} is not implemented")]
    Unimplemented(&'static str),
    /// An earlier, joined attempt of the same verb failed; its error, shared.
    #[error(transparent)]
    Shared(#[from] std::sync::Arc<EngineError>),
}

impl EngineError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Ambiguous { .. } | Self::Invalid(_) => ErrorKind::InvalidArgument,
            Self::NameTaken { .. } => ErrorKind::AlreadyExists,
            Self::Precondition(_) => ErrorKind::FailedPrecondition,
            Self::Recovering | Self::PodRecovering(_) | Self::CutOff(_) => ErrorKind::Unavailable,
            Self::Step { kind, .. } => *kind,
            Self::ExecTimeout { .. } => ErrorKind::DeadlineExceeded,
            Self::Unimplemented(_) => ErrorKind::Unimplemented,
            Self::Shared(error) => error.kind(),
        }
    }
}

impl EngineError {
    /// The step that failed, when one did.
    pub fn failed_step(&self) -> Option<&'static str> {
        match self {
            Self::Step { step, .. } => Some(step),
            Self::Shared(error) => error.failed_step(),
            _ => None,
        }
    }

    /// A verb that failed at a step, for a subject that a person knows.
    pub(crate) fn step(
        verb: &'static str,
        subject: &str,
        failed: crate::error::StepFailed,
    ) -> Self {
        Self::Step {
            verb,
            subject: subject.to_owned(),
            step: failed.step,
            kind: failed.kind,
            source: failed.source,
        }
    }
}
