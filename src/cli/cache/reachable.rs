//! Which items of a store the runs on record need, and where each item comes from: the rules of
//! `pipe cache gc`.

use crate::cli::failure::Failure;
use crate::common::number;
use crate::events::StageOutcome;
use crate::runs::{Record, RunId, StageRecord, Status};
use crate::stages;
use crate::store::{Digest, Keep, MemoName, Part};
use crate::ui;
use clap::Args;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

const KEEP_RUNS: usize = 10;
const KEEP_DAYS: u64 = 7;

#[derive(Args)]
pub(super) struct Keeping {
    /// Keep what the latest N runs built or used
    #[arg(long, value_name = "N", default_value_t = KEEP_RUNS)]
    keep_runs: usize,
    /// Keep what was built or used within this many days; with `--max-size`, remove it last
    #[arg(long, value_name = "DAYS", default_value_t = KEEP_DAYS)]
    keep_days: u64,
    /// Remove only as much as is needed for the store to take at most this, such as `20GB`
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(super) max_size: Option<u64>,
}

pub(super) fn size(text: &str) -> Result<u64, String> {
    number::parse_bytes(text).ok_or_else(|| "expected a size such as `20GB` or `500MB`".to_owned())
}

impl Default for Keeping {
    fn default() -> Keeping {
        Keeping { keep_runs: KEEP_RUNS, keep_days: KEEP_DAYS, max_size: None }
    }
}

impl Keeping {
    /// Only what the latest run and labelled ones need is kept if the store would be larger.
    pub(super) fn of_the_latest_run(max_size: u64) -> Keeping {
        Keeping { keep_runs: 1, keep_days: KEEP_DAYS, max_size: Some(max_size) }
    }
}

/// Where an item comes from.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub stage: String,
    pub pipeline: String,
    /// The latest run that has it.
    pub run: RunId,
    /// The number of runs that have it.
    pub runs: u64,
    /// The time that it took, in seconds; of a checkpoint, in all runs. None if no run on record
    /// made it.
    pub seconds: Option<f64>,
}

impl Keeping {
    /// The rules for these runs, the latest first.
    ///
    /// # Errors
    /// If the record of a run with a name or a tag can't be read: what it needs isn't known.
    pub(super) fn keep(&self, records: &[Record]) -> Result<Keep, Failure> {
        let mut keep = Keep {
            buckets: stages::PINS.to_vec(),
            younger_than: Duration::from_secs(self.keep_days.saturating_mul(24 * 60 * 60)),
            max_bytes: self.max_size,
            ..Keep::default()
        };
        // Stages that a later run has finished.
        let mut finished = HashSet::new();
        for (at, record) in records.iter().enumerate() {
            let is_labelled = !record.labels.name.is_empty() || !record.labels.tags.is_empty();
            if let (true, Some(problem)) = (is_labelled, &record.problem) {
                let message = format!(
                    "run {} has a name or a tag, and its record can't be read: {problem}",
                    record.id
                );
                return Err(Failure::failed(message)
                    .help("what it needs isn't known: `pipe runs rm` removes the run"));
            }
            let is_kept = at < self.keep_runs || is_labelled || record.status == Status::Running;
            for stage in &record.stages {
                if is_kept {
                    keep.digests.extend(parsed(&stage.digest));
                    keep.keys.extend(parsed(&stage.key));
                }
                let is_abandoned = finished.contains(&(&record.pipeline, &stage.stage));
                if let Some(entries) = checkpoint(stage)
                    && is_kept
                    && (is_labelled || !is_abandoned)
                {
                    keep.memo.extend(entries);
                }
            }
            let done = record.stages.iter().filter(|stage| is_finished(stage));
            finished.extend(done.map(|stage| (&record.pipeline, &stage.stage)));
        }
        let checkpoints = records.iter().flat_map(|record| &record.stages).filter_map(checkpoint);
        for [header, files @ ..] in checkpoints {
            keep.parts.extend(files.map(|file| (file, header.clone())));
        }
        let seconds = origins(records).into_iter();
        keep.seconds = seconds.filter_map(|(part, origin)| Some((part, origin.seconds?))).collect();
        Ok(keep)
    }
}

/// Warns of runs whose needs aren't known.
pub(super) fn warn_of_unreadable(records: &[Record]) {
    for record in records.iter().filter(|record| record.problem.is_some()) {
        ui::warning(&format!(
            "the record of run {} can't be read: what it used is kept only as long as it is young",
            record.id
        ));
    }
}

/// The origins of the artifacts and checkpoints of these runs, the latest first.
pub(super) fn origins(records: &[Record]) -> HashMap<Part, Origin> {
    let mut origins: HashMap<Part, Origin> = HashMap::new();
    for record in records {
        let mut own = HashSet::new();
        for stage in &record.stages {
            let artifact = parsed(&stage.digest).map(Part::Artifact);
            let unfinished = || checkpoint(stage).map(|[header, ..]| Part::Memo(header));
            let Some(part) = artifact.or_else(unfinished) else { continue };
            let is_checkpoint = matches!(part, Part::Memo(_));
            let ran = is_checkpoint || stage.outcome == Some(StageOutcome::Ran);
            let is_new_run = own.insert(part.clone());
            let origin = origins.entry(part).or_insert_with(|| Origin {
                stage: stage.stage.clone(),
                pipeline: record.pipeline.clone(),
                run: record.id.clone(),
                runs: 0,
                seconds: None,
            });
            origin.runs += u64::from(is_new_run);
            origin.seconds = match origin.seconds {
                // Every run went on from the one before.
                Some(earlier) if is_checkpoint => Some(earlier + stage.seconds),
                None if ran => Some(stage.seconds),
                known => known,
            };
        }
    }
    origins
}

/// The entries of the checkpoint that a stage can have left.
pub(super) fn checkpoint(stage: &StageRecord) -> Option<[MemoName; 3]> {
    let key =
        parsed(&stage.key).filter(|_| !is_finished(stage) && stages::makes_models(&stage.kind));
    key.map(stages::checkpoint_entries)
}

fn is_finished(stage: &StageRecord) -> bool {
    matches!(stage.outcome, Some(StageOutcome::Ran | StageOutcome::Fresh))
}

pub(super) fn parsed(digest: &Option<String>) -> Option<Digest> {
    digest.as_ref()?.parse().ok()
}
