//! A folder of images that is read in place: its listing, and the files in it that aren't used.

use super::OnMissing;
use crate::common::image_files;
use crate::common::number::counted;
use crate::data::images::{self, Image, LISTING, SKIPPED, Skipped};
use crate::data::rejected::{DANGLING, EMPTY, HIDDEN, NOT_A_FILE, NOT_UTF8, UNREADABLE};
use crate::data::skipped;
use crate::engine::{Context, FactChange, OrFail, Pin, StageError};
use crate::events::{CancellationToken, FileChanges};
use crate::store::{Digest, Memo, Skip, Store, digest_file, scan};
use rayon::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Bucket of the memo with listings by their digest, from planning to running.
const BUCKET: &str = "listings";
/// Largest number of files in an error or warning.
const SHOWN: usize = 5;

/// The facts of a folder: the digests of its listing and of what is left out.
pub(super) fn pin(
    path: PathBuf,
    store: &Store,
    cancel: &CancellationToken,
    replaces: Vec<&'static str>,
) -> Result<Pin, StageError> {
    let wanted = |path: &str| image_files::is_image(path) || image_files::is_label_file(path);
    let found = store.folder_listing_watched(&path, &wanted, &|_, _| !cancel.is_cancelled())?;
    let mut images = found.files;
    let tables: Vec<_> = images.extract_if(.., |file| !image_files::is_image(&file.path)).collect();
    let list = images
        .into_iter()
        .map(|file| Image { path: file.path, length: file.len, digest: file.digest })
        .collect();
    let others = found.others.into_iter().chain(tables.into_iter().map(|file| file.path));
    let listing = images::listing(list);
    let skipped = images::skipped_table(not_used(others, found.skipped));
    let mut facts = BTreeMap::new();
    for (name, bytes) in [("listing", listing), ("skipped", skipped)] {
        let digest = Digest::of(&bytes).to_string();
        // The run needs it too; without this entry it digests every image again.
        if !store.memo().has_value_of(BUCKET, &digest, bytes.len()) {
            let _ = store.memo().put(BUCKET, &digest, &bytes);
        }
        facts.insert(name.to_owned(), Value::from(digest));
    }
    Ok(Pin { facts, replaces, folder: Some(path) })
}

/// The listing that a pin's facts name.
pub(super) fn pinned_listing(facts: &BTreeMap<String, Value>, memo: &Memo) -> Option<Vec<u8>> {
    memo.get(BUCKET, facts.get("listing")?.as_str()?)
}

/// The files behind the changed digest of a listing, or of the list of what isn't used.
pub(super) fn changes(change: &FactChange) -> Option<FileChanges> {
    let (of, file) = match change.fact {
        "listing" => ("", LISTING),
        "skipped" => ("not used", SKIPPED),
        _ => return None,
    };
    let is = |bytes: &Vec<u8>, digest: &str| Digest::of(bytes).to_string() == digest;
    let remembered = |digest: &Value| {
        let digest = digest.as_str()?;
        change.store.memo().get(BUCKET, digest).filter(|bytes| is(bytes, digest))
    };
    let in_artifact = || {
        let bytes = std::fs::read(change.earlier_artifact()?.join(file)).ok()?;
        Some(bytes).filter(|bytes| change.old.as_str().is_some_and(|digest| is(bytes, digest)))
    };
    let old = remembered(change.old).or_else(in_artifact)?;
    let new = remembered(change.new)?;
    FileChanges::between(of, "file", &contents(file, &old)?, &contents(file, &new)?)
}

/// The paths in a listing or a list of unused files, each with a value that changes with the file.
fn contents(file: &str, bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let path = Path::new(file);
    if file == LISTING {
        let images = images::read_listing(bytes, path).ok()?;
        return Some(images.into_iter().map(|one| (one.path, one.digest.to_string())).collect());
    }
    let skipped = images::read_skipped(bytes, path).ok()?;
    Some(skipped.into_iter().map(|one| (one.path, one.reason)).collect())
}

/// Writes the listing of a folder and the list of what isn't used.
pub(super) fn run(
    folder: &Path,
    on_missing: OnMissing,
    context: &Context,
) -> Result<(), StageError> {
    let remembered = |name: &str| {
        let digest = context.facts.get(name)?.as_str()?;
        context.memo.get(BUCKET, digest).filter(|bytes| Digest::of(bytes).to_string() == digest)
    };
    let (listing, skipped) = match (remembered("listing"), remembered("skipped")) {
        (Some(listing), Some(skipped)) => (listing, skipped),
        _ => {
            let found = listed(context, folder)?;
            (found.listing, found.skipped)
        }
    };
    for (name, bytes) in [("listing", &listing), ("skipped", &skipped)] {
        let pinned = context.facts.get(name).and_then(Value::as_str);
        if pinned.is_some_and(|digest| digest != Digest::of(bytes).to_string()) {
            return Err(StageError::failed(format!(
                "{} changed while it was listed",
                folder.display()
            ))
            .with_help("run the pipeline again when nothing writes to that folder"));
        }
    }
    std::fs::write(context.slot.join(LISTING), listing).or_fail("writing the listing")?;
    std::fs::write(context.slot.join(SKIPPED), skipped).or_fail("writing the listing")?;
    let set = images::open(&context.slot, Some(folder))?;
    check_missing(context, folder, set.skipped(), set.list().len(), on_missing)?;
    if set.list().is_empty() {
        return Err(super::no_images(&folder.display().to_string()));
    }
    report(context, set.list(), set.skipped());
    Ok(())
}

