//! `pipe cache du|verify|gc`: maintenance of the store. Garbage collection keeps what the latest
//! runs on record used.

mod usage;

use super::failure::{Failure, STORE};
use super::shared::StoreArguments;
use super::signals;
use crate::common::number;
use crate::events::CancellationToken;
use crate::runs;
use crate::store::{Digest, Keep, Share, Store};
use crate::ui;
use clap::{Args, Subcommand};
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
    if as_json {
        ui::json(&verified)?;
    } else {
        let checked = format!(
            "{}, {}",
            number::counted(verified.artifacts, "artifact"),
            number::bytes(verified.bytes)
        );
        verified.damaged.iter().for_each(|damage| ui::warning(damage));
        let verdict = match verified.damaged.len() {
            0 => "all intact".to_owned(),
            damaged => {
                format!("{} damaged and moved aside", number::thousands(damaged as u64))
            }
        };
        ui::out(&format!("{checked}: {verdict}\n"))?;
    }
    Ok(if verified.damaged.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(STORE) })
}

fn gc(store: &Store, keeping: &Keeping, as_json: bool) -> Result<(), Failure> {
    let records = runs::list(&store.runs_folder());
    let stages = || records.iter().take(keeping.keep_runs).flat_map(|record| &record.stages);
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
