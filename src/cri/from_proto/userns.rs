//! User namespaces of pods, and the id maps of mounts.
//!
//! A pod's is one range of users and one of groups, from the id 0 on (KEP-127). Which host ids is up
//! to the kubelet, as long as they are not those of the host's root.

use super::RequestError;
use crate::cri::proto;
use crate::cri::proto::NamespaceMode as Mode;
use crate::idmap::{self, IdMaps, IdRange};

/// The maps of a pod's user namespace; `None`: the node's.
pub(super) fn userns(
    field: &str,
    asked: Option<&proto::UserNamespace>,
) -> Result<Option<IdMaps>, RequestError> {
    let Some(asked) = asked else { return Ok(None) };
    let (uids, gids) = (format!("{field}.uids"), format!("{field}.gids"));
    match Mode::try_from(asked.mode) {
        Ok(Mode::Pod) => Ok(Some(IdMaps {
            uids: pod_range(&uids, &asked.uids)?,
            gids: pod_range(&gids, &asked.gids)?,
        })),
        Ok(Mode::Node) => {
            for (field, list) in [(uids, &asked.uids), (gids, &asked.gids)] {
                if !list.is_empty() {
                    return Err(RequestError::invalid(field, "mappings with the mode NODE"));
                }
            }
            Ok(None)
        }
        Ok(other) => {
            let reason = format!("{} is neither POD nor NODE", other.as_str_name());
            Err(RequestError::invalid(format!("{field}.mode"), reason))
        }
        Err(_) => Err(RequestError::unknown(format!("{field}.mode"), asked.mode)),
    }
}

fn pod_range(field: &str, list: &[proto::IdMapping]) -> Result<Vec<IdRange>, RequestError> {
    let [mapping] = list else {
        let reason = format!("needs exactly one mapping, not {}", list.len());
        return Err(RequestError::invalid(field, reason));
    };
    let at = |name: &str| format!("{field}[0].{name}");
    if mapping.length == 0 {
        return Err(RequestError::invalid(at("length"), "is 0"));
    }
    if mapping.container_id != 0 {
        let reason = format!("begins at {}: the id 0 is not mapped", mapping.container_id);
        return Err(RequestError::invalid(at("container_id"), reason));
    }
    if mapping.host_id == 0 {
        let reason = "0 would make the pod's root the node's";
        return Err(RequestError::invalid(at("host_id"), reason));
    }
    ranges(field, list)
}

/// The maps of a mount: both or none, of any ranges.
pub(super) fn mount_maps(
    (uid_field, uids): (String, &[proto::IdMapping]),
    (gid_field, gids): (String, &[proto::IdMapping]),
) -> Result<Option<IdMaps>, RequestError> {
    match (uids.is_empty(), gids.is_empty()) {
        (true, true) => Ok(None),
        (false, true) => Err(RequestError::invalid(gid_field, "missing beside uidMappings")),
        (true, false) => Err(RequestError::invalid(uid_field, "missing beside gidMappings")),
        (false, false) => {
            Ok(Some(IdMaps { uids: ranges(&uid_field, uids)?, gids: ranges(&gid_field, gids)? }))
        }
    }
}

fn ranges(field: &str, list: &[proto::IdMapping]) -> Result<Vec<IdRange>, RequestError> {
    let range = |m: &proto::IdMapping| IdRange {
        container: m.container_id,
        host: m.host_id,
        length: m.length,
    };
    let ranges: Vec<IdRange> = list.iter().map(range).collect();
    idmap::check(&ranges).map_err(|bad| RequestError::invalid(field, bad.to_string()))?;
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container_id: u32, host_id: u32, length: u32) -> proto::IdMapping {
        proto::IdMapping { host_id, container_id, length }
    }

    fn asked(
        mode: Mode,
        uids: &[proto::IdMapping],
        gids: &[proto::IdMapping],
    ) -> Result<Option<IdMaps>, RequestError> {
        let asked =
            proto::UserNamespace { mode: mode.into(), uids: uids.to_vec(), gids: gids.to_vec() };
        userns("u", Some(&asked))
    }

    #[test]
    fn one_range_each_from_zero_on_is_a_pods() {
        let maps = asked(Mode::Pod, &[map(0, 65_536, 65_536)], &[map(0, 9, 1)]).unwrap().unwrap();
        assert_eq!(maps.host_root(), Some((65_536, 9)));
        assert_eq!(userns("u", None).unwrap(), None);
        assert_eq!(asked(Mode::Node, &[], &[]).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_field() {
        let (good, none) = ([map(0, 65_536, 65_536)], []);
        let bad = |mapping| [mapping];
        let two = [map(0, 65_536, 10), map(10, 131_072, 10)];
        let pod = |uids: &[_], gids: &[_]| asked(Mode::Pod, uids, gids);
        let rows = [
            ("u.mode", asked(Mode::Container, &good, &good)),
            ("u.mode", asked(Mode::Target, &good, &good)),
            ("u.uids", asked(Mode::Node, &good, &none)),
            ("u.gids", asked(Mode::Node, &none, &good)),
            ("u.uids", pod(&none, &good)),
            ("u.gids", pod(&good, &none)),
            ("u.uids", pod(&two, &good)),
            ("u.gids", pod(&good, &two)),
            ("u.uids[0].length", pod(&bad(map(0, 65_536, 0)), &good)),
            ("u.gids[0].length", pod(&good, &bad(map(0, 65_536, 0)))),
            ("u.uids[0].container_id", pod(&bad(map(1, 65_536, 10)), &good)),
            ("u.gids[0].host_id", pod(&good, &bad(map(0, 0, 10)))),
            ("u.uids", pod(&bad(map(0, u32::MAX, 1)), &good)),
            ("u.gids", pod(&good, &bad(map(0, 65_536, u32::MAX)))),
        ];
        for (field, result) in rows {
            let text = result.expect_err(field).to_string();
            assert!(text.starts_with(&format!("{field}:")), "{field}: {text}");
        }
        let odd = proto::UserNamespace { mode: 77, ..Default::default() };
        assert!(userns("u", Some(&odd)).unwrap_err().to_string().starts_with("u.mode:"));
    }

    #[test]
    fn a_mount_has_both_maps_or_none() {
        let mount = |uids: &[_], gids: &[_]| {
            mount_maps(("uids".to_owned(), uids), ("gids".to_owned(), gids))
        };
        let (good, none) = ([map(0, 0, 10), map(10, 100, 1)], []);
        assert_eq!(mount(&none, &none).unwrap(), None);
        assert_eq!(mount(&good, &good).unwrap().unwrap().host_uid(10), Some(100));
        for (field, uids, gids) in [
            ("gids", &good[..], &none[..]),
            ("uids", &none[..], &good[..]),
            ("uids", &[map(0, 5, 0)][..], &good[..]),
            ("gids", &good[..], &[map(0, 5, 2), map(1, 9, 1)][..]),
        ] {
            let text = mount(uids, gids).unwrap_err().to_string();
            assert!(text.starts_with(&format!("{field}:")), "{field}: {text}");
        }
    }
}
