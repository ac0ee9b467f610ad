//! The pull policy of an image that names none.

/// `Always` for the tag `latest`, also where it is only meant; `IfNotPresent` for every other tag and for a digest.
pub(super) fn default_policy(image: &str) -> &'static str {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    // A colon before the last slash is of a port.
    let last = name.rsplit('/').next().unwrap_or(name);
    match (last.split_once(':').map(|(_, tag)| tag), digest) {
        (Some("latest"), _) | (None, None) => "Always",
        _ => "IfNotPresent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_latest_is_always_pulled() {
        let rows = [
            ("web", "Always"),
            ("web:latest", "Always"),
            ("r.test:5000/web", "Always"),
            ("r.test:5000/web:latest", "Always"),
            ("web:latest@sha256:00", "Always"),
            ("web:1", "IfNotPresent"),
            ("r.test:5000/web:1", "IfNotPresent"),
            ("web@sha256:00", "IfNotPresent"),
            ("r.test:5000/web@sha256:00", "IfNotPresent"),
        ];
        for (image, policy) in rows {
            assert_eq!(default_policy(image), policy, "{image}");
        }
    }
}
