//! The kind `fetch`: images or weights from outside. Synthetic images become an artifact; a folder
//! is listed and read in place; weights are converted to one format.

mod archive;
mod kaggle;
mod locking;
mod remote;
mod timm;
mod weights;

use crate::common::image_files;
use crate::common::nearest;
use crate::common::number::counted;
use crate::common::words::or_list;
use crate::config::{Key, KeyType, NoKeys, SourceText, Values, keys};
use crate::data::archive::is_named_like_archive;
use crate::data::images::{self, FOLDER, FolderScan, Image, LISTING};
use crate::data::source::{self, Source};
use crate::data::synthetic::Garments;
use crate::download::Address;
use crate::download::kaggle::Dataset;
use crate::engine::{
    Context, Kind, LockedSource, OrFail, Pin, Resolver, SourceLock, StageError, values_of,
};
use crate::events::CancellationToken;
use crate::store::{Digest, Memo, Store, digest_file};
use rayon::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The kind `fetch`.
pub(super) struct Fetch;

/// Bucket of the memo with listings by their digest, from planning to running.
const BUCKET: &str = "listings";

/// Version of the code: raised whenever the same inputs give other bytes or other keys.
///
/// - 3: the folder of images in an artifact is called `images`.
const VERSION: u32 = 3;

keys! {
    /// The keys of a `fetch` stage.
    pub(super) struct FetchOptions / FetchKeys {
        /// Where the images or weights come from. Images: `path:FOLDER`, read in place; `path:FILE`
        /// or `https://…`, an archive (.zip, .tar, .tar.gz, .tar.zst); `kaggle:OWNER/NAME` or
        /// `kaggle:OWNER/NAME/VERSION`, a data set of Kaggle's; `synthetic:garments`, drawn by the
        /// program. Weights: `torchvision:resnet50` or
        /// `torchvision:resnet50/V2`; `path:FILE` (.pth or .safetensors); `path:FOLDER` with timm's
        /// `model.safetensors` and `config.json`; `https://…`, such a file; `run:ID/train`, the
        /// model of an earlier run.
        source: SourceText = required;
        /// What `synthetic:garments` draws.
        synthetic: Garments = {};
    }
}

/// What a fetch stage delivers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Contents {
    /// A set of images.
    Images,
    /// A network's weights.
    Weights,
}

/// Reports a fetch stage that feeds `role` and delivers something else, as far as its source tells.
pub(super) fn check_contents(wanted: Contents, role: &str, resolver: &mut Resolver) {
    let Some(feed) = resolver.input(role) else { return };
    let Some(fetched) = feed.resolved(&Fetch) else { return };
    let contents = source::parse(&fetched.source.0).ok().and_then(|source| contents(&source));
    if contents.is_none_or(|contents| contents == wanted) {
        return;
    }
    let (found, label, help) = match wanted {
        Contents::Images => (
            "weights, not images",
            "expected a stage that fetches images",
            "images are `path:FOLDER`, archives (`path:FILE` and `https://…`: .zip, .tar, .tar.gz, .tar.zst), `kaggle:OWNER/NAME` \
             and `synthetic:garments`",
        ),
        Contents::Weights => (
            "images, not weights",
            "expected a stage that fetches weights",
            "weights are `torchvision:NAME`, `path:FILE` (.pth or .safetensors), `path:FOLDER` with timm's \
             `model.safetensors` and `config.json`, `https://…` and `run:ID/train`",
        ),
    };
    let message = format!(
        "`{}` can't feed `{role}` of `{}`: it fetches {found}",
        feed.stage,
        resolver.stage()
    );
    let diagnostic = resolver.role_error(role, message).label(label).help(help.to_owned());
    resolver.report(diagnostic);
}

/// What a source delivers. `None` where nothing is there yet to tell.
fn contents(source: &Source) -> Option<Contents> {
    match source {
        Source::Garments | Source::Kaggle { .. } => Some(Contents::Images),
        Source::Torchvision(_) | Source::Run { .. } => Some(Contents::Weights),
        Source::Web(url) => by_name(url),
        Source::Path(path) if weights::is_weights(path) => Some(Contents::Weights),
        Source::Path(path) if path.is_dir() || archive::is_images(path) => Some(Contents::Images),
        Source::Path(_) => None,
    }
}

