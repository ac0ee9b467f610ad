//! SELinux as the kernel has it, and what berth gives of it to pods and containers.
//!
//! A pod of the host's pid or ipc namespace gets a label like every other, as with containerd: a
//! label does not depend on namespaces, and where these do not separate a pod from the node, the policy is
//! what still does.

use super::label::{Label, Labels, Options, pair_of};
use super::{Categories, SelinuxError};
use crate::config;
use crate::ids::SandboxId;
use crate::oci;
use crate::sys::{fs, random};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

/// Answers whether the policy knows a label: EINVAL when not.
const CONTEXT: &str = "/sys/fs/selinux/context";
/// The field of both requests.
const FIELD: &str = "config.linux.security_context.selinux_options";
/// The level of what no pod owns.
const NO_CATEGORIES: &str = "s0";

/// What labels are made of.
#[derive(Debug)]
pub struct Selinux {
    config: config::Selinux,
    categories: Categories,
    context: PathBuf,
}

impl Selinux {
    /// Looks whether the kernel can do what is configured. Where it is off nothing is looked at.
    ///
    /// # Errors
    /// [`SelinuxError::NoKernel`]; a configured type that the policy does not know.
    pub fn open(config: &config::Selinux) -> Result<Self, SelinuxError> {
        if config.enabled && !oci::selinux_in_force() {
            return Err(SelinuxError::NoKernel);
        }
        let made = Self::at(config, CONTEXT.into());
        if config.enabled {
            let level = NO_CATEGORIES;
            for label in [
                made.process(&config.process_type, level),
                made.process(&config.privileged_type, level),
                made.process("", level).file(&config.file_type),
            ] {
                made.known("[selinux]", &label)?;
            }
        }
        Ok(made)
    }

    fn at(config: &config::Selinux, context: PathBuf) -> Self {
        Self { config: config.clone(), categories: Categories::new(config.category_range), context }
    }

    /// Whether pods get labels.
    pub fn is_on(&self) -> bool {
        self.config.enabled
    }

    fn process(&self, typ: &str, level: &str) -> Label {
        let [user, role, typ, level] = ["system_u", "system_r", typ, level].map(str::to_owned);
        Label { user, role, typ, level }
    }

    /// What can be refused of a pod before anything is made.
    ///
    /// # Errors
    /// [`SelinuxError::Off`], [`SelinuxError::Unknown`].
    pub fn admit(&self, asked: Option<&Options>) -> Result<(), SelinuxError> {
        let Some(asked) = asked else { return Ok(()) };
        if !self.is_on() {
            return Err(SelinuxError::Off { field: FIELD });
        }
        let pod = self.process(&self.config.process_type, NO_CATEGORIES).with(asked);
        self.known(FIELD, &pod)?;
        self.known(FIELD, &pod.file(&self.config.file_type))
    }

    /// The labels of a new pod, with a pair of categories that is its own until it is released.
    /// `None` where labels are off.
    ///
    /// # Errors
    /// As [`Selinux::admit`]; [`SelinuxError::Exhausted`].
    pub fn of_pod(
        &self,
        id: &SandboxId,
        asked: Option<&Options>,
    ) -> Result<Option<Labels>, SelinuxError> {
        self.admit(asked)?;
        if !self.is_on() {
            return Ok(None);
        }
        let asked = asked.cloned().unwrap_or_default();
        let level = if asked.level.is_empty() {
            let start = random::bytes::<4>().map_err(|source| SelinuxError::File {
                operation: "read",
                path: "the kernel's random numbers".into(),
                source,
            })?;
            let (one, other) = self.categories.take(id, u32::from_ne_bytes(start))?;
            format!("{NO_CATEGORIES}:c{one},c{other}")
        } else {
            asked.level.clone()
        };
        let process = self.process(&self.config.process_type, &level).with(&asked);
        let labels = Labels { mount: process.file(&self.config.file_type), process };
        self.adopt(id, &labels);
        Ok(Some(labels))
    }

    /// The pair of a pod's label is taken: also after a restart, and where its request named it.
    pub fn adopt(&self, id: &SandboxId, labels: &Labels) {
        if let Some(pair) = pair_of(&labels.mount.level) {
            self.categories.hold(id, pair);
        }
    }

    /// The pod is no more.
    pub fn release(&self, id: &SandboxId) {
        self.categories.release(id);
    }

    /// The labels of a container: each part as its request names it, else its pod's. A privileged
    /// one is of the privileged type and without categories, unless its request says otherwise; its
    /// files are the pod's all the same. `None` in a pod without a label.
    ///
    /// # Errors
    /// A label that was asked for and cannot be had.
    pub fn of_container(
        &self,
        pod: Option<&Labels>,
        asked: Option<&Options>,
        privileged: bool,
    ) -> Result<Option<Labels>, SelinuxError> {
        let Some(pod) = pod else {
            return match asked {
                None => Ok(None),
                Some(_) if self.is_on() => Err(SelinuxError::Unlabelled { field: FIELD }),
                Some(_) => Err(SelinuxError::Off { field: FIELD }),
            };
        };
        let options = asked.cloned().unwrap_or_default();
        let base = match privileged {
            true => self.process(&self.config.privileged_type, NO_CATEGORIES),
            false => pod.process.clone(),
        };
        let process = base.with(&options);
        let mount = pod.process.with(&options).file(&pod.mount.typ);
        if asked.is_some() {
            self.known(FIELD, &process)?;
            self.known(FIELD, &mount)?;
        }
        Ok(Some(Labels { process, mount }))
    }

