//! The kind `preprocess`: decodes and resizes images into a tensor cache and assigns classes and
//! splits.

mod assign;
mod equal;
mod leaks;
mod records;
mod report;

use super::command;
use super::dataset::{self, Dataset, GivenDataset, Tables};
use super::fetch::{self, Contents};
use super::pretrained::{PREPROCESSING, Pretrained};
use crate::common::nearest;
use crate::config::{Choice, Key, choices, keys};
use crate::data::decode::{Background, DecodeOptions, OnDamaged};
use crate::data::images::{self, SKIPPED};
use crate::data::labels::Labels;
use crate::data::rejected;
use crate::data::tensor_cache::{self, Storage};
use crate::data::{Fit, InputInfo, Interpolation, Preprocessing};
use crate::engine::{Context, Estimate, FactChange, Input, Kind, Known, Pin, Resolver, StageError};
use crate::events::{CancellationToken, FileChanges};
use crate::nn::weights::registry;
use crate::store::Store;
use assign::Assignment;
use equal::Equal;
use records::records;
use report::{check_rejected, report, warn_of_crops, warn_of_notes};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The kind `preprocess`.
pub(super) struct Preprocess;

/// Maximum number of images in an error.
const SHOWN: usize = 5;
const IMAGENET_MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f64; 3] = [0.229, 0.224, 0.225];

/// Version of the code: raised whenever the same inputs give other bytes or other keys.
///
/// - 2: damaged images of which more than a tenth is missing are rejected; more kinds of TIFF and
///   damaged files of every format are decoded (version 2 of the decoder).
///   `rejected.csv` and `conflicts.csv`; the class of a nested folder is its outermost; exact
///   fractions carry over classes; images with equal pixels are in one split.
/// - 3: `leaks.csv`.
/// - 4: in large sets of similar images, more near duplicates are found.
/// - 5: in such sets, others may be found: other bands of their hashes are compared.
const VERSION: u32 = 5;

keys! {
    /// The keys of a `preprocess` stage.
    pub(super) struct PreprocessTable / PreprocessKeys {
        /// A pretrained model such as `resnet50` or `resnet50/V2`, for its resize, crop,
        /// interpolation, mean and std.
        input: Option<String> = none;
        /// Side of the network's input in pixels; `resize` and `crop` in one.
        size: Option<u32> = none in 8..=4096;
        /// Side of the stored square in pixels. The same as `crop` if only that is given.
        resize: Option<u32> = none in 8..=4096;
        /// Side of the network's input in pixels: the center of the stored square, or a random part
        /// of it in training.
        crop: Option<u32> = none in 8..=4096;
        /// How an image that isn't square becomes square: its center is kept, it is padded with the
        /// mean color, or it is stretched.
        fit: Fit = "crop";
        /// The filter for resizing (antialiased, as PIL's). `bilinear` unless `input` or weights
        /// say otherwise.
        interpolation: Option<Interpolation> = none;
        /// Mean of red, green and blue in 0..1, subtracted. ImageNet's unless `input` or weights
        /// say otherwise.
        mean: Option<[f64; 3]> = none each in 0..=1;
        /// Standard deviation of red, green and blue, divided by. ImageNet's unless `input` or
        /// weights say otherwise.
        std: Option<[f64; 3]> = none each above 0;
        /// What transparent pixels are blended with: `white`, `black`, `gray`, a color such as
        /// `#8040ff`, or `none` to ignore transparency, as PIL's `convert("RGB")` does.
        background: String = "white";
        /// What becomes of images that are cut short or damaged. `reject`: they count as unreadable
        /// if more than a tenth of the image is missing; `keep`: what can be decoded is used.
        /// Either way they are named.
        on_damaged: OnDamaged = "reject";
        /// How images are stored: `raw`, as pixels; or `jpeg`, in a quarter of the space or less,
        /// decoded again for every batch, with the small losses of JPEG.
        store: StoredAs = "raw";
        /// Quality of the stored JPEG images.
        jpeg_quality: u32 = 95 in 1..=100;
        /// What becomes of training and validation images that are copies of an image that is scored:
        /// equal to one of a later split (train, validation, test), or different from it only by size
        /// and compression. `report`: they are listed in `leaks.csv`; `drop`: they aren't used,
        /// either. Test images always are.
        on_leak: OnLeak = "report";
        /// The stage fails if more than this fraction of the images can't be used: images that
        /// can't be decoded or opened, and rows of a table without an image.
        max_rejected: f64 = 0.05 in 0..=1 affects Execution;
        /// For a second set, beside the one that is trained on: `test`, all its images are scored;
        /// `predict`, all are predicted, and labels aren't needed.
        only: Option<Only> = none;
    }
}

