//! Requests to systemd over the system bus, from blocking threads, each with a deadline.
//!
//! The end of a job is seen by asking for the unit, and not by the JobRemoved signal: a subscriber is woken
//! for every job and every unit of the node, and a lost signal would be a wait without an end.

use super::Property;
use super::error::{SystemdError, told};
use super::manager::{ManagerProxy, UnitProxy};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Mutex;

/// Where the bus is (the D-Bus specification's well-known address).
const ADDRESS: &str = "unix:path=/run/dbus/system_bus_socket";
/// How long a request may take with all that it starts.
const WITHIN: Duration = Duration::from_secs(60);
/// How often a unit is asked for while a job of it runs: at first, and at most.
const ASK_AFTER: Duration = Duration::from_millis(1);
const ASK_AT_MOST_EVERY: Duration = Duration::from_millis(100);

/// The way to systemd. Cheap to clone; connects on first use, and again after the bus went away.
#[derive(Clone)]
pub(in crate::cgroups) struct Systemd {
    runtime: Handle,
    manager: Arc<Mutex<Option<ManagerProxy<'static>>>>,
}

impl fmt::Debug for Systemd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Systemd")
    }
}

impl Systemd {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// [`SystemdError::NoRuntime`] outside of an asynchronous runtime.
    pub(in crate::cgroups) fn new() -> Result<Self, SystemdError> {
        let runtime = Handle::try_current().map_err(|_| SystemdError::NoRuntime)?;
        Ok(Self { runtime, manager: Arc::default() })
    }

    /// Runs `work` where nobody waits for it.
    pub(super) fn in_background(&self, work: impl FnOnce() + Send + 'static) {
        // It is bounded by the deadlines of its requests; at the end of the daemon it may not run, and the
        // next start does it.
        drop(self.runtime.spawn_blocking(work));
    }

    /// Makes and starts a transient unit, and waits until it is active. Blocks.
    pub(in crate::cgroups) fn start(
        &self,
        unit: &str,
        properties: Vec<Property>,
    ) -> Result<(), SystemdError> {
        const START: &str = "start";
        self.ask(START, unit, |manager, unit| async move {
            let call = manager.start_transient_unit(&unit, "fail", &properties, &[]);
            call.await.map_err(failed(START, &unit))?;
            match settled(START, &manager, &unit).await? {
                (active, _) if active == "active" => Ok(()),
                (active, sub) => {
                    let state = format!("{active} ({sub})");
                    Err(SystemdError::State { operation: START, unit, state })
                }
            }
        })
    }

    /// Makes a slice, or changes one that is there. Blocks.
    pub(in crate::cgroups) fn make_slice(
        &self,
        unit: &str,
        properties: Vec<Property>,
    ) -> Result<(), SystemdError> {
        if !self.is_active(unit)? {
            let description = ("Description", "pods of berth".into());
            let all = std::iter::once(description).chain(properties.iter().cloned()).collect();
            match self.start(unit, all) {
                // Made meanwhile, or by a file.
                Err(error) if error.is("UnitExists") => {}
                result => return result,
            }
        }
        if properties.is_empty() { Ok(()) } else { self.set(unit, properties) }
    }

    /// Stops a unit, waits until it is, and has systemd forget a failure of it. One that does not exist is
    /// fine. Blocks.
    pub(in crate::cgroups) fn stop(&self, unit: &str) -> Result<(), SystemdError> {
        const STOP: &str = "stop";
        self.ask(STOP, unit, |manager, unit| async move {
            match manager.stop_unit(&unit, "replace").await.map_err(failed(STOP, &unit)) {
                Err(error) if error.is("NoSuchUnit") => return Ok(()),
                Err(error) => return Err(error),
                Ok(_) => {}
            }
            match settled(STOP, &manager, &unit).await? {
                (active, _) if active == "inactive" => Ok(()),
                (active, _) if active == "failed" => {
                    match manager.reset_failed_unit(&unit).await.map_err(failed(STOP, &unit)) {
                        Err(error) if !error.is("NoSuchUnit") => Err(error),
                        _ => Ok(()),
                    }
                }
                (active, sub) => {
                    let state = format!("{active} ({sub})");
                    Err(SystemdError::State { operation: STOP, unit, state })
                }
            }
        })
    }

    /// Changes properties of a unit until it ends. Blocks.
    pub(in crate::cgroups) fn set(
        &self,
        unit: &str,
        properties: Vec<Property>,
    ) -> Result<(), SystemdError> {
        const SET: &str = "set properties of";
        self.ask(SET, unit, |manager, unit| async move {
            manager.set_unit_properties(&unit, true, &properties).await.map_err(failed(SET, &unit))
        })
    }

    /// Whether a unit is active. Blocks.
    pub(in crate::cgroups) fn is_active(&self, unit: &str) -> Result<bool, SystemdError> {
        const ASK: &str = "ask for";
        self.ask(ASK, unit, |manager, unit| async move {
            Ok(settled(ASK, &manager, &unit).await?.0 == "active")
        })
    }

