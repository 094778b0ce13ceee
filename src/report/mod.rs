//! HTML pages rendered from runs: one self-contained file without scripts that fetches nothing, and
//! declares so in its content security policy. What opens on a click is a link to a fragment, a
//! `details` element or a radio button, which keyboards and screen readers know. Whatever a run lacks
//! (it failed, it has no test split, its artifacts were collected) is left out of its page. Pages
//! enter no digest. Their size is bounded, however large the data set: tables are cut with a sentence
//! that says so, charts thinned, and images shown up to a number: about a thousand of the test split.

mod advice;
mod cells;
mod changed_confusions;
mod changed_images;
mod classes;
mod comparison;
mod curves;
mod evaluation;
mod exploration;
mod files;
mod findings;
mod gallery;
mod headline;
mod heat_maps;
mod html;
mod leaks;
mod provenance;
mod run;
mod scored;
mod stages;
mod stored;
mod strip;
mod thumbnail;
mod training;

pub use heat_maps::{Explain, Explained};
pub use strip::strip_page;

use crate::common::visible::visible;
use crate::runs::Results;
use maud::Markup;

/// The page of one run, or the comparison of several runs with the first one. `explain` draws the
/// heat maps of the galleries of a run; without it there are none.
pub fn page(runs: &[Results], explain: Option<Explain>) -> String {
    let page = match runs {
        [run] => run::page(run, explain),
        runs => comparison::page(runs),
    };
    text_of(page)
}

/// A page as text. Names in it can't change the direction of the text around them. Tabs and line
/// ends of pipeline files stay.
fn text_of(page: Markup) -> String {
    let page = page.into_string().replace("\r\n", "\n");
    page.split('\t').map(visible).collect::<Vec<_>>().join("\t") + "\n"
}
