//! `pipe cache du|verify|gc`: maintenance of the store; `push|pull`: its exchange with others.

mod collect;
mod copy;
mod exchange;
mod features;
mod limit;
mod listing;
mod pull;
mod push;
mod reachable;
mod usage;

pub(super) use limit::{LimitArguments, keep as keep_limit};

use super::failure::{Failure, STORE};
use super::shared::StoreArguments;
use super::signals;
use crate::common::number;
use crate::events::CancellationToken;
use crate::runs::{self, Checked};
use crate::stages::{self, Remote};
use crate::store::{Store, Verified};
use crate::ui;
use clap::{Args, Subcommand};
use serde_json::json;
use std::process::ExitCode;

/// Inspect and clean the store, and share runs with others
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
    /// Copy runs and their outputs to a cache elsewhere
    ///
    /// There, `pipe run --cache-from PLACE` finds the outputs and the cached features of frozen
    /// backbones that their stages used, and `pipe cache pull` the runs. What is there already is left
    /// out. Whoever can write to the place decides on what others take from it.
    #[command(after_help = PUSH)]
    Push(exchange::Arguments),
    /// Copy runs and their outputs from a cache elsewhere
    ///
    /// The runs are shown, compared and used as those of this store. Every file is checked against
    /// its digest.
    #[command(after_help = PULL)]
    Pull(exchange::Arguments),
}

const PUSH: &str = "Examples:
  pipe cache push @0 /mnt/lab/pipe            the latest run, to a folder
  pipe cache push baseline s3://lab/pipe      a run by its name, to a bucket
  pipe cache push @0 @1 https://lab.org/pipe  two runs, by PUT requests

Credentials are those of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile
(AWS_ENDPOINT_URL names another server than AWS); for a web server
PIPE_CACHE_TOKEN, or PIPE_CACHE_USER and PIPE_CACHE_PASSWORD.";

const PULL: &str = "Examples:
  pipe cache pull qf3qjm /mnt/lab/pipe              a run by its id
  pipe cache pull baseline s3://lab/pipe            a run by its name
  pipe cache pull qf3qjm s3://lab/pipe --stage train
                                                    its record and its model only";

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
        Command::Push(arguments) => push::run(arguments)?,
        Command::Pull(arguments) => pull::run(arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The place of a push or a pull.
fn place(arguments: &exchange::Arguments) -> Result<Remote, Failure> {
    let place = stages::remote_at(&arguments.place);
    place.map_err(|error| Failure::from(error).into_invalid())
}

fn verify(store: &Store, as_json: bool) -> Result<ExitCode, Failure> {
    let cancel = CancellationToken::new();
    signals::cancel_on_interrupt(&cancel)?;
    let verified = store.verify(&mut |_| !cancel.is_cancelled())?;
    let records = runs::check_records(&runs::records(&store.runs_folder()), store);
    // Repairs report what they moved aside.
    store.take_notes();
    let is_intact = [&verified.damaged, &verified.suspects, &records.repaired, &records.damaged]
        .iter()
        .all(|list| list.is_empty());
    if as_json {
        let mut json = serde_json::to_value(&verified).unwrap_or_default();
        json["records"] = json!(records);
        ui::json(&json)?;
    } else {
        let outputs = verified.damaged.iter().chain(&verified.suspects);
        let damage = outputs.chain(&records.repaired).chain(&records.damaged);
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
        (verified.suspects.len(), "made from damaged ones and moved aside"),
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
