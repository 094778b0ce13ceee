//! The records of a `preprocess` stage: written, or linked from an earlier tensor cache; and the
//! disk space that they need.

use super::{PreprocessOptions, preprocessing};
use crate::data::Preprocessing;
use crate::data::images::ImageSet;
use crate::data::similarity::Sketches;
use crate::data::tensor_cache::{RECORDS, Records, Writer, Written, fingerprint};
use crate::engine::{Context, Estimate, Known, OrFail, StageError};
use crate::stages::dataset::Dataset;
use crate::store::{Digest, Memo};
use std::collections::BTreeSet;
use std::path::Path;

/// Bucket of the memo with the latest records of each geometry.
const BUCKET: &str = "records";
/// Bucket of the memo with the digests of images that have none there: they can't be decoded.
const UNDECODABLE: &str = "undecodable";
/// Bytes of a row of `samples.tsv`, about.
const ROW: u64 = 150;

/// Writes `records.bin`, or links an earlier one with the same records.
pub(super) fn records(
    context: &Context,
    images: &ImageSet,
    preprocessing: &Preprocessing,
    options: &PreprocessOptions,
    sketches: &Sketches,
) -> Result<Written, StageError> {
    let (geometry, storage) = (preprocessing.geometry(), options.storage());
    let (fingerprint, target) = (fingerprint(&geometry, storage), context.slot.join(RECORDS));
    let key = fingerprint.to_string();
    let remembered = context.memo.file(BUCKET, &key);
    let earlier = remembered.as_deref().and_then(|path| Records::open(path).ok());
    let earlier = earlier.filter(|records| records.fingerprint() == fingerprint);
    let different: BTreeSet<Digest> = images.list().iter().map(|one| one.digest).collect();
    let task = context.events.task("decode", Some(different.len() as u64), "images");
    let (geometry, cancel) = (&geometry, &context.cancel);
    let earlier = earlier.as_ref();
    let made = Writer { images, geometry, storage, earlier, sketches, task: &task, cancel }
        .write(&target)?;
    context.events.count("decoded", made.decoded());
    context.events.count("copied", made.reused);
    match remembered.filter(|_| made.unchanged) {
        Some(path) => {
            link(&path, &target)?;
            let _ = remember_undecodable(&context.memo, &key, &made);
        }
        // A quick try mustn't take the place of all images.
        None if earlier.is_some() && options.dataset.is_quick_try() => {}
        None => {
            // The latest takes the place of the one before. Where that fails, the next preprocess
            // decodes again.
            let _ = context
                .memo
                .remove(BUCKET, &key)
                .and_then(|()| context.memo.link(BUCKET, &key, &target))
                .and_then(|()| remember_undecodable(&context.memo, &key, &made));
        }
    }
    Ok(made)
}

/// Remembers the sketches of the records with this fingerprint; a quick try adds its own to those of
/// all images.
pub(super) fn remember(
    context: &Context,
    records: &Digest,
    dataset: &Dataset,
    made: &Written,
    sketches: &Sketches,
) {
    if !dataset.is_quick_try() {
        let is_here = |digest: &Digest| {
            made.entries.binary_search_by_key(digest, |one| one.image_digest).is_ok()
        };
        sketches.retain(is_here);
    }
    sketches.remember(&context.memo, records);
}

fn link(from: &Path, to: &Path) -> Result<(), StageError> {
    std::fs::hard_link(from, to)
        .or_else(|_| std::fs::copy(from, to).map(drop))
        .or_fail(format_args!("writing {}", to.display()))
}

fn remember_undecodable(memo: &Memo, key: &str, made: &Written) -> std::io::Result<()> {
    let digests: BTreeSet<Digest> = made.rejected.iter().map(|(digest, _)| *digest).collect();
    if digests.is_empty() {
        return memo.remove(UNDECODABLE, key);
    }
    memo.put(UNDECODABLE, key, &serde_json::to_vec(&digests)?)
}

/// The disk space that the stage needs. Records of images that are all in an earlier tensor cache
/// are linked and need none.
pub(super) fn estimate(options: &PreprocessOptions, known: &Known) -> Estimate {
    let Some(images) = known.inputs.get("images").map(|input| &input.estimate) else {
        return Estimate::default();
    };
    let of_weights = known.inputs.get("weights").and_then(|input| input.estimate.side);
    let side = options.resize.or(of_weights);
    let dataset = &options.dataset;
    let count = images.images.filter(|_| dataset.limit_per_class.is_none());
    let count = count.map(|count| (count as f64 * dataset.fraction).ceil() as u64);
    let digests = images.digests.clone().filter(|_| !dataset.is_quick_try());
    let bytes = count.zip(side).map(|(count, side)| {
        let records = match &digests {
            Some(digests) if are_at_hand(options, known, digests) => 0,
            Some(digests) => digests.len() as u64,
            None => count,
        };
        records * options.storage().estimated_bytes(side) + count * ROW
    });
    Estimate { bytes, images: count, digests, side, sentence: None }
}

/// Whether an earlier tensor cache has exactly the records of these images.
fn are_at_hand(options: &PreprocessOptions, known: &Known, digests: &[Digest]) -> bool {
    let weights = match known.inputs.get("weights") {
        // They may say what the records look like.
        Some(input) if input.artifact.is_none() => return false,
        input => input.and_then(|input| input.artifact.as_deref()),
    };
    let Ok(preprocessing) = preprocessing(options, weights) else { return false };
    let key = fingerprint(&preprocessing.geometry(), options.storage()).to_string();
    let memo = known.store.memo();
    let remembered = memo.file(BUCKET, &key).and_then(|path| Records::open(&path).ok());
    let Some(records) = remembered else { return false };
    let undecodable: BTreeSet<Digest> = memo
        .get(UNDECODABLE, &key)
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let (with, without): (Vec<&Digest>, Vec<&Digest>) =
        digests.iter().partition(|digest| records.find(digest).is_some());
    with.len() == records.count() as usize
        && without.iter().all(|digest| undecodable.contains(digest))
}
