//! `pipe cache du|verify|gc`: maintenance of the store.

mod collect;
mod listing;
mod reachable;
mod usage;

use super::failure::{Failure, STORE};
use super::shared::StoreArguments;
use super::signals;
use crate::common::number;
use crate::events::CancellationToken;
use crate::runs::{self, Checked};
use crate::store::{Store, Verified};
use crate::ui;
use clap::{Args, Subcommand};
use serde_json::json;
use std::process::ExitCode;

/// Inspect and clean the store
#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show disk usage by category, pipeline and run
    ///
    /// Runs share artifacts. `exclusive` is the size of the files that no other pipeline or run has,
    /// freed when it is removed; `shared`, of those that others have, too.
    Du(Common),
    /// Check every file against its digest
    ///
    /// Damaged artifacts are moved aside and rebuilt by the next run.
    Verify(Common),
    /// Remove cached outputs that recent runs did not use
    ///
    /// Kept are the records of all runs, and what runs need that have a name or a tag, are going on,
    /// or are among the latest. Of the rest, the memo and checkpoints of trainings that a later run
    /// has finished included, everything goes that wasn't used for some days. `--max-size` removes
    /// only as much as is needed, however young: first what wasn't used for the most days, and of the
    /// same day what takes the least time to make again for its size.
    Gc(collect::Arguments),
}

#[derive(Args)]
struct Common {
    #[command(flatten)]
    store: StoreArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.command {
        Command::Du(common) => usage::print(&common.store.open_existing()?, common.json)?,
        Command::Verify(common) => return verify(&common.store.open_existing()?, common.json),
        Command::Gc(arguments) => collect::run(arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(store: &Store, as_json: bool) -> Result<ExitCode, Failure> {
    let cancel = CancellationToken::new();
    signals::cancel_on_interrupt(&cancel)?;
    let verified = store.verify(&mut |_| !cancel.is_cancelled())?;
    let records = runs::check_records(&runs::records(&store.runs_folder()), store);
    // Repairs report what they moved aside.
    store.take_notes();
    let is_intact =
        [&verified.damaged, &records.repaired, &records.damaged].iter().all(|list| list.is_empty());
    if as_json {
        let mut json = serde_json::to_value(&verified).unwrap_or_default();
        json["records"] = json!(records);
        ui::json(&json)?;
    } else {
        let damage = verified.damaged.iter().chain(&records.repaired).chain(&records.damaged);
        damage.for_each(|damage| ui::warning(damage));
        ui::out(&format!("{}\n", verdict(&verified, &records)))?;
    }
    Ok(if is_intact { ExitCode::SUCCESS } else { ExitCode::from(STORE) })
}

/// `5 artifacts, 1.2 MB, 2 runs: all intact`.
fn verdict(verified: &Verified, records: &Checked) -> String {
    let mut checked = vec![
        number::counted(verified.artifacts, "artifact"),
        number::bytes(verified.bytes),
        number::counted(records.runs, "run"),
    ];
    if records.unsealed > 0 {
        checked.push(format!(
            "{} of earlier versions without a seal",
            number::thousands(records.unsealed)
        ));
    }
    let found = [
        (verified.damaged.len(), "damaged and moved aside"),
        (records.repaired.len(), "of a run's files damaged and repaired"),
        (records.damaged.len(), "of a run's files damaged (`pipe runs rm` removes a run)"),
    ];
    let found = found.iter().filter(|(count, _)| *count > 0);
    let found: Vec<String> = found
        .map(|(count, sentence)| format!("{} {sentence}", number::thousands(*count as u64)))
        .collect();
    let found = if found.is_empty() { "all intact".to_owned() } else { found.join("; ") };
    format!("{}: {found}", checked.join(", "))
}
