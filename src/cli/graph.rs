//! `pipe graph FILE`: prints the graph of stages as text, Mermaid, Graphviz or JSON.

use super::failure::Failure;
use super::shared::PipelineArguments;
use crate::engine::{Graph, Stage};
use crate::ui;
use clap::{Args, ValueEnum};
use serde_json::json;
use std::process::ExitCode;

/// Show the stages and their dependencies
#[derive(Args)]
#[command(after_help = "Example:\n  pipe graph photos.toml --format dot | dot -Tsvg > photos.svg")]
pub(super) struct Arguments {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// One line per stage
    Text,
    /// A Mermaid flowchart, for Markdown
    Mermaid,
    /// Graphviz
    Dot,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let (_, graph) = arguments.pipeline.read()?;
    if arguments.json {
        let stage = |stage: &Stage| json!({ "stage": stage.name, "kind": stage.kind.name(), "needs": stage.needs });
        let stages: Vec<_> = graph.stages.iter().map(stage).collect();
        ui::json(&json!({ "pipeline": graph.name, "stages": stages }))?;
        return Ok(ExitCode::SUCCESS);
    }
    ui::data(&match arguments.format {
        Format::Text => text(&graph),
        Format::Mermaid => mermaid(&graph),
        Format::Dot => dot(&graph),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A stage's name and, if it differs, its kind.
fn label(stage: &Stage) -> String {
    let kind = stage.kind.name();
    if stage.name == kind { stage.name.clone() } else { format!("{} ({kind})", stage.name) }
}

/// The path in an input, where the stage needs a part of it, with a `/` before it.
fn inside(stage: &Stage, role: &str) -> String {
    stage.inside.get(role).map_or(String::new(), |path| format!("/{path}"))
}

fn text(graph: &Graph) -> String {
    let columns = graph.stages.iter().map(|stage| ui::width(&label(stage))).max().unwrap_or(0);
    let line = |stage: &Stage| {
        let needs: Vec<String> = stage
            .needs
            .iter()
            .map(|(role, from)| format!("{role} from {from}{}", inside(stage, role)))
            .collect();
        let label = label(stage);
        let line = if needs.is_empty() {
            label
        } else {
            format!("{}  needs {}", ui::padded(&label, columns), needs.join(", "))
        };
        line + "\n"
    };
    graph.stages.iter().map(line).collect()
}

/// Edges between stages by index: node ids need no escaping then, only labels do.
fn edges<'a>(graph: &'a Graph) -> impl Iterator<Item = (usize, &'a str, usize)> + 'a {
    let number = |name: &str| graph.stages.iter().position(|stage| stage.name == name);
    graph.stages.iter().enumerate().flat_map(move |(to, stage)| {
        stage.needs.iter().filter_map(move |(role, from)| Some((number(from)?, role.as_str(), to)))
    })
}

fn mermaid(graph: &Graph) -> String {
    let escaped =
        |text: &str| text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    let mut text = "flowchart LR\n".to_owned();
    for (at, stage) in graph.stages.iter().enumerate() {
        text.push_str(&format!("    s{at}[\"{}\"]\n", escaped(&label(stage))));
    }
    for (from, role, to) in edges(graph) {
        text.push_str(&format!("    s{from} -->|{}| s{to}\n", escaped(role)));
    }
    text
}

fn dot(graph: &Graph) -> String {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut text =
        format!("digraph \"{}\" {{\n    rankdir=LR\n    node [shape=box]\n", escaped(&graph.name));
    for (at, stage) in graph.stages.iter().enumerate() {
        text.push_str(&format!("    s{at} [label=\"{}\"]\n", escaped(&label(stage))));
    }
    for (from, role, to) in edges(graph) {
        text.push_str(&format!("    s{from} -> s{to} [label=\"{}\"]\n", escaped(role)));
    }
    text + "}\n"
}
