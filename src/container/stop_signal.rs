//! Signals by name or number, as images and requests write them.

/// The highest real-time signal, as containers see it (signal(7), glibc and musl on Linux).
const SIGRTMAX: i32 = 64;
/// The lowest real-time signal that the C libraries leave to programs.
const SIGRTMIN: i32 = 34;

/// The number of a signal: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`, `SIGRTMAX-1`; `None` for anything
/// else.
pub fn number(name: &str) -> Option<i32> {
    let name = name.trim().to_ascii_uppercase();
    if let Ok(number) = name.parse::<i32>() {
        return (1..=SIGRTMAX).contains(&number).then_some(number);
    }
    let short = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(rest) = short.strip_prefix("RTMIN") {
        return offset(rest, '+').map(|n| SIGRTMIN + n).filter(|n| *n <= SIGRTMAX);
    }
    if let Some(rest) = short.strip_prefix("RTMAX") {
        return offset(rest, '-').map(|n| SIGRTMAX - n).filter(|n| *n >= SIGRTMIN);
    }
    let alias = match short {
        "CLD" => "CHLD",
        "POLL" => "IO",
        "IOT" => "ABRT",
        other => other,
    };
    format!("SIG{alias}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

fn offset(text: &str, sign: char) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    text.strip_prefix(sign)?.parse().ok().filter(|n| (0..=SIGRTMAX - SIGRTMIN).contains(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_every_name_that_images_use() {
        for (name, expected) in [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("15", Some(15)),
            ("SIGRTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SIGRTMAX", Some(64)),
            ("SIGPOLL", Some(29)),
            ("SIGIOT", Some(6)),
            ("0", None),
            ("65", None),
            ("SIGRTMIN+31", None),
            ("SIGNOPE", None),
            ("", None),
        ] {
            assert_eq!(number(name), expected, "{name}");
        }
    }
}
