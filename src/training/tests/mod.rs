//! Fixtures: a tiny tensor cache and a tiny network, for the tests of training and of stages.

use crate::data::images::{self, Image, LISTING};
use crate::data::tensor_cache::{RECORDS, Writer, write_table};
use crate::data::{Fit, InputInfo, Interpolation, Preprocessing, Sample, Split, TensorCache};
use crate::events::{CancellationToken, EventSink};
use crate::nn::{Builder, Head, Network, Op, Window};
use crate::random::Stream;
use crate::store::digest_bytes;
use std::path::Path;
use std::sync::Arc;

/// Classes of [`cache`].
pub(crate) const CLASSES: [&str; 3] = ["red", "green", "blue"];

/// Number of images of [`cache`] in each split.
#[derive(Clone, Copy)]
pub(crate) struct Counts {
    pub train: usize,
    pub validation: usize,
    pub test: usize,
    pub unlabelled: usize,
}

pub(crate) const COUNTS: Counts = Counts { train: 26, validation: 8, test: 6, unlabelled: 2 };

/// Writes a tensor cache as `preprocess` does: noise in which one channel, by class, is a little
/// brighter. Classes alternate.
pub(crate) fn write_cache(folder: &Path, counts: Counts, preprocessing: Preprocessing) {
    let work = tempfile::tempdir().unwrap();
    std::fs::create_dir(work.path().join("images")).unwrap();
    let splits = [
        (Split::Train, counts.train),
        (Split::Validation, counts.validation),
        (Split::Test, counts.test),
        (Split::Unlabelled, counts.unlabelled),
    ];
    let all: Vec<Split> =
        splits.iter().flat_map(|&(split, count)| std::iter::repeat_n(split, count)).collect();
    let mut list = Vec::new();
    for index in 0..all.len() {
        let path = format!("{index:03}.png");
        let mut stream = Stream::new(1, "picture", &[index as u64]);
        let image = image::RgbImage::from_fn(12, 12, |_, _| {
            image::Rgb(std::array::from_fn(|channel| {
                let base = if channel == index % CLASSES.len() { 110 } else { 70 };
                base + stream.below(100) as u8
            }))
        });
        let file = work.path().join("images").join(&path);
        image.save(&file).unwrap();
        let bytes = std::fs::read(&file).unwrap();
        list.push(Image { path, length: bytes.len() as u64, digest: digest_bytes(&bytes) });
    }
    std::fs::write(work.path().join(LISTING), images::listing(list)).unwrap();
    let images = images::open(work.path(), None).unwrap();
    let task = EventSink::silent().task("decode", None, "images");
    let writer = Writer {
        images: &images,
        geometry: &preprocessing.geometry(),
        storage: Default::default(),
        earlier: None,
        sketches: None,
        task: &task,
        cancel: &CancellationToken::new(),
    };
    let made = writer.write(&folder.join(RECORDS)).unwrap();
    let samples: Vec<Sample> = images
        .list()
        .iter()
        .zip(all)
        .enumerate()
        .map(|(index, (image, split))| Sample {
            path: image.path.clone(),
            image_digest: image.digest,
            record: made
                .entries
                .iter()
                .position(|entry| entry.image_digest == image.digest)
                .unwrap() as u32,
            class: (split != Split::Unlabelled).then_some((index % CLASSES.len()) as u32),
            split,
            note: String::new(),
        })
        .collect();
    let info = InputInfo { preprocessing, classes: CLASSES.map(str::to_owned).to_vec() };
    write_table(folder, &info, samples.into_iter()).unwrap();
}

/// Stored squares of 10 pixels and crops of 8.
pub(crate) fn small() -> Preprocessing {
    Preprocessing {
        resize: 10,
        crop: 8,
        fit: Fit::Crop,
        interpolation: Interpolation::Bilinear,
        mean: [0.5; 3],
        std: [0.25; 3],
        decoding: Default::default(),
    }
}

/// Opens a cache from [`write_cache`] with [`small`] squares.
pub(crate) fn cache(counts: Counts) -> Arc<TensorCache> {
    let folder = tempfile::tempdir().unwrap();
    write_cache(folder.path(), counts, small());
    Arc::new(TensorCache::open(folder.path()).unwrap())
}

/// Two convolutions with batch norm, pooling, dropout and a linear layer, for [`cache`]'s images.
pub(crate) fn network() -> Network {
    let head = Head::Dense { hidden: Vec::new(), dropout: 0.2, classes: CLASSES.len() };
    let (mut builder, mut x) = Builder::new(8, 8, 3);
    for (group, channels) in [("first", 8), ("second", 16)] {
        builder.layer_group(group);
        x = builder
            .convolution(&format!("{group}.conv"), x, channels, Window::square(3, 2, 1))
            .unwrap();
        x = builder.batch_norm(&format!("{group}.bn"), x).unwrap();
        x = builder.relu(x).unwrap();
    }
    x = builder.add("pool", Op::AdaptivePool { height: 1, width: 1 }, &[x]).unwrap();
    builder.features(x);
    builder.dense_head("fc", x, &head).unwrap();
    Network::from_graph(builder.finish().unwrap(), &head, 42).unwrap()
}
