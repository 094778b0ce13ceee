//! The limit of the store's size that `pipe run` keeps: after each run, what earlier runs left goes
//! as `pipe cache gc --max-size` chooses. What this run and runs with a name or a tag need stays.

use super::listing::Listing;
use super::reachable::Keeping;
use crate::cli::failure::Failure;
use crate::cli::shared::shown;
use crate::common::number;
use crate::runs;
use crate::store::{Collection, Store, StoreError};
use crate::ui;
use clap::Args;

/// The environment variable with the limit.
const VARIABLE: &str = "PIPE_CACHE_LIMIT";

#[derive(Args)]
pub(in crate::cli) struct LimitArguments {
    /// Keep the store within this size, such as `20GB`: after the run, outputs of earlier runs are
    /// removed as `pipe cache gc --max-size` does [default: $PIPE_CACHE_LIMIT, else no limit]
    #[arg(long, value_name = "SIZE", value_parser = super::reachable::size)]
    cache_limit: Option<u64>,
}

impl LimitArguments {
    /// The limit in bytes, from the command line or the environment.
    ///
    /// # Errors
    /// An invalid request if the environment has something else than a size.
    pub(in crate::cli) fn limit(&self) -> Result<Option<u64>, Failure> {
        let given = std::env::var(VARIABLE).unwrap_or_default();
        match (self.cache_limit, given.as_str()) {
            (None, "") => Ok(None),
            (Some(limit), _) => Ok(Some(limit)),
            (None, text) => match super::reachable::size(text) {
                Ok(limit) => Ok(Some(limit)),
                Err(expected) => {
                    let message = format!("`{VARIABLE}` is `{text}`, {expected}");
                    Err(Failure::invalid(message).help(format!("change it, or unset `{VARIABLE}`")))
                }
            },
        }
    }
}

/// Removes outputs of earlier runs until the store takes at most `limit` bytes, and says so. The
/// latest run is the one that just ended.
///
/// # Errors
/// If an I/O operation fails, or what a named run needs isn't known.
pub(in crate::cli) fn keep(store: &Store, limit: u64) -> Result<(), Failure> {
    let collected = store.exclusively(|exclusive| {
        let records = runs::records(&store.runs_folder());
        Ok(match Keeping::of_the_latest_run(limit).keep(&records) {
            Ok(keep) => Ok((Listing::new(&records), exclusive.collect(&keep, None)?)),
            Err(failure) => Err(failure),
        })
    });
    match collected {
        Ok(collected) => {
            let (listing, collection) = collected?;
            report(&listing, &collection, limit);
        }
        Err(StoreError::Locked { .. }) => {
            let place = shown(store.base());
            ui::note(&format!(
                "another run uses {place}: the limit of its size is kept at the end of the next one\n"
            ));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn report(listing: &Listing, collection: &Collection, limit: u64) {
    let [after, limit_text] = [collection.after(), limit].map(number::bytes);
    if !collection.removed.is_empty() {
        let total = listing.total(collection, false);
        ui::note(&format!("to keep the store within {limit_text}, {total}"));
    }
    if collection.after() > limit {
        ui::warning(&format!(
            "the store takes {after}, more than its limit of {limit_text}: this run and those with a name or a tag need it"
        ));
    }
}
