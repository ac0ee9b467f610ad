//! ps: the processes of a container.

use super::args::{Format, PsArgs};
use super::context::Context;
use super::error::{Doing as _, RuntimeError};
use super::state::Container;
use std::io::{self, Write as _};

/// The verb `ps`.
pub(super) fn ps(ctx: &Context<'_>, args: &PsArgs) -> Result<(), RuntimeError> {
    let container = Container::load(ctx, &args.id)?;
    let pids = container.leaf(ctx).pids().doing(|| format!("list {:?}", args.id))?;
    let doing = || "write to standard output";
    if args.format == Format::Json {
        let text = serde_json::to_string(&pids).doing(doing)?;
        return writeln!(io::stdout(), "{text}").doing(doing);
    }
    let options = match args.options.is_empty() {
        true => vec!["-ef".to_owned()],
        false => args.options.clone(),
    };
    let output = std::process::Command::new("ps").args(&options).output().doing(|| "run ps")?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(told).doing(|| format!("run ps {}", options.join(" ")));
    }
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let chosen = choose(&table, &pids)
        .ok_or_else(|| RuntimeError::refused("ps prints no column PID with these options"))?;
    io::stdout().write_all(chosen.as_bytes()).doing(doing)
}

/// The head of a table and the lines of these processes; `None` without a column `PID`.
fn choose(table: &str, pids: &[i32]) -> Option<String> {
    let mut lines = table.lines();
    let head = lines.next()?;
    let column = head.split_whitespace().position(|name| name == "PID")?;
    let mut chosen = format!("{head}\n");
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|text| text.parse().ok());
        if pid.is_some_and(|pid: i32| pids.contains(&pid)) {
            chosen.push_str(line);
            chosen.push('\n');
        }
    }
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_by_the_column_of_pids() {
        let table = "UID  PID PPID CMD\nroot   7  1 sh 12\nroot  12  7 sleep 7\n";
        assert_eq!(choose(table, &[12]).unwrap(), "UID  PID PPID CMD\nroot  12  7 sleep 7\n");
        assert_eq!(choose("CMD\nsh\n", &[1]), None);
    }
}
