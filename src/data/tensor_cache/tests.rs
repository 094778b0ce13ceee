//! The tensor cache from images to batches, and every kind of damage to it.

use super::samples as table;
mod sketches;

use super::*;
use crate::data::decode::samples;
use crate::data::images::{self, FOLDER, Image, LISTING};
use crate::data::normalization::Normalization;
use crate::data::order::shuffled;
use crate::data::{
    Augmentation, AugmentationPolicy, Batch, ColorJitter, Fit, Form, GaussianBlur, Geometry,
    Interpolation, Loader, LoaderOptions, Pixels, Preprocessing, RandAugment, RandomAffine,
    RandomErasing, RandomPerspective, RandomResizedCrop, Recipe,
};
use crate::events::{CancellationToken, EventSink};
use crate::store::digest_bytes;
use proptest::prelude::*;
use std::sync::Arc;

const SIZE: u32 = 8;

fn preprocessing() -> Preprocessing {
    let (fit, interpolation) = (Fit::Crop, Interpolation::Bilinear);
    Preprocessing {
        resize: SIZE,
        crop: 6,
        fit,
        interpolation,
        mean: [0.5; 3],
        std: [0.25; 3],
        decoding: Default::default(),
    }
}

fn color(index: usize) -> [u8; 3] {
    [index as u8, (index * 7 % 256) as u8, 255 - index as u8]
}

/// A fetched artifact with one image of a single color per index; those in `broken` are unreadable.
fn fetched(count: usize, broken: &[usize]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(FOLDER)).unwrap();
    let mut list = Vec::new();
    for index in 0..count {
        let broken = broken.contains(&index);
        let bytes = if broken {
            format!("broken {index}").into_bytes()
        } else {
            samples::png(12, 10, color(index))
        };
        let path = format!("{index:04}.png");
        std::fs::write(folder.path().join(FOLDER).join(&path), &bytes).unwrap();
        list.push(Image { path, length: bytes.len() as u64, digest: digest_bytes(&bytes) });
    }
    std::fs::write(folder.path().join(LISTING), images::listing(list)).unwrap();
    folder
}

fn made(fetched: &Path, path: &Path, geometry: &Geometry, earlier: Option<&Records>) -> Written {
    made_as(Storage::Raw, fetched, path, geometry, earlier)
}

fn made_as(
    storage: Storage,
    fetched: &Path,
    path: &Path,
    geometry: &Geometry,
    earlier: Option<&Records>,
) -> Written {
    let images = images::open(fetched, None).unwrap();
    let task = EventSink::silent().task("decode", None, "images");
    let cancel = CancellationToken::new();
    let writer = Writer {
        images: &images,
        geometry,
        storage,
        earlier,
        sketches: None,
        task: &task,
        cancel: &cancel,
    };
    writer.write(path).unwrap()
}

/// A cache of `count` images, all in the train split.
fn cache(count: usize) -> tempfile::TempDir {
    let (input, folder) = (fetched(count, &[]), tempfile::tempdir().unwrap());
    let made = made(input.path(), &folder.path().join(RECORDS), &preprocessing().geometry(), None);
    let list = images::open(input.path(), None).unwrap();
    let samples: Vec<Sample> = list
        .list()
        .iter()
        .enumerate()
        .map(|(index, one)| Sample {
            path: one.path.clone(),
            image_digest: one.digest,
            record: made.entries.iter().position(|entry| entry.image_digest == one.digest).unwrap()
                as u32,
            class: Some(index as u32 % 2),
            split: Split::Train,
            note: String::new(),
        })
        .collect();
    let info =
        InputInfo { preprocessing: preprocessing(), classes: vec!["even".into(), "odd".into()] };
    write_table(folder.path(), &info, samples.into_iter()).unwrap();
    folder
}

