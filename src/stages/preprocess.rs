//! The kind `preprocess`: images to a tensor cache, labels to classes, classes to splits. Knows where presets come from;
//! the work is in `data`.

use super::dataset::{self, Dataset};
use super::fetch::{self, Goods};
use super::pretrained::{PREPROCESSING, Pretrained};
use crate::common::nearest;
use crate::common::number::{counted, thousands};
use crate::config::{DefaultValue, KeyDecl, Type, Values};
use crate::data::decode::{Note, Notes};
use crate::data::images::{self, Image, ImageSet};
use crate::data::tensor_cache::{self, RECORDS, Records, Writer, Written, fingerprint};
use crate::data::{DataError, InputInfo, Preprocessing, Sample, Split, labels, split};
use crate::engine::{Complaints, Context, Input, Kind, OrFail, StageError};
use crate::nn::weights::registry;
use crate::store::Digest;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Turns images into a tensor cache.
pub struct Preprocess;

/// Bucket of the memo that holds the latest records of each geometry.
const BUCKET: &str = "records";
/// File of the images that couldn't be read, with reasons.
const REJECTED: &str = "rejected.tsv";
/// How many unreadable images a failure shows.
const SHOWN: usize = 5;

const SIDE: Type = Type::Integer { min: 8, max: 4096 };
const UNIT: Type = Type::Number { min: 0.0, max: 1.0 };
const DIVISOR: Type = Type::Number { min: f64::MIN_POSITIVE, max: f64::INFINITY };

static PARAMETERS: [KeyDecl; 9] = [
    KeyDecl::new(
        "input",
        Type::Text,
        DefaultValue::Absent,
        "A pretrained model such as `resnet50` or `resnet50/V2`: resize, crop, interpolation, mean and std become those it was made with.",
    ),
    KeyDecl::new(
        "size",
        SIDE,
        DefaultValue::Absent,
        "Side of the network's input in pixels, where `resize` and `crop` are the same.",
    ),
    KeyDecl::new(
        "resize",
        SIDE,
        DefaultValue::Absent,
        "Side of the stored square in pixels. The same as `crop` where only that is given.",
    ),
    KeyDecl::new(
        "crop",
        SIDE,
        DefaultValue::Absent,
        "Side of the network's input in pixels: the center of the stored square, or a random part of it in training.",
    ),
    KeyDecl::new(
        "fit",
        Type::Choice(&["crop", "pad", "stretch"]),
        DefaultValue::Json("\"crop\""),
        "What happens to a image that isn't square: its middle is kept, it is filled up with the mean color, or it is stretched.",
    ),
    KeyDecl::new(
        "interpolation",
        Type::Choice(&["bilinear", "bicubic"]),
        DefaultValue::Absent,
        "The filter that images are resized with (antialiased, as PIL's). `bilinear` where no `input` says otherwise.",
    ),
    KeyDecl::new(
        "mean",
        Type::List(&UNIT),
        DefaultValue::Absent,
        "Subtracted from red, green and blue, in 0..1. ImageNet's where no `input` says otherwise.",
    ),
    KeyDecl::new(
        "std",
        Type::List(&DIVISOR),
        DefaultValue::Absent,
        "What red, green and blue are divided by afterwards. ImageNet's where no `input` says otherwise.",
    ),
    KeyDecl::new(
        "max_rejected",
        UNIT,
        DefaultValue::Json("0.05"),
        "The stage fails when more than this part of the images can't be read.",
    )
    .execution(),
];

static INPUTS: [Input; 2] = [
    Input {
        role: "images",
        kinds: &["fetch"],
        required: true,
        reads: &[images::LISTING, "images/"],
        doc: "The images.",
    },
    Input {
        role: "weights",
        kinds: &["fetch"],
        required: false,
        reads: &[PREPROCESSING],
        doc: "Fetched weights: resize, crop, interpolation, mean and std become those they were made with, where neither `input` nor the key itself says otherwise.",
    },
];

#[derive(Deserialize)]
struct Parameters {
    #[serde(flatten)]
    preprocessing: Preprocessing,
    max_rejected: f64,
    dataset: Dataset,
}

