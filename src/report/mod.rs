//! Pages drawn from runs: one self-contained HTML file that has no script, fetches nothing and says so to the browser.
//! What a run doesn't have (it failed, it has no test split, its artifacts were collected) is left out of its page.
//! Outside all digests. Its size is bounded, however many images there are: tables are cut with a sentence, charts
//! thinned, at most two dozen images shown. Knows nothing of how results were made.

mod advice;
mod base64;
mod comparison;
mod evaluation;
mod exploration;
mod facts;
mod headline;
mod html;
mod run;
mod training;
mod wrong;

pub use advice::advice;

use crate::runs::Results;

/// The page of one run, or of several held against each other: the first is the one that the others are held against.
pub fn page(runs: &[Results]) -> String {
    match runs {
        [run] => run::page(run),
        runs => comparison::page(runs),
    }
}
