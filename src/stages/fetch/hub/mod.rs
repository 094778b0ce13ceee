//! Fetches repositories of the Hugging Face Hub: data sets and weights, pinned to the commit that was
//! current when they were first asked for.

mod archives;
mod card;
mod data_set;
mod pattern;
mod selection;
mod shards;
mod tables;

use super::FetchOptions;
use super::remote;
use super::weights::{self, CONFIGURATION, MODEL};
use crate::common::number;
use crate::data::source::{HubKind, HubSource};
use crate::download::hub::{File, Repository, RepositoryKind};
use crate::download::{self, Download, DownloadError, RetryPolicy, Site, Version, cached};
use crate::engine::{Context, OrFail, StageError};
use crate::events::{CancellationToken, Task};
use crate::store::{Digest, Memo};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bucket of the memo with the pins of repositories.
pub(super) const BUCKET: &str = "hub pins";
/// Bucket of the memo with what the repositories hold.
const CONTENTS: &str = "hub contents";
/// Bucket of the memo with the size of the files that a stage downloads of a repository.
const SELECTED: &str = "hub selections";
/// The branch that is meant where none is named.
const MAIN: &str = "main";
/// Files that are downloaded at a time.
const AT_A_TIME: usize = 8;

/// The pin of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pinned {
    /// Whether it is a data set. None until it is asked for, where only `pipe.lock` says the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_data_set: Option<bool>,
    pub commit: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
}

/// The files of a repository at a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Inventory {
    /// Of the list of all files with their digests.
    pub sha256: String,
    /// Of all files together, in bytes.
    pub size: u64,
}

/// The name of a repository in `pipe.lock`.
pub(super) fn name(source: &HubSource) -> String {
    let kind = match source.kind {
        Some(HubKind::Dataset) => "datasets/",
        Some(HubKind::Model) => "models/",
        None => "",
    };
    let revision = source.revision.as_ref().map_or(String::new(), |name| format!("@{name}"));
    format!("hf:{kind}{}{revision}", source.id)
}

/// The pin: the one at hand, or the current commit.
pub(super) fn pinned(
    source: &HubSource,
    memo: &Memo,
    cancel: &CancellationToken,
) -> Result<Pinned, StageError> {
    match kept(source, memo) {
        Some(pin) if pin.is_data_set.is_some() => Ok(pin),
        Some(pin) => found(source, &pin.commit, memo, cancel),
        None => look(source, memo, cancel),
    }
}

pub(super) fn kept(source: &HubSource, memo: &Memo) -> Option<Pinned> {
    serde_json::from_slice(&memo.get(BUCKET, &name(source))?).ok()
}

pub(super) fn remember(source: &HubSource, pin: &Pinned, memo: &Memo) -> Result<(), StageError> {
    put(BUCKET, &name(source), pin, memo).or_fail("pinning the commit")
}

fn put(bucket: &str, key: &str, value: &impl Serialize, memo: &Memo) -> Result<(), StageError> {
    let bytes = serde_json::to_vec(value).map_err(|error| StageError::failed(error.to_string()))?;
    Ok(memo.put(bucket, key, &bytes)?)
}

/// Pins the current commit.
pub(super) fn look(
    source: &HubSource,
    memo: &Memo,
    cancel: &CancellationToken,
) -> Result<Pinned, StageError> {
    found(source, source.revision.as_deref().unwrap_or(MAIN), memo, cancel)
}

/// Pins a revision. A name that doesn't say the kind is that of a data set, else of a model.
fn found(
    source: &HubSource,
    revision: &str,
    memo: &Memo,
    cancel: &CancellationToken,
) -> Result<Pinned, StageError> {
    let ask = |kind| {
        let repository = Repository { kind, id: source.id.clone(), revision: revision.to_owned() };
        let facts = download::hub_facts(&repository, &RetryPolicy::quick(), cancel)?;
        let licence = card::licence(&facts.card_data);
        let is_data_set = Some(kind == RepositoryKind::Dataset);
        Ok(Pinned { is_data_set, commit: facts.sha.to_ascii_lowercase(), licence })
    };
    let pin = match source.kind {
        Some(HubKind::Dataset) => ask(RepositoryKind::Dataset)?,
        Some(HubKind::Model) => ask(RepositoryKind::Model)?,
        None => ask(RepositoryKind::Dataset).or_else(|error| or_model(error, source, &ask))?,
    };
    remember(source, &pin, memo)?;
    Ok(pin)
}

