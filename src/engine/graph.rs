//! Checks a pipeline against the kinds: from stages as they are written to a graph of stages with
//! resolved values. All diagnostics are reported together, before anything runs.

use super::kind::{Checked, Feed, KindRef, Kinds, Resolver};
use super::{Common, Input, Resources, Retries};
use crate::common::nearest;
use crate::config::{
    DefaultValue, Diagnostic, Diagnostics, KeyDecl, KeyType, Keys, Location, Pipeline, StageTable,
    Table, Values, check, significant,
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
    pub kind: KindRef,
    /// Its parameters, checked, defaults filled in, presets resolved; what it reads of `[dataset]`
    /// under "dataset".
    pub values: Values,
    /// Role -> name of the stage that feeds it.
    pub needs: BTreeMap<String, String>,
    /// Role -> the file or folder of that stage's output that is needed, where it isn't all of it.
    pub inside: BTreeMap<String, String>,
    /// Seconds after which it is stopped.
    pub timeout: Option<f64>,
    /// What it takes of the machine.
    pub resources: Resources,
    /// How it is tried again after a failure that may pass.
    pub retries: Retries,
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
    /// Values that affect the output and aren't at their default, by dotted key.
    pub(super) fn significant(&self) -> BTreeMap<String, Json> {
        let mut own = self.values.clone();
        let dataset = own.remove("dataset");
        let mut list = significant(&own, self.kind.keys());
        if let Some(Json::Object(dataset)) = dataset {
            // A kind may read fewer keys of `[dataset]` than are declared together.
            let read = self.kind.dataset().iter().filter(|key| dataset.contains_key(key.name));
            let inner = significant(&dataset, &read.copied().collect::<Vec<_>>());
            list.extend(inner.into_iter().map(|(path, value)| (format!("dataset.{path}"), value)));
        }
        list
    }
}

/// Checks a pipeline against the kinds.
///
/// # Errors
/// All diagnostics, those about the file's structure included.
pub fn graph(pipeline: &Pipeline, kinds: &'static Kinds) -> Result<Graph, Diagnostics> {
    let mut diagnostics = pipeline.diagnostics.clone();
    let dataset = Dataset::check(pipeline, kinds, &mut diagnostics);
    let mut drafts = Vec::new();
    for spec in &pipeline.stages {
        let Some(kind) = find(kinds, &spec.kind) else {
            diagnostics.push(unknown_kind(spec, kinds));
            continue;
        };
        drafts.push(Draft::check(spec, kind, pipeline, &mut diagnostics));
    }
    // Errors in the structure may mean cycles: then what depends on the order can't be checked.
    let drafts = if pipeline.diagnostics.is_empty() { sorted(drafts) } else { Vec::new() };
    let stages = resolve(drafts, &dataset, &mut diagnostics);
    if !diagnostics.is_empty() {
        return Err(Diagnostics::new(pipeline.sources.clone(), diagnostics));
    }
    Ok(Graph { name: pipeline.name.clone(), seed: pipeline.seed, stages })
}

/// A stage whose keys were checked one by one.
struct Draft<'a> {
    spec: &'a StageTable,
    kind: KindRef,
    values: Values,
    /// `None` where a key of the stage is wrong.
    common: Option<Common>,
}

impl<'a> Draft<'a> {
    fn check(
        spec: &'a StageTable,
        kind: KindRef,
        pipeline: &Pipeline,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Draft<'a> {
        let before = diagnostics.len();
        check_needs(spec, kind, pipeline, diagnostics);
        let declared: Vec<KeyDecl> = kind.keys().iter().chain(Common::KEYS).copied().collect();
        let at = format!("stages.{}", spec.name);
        let mut values = check(&at, &spec.keys, &declared, diagnostics);
        let is_right = diagnostics.len() == before && !spec.keys.is_broken();
        let common = Common::KEYS.iter().filter_map(|key| values.remove_entry(key.name)).collect();
        let common = is_right.then(|| common_of(common));
        Draft { spec, kind, values, common }
    }
}

/// The keys that every stage has, from values that were checked.
fn common_of(values: Values) -> Common {
    Common::resolved(Common::given(Some(values.into()), &Location::nowhere()))
}

