//! The kind `fetch`: brings images or weights into the pipeline. What the program draws becomes an artifact; a folder is
//! listed, and read in place from then on; weights are copied into a file that is always written the same way. Knows
//! nothing of labels.

mod remote;
mod timm;
mod weights;

use crate::common::image_files;
use crate::common::nearest;
use crate::common::number::{counted, thousands};
use crate::config::{DefaultValue, KeyDecl, Type, Values};
use crate::data::images::{self, FOLDER, FolderScan, Image, LISTING};
use crate::data::source::{self, Source};
use crate::data::synthetic::{self, Garments};
use crate::engine::{Complaints, Context, Kind, OrFail, Pin, StageError};
use crate::events::CancellationToken;
use crate::store::{Digest, Memo, Store, digest_file};
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Brings images or weights into the pipeline.
pub struct Fetch;

/// Bucket of the memo that holds listings by their digest, from planning to running.
const BUCKET: &str = "listings";

const SYNTHETIC: &[KeyDecl] = &[
    KeyDecl::new(
        "count",
        Type::Integer { min: 1, max: 1_000_000 },
        DefaultValue::Json("2000"),
        "Labelled images.",
    ),
    KeyDecl::new(
        "unlabelled",
        Type::Integer { min: 0, max: 1_000_000 },
        DefaultValue::Json("200"),
        "Images without labels.",
    ),
    KeyDecl::new(
        "kinds",
        Type::List(&Type::Integer { min: 0, max: synthetic::KINDS.len() as i64 - 1 }),
        DefaultValue::Json("[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"),
        "Which kinds are drawn: 0 t-shirt, 1 trousers, 2 skirt, 3 dress, 4 coat, 5 shoe, 6 bag, 7 hat, 8 sock, 9 tie.",
    ),
    KeyDecl::new(
        "seed",
        Type::Integer { min: 0, max: i64::MAX },
        DefaultValue::Json("1"),
        "Another seed draws other images.",
    ),
];

static PARAMETERS: [KeyDecl; 2] = [
    KeyDecl::new(
        "source",
        Type::Source,
        DefaultValue::Required,
        "`path:FOLDER`: images of your own, read in place; `synthetic:garments`: images that the program draws. \
         Weights: `torchvision:resnet50` or `torchvision:resnet50/V2`, published ones; `path:FILE` (.pth or .safetensors); \
         `path:FOLDER` with timm's `model.safetensors` and `config.json`; `https://…`, such a file on the web; \
         `run:ID/train`, a model of your own from an earlier run.",
    ),
    KeyDecl::new(
        "synthetic",
        Type::Table(SYNTHETIC),
        DefaultValue::Json("{}"),
        "What is drawn for `synthetic:garments`.",
    ),
];

/// What a fetch stage brings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Goods {
    /// A set of images.
    Images,
    /// A network's weights.
    Weights,
}

/// Complains where the fetch stage that feeds `role` brings something else, as far as its source and what lies there tell.
pub fn check_brings(wanted: Goods, role: &str, diagnostics: &mut Complaints) {
    let Some(feed) = diagnostics.input(role).filter(|feed| feed.kind == Fetch.name()) else {
        return;
    };
    let text = feed.values.get("source").and_then(Value::as_str).unwrap_or_default();
    if source::parse(text)
        .ok()
        .and_then(|source| goods(&source))
        .is_none_or(|brought| brought == wanted)
    {
        return;
    }
    let (brings, label, help) = match wanted {
        Goods::Images => (
            "weights, not images",
            "expected a stage that fetches images",
            "images are `path:FOLDER` and `synthetic:garments`",
        ),
        Goods::Weights => (
            "images, not weights",
            "expected a stage that fetches weights",
            "weights are `torchvision:NAME`, `path:FILE` (.pth or .safetensors), `path:FOLDER` with timm's \
             `model.safetensors` and `config.json`, `https://…` and `run:ID/train`",
        ),
    };
    let message = format!(
        "`{}` can't feed `{role}` of `{}`: it brings {brings}",
        feed.stage,
        diagnostics.stage()
    );
    diagnostics.complain(&format!("needs.{role}"), message, label, Some(help.to_owned()));
}