impl Kind for Preprocess {
    fn name(&self) -> &'static str {
        "preprocess"
    }

    fn about(&self) -> &'static str {
        "Decodes and resizes images into a file that training streams from, and gives each its class and split."
    }

    fn version(&self) -> u32 {
        1
    }

    fn parameters(&self) -> &'static [KeyDecl] {
        &PARAMETERS
    }

    fn dataset(&self) -> &'static [KeyDecl] {
        &dataset::ALL
    }

    fn inputs(&self) -> &'static [Input] {
        &INPUTS
    }

    fn resolve(&self, values: &mut Values, diagnostics: &mut Complaints) {
        fetch::check_brings(Goods::Images, "images", diagnostics);
        fetch::check_brings(Goods::Weights, "weights", diagnostics);
        resolve_input(values, diagnostics);
        dataset::check_naming(values, diagnostics);
        dataset::resolve_split(values, diagnostics);
    }

    fn run(&self, context: &Context) -> Result<(), StageError> {
        let parameters = parameters(context)?;
        let images = context.input("images")?;
        let images = images::open(&images.path, images.folder.as_deref())?;
        let naming = &parameters.dataset.naming;
        let labels =
            labels::label(images.list(), &naming.labels, &naming.unlabelled, &naming.class_names)?;
        // Once before the long work, on all images, and again on those that could be read.
        splits(images.list(), &labels, &parameters.dataset.split)?;
        let made = records(context, &images, &parameters.preprocessing)?;
        let rejected = reject(context, &images, &made, parameters.max_rejected)?;
        let (kept, labels) = readable(images.list(), &labels, &rejected);
        let splits = splits(&kept, &labels, &parameters.dataset.split)?;
        let samples = samples(&kept, &labels, &splits, &made)?;
        let info =
            InputInfo { preprocessing: parameters.preprocessing, classes: labels.classes.clone() };
        tensor_cache::write_table(&context.slot, &info, &samples)?;
        tell(context, &labels, &samples, &made);
        Ok(())
    }
}

/// The parameters, with what the weights say in the place of what isn't given.
fn parameters(context: &Context) -> Result<Parameters, StageError> {
    let mut values = context.values.clone();
    if let Some(weights) = context.optional_input("weights") {
        if let Some(known) = Pretrained::read(&weights.path)? {
            take_from(&known, &mut values)?;
        } else if !values.contains_key("crop") {
            let message = "the weights don't say how images were prepared when they were made";
            return Err(StageError::failed(message).with_help(
                "write `input = \"resnet50\"`, or `size`, `mean` and `std`, in this stage",
            ));
        }
        usual(&mut values);
    }
    Parameters::deserialize(Value::Object(values)).map_err(|error| {
        StageError::failed(format!("parameters that don't fit their declaration: {error}"))
    })
}

/// Fills in what isn't given from what is known of weights.
fn take_from(known: &Pretrained, values: &mut Values) -> Result<(), StageError> {
    let described = serde_json::to_value(&known.preprocessing)
        .map_err(|error| StageError::failed(error.to_string()))?;
    let Value::Object(described) = described else { return Ok(()) };
    let is_sized = values.contains_key("resize") || values.contains_key("crop");
    for (key, value) in described {
        let is_taken = match key.as_str() {
            "resize" | "crop" => !is_sized,
            // It has a default of its own, and only this other word of timm's is one of ours.
            "fit" => value == json!("stretch") && values.get("fit") == Some(&json!("crop")),
            _ => !values.contains_key(&key),
        };
        if is_taken {
            values.insert(key, value);
        }
    }
    Ok(())
}

/// Fills in what nothing says.
fn usual(values: &mut Values) {
    values.entry("interpolation").or_insert(json!("bilinear"));
    for (key, usual) in [("mean", [0.485, 0.456, 0.406]), ("std", [0.229, 0.224, 0.225])] {
        values.entry(key).or_insert(json!(usual));
    }
}

