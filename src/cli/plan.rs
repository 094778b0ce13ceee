//! Makes plans, and prints one for `pipe status` and `pipe run --dry-run`.

use super::failure::Failure;
use super::shared::{Earlier, shown};
use crate::common::number;
use crate::common::words::and_list;
use crate::engine::{
    self, Acceptance, Disk, EngineError, Graph, Options, Plan, Planned, PlannedStage,
};
use crate::events::{CancellationToken, Reason};
use crate::stages;
use crate::store::{Digest, Store};
use crate::ui::{self, Passing, Side, Style, Table};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Plans a run. That takes a while where a folder has to be read for the first time, so a terminal
/// shows it.
pub(super) fn make(
    graph: &Graph,
    store: &Store,
    options: &Options,
    cancel: &CancellationToken,
) -> Result<Plan, EngineError> {
    let _shown = Passing::show("reading the sources…");
    engine::plan(graph, store, options, &Earlier::of(graph, store), cancel)
}

/// Prints a plan as a table or as JSON.
pub(super) fn print(
    graph: &Graph,
    plan: &Plan,
    disk: &Disk,
    store: &Store,
    as_json: bool,
) -> Result<ExitCode, Failure> {
    plan.notes.iter().for_each(|note| ui::warning(note));
    if as_json {
        let stages: Vec<Value> = plan
            .stages
            .iter()
            .map(|planned| stage_json(graph, plan, planned, disk, store))
            .collect();
        let disk = json!({
            "needed": disk.needed(),
            "free": disk.free,
            "unknown": disk.unknown(),
            "enough": !disk.is_too_small(),
        });
        ui::json(&json!({ "pipeline": graph.name, "stages": stages, "disk": disk }))?;
    } else {
        ui::out(&text(graph, plan, disk, store))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Values chosen by default for a stage that isn't fresh, such as its augmentation.
fn choices(graph: &Graph, plan: &Plan, planned: &PlannedStage) -> Vec<String> {
    match (&planned.state, graph.stage(&planned.name)) {
        (Planned::Dirty { .. } | Planned::Pending { .. }, Some(stage)) => {
            stage.kind.choices(&stage.values, plan.device)
        }
        _ => Vec::new(),
    }
}

/// Where a dirty stage goes on, if an interrupted run left a checkpoint of it.
fn resumes_at(graph: &Graph, planned: &PlannedStage, store: &Store) -> Option<String> {
    let Planned::Dirty { .. } = planned.state else { return None };
    let stage = graph.stage(&planned.name)?;
    stage.kind.kept(&stage.values, planned.state.key()?.0, store)
}

/// The disk space that the plan needs; nothing is looked at for one in which everything is fresh.
pub(super) fn disk(graph: &Graph, plan: &Plan, store: &Store) -> Disk {
    match plan.is_fresh() {
        true => Disk { free: store.free_bytes(), ..Disk::default() },
        false => engine::disk(graph, plan, store),
    }
}

/// Fails if the disk is too small for the plan. Checkpoints of its stages are removed if that makes
/// enough room: they may be what fills it. With `dry_run` they stay.
pub(super) fn check_disk(
    graph: &Graph,
    plan: &Plan,
    disk: &Disk,
    store: &Store,
    dry_run: bool,
) -> Result<(), Failure> {
    if !disk.is_too_small() {
        return Ok(());
    }
    let checkpoints = checkpoints(graph, plan, store);
    let room: u64 = checkpoints.iter().map(|(.., bytes)| bytes).sum();
    if disk.free.is_some_and(|free| free.saturating_add(room) < disk.needed()) {
        let (sentence, folder) = (disk.sentence(), shown(store.base()));
        return Err(Failure::failed(format!(
            "the disk of `{folder}` is too small for this run: {sentence}"
        ))
        .help(engine::TOO_LITTLE));
    }
    for (name, key, bytes) in checkpoints.iter().filter(|_| !dry_run) {
        stages::clear_checkpoint(store.memo(), *key).map_err(|error| {
            Failure::failed(format!("removing the checkpoint of `{name}`: {error}"))
        })?;
        ui::warning(&format!(
            "the disk was too small beside the checkpoint of `{name}`, which took {}: it was removed, and the stage starts over",
            number::bytes(*bytes)
        ));
    }
    Ok(())
}

/// The checkpoints of the plan's stages: stage, key and bytes.
fn checkpoints<'a>(graph: &Graph, plan: &'a Plan, store: &Store) -> Vec<(&'a str, Digest, u64)> {
    let of = |planned: &'a PlannedStage| {
        resumes_at(graph, planned, store)?;
        let key = *planned.state.key()?.0;
        let files = stages::checkpoint_entries(key);
        let files = files.iter().flat_map(|entry| store.memo().disk_files(entry));
        Some((planned.name.as_str(), key, files.map(|file| file.bytes).sum()))
    };
    plan.stages.iter().filter_map(of).collect()
}

