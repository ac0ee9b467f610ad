//! The architectures whose system calls a process of this machine can make.

use oci_spec::runtime::Arch as Named;

use super::condition::Width;
use super::error::SeccompError;

/// An architecture, as the kernel tells it in `seccomp_data.arch` (x32: and by bit 30 of the number).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    X86,
    /// 64-bit x86 with 32-bit pointers: numbers with bit 30 set.
    X32,
    /// 64-bit Arm.
    Aarch64,
    /// 32-bit Arm (EABI).
    Arm,
}

/// The bit that marks a number as one of x32.
pub(super) const X32_BIT: u32 = 0x4000_0000;

impl Arch {
    /// `AUDIT_ARCH_*`.
    pub(super) fn audit(self) -> u32 {
        const LITTLE: u32 = 0x4000_0000;
        const WIDE: u32 = 0x8000_0000;
        match self {
            Self::X86_64 | Self::X32 => 62 | LITTLE | WIDE,
            Self::X86 => 3 | LITTLE,
            Self::Aarch64 => 183 | LITTLE | WIDE,
            Self::Arm => 40 | LITTLE,
        }
    }

    /// Whether larger numbers are newer calls. x32 and Arm have ranges of their own above the rest.
    pub(super) fn in_order_of_age(self, number: u32) -> bool {
        match self {
            Self::X32 => number & !X32_BIT < 512,
            Self::Arm => number < 0x000f_0000,
            Self::X86_64 | Self::X86 | Self::Aarch64 => true,
        }
    }

    /// How much of an argument there is. The registers of x32 have 64 bits.
    pub(super) fn width(self) -> Width {
        match self {
            Self::X86 | Self::Arm => Width::LowerHalf,
            Self::X86_64 | Self::X32 | Self::Aarch64 => Width::Whole,
        }
    }
}

/// This machine's own and, in order, what else its kernel can run.
///
/// # Errors
/// [`SeccompError::Unsupported`] on a machine of another kind.
pub(super) fn family() -> Result<&'static [Arch], SeccompError> {
    match std::env::consts::ARCH {
        "x86_64" => Ok(&[Arch::X86_64, Arch::X86, Arch::X32]),
        "aarch64" => Ok(&[Arch::Aarch64, Arch::Arm]),
        other => Err(SeccompError::Unsupported(format!("on {other}"))),
    }
}

/// This machine, as Go and the profile files that came from there call it.
pub(super) fn go_name() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The profile's name of the machine's own architecture, and of those beside it.
pub(super) fn names() -> &'static [Named] {
    match std::env::consts::ARCH {
        "x86_64" => &[Named::ScmpArchX86_64, Named::ScmpArchX86, Named::ScmpArchX32],
        "aarch64" => &[Named::ScmpArchAarch64, Named::ScmpArchArm],
        _ => &[],
    }
}

/// Which of the machine's architectures a profile is for. The machine's own always is, as with
/// other executors; those of other machines never occur and are left out.
///
/// # Errors
/// As [`family`].
pub(super) fn chosen(listed: &[Named]) -> Result<Vec<Arch>, SeccompError> {
    let family = family()?;
    let named = |arch: Arch| match arch {
        Arch::X86_64 => Named::ScmpArchX86_64,
        Arch::X86 => Named::ScmpArchX86,
        Arch::X32 => Named::ScmpArchX32,
        Arch::Aarch64 => Named::ScmpArchAarch64,
        Arch::Arm => Named::ScmpArchArm,
    };
    let wanted =
        |(n, arch): (usize, &Arch)| (n == 0 || listed.contains(&named(*arch))).then_some(*arch);
    Ok(family.iter().enumerate().filter_map(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_architecture_is_always_filtered() {
        let own = family().unwrap()[0];
        assert_eq!(chosen(&[]).unwrap(), [own]);
        assert_eq!(chosen(&[Named::ScmpArchS390x]).unwrap(), [own]);
        assert_eq!(chosen(names()).unwrap(), family().unwrap());
    }

    // include/uapi/linux/audit.h
    #[test]
    fn architectures_have_the_kernels_values() {
        assert_eq!(Arch::X86_64.audit(), 0xc000_003e);
        assert_eq!(Arch::X86.audit(), 0x4000_0003);
        assert_eq!(Arch::Aarch64.audit(), 0xc000_00b7);
        assert_eq!(Arch::Arm.audit(), 0x4000_0028);
    }
}
