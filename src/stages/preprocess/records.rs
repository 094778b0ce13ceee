//! The records of a `preprocess` stage: written, or linked from an earlier tensor cache; and the
//! disk space that they need.

use super::{PreprocessOptions, preprocessing};
use crate::data::Preprocessing;
use crate::data::images::ImageSet;
use crate::data::tensor_cache::{
    RECORDS, Records, Sketches, Sketching, Writer, Written, fingerprint,
};
use crate::engine::{Context, Estimate, Known, OrFail, StageError};
use crate::store::{Digest, Memo};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Bucket of the memo with the latest records of each geometry.
const BUCKET: &str = "records";
/// Bucket of the memo with the sketches of these records, and the name of their file while it is
/// written.
const SKETCHES: &str = "sketches";
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
) -> Result<Written, StageError> {
    let (geometry, storage) = (preprocessing.geometry(), options.storage());
    let (fingerprint, target) = (fingerprint(&geometry, storage), context.slot.join(RECORDS));
    let key = fingerprint.to_string();
    let remembered = context.memo.file(BUCKET, &key);
    let earlier = remembered.as_deref().and_then(|path| Records::open(path).ok());
    let earlier = earlier.filter(|records| records.fingerprint() == fingerprint);
    let known = context.memo.file(SKETCHES, &key);
    let known = known.and_then(|path| Sketches::open(&path, &fingerprint).ok().flatten());
    // Without an author's split or fractions there are no leaks to look for.
    let sketch_path = context.slot.join(SKETCHES);
    let sketches = options
        .only
        .is_none()
        .then(|| Sketching { path: &sketch_path, earlier: known.map(Arc::new) });
    let had_sketches = sketches.as_ref().is_some_and(|sketches| sketches.earlier.is_some());
    let task = context.events.task("decode", Some(different(images)), "images");
    let writer = Writer {
        images,
        geometry: &geometry,
        storage,
        earlier: earlier.as_ref(),
        sketches,
        task: &task,
        cancel: &context.cancel,
    };
    let made = writer.write(&target)?;
    drop(task);
    context.events.count("decoded", made.decoded());
    context.events.count("copied", made.reused);
    // A quick try mustn't take the place of all images.
    let replaces = |had_earlier: bool| !(had_earlier && options.dataset.is_quick_try());
    if let Some(path) = remembered.filter(|_| made.unchanged) {
        link(&path, &target)?;
        let _ = remember_undecodable(&context.memo, &key, &made);
    } else if replaces(earlier.is_some()) {
        let _ = remember(&context.memo, BUCKET, &key, &target)
            .and_then(|()| remember_undecodable(&context.memo, &key, &made));
    }
    // Those that are in the memo already aren't written again.
    if sketch_path.exists() {
        if replaces(had_sketches) {
            let _ = remember(&context.memo, SKETCHES, &key, &sketch_path);
        }
        std::fs::remove_file(&sketch_path).or_fail(sketch_path.display())?;
    }
    Ok(made)
}

/// The number of different images.
fn different(images: &ImageSet) -> u64 {
    let mut digests: Vec<&Digest> = images.list().iter().map(|one| &one.digest).collect();
    digests.sort_unstable();
    digests.dedup();
    digests.len() as u64
}

/// Keeps a file in the memo; the latest takes the place of the one before. Where that fails, the next
/// preprocess makes it again.
fn remember(memo: &Memo, bucket: &str, key: &str, file: &Path) -> std::io::Result<()> {
    memo.remove(bucket, key)?;
    memo.link(bucket, key, file)
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
