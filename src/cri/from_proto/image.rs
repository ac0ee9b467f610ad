//! Names of images, and credentials for registries.

use super::RequestError;
use super::text::{handler, string};
use crate::cri::proto;
use crate::image::Auth;

/// The name of an image in a request. Its other fields are told back, or ask for nothing.
pub(crate) fn image_name(field: &str, image: &proto::ImageSpec) -> Result<String, RequestError> {
    if image.image.is_empty() {
        return Err(RequestError::missing(format!("{field}.image")));
    }
    handler(&format!("{field}.runtime_handler"), &image.runtime_handler)?;
    string(&format!("{field}.image"), &image.image)
}

/// Credentials for a pull; none when every field is empty. An error never quotes them.
pub(crate) fn pull_credentials(
    field: &str,
    auth: Option<proto::AuthConfig>,
) -> Result<Option<Auth>, RequestError> {
    let Some(auth) = auth.filter(|a| *a != proto::AuthConfig::default()) else { return Ok(None) };
    let header_safe = |name: &str, value: String| {
        if value.chars().any(char::is_control) {
            let field = format!("{field}.{name}");
            return Err(RequestError::invalid(field, "has a control character"));
        }
        Ok(value)
    };
    Ok(Some(Auth {
        username: header_safe("username", auth.username)?,
        password: header_safe("password", auth.password)?,
        auth: header_safe("auth", auth.auth)?,
        server_address: header_safe("server_address", auth.server_address)?,
        identity_token: header_safe("identity_token", auth.identity_token)?,
        registry_token: header_safe("registry_token", auth.registry_token)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_credentials_are_none_and_an_error_does_not_quote_them() {
        assert_eq!(pull_credentials("auth", None), Ok(None));
        assert_eq!(pull_credentials("auth", Some(proto::AuthConfig::default())), Ok(None));
        let given = |password: &str| {
            let password = password.to_owned();
            Some(proto::AuthConfig { username: "u".into(), password, ..Default::default() })
        };
        let made = pull_credentials("auth", given("secret")).unwrap().unwrap();
        assert_eq!((made.username.as_str(), made.password.as_str()), ("u", "secret"));
        let error = pull_credentials("auth", given("sec\nret")).unwrap_err().to_string();
        assert!(error.starts_with("auth.password: ") && !error.contains("ret"), "{error}");
    }
}
