//! Images as replies.

use super::{info, path};
use crate::cri::proto;
use crate::ids::ImageId;
use crate::image::{FsUsage, ImageInfo};
use serde_json::json;
use std::collections::BTreeMap;

/// Says of an image why no container can be made of it.
pub(crate) const CORRUPT: &str = "berth.corrupt";

/// The id of an image as it goes over the wire everywhere: with its algorithm.
pub(crate) fn tagged_id(id: &ImageId) -> String {
    format!("sha256:{id}")
}

/// An image in a list.
pub(crate) fn image(image: &ImageInfo) -> proto::Image {
    let (uid, username) = user(&image.config.user);
    proto::Image {
        id: tagged_id(&image.id),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        size: image.size,
        uid,
        username,
        spec: Some(proto::ImageSpec {
            image: tagged_id(&image.id),
            annotations: image.corrupt.iter().map(|r| (CORRUPT.to_owned(), r.clone())).collect(),
            ..proto::ImageSpec::default()
        }),
        pinned: image.pinned,
    }
}

/// Details for people and tools.
pub(crate) fn image_info(image: &ImageInfo) -> BTreeMap<String, String> {
    info(&json!({ "imageSpec": { "config": image.config } }))
}

/// Usage of a file system.
pub(crate) fn filesystem(usage: &FsUsage) -> proto::FilesystemUsage {
    let value = |value| Some(proto::UInt64Value { value });
    proto::FilesystemUsage {
        timestamp: usage.timestamp_nanos,
        fs_id: Some(proto::FilesystemIdentifier { mountpoint: path(&usage.mountpoint) }),
        used_bytes: value(usage.used_bytes),
        inodes_used: value(usage.inodes_used),
    }
}

/// The user before the colon: a number, or a name. No user at all is root, by number.
fn user(user: &str) -> (Option<proto::Int64Value>, String) {
    let user = user.split(':').next().unwrap_or_default();
    let number = if user.is_empty() { Ok(0) } else { user.parse::<u32>() };
    match number {
        Ok(uid) => (Some(proto::Int64Value { value: i64::from(uid) }), String::new()),
        Err(_) => (None, user.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_told_by_number_or_by_name_but_not_both() {
        let uid = |value| Some(proto::Int64Value { value });
        for (given, expected) in [
            ("", (uid(0), "")),
            ("0", (uid(0), "")),
            ("1000:users", (uid(1000), "")),
            ("web:users", (None, "web")),
            (":users", (uid(0), "")),
        ] {
            assert_eq!(user(given), (expected.0, expected.1.to_owned()), "{given:?}");
        }
    }
}
