//! The kind `fetch`: images or weights from outside. Synthetic images become an artifact; a folder
//! is listed and read in place; weights are converted to one format.

mod archive;
mod disk;
mod folder;
mod hub;
mod kaggle;
mod locking;
mod look;
mod remote;
mod timm;
mod unread;
mod weights;

pub(super) use folder::listed as list_folder;
pub use look::{archive_name, fetched_images, locked_names, remote_name};
pub(super) use weights::{CONFIGURATION, MODEL, described};

use super::needs::Contents;
use crate::common::image_files;
use crate::common::nearest;
use crate::common::number::counted;
use crate::common::words::or_list;
use crate::config::{Key, KeyType, NoKeys, SourceText, Values, choices, keys};
use crate::data::archive::is_named_like_archive;
use crate::data::images::{self, FOLDER, LISTING};
use crate::data::source::{self, HubKind, Source};
use crate::data::synthetic::Garments;
use crate::download::Address;
use crate::download::kaggle::Dataset;
use crate::engine::{
    Context, Estimate, FactChange, Feed, Kind, Known, LockedSource, OrFail, Pin, Resolver,
    SourceLock, StageError, values_of,
};
use crate::events::{CancellationToken, FileChanges};
use crate::store::Store;
use std::collections::BTreeMap;
use std::path::Path;

/// Buckets of the memo with the versions and digests of remote sources that were seen first. They
/// enter cache keys: without them, a run may see another version.
pub const PINS: [&str; 4] = [remote::BUCKET, remote::LOCKED, kaggle::BUCKET, hub::BUCKET];

/// The kind `fetch`.
pub(super) struct Fetch;

/// Version of the code: raised whenever the same inputs give other bytes or other keys.
///
/// - 3: the folder of images in an artifact is called `images`.
/// - 4: files that aren't used are listed in `skipped.tsv`.
/// - 5: hidden files are listed there, too; tables called `…annotations.txt` are unpacked from
///   archives.
/// - 6: also entries of archives, and files of repositories of the Hub. Several archives of a split
///   may have files of the same name, and without splits they may be parts of one set.
const VERSION: u32 = 6;

keys! {
    /// The keys of a `fetch` stage.
    pub(super) struct FetchOptions / FetchKeys {
        /// Where the images or weights come from. Images: `path:FOLDER`, read in place; `path:FILE`
        /// or `https://…`, an archive (.zip, .tar, .tar.gz, .tar.zst); `kaggle:OWNER/NAME` or
        /// `kaggle:OWNER/NAME/VERSION`, a data set of Kaggle's; `hf:OWNER/NAME` or
        /// `hf:OWNER/NAME@REVISION`, one of the Hugging Face Hub; `synthetic:garments`, drawn by the
        /// program. Weights: `torchvision:resnet50` or `torchvision:resnet50/V2`; `hf:timm/NAME` and
        /// other models of the Hub; `path:FILE` (.pth or .safetensors); `path:FOLDER` with timm's
        /// `model.safetensors` and `config.json`; `https://…`, such a file; `run:ID/train`, the
        /// model of an earlier run.
        source: SourceText = required;
        /// For `hf:` data sets with several configurations: the one to fetch.
        config: Option<String> = none;
        /// For `hf:` data sets: the splits to fetch, such as `["train", "test"]`; all by default.
        splits: Option<Vec<String>> = none;
        /// What `synthetic:garments` draws.
        synthetic: Garments = {};
        /// What happens where an image or a folder of `path:FOLDER` can't be opened, or a link leads
        /// nowhere: `fail`, or `warn` to go on without it.
        on_missing: OnMissing = "fail";
    }
}

choices! {
    /// What happens where files of a source can't be opened.
    pub(super) enum OnMissing {
        /// The stage fails and names them.
        Fail = "fail",
        /// A warning names them.
        Warn = "warn",
    }
}

/// The contents of a fetch stage's output, as far as its source shows. `None` for other kinds, too.
pub(super) fn contents_of(feed: Feed) -> Option<Contents> {
    contents(&source::parse(&feed.resolved(&Fetch)?.source.0).ok()?)
}

/// The contents of a source. `None` if they aren't known before it is fetched.
fn contents(source: &Source) -> Option<Contents> {
    match source {
        Source::Garments | Source::Kaggle { .. } => Some(Contents::Images),
        Source::Torchvision(_) | Source::Run { .. } => Some(Contents::Weights),
        Source::Hub(source) => source.kind.map(|kind| match kind {
            HubKind::Dataset => Contents::Images,
            HubKind::Model => Contents::Weights,
        }),
        Source::Web(url) => by_name(url),
        Source::Path(path) if weights::is_weights(path) => Some(Contents::Weights),
        Source::Path(path) if path.is_dir() || archive::is_images(path) => Some(Contents::Images),
        Source::Path(_) => None,
    }
}

