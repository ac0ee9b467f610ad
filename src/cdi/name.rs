//! Names of devices: `vendor.example/class=name`.

use super::error::CdiError;
use std::fmt;

/// A whole name of a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceName {
    /// `vendor/class`.
    pub(super) kind: String,
    /// The device in its class.
    pub(super) device: String,
}

impl DeviceName {
    /// Parses a whole name.
    ///
    /// # Errors
    /// [`CdiError::Name`].
    pub fn parse(text: &str) -> Result<Self, CdiError> {
        let refuse = |reason| Err(CdiError::Name { name: text.to_owned(), reason });
        let Some((kind, device)) = text.split_once('=') else { return refuse("it has no '='") };
        if let Err(reason) = check_kind(kind).and_then(|()| check_device(device)) {
            return refuse(reason);
        }
        Ok(Self { kind: kind.to_owned(), device: device.to_owned() })
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.device)
    }
}

/// Checks `vendor/class`.
pub(super) fn check_kind(kind: &str) -> Result<(), &'static str> {
    let Some((vendor, class)) = kind.split_once('/') else { return Err("it has no '/'") };
    let part = |text: &str, further: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic()) && is_word(text, further)
    };
    if !part(vendor, "_-.") {
        return Err("the vendor is no name");
    }
    if !part(class, "_-.") {
        return Err("the class is no name");
    }
    Ok(())
}

/// Checks a device's own name.
pub(super) fn check_device(device: &str) -> Result<(), &'static str> {
    if is_word(device, "_-.:") { Ok(()) } else { Err("the device is no name") }
}

/// Letters, digits and `further` ones, but at the ends.
fn is_word(text: &str, further: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || further.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_are_told_from_others() {
        for good in ["vendor.com/gpu=0", "v/c=all", "a-b.c/d_e=GPU-1:0", "nvidia.com/gpu=a.b"] {
            assert_eq!(DeviceName::parse(good).unwrap().to_string(), good);
        }
        let bad =
            ["", "gpu0", "vendor.com/gpu", "vendor.com=0", "1v/c=0", "v/1c=0", "v/c=", "/c=0"];
        for bad in
            bad.into_iter().chain(["v/c=-0", "v/c=0-", "v./c=0", "v/c=a=b", "v/c=a b", "v/c/d=0"])
        {
            assert!(DeviceName::parse(bad).unwrap_err().to_string().contains(bad), "{bad}");
        }
    }
}