choices! {
    /// What becomes of copies in another split.
    pub(super) enum OnLeak {
        /// They are listed.
        Report = "report",
        /// They are listed and left out.
        Drop = "drop",
    }
}

choices! {
    /// What all images of a set are for.
    pub(super) enum Only {
        /// The test split.
        Test = "test",
        /// Predictions, without labels.
        Predict = "predict",
    }
}

choices! {
    /// How images are stored.
    pub(super) enum StoredAs {
        /// Three bytes for a pixel.
        Raw = "raw",
        /// JPEG, unless that would be larger.
        Jpeg = "jpeg",
    }
}

/// The resolved values of a `preprocess` stage. `None`: taken from weights when the stage runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PreprocessOptions {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resize: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<u32>,
    fit: Fit,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interpolation: Option<Interpolation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mean: Option<[f64; 3]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    std: Option<[f64; 3]>,
    background: Background,
    on_damaged: OnDamaged,
    store: StoredAs,
    jpeg_quality: u32,
    on_leak: OnLeak,
    max_rejected: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    only: Option<Only>,
    /// The tables of `[dataset]` outside the fetched images.
    #[serde(default, skip_serializing_if = "Tables::is_empty")]
    tables: Tables,
    /// The keys of `[dataset]` that it reads.
    pub dataset: Dataset,
}

static INPUTS: [Input; 2] = [
    Input {
        role: "images",
        kinds: &["fetch", "command"],
        required: true,
        reads: &[images::LISTING, SKIPPED, "images/"],
        self_checked: &["images/"],
        doc: "The images.",
    },
    Input {
        role: "weights",
        kinds: &["fetch"],
        required: false,
        reads: &[PREPROCESSING],
        self_checked: &[],
        doc: "Fetched weights, for the resize, crop, interpolation, mean and std that they were trained with, unless `input` or a key sets them.",
    },
];

impl Kind for Preprocess {
    type Keys = PreprocessTable;
    type Dataset = Dataset;
    type Resolved = PreprocessOptions;

    fn name(&self) -> &'static str {
        "preprocess"
    }

    fn about(&self) -> &'static str {
        "Decodes and resizes images into a file that training streams from, and assigns classes and splits."
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn inputs(&self) -> &'static [Input] {
        &INPUTS
    }

    fn resolve(
        &self,
        keys: PreprocessKeys,
        dataset: GivenDataset,
        resolver: &mut Resolver,
    ) -> Option<PreprocessOptions> {
        fetch::check_contents(Contents::Images, "images", resolver);
        command::check_images("images", resolver);
        fetch::check_contents(Contents::Weights, "weights", resolver);
        let (dataset, tables) = dataset::resolve(dataset, resolver);
        let options = resolve_input(keys, dataset, tables, resolver);
        options.filter(|_| resolver.is_clean())
    }

    fn pin(
        &self,
        options: &PreprocessOptions,
        store: &Store,
        _cancel: &CancellationToken,
    ) -> Result<Pin, StageError> {
        options.tables.pin(store.memo())
    }

    fn changes(&self, options: &PreprocessOptions, change: &FactChange) -> Option<FileChanges> {
        options.tables.changes(&options.dataset.labels, change)
    }

    fn disk(&self, options: &PreprocessOptions, known: &Known) -> Estimate {
        records::estimate(options, known)
    }

    fn run(&self, options: &PreprocessOptions, context: &Context) -> Result<(), StageError> {
        let weights = context.optional_input("weights").map(|input| input.path.as_path());
        let preprocessing = preprocessing(options, weights)?;
        let dataset = &options.dataset;
        let images = context.input("images")?;
        let set = images::open(&images.path, images.folder.as_deref())?;
        let read = dataset.read_tables(&options.tables, &images.path)?;
        let keys = dataset.label_keys();
        let labels = match options.only {
            Some(Only::Predict) => Labels::none(&set),
            Some(Only::Test) => keys.label(&set, read.labels.as_ref())?,
            None => {
                let labels = keys.label(&set, read.labels.as_ref())?;
                labels.check_several()?;
                labels
            }
        };
        labels.warnings.iter().for_each(|warning| context.events.warn(warning.clone()));
        let mut not_used =
            keys.not_used(&set, &labels, &options.tables, dataset.split.file.as_ref());
        let mut assignment = Assignment::new(set, &labels, dataset, &read, options.only)?;
        if let Some(warning) = assignment.ignored_split(&labels, dataset) {
            context.events.warn(warning);
        }
        drop((labels, read));
        assignment.choose(dataset, &mut not_used);
        // Before the long work, on all images; and again on the readable ones.
        assignment.splits(&dataset.split, None)?;
        let images = assignment.len();
        let made = records(context, &assignment.set, &preprocessing, options)?;
        assignment.decoded(&made, &mut not_used)?;
        check_rejected(context, images, &mut not_used, options.max_rejected)?;
        // Before the split, which may fail because of what they say.
        warn_of_notes(context, &assignment, &made);
        warn_of_crops(context, &preprocessing.geometry(), &made);
        assignment.drop_empty_classes(&context.events);
        let mut splits = assignment.splits(&dataset.split, Some(&made))?;
        let equal = Equal::new(&assignment, &made);
        assign::conflicts(context, &assignment, &splits, &equal)?;
        let leaks = leaks::find(context, &assignment, &splits, &made, &equal)?;
        leaks::write(context, &assignment, &splits, &leaks)?;
        match options.on_leak {
            OnLeak::Report => leaks::warn(context, &assignment, &splits, &leaks),
            OnLeak::Drop => leaks::drop(&mut assignment, &mut splits, &leaks, &mut not_used)?,
        }
        rejected::write(&context.slot, &not_used)?;
        let info = InputInfo { preprocessing, classes: assignment.classes.clone() };
        let samples = assignment.samples(&splits, &made);
        tensor_cache::write_table(&context.slot, &info, samples)?;
        let leaking = if options.on_leak == OnLeak::Report { leaks::count(&leaks) } else { 0 };
        report(context, &splits, &made, &not_used, leaking);
        Ok(())
    }
}

