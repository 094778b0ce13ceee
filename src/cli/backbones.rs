//! `pipe backbones`: lists the networks that a pipeline file can name.

use super::failure::Failure;
use crate::common::number;
use crate::model::{self, BackboneRow};
use crate::ui::{self, Side, Style, Table};
use clap::Args;
use std::process::ExitCode;

/// List the available backbones
///
/// With their sizes, the layer groups that `freeze` can name, and published weights.
#[derive(Args)]
pub(super) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let rows = model::backbones()?;
    if arguments.json {
        ui::json(&rows)?;
    } else {
        ui::out(&table(&rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[BackboneRow]) -> String {
    let mut table = Table::new([
        ("backbone", Side::Left),
        ("params", Side::Right),
        ("MACs", Side::Right),
        ("input", Side::Right),
        ("weights (top-1)", Side::Left),
        ("layer groups", Side::Left),
    ]);
    for row in rows {
        let weights: Vec<String> = row
            .weights
            .iter()
            .map(|(name, top1)| {
                format!("{} {}", version(name), number::percent(f64::from(*top1) / 100.0))
            })
            .collect();
        table.row([
            row.name.to_owned(),
            millions(row.parameters),
            match row.multiply_adds {
                0..1_000_000_000 => millions(row.multiply_adds),
                large => format!("{:.2} G", large as f64 / 1e9),
            },
            number::thousands(row.input_size as u64),
            weights.join(", "),
            row.stages.join(" "),
        ]);
    }
    table.render(Style::stdout())
}

/// The name of published weights without the backbone's name, which is in the first column.
fn version(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, version)| version)
}

fn millions(value: u64) -> String {
    format!("{:.1} M", value as f64 / 1e6)
}