/// What a source brings. `None` where nothing is there yet to tell.
fn goods(source: &Source) -> Option<Goods> {
    match source {
        Source::Garments => Some(Goods::Images),
        Source::Torchvision(_) | Source::Web(_) | Source::Run { .. } => Some(Goods::Weights),
        Source::Path(path) if weights::is_weights(path) => Some(Goods::Weights),
        Source::Path(path) if path.is_dir() => Some(Goods::Images),
        Source::Path(_) | Source::Unsupported { .. } => None,
    }
}

#[derive(Deserialize)]
struct Parameters {
    source: String,
    synthetic: Garments,
}

impl Kind for Fetch {
    fn name(&self) -> &'static str {
        "fetch"
    }

    fn about(&self) -> &'static str {
        "Brings images or weights into the pipeline: a folder, read in place, images that the program draws, or \
         pretrained weights from a file or the web."
    }

    fn version(&self) -> u32 {
        2
    }

    fn parameters(&self) -> &'static [KeyDecl] {
        &PARAMETERS
    }

    fn resolve(&self, values: &mut Values, diagnostics: &mut Complaints) {
        let text = values.get("source").and_then(Value::as_str).unwrap_or_default();
        match source::parse(text) {
            Ok(source) => {
                if let Err(weights::Wrong { message, help }) = weights::check(&source) {
                    diagnostics.complain("source", message, "can't be fetched", Some(help));
                }
            }
            Err(unknown) => {
                let help = match nearest(&unknown.given, unknown.known.iter().copied()) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None if unknown.known.is_empty() => "write `path:FOLDER`".to_owned(),
                    None => format!("there are {}", unknown.known.join(", ")),
                };
                diagnostics.complain("source", unknown.message, "expected a source", Some(help));
            }
        }
        if values
            .get("synthetic")
            .and_then(|table| table.get("kinds"))
            .is_some_and(|kinds| kinds == &serde_json::json!([]))
        {
            diagnostics.complain(
                "synthetic.kinds",
                "no kind is left to draw",
                "expected at least one",
                None,
            );
        }
    }

    fn pin(
        &self,
        values: &Values,
        store: &Store,
        cancel: &CancellationToken,
    ) -> Result<Pin, StageError> {
        let text = values.get("source").and_then(Value::as_str).unwrap_or_default();
        let Ok(source) = source::parse(text) else { return Ok(Pin::default()) };
        let replaces = vec!["source"];
        if let Source::Path(path) = &source {
            std::fs::metadata(path).or_fail(path.display()).map_err(|error| {
                error.with_help(
                    "`path:` takes a folder of images or a file of weights, relative to the pipeline file, or to the current folder in `--set`",
                )
            })?;
        }
        if let Some(facts) = weights::facts(&source, store.memo(), cancel)? {
            return Ok(Pin { facts, replaces, folder: None });
        }
        let Source::Path(path) = source else { return Ok(Pin::default()) };
        let found = store.folder_listing_watched(&path, &|_, _| !cancel.is_cancelled())?;
        let list = found.files.into_iter().filter(|file| image_files::is_image(&file.path));
        let list =
            list.map(|file| Image { path: file.path, length: file.len, digest: file.digest });
        let bytes = images::listing(list.collect());
        let digest = Digest::of(&bytes).to_string();
        // The run needs the listing too, and would have to digest every image again. It does where this is lost.
        let _ = store.memo().put(BUCKET, &digest, &bytes);
        let facts = BTreeMap::from([("listing".to_owned(), Value::from(digest))]);
        Ok(Pin { facts, replaces, folder: Some(path) })
    }

    fn refresh(
        &self,
        values: &Values,
        store: &Store,
        cancel: &CancellationToken,
    ) -> Result<(), StageError> {
        let text = values.get("source").and_then(Value::as_str).unwrap_or_default();
        source::parse(text).map_or(Ok(()), |source| weights::refresh(&source, store.memo(), cancel))
    }

    fn run(&self, context: &Context) -> Result<(), StageError> {
        let parameters: Parameters = context.parameters()?;
        match source::parse(&parameters.source) {
            Ok(Source::Garments) => draw(context, &parameters.synthetic),
            Ok(Source::Path(path)) if !weights::is_weights(&path) => list(context, &path),
            Ok(source @ (Source::Path(_) | Source::Torchvision(_) | Source::Web(_))) => {
                weights::run(&source, context)
            }
            Ok(Source::Run { run, stage }) => Err(StageError::failed(format!(
                "nothing said what the stage `{stage}` of the run {run} made"
            ))),
            Ok(Source::Unsupported { name, help }) => {
                Err(StageError::failed(format!("fetching from {name} isn't built yet"))
                    .with_help(help))
            }
            Err(unknown) => Err(StageError::failed(unknown.message)),
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
    context.events.info(format!("{} drawn, of {kinds}", counted(garments.total(), "image")));
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
        .with_help("run the pipeline again when nothing writes to that folder any more"));
    }
    std::fs::write(context.slot.join(LISTING), bytes).or_fail("writing the listing")?;
    let listed = images::open(&context.slot, Some(folder))?;
    if listed.list().is_empty() {
        return Err(StageError::failed(format!("there are no images in {}", folder.display())).with_help(
            "files ending in .jpg, .png, .webp, .gif, .bmp or .tiff are taken; hidden ones and other files are not",
        ));
    }
    tell(context, &names, listed.list());
    Ok(())
}

