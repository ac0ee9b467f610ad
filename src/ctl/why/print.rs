//! Writes the causes, one screen.

use super::blocked;
use super::cause::{Cause, Stage};
use super::causes::causes;
use super::of_pod::told;
use super::plugins;
use crate::blocking;
use crate::clock::now_nanos;
use crate::ctl::connect::Daemon;
use crate::ctl::console::Console;
use crate::ctl::error::CtlError;
use crate::ctl::kubelet::args::{OnePodArgs, namespace_of};
use crate::ctl::kubelet::{Inventory, KeptPod, Summary};
use crate::kubelet::spec::{full_name, uid};

/// How many events are shown: what is left of a screen.
const EVENTS: usize = 5;

/// Prints why a pod does not run or is not ready.
pub(in crate::ctl) async fn why(
    args: &OnePodArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    let all = Inventory::read(daemon).await?;
    let kept = all.pod(namespace_of(args.namespace.as_deref()), &args.name)?;
    let of = uid(&kept.pod).to_owned();
    let around = blocking::run("look for what is at work", move || Around {
        plugin: plugins::at_work(&of),
        blocked: blocked::threads(&of),
    });
    let around = around.await.unwrap_or_default();
    console.write(screen(kept, now_nanos() / 1_000_000_000, &around).as_bytes())
}

/// What is at work on the node while the question is asked.
#[derive(Clone, Debug, Default)]
struct Around {
    /// On the pod's network.
    plugin: Option<String>,
    /// What the kernel holds of the pod's processes, and of berth's work for it.
    blocked: Vec<String>,
}

/// The causes, what the pod looks like, the newest events.
fn screen(kept: &KeptPod, now: i64, around: &Around) -> String {
    let pod = &kept.pod;
    let mut all = causes(pod, &kept.events, now, around.plugin.as_deref());
    // Of a step that nothing more is known of.
    if let Some(first) = all.first_mut().filter(|cause| cause.stage == Stage::Progress) {
        first.details.extend(around.blocked.iter().cloned());
    }
    let mut lines: Vec<String> = all.iter().flat_map(lines_of).collect();
    let summary = Summary::of(pod);
    let (ready, of) = summary.ready;
    let about = format!("{}: {}, {ready}/{of} ready", full_name(pod), summary.status);
    if all.is_empty() {
        lines.push(format!("nothing holds up pod {about}"));
        return lines.join("\n") + "\n";
    }
    lines.push(String::new());
    lines.push(format!("pod {about}"));
    for event in kept.events.iter().rev().take(EVENTS) {
        let container = event.container.as_ref().map_or_else(String::new, |c| format!("{c}: "));
        lines.push(format!("  {container}{}", told(event, now)).replace(['\n', '\r'], " "));
    }
    lines.join("\n") + "\n"
}

fn lines_of(cause: &Cause) -> Vec<String> {
    let details = cause.details.iter().map(|detail| format!("    {detail}"));
    std::iter::once(cause.headline.clone()).chain(details).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::kubelet::test_pods::{kept, warning};
    use serde_json::json;

    #[test]
    fn the_first_cause_is_the_first_line() {
        let mut pod = kept(json!({
            "metadata": {"name": "web"},
            "spec": {"containers": [{"name": "c"}]},
            "status": {
                "phase": "Pending", "startTime": "1970-01-01T00:00:40Z",
                "conditions": [{"type": "PodReadyToStartContainers", "status": "True"}],
                "containerStatuses": [{
                    "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"waiting": {"reason": "CreateContainerConfigError", "message": "no key"}},
                }],
            },
        }));
        pod.events = vec![warning("c", "Failed", "Error: no key", 90)];
        assert_eq!(
            screen(&pod, 100, &Around::default()),
            "container c cannot be made: no key\n\
             \x20   tried 1 times, last 10s ago\n\
             \x20   the pod began 60s ago\n\
             \n\
             pod default/web: CreateContainerConfigError, 0/1 ready\n\
             \x20 c: Failed 10s ago: Error: no key\n"
        );
    }

    #[test]
    fn a_step_of_which_nothing_is_known_is_told_with_what_the_kernel_holds() {
        let pod = kept(json!({
            "metadata": {"name": "web"}, "spec": {"containers": [{"name": "c"}]},
            "status": {"phase": "Pending", "startTime": "1970-01-01T00:00:40Z"},
        }));
        let around = Around { plugin: None, blocked: vec!["held".to_owned()] };
        let lines = screen(&pod, 100, &around);
        let mut lines = lines.lines();
        assert_eq!(lines.next(), Some("its sandbox and network have been in the making for 60s"));
        assert_eq!(lines.next(), Some("    held"));
    }

    #[test]
    fn a_pod_that_is_well_has_no_cause() {
        let pod = kept(json!({
            "metadata": {"name": "web"},
            "spec": {"containers": [{"name": "c"}]},
            "status": {
                "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{
                    "name": "c", "image": "", "imageID": "", "ready": true, "started": true,
                    "restartCount": 0, "state": {"running": {}},
                }],
            },
        }));
        assert_eq!(
            screen(&pod, 0, &Around::default()),
            "nothing holds up pod default/web: Running, 1/1 ready\n"
        );
    }
}
