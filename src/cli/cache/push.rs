//! `pipe cache push RUN… PLACE`: copies the records and the outputs of runs, and the features that
//! their stages used (`features.rs`), to a store elsewhere. Content goes first, and what
//! leads to it last, so that an interrupted push is never seen by half.

use super::copy::Copy;
use super::exchange::{Arguments, Copied, failed, outputs, print};
use crate::cli::failure::Failure;
use crate::cli::shared::{find_run, intact, run_name, shown};
use crate::cli::signals;
use crate::common::replace::replace_file;
use crate::events::{CancellationToken, EventSink, Task};
use crate::runs::{LABELS, MAX_RECORD, RUN, Record};
use crate::stages::{Remote, RemoteError, Web, remote_at};
use crate::store::remote::{self as stored, MAX_KEY, objects};
use crate::store::{Artifact, Digest, Store, StoreError};
use crate::ui;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let to = super::place(arguments)?;
    let store = arguments.common.store.open_existing()?;
    let records = arguments.runs.iter().map(|wanted| finished(&store, wanted));
    let records = records.collect::<Result<Vec<Record>, Failure>>()?;
    let cancel = CancellationToken::new();
    signals::cancel_on_interrupt(&cancel)?;
    let events = ui::following("push");
    let push = Push { arguments, store: &store, events: &events, cancel: &cancel };
    let all = match (to.folder(), to.web()) {
        (Some(folder), _) => push.to_folder(folder, &records),
        (None, Some(web)) => push.to_web(&to, web, &records),
        (None, None) => unreachable!("a place is a folder or a web server"),
    };
    drop(events);
    print(arguments, ["pushed", "would be pushed"], &all?)
}

/// A run that has ended, with an intact record.
fn finished(store: &Store, wanted: &str) -> Result<Record, Failure> {
    let record = find_run(store, wanted)?;
    let id = &record.id;
    if record.outcome.is_none() || !record.is_sealed() {
        let message = format!("run {id} has no complete record");
        return Err(Failure::invalid(message).help("push a run that has ended"));
    }
    match record.damaged_files().first() {
        None => Ok(record),
        Some(name) => Err(Failure::failed(format!("{name} of run {id} is damaged"))
            .help("`pipe cache verify` restores it if its artifact is still there")),
    }
}

pub(super) struct Push<'a> {
    pub(super) arguments: &'a Arguments,
    pub(super) store: &'a Store,
    events: &'a EventSink,
    pub(super) cancel: &'a CancellationToken,
}

