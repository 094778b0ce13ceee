//! `pipe run FILE`: plans, executes, records and summarizes a run.

use super::cache::{self, LimitArguments};
use super::earlier_models;
use super::elsewhere;
use super::failure::{Failure, INTERRUPTED};
use super::heat_maps;
use super::lock_file::LockFile;
use super::plan;
use super::report::write_page;
use super::shared::{
    DeviceArguments, PipelineArguments, RemoteArguments, StoreArguments, run_name,
};
use super::signals;
use super::summary::{self, Recorded};
use crate::common::number;
use crate::config::Pipeline;
use crate::engine::{self, Device, Force, Graph, MAX_THREADS, Options, Plan, Replay, Report};
use crate::events::{CancellationToken, Event, RunOutcome};
use crate::report;
use crate::runs::{self, Labels, PipelineFile, Recorder, Results, RunId, RunInfo, StageRecord};
use crate::stages::ChosenDevice;
use crate::store::{Artifact, Store};
use crate::ui::{self, OutputMode, Reporter};
use clap::{Args, ValueEnum};
use std::num::NonZeroUsize;
use std::process::ExitCode;

/// The default number of stages that run at a time; they share the cores.
const JOBS: NonZeroUsize = NonZeroUsize::new(4).unwrap();

/// Run the stages of a pipeline that are not up to date
///
/// A stage runs only if its parameters, the content of its inputs or its code version changed;
/// otherwise its output is taken from the store.
#[derive(Args)]
#[command(after_help = "Examples:
  pipe run pipelines/quickstart.toml
  pipe run photos.toml --set stages.train.epochs=3
                                            change a key for this run only
  pipe run photos.toml --dry-run            show what would run, and why
  pipe run photos.toml --until preprocess   stop after a stage
  pipe run photos.toml --force=train        run a stage even if it is fresh
  pipe run photos.toml --json               events as JSON, one object per line
  pipe run photos.toml --cache-from s3://lab/pipe
                                            take outputs that others pushed there

Ctrl-C stops after the current step and keeps completed stages; a second Ctrl-C
stops at once.")]
pub(super) struct Arguments {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// Run only this stage and those it needs (repeatable)
    #[arg(long, value_name = "STAGE")]
    until: Vec<String>,
    /// Run this stage and all that depend on it, even if they are up to date
    #[arg(long, value_name = "STAGE")]
    from: Option<String>,
    /// Run all stages, or only STAGE, even if they are up to date (repeatable)
    #[arg(long, value_name = "STAGE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    force: Vec<String>,
    /// Take the most similar earlier output of STAGE for what changed since, without running it: you
    /// vouch that the change has no effect (repeatable)
    #[arg(long, value_name = "STAGE")]
    accept: Vec<String>,
    /// Show what would run, and why, without running it
    #[arg(long)]
    dry_run: bool,
    /// Check sources on the web for changes; by default they are looked up only once
    #[arg(long)]
    refresh: bool,
    /// Give the run a name, which stands for its id in other commands
    #[arg(long, value_name = "NAME", value_parser = run_name)]
    name: Option<String>,
    /// Add a note to the run
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Fail if a remote source isn't what `pipe.lock` says
    #[arg(long)]
    locked: bool,
    /// Run at most N stages at a time [default: 4]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    jobs: Option<NonZeroUsize>,
    /// Threads per stage, and of all together that ask for some; results don't depend on it
    /// [default: number of cores]
    #[arg(long, value_name = "N", value_parser = thread_count)]
    threads: Option<NonZeroUsize>,
    /// Memory of the stages that ask for some, such as `12GB` [default: what is free]
    #[arg(long, value_name = "SIZE", value_parser = memory_size)]
    memory: Option<u64>,
    /// After a failed stage, continue with those that don't depend on it
    #[arg(long)]
    keep_going: bool,
    /// Which events of stages taken from the store are shown again: full, errors (warnings and errors)
    /// or none; `pipe log` shows all
    #[arg(long, value_name = "WHAT", default_value = "full")]
    replay: ReplayChoice,
    #[command(flatten)]
    device: DeviceArguments,
    #[command(flatten)]
    store: StoreArguments,
    #[command(flatten)]
    remotes: RemoteArguments,
    #[command(flatten)]
    limit: LimitArguments,
    /// Print events as JSON, one object per line
    #[arg(long)]
    json: bool,
}

