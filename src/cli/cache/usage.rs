//! `pipe cache du`: disk usage by category, pipeline and run. Runs and pipelines share artifacts,
//! and artifacts share files, so each part states what it has alone and what it shares.

use super::{collect, reachable};
use crate::cli::failure::Failure;
use crate::cli::shared::shown;
use crate::common::number;
use crate::runs::{self, Record};
use crate::store::{Digest, DiskFile, Share, Store, Usage, disk_files};
use crate::ui::{self, Side, Style, Table};
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Largest number of runs in the table.
const RUNS: usize = 20;

/// The bytes of a pipeline or a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Part {
    /// In files that no other has.
    exclusive: u64,
    /// In files that others have, too.
    shared: u64,
}

/// Disk usage of recorded runs.
struct OfRuns {
    /// The runs, latest first.
    runs: Vec<(Record, Part)>,
    /// By pipeline: its number of runs.
    pipelines: Vec<(String, usize, Part)>,
    /// Artifacts that no recorded run has.
    unused: Share,
}

pub(super) fn print(store: &Store, as_json: bool) -> Result<(), Failure> {
    let usage = store.usage()?;
    let found = of_runs(store);
    let reclaimable = collect::reclaimable(store);
    if as_json {
        let mut json = to_json(&usage, &found)?;
        json["reclaimable"] = json!(reclaimable);
        return Ok(ui::json(&json)?);
    }
    let total = number::bytes(usage.total());
    let reclaimable = match reclaimable {
        Some(bytes @ 1..) => format!("; `pipe cache gc` frees {}", number::bytes(bytes)),
        _ => String::new(),
    };
    let mut text = format!("{}\n", categories(&usage));
    if !found.runs.is_empty() {
        text += &format!("{}\n{}\n", pipelines(&found), runs_table(&found));
    }
    Ok(ui::out(&format!("{text}{total} in {}{reclaimable}\n", shown(store.root())))?)
}

fn of_runs(store: &Store) -> OfRuns {
    let records = runs::records(&store.runs_folder());
    let artifacts = |record: &Record| -> Vec<Digest> {
        record.stages.iter().filter_map(|stage| reachable::parsed(&stage.digest)).collect()
    };
    let mut used = HashSet::new();
    let mut by_pipeline: BTreeMap<String, (usize, HashSet<DiskFile>)> = BTreeMap::new();
    let mut of_artifact: HashMap<Digest, Vec<DiskFile>> = HashMap::new();
    let mut by_run = Vec::new();
    for record in &records {
        let mut files: HashSet<DiskFile> = disk_files(&record.folder).into_iter().collect();
        for artifact in artifacts(record) {
            used.insert(artifact);
            let its = of_artifact.entry(artifact).or_insert_with(|| store.disk_files(&artifact));
            files.extend(its.iter().copied());
        }
        let checkpoints = record.stages.iter().filter_map(reachable::checkpoint).flatten();
        files.extend(checkpoints.flat_map(|entry| store.memo().disk_files(&entry)));
        let (count, all) = by_pipeline.entry(record.pipeline.clone()).or_default();
        *count += 1;
        all.extend(files.iter().copied());
        by_run.push(files);
    }
    let unused = store.artifacts().into_iter().filter(|artifact| !used.contains(artifact));
    let unused = unused.fold(Share::default(), |sum, artifact| {
        let bytes: u64 = store.disk_files(&artifact).iter().map(|file| file.bytes).sum();
        Share { count: sum.count + 1, bytes: sum.bytes + bytes }
    });
    let sets: Vec<&HashSet<DiskFile>> = by_pipeline.values().map(|(_, files)| files).collect();
    let pipelines = parts(&sets);
    let named = by_pipeline.iter().zip(pipelines);
    OfRuns {
        pipelines: named.map(|((name, (count, _)), part)| (name.clone(), *count, part)).collect(),
        runs: records.into_iter().zip(parts(&by_run.iter().collect::<Vec<_>>())).collect(),
        unused,
    }
}

/// The bytes that each of the sets has alone, and those that it shares with others.
fn parts(sets: &[&HashSet<DiskFile>]) -> Vec<Part> {
    let mut owners: HashMap<DiskFile, u32> = HashMap::new();
    for file in sets.iter().flat_map(|set| set.iter()) {
        *owners.entry(*file).or_default() += 1;
    }
    let part = |set: &&HashSet<DiskFile>| {
        set.iter().fold(Part::default(), |part, file| match owners.get(file) {
            Some(1) => Part { exclusive: part.exclusive + file.bytes, ..part },
            _ => Part { shared: part.shared + file.bytes, ..part },
        })
    };
    sets.iter().map(part).collect()
}

fn to_json(usage: &Usage, found: &OfRuns) -> Result<serde_json::Value, Failure> {
    let mut json =
        serde_json::to_value(usage).map_err(|error| Failure::failed(error.to_string()))?;
    json["by_pipeline"] = found
        .pipelines
        .iter()
        .map(|(pipeline, runs, Part { exclusive, shared })| {
            json!({ "pipeline": pipeline, "runs": runs, "exclusive": exclusive, "shared": shared })
        })
        .collect();
    json["by_run"] = found
        .runs
        .iter()
        .map(|(record, Part { exclusive, shared })| {
            json!({ "run": record.id, "pipeline": record.pipeline, "exclusive": exclusive, "shared": shared })
        })
        .collect();
    json["unused_artifacts"] = json!(found.unused);
    Ok(json)
}

fn categories(usage: &Usage) -> String {
    let mut table =
        Table::new([("category", Side::Left), ("count", Side::Right), ("size", Side::Right)]);
    let mut add = |category: &str, share: Share| {
        table.row([category.to_owned(), number::thousands(share.count), number::bytes(share.bytes)])
    };
    add("artifacts", usage.artifacts);
    add("keys and logs", usage.keys);
    usage.memo.iter().for_each(|(bucket, share)| add(&format!("memo: {bucket}"), *share));
    add("folder listings", usage.listings);
    add("runs", usage.runs);
    for (category, share) in [("unfinished", usage.slots), ("damaged", usage.damaged)] {
        if share.count > 0 {
            add(category, share);
        }
    }
    table.render(Style::stdout())
}

fn pipelines(found: &OfRuns) -> String {
    let mut table = Table::new([
        ("pipeline", Side::Left),
        ("runs", Side::Right),
        ("exclusive", Side::Right),
        ("shared", Side::Right),
    ]);
    for (name, runs, part) in &found.pipelines {
        let [exclusive, shared] = [part.exclusive, part.shared].map(number::bytes);
        table.row([name.clone(), number::thousands(*runs as u64), exclusive, shared]);
    }
    if found.unused.count > 0 {
        let bytes = number::bytes(found.unused.bytes);
        table.row(["of no recorded run".to_owned(), "0".to_owned(), bytes, number::bytes(0)]);
    }
    table.render(Style::stdout())
}

fn runs_table(found: &OfRuns) -> String {
    let mut table = Table::new([
        ("run", Side::Left),
        ("pipeline", Side::Left),
        ("exclusive", Side::Right),
        ("shared", Side::Right),
    ]);
    for (record, part) in found.runs.iter().take(RUNS) {
        let [exclusive, shared] = [part.exclusive, part.shared].map(number::bytes);
        table.row([record.id.to_string(), record.pipeline.clone(), exclusive, shared]);
    }
    let more = match found.runs.len().saturating_sub(RUNS) {
        0 => String::new(),
        more => {
            format!("and {}; --json lists them\n", number::counted(more as u64, "older run"))
        }
    };
    format!("{}{more}", table.render(Style::stdout()))
}