    /// Whether a unit is there because one below it is: it has no file, and nobody has asked for it. Blocks.
    pub(in crate::cgroups) fn is_implicit(&self, unit: &str) -> Result<bool, SystemdError> {
        const ASK: &str = "ask for the file of";
        self.ask(ASK, unit, |manager, unit| async move {
            let path = match manager.get_unit(&unit).await.map_err(failed(ASK, &unit)) {
                Err(error) if error.is("NoSuchUnit") => return Ok(false),
                path => path?,
            };
            let bus = manager.inner().connection();
            let asked = async {
                let of = UnitProxy::builder(bus).path(path)?;
                let of = of.cache_properties(zbus::proxy::CacheProperties::No).build().await?;
                Ok((of.fragment_path().await?, of.drop_in_paths().await?))
            };
            let (file, drop_ins) = asked.await.map_err(failed(ASK, &unit))?;
            Ok(file.is_empty() && !drop_ins.iter().any(|path| is_of_unit(path, &unit)))
        })
    }

    /// Carries out a request in the runtime, and waits for it in this thread.
    fn ask<T, F>(
        &self,
        operation: &'static str,
        unit: &str,
        request: impl FnOnce(ManagerProxy<'static>, String) -> F + Send + 'static,
    ) -> Result<T, SystemdError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, SystemdError>> + Send,
    {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let (systemd, name) = (self.clone(), unit.to_owned());
        let request = async move {
            let late = SystemdError::Deadline { operation, unit: name.clone(), limit: WITHIN };
            let work = async {
                let manager = systemd.manager().await?;
                let result = request(manager, name).await;
                if result.as_ref().is_err_and(lost) {
                    *systemd.manager.lock().await = None;
                }
                result
            };
            // Nobody listens any more only when the daemon is ending.
            tell.send(tokio::time::timeout(WITHIN, work).await.unwrap_or(Err(late))).ok();
        };
        drop(self.runtime.spawn(request));
        told.recv().unwrap_or(Err(SystemdError::NoRuntime))
    }

    async fn manager(&self) -> Result<ManagerProxy<'static>, SystemdError> {
        let mut kept = self.manager.lock().await;
        if let Some(manager) = kept.as_ref() {
            return Ok(manager.clone());
        }
        let connected = async {
            let bus = zbus::connection::Builder::address(ADDRESS)?.build().await?;
            let manager = ManagerProxy::builder(&bus);
            manager.cache_properties(zbus::proxy::CacheProperties::No).build().await
        };
        let connected = connected.await.map_err(|source| SystemdError::Connect {
            address: ADDRESS,
            source: Box::new(source),
        })?;
        Ok(kept.insert(connected).clone())
    }
}

/// Whether a file that changes a unit was written for that unit, and not for all of its kind, or by a request to systemd:
/// berth's own leave some.
fn is_of_unit(path: &str, unit: &str) -> bool {
    path.contains(&format!("/{unit}.d/")) && !path.starts_with("/run/systemd/system.control/")
}

/// Whether there was no answer: the connection is not used again.
fn lost(error: &SystemdError) -> bool {
    matches!(error, SystemdError::Call { source, .. } if told(source).is_none())
}

fn failed(operation: &'static str, unit: &str) -> impl Fn(zbus::Error) -> SystemdError + use<> {
    let unit = unit.to_owned();
    move |source| SystemdError::Call { operation, unit: unit.clone(), source: Box::new(source) }
}

/// The active and sub state of a unit, once no job of it is queued and it is in none of the states between.
async fn settled(
    operation: &'static str,
    manager: &ManagerProxy<'static>,
    unit: &str,
) -> Result<(String, String), SystemdError> {
    let mut wait = ASK_AFTER;
    loop {
        let units = manager.list_units_by_names(&[unit]).await.map_err(failed(operation, unit))?;
        let Some((_, _, _, active, sub, _, _, job, ..)) = units.into_iter().next() else {
            return Ok(("inactive".to_owned(), "dead".to_owned()));
        };
        if job == 0 && !matches!(active.as_str(), "activating" | "deactivating" | "reloading") {
            return Ok((active, sub));
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(ASK_AT_MOST_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::is_of_unit;

    #[test]
    fn what_an_operator_wrote_for_a_unit_is_told_from_what_holds_for_all_and_from_requests() {
        for (path, expected) in [
            ("/etc/systemd/system/a-b.slice.d/10-memory.conf", true),
            ("/etc/systemd/system.control/a-b.slice.d/50-MemoryMin.conf", true),
            ("/run/systemd/system.control/a-b.slice.d/50-MemoryMin.conf", false),
            ("/usr/lib/systemd/system/slice.d/10-oomd.conf", false),
            ("/etc/systemd/system/a-.slice.d/10-memory.conf", false),
        ] {
            assert_eq!(is_of_unit(path, "a-b.slice"), expected, "{path}");
        }
    }
}