/// The choices of `--replay`.
#[derive(Clone, Copy, ValueEnum)]
enum ReplayChoice {
    Full,
    Errors,
    None,
}

impl From<ReplayChoice> for Replay {
    fn from(choice: ReplayChoice) -> Replay {
        match choice {
            ReplayChoice::Full => Replay::Full,
            ReplayChoice::Errors => Replay::Errors,
            ReplayChoice::None => Replay::None,
        }
    }
}

/// A number of threads, for clap.
fn thread_count(text: &str) -> Result<NonZeroUsize, String> {
    let count = at_least_one(text)?;
    match count.get() > MAX_THREADS {
        true => Err(format!("at most {MAX_THREADS} threads are possible")),
        false => Ok(count),
    }
}

/// An amount of memory, for clap.
fn memory_size(text: &str) -> Result<u64, String> {
    let bytes = number::parse_bytes(text).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| "expected a size such as `12GB` or `500MB`".to_owned())
}

/// A whole number from 1, for clap.
fn at_least_one(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| {
        "expected a whole number from 1 up; leave the option out for the default".to_owned()
    })
}

impl Arguments {
    fn options(&self, graph: &Graph, device: Device) -> Result<Options, Failure> {
        // Asking the system takes a tenth of a run with nothing to do.
        let is_asked_for = graph.stages.iter().any(|stage| stage.resources.memory.is_some());
        let free = || if is_asked_for { engine::free_memory() } else { None };
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let force = match self.force.as_slice() {
            [] => Force::None,
            stages if stages.iter().any(String::is_empty) => Force::All,
            stages => Force::Stages(stages.to_vec()),
        };
        Ok(Options {
            until: self.until.clone(),
            from: self.from.clone(),
            force,
            accept: self.accept.clone(),
            jobs: self.jobs.unwrap_or(JOBS).get(),
            threads: self.threads.unwrap_or(cores).get(),
            memory: self.memory.or_else(free).unwrap_or(u64::MAX),
            gpus: engine::gpus(device),
            device,
            keep_going: self.keep_going,
            replay: self.replay.into(),
            refresh: self.refresh,
            remotes: self.remotes.caches()?,
        })
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let (pipeline, mut graph) = arguments.pipeline.read()?;
    let assumed = arguments.device.assumed(&pipeline)?;
    let options = arguments.options(&graph, assumed.device)?;
    let limit = arguments.limit.limit()?;
    let store = match arguments.dry_run {
        true => arguments.store.open_for_plan()?,
        false => arguments.store.open()?.into(),
    };
    let models = earlier_models::resolve(&mut graph, &store)?;
    let lock = LockFile::beside(&arguments.pipeline.file)?;
    if arguments.locked {
        lock.check_complete(&graph)?;
    }
    lock.apply(&graph, &store)?;
    let cancel = CancellationToken::new();
    signals::cancel_on_interrupt(&cancel)?;
    let assumed = (options, assumed);
    let (plan, options, device) = planned(arguments, assumed, &pipeline, &graph, &store, &cancel)?;
    if arguments.locked {
        lock.check_same(&graph, &store)?;
    }
    let disk = plan::disk(&graph, &plan, &store);
    if arguments.dry_run {
        plan::print(&graph, &plan, &disk, &store, arguments.json)?;
    }
    plan::check_disk(&graph, &plan, &disk, &store, arguments.dry_run)?;
    engine::check_resources(&pipeline, &graph, &plan, &options)?;
    if arguments.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    let quiet = is_done(&plan, &options);
    let will_run = !quiet;
    let mut info = run_info(arguments, &pipeline, &graph, &plan, device.description);
    info.stages.iter_mut().for_each(|stage| models.name_in(stage));
    let mut recorder = Recorder::start(&store.runs_folder(), info);
    let mut reporter = Reporter::new(match arguments.json {
        true => OutputMode::Json { run: will_run.then(|| recorder.reserved_id().to_string()) },
        false => OutputMode::Text { quiet },
    });
    let report = engine::execute(&graph, plan, &store, &options, &cancel, &mut |event| {
        // The last event is emitted by `close`, which knows the id of the recorded run.
        if !matches!(event, Event::RunFinished { .. }) {
            recorder.record(event);
            reporter.handle(event);
        }
    })?;
    if report.accepted().next().is_some() {
        recorder.record_outputs();
    }
    let before = match recorder.id() {
        Some(_) => None,
        None => record_of_outputs(&mut recorder, &report, &store)?,
    };
    if let Some(pins) = lock.update(&graph, &store, arguments.locked) {
        recorder.keep_lock(&pins);
    }
    let mut stages: Vec<StageRecord> = report.stages.iter().map(stage_record).collect();
    stages.iter_mut().for_each(|stage| models.name_in(stage));
    let _results = match recorder.id() {
        Some(_) => elsewhere::copy_results(&report, &options, &store, &mut stages, &cancel)?,
        None => None,
    };
    let recorded = close(recorder, before, &mut reporter, &report, stages, &store)?;
    if !arguments.json {
        summary::print(&store, &report, &recorded, &arguments.pipeline.file)?;
    }
    if let (Some(limit), Recorded::Now(_)) = (limit, &recorded) {
        // The next run tries again, so its failure doesn't fail this one.
        if let Err(failure) = cache::keep_limit(&store, limit) {
            failure.report();
        }
    }
    Ok(exit_code(report.outcome))
}

/// The plan of the run, with its options and its device. What will be computed is computed on a device
/// that was looked at; a run with nothing to do doesn't load a GPU's driver.
fn planned(
    arguments: &Arguments,
    (options, assumed): (Options, ChosenDevice),
    pipeline: &Pipeline,
    graph: &Graph,
    store: &Store,
    cancel: &CancellationToken,
) -> Result<(Plan, Options, ChosenDevice), Failure> {
    let plan = plan_of_intact(graph, store, &options, cancel);
    if plan.as_ref().is_ok_and(|plan| is_done(plan, &options)) {
        return Ok((plan?, options, assumed));
    }
    let chosen = arguments.device.of(pipeline)?;
    if chosen.device == assumed.device {
        return Ok((plan?, options, chosen));
    }
    let options = arguments.options(graph, chosen.device)?;
    Ok((plan_of_intact(graph, store, &options, cancel)?, options, chosen))
}

/// Whether there is nothing to do.
fn is_done(plan: &Plan, options: &Options) -> bool {
    let is_asked = options.force != Force::None || options.from.is_some() || plan.accepts();
    plan.is_fresh() && !is_asked
}

/// A plan whose results are intact.
fn plan_of_intact(
    graph: &Graph,
    store: &Store,
    options: &Options,
    cancel: &CancellationToken,
) -> Result<Plan, Failure> {
    let plan = plan::make(graph, store, options, cancel)?;
    match has_intact_results(&plan, store)? {
        true => Ok(plan),
        false => Ok(plan::make(graph, store, options, cancel)?),
    }
}

/// Digests the small results of fresh stages that the run will read: the metrics, and if any stage
/// runs, all that go into its record. Damaged artifacts are quarantined. Returns whether all are
/// intact: otherwise the plan is no longer right.
fn has_intact_results(plan: &Plan, store: &Store) -> Result<bool, Failure> {
    let artifacts = plan.stages.iter().filter_map(|planned| planned.state.artifact());
    match plan.is_fresh() {
        true => are_intact(artifacts, &[summary::METRICS], store),
        false => are_intact(artifacts, &runs::recorded_names(), store),
    }
}

/// Digests the files of some names in artifacts. Damaged artifacts are quarantined.
fn are_intact<'a>(
    artifacts: impl Iterator<Item = &'a Artifact>,
    names: &[&str],
    store: &Store,
) -> Result<bool, Failure> {
    let mut all = true;
    for artifact in artifacts {
        all &= store.check(artifact, names, &[])?;
    }
    Ok(all)
}