#[test]
fn mapped_and_plain_reads_give_the_images() {
    let folder = cache(9);
    let cache = TensorCache::open(folder.path()).unwrap();
    let plain = Records::open_as(&folder.path().join(RECORDS), false).unwrap();
    for (index, sample) in cache.samples().iter().enumerate() {
        let record = cache.record(sample.record).unwrap();
        assert_eq!(record.as_ref(), color(index).repeat((SIZE * SIZE) as usize));
        assert_eq!(record, plain.record(sample.record).unwrap());
        assert_eq!(cache.record_digest(sample.record), Some(Digest::of(&record)));
        assert_eq!(plain.find(&sample.image_digest), Some(sample.record));
    }
    assert!(cache.record(9).is_err() && cache.record_digest(9).is_none());
    assert_eq!(cache.of_split(Split::Train).len(), 9);
}

#[test]
fn unreadable_images_are_rejected() {
    let (input, folder) = (fetched(5, &[1, 3]), tempfile::tempdir().unwrap());
    let made = made(input.path(), &folder.path().join("r"), &preprocessing().geometry(), None);
    assert_eq!((made.entries.len(), made.rejected.len(), made.unchanged), (3, 2, false));
}

#[test]
fn reused_records_give_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let geometry = preprocessing().geometry();
    let (few, many) = (fetched(20, &[4]), fetched(30, &[4]));
    let path = |name: &str| folder.path().join(name);
    made(few.path(), &path("few"), &geometry, None);
    made(many.path(), &path("fresh"), &geometry, None);
    let earlier = Records::open(&path("few")).unwrap();
    // Images with an earlier record are not read.
    for index in 0..20 {
        if index != 4 {
            std::fs::write(many.path().join(FOLDER).join(format!("{index:04}.png")), b"gone")
                .unwrap();
        }
    }
    let reused = made(many.path(), &path("reused"), &geometry, Some(&earlier));
    assert_eq!((reused.reused, reused.unchanged), (19, false));
    assert_eq!(std::fs::read(path("reused")).unwrap(), std::fs::read(path("fresh")).unwrap());
    let again = made(few.path(), &path("again"), &geometry, Some(&earlier));
    assert!(again.unchanged && !path("again").exists());
    assert_eq!((again.entries.len(), again.rejected.len()), (19, 1));
}

#[test]
fn a_damaged_earlier_record_is_not_reused() {
    let (input, folder) = (fetched(6, &[]), tempfile::tempdir().unwrap());
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let geometry = preprocessing().geometry();
    made(input.path(), &first, &geometry, None);
    let whole = std::fs::read(&first).unwrap();
    let mut damaged = whole.clone();
    damaged[4096 + 2 * 192 + 17] ^= 1;
    std::fs::write(&first, &damaged).unwrap();
    let earlier = Records::open(&first).unwrap();
    assert!(earlier.record(2).unwrap_err().to_string().contains("record 2"));
    let again = made(input.path(), &second, &geometry, Some(&earlier));
    assert_eq!((again.unchanged, again.reused), (false, 5));
    assert_eq!(std::fs::read(&second).unwrap(), whole);
}

#[test]
fn truncation_and_modification_are_refused() {
    let folder = cache(3);
    refuses_damage(&folder.path().join(RECORDS));
    assert!(TensorCache::open(folder.path()).is_ok());
    let folder = tempfile::tempdir().unwrap();
    made_as(JPEG, mixed(3).path(), &folder.path().join(RECORDS), &larger(), None);
    refuses_damage(&folder.path().join(RECORDS));
}

/// Cuts and changes a file of three records everywhere.
fn refuses_damage(path: &Path) {
    let whole = std::fs::read(path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(path, &whole[..length]).unwrap();
        assert!(Records::open(path).is_err(), "{length}");
    }
    // Every byte, except for a sample of the header's zero padding.
    for at in (0..128).chain((128..4096).step_by(61)).chain(4096..whole.len()) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        std::fs::write(path, &damaged).unwrap();
        for map in [true, false] {
            let read = Records::open_as(path, map)
                .and_then(|records| (0..3).try_for_each(|index| records.record(index).map(drop)));
            assert!(read.is_err(), "byte {at} changed, mapped: {map}");
        }
    }
    std::fs::write(path, &whole).unwrap();
}

