//! Having a container's image: by its pull policy, with the pod's secrets, and a back-off of its own.

use super::body::Body;
use super::failure::Failure;
use crate::cri::client::CriError;
use crate::cri::proto;
use crate::error::ErrorKind;
use crate::image::Reference;
use crate::kubelet::board::EventKind;
use crate::kubelet::request::ImageUser;
use k8s_openapi::api::core::v1::Container;
use std::time::{Instant, SystemTime};

/// The words by which a runtime tells these causes, at the beginning of its message.
const SPECIAL: [&str; 2] = ["RegistryUnavailable", "SignatureValidationFailed"];

/// An image that is here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Present {
    /// How the runtime knows it.
    pub(super) reference: String,
    /// Whom it runs as.
    pub(super) user: ImageUser,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl PullPolicy {
    fn of(text: Option<&str>) -> Self {
        match text {
            Some("Always") => Self::Always,
            Some("Never") => Self::Never,
            _ => Self::IfNotPresent,
        }
    }
}

impl Body {
    /// Makes sure that a container's image is here.
    pub(super) async fn image(&mut self, container: &Container) -> Result<Present, Failure> {
        let image = container.image.clone().unwrap_or_default();
        self.image_named(&container.name, &image, container.image_pull_policy.as_deref()).await
    }

    /// Makes sure that an image is here that the container of `name` needs.
    pub(super) async fn image_named(
        &mut self,
        name: &str,
        image: &str,
        policy: Option<&str>,
    ) -> Result<Present, Failure> {
        let now = SystemTime::now();
        let present = match self.present(image).await {
            Ok(present) => present,
            Err(error) if is_no_name(image, &error) => {
                let message =
                    format!("Failed to apply default image tag {image:?}: {}", error.message());
                return Err(self.image_failed(name, "InvalidImageName", message));
            }
            Err(error) => {
                let message = format!("Failed to inspect image {image:?}: {}", error.message());
                return Err(self.image_failed(name, "ImageInspectError", message));
            }
        };
        let policy = PullPolicy::of(policy);
        match (policy, present) {
            (PullPolicy::IfNotPresent | PullPolicy::Never, Some(present)) => {
                let message = format!("Container image {image:?} already present on machine");
                self.container_event(name, (EventKind::Normal, "Pulled", message));
                return Ok(present);
            }
            (PullPolicy::Never, None) => {
                let message =
                    format!("Container image {image:?} is not present with pull policy of Never");
                return Err(self.image_failed(name, "ErrImageNeverPull", message));
            }
            (PullPolicy::Always, _) | (PullPolicy::IfNotPresent, None) => {}
        }
        if let Some(failure) = self.pulls_held(name, image, now) {
            return Err(failure);
        }
        self.pull(name, image).await
    }

    /// The failure of a pull whose next try has to wait.
    fn pulls_held(&self, name: &str, image: &str, now: SystemTime) -> Option<Failure> {
        let failed = self.pull_failures.get(image)?;
        let held = self.pulls.held(image, failed.at, now)?;
        let message = format!("Back-off pulling image {image:?}: {}", failed.message);
        let what = (EventKind::Normal, "BackOff", format!("Back-off pulling image {image:?}"));
        self.container_event(name, what);
        let failure = Failure::new("ImagePullBackOff", message, now);
        Some(Failure { again: held.until, ..failure })
    }

    async fn pull(&mut self, name: &str, image: &str) -> Result<Present, Failure> {
        let message = format!("Pulling image {image:?}");
        self.container_event(name, (EventKind::Normal, "Pulling", message));
        let turn = self.host.pulls.turn().await;
        let began = Instant::now();
        let mut failed = None;
        for auth in self.credentials(image) {
            let request = proto::PullImageRequest {
                image: Some(spec_of(image)),
                auth,
                ..proto::PullImageRequest::default()
            };
            match self.host.cri.pull_image(request).await {
                Ok(answer) => {
                    self.pulls.forget(image);
                    self.pull_failures.remove(image);
                    let message = format!(
                        "Successfully pulled image {image:?} in {:.3} s",
                        began.elapsed().as_secs_f64()
                    );
                    self.container_event(name, (EventKind::Normal, "Pulled", message));
                    let present = self.present(&answer.image_ref).await.ok().flatten();
                    return Ok(present.unwrap_or(Present {
                        reference: answer.image_ref,
                        user: ImageUser::default(),
                    }));
                }
                Err(error) => failed = Some(error),
            }
        }
        drop(turn);
        Err(self.pull_failed(name, image, failed))
    }

    fn pull_failed(&mut self, name: &str, image: &str, error: Option<CriError>) -> Failure {
        let now = SystemTime::now();
        let cause = error.as_ref().map_or("no credentials to try", CriError::message).to_owned();
        let invalid = error.as_ref().is_some_and(|error| is_no_name(image, error));
        let special = SPECIAL.into_iter().find(|word| cause.starts_with(word));
        let reason = match special {
            Some(word) => word,
            None if invalid => "InvalidImageName",
            None => "ErrImagePull",
        };
        let message = format!("Failed to pull image {image:?}: {cause}");
        self.pulls.step(image, now, now);
        self.pull_failures
            .insert(image.to_owned(), super::body::PullFailure { at: now, message: cause });
        let failure = self.image_failed(name, reason, message);
        // Told as it is once, and then as a back-off.
        let again = self.pulls.held(image, now, now).map_or(now, |held| held.until);
        Failure { again, ..failure }
    }

    fn image_failed(&self, name: &str, reason: &str, message: String) -> Failure {
        let what = (EventKind::Warning, "Failed", message.clone());
        self.container_event(name, what);
        Failure::new(reason, message, SystemTime::now())
    }

    async fn present(&self, image: &str) -> Result<Option<Present>, CriError> {
        let request = proto::ImageStatusRequest { image: Some(spec_of(image)), verbose: false };
        let found = self.host.cri.image_status(request).await?.image;
        Ok(found.map(|image| Present {
            user: ImageUser { uid: image.uid.map(|uid| uid.value), name: image.username },
            reference: image.id,
        }))
    }
}

/// Whether a runtime's error is about the name. Not every runtime has a code for that.
fn is_no_name(image: &str, error: &CriError) -> bool {
    error.kind() == ErrorKind::InvalidArgument || Reference::parse(image).is_err()
}

fn spec_of(image: &str) -> proto::ImageSpec {
    proto::ImageSpec {
        image: image.to_owned(),
        user_specified_image: image.to_owned(),
        ..proto::ImageSpec::default()
    }
}