/// `[dataset]`: one table for all stages, checked once, against the keys that any kind reads.
struct Dataset<'a> {
    table: &'a Table,
    values: Values,
    is_right: bool,
}

impl<'a> Dataset<'a> {
    fn check(
        pipeline: &'a Pipeline,
        kinds: &'static Kinds,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Dataset<'a> {
        let before = diagnostics.len();
        let declared = dataset_keys(pipeline, kinds);
        let table = &pipeline.dataset;
        let values = check("dataset", table, &declared, diagnostics);
        let is_right = diagnostics.len() == before && !table.is_broken();
        Dataset { table, values, is_right }
    }

    /// The part that a kind reads.
    fn of(&self, kind: KindRef, stage: &StageTable) -> Checked<'a> {
        let reads = |name: &str| kind.dataset().iter().any(|key| key.name == name);
        let values = self.values.iter().filter(|(name, _)| reads(name));
        let values = values.map(|(name, value)| (name.clone(), value.clone())).collect();
        Checked { values, table: self.table, fallback: Some(stage.name_origin.clone()) }
    }
}

/// The keys of `[dataset]` that the kinds declare. What no stage of this pipeline reads isn't
/// required.
fn dataset_keys(pipeline: &Pipeline, kinds: &'static Kinds) -> Vec<KeyDecl> {
    let used: BTreeSet<&str> = pipeline.stages.iter().map(|stage| stage.kind.as_str()).collect();
    let mut declared: Vec<KeyDecl> = Vec::new();
    for kind in kinds {
        let is_used = used.contains(kind.name());
        for key in kind.dataset() {
            match declared.iter_mut().find(|known| known.name == key.name) {
                Some(known) if is_used => *known = *key,
                Some(_) => {}
                None if is_used || key.default != DefaultValue::Required => declared.push(*key),
                None => declared.push(KeyDecl { default: DefaultValue::Absent, ..*key }),
            }
        }
    }
    declared
}

/// A draft that was resolved, or that has diagnostics: then nothing that needs it is resolved.
struct Done<'a> {
    draft: Draft<'a>,
    stage: Option<Stage>,
}

/// Resolves each stage, those above first, so that a kind sees what feeds it.
fn resolve(drafts: Vec<Draft>, dataset: &Dataset, diagnostics: &mut Vec<Diagnostic>) -> Vec<Stage> {
    let mut done: Vec<Done> = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let reads_dataset = !draft.kind.dataset().is_empty();
        let is_right = draft.common.is_some() && (dataset.is_right || !reads_dataset);
        let stage = if is_right { resolve_one(&draft, &done, dataset, diagnostics) } else { None };
        done.push(Done { draft, stage });
    }
    done.into_iter().filter_map(|done| done.stage).collect()
}

