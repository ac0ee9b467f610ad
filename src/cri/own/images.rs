//! Requests about images that CRI does not have, to and from the store's own types.

use super::proto;
use crate::cri::to_proto::tagged_id;
use crate::image::{Description, Goal, Prune, Pruned, Verified, Which};
use std::time::Duration;
use tonic::Status;

/// What to collect.
pub(super) fn prune_rule(request: &proto::PruneImagesRequest) -> Result<Prune, Status> {
    let goal = match request.to_percent {
        None => Goal::All,
        Some(percent) => match u8::try_from(percent).ok().filter(|p| *p <= 100) {
            Some(to) => Goal::Usage { above: to, to },
            None => {
                let problem = format!("to_percent {percent} is more than 100");
                return Err(Status::invalid_argument(problem));
            }
        },
    };
    let which = if request.all { Which::Unused } else { Which::Untagged };
    Ok(Prune { which, older_than: Duration::from_secs(request.older_than_seconds), goal })
}

/// All about an image.
pub(super) fn described(image: Description) -> proto::DescribeImageAnswer {
    let layers = image.layers.into_iter().map(|layer| proto::ImageLayer {
        diff_id: layer.diff_id.to_string(),
        bytes: layer.bytes,
        record_bytes: layer.record_bytes,
        images: u32::try_from(layer.images).unwrap_or(u32::MAX),
    });
    proto::DescribeImageAnswer {
        id: tagged_id(&image.id),
        names: image.names,
        config: image.config,
        layers: layers.collect(),
        used_at: image.used_nanos,
    }
}

/// What a comparison found.
pub(super) fn verified(image: Verified) -> proto::VerifyImageAnswer {
    let layers = image.layers.into_iter().map(|layer| proto::CheckedLayer {
        diff_id: layer.diff_id.to_string(),
        bytes: layer.bytes,
        problems: layer.problems,
    });
    proto::VerifyImageAnswer {
        id: tagged_id(&image.id),
        layers: layers.collect(),
        problems: image.problems,
    }
}

/// What was collected.
pub(super) fn pruned(done: Pruned) -> proto::PruneImagesAnswer {
    let images = done.images.into_iter().map(|image| proto::PrunedImage {
        id: tagged_id(&image.id),
        names: image.names,
        freed_bytes: image.freed_bytes,
    });
    proto::PruneImagesAnswer {
        images: images.collect(),
        missing_bytes: done.missing_bytes,
        failed: done.failed,
    }
}
