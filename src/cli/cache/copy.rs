//! The copy of runs from any store to one in a folder.

use super::exchange::{Arguments, Copied, failed, outputs};
use crate::cli::failure::Failure;
use crate::events::{CancellationToken, EventSink};
use crate::runs::{self, Incoming, LABELS, MAX_RECORD, RUN, RunId};
use crate::stages::{Remote, RemoteError};
use crate::store::remote::objects;
use crate::store::{Digest, ListedFile, RemoteArtifact, Store, StoreError};
use crate::ui;
use std::path::Path;

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
