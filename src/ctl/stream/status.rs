//! The last word of a session: a `metav1.Status` of Kubernetes, of which few fields are used.

use serde::Deserialize;

/// The reason of a command that ended with another code than 0.
const NON_ZERO: &str = "NonZeroExitCode";
/// The cause that holds the code.
const EXIT_CODE: &str = "ExitCode";

/// How a session went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ctl) enum Outcome {
    /// The command ended with this code. 0 is also the answer where there is no command.
    Code(u8),
    /// There is no code, because berth failed.
    Failed(String),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    status: String,
    message: String,
    reason: String,
    details: Details,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cause {
    reason: String,
    message: String,
}

/// What a status means. One that is not to be understood is a failure with its text.
pub(super) fn parse_status(bytes: &[u8]) -> Outcome {
    let text = || String::from_utf8_lossy(bytes).into_owned();
    let Ok(status) = serde_json::from_slice::<Status>(bytes) else {
        return Outcome::Failed(text());
    };
    if status.status == "Success" {
        return Outcome::Code(0);
    }
    let cause = status.details.causes.iter().find(|cause| cause.reason == EXIT_CODE);
    match cause.and_then(|cause| cause.message.parse().ok()) {
        Some(code) if status.reason == NON_ZERO => Outcome::Code(code),
        _ if status.message.is_empty() => Outcome::Failed(text()),
        _ => Outcome::Failed(status.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_a_code_or_a_failure() {
        let failed = |text: &str| Outcome::Failed(text.to_owned());
        let non_zero = r#"{"metadata":{},"status":"Failure","reason":"NonZeroExitCode",
            "message":"m","details":{"causes":[{"reason":"ExitCode","message":"42"}]}}"#;
        let beyond = r#"{"status":"Failure","reason":"NonZeroExitCode","message":"m",
            "details":{"causes":[{"reason":"ExitCode","message":"-1"}]}}"#;
        let internal = r#"{"status":"Failure","reason":"InternalError","message":"no","code":500}"#;
        for (text, outcome) in [
            (r#"{"metadata":{},"status":"Success"}"#, Outcome::Code(0)),
            (non_zero, Outcome::Code(42)),
            (beyond, failed("m")),
            (internal, failed("no")),
            ("{}", failed("{}")),
            ("plain words", failed("plain words")),
        ] {
            assert_eq!(parse_status(text.as_bytes()), outcome, "{text}");
        }
    }
}
