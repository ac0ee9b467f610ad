//! `berth get manifests`.

use crate::ctl::commands::OutputArgs;
use crate::ctl::connect::Daemon;
use crate::ctl::console::{Console, Format, Row};
use crate::ctl::error::CtlError;
use crate::kubelet::control::proto;
use serde::Serialize;

/// A manifest in the list.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestRow {
    source: String,
    origin: String,
    pods: Vec<String>,
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl Row for ManifestRow {
    const HEADINGS: &'static [&'static str] = &["SOURCE", "ORIGIN", "PODS", "STATE"];

    fn cells(&self) -> Vec<String> {
        let pods = if self.pods.is_empty() { "-".to_owned() } else { self.pods.join(",") };
        let state = match (self.problems.len(), self.warnings.len()) {
            (0, 0) => "taken".to_owned(),
            (0, 1) => "1 warning".to_owned(),
            (0, count) => format!("{count} warnings"),
            (1, _) => "1 problem".to_owned(),
            (count, _) => format!("{count} problems"),
        };
        vec![self.source.clone(), self.origin.clone(), pods, state]
    }
}

/// Lists manifests; for people each problem and warning follows, a line each.
pub(super) async fn list(
    args: &OutputArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    let answer = daemon.pods.clone().list_manifests(proto::ListManifestsRequest {}).await;
    let answer = answer.map_err(CtlError::rpc("list", "manifests"))?.into_inner();
    let rows: Vec<ManifestRow> = answer.manifests.into_iter().map(row).collect();
    print(args.output, &rows, console)
}

fn row(of: proto::Manifest) -> ManifestRow {
    let proto::Manifest { source, origin, problems, warnings, pods, .. } = of;
    ManifestRow { source, origin, pods, problems, warnings }
}

fn print(format: Format, rows: &[ManifestRow], console: &mut Console) -> Result<(), CtlError> {
    if format == Format::Table && rows.is_empty() {
        console.note("there are no manifests");
        return Ok(());
    }
    console.rows(format, rows)?;
    if format != Format::Table {
        return Ok(());
    }
    for row in rows {
        for problem in &row.problems {
            console.line(&format!("problem  {}: {problem}", row.origin))?;
        }
        for warning in &row.warnings {
            console.line(&format!("warning  {}: {warning}", row.origin))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::console::tests::captured;

    #[test]
    fn what_is_wrong_in_a_manifest_follows_the_list() {
        let sound = row(proto::Manifest {
            source: "file".into(),
            origin: "/m/a.yaml".into(),
            pods: vec!["default/a-n1".into()],
            ..proto::Manifest::default()
        });
        let broken = row(proto::Manifest {
            source: "file".into(),
            origin: "/m/b.yaml".into(),
            problems: vec!["no kind".into()],
            warnings: vec!["unknown field spec.x".into()],
            ..proto::Manifest::default()
        });
        let (mut console, out, _) = captured();
        print(Format::Table, &[sound, broken], &mut console).unwrap();
        assert_eq!(
            out.text(),
            "SOURCE  ORIGIN     PODS          STATE\n\
             file    /m/a.yaml  default/a-n1  taken\n\
             file    /m/b.yaml  -             1 problem\n\
             problem  /m/b.yaml: no kind\n\
             warning  /m/b.yaml: unknown field spec.x\n"
        );
    }
}
