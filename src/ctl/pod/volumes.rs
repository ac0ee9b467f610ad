//! `spec.volumes[]`.

use super::model::{HostPathKind, Volume, VolumeSource};
use super::parse::dns_name;
use super::yaml::{Node, PodError};
use std::path::{Component, Path, PathBuf};

/// Reads one volume.
pub(super) fn parse_volume(node: &Node<'_>) -> Result<Volume, PodError> {
    let fields = node.fields(&["name", "emptyDir", "hostPath"])?;
    let name = dns_name(&fields.required("name")?, 63)?;
    let sources =
        fields.names().filter(|name| *name != "name" && fields.get(name).is_some()).count();
    let source = match (fields.get("emptyDir"), fields.get("hostPath")) {
        _ if sources > 1 => return Err(node.error("has more than one source")),
        (Some(empty_dir), _) => parse_empty_dir(&empty_dir)?,
        (_, Some(host_path)) => parse_host_path(&host_path)?,
        _ => return Err(node.error("needs a source: emptyDir or hostPath")),
    };
    Ok(Volume { name, source })
}

fn parse_empty_dir(node: &Node<'_>) -> Result<VolumeSource, PodError> {
    let fields = node.fields(&["medium"])?;
    if let Some(medium) = fields.get("medium")
        && !medium.text()?.is_empty()
    {
        return Err(medium.error(format!("{} is not supported yet", medium.text()?)));
    }
    Ok(VolumeSource::EmptyDir)
}

fn parse_host_path(node: &Node<'_>) -> Result<VolumeSource, PodError> {
    let fields = node.fields(&["path", "type"])?;
    let path = fields.required("path")?;
    let text = path.text()?;
    let climbs = Path::new(text).components().any(|part| part == Component::ParentDir);
    if !text.starts_with('/') || climbs || text.contains('\0') {
        return Err(path.error("must be an absolute path without '..'"));
    }
    let kind = match fields.get("type") {
        Some(node) => node.choice(&[
            ("", HostPathKind::Any),
            ("DirectoryOrCreate", HostPathKind::DirectoryOrCreate),
            ("Directory", HostPathKind::Directory),
            ("FileOrCreate", HostPathKind::FileOrCreate),
            ("File", HostPathKind::File),
            ("Socket", HostPathKind::Socket),
            ("CharDevice", HostPathKind::CharDevice),
            ("BlockDevice", HostPathKind::BlockDevice),
        ])?,
        None => HostPathKind::Any,
    };
    Ok(VolumeSource::HostPath { path: PathBuf::from(text), kind })
}
