//! What a container's first process runs, where, and with which environment; pure.
//!
//! A request's command replaces the image's entrypoint *and* its Cmd; a request's args replace the
//! Cmd alone (Kubernetes, "Define a command and arguments for a container").

use super::error::SpecError;
use crate::image::ImageSpec;
use std::path::PathBuf;

/// The search path of a process whose image and request name none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a request says about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestProcess<'a> {
    /// The container's name, for errors.
    pub name: &'a str,
    /// Replaces entrypoint and Cmd when not empty.
    pub command: &'a [String],
    /// Replaces Cmd when not empty.
    pub args: &'a [String],
    /// Added to the image's environment.
    pub envs: &'a [(String, String)],
    /// Replaces the image's working directory when not empty.
    pub working_dir: &'a str,
    /// Whether the process has a terminal.
    pub tty: bool,
}

/// The argument vector.
///
/// # Errors
/// [`SpecError::NoCommand`] when nothing is left to run, [`SpecError::Invalid`] for an empty
/// program name or a NUL byte.
pub fn plan_args(
    image: &ImageSpec,
    request: &RequestProcess<'_>,
) -> Result<Vec<String>, SpecError> {
    let (head, tail) = if !request.command.is_empty() {
        (request.command, request.args)
    } else if !request.args.is_empty() {
        (image.entrypoint.as_slice(), request.args)
    } else {
        (image.entrypoint.as_slice(), image.cmd.as_slice())
    };
    let args: Vec<String> = head.iter().chain(tail).cloned().collect();
    match args.first() {
        None => return Err(SpecError::NoCommand(request.name.to_owned())),
        Some(program) if program.is_empty() => {
            return Err(SpecError::invalid("command", "", "the program's name is empty"));
        }
        Some(_) => {}
    }
    if let Some(bad) = args.iter().find(|arg| arg.contains('\0')) {
        return Err(SpecError::invalid("args", bad.as_str(), "holds a NUL byte"));
    }
    Ok(args)
}

/// The working directory: the request's, else the image's, else `/`. An image's relative one is
/// taken from the root.
///
/// # Errors
/// [`SpecError::Invalid`] for a relative one in the request, or a NUL byte.
pub fn plan_working_dir(
    image: &ImageSpec,
    request: &RequestProcess<'_>,
) -> Result<PathBuf, SpecError> {
    let dir = if request.working_dir.is_empty() { &image.working_dir } else { request.working_dir };
    if dir.contains('\0') {
        return Err(SpecError::invalid("working_dir", dir, "holds a NUL byte"));
    }
    if dir.is_empty() {
        return Ok("/".into());
    }
    if dir.starts_with('/') {
        return Ok(dir.into());
    }
    if request.working_dir.is_empty() {
        return Ok(PathBuf::from("/").join(dir));
    }
    Err(SpecError::invalid("working_dir", dir, "is not absolute"))
}

