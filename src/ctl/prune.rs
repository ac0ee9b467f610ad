//! `berth image prune`.

use super::commands::PruneArgs;
use super::connect::Daemon;
use super::console::{Console, Row};
use super::error::CtlError;
use super::format::{bytes, short_id};
use crate::cri::own::proto as own;
use serde::Serialize;
use std::time::Duration;

/// An image that was removed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PrunedRow {
    id: String,
    names: Vec<String>,
    freed_bytes: u64,
}

impl Row for PrunedRow {
    const HEADINGS: &'static [&'static str] = &["IMAGE", "IMAGE ID", "FREED"];

    fn cells(&self) -> Vec<String> {
        let name = self.names.first().map_or("-", String::as_str).to_owned();
        vec![name, short_id(&self.id).to_owned(), bytes(self.freed_bytes)]
    }
}

/// Removes images that nobody uses.
pub(super) async fn prune(
    args: &PruneArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    let request = own::PruneImagesRequest {
        all: args.all,
        older_than_seconds: args.older_than.unwrap_or_default().as_secs(),
        to_percent: args.to,
        pretend: args.dry_run,
    };
    let answer = daemon.own.clone().prune_images(request).await;
    let done = answer.map_err(CtlError::rpc("prune", "images"))?.into_inner();
    let rows: Vec<PrunedRow> = done
        .images
        .into_iter()
        .map(|image| PrunedRow { id: image.id, names: image.names, freed_bytes: image.freed_bytes })
        .collect();
    console.rows(args.output.output, &rows)?;
    if done.missing_bytes > 0 {
        let missing = bytes(done.missing_bytes);
        console.note(&format!("{missing} more would have to go; nothing is left to remove"));
    }
    match done.failed.is_empty() {
        true => Ok(()),
        false => Err(CtlError::Several(done.failed.join("; "))),
    }
}

/// `90s`, `15m`, `24h`, `7d`.
pub(super) fn parse_age(text: &str) -> Result<Duration, String> {
    let refuse = || format!("{text:?} is no age: give a number and s, m, h or d");
    let unit = text.chars().last().ok_or_else(refuse)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(refuse()),
    };
    let count = text.strip_suffix(unit).ok_or_else(refuse)?;
    let count: u64 = count.parse().map_err(|_| refuse())?;
    count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_number_and_a_unit() {
        for (text, seconds) in [
            ("90s", Some(90)),
            ("15m", Some(900)),
            ("24h", Some(86_400)),
            ("7d", Some(604_800)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("h", None),
            ("-1h", None),
            ("1w", None),
            ("99999999999999999999d", None),
            ("18446744073709551615d", None),
        ] {
            assert_eq!(parse_age(text).ok().map(|age| age.as_secs()), seconds, "{text}");
        }
    }
}
