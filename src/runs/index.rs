//! Lists and finds runs: all, by id or number, and by their outputs. The folders are the index:
//! there is no index file that could become stale.

use super::record::{Head, RUN, Record, RunId};
use super::{Labels, RunsError, Status, Timestamp};
use rayon::prelude::*;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

/// The number of runs that an error lists.
const MAX_CANDIDATES: usize = 5;

/// A run in a list, whose record is read when it is asked for: that takes ten times as long as
/// reading the part of it that a list needs.
pub struct Entry {
    pub id: RunId,
    /// Empty where the record can't be read.
    pub pipeline: String,
    age: Age,
    folder: PathBuf,
    is_readable: bool,
    record: OnceLock<Record>,
}

impl Entry {
    fn of((id, folder): (RunId, PathBuf)) -> Entry {
        let head = Head::load(&folder);
        let is_readable = head.is_some();
        let Head { pipeline, number, started, .. } = head.unwrap_or_default();
        Entry { id, pipeline, age: (number, started), folder, is_readable, record: OnceLock::new() }
    }

    /// The whole record. Where it can't be read, [`Record::problem`] says why.
    pub fn record(&self) -> &Record {
        self.record.get_or_init(|| Record::load(&self.folder, self.id.clone()))
    }

    pub fn into_record(self) -> Record {
        let Entry { id, folder, record, .. } = self;
        record.into_inner().unwrap_or_else(|| Record::load(&folder, id))
    }
}

/// All runs, newest first: by their numbers, those of earlier versions by their times. Those whose
/// record can't be read come last.
pub fn list(runs: &Path) -> Vec<Entry> {
    let mut entries: Vec<Entry> = folders(runs).into_par_iter().map(Entry::of).collect();
    entries.sort_by_cached_key(|entry| (!entry.is_readable, Reverse(entry.age), entry.id.clone()));
    entries
}

/// Reads the records of all entries at once, for those who need every one.
pub fn read_all(entries: &[Entry]) {
    entries.par_iter().for_each(|entry| {
        entry.record();
    });
}

/// The records of all runs, in the order of [`list`].
pub fn records(runs: &Path) -> Vec<Record> {
    let entries = list(runs);
    read_all(&entries);
    entries.into_iter().map(Entry::into_record).collect()
}

/// The order of runs, older ones first: number and start. A clock that was wrong decides between
/// runs of earlier versions at most.
type Age = (u64, Timestamp);

fn age(record: &Record) -> Age {
    (record.number, record.started)
}

/// One more than the highest number of the runs on record.
pub(super) fn next_number(runs: &Path) -> u64 {
    let heads = folders(runs).into_par_iter().filter_map(|(_, folder)| Head::read(&folder));
    heads.map(|head| head.number).max().unwrap_or(0).saturating_add(1)
}

/// The run called `wanted`: `@N` (the Nth in [`list`], `@0` the latest), the name that the user gave
/// it, an id, or an unambiguous prefix of one.
pub fn find(runs: &Path, wanted: &str) -> Result<Record, RunsError> {
    find_readable_or_not(runs, wanted)?.readable()
}

/// The same for one whose record may be damaged.
pub fn find_readable_or_not(runs: &Path, wanted: &str) -> Result<Record, RunsError> {
    if let Some(number) = wanted.strip_prefix('@') {
        return by_number(runs, wanted, number);
    }
    // No name looks like an id.
    if let Some(id) = RunId::parse(wanted).filter(|id| runs.join(id.as_str()).is_dir()) {
        return Ok(Record::load(&runs.join(id.as_str()), id));
    }
    by_name(runs, wanted).map_or_else(|| by_prefix(runs, wanted), Ok)
}

fn by_number(runs: &Path, wanted: &str, number: &str) -> Result<Record, RunsError> {
    let mut entries = list(runs);
    match number.parse::<usize>() {
        Ok(number) if number < entries.len() => Ok(entries.swap_remove(number).into_record()),
        _ => Err(not_found(wanted, &entries)),
    }
}

