//! `pipe why FILE STAGE`: explains the state of one stage and lists everything that enters its
//! cache key.

use super::earlier_models;
use super::failure::Failure;
use super::lock_file::LockFile;
use super::plan;
use super::shared::{DeviceArguments, PipelineArguments, RemoteArguments, StoreArguments, shown};
use super::signals;
use super::status::plan_only;
use crate::common::number;
use crate::engine::{Fingerprint, Planned, PlannedStage};
use crate::events::{CancellationToken, Reason};
use crate::ui::{self, Style};
use clap::Args;
use serde_json::json;
use std::process::ExitCode;

/// Explain the state of one stage in detail
///
/// Shows why it would run or is up to date, and everything that enters its cache key.
#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// The stage
    #[arg(value_name = "STAGE")]
    stage: String,
    #[command(flatten)]
    device: DeviceArguments,
    #[command(flatten)]
    store: StoreArguments,
    #[command(flatten)]
    remotes: RemoteArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let (pipeline, mut graph) = arguments.pipeline.read()?;
    let store = arguments.store.open_for_plan()?;
    earlier_models::resolve(&mut graph, &store)?;
    LockFile::beside(&arguments.pipeline.file)?.apply(&graph, &store)?;
    let cancel = CancellationToken::new();
    signals::cancel_on_interrupt(&cancel)?;
    let mut options = plan_only(arguments.device.of(&pipeline)?.device);
    options.until = vec![arguments.stage.clone()];
    options.remotes = arguments.remotes.caches()?;
    let plan = plan::make(&graph, &store, &options, &cancel)?;
    plan.notes.iter().for_each(|note| ui::warning(note));
    let Some(planned) = plan.stages.iter().find(|planned| planned.name == arguments.stage) else {
        return Err(Failure::invalid(format!("there is no stage `{}`", arguments.stage)));
    };
    if arguments.json {
        ui::json(&as_json(planned))?;
    } else {
        ui::out(&text(Style::stdout(), planned))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(planned: &PlannedStage) -> serde_json::Value {
    let details = match &planned.state {
        Planned::Dirty { reasons, .. } | Planned::Remote { reasons, .. } => reasons.as_slice(),
        Planned::Fresh { .. } | Planned::Pending { .. } => &[],
    };
    let (key, fingerprint) = planned.state.key().unzip();
    json!({
        "stage": planned.name,
        "kind": planned.kind,
        "state": planned.state.name(),
        "reasons": reasons(planned),
        "reason_details": details,
        "key": key,
        "fingerprint": fingerprint,
        "artifact": planned.state.artifact().map(|artifact| artifact.path.clone()),
    })
}

fn reasons(planned: &PlannedStage) -> Vec<String> {
    match &planned.state {
        Planned::Fresh { accepted: Some(accepted), .. } => {
            let made_by = format!(
                "its output was made by key {}; `pipe run --force={}` makes its own",
                accepted.key.get(..12).unwrap_or_default(),
                planned.name
            );
            vec![plan::vouched(accepted), made_by]
        }
        Planned::Fresh { .. } => vec!["nothing that affects its output has changed".to_owned()],
        Planned::Dirty { reasons, .. } => reasons.iter().map(Reason::to_string).collect(),
        Planned::Remote { reasons, artifact, .. } => {
            let size = number::bytes(artifact.size());
            let has_it = format!("{} has its output ({size})", artifact.place);
            std::iter::once(has_it).chain(reasons.iter().map(Reason::to_string)).collect()
        }
        Planned::Pending { below } => below
            .iter()
            .map(|stage| format!("it needs `{stage}`, which is not up to date"))
            .collect(),
    }
}

fn text(style: Style, planned: &PlannedStage) -> String {
    let state = planned.state.name();
    let mut text = format!("{} is {}\n", style.bold(&planned.name), style.bold(state));
    reasons(planned).iter().for_each(|reason| text.push_str(&format!("  {reason}\n")));
    if let Some(artifact) = planned.state.artifact() {
        text.push_str(&format!("\nartifact  {}\n", shown(&artifact.path)));
    }
    if let Some((key, fingerprint)) = planned.state.key() {
        text.push_str(&format!("key       {key}\n          hash of:\n{}", key_inputs(fingerprint)));
    }
    text
}

/// Everything that enters a key, one line each.
fn key_inputs(fingerprint: &Fingerprint) -> String {
    let mut lines =
        vec![format!("kind {}, code version {}", fingerprint.kind, fingerprint.version)];
    lines.extend(fingerprint.parameters.iter().map(|(name, value)| format!("{name} = {value}")));
    lines.extend(
        fingerprint
            .inputs
            .iter()
            .map(|(role, digest)| format!("input `{role}`: {}", digest.short())),
    );
    lines.extend(fingerprint.facts.iter().map(|(name, value)| format!("{name}: {value}")));
    lines.extend(fingerprint.seed.map(|seed| format!("seed {seed}")));
    lines.extend(fingerprint.device.as_ref().map(|device| format!("device {device}")));
    lines.iter().map(|line| format!("            {line}\n")).collect()
}