/// The contents of an address, as far as its file name shows.
fn by_name(url: &str) -> Option<Contents> {
    let address = Address::parse(url).ok()?;
    let name = address.file_name();
    if weights::is_named_like_weights(Path::new(name)) {
        Some(Contents::Weights)
    } else {
        is_named_like_archive(name).then_some(Contents::Images)
    }
}

impl Kind for Fetch {
    type Keys = FetchOptions;
    type Dataset = NoKeys;
    type Resolved = FetchOptions;

    fn name(&self) -> &'static str {
        "fetch"
    }

    fn about(&self) -> &'static str {
        "Provides images or weights: a folder, read in place, an archive, a data set of Kaggle's or the Hugging Face Hub, \
         synthetic images, or pretrained weights from a file or the web."
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn resolve(
        &self,
        keys: FetchKeys,
        _dataset: NoKeys,
        resolver: &mut Resolver,
    ) -> Option<FetchOptions> {
        check_source(&keys.source, resolver);
        unread::check(&keys, resolver);
        if keys.synthetic.kinds.is_empty() {
            let diagnostic = keys.synthetic.kinds.error("there is no kind to draw");
            resolver.report(diagnostic.label("expected at least one"));
        }
        resolver.is_clean().then(|| FetchOptions::resolved(keys))
    }

    fn pin(
        &self,
        options: &FetchOptions,
        store: &Store,
        cancel: &CancellationToken,
    ) -> Result<Pin, StageError> {
        let Ok(source) = source::parse(&options.source.0) else { return Ok(Pin::default()) };
        let replaces = vec!["source"];
        if let Source::Path(path) = &source {
            std::fs::metadata(path).or_fail(path.display()).map_err(|error| {
                error.with_help(
                    "`path:` takes a folder or an archive of images or a file of weights, relative to the pipeline file, or to the current folder in `--set`",
                )
            })?;
        }
        if let Some(facts) = weights::facts(&source, store.memo(), cancel)? {
            return Ok(Pin { facts, replaces, folder: None });
        }
        if let Some(set) = dataset(&source) {
            let pin = kaggle::pinned(&set, store.memo(), cancel)?;
            return Ok(Pin { facts: kaggle::facts(&set, &pin), replaces, folder: None });
        }
        if let Source::Hub(source) = &source {
            let pin = hub::pinned(source, store.memo(), cancel)?;
            if pin.is_data_set == Some(false) {
                unread::check_model(&source.id, options)?;
            }
            return Ok(Pin { facts: hub::facts(source, &pin), replaces, folder: None });
        }
        let Source::Path(path) = source else { return Ok(Pin::default()) };
        if archive::is_images(&path) {
            let facts = BTreeMap::from([(
                "archive".to_owned(),
                store.file_digest(&path)?.to_string().into(),
            )]);
            return Ok(Pin { facts, replaces, folder: None });
        }
        folder::pin(path, store, cancel, replaces)
    }

    fn changes(&self, _options: &FetchOptions, change: &FactChange) -> Option<FileChanges> {
        folder::changes(change)
    }

    fn refresh(
        &self,
        options: &FetchOptions,
        store: &Store,
        cancel: &CancellationToken,
    ) -> Result<(), StageError> {
        let Ok(source) = source::parse(&options.source.0) else { return Ok(()) };
        match (dataset(&source), &source) {
            (Some(set), _) => kaggle::look(&set, store.memo(), cancel).map(drop),
            (None, Source::Hub(source)) => hub::look(source, store.memo(), cancel).map(drop),
            (None, _) => weights::refresh(&source, store.memo(), cancel),
        }
    }

    fn remote_sources(&self, options: &FetchOptions) -> Vec<String> {
        source::parse(&options.source.0)
            .map_or_else(|_| Vec::new(), |source| locking::names(&source))
    }

    fn locked(&self, options: &FetchOptions, store: &Store) -> Vec<LockedSource> {
        source::parse(&options.source.0)
            .map_or_else(|_| Vec::new(), |source| locking::locked(&source, store.memo()))
    }

    fn adopt(
        &self,
        options: &FetchOptions,
        lock: &SourceLock,
        store: &Store,
    ) -> Result<(), StageError> {
        source::parse(&options.source.0)
            .map_or(Ok(()), |source| locking::adopt(&source, lock, store.memo()))
    }

    fn disk(&self, options: &FetchOptions, known: &Known) -> Estimate {
        disk::estimate(options, known)
    }

    fn run(&self, options: &FetchOptions, context: &Context) -> Result<(), StageError> {
        match source::parse(&options.source.0) {
            Ok(Source::Garments) => draw(context, &options.synthetic),
            Ok(Source::Path(path)) if archive::is_images(&path) => {
                archive::run(&path, &path.display().to_string(), context)
            }
            Ok(Source::Path(path)) if !weights::is_weights(&path) => {
                folder::run(&path, options.on_missing, context)
            }
            Ok(Source::Web(url)) => from_web(&url, context),
            Ok(Source::Hub(source)) => hub::run(&source, options, context),
            Ok(source @ (Source::Path(_) | Source::Torchvision(_))) => {
                weights::run(&source, context)
            }
            Ok(Source::Run { run, stage }) => Err(StageError::failed(format!(
                "the stage `{stage}` of run {run} was not replaced by its artifact"
            ))),
            Ok(source @ Source::Kaggle { .. }) => {
                let set = dataset(&source).expect("it is a data set of Kaggle's");
                kaggle::run(&set, context)
            }
            Err(unknown) => Err(StageError::failed(unknown.message)),
        }
    }
}