/// The part of the record that is known before the run starts.
fn run_info(
    arguments: &Arguments,
    pipeline: &Pipeline,
    graph: &Graph,
    plan: &Plan,
    device: String,
) -> RunInfo {
    let stages = plan.stages.iter().filter_map(|planned| {
        let stage = graph.stages.iter().find(|stage| stage.name == planned.name)?;
        Some(StageRecord {
            stage: stage.name.clone(),
            kind: stage.kind.name().to_owned(),
            needs: stage.needs.clone(),
            parameters: stage.values.clone(),
            ..StageRecord::default()
        })
    });
    RunInfo {
        pipeline: graph.name.clone(),
        file: arguments.pipeline.file.display().to_string(),
        pipeline_files: pipeline
            .sources
            .files()
            .map(|(name, text)| PipelineFile { name: name.to_owned(), text: text.to_owned() })
            .collect(),
        overrides: arguments.pipeline.overrides.clone(),
        seed: graph.seed,
        device,
        stages: stages.collect(),
        labels: Labels {
            name: arguments.name.clone().unwrap_or_default(),
            note: arguments.note.clone().unwrap_or_default(),
            ..Labels::default()
        },
    }
}

/// Closes the record, writes the HTML report and emits the last event. If no stage ran, `before` is
/// the latest run with the same outputs.
fn close(
    mut recorder: Recorder,
    before: Option<RunId>,
    reporter: &mut Reporter,
    report: &Report,
    stages: Vec<StageRecord>,
    store: &Store,
) -> Result<Recorded, Failure> {
    let recorded = match (recorder.id(), before) {
        (Some(id), _) => Recorded::Now(id.clone()),
        (None, Some(id)) => Recorded::Before(id),
        (None, None) => Recorded::Nowhere,
    };
    let finished = Event::RunFinished {
        run: recorded.id().map(RunId::to_string),
        outcome: report.outcome,
        seconds: report.seconds,
        metrics: summary::metrics(report),
    };
    recorder.record(&finished);
    let written = recorder.finish(stages, report.outcome);
    if let Err(error) = &written {
        ui::warning(&format!("failed to record the run: {error}"));
    } else if let Recorded::Now(id) = &recorded {
        // The report can be written again from the record, so its failure doesn't fail the run.
        if let Err(failure) = write_report(store, id) {
            failure.report();
        }
    }
    reporter.handle(&finished);
    Ok(recorded)
}

