//! What `pipe cache push` and `pull` share: their arguments, which outputs they copy, and what they
//! print.

use super::Common;
use super::reachable::parsed;
use crate::cli::failure::{Failure, INTERRUPTED};
use crate::common::number;
use crate::common::words::and_list;
use crate::runs::{Record, RunId, StageRecord};
use crate::stages::{RemoteError, SharedFile, message};
use crate::store::Digest;
use crate::ui;
use clap::Args;
use serde_json::json;

#[derive(Args)]
pub(super) struct Arguments {
    /// The runs: ids or names; to push, also `@0` for the latest
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<String>,
    /// A folder, `https://HOST/PATH` or `s3://BUCKET/PREFIX`
    #[arg(value_name = "PLACE")]
    pub place: String,
    /// Copy the outputs of this stage only (repeatable)
    #[arg(long, value_name = "STAGE")]
    pub stage: Vec<String>,
    /// Copy also what is there already: that repairs a damaged cache
    #[arg(long)]
    pub force: bool,
    /// Only show what would be copied
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub common: Common,
}

/// What became of a run.
#[derive(Default)]
pub(super) struct Copied {
    pub run: RunId,
    /// The outputs that were copied, and their bytes.
    pub outputs: u64,
    pub bytes: u64,
    /// The outputs that were there.
    pub present: u64,
    /// The rows of features that were copied, and the bytes of their files.
    pub feature_rows: u64,
    pub feature_bytes: u64,
    /// The stages whose outputs are no longer in the store that they come from.
    pub missing: Vec<String>,
    /// The outputs that aren't what was written, a sentence each.
    pub refused: Vec<String>,
    /// Whether the record was copied.
    pub record: bool,
}

impl Copied {
    /// Counts files of features that are copied.
    pub(super) fn add_features(&mut self, files: &[SharedFile]) {
        self.feature_rows += files.iter().map(|file| file.rows).sum::<u64>();
        self.feature_bytes += files.iter().map(|file| file.bytes).sum::<u64>();
    }

    fn is_nothing(&self) -> bool {
        let is_copied = self.outputs > 0 || self.record || self.feature_bytes > 0;
        !is_copied && self.missing.is_empty() && self.refused.is_empty()
    }

    /// `run abcdef: 3 outputs pushed (1.2 MB), 2 there already, 34 rows of features (70.5 kB)`.
    fn line(&self, verb: &str) -> String {
        if self.is_nothing() {
            return format!("run {}: nothing to do\n", self.run);
        }
        let outputs = number::counted(self.outputs, "output");
        let present = match self.present {
            0 => String::new(),
            count => format!(", {} there already", number::thousands(count)),
        };
        let record = if self.record { "the record and " } else { "" };
        let bytes = number::bytes(self.bytes);
        let features = match self.feature_rows {
            0 => String::new(),
            rows => {
                let bytes = number::bytes(self.feature_bytes);
                format!(", {} of features ({bytes})", number::counted(rows, "row"))
            }
        };
        format!("run {}: {record}{outputs} {verb} ({bytes}){present}{features}\n", self.run)
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "run": self.run,
            "outputs": self.outputs,
            "bytes": self.bytes,
            "present": self.present,
            "feature_rows": self.feature_rows,
            "feature_bytes": self.feature_bytes,
            "missing": self.missing,
            "refused": self.refused,
            "record": self.record,
        })
    }
}

/// Prints what became of the runs.
///
/// # Errors
/// If an output was refused.
pub(super) fn print(
    arguments: &Arguments,
    [verb, would]: [&str; 2],
    all: &[Copied],
) -> Result<(), Failure> {
    if arguments.common.json {
        let runs: Vec<_> = all.iter().map(Copied::json).collect();
        let (place, dry_run) = (&arguments.place, arguments.dry_run);
        ui::json(&json!({ "place": place, "dry_run": dry_run, "runs": runs }))?;
    } else {
        let verb = if arguments.dry_run { would } else { verb };
        let lines: Vec<String> = all.iter().map(|copied| copied.line(verb)).collect();
        ui::out(&lines.concat())?;
    }
    for copied in all {
        if !copied.missing.is_empty() {
            let stages = and_list(copied.missing.iter().map(String::as_str));
            ui::warning(&format!(
                "run {}: the outputs of {stages} aren't there any more",
                copied.run
            ));
        }
        copied.refused.iter().for_each(|sentence| ui::warning(sentence));
    }
    let refused = all.iter().map(|copied| copied.refused.len() as u64).sum::<u64>();
    match refused {
        0 => Ok(()),
        count => {
            let outputs = number::counted(count, "output");
            Err(Failure::failed(format!("{outputs} couldn't be copied"))
                .help("`pipe cache push --force` repairs the cache, from a store that has them"))
        }
    }
}

/// The outputs of a run that are copied: stage, key and digest, each once.
pub(super) fn outputs(record: &Record, stages: &[String]) -> Vec<(String, Digest, Digest)> {
    let is_chosen = |stage: &&StageRecord| stages.is_empty() || stages.contains(&stage.stage);
    let chosen = record.stages.iter().filter(is_chosen);
    let known = chosen.filter_map(|stage| {
        Some((stage.stage.clone(), parsed(&stage.key)?, parsed(&stage.digest)?))
    });
    let mut found: Vec<(String, Digest, Digest)> = Vec::new();
    for output in known {
        if !found.iter().any(|(_, key, _)| *key == output.1) {
            found.push(output);
        }
    }
    found
}

/// The failure of a command whose store elsewhere can't be used.
pub(super) fn failed(place: &str, error: RemoteError) -> Failure {
    match message(place, error) {
        Some(sentence) => Failure::failed(sentence),
        None => {
            Failure::Message { code: INTERRUPTED, message: "interrupted".to_owned(), help: None }
        }
    }
}