/// Asks for a model where there is no data set of this name.
fn or_model(
    error: DownloadError,
    source: &HubSource,
    ask: &impl Fn(RepositoryKind) -> Result<Pinned, DownloadError>,
) -> Result<Pinned, StageError> {
    if !matches!(error, DownloadError::Site { status: Some(401 | 403 | 404), .. }) {
        return Err(error.into());
    }
    match ask(RepositoryKind::Model) {
        Ok(pin) => Ok(pin),
        Err(DownloadError::Site { status: Some(401 | 403 | 404), .. }) => {
            let help = error.help().unwrap_or_default().to_owned();
            let help = format!("{help}; there is no model `{}` either", source.id);
            Err(StageError::from(error).with_help(help))
        }
        Err(other) => Err(other.into()),
    }
}

/// The facts that identify what is fetched.
pub(super) fn facts(source: &HubSource, pin: &Pinned) -> BTreeMap<String, Value> {
    let repository = repository(source, pin);
    let name = format!("hf:{}/{}", repository.kind.folder(), repository.id);
    let mut facts = BTreeMap::from([
        ("repository".to_owned(), Value::from(name)),
        ("commit".to_owned(), Value::from(pin.commit.clone())),
    ]);
    if let Some(file) = &source.file {
        facts.insert("file".to_owned(), Value::from(file.clone()));
    }
    facts
}

/// The repository at the pinned commit.
fn repository(source: &HubSource, pin: &Pinned) -> Repository {
    let kind = match pin.is_data_set {
        Some(false) => RepositoryKind::Model,
        Some(true) | None => RepositoryKind::Dataset,
    };
    Repository { kind, id: source.id.clone(), revision: pin.commit.clone() }
}

/// The key of what a repository holds.
pub(super) fn key(source: &HubSource, pin: &Pinned) -> String {
    format!("hf:{} {}", source.id, pin.commit)
}

/// The files of a repository, if it was listed.
pub(super) fn inventory(source: &HubSource, pin: &Pinned, memo: &Memo) -> Option<Inventory> {
    serde_json::from_slice(&memo.get(CONTENTS, &key(source, pin))?).ok()
}

/// The key of the files that a stage downloads of a repository.
fn selection_key(source: &HubSource, pin: &Pinned, options: &FetchOptions) -> String {
    let FetchOptions { config, splits, .. } = options;
    format!("{}\n{:?} {config:?} {splits:?}", key(source, pin), source.file)
}

/// The size in bytes of the files that a stage downloads of a repository, if they were selected
/// before.
pub(super) fn selected_size(
    source: &HubSource,
    pin: &Pinned,
    options: &FetchOptions,
    memo: &Memo,
) -> Option<u64> {
    serde_json::from_slice(&memo.get(SELECTED, &selection_key(source, pin, options))?).ok()
}

/// Fetches images or weights into the artifact.
pub(super) fn run(
    source: &HubSource,
    options: &FetchOptions,
    context: &Context,
) -> Result<(), StageError> {
    let pin = pinned(source, &context.memo, &context.cancel)?;
    let repository = repository(source, &pin);
    let files = listed(source, &pin, &repository, context)?;
    let licence = pin.licence.as_ref().map_or(String::new(), |name| format!(", licence: {name}"));
    let commit = pin.commit.get(..12).unwrap_or_default();
    context.events.info(format!("{} at commit {commit}{licence}", repository.id));
    let remember_size = |selected: &[&File]| {
        put(SELECTED, &selection_key(source, &pin, options), &size(selected), &context.memo)
    };
    match repository.kind {
        RepositoryKind::Dataset => {
            data_set::run(&repository, &files, options, &remember_size, context)
        }
        RepositoryKind::Model => model(source, &repository, &files, &remember_size, context),
    }
}

/// The size of all files together, in bytes.
fn size(files: &[&File]) -> u64 {
    files.iter().fold(0u64, |sum, file| sum.saturating_add(file.size))
}