    /// Gives the program that every pod shares a label under which it can be the entry to each of
    /// their process labels.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn label_program(&self, program: BorrowedFd<'_>) -> Result<(), SelinuxError> {
        if !self.is_on() {
            return Ok(());
        }
        let label = self.process("", NO_CATEGORIES).file(&self.config.file_type);
        fs::set_label(program, &label.to_string()).map_err(|source| SelinuxError::File {
            operation: "label",
            path: "berth-pause".into(),
            source,
        })
    }

    fn known(&self, field: &'static str, label: &Label) -> Result<(), SelinuxError> {
        let text = label.to_string();
        match std::fs::OpenOptions::new()
            .write(true)
            .open(&self.context)
            .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
        {
            Ok(()) => Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                Err(SelinuxError::Unknown { field, label: text })
            }
            Err(source) => {
                let path = self.context.clone();
                Err(SelinuxError::File { operation: "ask the policy by", path, source })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn id(letter: char) -> SandboxId {
        SandboxId::parse(&letter.to_string().repeat(64)).unwrap()
    }

    /// A node whose policy knows every label.
    fn node(enabled: bool) -> (tempfile::NamedTempFile, Selinux) {
        let context = tempfile::NamedTempFile::new().unwrap();
        let config = config::Selinux { enabled, category_range: 3, ..Default::default() };
        let node = Selinux::at(&config, context.path().to_owned());
        (context, node)
    }

    fn options(typ: &str, level: &str) -> Options {
        Options::parse("", "", typ, level).unwrap()
    }

    fn texts(labels: &Labels) -> (String, String) {
        (labels.process.to_string(), labels.mount.to_string())
    }

    #[test]
    fn where_labels_are_off_a_request_for_one_is_refused_by_its_field_and_nothing_else_is() {
        let (_file, node) = node(false);
        assert_eq!(node.of_pod(&id('a'), None).unwrap(), None);
        assert_eq!(node.of_container(None, None, true).unwrap(), None);
        let asked = options("", "s0:c1,c2");
        let of_pod = node.of_pod(&id('a'), Some(&asked)).unwrap_err();
        let of_container = node.of_container(None, Some(&asked), false).unwrap_err();
        for error in [of_pod, of_container] {
            assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
            let text = error.to_string();
            assert!(text.starts_with(&format!("{FIELD}: ")) && text.contains("off"), "{text}");
        }
    }

    #[test]
    fn pods_have_pairs_of_their_own_until_they_are_released() {
        let (_file, node) = node(true);
        let levels: std::collections::BTreeSet<String> = ['a', 'b', 'c']
            .map(|letter| node.of_pod(&id(letter), None).unwrap().unwrap().process.level)
            .into();
        assert_eq!(Vec::from_iter(levels), ["s0:c0,c1", "s0:c0,c2", "s0:c1,c2"]);
        let error = node.of_pod(&id('d'), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        node.release(&id('b'));
        assert!(node.of_pod(&id('d'), None).is_ok());
    }

    #[test]
    fn a_pair_that_is_recorded_or_named_is_not_given_to_another_pod() {
        let (_file, one) = node(true);
        let named = one.of_pod(&id('a'), Some(&options("", "s0:c2,c0"))).unwrap().unwrap();
        assert_eq!(named.process.level, "s0:c2,c0");
        let (_file, after) = node(true);
        after.adopt(&id('a'), &named);
        for letter in ['b', 'c'] {
            let level = after.of_pod(&id(letter), None).unwrap().unwrap().process.level;
            assert_ne!(level, "s0:c0,c2");
        }
        assert!(after.of_pod(&id('d'), None).is_err());
    }

    #[test]
    fn a_containers_parts_win_and_the_others_are_its_pods() {
        let (_file, node) = node(true);
        let pod = node.of_pod(&id('a'), Some(&options("", "s0:c1,c2"))).unwrap().unwrap();
        let file = "system_u:object_r:container_file_t";
        let process = "system_u:system_r";
        let rows = [
            (None, false, "container_t:s0:c1,c2", "s0:c1,c2"),
            (Some(options("own_t", "")), false, "own_t:s0:c1,c2", "s0:c1,c2"),
            (Some(options("", "s0:c5")), false, "container_t:s0:c5", "s0:c5"),
            (None, true, "spc_t:s0", "s0:c1,c2"),
            (Some(options("own_t", "")), true, "own_t:s0", "s0:c1,c2"),
            (Some(options("", "s0:c5")), true, "spc_t:s0:c5", "s0:c5"),
        ];
        for (asked, privileged, own, level) in rows {
            let made = node.of_container(Some(&pod), asked.as_ref(), privileged).unwrap().unwrap();
            assert_eq!(texts(&made), (format!("{process}:{own}"), format!("{file}:{level}")));
        }
        let error = node.of_container(None, Some(&options("own_t", "")), false).unwrap_err();
        assert!(error.to_string().contains("made without"), "{error}");
    }

    #[test]
    fn a_kernel_without_selinux_is_told_at_the_start() {
        if oci::selinux_in_force() {
            return;
        }
        let config = config::Selinux { enabled: true, ..Default::default() };
        let error = Selinux::open(&config).unwrap_err();
        assert!(error.to_string().starts_with("selinux.enabled = true: "), "{error}");
        assert!(Selinux::open(&config::Selinux::default()).is_ok());
    }
}
