//! `pipe backbones`: the networks that a pipeline file can name. Knows the list, not the networks.

use super::failure::Failure;
use crate::common::number;
use crate::model::{self, BackboneRow};
use crate::ui::{self, Side, Style, Table};
use clap::Args;
use std::process::ExitCode;

/// List the networks that `backbone` can name, with their sizes, their stages for `freeze` and their published weights
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
        ("parameters", Side::Right),
        ("multiply-adds", Side::Right),
        ("input", Side::Right),
        ("weights, top-1", Side::Left),
        ("stages", Side::Left),
    ]);
    for row in rows {
        // The version alone: what stands before it is the name at the row's beginning.
        let version =
            |name: &str| name.rsplit_once('/').map_or(name, |(_, version)| version).to_owned();
        let weights: Vec<String> = row
            .weights
            .iter()
            .map(|(name, top1)| format!("{} {top1:.1} %", version(name)))
            .collect();
        let millions = |value: u64| format!("{:.1} M", value as f64 / 1e6);
        table.row([
            row.name.to_owned(),
            millions(row.parameters),
            if row.multiply_adds < 1_000_000_000 {
                millions(row.multiply_adds)
            } else {
                format!("{:.2} G", row.multiply_adds as f64 / 1e9)
            },
            number::thousands(row.input_size as u64),
            weights.join(", "),
            row.stages.join(" "),
        ]);
    }
    table.render(Style::stdout())
}