/// The files of a repository, or the one that the source names. Compared with `pipe.lock`.
fn listed(
    source: &HubSource,
    pin: &Pinned,
    repository: &Repository,
    context: &Context,
) -> Result<Vec<File>, StageError> {
    let Context { memo, cancel, .. } = context;
    let mut files = download::hub_files(repository, &RetryPolicy::default(), cancel)?;
    let list: String = files
        .iter()
        .map(|File { path, size, digest }| format!("{digest} {size} {}\n", path.escape_debug()))
        .collect();
    let sha256 = Digest::of(list.as_bytes()).to_string();
    if let Some(locked) = remote::locked_digest(&key(source, pin), memo)
        && locked != sha256
    {
        let message = format!(
            "{} has other files at commit {} than `pipe.lock` says: their list has the SHA-256 {sha256}, expected {locked}",
            name(source),
            pin.commit
        );
        return Err(StageError::failed(message).with_help(
            "the server or a mirror has other data: compare it with the author's page",
        ));
    }
    let size = files.iter().fold(0u64, |sum, file| sum.saturating_add(file.size));
    put(CONTENTS, &key(source, pin), &Inventory { sha256, size }, memo)?;
    if let Some(wanted) = &source.file {
        files.retain(|file| file.path == *wanted);
        if files.is_empty() {
            let message = format!("{} has no file `{wanted}`", name(source));
            return Err(StageError::failed(message)
                .with_help(format!("see its files on {}", repository.page())));
        }
    }
    Ok(files)
}

/// Downloads files of a repository, several at a time. Their paths are in the order of the files.
fn bring(
    repository: &Repository,
    files: &[&File],
    context: &Context,
) -> Result<Vec<PathBuf>, StageError> {
    let task = context.events.task("download", Some(size(files)), "bytes");
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done: Vec<(usize, Result<PathBuf, StageError>)> = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = files.get(at) else { return done };
            let brought = one(repository, file, &task, context);
            if brought.is_err() {
                // The others stop after the files that they have begun.
                next.fetch_max(files.len(), Ordering::Relaxed);
            }
            done.push((at, brought));
        }
    };
    let mut done: Vec<_> = std::thread::scope(|scope| {
        let count = AT_A_TIME.min(files.len());
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .flat_map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, brought)| brought).collect()
}

/// The file, verified by its digest.
fn one(
    repository: &Repository,
    file: &File,
    task: &Task,
    context: &Context,
) -> Result<PathBuf, StageError> {
    let address = repository.file(&file.path)?;
    let wanted = Download {
        address: &address,
        site: Site::Hub(repository),
        // The same content in another revision isn't downloaded again.
        key: &format!("hub {}", file.digest),
        version: &Version::default(),
        expected: Some(file.digest.expected()),
        task: Some(task),
    };
    let Context { memo, events, cancel, .. } = context;
    Ok(cached(&wanted, memo, &RetryPolicy::default(), events, cancel)?)
}

/// Weights: timm's pair of files, else the only file with weights.
fn model(
    source: &HubSource,
    repository: &Repository,
    files: &[File],
    remember_size: &dyn Fn(&[&File]) -> Result<(), StageError>,
    context: &Context,
) -> Result<(), StageError> {
    let named = name(source);
    let file = weights_file(files, &named)?;
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let is_beside = |other: &&File| {
        let (place, name) = other.path.rsplit_once('/').unwrap_or(("", &other.path));
        place == folder && name == CONFIGURATION
    };
    let configuration = files.iter().find(is_beside);
    let wanted: Vec<&File> = [Some(file), configuration].into_iter().flatten().collect();
    context.events.info(format!("{} of {}", file.path, number::bytes(file.size)));
    remember_size(&wanted)?;
    let paths = bring(repository, &wanted, context)?;
    match paths.as_slice() {
        [file] => weights::from_file(file, &named, None, context),
        [file, configuration, ..] => weights::from_file(file, &named, Some(configuration), context),
        [] => Err(StageError::failed(format!("{named} has no weights"))),
    }
}

/// The file with the weights.
fn weights_file<'a>(files: &'a [File], named: &str) -> Result<&'a File, StageError> {
    let name = |file: &File| file.path.rsplit('/').next().unwrap_or_default().to_owned();
    let is_named = |wanted: &&str| files.iter().find(|file| file.path == **wanted);
    if let Some(file) = [MODEL, "pytorch_model.bin"].iter().find_map(is_named) {
        return Ok(file);
    }
    let candidates = files
        .iter()
        .filter(|file| weights::is_named_like_weights(std::path::Path::new(&name(file))));
    let candidates: Vec<&File> = candidates.collect();
    match candidates.as_slice() {
        [file] => Ok(file),
        [] => Err(StageError::failed(format!("{named} has no file with weights")).with_help(
            "expected `model.safetensors`, or one file that ends in .safetensors, .bin, .pth or .pt",
        )),
        several => {
            let paths: Vec<&str> = several.iter().take(5).map(|file| file.path.as_str()).collect();
            let message =
                format!("{named} has several files with weights, such as {}", paths.join(", "));
            Err(StageError::failed(message)
                .with_help("write the address of one of them as the source"))
        }
    }
}
