//! `pipe run FILE`: reads, plans, runs, records, and says at the end what came of it. Knows the order of these steps and
//! none of their inner workings.

use super::closing;
use super::earlier_models;
use super::failure::{Failure, INTERRUPTED};
use super::plan;
use super::shared::{Earlier, PipelineArguments, StoreArguments, shown};
use super::signals;
use crate::config::Pipeline;
use crate::engine::{self, Device, Force, Graph, Options, Plan, Report, State};
use crate::events::{CancellationToken, Event, RunOutcome};
use crate::report;
use crate::runs::{self, Recorder, Results, RunFacts, RunId, Source, StageFacts};
use crate::store::Store;
use crate::ui::{self, OutputMode, Reporter};
use clap::Args;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

/// How many stages run at a time unless something else is said: they share the machine's cores.
const JOBS: NonZeroUsize = NonZeroUsize::new(4).unwrap();

/// Run what isn't up to date of a pipeline, from images to metrics
///
/// A stage runs only if something that affects its output changed: its parameters, the content of its inputs, its code.
/// What was made before is taken from the store, whoever made it. A run in which nothing has to run says so at once.
#[derive(Args)]
#[command(after_help = "Examples:
  pipe run pipelines/quickstart.toml
  pipe run photos.toml --set stages.train.epochs=3       change a key for this run alone
  pipe run photos.toml --dry-run                         only say what would run, and why
  pipe run photos.toml --until preprocess                stop after a stage
  pipe run photos.toml --force=train                     run a stage again though it is fresh
  pipe run photos.toml --json                            one JSON object a line, for programs

Ctrl-C stops at the next step and keeps what was committed; a second Ctrl-C stops at once.")]
pub(super) struct Arguments {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// Run only this stage and what it needs; may be given often
    #[arg(long, value_name = "STAGE")]
    until: Vec<String>,
    /// Run this stage and all that need it, though they may be fresh
    #[arg(long, value_name = "STAGE")]
    from: Option<String>,
    /// Run stages though they are fresh: all, or the one that is named; may be given often
    #[arg(long, value_name = "STAGE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    force: Vec<String>,
    /// Only say what would run, and why
    #[arg(long)]
    dry_run: bool,
    /// Look anew at what lies on the web: it was remembered from the first look on, and isn't asked for again otherwise
    #[arg(long)]
    refresh: bool,
    /// How many stages may run at a time [default: 4]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// How many threads a stage may keep busy [default: the number of cores]. Never changes a result
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// When a stage fails, go on with those that don't need it
    #[arg(long)]
    keep_going: bool,
    /// What computes: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: Device,
    #[command(flatten)]
    store: StoreArguments,
    /// Print events as JSON, one object a line
    #[arg(long)]
    json: bool,
}