const JPEG: Storage = Storage::Jpeg { quality: 95 };

/// A size at which JPEG is smaller for images of one color, but not for noise.
fn larger() -> Geometry {
    Geometry { size: 16, crop: 16, ..preprocessing().geometry() }
}

/// As [`fetched`]; every third image is noise.
fn mixed(count: usize) -> tempfile::TempDir {
    let folder = fetched(count, &[]);
    let mut list = images::open(folder.path(), None).unwrap().list().to_vec();
    for (index, one) in list.iter_mut().enumerate().skip(2).step_by(3) {
        let mut stream = crate::random::Stream::new(1, "noise", &[index as u64]);
        let noise = image::RgbImage::from_fn(16, 16, |_, _| {
            image::Rgb([0; 3].map(|_: u8| stream.bits() as u8))
        });
        let path = folder.path().join(FOLDER).join(&one.path);
        noise.save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        (one.length, one.digest) = (bytes.len() as u64, digest_bytes(&bytes));
    }
    std::fs::write(folder.path().join(LISTING), images::listing(list)).unwrap();
    folder
}

#[test]
fn jpeg_records_are_close_to_raw_ones_and_never_larger() {
    let (input, folder) = (mixed(9), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name);
    let written = made_as(JPEG, input.path(), &path("jpeg"), &larger(), None);
    made(input.path(), &path("raw"), &larger(), None);
    let jpeg = Records::open(&path("jpeg")).unwrap();
    let plain = Records::open_as(&path("jpeg"), false).unwrap();
    let raw = Records::open(&path("raw")).unwrap();
    assert_ne!(jpeg.fingerprint(), raw.fingerprint());
    let mut lengths = Vec::new();
    for index in 0..9 {
        let [one, same, exact] = [&jpeg, &plain, &raw].map(|from| from.record(index).unwrap());
        assert_eq!(one, same);
        let entry = jpeg.entry(index).unwrap();
        assert_eq!(entry, written.entries[index as usize]);
        assert_eq!(raw.find(&entry.image_digest), Some(index));
        assert_eq!(jpeg.find(&entry.image_digest), Some(index));
        let far = one.iter().zip(exact.iter()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(far <= if entry.length == 768 { 0 } else { 4 }, "{far}");
        lengths.push(entry.length);
    }
    assert_eq!(lengths.iter().filter(|&&length| length == 768).count(), 3);
    assert!(lengths.iter().all(|&length| length <= 768));
    assert!(jpeg.find(&Digest::of(b"absent")).is_none());
}

#[test]
fn jpeg_records_are_copied_within_their_setting_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (few, many) = (mixed(6), mixed(10));
    made_as(JPEG, few.path(), &path("few"), &larger(), None);
    made_as(JPEG, many.path(), &path("fresh"), &larger(), None);
    let earlier = Records::open(&path("few")).unwrap();
    let copied = made_as(JPEG, many.path(), &path("copied"), &larger(), Some(&earlier));
    assert_eq!((copied.reused, copied.decoded()), (6, 4));
    assert_eq!(std::fs::read(path("copied")).unwrap(), std::fs::read(path("fresh")).unwrap());
    // An image less: nothing is decoded, and it is gone.
    let earlier = Records::open(&path("fresh")).unwrap();
    let fewer = made_as(JPEG, few.path(), &path("fewer"), &larger(), Some(&earlier));
    assert_eq!((fewer.reused, fewer.decoded(), fewer.unchanged), (6, 0, false));
    assert_eq!(std::fs::read(path("fewer")).unwrap(), std::fs::read(path("few")).unwrap());
    let other = fingerprint(&larger(), Storage::Jpeg { quality: 90 });
    assert!(other != earlier.fingerprint() && other != fingerprint(&larger(), Storage::Raw));
}

