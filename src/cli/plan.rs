//! Prints a plan: for `pipe status` and `pipe run --dry-run`.

use super::failure::Failure;
use crate::common::number;
use crate::engine::{Graph, Plan, Planned, PlannedStage};
use crate::events::Reason;
use crate::ui::{self, Side, Style, Table};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Prints a plan as a table or as JSON.
pub(super) fn print(graph: &Graph, plan: &Plan, as_json: bool) -> Result<ExitCode, Failure> {
    plan.notes.iter().for_each(|note| ui::warning(note));
    if as_json {
        let stages: Vec<Value> =
            plan.stages.iter().map(|planned| stage_json(graph, planned)).collect();
        ui::json(&json!({ "pipeline": graph.name, "stages": stages }))?;
    } else {
        ui::out(&text(graph, plan))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Values chosen by default for a stage that isn't fresh, such as its augmentation.
fn choices(graph: &Graph, planned: &PlannedStage) -> Vec<String> {
    match (&planned.state, graph.stage(&planned.name)) {
        (Planned::Dirty { .. } | Planned::Pending { .. }, Some(stage)) => {
            stage.kind.choices(&stage.values)
        }
        _ => Vec::new(),
    }
}

fn stage_json(graph: &Graph, planned: &PlannedStage) -> Value {
    let mut json = json!({
        "stage": planned.name,
        "kind": planned.kind,
        "state": planned.state.name(),
        "choices": choices(graph, planned),
        "key": planned.state.key().map(|(key, _)| key),
        "digest": planned.state.artifact().map(|artifact| artifact.digest),
    });
    match &planned.state {
        Planned::Pending { below } => json["below"] = json!(below),
        Planned::Dirty { reasons, .. } => {
            json["reasons"] = reasons.iter().map(Reason::to_string).collect();
            json["reason_details"] = json!(reasons);
        }
        Planned::Fresh { .. } => json["reasons"] = json!([]),
    }
    json
}

fn text(graph: &Graph, plan: &Plan) -> String {
    let columns =
        [("stage", Side::Left), ("kind", Side::Left), ("state", Side::Left), ("why", Side::Left)];
    let mut table = Table::new(columns);
    let (mut dirty, mut pending) = (0, 0);
    for planned in &plan.stages {
        let why = match &planned.state {
            Planned::Fresh { .. } => String::new(),
            Planned::Dirty { reasons, .. } => {
                dirty += 1;
                reasons.iter().map(Reason::to_string).collect::<Vec<_>>().join("; ")
            }
            Planned::Pending { below } => {
                pending += 1;
                format!("needs {}", below.join(", "))
            }
        };
        table.row([planned.name.as_str(), planned.kind, planned.state.name(), &why]);
    }
    let verdict = match (dirty, pending) {
        (0, 0) => "nothing to do".to_owned(),
        (_, 0) => format!("{} would run", number::counted(dirty, "stage")),
        _ => format!(
            "{} would run; {} may turn out fresh if no input changes",
            number::counted(dirty, "stage"),
            number::counted(pending, "pending stage")
        ),
    };
    let chosen = plan.stages.iter().flat_map(|planned| {
        let sentences = choices(graph, planned).into_iter();
        sentences.map(|sentence| format!("{}: {sentence}", planned.name)).collect::<Vec<_>>()
    });
    let style = Style::stdout();
    let chosen: String = chosen.map(|line| ui::wrapped(&line, style.width, 2) + "\n").collect();
    let gap = if chosen.is_empty() { "" } else { "\n" };
    format!("{}\n{chosen}{gap}{verdict}\n", table.render(style))
}
