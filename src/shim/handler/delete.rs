//! `delete`: a runtime forgets what has ended, or never began.

use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::runtime::Runtime;
use super::verb::advance;
use crate::shim::server::Server;
use crate::shim::starting::{Asker, Starting, failed};
use crate::shim::wire::{self, Failed, event::What, reply::Result as Answer};
use crate::sys::process::Ended;

/// How long a runtime may take to take apart what has ended.
const DELETE_WITHIN: Duration = Duration::from_secs(10);

/// A `delete` at work.
#[derive(Debug)]
pub(in crate::shim) struct Closing {
    pub(super) call: Starting,
    runtime: Rc<Runtime>,
    begun: bool,
    then: After,
}

/// What follows when a runtime has forgotten a container.
#[derive(Debug)]
pub(in crate::shim) enum After {
    /// Its end is told.
    Tell(What),
    /// Its start is answered.
    Fail(Asker, Failed),
}

impl Closing {
    pub(in crate::shim) fn deadline(&self) -> Instant {
        self.call.deadline
    }

    pub(in crate::shim) fn report(&self) -> Option<BorrowedFd<'_>> {
        (!self.begun).then(|| self.call.report())
    }
}

impl Server {
    /// Has the runtime forget a container that has ended, or never began.
    pub(in crate::shim) fn close(&mut self, runtime: &Rc<Runtime>, then: After) {
        runtime.remove("log");
        let arguments = runtime.arguments("log", &["delete", "--force", &runtime.id]);
        let spawned = self
            .no_streams()
            .and_then(|null| self.call(runtime, arguments, None, &null).map_err(|e| failed(&e)));
        // Nobody asked.
        let asker = Asker { generation: 0, id: 0 };
        match spawned {
            Ok(spawned) => {
                let call = Starting::new(asker, spawned, None, DELETE_WITHIN);
                let runtime = Rc::clone(runtime);
                self.closing.push(Closing { call, runtime, begun: false, then });
            }
            Err(failed) => {
                self.tell_not_deleted(runtime, failed);
                self.follow(then);
            }
        }
    }

    pub(super) fn follow(&mut self, after: After) {
        match after {
            After::Tell(what) => self.tell(what),
            After::Fail(asker, failed) => self.answer(asker, Answer::Failed(failed), Vec::new()),
        }
    }

    /// The daemon removes the cgroup and the files in any case; that the runtime did not do its part
    /// is for people.
    fn tell_not_deleted(&mut self, runtime: &Runtime, failed: Failed) {
        let (container, program) = (runtime.id.clone(), runtime.plan.program.clone());
        let Failed { step, message, .. } = failed;
        let cause = format!("{step}: {}", message.unwrap_or_default());
        self.tell(What::NotDeleted(wire::NotDeleted { container, program, cause }));
    }

    pub(super) fn check_closing(&mut self, now: Instant) {
        let mut open = Vec::new();
        for mut closing in std::mem::take(&mut self.closing) {
            match advance(&mut closing.call, &mut closing.begun, now) {
                Ok(None) => open.push(closing),
                decided => {
                    let Closing { call, runtime, then, .. } = closing;
                    match decided {
                        Ok(None | Some(Ended::Code(0))) => {}
                        Ok(Some(ended)) => {
                            self.tell_not_deleted(&runtime, runtime.said("log", "delete", ended));
                        }
                        Err(failed) => {
                            call.kill();
                            self.tell_not_deleted(&runtime, failed);
                        }
                    }
                    self.follow(then);
                }
            }
        }
        self.closing = open;
    }
}