#[test]
fn an_index_with_right_digests_that_says_what_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r");
    made_as(JPEG, mixed(3).path(), &path, &larger(), None);
    let whole = std::fs::read(&path).unwrap();
    let index = whole.len() - 3 * 96;
    let refused = |at: usize, value: u8| {
        let mut bytes = whole.clone();
        assert_ne!(bytes[index + at], value);
        bytes[index + at] = value;
        let digest = Digest::of(&bytes[index..]);
        bytes[64..96].copy_from_slice(digest.as_bytes());
        let digest = Digest::of(&bytes[..96]);
        bytes[96..128].copy_from_slice(digest.as_bytes());
        std::fs::write(&path, &bytes).unwrap();
        Records::open(&path).is_err()
    };
    // An unknown encoding; an offset within another record; a length beyond the file.
    assert!(refused(76, 7) && refused(96 + 80, 1) && refused(96 + 95, 0x7f));
}

#[test]
fn inconsistent_tables_are_refused() {
    let folder = cache(4);
    let (rows_file, input) = (folder.path().join(SAMPLES), folder.path().join(INPUT));
    let good = table::read(&rows_file).unwrap();
    let refused = |change: &dyn Fn(&mut Sample)| {
        let mut rows = good.clone();
        change(&mut rows[1]);
        table::write(&rows_file, rows.into_iter()).unwrap();
        TensorCache::open(folder.path()).is_err()
    };
    assert!(refused(&|row| row.record = 9));
    assert!(refused(&|row| row.image_digest = Digest::of(b"other")));
    assert!(refused(&|row| row.class = Some(2)));
    assert!(refused(&|row| row.class = None));
    assert!(!refused(&|row| (row.class, row.split) = (None, Split::Unlabelled)));
    let text = std::fs::read(&input).unwrap();
    for length in 0..text.len() - 1 {
        std::fs::write(&input, &text[..length]).unwrap();
        assert!(TensorCache::open(folder.path()).is_err(), "{length}");
    }
}

/// A pass over the train split, in the order of (seed, epoch) or of the table.
fn passes(
    cache: &Arc<TensorCache>,
    order: Option<(u64, u64)>,
    options: &LoaderOptions,
) -> Vec<crate::data::Batch> {
    let all = cache.of_split(Split::Train);
    let order = order.map_or(all.clone(), |(seed, epoch)| shuffled(all, seed, epoch));
    Loader::new(Arc::clone(cache), order, options.clone()).map(Result::unwrap).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_pass_is_a_permutation_and_can_be_resumed(
        count in 1usize..40, batch_size in 1usize..12, seed in any::<u64>(), epoch in 0u64..5, drop_last in any::<bool>(),
        ahead in 0usize..5, skipped in 0usize..6,
    ) {
        let folder = cache(count);
        let cache = Arc::new(TensorCache::open(folder.path()).unwrap());
        let policy = AugmentationPolicy { horizontal_flip: true, ..changed(0.1, 0.2) };
        let augmentation = Some(Augmentation { policy, seed, epoch });
        let options =
            LoaderOptions { batch_size, augmentation, drop_last, ahead, ..LoaderOptions::default() };
        let order = Some((seed, epoch));
        let batches = passes(&cache, order, &options);
        let steps = if drop_last { count / batch_size } else { count.div_ceil(batch_size) };
        prop_assert_eq!(batches.len(), steps);
        let mut seen: Vec<usize> = batches.iter().flat_map(|batch| batch.samples.clone()).collect();
        seen.sort_unstable();
        seen.dedup();
        prop_assert_eq!(seen.len(), if drop_last { steps * batch_size } else { count });
        let resumed = passes(&cache, order, &LoaderOptions { first_step: skipped, ahead: 0, ..options.clone() });
        prop_assert_eq!(&batches[skipped.min(steps)..], &resumed[..]);
        for batch in &batches {
            let images = batch.pixels.clone().normalized().unwrap();
            prop_assert_eq!(images.len(), batch.samples.len() * 6 * 6 * 3);
            for (label, sample) in batch.labels.iter().zip(&batch.samples) {
                prop_assert_eq!(*label, Some(*sample as u32 % 2));
            }
        }
    }
}