/// The latest run on record with the same stages and outputs. If no run has them, not even beside
/// others, this one is recorded: the one that made them was killed before its record, or that is
/// lost.
fn record_of_outputs(
    recorder: &mut Recorder,
    report: &Report,
    store: &Store,
) -> Result<Option<RunId>, Failure> {
    let digests =
        report.stages.iter().map(|stage| Some((stage.stage.clone(), stage.digest?.to_string())));
    let Some(digests) = digests.collect::<Option<_>>() else { return Ok(None) };
    let artifacts = report.stages.iter().filter_map(|stage| stage.artifact.as_ref());
    let folder = store.runs_folder();
    let identical = runs::find_identical(&folder, &digests);
    if identical.is_none()
        && report.outcome == RunOutcome::Ok
        && !store.is_read_only()
        && runs::find_showing(&folder, &digests).is_none()
        && are_intact(artifacts, &runs::recorded_names(), store)?
    {
        recorder.record_outputs();
    }
    Ok(identical)
}

fn stage_record(stage: &engine::StageReport) -> StageRecord {
    StageRecord {
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
        images_per_second: None,
        peak_memory: None,
        accepted: None,
        not_reproducible: None,
        undeclared_writes: None,
        attempts: Vec::new(),
        error: stage.error.clone(),
        artifact: stage.artifact.as_ref().map(|artifact| artifact.path.clone()),
    }
}

/// Writes the HTML report of a run into its folder.
fn write_report(store: &Store, id: &RunId) -> Result<(), Failure> {
    let record = runs::find(&store.runs_folder(), id.as_str())?;
    let path = record.folder.join(summary::REPORT);
    let help = format!("`pipe report {id} --output FILE` writes it elsewhere");
    let results = [Results::of(&record).with_store(store)];
    write_page(&path, &report::page(&results, Some(&heat_maps::explain)), &help)
}

/// The exit code of a run.
pub(super) fn exit_code(outcome: RunOutcome) -> ExitCode {
    match outcome {
        RunOutcome::Ok => ExitCode::SUCCESS,
        RunOutcome::Failed => ExitCode::FAILURE,
        RunOutcome::Cancelled => ExitCode::from(INTERRUPTED),
    }
}