/// What was listed, and what wasn't.
fn tell(context: &Context, names: &FolderScan, listed: &[Image]) {
    let is_listed = |path: &String| listed.binary_search_by(|one| one.path.cmp(path)).is_ok();
    let unread: Vec<&String> = names.images.iter().filter(|path| !is_listed(path)).collect();
    if let [first, ..] = unread.as_slice() {
        let count = counted(unread.len() as u64, "image");
        context.events.warn(format!("{count} can't be opened and left out, such as {first}"));
    }
    if names.unnamed > 0 {
        let count = counted(names.unnamed, "file");
        context.events.warn(format!("{count} left out: names that aren't UTF-8"));
    }
    let left_out = match (names.hidden, names.others) {
        (0, 0) => String::new(),
        (hidden, others) => {
            format!(
                "; left out: {} hidden, {} of other kinds",
                thousands(hidden),
                thousands(others)
            )
        }
    };
    context.events.info(format!("{} listed{left_out}", counted(listed.len() as u64, "image")));
}

fn remembered(memo: &Memo, digest: &str) -> Option<Vec<u8>> {
    memo.get(BUCKET, digest).filter(|bytes| Digest::of(bytes).to_string() == digest)
}

/// The listing, from the images themselves. As in the store's own listing, what can't be opened isn't in it.
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

/// What lies below a folder, by name. Links are followed, as in the store's own listing.
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

/// The run and the stage that a fetch stage's source names, where it names a model of an earlier run.
pub fn earlier_model(kind: &str, values: &Values) -> Option<(String, String)> {
    let text = values.get("source").and_then(Value::as_str).filter(|_| kind == Fetch.name())?;
    match source::parse(text) {
        Ok(Source::Run { run, stage }) => Some((run, stage)),
        _ => None,
    }
}

/// Writes such a source.
pub fn name_earlier_model(values: &mut Values, run: &str, stage: &str) {
    values.insert("source".to_owned(), Value::from(format!("run:{run}/{stage}")));
}

/// Puts the model in a train stage's artifact in the place of such a source. False where there is none in it.
pub fn set_earlier_model(values: &mut Values, artifact: &Path) -> bool {
    let path = artifact.join(weights::MODEL);
    let Some(text) = path.to_str().filter(|_| path.is_file()) else { return false };
    values.insert("source".to_owned(), Value::from(format!("path:{text}")));
    true
}
