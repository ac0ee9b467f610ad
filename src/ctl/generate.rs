//! `berth completions` and `berth man`.

use super::args::Cli;
use super::commands::{CompletionsArgs, ManArgs};
use super::console::Console;
use super::error::CtlError;
use clap::CommandFactory as _;

/// Prints completions for a shell.
pub(super) fn completions(args: CompletionsArgs, console: &mut Console) -> Result<(), CtlError> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "berth", &mut text);
    console.write(&text)
}

/// Writes a manual page for the program and one for each subcommand.
pub(super) fn man(args: &ManArgs) -> Result<(), CtlError> {
    std::fs::create_dir_all(&args.dir).map_err(CtlError::file("make folder", &args.dir))?;
    clap_mangen::generate_to(Cli::command(), &args.dir)
        .map_err(CtlError::file("write manual pages to", &args.dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::console::tests::captured;

    #[test]
    fn completions_know_the_subcommands() {
        let (mut console, out, _) = captured();
        completions(CompletionsArgs { shell: clap_complete::Shell::Bash }, &mut console).unwrap();
        assert!(out.text().contains("completions") && out.text().contains("inspect"));
    }

    #[test]
    fn there_is_a_manual_page_for_each_subcommand() {
        let dir = tempfile::tempdir().unwrap();
        man(&ManArgs { dir: dir.path().join("man") }).unwrap();
        for page in ["berth.1", "berth-run.1", "berth-image-import.1"] {
            assert!(dir.path().join("man").join(page).exists(), "{page}");
        }
    }
}
