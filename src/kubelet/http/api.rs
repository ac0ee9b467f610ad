//! From a request to its answer.

use super::access::{Access, Decision, Right};
use super::answer::{self, Answer, Refusal};
use super::figures::Looks;
use super::route::{NoRoute, Route, route};
use super::shown::Shown;
use super::user::Caller;
use super::{configz, figures, logs, pods, streams};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use std::time::Instant;
use tracing::{debug, info};

/// The API.
pub(super) struct Api {
    pub(super) shown: Shown,
    looks: Looks,
}

impl Api {
    pub(super) fn new(shown: Shown) -> Self {
        Self { shown, looks: Looks::default() }
    }

    /// Answers `request` of `caller`, if it may ask.
    pub(super) async fn answer(
        &self,
        access: &Access,
        caller: &Caller,
        request: Request<Incoming>,
    ) -> Result<Answer, Refusal> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        match access.decide(caller, &path) {
            Decision::Allowed => {}
            Decision::Forbidden(right) => {
                let right = match right {
                    Right::Read => "read (kubelet.readers)",
                    Right::Exec => "run commands (kubelet.executors)",
                };
                let cause = format!("user {:?} may not {right}", caller.to_string());
                return Err(Refusal::new(StatusCode::FORBIDDEN, cause));
            }
        }
        let found = route(&method, &path).map_err(|none| match none {
            NoRoute::Path => Refusal::not_found(format!("there is nothing at {path}")),
            NoRoute::Method(allowed) => Refusal::method(allowed),
        })?;
        match super::access::right(&path) {
            Right::Read => debug!(%caller, %method, path, "asked of the kubelet's HTTP API"),
            Right::Exec => info!(%caller, %method, path, "asked of the kubelet's HTTP API"),
        }
        self.ask(found, request).await
    }

    async fn ask(&self, route: Route, request: Request<Incoming>) -> Result<Answer, Refusal> {
        let shown = &self.shown;
        match route {
            Route::Ping => Ok(answer::text("ok")),
            Route::Health => self.health(),
            Route::Node => self.node(),
            Route::Pods => answer::json(&pods::pods(shown)),
            Route::RunningPods => answer::json(&pods::ask_running(shown).await?),
            Route::Configz => answer::json(&configz::configz(&shown.kubelet)),
            Route::Logs(path) => logs::logs(shown, &path, request.uri().query()).await,
            Route::Exec(path) => streams::exec(shown, &path, request).await,
            Route::Attach(path) => streams::attach(shown, &path, request).await,
            Route::PortForward(path) => streams::port_forward(shown, &path, request).await,
            Route::Run(path) => streams::run(shown, &path, request.uri().query()).await,
            Route::Summary => figures::stats(shown, &self.looks).await,
            Route::Metrics => Ok(figures::metrics(shown).await),
            Route::Probes => Ok(figures::probe_metrics(shown)),
            Route::Resource => figures::resource_metrics(shown).await,
            Route::Cadvisor => figures::cadvisor_metrics(shown).await,
        }
    }

    fn node(&self) -> Result<Answer, Refusal> {
        match self.shown.board.node() {
            Some(node) => answer::json(&*node),
            None => {
                let cause = "the node was not looked at yet".to_owned();
                Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, cause))
            }
        }
    }

    fn health(&self) -> Result<Answer, Refusal> {
        match self.shown.pulse.still_for(Instant::now()) {
            None => Ok(answer::text("ok")),
            Some(silence) => {
                let cause = format!("pods were not synced for {} s", silence.as_secs());
                Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, cause))
            }
        }
    }
}