/// Presets and shorthands become values. What weights will say stays open until they are there.
fn resolve_input(values: &mut Values, diagnostics: &mut Complaints) {
    if let Some(name) = values.remove("input").as_ref().and_then(Value::as_str) {
        match registry::preset(name) {
            Ok(preset) => {
                if values.remove("size").is_some() {
                    let help = Some("leave one of them out".to_owned());
                    diagnostics.complain(
                        "size",
                        "`input` says the size already",
                        "beside `input`",
                        help,
                    );
                }
                values.entry("resize").or_insert(json!(preset.resize));
                values.entry("crop").or_insert(json!(preset.crop));
                values.entry("interpolation").or_insert(json!(preset.interpolation.name()));
                values.entry("mean").or_insert(json!(preset.mean.map(decimal)));
                values.entry("std").or_insert(json!(preset.std.map(decimal)));
            }
            Err(error) => {
                let names =
                    registry::presets().iter().flat_map(|preset| [preset.name, preset.backbone]);
                let help = nearest(name, names).map(|near| format!("did you mean `{near}`?"));
                return diagnostics.complain(
                    "input",
                    error.to_string(),
                    "expected a pretrained model",
                    help,
                );
            }
        }
    }
    if let Some(size) = values.remove("size") {
        for key in ["resize", "crop"] {
            if values.insert(key.to_owned(), size.clone()).is_some_and(|given| given != size) {
                diagnostics.complain(
                    key,
                    format!("`size` says `{key}` already"),
                    "beside `size`",
                    Some("leave one of them out".into()),
                );
            }
        }
    }
    for (key, same) in [("resize", "crop"), ("crop", "resize")] {
        if let Some(side) = values.get(same).cloned() {
            values.entry(key).or_insert(side);
        }
    }
    let has_weights = diagnostics.is_fed("weights");
    check_sides(values, has_weights, diagnostics);
    if !has_weights {
        usual(values);
    }
    for key in ["mean", "std"] {
        if values.get(key).and_then(Value::as_array).is_some_and(|list| list.len() != 3) {
            diagnostics.complain(
                key,
                format!("`{key}` has three numbers"),
                "expected red, green, blue",
                None,
            );
        }
    }
}

fn check_sides(values: &Values, has_weights: bool, diagnostics: &mut Complaints) {
    let side = |key| values.get(key).and_then(Value::as_u64);
    match (side("resize"), side("crop")) {
        (Some(resize), Some(crop)) if crop > resize => diagnostics.complain(
            "crop",
            format!("a crop of {crop} pixels doesn't fit into images of {resize}"),
            "larger than `resize`",
            Some(format!("at most {resize}")),
        ),
        (Some(_), Some(_)) => {}
        _ if has_weights => {}
        _ => diagnostics.complain(
            "",
            "the size of the network's input is missing",
            "neither `input` nor `size`",
            Some("write size = 224, or input = \"resnet50\"".into()),
        ),
    }
}

/// The shortest decimal number that is this one: 0.485, not 0.48500001430511475.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

/// Makes `records.bin`, or links it where an earlier one holds exactly the same.
fn records(
    context: &Context,
    images: &ImageSet,
    preprocessing: &Preprocessing,
) -> Result<Written, StageError> {
    let geometry = preprocessing.geometry();
    let (fingerprint, target) = (fingerprint(&geometry), context.slot.join(RECORDS));
    let key = fingerprint.to_string();
    let remembered = context.memo.file(BUCKET, &key);
    let earlier = remembered.as_deref().and_then(|path| Records::open(path).ok());
    let earlier = earlier.filter(|records| records.fingerprint() == fingerprint);
    let different: BTreeSet<Digest> = images.list().iter().map(|one| one.digest).collect();
    let task = context.events.task("decode", Some(different.len() as u64), "images");
    let (geometry, cancel) = (&geometry, &context.cancel);
    let made = Writer { images, geometry, earlier: earlier.as_ref(), task: &task, cancel }
        .write(&target)?;
    match remembered.filter(|_| made.unchanged) {
        Some(path) => link(&path, &target)?,
        None => {
            // The latest takes the place of the one before. Where that fails, the next preprocess decodes again.
            let _ = context
                .memo
                .remove(BUCKET, &key)
                .and_then(|()| context.memo.link(BUCKET, &key, &target));
        }
    }
    Ok(made)
}

fn link(from: &Path, to: &Path) -> Result<(), StageError> {
    std::fs::hard_link(from, to)
        .or_else(|_| std::fs::copy(from, to).map(drop))
        .or_fail(format_args!("writing {}", to.display()))
}