/// The data set of Kaggle's that a source names.
fn dataset(source: &Source) -> Option<Dataset> {
    let Source::Kaggle { owner, name, version } = source else { return None };
    Some(Dataset { owner: owner.clone(), name: name.clone(), version: *version })
}

fn check_source(source: &Key<SourceText>, resolver: &mut Resolver) {
    match source::parse(&source.0) {
        Ok(parsed) => {
            if let Err(weights::Wrong { message, help }) = weights::check(&parsed) {
                resolver.report(source.error(message).label("can't be fetched").help(help));
            }
        }
        Err(unknown) => {
            let help = match nearest(&unknown.given, unknown.known.iter().copied()) {
                Some(name) => Some(format!("did you mean `{name}`?")),
                // The message says what is missing.
                None if unknown.known.is_empty() => None,
                None => Some(format!("expected one of {}", unknown.known.join(", "))),
            };
            resolver.report(source.error(unknown.message).label("expected a source").help(help));
        }
    }
}

/// Images or weights from the web: by the name of the file, and where that says nothing, by its
/// content.
fn from_web(url: &str, context: &Context) -> Result<(), StageError> {
    let contents = by_name(url);
    if contents == Some(Contents::Weights) {
        return weights::from_web(url, context);
    }
    let file = weights::downloaded(url, context)?;
    match contents {
        Some(_) => archive::run(&file, url, context),
        None if archive::has_images(&file) => {
            context.events.info(format!("{url} is an archive of images, by its content"));
            archive::run(&file, url, context)
        }
        None => {
            context.events.info(format!("{url} is taken for weights: it is no archive"));
            weights::from_web(url, context)
        }
    }
}

/// Draws images into the slot.
fn draw(context: &Context, garments: &Garments) -> Result<(), StageError> {
    let folder = context.slot.join(FOLDER);
    let task = context.events.task("draw", Some(garments.total()), "images");
    let listed = garments.write(&folder, &task, &context.cancel)?;
    std::fs::write(context.slot.join(LISTING), images::listing(listed))
        .or_fail("writing the listing")?;
    let kinds = counted(garments.kinds.len() as u64, "kind");
    context.events.info(format!("{} of {kinds} drawn", counted(garments.total(), "image")));
    Ok(())
}

fn no_images(source: &str) -> StageError {
    StageError::failed(format!("there are no images in {source}")).with_help(format!(
        "files ending in {} are images, except hidden ones",
        or_list(image_files::EXTENSIONS)
    ))
}

/// The run and the stage that a fetch stage's source names, where it names the model of an earlier
/// run.
pub fn earlier_model(kind: &str, values: &Values) -> Option<(String, String)> {
    let options = options_of(values).filter(|_| kind == Fetch.name())?;
    match source::parse(&options.source.0) {
        Ok(Source::Run { run, stage }) => Some((run, stage)),
        _ => None,
    }
}

/// Replaces the source of a fetch stage by such a name.
pub fn name_earlier_model(values: &mut Values, run: &str, stage: &str) {
    set_source(values, format!("run:{run}/{stage}"));
}

/// Replaces such a source by the model in a train stage's artifact. False where there is none in
/// it.
pub fn set_earlier_model(values: &mut Values, artifact: &Path) -> bool {
    let path = artifact.join(weights::MODEL);
    let Some(text) = path.to_str().filter(|_| path.is_file()) else { return false };
    set_source(values, format!("path:{text}"));
    true
}

fn options_of(values: &Values) -> Option<FetchOptions> {
    serde_json::from_value(values.clone().into()).ok()
}

fn set_source(values: &mut Values, source: String) {
    if let Some(options) = options_of(values) {
        *values = values_of(&FetchOptions { source: SourceText(source), ..options });
    }
}