/// The environment, `NAME=value` each. A later value of a name takes the place of the earlier one:
/// `PATH` and, with a terminal, `TERM` by default; the image's; `HOSTNAME`; the request's; last
/// `HOME`, if nobody set it.
///
/// # Errors
/// [`SpecError::Invalid`] for a name of the request that is empty or holds `=`, or a NUL byte.
pub fn plan_env(
    image: &ImageSpec,
    request: &RequestProcess<'_>,
    hostname: &str,
    home: &str,
) -> Result<Vec<String>, SpecError> {
    let mut env = Environment::default();
    env.set("PATH", DEFAULT_PATH);
    if request.tty {
        env.set("TERM", "xterm");
    }
    for (name, value) in &image.env {
        // What cannot be a variable is left out, as other runtimes do: it may be in any image.
        if !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0') {
            env.set(name, value);
        }
    }
    env.set("HOSTNAME", hostname);
    for (name, value) in request.envs {
        if name.is_empty() || name.contains('=') {
            return Err(SpecError::invalid("envs", name, "is not a variable's name"));
        }
        if name.contains('\0') || value.contains('\0') {
            return Err(SpecError::invalid("envs", name, "holds a NUL byte"));
        }
        env.set(name, value);
    }
    if !env.has("HOME") && !home.is_empty() {
        env.set("HOME", home);
    }
    Ok(env.0.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

/// Variables in the order in which they first appeared.
#[derive(Default)]
struct Environment(Vec<(String, String)>);

impl Environment {
    fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some(entry) => value.clone_into(&mut entry.1),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn strings(words: &str) -> Vec<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    fn pairs(words: &str) -> Vec<(String, String)> {
        let pair = |word: &str| word.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned()));
        words.split_whitespace().filter_map(pair).collect()
    }

    #[test]
    fn command_and_args_replace_entrypoint_and_cmd_as_kubernetes_says() {
        // The table of "Define a command and arguments for a container".
        let rows = [
            ("nothing in the request", "/ep-1", "foo bar", "", "", "/ep-1 foo bar"),
            ("a command alone drops the image's Cmd", "/ep-1", "foo bar", "/ep-2", "", "/ep-2"),
            ("args alone keep the entrypoint", "/ep-1", "foo bar", "", "zoo", "/ep-1 zoo"),
            ("both", "/ep-1", "foo bar", "/ep-2", "zoo boo", "/ep-2 zoo boo"),
            ("a Cmd without an entrypoint", "", "sh -c", "", "", "sh -c"),
        ];
        for (row, entrypoint, cmd, command, args, expected) in rows {
            let (entrypoint, cmd) = (strings(entrypoint), strings(cmd));
            let (command, args) = (strings(command), strings(args));
            let image = ImageSpec { entrypoint, cmd, ..Default::default() };
            let request = RequestProcess { command: &command, args: &args, ..Default::default() };
            assert_eq!(plan_args(&image, &request).unwrap(), strings(expected), "{row}");
        }
    }

    #[test]
    fn a_container_with_nothing_to_run_is_refused_by_name() {
        let request = RequestProcess { name: "web", ..Default::default() };
        let error = plan_args(&ImageSpec::default(), &request).unwrap_err();
        assert!(matches!(&error, SpecError::NoCommand(name) if name == "web"), "{error}");
        let empty = [String::new()];
        let request = RequestProcess { command: &empty, ..Default::default() };
        assert!(plan_args(&ImageSpec::default(), &request).is_err());
    }

    #[test]
    fn the_working_directory_is_the_requests_then_the_images_then_the_root() {
        let rows = [
            ("", "", Some("/")),
            ("/image", "", Some("/image")),
            ("image", "", Some("/image")),
            ("/image", "/asked", Some("/asked")),
            ("/image", "asked", None),
        ];
        for (image, asked, expected) in rows {
            let image = ImageSpec { working_dir: image.into(), ..Default::default() };
            let request = RequestProcess { working_dir: asked, ..Default::default() };
            let planned = plan_working_dir(&image, &request).ok();
            assert_eq!(planned, expected.map(PathBuf::from), "{image:?} {request:?}");
        }
    }

    #[test]
    fn the_requests_environment_wins_and_the_order_is_kept() {
        let env = pairs("A=image B=image HOSTNAME=image =ODD");
        let envs = [("B".to_owned(), "asked".to_owned()), ("C".to_owned(), String::new())];
        let image = ImageSpec { env, ..Default::default() };
        let request = RequestProcess { envs: &envs, tty: true, ..Default::default() };
        assert_eq!(
            plan_env(&image, &request, "pod", "/root").unwrap(),
            [
                &format!("PATH={DEFAULT_PATH}"),
                "TERM=xterm",
                "A=image",
                "B=asked",
                "HOSTNAME=pod",
                "C=",
                "HOME=/root"
            ]
        );
    }

    #[test]
    fn defaults_give_way_to_the_image_and_the_request() {
        let env = pairs("PATH=/image TERM=dumb");
        let envs = [("HOSTNAME".to_owned(), "mine".to_owned()), ("HOME".into(), "/h".into())];
        let image = ImageSpec { env, ..Default::default() };
        let request = RequestProcess { envs: &envs, tty: true, ..Default::default() };
        assert_eq!(
            plan_env(&image, &request, "pod", "/root").unwrap(),
            ["PATH=/image", "TERM=dumb", "HOSTNAME=mine", "HOME=/h"]
        );
    }

    #[test]
    fn odd_variable_names_are_refused() {
        for name in ["", "A=B", "A\0"] {
            let envs = [(name.to_owned(), "x".to_owned())];
            let request = RequestProcess { envs: &envs, ..Default::default() };
            assert!(plan_env(&ImageSpec::default(), &request, "h", "/").is_err(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn each_name_occurs_once_with_its_last_value(
            image in proptest::collection::vec(("[A-D]", "[a-z]{0,3}"), 0..8),
            asked in proptest::collection::vec(("[A-F]", "[a-z]{0,3}"), 0..8),
        ) {
            let image_process = ImageSpec { env: image.clone(), ..Default::default() };
            let request = RequestProcess { envs: &asked, ..Default::default() };
            let env = plan_env(&image_process, &request, "h", "/").unwrap();
            let mut last = std::collections::BTreeMap::new();
            let mut order: Vec<&str> = Vec::new();
            let pairs = image.iter().chain(&asked).map(|(n, v)| (n.as_str(), v.as_str()));
            for (name, value) in pairs {
                if last.insert(name, value).is_none() {
                    order.push(name);
                }
            }
            let seen: Vec<(&str, &str)> = env.iter().filter_map(|e| e.split_once('='))
                .filter(|(n, _)| n.len() == 1).collect();
            let expected: Vec<(&str, &str)> = order.iter().map(|n| (*n, last[n])).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
