//! `pipe cache gc`: what goes, in names that people know, and its removal. On a terminal it is shown
//! before anything is removed.

use super::Common;
use super::listing::Listing;
use super::reachable::{self, Keeping};
use crate::cli::failure::{Failure, STORE};
use crate::common::number;
use crate::runs::{self, Status};
use crate::store::{Collection, Part, Store};
use crate::ui;
use clap::Args;
use std::collections::HashSet;
use std::io::{self, IsTerminal, Write};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    keeping: Keeping,
    /// Only show what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Don't ask before removing, which is done on a terminal only
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let store = arguments.common.store.open_existing()?;
    let asks = !arguments.yes && !arguments.common.json && is_terminal();
    let remove = |shown| {
        let removed = arguments.remove(&store, shown);
        removed.map_err(|failure| naming_runs(failure, &store))
    };
    if !arguments.dry_run && !asks {
        return arguments.end(&store, remove(None)?, false);
    }
    let (listing, planned) = arguments.plan(&store)?;
    if arguments.dry_run {
        return arguments.end(&store, (listing, planned), true);
    }
    if planned.removed.is_empty() {
        return arguments.end(&store, (listing, planned), false);
    }
    ui::out(&listing.text(&planned, true))?;
    if !confirmed()? {
        return Ok(ui::out("nothing was removed\n")?);
    }
    let shown = planned.removed.into_iter().map(|removed| removed.item.part).collect();
    let (listing, removed) = remove(Some(&shown))?;
    ui::out(&listing.total(&removed, false))?;
    arguments.check_limit(&removed, false)
}

/// The bytes that collecting with the default options would free. None where that isn't known.
pub(super) fn reclaimable(store: &Store) -> Option<u64> {
    let records = runs::records(&store.runs_folder());
    let keep = Keeping::default().keep(&records).ok()?;
    Some(store.plan_collection(&keep).ok()?.freed())
}

impl Arguments {
    fn plan(&self, store: &Store) -> Result<(Listing, Collection), Failure> {
        let records = runs::records(&store.runs_folder());
        reachable::warn_of_unreadable(&records);
        let keep = self.keeping.keep(&records)?;
        Ok((Listing::new(&records), store.plan_collection(&keep)?))
    }

    /// Removes what the rules don't keep; with `shown`, nothing but these.
    fn remove(
        &self,
        store: &Store,
        shown: Option<&HashSet<Part>>,
    ) -> Result<(Listing, Collection), Failure> {
        store.exclusively(|exclusive| {
            // A run may have ended since the user saw the plan.
            let records = runs::records(&store.runs_folder());
            reachable::warn_of_unreadable(&records);
            let keep = self.keeping.keep(&records)?;
            Ok((Listing::new(&records), exclusive.collect(&keep, shown)?))
        })
    }

    /// Prints the result.
    fn end(
        &self,
        store: &Store,
        (listing, collection): (Listing, Collection),
        dry_run: bool,
    ) -> Result<(), Failure> {
        match self.common.json {
            true => ui::json(&listing.json(&collection, self.keeping.max_size, dry_run))?,
            false => ui::out(&listing.text(&collection, dry_run))?,
        }
        if collection.is_in_use {
            let place = crate::cli::shared::shown(store.root());
            ui::note(&format!("a run uses {place}: remains of killed runs are not counted\n"));
        }
        self.check_limit(&collection, dry_run)
    }

    fn check_limit(&self, collection: &Collection, dry_run: bool) -> Result<(), Failure> {
        let after = collection.after();
        let Some(limit) = self.keeping.max_size.filter(|limit| after > *limit) else {
            return Ok(());
        };
        let [after, limit] = [after, limit].map(number::bytes);
        let takes = if dry_run { "would still take" } else { "still takes" };
        let message = format!("the store {takes} {after}, more than the limit of {limit}");
        Err(Failure::failed(message).help(
            "kept runs need the rest: keep fewer with `--keep-runs`, take names and tags off runs, or remove runs with `pipe runs rm`",
        ))
    }
}

/// Adds which runs are going on to the failure that the store is locked.
fn naming_runs(failure: Failure, store: &Store) -> Failure {
    if !matches!(failure, Failure::Message { code: STORE, help: None, .. }) {
        return failure;
    }
    let records = runs::records(&store.runs_folder());
    let running = records.iter().filter(|record| record.status == Status::Running);
    let running = running.map(|record| format!("run {} of {}", record.id, record.pipeline));
    match running.collect::<Vec<_>>().as_slice() {
        [] => failure,
        running => failure.help(format!("going on: {}", running.join(", "))),
    }
}

fn is_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

fn confirmed() -> Result<bool, Failure> {
    ui::out("remove them? [y/N] ")?;
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
