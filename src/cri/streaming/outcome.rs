//! How a session ended, as clients read it: a `metav1.Status` (meta/v1 of the Kubernetes API), or text
//! before version 4 of the protocol.

use serde_json::json;

/// The end of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The command has ended with 0; an attached client has left or seen the end.
    Success,
    /// The command has ended with another code, 1 to 255.
    Code(i32),
    /// It could not be begun, or not be followed to its end.
    Failed(String),
}

impl Outcome {
    /// By an exit code.
    pub(super) fn of_code(code: i32) -> Self {
        if code == 0 { Self::Success } else { Self::Code(code) }
    }

    /// As `metav1.Status`, JSON.
    pub(super) fn status(&self) -> String {
        let status = match self {
            Self::Success => json!({"metadata": {}, "status": "Success"}),
            Self::Code(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": self.text(),
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failed(_) => json!({
                "metadata": {},
                "status": "Failure",
                "message": self.text(),
                "reason": "InternalError",
                "code": 500,
            }),
        };
        status.to_string()
    }

    /// As text; nothing on success.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Success => None,
            Self::Code(code) => Some(format!("command terminated with exit code {code}")),
            Self::Failed(why) => Some(why.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_is_a_status_and_a_text() {
        assert_eq!(Outcome::of_code(0).status(), r#"{"metadata":{},"status":"Success"}"#);
        assert_eq!(Outcome::of_code(0).text(), None);
        let status: serde_json::Value =
            serde_json::from_str(&Outcome::of_code(7).status()).unwrap();
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(status["details"]["causes"][0]["reason"], "ExitCode");
        assert_eq!(status["details"]["causes"][0]["message"], "7");
        let failed = Outcome::Failed("no \"shim\"".into());
        let status: serde_json::Value = serde_json::from_str(&failed.status()).unwrap();
        assert_eq!((&status["reason"], &status["code"]), (&"InternalError".into(), &500.into()));
        assert_eq!(status["message"], "no \"shim\"");
    }
}
