//! Progress of a pull or an import: bars when a person watches, nothing otherwise.

use super::console::Console;
use super::format::short_id;
use crate::cri::own::proto::Progress;
use crate::cri::own::proto::progress::Phase;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;

/// One bar a layer.
pub(super) struct Bars {
    all: Option<MultiProgress>,
    layers: BTreeMap<String, ProgressBar>,
}

impl Bars {
    /// Bars on a console where a person watches.
    pub(super) fn new(console: &Console) -> Self {
        let all = console.shows_bars().then(MultiProgress::new);
        Self { all, layers: BTreeMap::new() }
    }

    /// Shows one step.
    pub(super) fn show(&mut self, progress: &Progress) {
        let Some(all) = &self.all else { return };
        let bar = self.layers.entry(progress.layer.clone()).or_insert_with(|| {
            let bar = all.add(ProgressBar::new(0));
            let name = if progress.layer.is_empty() {
                progress.image.clone()
            } else {
                short_id(&progress.layer).to_owned()
            };
            bar.set_prefix(name);
            bar
        });
        bar.set_style(style(progress));
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.current_bytes);
        match progress.phase() {
            Phase::Present | Phase::Done | Phase::Complete => {
                bar.finish_with_message(phase_name(progress.phase()));
            }
            phase => bar.set_message(phase_name(phase)),
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        for bar in self.layers.values() {
            // What did not finish stays as it was: an error follows.
            if !bar.is_finished() {
                bar.abandon();
            }
        }
    }
}

/// A bar only while there is an end in sight.
fn style(progress: &Progress) -> ProgressStyle {
    let counting = progress.phase() == Phase::Unpacking;
    let template = match (counting, progress.total_bytes) {
        (true, 1..) => "{prefix:14} {bar:30} {bytes:>10} / {total_bytes:10} {msg}",
        (true, 0) => "{prefix:14} {bytes:>10} {msg}",
        (false, _) => "{prefix:14} {msg}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Resolving => "resolving",
        Phase::Waiting => "waiting",
        Phase::Unpacking => "unpacking",
        Phase::Present => "already here",
        Phase::Done => "done",
        Phase::Complete => "complete",
    }
}
