//! The cases against another runtime: `BERTH_PEER` names its socket, `BERTH_PEER_FOLDER` a folder for
//! volumes and logs, `BERTH_PEER_IMPORT` the command that gives it an image, whose file is added.
//!
//! A case that another runtime disagrees with says so where it is listed, and has to go on failing
//! there: an explanation must not outlive its reason. A case that needs what this machine has not is
//! a named skip; `tests/vm/peer.sh` runs it in the virtual machine.

use super::lists::remove_all;
use super::target::{Case, Peer, Target};
use crate::harness::cri::Cri;
use crate::harness::machine::Machine;
use crate::harness::runtime;
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How many cases agree; fewer that did, or would but for this machine, are a failure.
const COUNT: &str = "tests/integration/conformance/peer-cases.txt";

/// The socket of the runtime, when there is one to be asked.
pub(crate) fn asked() -> Option<PathBuf> {
    std::env::var_os("BERTH_PEER").map(PathBuf::from)
}

/// Runs the cases.
///
/// # Errors
/// The runtime does not answer, or the count cannot be read.
#[expect(clippy::print_stdout, reason = "a test runner reports on standard output")]
pub(crate) fn run(socket: &Path) -> Result<ExitCode> {
    let cri = Cri::new(socket)?;
    let folder = std::env::var_os("BERTH_PEER_FOLDER").context("no BERTH_PEER_FOLDER")?;
    let target = Target { cri: &cri, folder: folder.into() };
    prepare(&target)?;
    let version = cri.version(Default::default()).context("Version")?;
    println!("{} {}", version.runtime_name, version.runtime_version);
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    let mut cases = super::cases();
    if !chosen.is_empty() {
        let place = |case: &Case| chosen.iter().position(|name| case.name.contains(name));
        cases.retain(|case| place(case).is_some());
        cases.sort_by_key(place);
    }
    let machine = Machine::probe();
    let (mut agree, mut differ, mut failed) = (0usize, 0usize, 0usize);
    let (mut skipped, mut untried) = (0usize, 0usize);
    for case in &cases {
        if let Some(need) = case.needs.iter().find(|&&need| !machine.has(need)) {
            skipped += 1;
            untried += usize::from(case.peer == Peer::Agrees);
            println!("skipped: {}: needs {need:?}", case.name);
            continue;
        }
        let outcome = (case.run)(&target);
        let outcome = outcome.and_then(|()| remove_all(&target).context("remove what it made"));
        match (case.peer, outcome) {
            (Peer::Agrees, Ok(())) => {
                agree += 1;
                println!("ok: {}", case.name);
            }
            (Peer::Differs(why), Err(error)) => {
                differ += 1;
                println!("differs: {}: {why} ({error:#})", case.name);
            }
            (Peer::Agrees, Err(error)) => {
                failed += 1;
                println!("not ok: {}: {error:#}", case.name);
            }
            (Peer::Differs(why), Ok(())) => {
                failed += 1;
                println!("not ok: {}: it agrees, but should not: {why}", case.name);
            }
        }
        remove_all(&target).ok();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(COUNT);
    let least: usize = std::fs::read_to_string(path).context(COUNT)?.trim().parse()?;
    println!(
        "{agree} agree, {differ} differ as explained, {failed} failed, {skipped} skipped \
         ({least} have to agree, {untried} of them among the skipped)"
    );
    let few = chosen.is_empty() && agree + untried < least;
    Ok(if failed > 0 || few { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Waits for the runtime and gives it the images.
fn prepare(target: &Target<'_>) -> Result<()> {
    runtime::wait(target.cri)?;
    runtime::prepare(target.cri, &target.folder)
}