#[test]
fn batches_and_single_images_are_normalized_alike() {
    let folder = cache(5);
    let cache = Arc::new(TensorCache::open(folder.path()).unwrap());
    let batches =
        passes(&cache, None, &LoaderOptions { batch_size: 2, ..LoaderOptions::default() });
    let single: Vec<f32> = cache
        .samples()
        .iter()
        .flat_map(|sample| {
            crate::data::normalization::network_input(
                &cache.record(sample.record).unwrap(),
                &cache.info().preprocessing,
            )
        })
        .collect();
    let images = batches.into_iter().flat_map(|batch| batch.pixels.normalized().unwrap());
    assert_eq!(images.collect::<Vec<f32>>(), single);
    assert_eq!(single[0], (0.0 / 255.0 - 0.5) / 0.25);
}

#[test]
fn records_come_with_the_recipes_of_their_views() {
    let folder = cache(7);
    let cache = Arc::new(TensorCache::open(folder.path()).unwrap());
    let plain = LoaderOptions { batch_size: 3, form: Form::Records, ..LoaderOptions::default() };
    let augmentation = Some(Augmentation { policy: changed(0.2, 0.5), seed: 5, epoch: 2 });
    let augmented = LoaderOptions { augmentation, ..plain.clone() };
    let frame = Normalization::new(&cache.info().preprocessing).frame();
    for options in [plain, augmented.clone()] {
        for batch in passes(&cache, Some((5, 2)), &options) {
            let Pixels::Records(crate::data::Records { squares, recipes, .. }) = batch.pixels
            else {
                panic!("no records")
            };
            let mut expected = (Vec::new(), Vec::new());
            for &sample in &batch.samples {
                let record = cache.samples()[sample].record;
                expected.0.extend_from_slice(&cache.record(record).unwrap());
                let recipe = match &options.augmentation {
                    None => Recipe::center_crop(&frame),
                    Some(augmentation) => {
                        let digest = cache.record_digest(record).unwrap();
                        let stream = augmentation.stream(augmentation.view(0), digest);
                        augmentation.policy.recipe(&frame, stream)
                    }
                };
                let mut words = [0; Recipe::BYTES];
                recipe.write(&mut words);
                expected.1.extend_from_slice(&words);
            }
            assert_eq!((squares, recipes), expected);
        }
    }
    // What a GPU can't make comes as images.
    let mut blurred = augmented;
    let blur = GaussianBlur { kernel_size: 3, sigma: [0.1, 2.0] };
    blurred.augmentation.as_mut().unwrap().policy.gaussian_blur = Some(blur);
    let images = passes(&cache, None, &blurred);
    let normalized = LoaderOptions { form: Form::Normalized, ..blurred };
    assert!(images == passes(&cache, None, &normalized));
    assert!(matches!(images[0].pixels, Pixels::Normalized(_)));
}

#[test]
fn epochs_differ_and_a_dropped_loader_stops() {
    let folder = cache(40);
    let cache = Arc::new(TensorCache::open(folder.path()).unwrap());
    let options = LoaderOptions { batch_size: 2, ..LoaderOptions::default() };
    assert_ne!(passes(&cache, Some((1, 0)), &options), passes(&cache, Some((1, 1)), &options));
    let mut loader = Loader::new(Arc::clone(&cache), cache.of_split(Split::Train), options);
    assert!(loader.next().is_some());
    drop(loader);
    assert_eq!(Arc::strong_count(&cache), 1);
}

