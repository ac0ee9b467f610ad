//! Validated identifiers. A held value is valid, and safe as a file name and as a cgroup name.

use std::fmt;
use std::str::FromStr;

/// Text that is not a valid identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {what}: {reason}")]
pub struct InvalidId {
    what: &'static str,
    text: String,
    reason: &'static str,
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Length in characters: 32 random bytes in lower-case hexadecimal.
            pub const LEN: usize = 64;

            /// Parses exactly 64 lower-case hexadecimal digits.
            ///
            /// # Errors
            /// [`InvalidId`] for any other text.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                let refuse = |reason| InvalidId { what: $what, text: text.chars().take(80).collect(), reason };
                if text.len() != Self::LEN {
                    return Err(refuse("expected 64 characters"));
                }
                if !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                    return Err(refuse("expected lower-case hexadecimal digits"));
                }
                Ok(Self(text.to_owned()))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first 13 characters, as people see them.
            pub fn short(&self) -> &str {
                self.0.get(..13).unwrap_or(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.short())
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }

        #[cfg(feature = "daemon")]
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        #[cfg(feature = "daemon")]
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'_, str>>::deserialize(d)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_id!(
    /// The id of a pod sandbox.
    SandboxId,
    "sandbox id"
);
hex_id!(
    /// The id of a container.
    ContainerId,
    "container id"
);
hex_id!(
    /// The id of an image: the hexadecimal part of the sha256 of its config.
    ImageId,
    "image id"
);

/// 64 random hexadecimal digits from the kernel's generator.
///
/// # Errors
/// The error of getrandom(2), which cannot fail on a booted kernel.
pub fn random_hex() -> Result<String, std::io::Error> {
    random_hex_of::<32>()
}

/// Two random hexadecimal digits for each of `BYTES`, which are at most 256.
///
/// # Errors
/// As [`random_hex`].
pub fn random_hex_of<const BYTES: usize>() -> Result<String, std::io::Error> {
    use std::fmt::Write as _;
    let bytes = crate::sys::random::bytes::<BYTES>()?;
    let mut text = String::with_capacity(2 * BYTES);
    for byte in bytes {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_64_hexadecimal_digits_and_nothing_else() {
        let good = "0123456789abcdef".repeat(4);
        assert_eq!(SandboxId::parse(&good).unwrap().as_str(), good);
        for bad in ["", "0", &"A".repeat(64), &"../x".repeat(16), &"a".repeat(65)] {
            assert!(SandboxId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn random_ids_parse_and_differ() {
        let (a, b) = (random_hex().unwrap(), random_hex().unwrap());
        assert!(ContainerId::parse(&a).is_ok());
        assert_ne!(a, b);
    }
}
