//! References to variables in the command of an exec probe.
//!
//! Only what stands in the manifest counts: a variable with `valueFrom` is there and empty, one of `envFrom` or of
//! a Service is unknown.

use crate::expand;
use k8s_openapi::api::core::v1::Container;

fn value<'v>(container: &'v Container, name: &str) -> Option<&'v str> {
    // The last one of a name is the one that the container gets.
    let mut env = container.env.iter().flatten().rev();
    env.find(|var| var.name == name).map(|var| var.value.as_deref().unwrap_or_default())
}

/// `word` with its references to the container's variables expanded, once.
pub(super) fn expand(word: &str, container: &Container) -> String {
    expand::expand(word, |name| value(container, name)).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn the_containers_own_variables_are_known() {
        let env = json!([
            {"name": "A", "value": "1"}, {"name": "R", "valueFrom": {}}, {"name": "A", "value": "2"},
        ]);
        let of: Container = from_value(json!({"name": "c", "env": env})).unwrap();
        for (row, word, expected) in [
            ("last of a name", "x$(A)y", "x2y"),
            ("a reference's value is not known here", "[$(R)]", "[]"),
            ("unknown", "$(C)", "$(C)"),
        ] {
            assert_eq!(expand(word, &of), expected, "{row}");
        }
    }
}
