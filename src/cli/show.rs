//! `pipe show RUN`: prints the stages, parameters and metrics of one run.

use super::failure::Failure;
use super::shared::{StoreArguments, find_run, intact, shown, stage_of};
use super::summary::{self, MODEL, PREDICTIONS, REPORT};
use crate::common::number;
use crate::common::words::or_list;
use crate::metrics::{Evaluation, SplitMetrics};
use crate::runs::{self, Entry, Record, Results, StageRecord, Timestamp};
use crate::stages::makes_models;
use crate::store::{Digest, Store};
use crate::ui::{self, Side, Style, Table};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

/// Show one run: its stages, parameters and metrics
#[derive(Args)]
#[command(
    after_help = "Examples:\n  pipe show @0             the latest run\n  pipe show k3f --json     everything on record, as JSON"
)]
pub(super) struct Arguments {
    /// The run: an id, a unique prefix of one, @0, @1, …
    #[arg(value_name = "RUN")]
    run: String,
    #[command(flatten)]
    store: StoreArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let store = arguments.store.open_existing()?;
    let record = find_run(&store, &arguments.run)?;
    if arguments.json {
        let evaluations = Results::of(&record).with_store(&store).evaluations();
        let metrics: Vec<_> = evaluations
            .iter()
            .map(|(stage, metrics)| json!({ "stage": stage.stage, "metrics": metrics }))
            .collect();
        let model = model_of(&store, &record, None).ok();
        ui::json(
            &json!({ "run": record, "evaluations": metrics, "folder": record.folder, "model": model }),
        )?;
    } else {
        ui::out(&text(Style::stdout(), &store, &record))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The model file of a run, built in it or cached: that of `stage`, else of its only train stage.
pub(super) fn model_of(
    store: &Store,
    record: &Record,
    stage: Option<&str>,
) -> Result<PathBuf, Failure> {
    Ok(model_stage_of(store, record, stage)?.1)
}

/// The same with its stage.
fn model_stage_of<'a>(
    store: &Store,
    record: &'a Record,
    stage: Option<&str>,
) -> Result<(&'a StageRecord, PathBuf), Failure> {
    if let Some(name) = stage {
        stage_of(record, name)?;
    }
    match models_of(store, record, stage)?.as_slice() {
        [(facts, path)] => Ok((facts, path.clone())),
        [] => Err(Failure::failed(format!("run {} has no model in this store", record.id)).help(format!(
            "it failed before training, or garbage collection removed the model: `pipe run {}` trains it again",
            record.file
        ))),
        several => {
            let names = or_list(several.iter().map(|(facts, _)| facts.stage.as_str()));
            Err(Failure::invalid(format!("run {} has several models", record.id))
                .help(format!("choose one with `--stage`: {names}")))
        }
    }
}

/// The same after reading it: a damaged one is quarantined.
pub(super) fn intact_model_of(
    store: &Store,
    record: &Record,
    stage: Option<&str>,
) -> Result<PathBuf, Failure> {
    Ok(intact_model_stage_of(store, record, stage)?.1)
}

/// The same with its stage.
pub(super) fn intact_model_stage_of<'a>(
    store: &Store,
    record: &'a Record,
    stage: Option<&str>,
) -> Result<(&'a StageRecord, PathBuf), Failure> {
    let (facts, file) = model_stage_of(store, record, stage)?;
    let digest = facts.digest.as_ref().and_then(|digest| digest.parse::<Digest>().ok());
    match digest.map(|digest| intact(store, &digest, &[MODEL])).transpose()?.flatten() {
        Some(_) => Ok((facts, file)),
        None => Err(Failure::failed(format!("the model of run {} was damaged", record.id))
            .help(format!("`pipe run {}` trains it again", record.file))),
    }
}

/// The models of a run that are in the store: those of its train stages, or that of `stage`.
fn models_of<'a>(
    store: &Store,
    record: &'a Record,
    stage: Option<&str>,
) -> Result<Vec<(&'a StageRecord, PathBuf)>, Failure> {
    let is_wanted = |facts: &&StageRecord| {
        stage.map_or_else(|| makes_models(&facts.kind), |name| facts.stage == name)
    };
    let mut found = Vec::new();
    for facts in record.stages.iter().filter(is_wanted) {
        let Some(digest) = facts.digest.as_ref().and_then(|digest| digest.parse::<Digest>().ok())
        else {
            continue;
        };
        let Some(artifact) = store.artifact(&digest)? else { continue };
        if artifact.manifest.files.iter().any(|file| file.path == MODEL) {
            found.push((facts, artifact.path.join(MODEL)));
        }
    }
    Ok(found)
}

