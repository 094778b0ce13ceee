//! Lists and finds runs: all, by id or number, and by their outputs. The folders are the index:
//! there is no index file that could become stale.

use super::record::{RUN, Record, RunId};
use super::{Labels, RunsError, Status, Timestamp};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The number of runs that an error lists.
const MAX_CANDIDATES: usize = 5;

/// All runs, newest first; those whose record can't be read come last, with the reason in
/// [`Record::problem`].
pub fn list(runs: &Path) -> Vec<Record> {
    let mut records: Vec<Record> =
        folders(runs).into_iter().map(|(id, folder)| Record::load(&folder, id)).collect();
    records.sort_by_cached_key(|record| {
        (record.status == Status::Unreadable, Reverse(record.started), record.id.clone())
    });
    records
}

/// The run called `wanted`: `@N` (the Nth in [`list`], `@0` the latest), the name that the user gave
/// it, an id, or an unambiguous prefix of one.
pub fn find(runs: &Path, wanted: &str) -> Result<Record, RunsError> {
    let record = match wanted.strip_prefix('@') {
        Some(number) => by_number(runs, wanted, number)?,
        None => match by_name(runs, wanted) {
            Some(record) => record,
            None => by_prefix(runs, wanted)?,
        },
    };
    match record.problem {
        Some(problem) => Err(RunsError::Unreadable { id: record.id, problem }),
        None => Ok(record),
    }
}

fn by_number(runs: &Path, wanted: &str, number: &str) -> Result<Record, RunsError> {
    let mut records = list(runs);
    match number.parse::<usize>() {
        Ok(number) if number < records.len() => Ok(records.swap_remove(number)),
        _ => Err(not_found(wanted, &records)),
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
            let records = list(runs);
            let matching = records.iter().filter(|record| record.id.as_str().starts_with(wanted));
            Err(RunsError::Ambiguous {
                wanted: wanted.to_owned(),
                candidates: matching.map(describe).collect(),
            })
        }
    }
}

/// The latest run to which the user gave this name. Reads the labels alone of the others.
fn by_name(runs: &Path, wanted: &str) -> Option<Record> {
    let is_named = |folder: &Path| !wanted.is_empty() && Labels::load(folder).name == wanted;
    let named = folders(runs).into_iter().filter(|(_, folder)| is_named(folder));
    named.map(|(id, folder)| Record::load(&folder, id)).max_by_key(|record| record.started)
}

fn not_found(wanted: &str, records: &[Record]) -> RunsError {
    if records.is_empty() {
        return RunsError::NoRuns;
    }
    let candidates = records.iter().take(MAX_CANDIDATES).map(describe).collect();
    RunsError::NotFound { wanted: wanted.to_owned(), candidates }
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
    // Records are read one at a time, the last modified first: nearly always the first one matches.
    let mut folders = folders(runs);
    let modified =
        |folder: &Path| fs::metadata(folder.join(RUN)).and_then(|metadata| metadata.modified());
    folders.sort_by_cached_key(|(id, folder)| {
        Reverse((modified(folder).unwrap_or(SystemTime::UNIX_EPOCH), id.clone()))
    });
    let mut records = folders.into_iter().map(|(id, folder)| Record::load(&folder, id));
    let is_identical = |record: &Record| {
        let stages: Option<BTreeMap<&String, &String>> = record
            .stages
            .iter()
            .map(|stage| Some((&stage.stage, stage.digest.as_ref()?)))
            .collect();
        record.status == Status::Ok && stages.is_some_and(|stages| stages.into_iter().eq(digests))
    };
    records.find(is_identical).map(|record| record.id)
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