/// What is at an address, as far as its file name tells.
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
        "Provides images or weights: a folder, read in place, an archive, a data set of Kaggle's, synthetic images, or \
         pretrained weights from a file or the web."
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
        let Source::Path(path) = source else { return Ok(Pin::default()) };
        if archive::is_images(&path) {
            let facts = BTreeMap::from([(
                "archive".to_owned(),
                store.file_digest(&path)?.to_string().into(),
            )]);
            return Ok(Pin { facts, replaces, folder: None });
        }
        let wanted = |path: &str| image_files::is_image(path) || image_files::is_label_file(path);
        let found = store.folder_listing_watched(&path, &wanted, &|_, _| !cancel.is_cancelled())?;
        let list = found.files.into_iter().filter(|file| image_files::is_image(&file.path));
        let list =
            list.map(|file| Image { path: file.path, length: file.len, digest: file.digest });
        let bytes = images::listing(list.collect());
        let digest = Digest::of(&bytes).to_string();
        // The run needs the listing too; without this entry it digests every image again.
        let _ = store.memo().put(BUCKET, &digest, &bytes);
        let facts = BTreeMap::from([("listing".to_owned(), Value::from(digest))]);
        Ok(Pin { facts, replaces, folder: Some(path) })
    }

    fn refresh(
        &self,
        options: &FetchOptions,
        store: &Store,
        cancel: &CancellationToken,
    ) -> Result<(), StageError> {
        let Ok(source) = source::parse(&options.source.0) else { return Ok(()) };
        match dataset(&source) {
            Some(set) => kaggle::look(&set, store.memo(), cancel).map(drop),
            None => weights::refresh(&source, store.memo(), cancel),
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

    fn run(&self, options: &FetchOptions, context: &Context) -> Result<(), StageError> {
        match source::parse(&options.source.0) {
            Ok(Source::Garments) => draw(context, &options.synthetic),
            Ok(Source::Path(path)) if archive::is_images(&path) => {
                archive::run(&path, &path.display().to_string(), context)
            }
            Ok(Source::Path(path)) if !weights::is_weights(&path) => list(context, &path),
            Ok(Source::Web(url)) => from_web(&url, context),
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

/// Lists a folder that is read in place.
fn list(context: &Context, folder: &Path) -> Result<(), StageError> {
    let names = walk(folder);
    let pinned = context.facts.get("listing").and_then(Value::as_str);
    let bytes = match pinned.and_then(|digest| remembered(&context.memo, digest)) {
        Some(bytes) => bytes,
        None => digested(context, folder, &names)?,
    };
    if pinned.is_some_and(|digest| digest != Digest::of(&bytes).to_string()) {
        return Err(StageError::failed(format!(
            "{} changed while it was listed",
            folder.display()
        ))
        .with_help("run the pipeline again when nothing writes to that folder"));
    }
    std::fs::write(context.slot.join(LISTING), bytes).or_fail("writing the listing")?;
    let listed = images::open(&context.slot, Some(folder))?;
    if listed.list().is_empty() {
        return Err(no_images(&folder.display().to_string()));
    }
    report(context, &names, listed.list());
    Ok(())
}

fn no_images(source: &str) -> StageError {
    StageError::failed(format!("there are no images in {source}")).with_help(format!(
        "files ending in {} are images, except hidden ones",
        or_list(image_files::EXTENSIONS)
    ))
}

/// Reports what was listed and what was skipped.
fn report(context: &Context, names: &FolderScan, listed: &[Image]) {
    let is_listed = |path: &String| listed.binary_search_by(|one| one.path.cmp(path)).is_ok();
    let unread: Vec<&String> = names.images.iter().filter(|path| !is_listed(path)).collect();
    if let [first, ..] = unread.as_slice() {
        let count = counted(unread.len() as u64, "image");
        context.events.warn(format!("skipped {count} that can't be opened, such as {first}"));
    }
    if names.unnamed > 0 {
        let count = counted(names.unnamed, "file");
        context.events.warn(format!("skipped {count} with names that aren't UTF-8"));
    }
    let skipped = match (names.hidden, names.others) {
        (0, 0) => String::new(),
        (hidden, others) => {
            format!(
                "; skipped {} and {}",
                counted(hidden, "hidden file"),
                counted(others, "other file")
            )
        }
    };
    context.events.info(format!("{} listed{skipped}", counted(listed.len() as u64, "image")));
}

fn remembered(memo: &Memo, digest: &str) -> Option<Vec<u8>> {
    memo.get(BUCKET, digest).filter(|bytes| Digest::of(bytes).to_string() == digest)
}

/// The listing, from the images themselves. Like the store's listing, it omits files that can't be
/// opened.
fn digested(context: &Context, folder: &Path, names: &FolderScan) -> Result<Vec<u8>, StageError> {
    let task = context.events.task("list", Some(names.images.len() as u64), "images");
    let one = |path: &String| {
        let whole = folder.join(path);
        let digest = digest_file(&whole).ok().filter(|_| !context.cancel.is_cancelled())?;
        let length = std::fs::metadata(&whole).ok()?.len();
        task.advance(1);
        Some(Image { path: path.clone(), length, digest })
    };
    let listed: Vec<Image> = names.images.par_iter().filter_map(one).collect();
    StageError::check(&context.cancel)?;
    Ok(images::listing(listed))
}

/// The files below a folder. Links are followed, as in the store's listing.
fn walk(folder: &Path) -> FolderScan {
    let mut names = FolderScan::default();
    let mut walker = walkdir::WalkDir::new(folder).min_depth(1).follow_links(true).into_iter();
    while let Some(entry) = walker.next() {
        let Ok(entry) = entry else { continue };
        let relative = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        match relative.to_str() {
            Some(path) if entry.file_type().is_dir() && image_files::is_hidden(path) => {
                names.hidden += 1;
                walker.skip_current_dir();
            }
            Some(path) if entry.file_type().is_file() => names.add(path),
            None if entry.file_type().is_file() => names.unnamed += 1,
            _ => {}
        }
    }
    names.images.sort_unstable();
    names
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
