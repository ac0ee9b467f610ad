//! Which limits a container's process runs under; pure.

use super::config::Security;
use super::error::SpecError;
use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

/// Paths that read as empty, and paths that cannot be written: the request's lists, which replace
/// any default; none for a privileged container.
pub fn plan_hidden_paths(security: &Security) -> (Vec<String>, Vec<String>) {
    if security.privileged {
        return (Vec::new(), Vec::new());
    }
    (security.masked_paths.clone(), security.readonly_paths.clone())
}

/// Every resource limit of the process, so that none is inherited from the daemon: the kernel's own
/// for its first process, but for open files and for the number of processes, which pids.max bounds.
///
/// # Errors
/// [`SpecError::Invalid`] when the soft limit of open files is above the hard one.
pub fn plan_rlimits((soft, hard): (u64, u64)) -> Result<Vec<PosixRlimit>, SpecError> {
    use PosixRlimitType as Type;
    const UNLIMITED: u64 = libc::RLIM_INFINITY;
    if soft > hard {
        let value = format!("{soft}:{hard}");
        return Err(SpecError::invalid("nofile", value, "the soft limit is above the hard one"));
    }
    [
        (Type::RlimitCpu, UNLIMITED, UNLIMITED),
        (Type::RlimitFsize, UNLIMITED, UNLIMITED),
        (Type::RlimitData, UNLIMITED, UNLIMITED),
        (Type::RlimitStack, 8 << 20, UNLIMITED),
        (Type::RlimitCore, 0, UNLIMITED),
        (Type::RlimitRss, UNLIMITED, UNLIMITED),
        (Type::RlimitNproc, UNLIMITED, UNLIMITED),
        (Type::RlimitNofile, soft, hard),
        (Type::RlimitMemlock, 8 << 20, 8 << 20),
        (Type::RlimitAs, UNLIMITED, UNLIMITED),
        (Type::RlimitLocks, UNLIMITED, UNLIMITED),
        (Type::RlimitSigpending, 131_072, 131_072),
        (Type::RlimitMsgqueue, 819_200, 819_200),
        (Type::RlimitNice, 0, 0),
        (Type::RlimitRtprio, 0, 0),
        (Type::RlimitRttime, UNLIMITED, UNLIMITED),
    ]
    .into_iter()
    .map(|(typ, soft, hard)| {
        PosixRlimitBuilder::default()
            .typ(typ)
            .soft(soft)
            .hard(hard)
            .build()
            .map_err(|_| SpecError::invalid("rlimits", typ.to_string(), "cannot be written down"))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::test_values::security;

    #[test]
    fn hidden_paths_are_the_requests_and_none_when_privileged() {
        let mut asked = security();
        asked.masked_paths = vec!["/proc/kcore".into()];
        asked.readonly_paths = vec!["/proc/sys".into()];
        let expected = (vec!["/proc/kcore".to_owned()], vec!["/proc/sys".to_owned()]);
        assert_eq!(plan_hidden_paths(&asked), expected);
        asked.privileged = true;
        assert_eq!(plan_hidden_paths(&asked), (Vec::new(), Vec::new()));
    }

    #[test]
    fn every_limit_of_the_kernel_is_set_once() {
        let limits = plan_rlimits((1024, 4096)).unwrap();
        let names: std::collections::BTreeSet<String> =
            limits.iter().map(|limit| limit.typ().to_string()).collect();
        // The kernel knows sixteen (RLIM_NLIMITS).
        assert_eq!((limits.len(), names.len()), (16, 16));
        let nofile = limits.iter().find(|l| l.typ() == PosixRlimitType::RlimitNofile).unwrap();
        assert_eq!((nofile.soft(), nofile.hard()), (1024, 4096));
        assert!(limits.iter().all(|limit| limit.soft() <= limit.hard()));
        assert!(plan_rlimits((2, 1)).is_err());
    }
}