/// The run called `wanted`, for its model: `@0` is the latest run that has one, `@1` the one before.
pub(super) fn run_with_model(
    store: &Store,
    wanted: &str,
    stage: Option<&str>,
) -> Result<Record, Failure> {
    let number = wanted.strip_prefix('@').and_then(|number| number.parse::<usize>().ok());
    let Some(number) = number else {
        return Ok(runs::find(&store.runs_folder(), wanted)?);
    };
    let has_model = |entry: &Entry| {
        models_of(store, entry.record(), stage).is_ok_and(|models| !models.is_empty())
    };
    match runs::list(&store.runs_folder()).into_iter().filter(has_model).nth(number) {
        Some(entry) => Ok(entry.into_record()),
        // The error of a run without a model says more than that there are too few of them.
        None => Ok(runs::find(&store.runs_folder(), wanted)?),
    }
}

/// The same, with a warning if it isn't the run that `wanted` names elsewhere.
pub(super) fn announced_run_with_model(
    store: &Store,
    wanted: &str,
    stage: Option<&str>,
) -> Result<Record, Failure> {
    let record = run_with_model(store, wanted, stage)?;
    if !runs::find(&store.runs_folder(), wanted).is_ok_and(|named| named.id == record.id) {
        let run = &record.id;
        ui::warning(&format!("`{wanted}` is run {run} here: later runs have no model"));
    }
    Ok(record)
}

/// The predictions of a run's evaluations, as long as they are in the store.
fn predictions_of(store: &Store, record: &Record) -> Vec<PathBuf> {
    let results = Results::of(record).with_store(store);
    let artifacts = record.stages.iter().filter_map(|stage| results.artifact(&stage.stage));
    artifacts.map(|folder| folder.join(PREDICTIONS)).filter(|path| path.is_file()).collect()
}

fn text(style: Style, store: &Store, record: &Record) -> String {
    let mut facts = vec![
        ("run", style.bold(record.id.as_str())),
        ("pipeline", format!("{} ({})", record.pipeline, record.file)),
        ("started", format!("{} ({})", record.started, record.started.ago(Timestamp::now()))),
        ("status", format!("{} after {}", record.status, number::seconds(record.seconds))),
        ("seed", record.seed.to_string()),
    ];
    let device = &record.machine.device;
    facts.extend((device != "cpu").then(|| ("device", device.clone())));
    facts.extend(record.overrides.iter().map(|pair| ("set", pair.clone())));
    let page = record.folder.join(REPORT);
    facts.extend(page.exists().then(|| ("report", shown(&page))));
    facts.extend(model_of(store, record, None).ok().map(|path| ("model", shown(&path))));
    facts.extend(predictions_of(store, record).iter().map(|path| ("predictions", shown(path))));
    let mut text: String = facts.iter().map(|(name, fact)| format!("{name:<13}{fact}\n")).collect();
    if let Some((stage, error)) = record.error() {
        text.push_str(&format!("\n{} stage `{stage}`: {error}\n", style.bad("failed:")));
    }
    let (stages, notes) = (stages(style, record), notes(record));
    text.push_str(&format!("\n{stages}{notes}\n{}", parameters(style, record)));
    for (stage, evaluation) in Results::of(record).with_store(store).evaluations() {
        text.push_str(&format!("\n{}\n", style.bold(&stage.stage)));
        text.push_str(&splits(style, &evaluation));
        text.push_str(&format!("\n{}", classes(style, &evaluation)));
    }
    for (at, headline) in summary::headlines(store, record).iter().enumerate() {
        let gap = if at == 0 { "\n" } else { "" };
        text.push_str(&format!("{gap}{}\n", style.bold(headline)));
    }
    text
}

fn stages(style: Style, record: &Record) -> String {
    let mut table = Table::new([
        ("stage", Side::Left),
        ("kind", Side::Left),
        ("outcome", Side::Left),
        ("took", Side::Right),
        ("output", Side::Left),
        ("why", Side::Left),
    ]);
    for stage in &record.stages {
        let outcome = stage.outcome.and_then(|outcome| serde_json::to_value(outcome).ok());
        let outcome =
            outcome.as_ref().and_then(|outcome| outcome.as_str()).unwrap_or("-").to_owned();
        let took = if stage.seconds > 0.0 { number::seconds(stage.seconds) } else { String::new() };
        let output: String = stage.digest.as_deref().unwrap_or("").chars().take(12).collect();
        table.row([stage.stage.clone(), stage.kind.clone(), outcome, took, output, stage.why()]);
    }
    table.render(style)
}

