//! Prints a plan: for `pipe status` and `pipe run --dry-run`.

use super::failure::Failure;
use crate::common::number;
use crate::engine::{Graph, Plan, Planned, State};
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
fn choices(graph: &Graph, planned: &Planned) -> Vec<String> {
    match (&planned.state, graph.stage(&planned.stage)) {
        (State::Dirty { .. } | State::Pending { .. }, Some(stage)) => {
            stage.kind.choices(&stage.values)
        }
        _ => Vec::new(),
    }
}

fn stage_json(graph: &Graph, planned: &Planned) -> Value {
    let (state, why, digest) = match &planned.state {
        State::Fresh { digest } => ("fresh", Vec::new(), Some(digest.to_string())),
        State::Dirty { reasons } => ("dirty", reasons.clone(), None),
        State::Pending { below } => ("pending", below.clone(), None),
    };
    let (key, digest) = (planned.key.map(|key| key.to_string()), digest);
    let why_name = if state == "pending" { "below" } else { "reasons" };
    let choices = choices(graph, planned);
    json!({
        "stage": planned.stage, "kind": planned.kind, "state": state, why_name: why, "choices": choices, "key": key,
        "digest": digest,
    })
}

fn text(graph: &Graph, plan: &Plan) -> String {
    let columns =
        [("stage", Side::Left), ("kind", Side::Left), ("state", Side::Left), ("why", Side::Left)];
    let mut table = Table::new(columns);
    let (mut dirty, mut pending) = (0, 0);
    for planned in &plan.stages {
        let (state, why) = match &planned.state {
            State::Fresh { .. } => ("fresh", String::new()),
            State::Dirty { reasons } => {
                dirty += 1;
                ("dirty", reasons.join("; "))
            }
            State::Pending { below } => {
                pending += 1;
                ("pending", format!("needs {}", below.join(", ")))
            }
        };
        table.row([planned.stage.as_str(), planned.kind, state, &why]);
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
        sentences.map(|sentence| format!("{}: {sentence}", planned.stage)).collect::<Vec<_>>()
    });
    let style = Style::stdout();
    let chosen: String = chosen.map(|line| ui::wrapped(&line, style.width, 2) + "\n").collect();
    let gap = if chosen.is_empty() { "" } else { "\n" };
    format!("{}\n{chosen}{gap}{verdict}\n", table.render(style))
}
