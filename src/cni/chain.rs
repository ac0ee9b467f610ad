//! A list of plugins as one: ADD in order, each with the result of the one before; DEL in reverse;
//! CHECK, GC and STATUS (CNI spec, section 4).
//!
//! `plan_input` and `undo_order` decide; the rest runs what they say. A failed ADD is not undone
//! here: the caller writes what happened into the journal, and undo is DEL by that journal.

use super::conf::{ConfList, Plugin};
use super::invoke::{Command, Invoker, PluginError, Target};
use super::journal::CniWork;
use crate::cgroups::Leaf;
use serde_json::{Map, Value, json};

/// A chain on one container.
pub(super) struct Chain<'a> {
    pub(super) invoker: &'a Invoker,
    pub(super) group: &'a Leaf,
    pub(super) target: Target,
}

impl Chain<'_> {
    /// Runs ADD from the first plugin on. `record` is called before each plugin runs, with `begun`
    /// raised, and after it answered, with its result.
    ///
    /// # Errors
    /// What the plugin or `record` said. `work` tells then how far it came.
    pub(super) fn add<E: From<PluginError>>(
        &self,
        work: &mut CniWork,
        mut record: impl FnMut(&CniWork) -> Result<(), E>,
    ) -> Result<(), E> {
        for (at, plugin) in work.conf.plugins.clone().iter().enumerate() {
            work.begun = at + 1;
            record(work)?;
            let input = plan_input(&work.conf, plugin, &work.capabilities, work.result.as_ref());
            let answer = self.run(plugin, Command::Add, &input)?;
            if !answer.is_object() {
                return Err(E::from(PluginError::Answer {
                    plugin: plugin.kind.clone(),
                    command: Command::Add.as_str(),
                    why: "nothing was printed".to_owned(),
                }));
            }
            work.result = Some(answer);
        }
        record(work)
    }

    /// Runs DEL in reverse for every plugin whose ADD was begun. Goes on past errors.
    pub(super) fn del(&self, work: &CniWork) -> Vec<PluginError> {
        let mut errors = Vec::new();
        for plugin in undo_order(work) {
            // prevResult came to DEL with 0.4.0.
            let result = work.result.as_ref().filter(|_| work.conf.version.has_check());
            let input = plan_input(&work.conf, plugin, &work.capabilities, result);
            if let Err(e) = self.run(plugin, Command::Del, &input) {
                errors.push(e);
            }
        }
        errors
    }

    /// Runs CHECK in order; nothing when the list's version or switch says so.
    ///
    /// # Errors
    /// What the first plugin said that did not find what it made.
    pub(super) fn check(&self, work: &CniWork) -> Result<(), PluginError> {
        if !work.conf.version.has_check() || work.conf.disable_check {
            return Ok(());
        }
        for plugin in &work.conf.plugins {
            let result = work.result.as_ref();
            let input = plan_input(&work.conf, plugin, &work.capabilities, result);
            self.run(plugin, Command::Check, &input)?;
        }
        Ok(())
    }

    fn run(&self, plugin: &Plugin, command: Command, input: &Value) -> Result<Value, PluginError> {
        self.invoker.invoke((&plugin.kind, command), Some(&self.target), input, self.group)
    }
}

/// Runs GC with the attachments that live, by container id and interface; nothing when the list's
/// version or switch says so. Goes on past errors.
pub(super) fn gc(
    invoker: &Invoker,
    group: &Leaf,
    conf: &ConfList,
    live: &[(String, String)],
) -> Vec<PluginError> {
    if !conf.version.has_gc_and_status() || conf.disable_gc {
        return Vec::new();
    }
    let live: Vec<Value> =
        live.iter().map(|(id, name)| json!({"containerID": id, "ifname": name})).collect();
    let run = |plugin: &Plugin| {
        let mut input = plan_input(conf, plugin, &Map::new(), None);
        if let Some(object) = input.as_object_mut() {
            object.insert("cni.dev/valid-attachments".to_owned(), json!(live));
        }
        invoker.invoke((&plugin.kind, Command::Gc), None, &input, group).err()
    };
    conf.plugins.iter().filter_map(run).collect()
}

/// Runs STATUS of every plugin; nothing when the list's version says so.
///
/// # Errors
/// What the first plugin said that cannot answer ADD now.
pub(super) fn status(invoker: &Invoker, group: &Leaf, conf: &ConfList) -> Result<(), PluginError> {
    if conf.version.has_gc_and_status() {
        for plugin in &conf.plugins {
            let input = plan_input(conf, plugin, &Map::new(), None);
            invoker.invoke((&plugin.kind, Command::Status), None, &input, group)?;
        }
    }
    Ok(())
}

/// What one plugin reads on stdin.
fn plan_input(
    conf: &ConfList,
    plugin: &Plugin,
    capabilities: &Map<String, Value>,
    result: Option<&Value>,
) -> Value {
    let mut input = plugin.conf.clone();
    input.insert("name".to_owned(), json!(conf.name));
    input.insert("cniVersion".to_owned(), json!(conf.version.as_str()));
    let asked: Map<String, Value> = plugin
        .capabilities
        .iter()
        .filter_map(|name| capabilities.get(name).map(|value| (name.clone(), value.clone())))
        .collect();
    if !asked.is_empty() {
        input.insert("runtimeConfig".to_owned(), Value::Object(asked));
    }
    if let Some(result) = result {
        input.insert("prevResult".to_owned(), result.clone());
    }
    Value::Object(input)
}

/// The plugins whose ADD was begun, last first.
fn undo_order(work: &CniWork) -> impl Iterator<Item = &Plugin> {
    work.conf.plugins.iter().take(work.begun).rev()
}

#[cfg(test)]
mod tests {
    use super::super::conf::parse_list;
    use super::*;

    fn work(version: &str, begun: usize) -> CniWork {
        let text = json!({"cniVersion": version, "name": "n", "plugins": [
            {"type": "a", "key": 1},
            {"type": "b", "capabilities": {"portMappings": true, "dns": true}},
            {"type": "c"}]});
        let capabilities = json!({"portMappings": [1], "bandwidth": {}});
        CniWork {
            conf: parse_list(text.to_string().as_bytes()).unwrap(),
            args: String::new(),
            capabilities: capabilities.as_object().unwrap().clone(),
            begun,
            result: None,
        }
    }

    #[test]
    fn a_plugin_reads_its_own_keys_the_lists_name_and_what_it_asked_for() {
        let work = work("1.0.0", 0);
        let plugins = &work.conf.plugins;
        let input = |at: usize, result: Option<&Value>| {
            plan_input(&work.conf, &plugins[at], &work.capabilities, result)
        };
        assert_eq!(
            input(0, None),
            json!({"type": "a", "key": 1, "name": "n", "cniVersion": "1.0.0"})
        );
        assert_eq!(
            input(1, Some(&json!({"ips": []}))),
            json!({"type": "b", "name": "n", "cniVersion": "1.0.0",
                "runtimeConfig": {"portMappings": [1]}, "prevResult": {"ips": []}})
        );
    }

    #[test]
    fn only_what_was_begun_is_undone_and_last_first() {
        for (begun, order) in [(0, ""), (1, "a"), (2, "ba"), (3, "cba")] {
            let work = work("0.4.0", begun);
            let undone: String = undo_order(&work).map(|p| p.kind.as_str()).collect();
            assert_eq!(undone, order);
        }
    }
}
