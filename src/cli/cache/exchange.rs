//! What `pipe cache push` and `pull` share: their arguments, the sum of what they copied, and the copy
//! of a run from any store to one in a folder.

use super::Common;
use super::reachable::parsed;
use crate::cli::failure::{Failure, INTERRUPTED};
use crate::common::number;
use crate::common::words::and_list;
use crate::events::{CancellationToken, EventSink};
use crate::runs::{self, Incoming, LABELS, MAX_RECORD, RUN, Record, RunId, StageRecord};
use crate::stages::{Remote, RemoteError, message};
use crate::store::remote::objects;
use crate::store::{Digest, ListedFile, RemoteArtifact, Store, StoreError};
use crate::ui;
use clap::Args;
use serde_json::json;
use std::path::Path;

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
    /// The stages whose outputs are no longer in the store that they come from.
    pub missing: Vec<String>,
    /// The outputs that aren't what was written, a sentence each.
    pub refused: Vec<String>,
    /// Whether the record was copied.
    pub record: bool,
}

impl Copied {
    fn is_nothing(&self) -> bool {
        self.outputs == 0 && !self.record && self.missing.is_empty() && self.refused.is_empty()
    }

    /// `run abcdef: 3 outputs pushed (1.2 MB), 2 were there`.
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
        format!("run {}: {record}{outputs} {verb} ({bytes}){present}\n", self.run)
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "run": self.run,
            "outputs": self.outputs,
            "bytes": self.bytes,
            "present": self.present,
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

/// A copy of runs from any store to one in a folder.
pub(super) struct Copy<'a> {
    pub from: &'a Remote,
    pub to: &'a Store,
    pub arguments: &'a Arguments,
    pub events: &'a EventSink,
    pub cancel: &'a CancellationToken,
}

impl Copy<'_> {
    /// Copies a run: its outputs, then its record.
    ///
    /// # Errors
    /// If the other store can't be used or has no such run, or this one can't be written.
    pub(super) fn run(&self, id: &RunId) -> Result<Copied, Failure> {
        let text = self.read(&objects::of_run(id.as_str(), RUN), MAX_RECORD)?.ok_or_else(|| {
            Failure::invalid(format!("there is no run `{id}` in {}", self.from.place()))
                .help("`pipe cache push` copies a run there")
        })?;
        let runs = self.to.runs_folder();
        let incoming = Incoming::new(&runs, id, &text)?;
        let mut copied = Copied { run: id.clone(), ..Copied::default() };
        for (stage, key, digest) in outputs(&incoming.record, &self.arguments.stage) {
            self.output(&stage, key, digest, &mut copied)?;
        }
        match runs::text_of(&runs, id) {
            Some(known) if known == text => return Ok(copied),
            Some(_) => {
                let message =
                    format!("another run is called `{id}` in {}", self.to.base().display());
                return Err(Failure::failed(message).help("use another store with `--cache`"));
            }
            None => copied.record = true,
        }
        if !self.arguments.dry_run {
            self.record(incoming)?;
        }
        Ok(copied)
    }

    fn output(
        &self,
        stage: &str,
        key: Digest,
        digest: Digest,
        copied: &mut Copied,
    ) -> Result<(), Failure> {
        if self.is_present(&key, &digest)? {
            copied.present += 1;
            return Ok(());
        }
        let manifest = match self.from.manifest(&digest, self.cancel) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => {
                copied.missing.push(stage.to_owned());
                return Ok(());
            }
            Err(error) => return self.refused(stage, error, copied),
        };
        // A key that was built again since leads to another output: this one has no log then.
        let found = self.from.find(&key, self.cancel).ok().flatten();
        let log = found.filter(|found| found.digest == digest).map(|found| found.log);
        let (log, place) = (log.unwrap_or_default(), self.from.place().to_owned());
        let artifact = RemoteArtifact { key, digest, manifest, log, place };
        let bytes = artifact.size();
        if !self.arguments.dry_run
            && let Err(error) = self.take(&artifact)
        {
            return self.refused(stage, error, copied);
        }
        copied.outputs += 1;
        copied.bytes += bytes;
        Ok(())
    }

    /// Whether the output is there. With `force`, only if every file is intact.
    fn is_present(&self, key: &Digest, digest: &Digest) -> Result<bool, Failure> {
        let found = self.to.lookup(key)?.filter(|found| found.digest == *digest);
        let is_intact = match (&found, self.arguments.force) {
            (Some(found), true) => self.to.check(found, &[], &[])?,
            (found, _) => found.is_some(),
        };
        self.to.take_notes().iter().for_each(|note| ui::warning(note));
        Ok(is_intact)
    }

    fn take(&self, artifact: &RemoteArtifact) -> Result<(), Error> {
        let fetch = |folder: &Path| {
            self.from.fetch(artifact, folder, self.events, self.cancel).map_err(Error::Remote)
        };
        let mut keep_waiting = || !self.cancel.is_cancelled();
        self.to.take(artifact, true, &mut keep_waiting, fetch)?;
        // A key that led to another output: the store says so.
        self.to.take_notes().iter().for_each(|note| ui::warning(note));
        Ok(())
    }

    fn record(&self, incoming: Incoming) -> Result<(), Failure> {
        let id = incoming.record.id.clone();
        let task = self.events.task("record", None, "bytes");
        for (name, file) in incoming.files() {
            let object = objects::of_run(id.as_str(), name);
            let listed = ListedFile { path: name.to_owned(), len: file.len, digest: file.digest };
            let folder = incoming.folder();
            self.from
                .fetch_file(&object, &listed, folder, &task, self.events, self.cancel)
                .map_err(|error| self.failed(error))?;
        }
        if let Some(labels) = self.read(&objects::of_run(id.as_str(), LABELS), MAX_RECORD)? {
            incoming.set_labels(&labels)?;
        }
        Ok(incoming.install()?)
    }

    fn read(&self, object: &str, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
        self.from.read(object, limit, self.cancel).map_err(|error| self.failed(error))
    }

    /// Remembers an output that can't be copied; fails if the whole store can't be used.
    fn refused(
        &self,
        stage: &str,
        error: impl Into<Error>,
        copied: &mut Copied,
    ) -> Result<(), Failure> {
        match error.into() {
            Error::Remote(RemoteError::Refused(reason)) => {
                let place = self.from.place();
                copied
                    .refused
                    .push(format!("the output of `{stage}` in {place} isn't used: {reason}"));
                Ok(())
            }
            Error::Remote(error) => Err(self.failed(error)),
            Error::Store(error) => Err(error.into()),
        }
    }

    fn failed(&self, error: RemoteError) -> Failure {
        failed(self.from.place(), error)
    }
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

/// Why an output isn't copied.
enum Error {
    Remote(RemoteError),
    Store(StoreError),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Error {
        match error {
            StoreError::Cancelled => Error::Remote(RemoteError::Cancelled),
            error => Error::Store(error),
        }
    }
}

impl From<RemoteError> for Error {
    fn from(error: RemoteError) -> Error {
        Error::Remote(error)
    }
}