impl PreprocessOptions {
    fn storage(&self) -> Storage {
        match self.store {
            StoredAs::Raw => Storage::Raw,
            // The key is in 1..=100.
            StoredAs::Jpeg => Storage::Jpeg { quality: self.jpeg_quality.clamp(1, 100) as u8 },
        }
    }
}

/// Preprocessing from the keys, else from the weights, else the usual values.
pub(super) fn preprocessing(
    options: &PreprocessOptions,
    weights: Option<&Path>,
) -> Result<Preprocessing, StageError> {
    let known = match weights {
        Some(weights) => Pretrained::read(weights)?.map(|known| known.preprocessing),
        None => None,
    };
    let is_sized = options.resize.is_some() || options.crop.is_some();
    let sides = known.as_ref().filter(|_| !is_sized).map(|known| (known.resize, known.crop));
    let Some((resize, crop)) = options.resize.zip(options.crop).or(sides) else {
        let message = "the weights don't say how images were preprocessed for them";
        return Err(StageError::failed(message)
            .with_help("set `input = \"resnet50\"`, or `size`, `mean` and `std`, in this stage"));
    };
    // `fit` has a default of its own, and timm's files say only this other one.
    let stretches = known.as_ref().is_some_and(|known| known.fit == Fit::Stretch);
    let fit = if options.fit == Fit::Crop && stretches { Fit::Stretch } else { options.fit };
    let channels = |given: Option<[f64; 3]>| given.map(|values| values.map(|value| value as f32));
    Ok(Preprocessing {
        resize,
        crop,
        fit,
        interpolation: options
            .interpolation
            .or(known.as_ref().map(|known| known.interpolation))
            .unwrap_or_default(),
        mean: channels(options.mean)
            .or(known.as_ref().map(|known| known.mean))
            .unwrap_or(IMAGENET_MEAN.map(|value| value as f32)),
        std: channels(options.std)
            .or(known.as_ref().map(|known| known.std))
            .unwrap_or(IMAGENET_STD.map(|value| value as f32)),
        decoding: DecodeOptions { background: options.background, on_damaged: options.on_damaged },
    })
}

