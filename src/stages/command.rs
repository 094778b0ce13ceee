//! The kind `command`: any program as a stage. It gets a clean environment and the folders of its
//! inputs and of its output in its arguments; the files that it declares become the artifact.

pub(super) mod outputs;
mod placeholders;
mod process;
mod program;
mod tree;
mod writes;

use super::needs;
use crate::common::number;
use crate::config::{KeyType, NoKeys, Word, is_below, keys};
use crate::data::images::{self, LISTING};
use crate::engine::{
    Context, Estimate, Feed, Input, Kind, Known, OrFail, Parts, Pin, Resolver, StageError,
};
use crate::events::CancellationToken;
use crate::store::Store;
use placeholders::{OUTPUT, Places};
use process::Process;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use writes::Watch;

/// The kind `command`.
pub(super) struct Command;

/// Version of the code: raised whenever the same inputs give other bytes or other keys.
///
/// - 1: the first.
/// - 2: `{threads}` in `command` and `env` is the number of threads, no longer this text.
const VERSION: u32 = 2;

keys! {
    /// The keys of a `command` stage.
    pub(super) struct CommandOptions / CommandKeys {
        /// The program and its arguments, as a list; no shell reads them. A program without a `/` in
        /// its name is looked for on `PATH`. It runs in the folder of the file in which this key is
        /// written. In an argument, `{output}` is the folder to write to and `{inputs.ROLE}` the
        /// file or folder that `needs` gives for a role; `{threads}` is the number of threads that the
        /// stage may use, which isn't part of the key.
        command: Vec<Word> = required;
        /// The files and folders below `{output}` that the program writes and that are kept. One that
        /// is missing fails the stage; others are removed with a warning. Images in a folder `images`
        /// are listed as those of a `fetch` stage, and can feed `explore` and `preprocess`.
        outputs: Vec<String> = required;
        /// Files that the program reads beside its inputs, such as its source text, relative to the
        /// pipeline file. Their contents are part of the key.
        scripts: Vec<String> = [];
        /// Environment variables to set, with placeholders as in `command`. There are no others but
        /// `PATH`, `HOME`, `LANG`, `TMPDIR` and those of `pass_env`.
        env: BTreeMap<String, Word> = {};
        /// Environment variables that the program gets from `pipe`'s, such as credentials. Their
        /// values are neither recorded nor part of the key.
        pass_env: Vec<String> = [] affects Execution;
        /// Whether the content of the program's own file is part of the key.
        pin_program: bool = true;
    }
}

static ANY_INPUT: Input = Input {
    role: "",
    kinds: &[],
    required: false,
    parts: Parts::Any,
    reads: &[],
    self_checked: &[],
    doc: "A stage, or a file or folder of its output (`\"stage/path\"`); `{inputs.ROLE}` in the arguments. Of images that are read in place, name `\"fetch/images\"`.",
};

/// The resolved values of a `command` stage.
#[derive(Serialize, Deserialize)]
pub(super) struct CommandValues {
    #[serde(flatten)]
    options: CommandOptions,
    /// The folder in which it runs, and that the scripts are relative to. Not part of the key.
    folder: PathBuf,
    /// Role -> the file or folder of that input, where it isn't all of it: part of the key, since the
    /// digest of images that are read in place doesn't tell it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    inputs: BTreeMap<String, String>,
}

impl CommandValues {
    /// The program as it is written.
    fn program(&self) -> &str {
        self.options.command.first().map_or("", |word| word.0.as_str())
    }

    fn arguments(&self) -> &[Word] {
        self.options.command.get(1..).unwrap_or_default()
    }
}

impl Kind for Command {
    type Keys = CommandOptions;
    type Dataset = NoKeys;
    type Resolved = CommandValues;

    fn name(&self) -> &'static str {
        "command"
    }

    fn about(&self) -> &'static str {
        "Runs any program. Its declared outputs become the stage's artifact."
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn any_input(&self) -> Option<&'static Input> {
        Some(&ANY_INPUT)
    }

    fn resolve(
        &self,
        keys: CommandKeys,
        _dataset: NoKeys,
        resolver: &mut Resolver,
    ) -> Option<CommandValues> {
        check_command(&keys, resolver);
        check_outputs(&keys, resolver);
        check_scripts(&keys, resolver);
        check_names(&keys, resolver);
        resolver.roles().for_each(|role| needs::check_part(role, resolver));
        let folder = keys.command.handle().beside("").components().collect();
        let inputs = resolver.inside().clone();
        resolver.is_clean().then(|| CommandValues {
            options: CommandOptions::resolved(keys),
            folder,
            inputs,
        })
    }

    fn pin(
        &self,
        values: &CommandValues,
        store: &Store,
        _cancel: &CancellationToken,
    ) -> Result<Pin, StageError> {
        let mut facts = BTreeMap::new();
        if values.options.pin_program && !placeholders::are_in(values.program()) {
            let path = program::find(values.program(), &values.folder)?;
            facts.insert("program".to_owned(), store.file_digest(&path)?.to_string().into());
        }
        for script in &values.options.scripts {
            let digest = store.file_digest(&values.folder.join(script))?;
            facts.insert(format!("script {script}"), digest.to_string().into());
        }
        Ok(Pin { facts, replaces: vec!["folder"], folder: None })
    }

    fn disk(&self, _values: &CommandValues, known: &Known) -> Estimate {
        let listed = known.artifact.and_then(|artifact| {
            let path = artifact.join(LISTING);
            images::read_listing(&std::fs::read(&path).ok()?, &path).ok()
        });
        Estimate { images: listed.map(|list| list.len() as u64), ..Estimate::default() }
    }

    fn run(&self, values: &CommandValues, context: &Context) -> Result<(), StageError> {
        let CommandValues { options, folder, .. } = values;
        let places = Places::of(context)?;
        let program = places.fill(values.program());
        let env = options.env.iter().map(|(name, value)| (name.clone(), places.fill(&value.0)));
        let process = Process {
            program: program::find(&program, folder)?,
            named: values.program(),
            arguments: values.arguments().iter().map(|word| places.fill(&word.0)).collect(),
            env: env.collect(),
            pass_env: &options.pass_env,
            gpus: &context.gpus,
            folder,
        };
        warn_of_files(values, context);
        let watch = Watch::start(folder, &process.env, context);
        let ended = process.run(context);
        StageError::check(&context.cancel)?;
        watch.finish()?;
        let tail = ended?;
        outputs::check(&options.outputs, folder, context).map_err(|error| tail.added_to(error))?;
        outputs::remove_others(&options.outputs, context)?;
        let (files, bytes) = outputs::size(&context.slot).or_fail("reading the output")?;
        outputs::list_images(&options.outputs, context)?;
        let text = format!("{}, {}", number::counted(files, "file"), number::bytes(bytes));
        context.events.info(text);
        Ok(())
    }
}

