//! What names, keys and paths may be. Each answers with why a text is not one.
//!
//! RFC 1123 for names, RFC 6335 for ports.

/// Of a label of the DNS, and of most names.
const LABEL: usize = 63;
/// Of a whole name of the DNS, and of a key.
const SUBDOMAIN: usize = 253;

type Found = Result<(), &'static str>;

fn holds(condition: bool, why: &'static str) -> Found {
    if condition { Ok(()) } else { Err(why) }
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// A label: containers, volumes, namespaces, host names.
pub(super) fn dns_label(text: &str) -> Found {
    holds(text.len() <= LABEL, "must be no longer than 63 characters")?;
    holds(
        is_label(text),
        "must be lower case letters, digits and '-', with a letter or digit at both ends",
    )
}

/// A name of labels: most objects.
pub(super) fn dns_subdomain(text: &str) -> Found {
    holds(text.len() <= SUBDOMAIN, "must be no longer than 253 characters")?;
    holds(
        text.split('.').all(is_label),
        "must be lower case letters, digits, '-' and '.', with a letter or digit at both ends of each part",
    )
}

/// Letters, digits, `-`, `_` and `.` with a letter or digit at both ends.
fn is_qualified(text: &str) -> bool {
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    end(text.chars().next()) && end(text.chars().next_back()) && text.chars().all(inner)
}

/// The key of a label or annotation: `[prefix/]name`.
pub(super) fn qualified_name(text: &str) -> Found {
    let name = match text.split_once('/') {
        Some((prefix, name)) => {
            dns_subdomain(prefix).map_err(|_| "must have a DNS name before the '/'")?;
            name
        }
        None => text,
    };
    holds(name.len() <= LABEL, "must have a name of no more than 63 characters")?;
    holds(
        is_qualified(name),
        "must be letters, digits, '-', '_' and '.', with a letter or digit at both ends",
    )
}

/// The value of a label.
pub(super) fn label_value(text: &str) -> Found {
    holds(text.len() <= LABEL, "must be no longer than 63 characters")?;
    holds(
        text.is_empty() || is_qualified(text),
        "must be empty, or letters, digits, '-', '_' and '.' with a letter or digit at both ends",
    )
}

/// The key of a ConfigMap or Secret: also the name of a file.
pub(super) fn config_key(text: &str) -> Found {
    holds(text.len() <= SUBDOMAIN, "must be no longer than 253 characters")?;
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    holds(
        !text.is_empty() && text.bytes().all(inner),
        "must be letters, digits, '-', '_' and '.'",
    )?;
    holds(text != "." && !text.starts_with(".."), "must not be '.' or begin with '..'")
}

/// The name of a variable: printable ASCII but `=`.
pub(super) fn env_name(text: &str) -> Found {
    let inner = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'=';
    holds(!text.is_empty() && text.bytes().all(inner), "must be printable ASCII other than '='")
}

/// The name of a port.
pub(super) fn port_name(text: &str) -> Found {
    holds(text.len() <= 15, "must be no longer than 15 characters")?;
    holds(
        is_label(text) && !text.contains("--"),
        "must be lower case letters, digits and single '-', with a letter or digit at both ends",
    )?;
    holds(text.bytes().any(|byte| byte.is_ascii_lowercase()), "must have a letter")
}

/// The number of a port.
pub(super) fn port_number(number: i32) -> Found {
    holds((1..=65535).contains(&number), "must be between 1 and 65535")
}

/// A path that stays below where it begins.
pub(super) fn path_below(text: &str) -> Found {
    holds(!text.starts_with('/'), "must be a relative path")?;
    no_way_up(text)
}

/// A path without `..`.
pub(super) fn no_way_up(text: &str) -> Found {
    holds(text.split('/').all(|part| part != ".."), "must not contain '..'")?;
    holds(!text.contains('\0'), "must not contain a NUL character")
}

/// The path of a file in a volume whose content is replaced as a whole.
pub(super) fn volume_file(text: &str) -> Found {
    path_below(text)?;
    holds(!text.starts_with(".."), "must not begin with '..'")
}

/// What can be a UID: part of paths and cgroup names.
pub(super) fn uid(text: &str) -> Found {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    holds(
        !text.is_empty() && text.len() <= 64 && text.bytes().all(inner),
        "must be at most 64 letters, digits and '-'",
    )
}

/// The name of a kernel parameter, with dots or slashes.
pub(super) fn sysctl(text: &str) -> Found {
    let inner = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
    };
    let is_part = |part: &str| {
        let ends = part.bytes().next().zip(part.bytes().next_back());
        let sound = ends.is_some_and(|(first, last)| {
            first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric()
        });
        sound && part.bytes().all(inner)
    };
    holds(
        text.len() <= SUBDOMAIN && text.split(['.', '/']).all(is_part),
        "must be lower case letters, digits, '-' and '_', in parts with '.' or '/' between them",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_name_takes_its_own_and_nothing_else() {
        let long = |n: usize| "a".repeat(n);
        type Row = (&'static str, fn(&str) -> Found, Vec<String>, Vec<String>);
        let texts =
            |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<String>>();
        let rows: [Row; 11] = [
            (
                "label",
                dns_label,
                [texts(&["a", "0", "a-b"]), vec![long(63)]].concat(),
                [texts(&["", "-a", "a-", "A", "a.b", "a_b", "ä"]), vec![long(64)]].concat(),
            ),
            (
                "subdomain",
                dns_subdomain,
                [texts(&["a", "a.b", "a-b.c"]), vec![long(253)]].concat(),
                [texts(&["", "a..b", ".a", "a.", "a.-b", "A.b", "a/b"]), vec![long(254)]].concat(),
            ),
            (
                "qualified",
                qualified_name,
                texts(&["a", "A_b.c", "x.test/a", "0"]),
                [texts(&["", "/a", "x/", "X/a", "a/b/c", "_a", "a b"]), vec![long(64)]].concat(),
            ),
            (
                "label value",
                label_value,
                [texts(&["", "A", "1.2_3-4"]), vec![long(63)]].concat(),
                [texts(&["-", "a/b", "a b", ".a"]), vec![long(64)]].concat(),
            ),
            (
                "key",
                config_key,
                texts(&["a", ".a", "A_b.c-d", "a.."]),
                texts(&["", ".", "..", "..a", "a/b", "a b"]),
            ),
            (
                "variable",
                env_name,
                texts(&["A", "a.b-c", "1", "a b"]),
                texts(&["", "A=B", "A\n", "ä"]),
            ),
            (
                "port",
                port_name,
                texts(&["http", "a", "8a", "a-b"]),
                texts(&["", "80", "a--b", "-a", "a-", "A", "abcdefghijklmnop"]),
            ),
            (
                "relative path",
                path_below,
                texts(&["", "a", "a/b", "..a", "a..b"]),
                texts(&["/a", "..", "a/../b", "a/.."]),
            ),
            (
                "file of a volume",
                volume_file,
                texts(&["a", "a/b", "a/..b"]),
                texts(&["..a", "..", "/a", "a/.."]),
            ),
            (
                "uid",
                uid,
                texts(&["a", "0-A"]),
                [texts(&["", "a/b", "a.b", ".."]), vec![long(65)]].concat(),
            ),
            (
                "sysctl",
                sysctl,
                texts(&["kernel.shm_rmid_forced", "net/ipv4/conf/eth0.1/x", "a"]),
                texts(&["", "a..b", ".a", "a.", "A", "a b", "../a"]),
            ),
        ];
        for (what, check, right, wrong) in rows {
            right.iter().for_each(|text| assert_eq!(check(text), Ok(()), "{what}: {text:?}"));
            wrong.iter().for_each(|text| assert!(check(text).is_err(), "{what}: {text:?}"));
        }
    }
}
