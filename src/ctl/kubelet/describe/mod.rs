//! `berth describe`: all about a pod or the node, for people.
//!
//! [`node`] is the page about the node; of the others,
//! [`page`] writes lines of names and values, [`pod`] the parts in their order, [`container`] one container,
//! [`volume`] where a volume's content comes from, [`probe`] a probe in a line.

mod container;
mod node;
mod page;
mod pod;
mod probe;
mod volume;

use super::args::DescribeCommand;
use crate::ctl::connect::Daemon;
use crate::ctl::console::Console;
use crate::ctl::error::CtlError;

/// Prints all about a pod or the node.
pub(in crate::ctl) async fn describe(
    command: &DescribeCommand,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    match command {
        DescribeCommand::Pod(args) => pod::describe(args, daemon, console).await,
        DescribeCommand::Node => node::describe(daemon, console).await,
    }
}
