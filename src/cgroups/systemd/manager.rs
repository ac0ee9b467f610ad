//! systemd's manager, as far as berth needs it (org.freedesktop.systemd1(5)).

use zbus::zvariant::{OwnedObjectPath, Value};

/// What is known of one unit: name, description, load state, active state, sub state, followed unit, path,
/// queued job (0: none), its type, its path.
pub(super) type UnitStatus =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// Units that are made along with one: berth makes none.
pub(super) type AuxUnit<'a> = (&'a str, &'a [(&'a str, Value<'a>)]);

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1",
    gen_blocking = false
)]
pub(super) trait Manager {
    /// Makes a unit that is nowhere on disk, and starts it.
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Value<'_>)],
        aux: &[AuxUnit<'_>],
    ) -> zbus::Result<OwnedObjectPath>;

    /// Stops a unit.
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

    /// Forgets that a unit failed.
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;

    /// Changes properties of a unit; `runtime`: until the next boot.
    fn set_unit_properties(
        &self,
        name: &str,
        runtime: bool,
        properties: &[(&str, Value<'_>)],
    ) -> zbus::Result<()>;

    /// The object of a unit that is loaded.
    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;

    /// The state of units, also of those that do not exist.
    fn list_units_by_names(&self, names: &[&str]) -> zbus::Result<Vec<UnitStatus>>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Unit",
    default_service = "org.freedesktop.systemd1",
    gen_blocking = false
)]
pub(super) trait Unit {
    /// The file that it is of; empty for one without.
    #[zbus(property)]
    fn fragment_path(&self) -> zbus::Result<String>;

    /// The files that change it.
    #[zbus(property)]
    fn drop_in_paths(&self) -> zbus::Result<Vec<String>>;
}