impl Arguments {
    fn options(&self) -> Options {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let force = match self.force.as_slice() {
            [] => Force::None,
            stages if stages.iter().any(String::is_empty) => Force::All,
            stages => Force::Stages(stages.to_vec()),
        };
        Options {
            until: self.until.clone(),
            from: self.from.clone(),
            force,
            jobs: self.jobs.unwrap_or(JOBS).get(),
            threads: self.threads.unwrap_or(cores).get(),
            device: self.device,
            keep_going: self.keep_going,
            refresh: self.refresh,
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let (pipeline, mut graph) = arguments.pipeline.read()?;
    let store = arguments.store.open()?;
    let models = earlier_models::find(&mut graph, &store)?;
    let options = arguments.options();
    let cancel = CancellationToken::new();
    signals::raise(&cancel)?;
    let earlier = Earlier::of(&store);
    let plan = engine::plan(&graph, &store, &options, &earlier, &cancel)?;
    if arguments.dry_run {
        plan::print(&graph, &plan, arguments.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let quiet = plan.stages.iter().all(|stage| matches!(stage.state, State::Fresh { .. }))
        && options.force == Force::None
        && options.from.is_none();
    let mode = if arguments.json { OutputMode::Json } else { OutputMode::Text { quiet } };
    let mut reporter = Reporter::new(mode);
    let mut facts = facts(arguments, &pipeline, &graph, &plan, &options);
    facts.stages.iter_mut().for_each(|stage| models.name_in(stage));
    let mut recorder = Recorder::start(&store.runs_folder(), facts);
    let report = engine::execute(&graph, plan, &store, &options, &cancel, &mut |event| {
        // How the run ended is told below, when it is recorded and its id is known.
        if !matches!(event, Event::RunFinished { .. }) {
            recorder.record(event);
            reporter.handle(event);
        }
    })?;
    let mut stages: Vec<StageFacts> = report.stages.iter().map(stage_facts).collect();
    stages.iter_mut().for_each(|stage| models.name_in(stage));
    let id = close(recorder, &mut reporter, &report, stages, &store)?;
    if !arguments.json {
        closing::print(&store, &report, id.as_ref(), &arguments.pipeline.file)?;
    }
    Ok(exit_code(report.outcome))
}

/// What is known of a run before it starts.
fn facts(
    arguments: &Arguments,
    pipeline: &Pipeline,
    graph: &Graph,
    plan: &Plan,
    options: &Options,
) -> RunFacts {
    let stages = plan.stages.iter().filter_map(|planned| {
        let stage = graph.stages.iter().find(|stage| stage.name == planned.stage)?;
        Some(StageFacts {
            stage: stage.name.clone(),
            kind: stage.kind.name().to_owned(),
            needs: stage.needs.clone(),
            parameters: stage.values.clone(),
            ..StageFacts::default()
        })
    });
    RunFacts {
        pipeline: graph.name.clone(),
        file: arguments.pipeline.file.display().to_string(),
        sources: pipeline
            .sources
            .files()
            .map(|(name, text)| Source { name: name.to_owned(), text: text.to_owned() })
            .collect(),
        overrides: arguments.pipeline.overrides.clone(),
        seed: graph.seed,
        device: options.device.to_string(),
        stages: stages.collect(),
    }
}

/// Closes the record, draws the page and tells the last event. The id is that of the run, or, where nothing ran, of the
/// run that it equals.
fn close(
    mut recorder: Recorder,
    reporter: &mut Reporter,
    report: &Report,
    stages: Vec<StageFacts>,
    store: &Store,
) -> Result<Option<RunId>, Failure> {
    let recorded = recorder.id().cloned();
    let id = recorded.clone().or_else(|| equal_run(report, store));
    let run = id.as_ref().map(RunId::to_string);
    let finished = Event::RunFinished { run, outcome: report.outcome, seconds: report.seconds };
    recorder.record(&finished);
    let written = recorder.finish(stages, report.outcome);
    if let Err(error) = &written {
        ui::warning(&format!("the run could not be recorded: {error}"));
    } else if let Some(id) = &recorded {
        // The page is drawn from the record and can be drawn again; the run doesn't fail for it.
        if let Err(failure) = draw(store, id) {
            failure.tell();
        }
    }
    reporter.handle(&finished);
    Ok(id)
}

/// The run on record that had the same stages with the same outputs.
fn equal_run(report: &Report, store: &Store) -> Option<RunId> {
    let digests =
        report.stages.iter().map(|stage| Some((stage.stage.clone(), stage.digest?.to_string())));
    runs::equal(&store.runs_folder(), &digests.collect::<Option<_>>()?)
}

fn stage_facts(stage: &engine::StageReport) -> StageFacts {
    StageFacts {
        stage: stage.stage.clone(),
        kind: stage.kind.to_owned(),
        needs: stage.needs.clone(),
        parameters: stage.values.clone(),
        fingerprint: stage
            .fingerprint
            .as_ref()
            .and_then(|fingerprint| serde_json::to_value(fingerprint).ok()),
        key: stage.key.map(|key| key.to_string()),
        digest: stage.digest.map(|digest| digest.to_string()),
        outcome: Some(stage.outcome),
        reasons: Vec::new(),
        seconds: stage.seconds,
        error: stage.error.clone(),
        artifact: stage.artifact.as_ref().map(|artifact| artifact.path.clone()),
    }
}

/// Draws the page of a run into its folder.
pub(super) fn draw(store: &Store, id: &RunId) -> Result<PathBuf, Failure> {
    let record = runs::find(&store.runs_folder(), id.as_str())?;
    let path = record.folder.join(closing::PAGE);
    let page = report::page(&[Results::of(&record)]);
    std::fs::write(&path, page)
        .map_err(|error| Failure::failed(format!("can't write {}: {error}", shown(&path))))?;
    Ok(path)
}

fn exit_code(outcome: RunOutcome) -> ExitCode {
    match outcome {
        RunOutcome::Ok => ExitCode::SUCCESS,
        RunOutcome::Failed => ExitCode::FAILURE,
        RunOutcome::Cancelled => ExitCode::from(INTERRUPTED),
    }
}