/// Warns of arguments that name files which aren't part of the key.
fn warn_of_files(values: &CommandValues, context: &Context) {
    let CommandValues { options, folder, .. } = values;
    let is_unknown = |argument: &&Word| {
        let is_script = |script: &String| folder.join(script) == folder.join(&argument.0);
        !argument.0.is_empty()
            && folder.join(&argument.0).is_file()
            && !options.scripts.iter().any(is_script)
    };
    for argument in values.arguments().iter().filter(is_unknown) {
        context.events.warn(format!(
            "`{}` isn't among `scripts`: when it changes, the stage doesn't run again",
            argument.0
        ));
    }
}

fn check_command(keys: &CommandKeys, resolver: &mut Resolver) {
    let command = &keys.command;
    if command.first().is_none_or(|program| program.0.is_empty()) {
        let diagnostic = command.error("`command` names no program");
        let help = "such as command = [\"python\", \"make.py\", \"{output}\"]".to_owned();
        resolver.report(diagnostic.label("expected a program and its arguments").help(help));
        return;
    }
    let roles: Vec<&str> = resolver.roles().collect();
    let words = || command.iter().chain(keys.env.values());
    for name in words().flat_map(|word| placeholders::inputs_in(&word.0)) {
        if !roles.contains(&name) {
            let message = format!("no stage feeds `{{inputs.{name}}}`");
            let help = format!("add `needs = {{ {name} = \"STAGE\" }}`");
            resolver.report(command.error(message).label("unknown input").help(help));
        }
    }
    if !words().any(|word| word.0.contains(OUTPUT)) {
        let diagnostic = command.error("the program isn't given its output folder");
        let help = "give it `{output}`, the folder that `outputs` are in".to_owned();
        resolver.report(diagnostic.label("`{output}` is in no argument").help(help));
    }
    if words().any(|word| word.0.contains('\0')) {
        resolver.report(command.error("an argument can't contain the character NUL"));
    }
}

fn check_outputs(keys: &CommandKeys, resolver: &mut Resolver) {
    let declared = &keys.outputs;
    if declared.is_empty() {
        let diagnostic = declared.error("a stage without outputs");
        resolver.report(diagnostic.label("expected at least one file or folder"));
    }
    for output in declared.iter() {
        if outputs::OWN.contains(&output.as_str()) {
            let diagnostic = declared.error(format!("`{output}` can't be an output"));
            resolver.report(diagnostic.label("`pipe` writes this file"));
        } else if !is_below(output.strip_suffix('/').unwrap_or(output)) {
            let diagnostic = declared.error(format!("`{output}` can't be an output"));
            let help = "such as \"images\" or \"tables/a.csv\"".to_owned();
            resolver.report(diagnostic.label("expected a path below `{output}`").help(help));
        }
    }
}

fn check_scripts(keys: &CommandKeys, resolver: &mut Resolver) {
    for script in keys.scripts.iter() {
        let path = keys.scripts.handle().beside(script);
        if !path.is_file() {
            let is = if path.is_dir() { "is a folder" } else { "isn't there" };
            let diagnostic = keys.scripts.error(format!("the script `{script}` {is}"));
            let help = format!("looked for {}", path.display());
            resolver.report(diagnostic.label("expected files").help(help));
        }
    }
}

/// Checks the names of environment variables.
fn check_names(keys: &CommandKeys, resolver: &mut Resolver) {
    let is_name = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
    let names = keys.env.keys().map(|name| (name, keys.env.handle()));
    let passed = keys.pass_env.iter().map(|name| (name, keys.pass_env.handle()));
    for (name, handle) in names.chain(passed).filter(|(name, _)| !is_name(name)) {
        resolver.report(handle.error(format!("`{name}` can't name an environment variable")));
    }
}

/// The declared outputs of a `command` stage. `None` for other kinds.
pub(super) fn outputs_of(feed: Feed) -> Option<Vec<String>> {
    Some(feed.resolved(&Command)?.options.outputs)
}

#[cfg(test)]
mod tests;
