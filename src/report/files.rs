//! Links to the files of a run: models, predictions, metrics and the log. They are absolute, so that
//! they hold wherever the page is, on this machine.

use super::html::{Column, Table};
use crate::common::number::bytes;
use crate::runs::{EVENTS, Results, StageRecord};
use maud::{Markup, Render, html};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The file of a trained model.
pub(super) const MODEL: &str = "model.safetensors";

/// The files of a stage that a reader may want, and their meanings.
const OUTPUTS: [(&str, &str); 5] = [
    (MODEL, "Model"),
    ("history.csv", "Training history"),
    ("predictions.csv", "Predictions"),
    ("metrics.json", "Metrics"),
    ("rejected.csv", "Files that are not used"),
];

/// The files that are there. Empty where there are none.
pub(super) fn links(results: &Results) -> Markup {
    let record = results.record();
    let mut table =
        Table::new(&[("File", Column::Text), ("Stage", Column::Text), ("Size", Column::Number)]);
    let outputs = record.stages.iter().flat_map(|stage| OUTPUTS.map(|output| (stage, output)));
    for (stage, (name, meaning)) in outputs {
        row(&mut table, results, stage, name, meaning);
    }
    let log = record.folder.join(EVENTS);
    if let Ok(metadata) = log.metadata() {
        let size = bytes(metadata.len()).render();
        table.row([link(&log, "Log", EVENTS), "all".render(), size]);
    }
    table.render()
}

fn row(table: &mut Table, results: &Results, stage: &StageRecord, name: &str, meaning: &str) {
    if let Some((path, length)) = results.output(stage, name) {
        table.row([link(&path, meaning, name), stage.stage.render(), bytes(length).render()]);
    }
}

fn link(path: &Path, meaning: &str, name: &str) -> Markup {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    html! { a href=(file_uri(&path)) title=(path.display()) { (meaning) } " " code { (name) } }
}

/// `file:///…` of an absolute path.
fn file_uri(path: &Path) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let escaped = |byte: &u8| match is_plain(*byte) {
        true => char::from(*byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    let path: String = path.as_os_str().as_bytes().iter().map(escaped).collect();
    format!("file://{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped_in_links() {
        let uri = file_uri(Path::new("/my images/a#b?\"<é>.csv"));
        assert_eq!(uri, "file:///my%20images/a%23b%3F%22%3C%C3%A9%3E.csv");
    }
}
