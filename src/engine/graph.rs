//! From a pipeline as it was written to a graph of checked stages. Every mistake is found here, and all are told
//! together, before anything runs.

use super::kind::{Complaints, Feed, Kind, Kinds};
use super::{COMMON, Input};
use crate::common::nearest;
use crate::config::{
    DefaultValue, Diagnostic, Diagnostics, KeyDecl, Pipeline, StageSpec, Values, check, significant,
};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

/// A checked pipeline: stages in an order in which each comes after what it needs.
#[derive(Clone)]
pub struct Graph {
    /// The pipeline's name.
    pub name: String,
    /// The root of random numbers.
    pub seed: u64,
    /// The stages, in the file's order where the graph leaves it free.
    pub stages: Vec<Stage>,
}

/// A stage of a checked pipeline.
#[derive(Clone)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: &'static dyn Kind,
    /// Its parameters, checked, defaults filled in, presets resolved; what it reads of `[dataset]` under "dataset".
    pub values: Values,
    /// Role -> name of the stage that feeds it.
    pub needs: BTreeMap<String, String>,
    /// Seconds after which it is stopped.
    pub timeout: Option<f64>,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Stage { name, values, needs, .. } = self;
        f.debug_struct("Stage")
            .field("name", name)
            .field("values", values)
            .field("needs", needs)
            .finish()
    }
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Graph").field("name", &self.name).field("stages", &self.stages).finish()
    }
}

impl Graph {
    /// The stage of this name.
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }
}

impl Stage {
    /// Its parameters that affect the output and aren't at their default, by dotted path.
    pub(super) fn significant(&self) -> BTreeMap<String, Json> {
        let mut own = self.values.clone();
        let dataset = own.remove("dataset");
        let mut list = significant(&own, self.kind.parameters());
        if let Some(Json::Object(dataset)) = dataset {
            let inner = significant(&dataset, self.kind.dataset());
            list.extend(inner.into_iter().map(|(path, value)| (format!("dataset.{path}"), value)));
        }
        list
    }
}

/// Checks a pipeline against the kinds.
///
/// # Errors
/// All mistakes, those of the file's structure included.
pub fn graph(pipeline: &Pipeline, kinds: &'static Kinds) -> Result<Graph, Diagnostics> {
    let mut diagnostics = pipeline.diagnostics.clone();
    let dataset = check_dataset(pipeline, kinds, &mut diagnostics);
    let mut stages = Vec::new();
    for spec in &pipeline.stages {
        let Some(kind) = find(kinds, &spec.kind) else {
            diagnostics.push(unknown_kind(spec, kinds));
            continue;
        };
        let before = diagnostics.len();
        check_needs(spec, kind, pipeline, &mut diagnostics);
        let values = check_values(spec, kind, &dataset, &mut diagnostics);
        stages.push(Draft { spec, kind, values, is_right: diagnostics.len() == before });
    }
    // Mistakes in the structure may mean circles: then what depends on the order can't be checked.
    let drafts = if pipeline.diagnostics.is_empty() { sorted(stages) } else { Vec::new() };
    let drafts = resolve(drafts, pipeline, &mut diagnostics);
    if !diagnostics.is_empty() {
        return Err(Diagnostics::new(pipeline.sources.clone(), diagnostics));
    }
    let stages = drafts.into_iter().map(Draft::finish).collect();
    Ok(Graph { name: pipeline.name.clone(), seed: pipeline.seed, stages })
}

/// A stage while it is checked.
struct Draft<'a> {
    spec: &'a StageSpec,
    kind: &'static dyn Kind,
    values: Values,
    is_right: bool,
}

impl Draft<'_> {
    fn finish(mut self) -> Stage {
        let timeout = self.values.remove("timeout").and_then(|seconds| seconds.as_f64());
        let needs = self
            .spec
            .needs
            .iter()
            .map(|(role, (stage, _))| (role.clone(), stage.clone()))
            .collect();
        Stage { name: self.spec.name.clone(), kind: self.kind, values: self.values, needs, timeout }
    }
}