fn by_prefix(runs: &Path, wanted: &str) -> Result<Record, RunsError> {
    let mut matching: Vec<(RunId, PathBuf)> = folders(runs)
        .into_iter()
        .filter(|(id, _)| !wanted.is_empty() && id.as_str().starts_with(wanted))
        .collect();
    match (matching.pop(), matching.is_empty()) {
        (Some((id, folder)), true) => Ok(Record::load(&folder, id)),
        (None, _) => Err(not_found(wanted, &list(runs))),
        (Some(_), false) => {
            let entries = list(runs);
            let matching = entries.iter().filter(|entry| entry.id.as_str().starts_with(wanted));
            Err(RunsError::Ambiguous {
                wanted: wanted.to_owned(),
                candidates: matching.map(|entry| describe(entry.record())).collect(),
            })
        }
    }
}

/// The latest run to which the user gave this name. Reads the labels alone of the others.
fn by_name(runs: &Path, wanted: &str) -> Option<Record> {
    let is_named = |folder: &Path| !wanted.is_empty() && Labels::load(folder).name == wanted;
    let named = folders(runs).into_iter().filter(|(_, folder)| is_named(folder));
    named.map(|(id, folder)| Record::load(&folder, id)).max_by_key(age)
}

fn not_found(wanted: &str, entries: &[Entry]) -> RunsError {
    if entries.is_empty() {
        return RunsError::NoRuns;
    }
    let candidates = entries.iter().take(MAX_CANDIDATES).map(|entry| describe(entry.record()));
    RunsError::NotFound { wanted: wanted.to_owned(), candidates: candidates.collect() }
}

/// A run as a line of an error.
fn describe(record: &Record) -> String {
    match &record.problem {
        Some(_) => format!("{}  unreadable", record.id),
        None => {
            let age = record.started.ago(Timestamp::now());
            format!("{}  {}  {}  {age}", record.id, record.pipeline, record.status)
        }
    }
}

/// The latest successful run with exactly these stages and digests.
pub fn find_identical(runs: &Path, digests: &BTreeMap<String, String>) -> Option<RunId> {
    let is_identical = |record: &Record| {
        record.status == Status::Ok && outputs(record).is_some_and(|outputs| outputs == *digests)
    };
    by_modification(runs).find(is_identical).map(|record| record.id)
}

/// The latest run that came to its end and has these stages and digests among its own, so that its
/// record has their results.
pub fn find_showing(runs: &Path, digests: &BTreeMap<String, String>) -> Option<RunId> {
    let shows = |record: &Record| {
        let has = |(stage, digest): (&String, &String)| {
            record.stage(stage).is_some_and(|stage| stage.digest.as_ref() == Some(digest))
        };
        record.outcome.is_some() && digests.iter().all(has)
    };
    by_modification(runs).find(shows).map(|record| record.id)
}

/// Stage -> digest. None if a stage has no output.
fn outputs(record: &Record) -> Option<BTreeMap<String, String>> {
    let stages = record.stages.iter();
    stages.map(|stage| Some((stage.stage.clone(), stage.digest.clone()?))).collect()
}

/// The records, the last modified first.
fn by_modification(runs: &Path) -> impl Iterator<Item = Record> {
    // Records are read one at a time, the last modified first: nearly always the first one matches.
    let mut folders = folders(runs);
    let modified =
        |folder: &Path| fs::metadata(folder.join(RUN)).and_then(|metadata| metadata.modified());
    folders.sort_by_cached_key(|(id, folder)| {
        Reverse((modified(folder).unwrap_or(SystemTime::UNIX_EPOCH), id.clone()))
    });
    folders.into_iter().map(|(id, folder)| Record::load(&folder, id))
}

/// The folders whose names are run ids, sorted by id.
fn folders(runs: &Path) -> Vec<(RunId, PathBuf)> {
    let Ok(entries) = fs::read_dir(runs) else { return Vec::new() };
    let named = entries.flatten().filter_map(|entry| {
        let id = RunId::parse(entry.file_name().to_str()?)?;
        Some((id, entry.path()))
    });
    let mut folders: Vec<(RunId, PathBuf)> = named.collect();
    folders.sort();
    folders
}
