//! `pipe cache du|verify|gc`: maintenance of the store. Garbage collection keeps what the latest
//! runs on record used.

mod usage;

use super::failure::{Failure, STORE};
use super::shared::StoreArguments;
use super::signals;
use crate::common::number;
use crate::events::CancellationToken;
use crate::runs::{self, Checked, Entry};
use crate::store::{Digest, Keep, Share, Store, Verified};
use crate::ui;
use clap::{Args, Subcommand};
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;

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
    /// The records of runs are kept.
    Gc {
        #[command(flatten)]
        keeping: Keeping,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Args)]
struct Common {
    #[command(flatten)]
    store: StoreArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Keeping {
    /// Keep what the latest N runs built or used
    #[arg(long, value_name = "N", default_value_t = 10)]
    keep_runs: usize,
    /// Keep what was built or used within this many days
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    keep_days: u64,
    /// Only report what would be removed
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.command {
        Command::Du(common) => usage::print(&common.store.open_existing()?, common.json)?,
        Command::Verify(common) => return verify(&common.store.open_existing()?, common.json),
        Command::Gc { keeping, common } => {
            gc(&common.store.open_existing()?, keeping, common.json)?
        }
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

fn gc(store: &Store, keeping: &Keeping, as_json: bool) -> Result<(), Failure> {
    let entries = runs::list(&store.runs_folder());
    let kept = || entries.iter().take(keeping.keep_runs).map(Entry::record);
    let stages = || kept().flat_map(|record| &record.stages);
    let parsed =
        |digest: &Option<String>| digest.as_ref().and_then(|digest| digest.parse::<Digest>().ok());
    let keep = Keep {
        digests: stages().filter_map(|stage| parsed(&stage.digest)).collect(),
        keys: stages().filter_map(|stage| parsed(&stage.key)).collect(),
        younger_than: Duration::from_secs(keeping.keep_days.saturating_mul(24 * 60 * 60)),
    };
    let collected = store.gc(&keep, keeping.dry_run)?;
    if as_json {
        return Ok(ui::json(&collected)?);
    }
    let would = if keeping.dry_run { "would be " } else { "" };
    let line = |thing: &str, share: Share| {
        format!(
            "{} {would}removed, {}\n",
            number::counted(share.count, thing),
            number::bytes(share.bytes)
        )
    };
    Ok(ui::out(&(line("artifact", collected.artifacts) + &line("other item", collected.other)))?)
}