#[test]
fn augmentation_depends_on_record_epoch_and_repeat() {
    let folder = cache(6);
    let cache = Arc::new(TensorCache::open(folder.path()).unwrap());
    let policy = changed(0.2, 0.5);
    let images = |order: &[usize], epoch, copies| -> Vec<Vec<f32>> {
        let augmentation = Some(Augmentation {
            policy: AugmentationPolicy { views: copies, ..policy.clone() },
            seed: 3,
            epoch,
        });
        let options = LoaderOptions { batch_size: 1, augmentation, ..LoaderOptions::default() };
        Loader::new(Arc::clone(&cache), order.to_vec(), options)
            .map(|batch| batch.unwrap().pixels.normalized().unwrap())
            .collect()
    };
    // The position in the order and other samples don't matter; the repeat and the epoch do.
    let [mixed, alone, later] =
        [images(&[4, 1, 4], 1, None), images(&[1, 4], 1, None), images(&[1, 4], 2, None)];
    assert!(mixed[0] == alone[1] && mixed[1] == alone[0] && mixed[0] != mixed[2]);
    assert!(later[0] != alone[0] && later[1] != alone[1]);
    // With `copies`, there is that number of views.
    let views: Vec<Vec<Vec<f32>>> = (1..7).map(|epoch| images(&[1, 4], epoch, Some(3))).collect();
    assert!(
        views[0] == views[3]
            && views[2] == views[5]
            && views[0] != views[1]
            && views[1] != views[2]
    );
    assert_eq!(images(&[4, 4], 1, Some(3))[1], images(&[4], 2, Some(3))[0]);
}

/// A policy that moves and changes the brightness.
fn changed(translate: f64, brightness: f64) -> AugmentationPolicy {
    let affine =
        RandomAffine { degrees: 0.0, translate: [translate; 2], scale: [1.0; 2], shear: 0.0 };
    let jitter = ColorJitter { brightness, contrast: 0.0, saturation: 0.0, hue: 0.0 };
    AugmentationPolicy {
        random_affine: Some(affine),
        color_jitter: Some(jitter),
        ..AugmentationPolicy::default()
    }
}

#[test]
fn augmented_batches_are_the_same_bytes_with_any_number_of_threads() {
    let folder = cache(40);
    let cache = Arc::new(TensorCache::open(folder.path()).unwrap());
    let policy = AugmentationPolicy {
        random_resized_crop: Some(RandomResizedCrop { scale: [0.08, 1.0], ratio: [0.75, 1.33] }),
        horizontal_flip: true,
        vertical_flip: true,
        random_perspective: Some(RandomPerspective { distortion_scale: 0.5, p: 0.5 }),
        rand_augment: Some(RandAugment { num_ops: 2, magnitude: 9 }),
        trivial_augment: true,
        random_grayscale: 0.1,
        gaussian_blur: Some(GaussianBlur { kernel_size: 3, sigma: [0.1, 2.0] }),
        random_erasing: Some(RandomErasing { p: 0.5, scale: [0.02, 0.33], ratio: [0.3, 3.3] }),
        ..changed(0.2, 0.4)
    };
    let augmentation = Some(Augmentation { policy, seed: 5, epoch: 2 });
    let options =
        LoaderOptions { batch_size: 3, augmentation, ahead: 0, ..LoaderOptions::default() };
    let expected = passes(&cache, Some((5, 2)), &options);
    for threads in [1, 2, 7] {
        // Each thread makes every nth batch, in loaders of its own.
        let made = |first: usize| -> Vec<(usize, Batch)> {
            let steps = (first..expected.len()).step_by(threads);
            let one = |step| {
                let options = LoaderOptions { first_step: step, ahead: 1, ..options.clone() };
                (step, passes(&cache, Some((5, 2)), &options).swap_remove(0))
            };
            steps.map(one).collect()
        };
        let mut batches: Vec<(usize, Batch)> = std::thread::scope(|scope| {
            let made = &made;
            let running: Vec<_> =
                (0..threads).map(|first| scope.spawn(move || made(first))).collect();
            running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        batches.sort_by_key(|(step, _)| *step);
        let batches: Vec<Batch> = batches.into_iter().map(|(_, batch)| batch).collect();
        assert!(batches == expected, "{threads} threads");
    }
}