fn find(kinds: &'static Kinds, name: &str) -> Option<&'static dyn Kind> {
    kinds.iter().copied().find(|kind| kind.name() == name)
}

fn names(kinds: &'static Kinds) -> impl Iterator<Item = &'static str> {
    kinds.iter().map(|kind| kind.name())
}

fn unknown_kind(spec: &StageSpec, kinds: &'static Kinds) -> Diagnostic {
    let help = did_you_mean(&spec.kind, names(kinds))
        .unwrap_or_else(|| one_of("the kinds are", names(kinds)));
    let label = if spec.kind == spec.name {
        "a stage's kind is its name unless `kind` says otherwise"
    } else {
        ""
    };
    Diagnostic::new(format!("there is no kind of stage named `{}`", spec.kind))
        .at(spec.kind_origin.clone())
        .label(label)
        .help(help)
}

fn did_you_mean<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    nearest(wanted, names).map(|name| format!("did you mean `{name}`?"))
}

fn one_of<'a>(words: &str, names: impl Iterator<Item = &'a str>) -> String {
    format!("{words} {}", names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
}

/// `[dataset]` is one table for all stages: it is checked once, against what any kind reads. What no stage of this
/// pipeline reads needn't be given.
fn check_dataset(
    pipeline: &Pipeline,
    kinds: &'static Kinds,
    diagnostics: &mut Vec<Diagnostic>,
) -> Values {
    let used: BTreeSet<&str> = pipeline.stages.iter().map(|stage| stage.kind.as_str()).collect();
    let mut declared: Vec<KeyDecl> = Vec::new();
    for kind in kinds {
        for parameter in kind.dataset() {
            let is_used = used.contains(kind.name());
            match declared.iter_mut().find(|known| known.name == parameter.name) {
                Some(known) if is_used => *known = *parameter,
                Some(_) => {}
                None if is_used || parameter.default != DefaultValue::Required => {
                    declared.push(*parameter)
                }
                None => declared.push(KeyDecl { default: DefaultValue::Absent, ..*parameter }),
            }
        }
    }
    check("dataset", &pipeline.dataset, &declared, diagnostics)
}

/// A stage's own parameters, with what its kind reads of `[dataset]`.
fn check_values(
    spec: &StageSpec,
    kind: &dyn Kind,
    dataset: &Values,
    diagnostics: &mut Vec<Diagnostic>,
) -> Values {
    let declared: Vec<KeyDecl> = kind.parameters().iter().chain(COMMON).copied().collect();
    let mut values =
        check(&format!("stages.{}", spec.name), &spec.parameters, &declared, diagnostics);
    if !kind.dataset().is_empty() {
        let read = |name: &str| kind.dataset().iter().any(|parameter| parameter.name == name);
        let part = dataset
            .iter()
            .filter(|(name, _)| read(name))
            .map(|(name, value)| (name.clone(), value.clone()));
        values.insert("dataset".to_owned(), Json::Object(part.collect()));
    }
    values
}

fn check_needs(
    spec: &StageSpec,
    kind: &dyn Kind,
    pipeline: &Pipeline,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let inputs = kind.inputs();
    for (role, (feeder, origin)) in &spec.needs {
        let Some(input) = inputs.iter().find(|input| input.role == role) else {
            diagnostics.push(unknown_role(spec, role, inputs));
            continue;
        };
        // A stage that isn't there is told by the spec already.
        let feeder_kind = pipeline
            .stages
            .iter()
            .find(|stage| stage.name == *feeder)
            .map(|stage| stage.kind.as_str());
        if let Some(found) = feeder_kind.filter(|found| !input.kinds.contains(found)) {
            let message = format!(
                "`{feeder}` can't feed `{role}` of `{}`: it is a `{found}` stage",
                spec.name
            );
            let label = format!("expected a stage of kind {}", either(input.kinds));
            diagnostics.push(Diagnostic::new(message).at(origin.clone()).label(label));
        }
    }
    for input in
        inputs.iter().filter(|input| input.required && !spec.needs.contains_key(input.role))
    {
        diagnostics.push(missing_input(spec, input, pipeline));
    }
}

fn either(kinds: &[&str]) -> String {
    kinds.iter().map(|kind| format!("`{kind}`")).collect::<Vec<_>>().join(" or ")
}

fn unknown_role(spec: &StageSpec, role: &str, inputs: &[Input]) -> Diagnostic {
    let roles = || inputs.iter().map(|input| input.role);
    let help = match inputs {
        [] => "it takes no inputs".to_owned(),
        _ => did_you_mean(role, roles()).unwrap_or_else(|| one_of("its inputs are", roles())),
    };
    let diagnostic =
        Diagnostic::new(format!("a `{}` stage has no input named `{role}`", spec.kind)).help(help);
    diagnostic.at(spec.role_origins.get(role).cloned().unwrap_or_else(|| spec.name_origin.clone()))
}

fn missing_input(spec: &StageSpec, input: &Input, pipeline: &Pipeline) -> Diagnostic {
    let fits =
        |stage: &&StageSpec| input.kinds.contains(&stage.kind.as_str()) && stage.name != spec.name;
    let help = match pipeline.stages.iter().find(fits) {
        Some(stage) => format!("add `needs = {{ {} = \"{}\" }}`", input.role, stage.name),
        None => format!("add a stage of kind {} and name it in `needs`", either(input.kinds)),
    };
    Diagnostic::new(format!("`{}` needs `{}`: {}", spec.name, input.role, input.doc))
        .at(spec.name_origin.clone())
        .label(format!("no stage feeds `{}`", input.role))
        .help(help)
}

/// Each after what it needs, in the file's order where that leaves it free. What is needed and isn't there doesn't count.
fn sorted(mut waiting: Vec<Draft>) -> Vec<Draft> {
    let mut placed: Vec<Draft> = Vec::with_capacity(waiting.len());
    loop {
        let is_open = |name: &String| waiting.iter().any(|draft| draft.spec.name == *name);
        let next = waiting
            .iter()
            .position(|draft| !draft.spec.needs.values().any(|(stage, _)| is_open(stage)));
        match next {
            Some(next) => placed.push(waiting.remove(next)),
            // Nothing waits any more, or (never, in a pipeline without diagnostics) a circle.
            None => return placed,
        }
    }
}

/// Lets each kind resolve presets and check rules across parameters, those above first, so that it sees what feeds it.
fn resolve<'a>(
    drafts: Vec<Draft<'a>>,
    pipeline: &Pipeline,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Draft<'a>> {
    let mut done: Vec<Draft> = Vec::with_capacity(drafts.len());
    for mut draft in drafts {
        if draft.is_right {
            let feeds = draft.spec.needs.iter().filter_map(|(role, (stage, _))| {
                let above =
                    done.iter().find(|above| above.spec.name == *stage && above.is_right)?;
                let feed = Feed {
                    stage: &above.spec.name,
                    kind: above.kind.name(),
                    values: &above.values,
                };
                Some((role.as_str(), feed))
            });
            let mut complaints = Complaints {
                pipeline,
                stage: draft.spec,
                feeding: feeds.collect(),
                list: Vec::new(),
            };
            draft.kind.resolve(&mut draft.values, &mut complaints);
            draft.is_right = complaints.list.is_empty();
            diagnostics.append(&mut complaints.list);
        }
        done.push(draft);
    }
    done
}