/// Lists the images that can't be read, and fails where they are too many.
fn reject(
    context: &Context,
    images: &ImageSet,
    made: &Written,
    most: f64,
) -> Result<BTreeMap<Digest, String>, StageError> {
    let reasons: BTreeMap<Digest, String> = made.rejected.iter().cloned().collect();
    let with_reason =
        |one: &Image| reasons.get(&one.digest).map(|reason| [one.path.clone(), reason.clone()]);
    let rows: Vec<[String; 2]> = images.list().iter().filter_map(with_reason).collect();
    let all = images.list().len();
    if rows.len() as f64 > most * all as f64 {
        let shown: Vec<String> =
            rows.iter().take(SHOWN).map(|[path, reason]| format!("  {path}: {reason}")).collect();
        let message = format!(
            "{} of {all} images can't be read, for example:\n{}",
            rows.len(),
            shown.join("\n")
        );
        let help =
            format!("take them away, or allow more than {} % with `max_rejected`", most * 100.0);
        return Err(StageError::failed(message).with_help(help));
    }
    if let [[path, reason], ..] = rows.as_slice() {
        let (count, all) = (thousands(rows.len() as u64), counted(all as u64, "image"));
        context
            .events
            .warn(format!("{count} of {all} can't be read and left out, such as {path}: {reason}"));
    }
    tensor_cache::write_rejected(&context.slot.join(REJECTED), rows)?;
    Ok(reasons)
}

/// The images that could be read, and their labels. Classes stay as they are.
fn readable(
    list: &[Image],
    labels: &labels::Labels,
    rejected: &BTreeMap<Digest, String>,
) -> (Vec<Image>, labels::Labels) {
    let kept =
        list.iter().zip(&labels.by_image).filter(|(one, _)| !rejected.contains_key(&one.digest));
    let (images, by_image) = kept.map(|(one, class)| (one.clone(), *class)).unzip();
    (images, labels::Labels { by_image, ..labels.clone() })
}

/// The split of each image.
fn splits(
    list: &[Image],
    labels: &labels::Labels,
    rule: &split::Rule,
) -> Result<Vec<Split>, DataError> {
    let labelled: Vec<split::Labelled> = list
        .iter()
        .zip(&labels.by_image)
        .filter_map(|(one, class)| Some(split::Labelled { digest: one.digest, class: (*class)? }))
        .collect();
    let mut splits = split::split(&labelled, &labels.classes, rule)?.into_iter();
    let one = |class: &Option<u32>| class.and_then(|_| splits.next()).unwrap_or(Split::Unlabelled);
    Ok(labels.by_image.iter().map(one).collect())
}

fn samples(
    list: &[Image],
    labels: &labels::Labels,
    splits: &[Split],
    made: &Written,
) -> Result<Vec<Sample>, StageError> {
    let rows = list.iter().zip(&labels.by_image).zip(splits);
    rows.map(|((one, class), split)| {
        let record = made.entries.binary_search_by(|entry| entry.image_digest.cmp(&one.digest));
        let record =
            record.map_err(|_| StageError::failed(format!("{} has no record", one.path)))?;
        let note =
            made.entries.get(record).map(|entry| Notes(entry.notes).words()).unwrap_or_default();
        let (path, image_digest) = (one.path.clone(), one.digest);
        Ok(Sample { path, image_digest, record: record as u32, class: *class, split: *split, note })
    })
    .collect()
}

/// What came of it, in sentences.
fn tell(context: &Context, labels: &labels::Labels, samples: &[Sample], made: &Written) {
    if !labels.unused_names.is_empty() {
        context.events.warn(format!(
            "no image is of a class written {}, named in class_names",
            labels.unused_names.join(", ")
        ));
    }
    let mut classes: BTreeMap<Digest, u32> = BTreeMap::new();
    let contradictory = samples.iter().filter(|one| {
        one.class.is_some_and(|class| *classes.entry(one.image_digest).or_insert(class) != class)
    });
    match contradictory.count() {
        0 => {}
        count => context.events.warn(format!(
            "{} equal to others under a different label",
            counted(count as u64, "image")
        )),
    }
    match made.entries.iter().filter(|entry| Notes(entry.notes).has(Note::Lenient)).count() {
        0 => {}
        count => context.events.warn(format!(
            "{} damaged; what could be decoded is used",
            counted(count as u64, "image")
        )),
    }
    if made.reused > 0 {
        let all = counted(made.entries.len() as u64, "image");
        context.events.info(format!(
            "{} of {all} decoded before, and taken from there",
            thousands(made.reused)
        ));
    }
    let count = |split| thousands(samples.iter().filter(|one| one.split == split).count() as u64);
    let [train, validation, test, unlabelled] =
        [Split::Train, Split::Validation, Split::Test, Split::Unlabelled].map(count);
    let rest = if unlabelled == "0" { String::new() } else { format!(", {unlabelled} unlabelled") };
    context
        .events
        .info(format!("{train} to train, {validation} to validate, {test} to test{rest}"));
}
