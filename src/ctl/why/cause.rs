//! A cause, and the order of causes.

/// Where on its way a pod is held up, in the order of that way: what comes first keeps all later ones from being
/// reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It is being ended.
    Ending,
    /// It was refused, or ended as a whole: admission, eviction, deadline.
    Verdict,
    /// Its sandbox cannot be made.
    Sandbox,
    /// Its volumes cannot be set up.
    Volumes,
    /// An image is not to be had.
    Image,
    /// What a container's specification names is not there, or forbids it.
    Config,
    /// A container cannot be made.
    Create,
    /// A container's command cannot be started.
    Start,
    /// A postStart hook fails or does not end.
    Hook,
    /// A container ended that should run.
    Exit,
    /// A startup probe does not pass.
    Startup,
    /// A liveness probe fails.
    Liveness,
    /// A container is not ready.
    Readiness,
    /// A step is under way.
    Progress,
}

/// One cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    pub(super) stage: Stage,
    /// One line.
    pub(super) headline: String,
    /// More of it, a line each.
    pub(super) details: Vec<String>,
    /// Whether nothing has failed: a step takes its time.
    pub(super) under_way: bool,
}

impl Cause {
    pub(super) fn new(stage: Stage, headline: String) -> Self {
        // A message may have lines of its own.
        let headline = headline.trim_end().replace(['\n', '\r'], " ");
        let under_way = matches!(stage, Stage::Ending | Stage::Progress);
        Self { stage, headline, details: Vec::new(), under_way }
    }

    /// Of a step that takes its time.
    pub(super) fn under_way(mut self) -> Self {
        self.under_way = true;
        self
    }

    /// With one more line, if there is one.
    pub(super) fn with(mut self, detail: Option<String>) -> Self {
        self.details.extend(detail.map(|text| text.trim_end().replace(['\n', '\r'], " ")));
        self
    }
}