fn stage_json(
    graph: &Graph,
    plan: &Plan,
    planned: &PlannedStage,
    disk: &Disk,
    store: &Store,
) -> Value {
    let is_wanted = plan.is_wanted(graph, &planned.name);
    let estimate = disk.stages.iter().find(|(name, _)| *name == planned.name);
    let mut json = json!({
        "stage": planned.name,
        "kind": planned.kind,
        "state": planned.state.name(),
        "choices": choices(graph, plan, planned),
        "resumes_at": resumes_at(graph, planned, store),
        "key": planned.state.key().map(|(key, _)| key),
        "digest": planned.state.artifact().map(|artifact| artifact.digest),
        "disk": estimate.and_then(|(_, estimate)| estimate.bytes),
    });
    match &planned.state {
        Planned::Pending { below } => json["below"] = json!(below),
        Planned::Dirty { reasons, .. } => {
            json["reasons"] = reasons.iter().map(Reason::to_string).collect();
            json["reason_details"] = json!(reasons);
        }
        Planned::Remote { reasons, artifact, .. } => {
            json["reasons"] = reasons.iter().map(Reason::to_string).collect();
            json["reason_details"] = json!(reasons);
            json["remote"] = json!({
                "place": artifact.place,
                "digest": artifact.digest,
                "bytes": artifact.size(),
                "wanted": is_wanted,
            });
        }
        Planned::Fresh { accepted, .. } => {
            json["reasons"] = json!([]);
            if let Some(accepted) = accepted {
                json["accepted"] = json!({ "key": accepted.key, "changes": accepted.changes });
            }
        }
    }
    json
}

/// "accepted: epochs: 8 -> 2".
pub(super) fn vouched(accepted: &Acceptance) -> String {
    format!("accepted: {}", accepted.changes.join("; "))
}

/// "disk: about 1.2 GB needed, 30.1 GB free", and more where that is known.
fn disk_text(disk: &Disk) -> String {
    if disk.stages.is_empty() {
        return String::new();
    }
    let unknown = match disk.unknown().as_slice() {
        [] => String::new(),
        names => format!("; not known yet for {}", and_list(names.iter().copied())),
    };
    let verdict = if disk.is_too_small() { ": too little" } else { "" };
    format!("disk: {}{verdict}{unknown}\n", disk.sentence())
}

fn text(graph: &Graph, plan: &Plan, disk: &Disk, store: &Store) -> String {
    let columns =
        [("stage", Side::Left), ("kind", Side::Left), ("state", Side::Left), ("why", Side::Left)];
    let mut table = Table::new(columns);
    let (mut dirty, mut pending, mut remote, mut accepts) = (0, 0, (0, 0), 0);
    for planned in &plan.stages {
        let why = match &planned.state {
            Planned::Fresh { accepted, .. } => {
                accepts += u64::from(accepted.as_ref().is_some_and(Acceptance::is_new));
                accepted.as_ref().map_or(String::new(), vouched)
            }
            Planned::Dirty { reasons, .. } => {
                dirty += 1;
                reasons.iter().map(Reason::to_string).collect::<Vec<_>>().join("; ")
            }
            Planned::Remote { artifact, .. } => {
                let (place, size) = (&artifact.place, artifact.size());
                match plan.is_wanted(graph, &planned.name) {
                    true => {
                        remote = (remote.0 + 1, remote.1 + size);
                        format!("from {place} ({})", number::bytes(size))
                    }
                    false => format!("stays in {place} ({})", number::bytes(size)),
                }
            }
            Planned::Pending { below } => {
                pending += 1;
                format!("needs {}", below.join(", "))
            }
        };
        table.row([planned.name.as_str(), planned.kind, planned.state.name(), &why]);
    }
    let copied = (remote.0 > 0).then(|| {
        let (count, bytes) = (number::counted(remote.0, "output"), number::bytes(remote.1));
        format!("{count} would be copied ({bytes})")
    });
    let accepted = (accepts > 0)
        .then(|| format!("{} would be accepted", number::counted(accepts, "earlier output")));
    let verdict = match (dirty, pending) {
        (0, 0) if copied.is_some() || accepted.is_some() => "no stage would run".to_owned(),
        (0, 0) => "nothing to do".to_owned(),
        (_, 0) => format!("{} would run", number::counted(dirty, "stage")),
        _ => format!(
            "{} would run; {} may turn out fresh if no input changes",
            number::counted(dirty, "stage"),
            number::counted(pending, "pending stage")
        ),
    };
    let parts: Vec<String> = [Some(verdict), copied, accepted].into_iter().flatten().collect();
    let verdict = parts.join("; ");
    let chosen = plan.stages.iter().flat_map(|planned| {
        let estimate = disk.stages.iter().find(|(name, _)| *name == planned.name);
        let sentence = estimate.and_then(|(_, estimate)| estimate.sentence.clone());
        let resumed = resumes_at(graph, planned, store);
        let resumed = resumed.map(|place| format!("goes on from a checkpoint at {place}"));
        let sentences = choices(graph, plan, planned).into_iter().chain(sentence).chain(resumed);
        sentences.map(|sentence| format!("{}: {sentence}", planned.name)).collect::<Vec<_>>()
    });
    let style = Style::stdout();
    let chosen: String = chosen.map(|line| ui::wrapped(&line, style.width, 2) + "\n").collect();
    let gap = if chosen.is_empty() { "" } else { "\n" };
    format!("{}\n{chosen}{gap}{verdict}\n{}", table.render(style), disk_text(disk))
}