/// Replaces presets and shorthands by values. What weights determine stays open until they are
/// fetched.
fn resolve_input(
    mut keys: PreprocessKeys,
    dataset: Dataset,
    tables: Tables,
    resolver: &mut Resolver,
) -> Option<PreprocessOptions> {
    if let Some(input) = keys.input.take() {
        apply_preset(&input, &mut keys, resolver)?;
    }
    if let Some(size) = keys.size.take() {
        for (key, name) in [(&mut keys.resize, "resize"), (&mut keys.crop, "crop")] {
            if let Some(given) = key.as_ref().filter(|given| ***given != *size) {
                let diagnostic = given.error(format!("`size` sets `{name}` already"));
                resolver.report(
                    diagnostic.label("beside `size`").help("leave one of them out".to_owned()),
                );
            }
            *key = Some(size.clone());
        }
    }
    let (resize, crop) = (keys.resize.clone(), keys.crop.clone());
    keys.resize = resize.clone().or(crop.clone());
    keys.crop = crop.or(resize);
    let has_weights = resolver.is_fed("weights");
    check_sides(&keys, has_weights, resolver);
    if !has_weights {
        keys.interpolation.get_or_insert(Key::computed(Interpolation::default()));
        keys.mean.get_or_insert(Key::computed(IMAGENET_MEAN));
        keys.std.get_or_insert(Key::computed(IMAGENET_STD));
    }
    check_unread(&keys, resolver);
    let background = background(&keys.background, resolver)?;
    Some(PreprocessOptions {
        resize: keys.resize.map(Key::into_value),
        crop: keys.crop.map(Key::into_value),
        fit: *keys.fit,
        interpolation: keys.interpolation.map(Key::into_value),
        mean: keys.mean.map(Key::into_value),
        std: keys.std.map(Key::into_value),
        background,
        on_damaged: *keys.on_damaged,
        store: *keys.store,
        jpeg_quality: *keys.jpeg_quality,
        on_leak: *keys.on_leak,
        max_rejected: *keys.max_rejected,
        only: keys.only.map(Key::into_value),
        tables,
        dataset,
    })
}

fn background(key: &Key<String>, resolver: &mut Resolver) -> Option<Background> {
    match Background::try_from((**key).clone()) {
        Ok(background) => Some(background),
        Err(reason) => {
            let help = "write `white`, `black`, `gray`, `none` or a color such as `#8040ff`";
            let diagnostic = key.error(reason).label("expected a color");
            resolver.report(diagnostic.help(help.to_owned()));
            None
        }
    }
}

/// Fills in keys that aren't given from a pretrained model.
fn apply_preset(
    input: &Key<String>,
    keys: &mut PreprocessKeys,
    resolver: &mut Resolver,
) -> Option<()> {
    let preset = match registry::preset(input) {
        Ok(preset) => preset,
        Err(error) => {
            let names =
                registry::presets().iter().flat_map(|preset| [preset.name, preset.backbone]);
            let help = nearest(input, names).map(|near| format!("did you mean `{near}`?"));
            let diagnostic = input.error(error.to_string());
            resolver.report(diagnostic.label("expected a pretrained model").help(help));
            return None;
        }
    };
    if let Some(size) = keys.size.take() {
        let diagnostic = size.error("`input` sets the size already");
        resolver
            .report(diagnostic.label("beside `input`").help("leave one of them out".to_owned()));
    }
    let known = Pretrained::published(preset).preprocessing;
    keys.resize.get_or_insert(Key::computed(known.resize));
    keys.crop.get_or_insert(Key::computed(known.crop));
    keys.interpolation.get_or_insert(Key::computed(known.interpolation));
    keys.mean.get_or_insert(Key::computed(known.mean.map(decimal)));
    keys.std.get_or_insert(Key::computed(known.std.map(decimal)));
    Some(())
}

fn check_sides(keys: &PreprocessKeys, has_weights: bool, resolver: &mut Resolver) {
    match (&keys.resize, &keys.crop) {
        (Some(resize), Some(crop)) if **crop > **resize => {
            let message =
                format!("a crop of {} pixels is larger than images of {}", **crop, **resize);
            let help = format!("at most {}", **resize);
            resolver.report(crop.error(message).label("larger than `resize`").help(help));
        }
        (None, _) if !has_weights => {
            let diagnostic = resolver.stage_error("the size of the network's input is missing");
            resolver.report(
                diagnostic
                    .label("neither `input` nor `size`")
                    .help("write size = 224, or input = \"resnet50\"".to_owned()),
            );
        }
        _ => {}
    }
}

/// Reports keys that have no effect beside others.
fn check_unread(keys: &PreprocessKeys, resolver: &mut Resolver) {
    if let Some(only) = keys.only.as_ref().filter(|_| keys.on_leak.is_given()) {
        let message = "`on_leak` is for several splits, and all images are of one";
        let label = format!("beside `only = \"{}\"`", only.word());
        let diagnostic = keys.on_leak.error(message).label(label);
        resolver.report(diagnostic.help("leave it out".to_owned()));
    }
    if *keys.store == StoredAs::Raw && keys.jpeg_quality.is_given() {
        let diagnostic = keys.jpeg_quality.error("`jpeg_quality` has no effect on raw images");
        let help = "write store = \"jpeg\", or leave it out".to_owned();
        resolver.report(diagnostic.label("without `store = \"jpeg\"`").help(help));
    }
}

/// The shortest decimal number that is this one: 0.485, not 0.48500001430511475.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}