/// The tries that failed before the last one of each stage, outputs that differ from earlier ones of
/// the same key, and undeclared writes, one line each.
fn notes(record: &Record) -> String {
    let of_stage = |stage: &StageRecord| {
        let line = |(at, attempt): (usize, &runs::Attempt)| {
            let (number, took) = (at + 1, number::seconds(attempt.seconds));
            let error = attempt.error.lines().next().unwrap_or_default();
            let error = error.trim_end_matches("; its output ends with");
            format!("{}: try {number} failed after {took}: {error}\n", stage.stage)
        };
        let differs = stage.not_reproducible.iter();
        let differs = differs.map(|found| format!("{}: not reproducible: {found}\n", stage.stage));
        let writes = stage.undeclared_writes.iter();
        let writes = writes.map(|writes| format!("{}: {writes}\n", stage.stage));
        let lines = stage.attempts.iter().enumerate().map(line);
        lines.chain(differs).chain(writes).collect::<String>()
    };
    record.stages.iter().map(of_stage).collect()
}

/// Every parameter with its resolved value, one row each.
fn parameters(style: Style, record: &Record) -> String {
    let mut table = Table::new([("parameter", Side::Left), ("value", Side::Left)]);
    for stage in &record.stages {
        add_values(&stage.stage, &Value::Object(stage.parameters.clone()), &mut table);
    }
    table.render(style)
}

/// Adds a row for each value of a nested table, under its dotted name.
fn add_values(name: &str, value: &Value, table: &mut Table) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields
                .iter()
                .for_each(|(field, value)| add_values(&format!("{name}.{field}"), value, table));
        }
        value => table.row([name.to_owned(), value.to_string()]),
    }
}

pub(super) fn splits(style: Style, evaluation: &Evaluation) -> String {
    let any = |value: fn(&SplitMetrics) -> Option<f64>| {
        evaluation.splits.values().any(|split| value(split).is_some())
    };
    let (has_top5, has_curves) = (any(SplitMetrics::top5), any(|split| split.roc_auc));
    let columns = [
        Some(("split", Side::Left)),
        Some(("images", Side::Right)),
        Some(("accuracy", Side::Right)),
        Some(("95 % interval", Side::Left)),
        has_top5.then_some(("top 5", Side::Right)),
        Some(("loss", Side::Right)),
        Some(("macro F1", Side::Right)),
        has_curves.then_some(("ROC AUC", Side::Right)),
        has_curves.then_some(("average precision", Side::Right)),
        has_curves.then_some(("calibration error", Side::Right)),
    ];
    let mut table = Table::new(columns.into_iter().flatten());
    let share = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number::percent);
    for (name, split) in &evaluation.splits {
        let [low, high] = split.accuracy_interval;
        let cells = [
            Some(name.clone()),
            Some(number::thousands(split.count)),
            Some(number::percent(split.accuracy)),
            Some(format!("{} to {}", number::percent(low), number::percent(high))),
            has_top5.then(|| share(split.top5())),
            Some(number::measured(split.loss)),
            Some(number::percent(split.macro_average.f1)),
            has_curves.then(|| share(split.roc_auc)),
            has_curves.then(|| share(split.average_precision)),
            has_curves.then(|| share(split.calibration_error)),
        ];
        table.row(cells.into_iter().flatten());
    }
    table.render(style)
}

/// The metrics of each class on the test split, else on the first one.
pub(super) fn classes(style: Style, evaluation: &Evaluation) -> String {
    let Some((name, split)) =
        evaluation.splits.get_key_value("test").or_else(|| evaluation.splits.first_key_value())
    else {
        return String::new();
    };
    let heading = format!("class ({name})");
    let numbers = ["precision", "recall", "F1", "images"].map(|name| (name, Side::Right));
    let mut table = Table::new([(heading.as_str(), Side::Left)].into_iter().chain(numbers));
    for class in &split.per_class {
        // Without images of the class nothing is known of it.
        let share = |value: f64| match class.support {
            0 => "-".to_owned(),
            _ => number::percent(value),
        };
        let shares = [class.precision, class.recall, class.f1].map(share);
        let cells = [class.class.clone()]
            .into_iter()
            .chain(shares)
            .chain([number::thousands(class.support)]);
        table.row(cells);
    }
    table.render(style)
}