fn resolve_one(
    draft: &Draft,
    done: &[Done],
    dataset: &Dataset,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Stage> {
    let feeding = draft.spec.needs.iter().filter_map(|(role, (name, _))| {
        let above = done.iter().find(|above| above.draft.spec.name == *name)?;
        let stage = above.stage.as_ref()?;
        Some((role.as_str(), Feed { stage: name, kind: above.draft.kind, values: &stage.values }))
    });
    let mut resolver =
        Resolver { stage: draft.spec, feeding: feeding.collect(), diagnostics: Vec::new() };
    let keys = Checked {
        values: draft.values.clone(),
        table: &draft.spec.keys,
        fallback: Some(draft.spec.name_origin.clone()),
    };
    let values = draft.kind.resolve(keys, dataset.of(draft.kind, draft.spec), &mut resolver);
    let reported = !resolver.diagnostics.is_empty();
    diagnostics.append(&mut resolver.diagnostics);
    let values = match values {
        Some(values) if !reported => values,
        None if !reported => panic!("`{}` resolved to nothing and didn't say why", draft.spec.name),
        _ => return None,
    };
    let needs = draft.spec.needs.iter();
    let Common { timeout, resources, retries } = draft.common.clone()?;
    Some(Stage {
        name: draft.spec.name.clone(),
        kind: draft.kind,
        values,
        needs: needs.map(|(role, (stage, _))| (role.clone(), stage.clone())).collect(),
        inside: draft.spec.inside.clone(),
        timeout,
        resources,
        retries: Retries::of(retries),
    })
}

fn find(kinds: &'static Kinds, name: &str) -> Option<KindRef> {
    kinds.iter().copied().find(|kind| kind.name() == name)
}

fn names(kinds: &'static Kinds) -> impl Iterator<Item = &'static str> {
    kinds.iter().map(|kind| kind.name())
}

fn unknown_kind(spec: &StageTable, kinds: &'static Kinds) -> Diagnostic {
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

fn check_needs(
    spec: &StageTable,
    kind: KindRef,
    pipeline: &Pipeline,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let inputs = kind.inputs();
    for (role, (feeder, origin)) in &spec.needs {
        let Some(input) = kind.input(role) else {
            diagnostics.push(unknown_role(spec, role, inputs));
            continue;
        };
        // A stage that isn't there was reported when the file was read.
        let feeder_kind = pipeline
            .stages
            .iter()
            .find(|stage| stage.name == *feeder)
            .map(|stage| stage.kind.as_str());
        let fits = |found: &str| input.kinds.is_empty() || input.kinds.contains(&found);
        if let Some(found) = feeder_kind.filter(|found| !fits(found)) {
            let message = format!(
                "`{feeder}` can't feed `{role}` of `{}`: it is a `{found}` stage",
                spec.name
            );
            let label = format!("expected a stage of kind {}", either(input.kinds));
            diagnostics.push(Diagnostic::new(message).at(origin.clone()).label(label));
            continue;
        }
        let is_whole = feeder_kind.is_some_and(|found| !input.parts.allow(found));
        if let Some(path) = spec.inside.get(role).filter(|_| is_whole) {
            diagnostics.push(whole_output(spec, role, feeder, path).at(origin.clone()));
        }
    }
    for input in
        inputs.iter().filter(|input| input.required && !spec.needs.contains_key(input.role))
    {
        diagnostics.push(missing_input(spec, input, pipeline));
    }
}

/// A path in `needs` of an input that is read as a whole.
fn whole_output(spec: &StageTable, role: &str, feeder: &str, path: &str) -> Diagnostic {
    Diagnostic::new(format!("`{role}` of `{}` can't be `{path}` of `{feeder}`", spec.name))
        .label("expected a stage without a path: its whole output is read")
        .help(format!("write `{role} = \"{feeder}\"`"))
}

fn either(kinds: &[&str]) -> String {
    kinds.iter().map(|kind| format!("`{kind}`")).collect::<Vec<_>>().join(" or ")
}

fn unknown_role(spec: &StageTable, role: &str, inputs: &[Input]) -> Diagnostic {
    let roles = || inputs.iter().map(|input| input.role);
    let help = match inputs {
        [] => "it takes no inputs".to_owned(),
        _ => did_you_mean(role, roles()).unwrap_or_else(|| one_of("its inputs are", roles())),
    };
    let diagnostic =
        Diagnostic::new(format!("a `{}` stage has no input named `{role}`", spec.kind)).help(help);
    diagnostic.at(spec.role_origins.get(role).cloned().unwrap_or_else(|| spec.name_origin.clone()))
}

fn missing_input(spec: &StageTable, input: &Input, pipeline: &Pipeline) -> Diagnostic {
    let fits =
        |stage: &&StageTable| input.kinds.contains(&stage.kind.as_str()) && stage.name != spec.name;
    let help = match pipeline.stages.iter().find(fits) {
        Some(stage) => format!("add `needs = {{ {} = \"{}\" }}`", input.role, stage.name),
        None => format!("add a stage of kind {} and name it in `needs`", either(input.kinds)),
    };
    Diagnostic::new(format!("`{}` needs an input `{}`", spec.name, input.role))
        .at(spec.name_origin.clone())
        .label(format!("no stage feeds `{}`", input.role))
        .help(help)
}

/// Each after what it needs, in the file's order where that leaves it free. What is needed and
/// isn't there doesn't count.
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