/// Fails or warns where an image can't be opened.
fn check_missing(
    context: &Context,
    folder: &Path,
    skipped: &[Skipped],
    listed: usize,
    on_missing: OnMissing,
) -> Result<(), StageError> {
    let is_missing =
        |one: &&Skipped| one.reason.starts_with(DANGLING) || one.reason.starts_with(UNREADABLE);
    let missing: Vec<&Skipped> = skipped.iter().filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let dangling = missing.iter().filter(|one| one.reason.starts_with(DANGLING)).count() as u64;
    let unreadable = missing.len() as u64 - dangling;
    let kinds =
        [(dangling, "link", "to nowhere"), (unreadable, "file", "or folders that can't be opened")];
    let kinds: Vec<String> = kinds
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, thing, what)| format!("{} {what}", counted(count, thing)))
        .collect();
    let mut message = format!(
        "{} has {} beside {}",
        folder.display(),
        kinds.join(" and "),
        counted(listed as u64, "image")
    );
    for one in missing.iter().take(SHOWN) {
        message.push_str(&format!("\n  {}: {}", one.path, one.reason));
    }
    if missing.len() > SHOWN {
        message.push_str(&format!("\n  and {} more", missing.len() - SHOWN));
    }
    if on_missing == OnMissing::Warn {
        context.events.warn(message);
        return Ok(());
    }
    let help = match dangling {
        0 => {
            "change their permissions, or write `on_missing = \"warn\"` in this stage to go on without them"
        }
        _ => {
            "fetch their content (`git annex get`, `dvc pull`, `git lfs pull`), or write `on_missing = \"warn\"` in this stage to go on without them"
        }
    };
    Err(StageError::failed(message).with_help(help))
}

/// The files of a folder that aren't used.
fn not_used(
    others: impl IntoIterator<Item = String>,
    skipped: impl IntoIterator<Item = (String, Skip)>,
) -> Vec<Skipped> {
    let others = others.into_iter().map(|path| Skipped::by_name(&path));
    others.chain(skipped.into_iter().map(|(path, skip)| left_out(&path, skip))).collect()
}

/// A path that a listing leaves out, with the reason in `skipped.tsv`.
fn left_out(path: &str, skip: Skip) -> Skipped {
    let reason = match skip {
        Skip::Dangling(target) => return Skipped::dangling(path, &target),
        Skip::Unreadable(error) => format!("{UNREADABLE}: {error}"),
        Skip::Hidden => HIDDEN.to_owned(),
        Skip::Loop => "link to a folder around it".to_owned(),
        Skip::NotAFile => NOT_A_FILE.to_owned(),
        Skip::NotUtf8 => NOT_UTF8.to_owned(),
        Skip::EmptyFolder => EMPTY.to_owned(),
    };
    Skipped::new(path, reason)
}

/// Reports what was listed and what was skipped.
fn report(context: &Context, listed: &[Image], skipped: &[Skipped]) {
    let unnamed = skipped.iter().filter(|one| one.reason == NOT_UTF8).count() as u64;
    if unnamed > 0 {
        let unnamed = counted(unnamed, "file");
        context.events.warn(format!("skipped {unnamed} with names that aren't UTF-8"));
    }
    skipped::unsupported(skipped).into_iter().for_each(|warning| context.events.warn(warning));
    let images = counted(listed.len() as u64, "image");
    context.events.info(format!("{images} listed{}", skipped::sentence(skipped)));
}

/// The images in a folder.
pub(in crate::stages) struct Listed {
    /// The content of [`LISTING`].
    pub listing: Vec<u8>,
    /// The content of [`SKIPPED`].
    pub skipped: Vec<u8>,
    /// The number of images.
    pub images: u64,
}

/// The listing and the list of what isn't used, from the folder itself.
pub(in crate::stages) fn listed(context: &Context, folder: &Path) -> Result<Listed, StageError> {
    // The store's folder is three above that of a slot.
    let own = context.slot.ancestors().nth(3).unwrap_or(&context.slot);
    let (found, mut skipped) = scan(folder, own)?;
    let (paths, others): (Vec<String>, Vec<String>) =
        found.into_iter().partition(|path| image_files::is_image(path));
    let task = context.events.task("list", Some(paths.len() as u64), "images");
    let one = |path: String| {
        let whole = folder.join(&path);
        let read = || {
            let digest = digest_file(&whole)?;
            Ok((digest, std::fs::metadata(&whole)?.len()))
        };
        if context.cancel.is_cancelled() {
            return Err((path, Skip::Hidden));
        }
        task.advance(1);
        match read() {
            Ok((digest, length)) => Ok(Image { path, length, digest }),
            Err::<_, std::io::Error>(error) => Err((path, Skip::Unreadable(error.to_string()))),
        }
    };
    let (listed, unread): (Vec<Image>, Vec<(String, Skip)>) =
        paths.into_par_iter().map(one).partition_map(|found| match found {
            Ok(image) => rayon::iter::Either::Left(image),
            Err(unread) => rayon::iter::Either::Right(unread),
        });
    StageError::check(&context.cancel)?;
    skipped.extend(unread);
    let images = listed.len() as u64;
    let skipped = images::skipped_table(not_used(others, skipped));
    Ok(Listed { listing: images::listing(listed), skipped, images })
}