impl Push<'_> {
    /// Pushes to a folder, which is a store.
    fn to_folder(&self, folder: &Path, records: &[Record]) -> Result<Vec<Copied>, Failure> {
        let from = remote_at(&self.store.base().to_string_lossy())?;
        let temporary;
        let to = match self.arguments.dry_run && !folder.join("v1").exists() {
            false => Store::open(folder)?,
            true => {
                temporary = tempfile::tempdir()?;
                Store::open(temporary.path())?
            }
        };
        let (arguments, events, cancel) = (self.arguments, self.events, self.cancel);
        let copy = Copy { from: &from, to: &to, arguments, events, cancel };
        let push = |record: &Record| {
            let mut copied = copy.run(&record.id)?;
            self.features_to_folder(&to, &self.keys(record), &mut copied)?;
            if let Some(name) = name(record).filter(|_| !arguments.dry_run) {
                write_name(&to, name, record)?;
            }
            Ok(copied)
        };
        records.iter().map(push).collect()
    }

    fn to_web(&self, to: &Remote, web: &Web, records: &[Record]) -> Result<Vec<Copied>, Failure> {
        let push = || -> Result<Vec<Copied>, Error> {
            if !to.is_store(true, self.cancel)? && !self.arguments.dry_run {
                let task = self.task("format", 0);
                let text = stored::format_text().as_bytes().to_vec();
                web.write(&objects::format(), text, &task, self.cancel)?;
            }
            records.iter().map(|record| self.run_to_web(to, web, record)).collect()
        };
        push().map_err(|error| match error {
            Error::Remote(error) => failed(to.place(), error),
            Error::Here(failure) => failure,
        })
    }

    fn run_to_web(&self, to: &Remote, web: &Web, record: &Record) -> Result<Copied, Error> {
        let mut copied = Copied { run: record.id.clone(), ..Copied::default() };
        for (stage, key, digest) in outputs(record, &self.arguments.stage) {
            let Some(artifact) = intact(self.store, &digest, &[])? else {
                copied.missing.push(stage);
                continue;
            };
            match self.output_to_web(to, web, &key, &artifact)? {
                true => {
                    copied.outputs += 1;
                    copied.bytes += artifact.size();
                }
                false => copied.present += 1,
            }
        }
        self.features_to_web(to, web, &self.keys(record), &mut copied)?;
        copied.record = self.record_to_web(to, web, record)?;
        Ok(copied)
    }

    /// Uploads an output: its files, its manifest, then the entry of its key. Returns whether
    /// anything was missing.
    fn output_to_web(
        &self,
        to: &Remote,
        web: &Web,
        key: &Digest,
        artifact: &Artifact,
    ) -> Result<bool, Error> {
        let digest = &artifact.digest;
        let is_there = !self.arguments.force && self.has_manifest(to, digest)?;
        // A key that leads to another output there keeps it.
        let entry = self.store.key_entry(key, digest)?;
        let has_entry = is_there && self.has_entry(to, key)?;
        if is_there && (has_entry || entry.is_none()) {
            return Ok(false);
        }
        if self.arguments.dry_run {
            return Ok(true);
        }
        let task = self.task("upload", artifact.size());
        if !is_there {
            let files = artifact.manifest.files.iter();
            let files: Vec<(String, PathBuf)> = files
                .map(|file| (objects::file(digest, &file.path), artifact.file(&file.path)))
                .collect();
            web.upload(&files, self.arguments.force, &task, self.cancel)?;
            web.write(&objects::manifest(digest), artifact.manifest_text(), &task, self.cancel)?;
        }
        if let Some(entry) = entry {
            web.write(&objects::key(key), entry, &task, self.cancel)?;
        }
        Ok(true)
    }

    /// Whether a manifest is there and intact. A damaged one is replaced.
    fn has_manifest(&self, to: &Remote, digest: &Digest) -> Result<bool, RemoteError> {
        match to.manifest(digest, self.cancel) {
            Err(RemoteError::Refused(_)) => Ok(false),
            result => Ok(result?.is_some()),
        }
    }

    fn has_entry(&self, to: &Remote, key: &Digest) -> Result<bool, RemoteError> {
        let text = match to.read(&objects::key(key), MAX_KEY, self.cancel) {
            Err(RemoteError::Refused(_)) => None,
            result => result?,
        };
        Ok(text.is_some_and(|text| stored::parse_key(key, &text).is_ok()))
    }

    /// Uploads the record, its own file last. Returns whether anything was missing.
    fn record_to_web(&self, to: &Remote, web: &Web, record: &Record) -> Result<bool, Error> {
        let object = |name: &str| objects::of_run(record.id.as_str(), name);
        let path = |name: &str| record.folder.join(name);
        let read = |name: &str| {
            let path = path(name);
            std::fs::read(&path)
                .map_err(|error| Failure::failed(format!("reading {}: {error}", shown(&path))))
        };
        let text = read(RUN)?;
        let is_there = !self.arguments.force
            && to.read(&object(RUN), MAX_RECORD, self.cancel)?.is_some_and(|known| known == text);
        if !self.arguments.dry_run {
            let task = self.task("record", 0);
            if !record.labels.is_empty() {
                web.write(&object(LABELS), read(LABELS)?, &task, self.cancel)?;
            }
            if !is_there {
                let files = record.sealed_files();
                let files: Vec<_> = files.map(|(name, _)| (object(name), path(name))).collect();
                web.upload(&files, self.arguments.force, &task, self.cancel)?;
                web.write(&object(RUN), text, &task, self.cancel)?;
            }
            if let Some(name) = name(record) {
                let id = format!("{}\n", record.id).into_bytes();
                web.write(&objects::name(name), id, &task, self.cancel)?;
            }
        }
        Ok(!is_there)
    }

    /// The keys of the stages that are pushed.
    fn keys(&self, record: &Record) -> Vec<Digest> {
        outputs(record, &self.arguments.stage).into_iter().map(|(_, key, _)| key).collect()
    }

    pub(super) fn task(&self, task: &str, bytes: u64) -> Arc<Task> {
        Arc::new(self.events.task(task, (bytes > 0).then_some(bytes), "bytes"))
    }
}

/// The name of a run. That of a run from elsewhere may be no name, and lead to another folder.
fn name(record: &Record) -> Option<&str> {
    Some(record.labels.name.as_str()).filter(|name| run_name(name).is_ok())
}

/// Writes the id of a run under its name, for those who read the folder through a web server.
fn write_name(to: &Store, name: &str, record: &Record) -> Result<(), Failure> {
    let path = to.base().join(objects::name(name));
    let folder = path.parent().unwrap_or(to.base());
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| replace_file(&path, format!("{}\n", record.id).as_bytes()));
    written.map_err(|error| Failure::failed(format!("writing {}: {error}", shown(&path))))
}

/// Why a push to the web stops.
pub(super) enum Error {
    Remote(RemoteError),
    Here(Failure),
}

impl From<RemoteError> for Error {
    fn from(error: RemoteError) -> Error {
        Error::Remote(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        Error::Here(failure)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Error {
        Error::Here(error.into())
    }
}
