//! Which capabilities a container's processes have; pure.
//!
//! The order of the request's lists is the field's: `ALL` among those to add, `ALL` among those to
//! drop, then the single ones to add, then the single ones to drop. So `add ALL, drop NET_RAW` is
//! everything but NET_RAW, and `drop ALL, add CHOWN` is CHOWN alone.

use super::config::Security;
use super::error::SpecError;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, LinuxCapabilitiesBuilder};
use std::str::FromStr;

/// What a container has that asks for nothing: the fourteen that Docker made the custom.
pub const DEFAULT: [Capability; 14] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// Every capability of the oldest supported kernel.
pub const ALL: [Capability; 41] = [
    Capability::AuditControl,
    Capability::AuditRead,
    Capability::AuditWrite,
    Capability::BlockSuspend,
    Capability::Bpf,
    Capability::CheckpointRestore,
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::Kill,
    Capability::Lease,
    Capability::LinuxImmutable,
    Capability::MacAdmin,
    Capability::MacOverride,
    Capability::Mknod,
    Capability::NetAdmin,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetRaw,
    Capability::Perfmon,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysChroot,
    Capability::SysModule,
    Capability::SysNice,
    Capability::SysPacct,
    Capability::SysPtrace,
    Capability::SysRawio,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Syslog,
    Capability::WakeAlarm,
];

/// The five sets of a container's first process. The inheritable set is the ambient one: a fuller
/// one would hand capabilities to files that only carry the inheritable bit (CVE-2022-24769).
///
/// # Errors
/// [`SpecError::Invalid`] for a capability that does not exist, by its name.
pub fn plan_capabilities(security: &Security) -> Result<LinuxCapabilities, SpecError> {
    let add = Asked::parse("add_capabilities", &security.add_capabilities)?;
    let drop = Asked::parse("drop_capabilities", &security.drop_capabilities)?;
    let ambient_asked = Asked::parse("add_ambient_capabilities", &security.ambient_capabilities)?;
    let everything = || Capabilities::from(ALL);
    let mut effective = Capabilities::from(DEFAULT);
    let mut ambient = Capabilities::new();
    if security.privileged || add.all {
        effective = everything();
    }
    if drop.all && !security.privileged {
        effective.clear();
    }
    effective.extend(&add.single);
    if ambient_asked.all {
        ambient = everything();
    }
    ambient.extend(&ambient_asked.single);
    if !security.privileged {
        ambient.retain(|capability| !drop.single.contains(capability));
        effective.retain(|capability| !drop.single.contains(capability));
    }
    effective.extend(&ambient);
    LinuxCapabilitiesBuilder::default()
        .bounding(effective.clone())
        .permitted(effective.clone())
        .effective(effective)
        .inheritable(ambient.clone())
        .ambient(ambient)
        .build()
        .map_err(|_| SpecError::invalid("capabilities", "", "cannot be written down"))
}

/// One of the request's lists.
struct Asked {
    all: bool,
    single: Capabilities,
}

impl Asked {
    fn parse(field: &'static str, names: &[String]) -> Result<Self, SpecError> {
        let mut asked = Self { all: false, single: Capabilities::new() };
        for name in names {
            let upper = name.to_ascii_uppercase();
            let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
            if bare == "ALL" {
                asked.all = true;
                continue;
            }
            let capability = Capability::from_str(bare)
                .map_err(|_| SpecError::invalid(field, name, "is not a capability"))?;
            asked.single.insert(capability);
        }
        Ok(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::test_values::security;

    fn names(list: &str) -> Vec<String> {
        list.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_lists_combine_in_the_fields_order() {
        let none: &[Capability] = &[];
        let without = |all: &[Capability], c: Capability| -> Vec<Capability> {
            all.iter().copied().filter(|x| *x != c).collect()
        };
        let rows: [(&str, &str, &str, Vec<Capability>); 7] = [
            ("nothing asked", "", "", DEFAULT.to_vec()),
            ("drop one", "", "CAP_NET_RAW", without(&DEFAULT, Capability::NetRaw)),
            (
                "names work without the prefix and in lower case",
                "",
                "net_raw",
                without(&DEFAULT, Capability::NetRaw),
            ),
            ("drop all", "", "ALL", none.to_vec()),
            ("drop all, add one", "CAP_CHOWN", "ALL", vec![Capability::Chown]),
            ("add all, drop one", "ALL", "CAP_SYS_ADMIN", without(&ALL, Capability::SysAdmin)),
            (
                "add and drop the same one",
                "CAP_CHOWN",
                "CAP_CHOWN",
                without(&DEFAULT, Capability::Chown),
            ),
        ];
        for (row, add, drop, expected) in rows {
            let asked = Security {
                add_capabilities: names(add),
                drop_capabilities: names(drop),
                ..security()
            };
            let planned = plan_capabilities(&asked).unwrap();
            let expected: Capabilities = expected.into_iter().collect();
            for (set, got) in [
                ("bounding", planned.bounding()),
                ("permitted", planned.permitted()),
                ("effective", planned.effective()),
            ] {
                assert_eq!(got.as_ref(), Some(&expected), "{row}: {set}");
            }
            assert_eq!(planned.ambient(), &Some(Capabilities::new()), "{row}");
            assert_eq!(planned.inheritable(), &Some(Capabilities::new()), "{row}");
        }
    }

    #[test]
    fn a_privileged_container_has_everything_whatever_is_dropped() {
        let asked =
            Security { privileged: true, drop_capabilities: names("ALL CAP_CHOWN"), ..security() };
        let planned = plan_capabilities(&asked).unwrap();
        assert_eq!(planned.effective(), &Some(Capabilities::from(ALL)));
    }

    #[test]
    fn an_ambient_capability_is_in_all_five_sets() {
        let asked = Security {
            ambient_capabilities: names("CAP_NET_ADMIN"),
            drop_capabilities: names("ALL"),
            ..security()
        };
        let planned = plan_capabilities(&asked).unwrap();
        let one = Some(Capabilities::from([Capability::NetAdmin]));
        for set in [
            planned.bounding(),
            planned.permitted(),
            planned.effective(),
            planned.inheritable(),
            planned.ambient(),
        ] {
            assert_eq!(set, &one);
        }
    }

    #[test]
    fn an_unknown_capability_is_refused_by_name() {
        let asked = Security { add_capabilities: names("CAP_FLY"), ..security() };
        let error = plan_capabilities(&asked).unwrap_err();
        assert_eq!(error.to_string(), "add_capabilities \"CAP_FLY\": is not a capability");
    }

    #[test]
    fn all_is_every_capability_once() {
        assert_eq!(Capabilities::from(ALL).len(), ALL.len());
    }
}
