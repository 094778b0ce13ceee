//! The kind `evaluate`: scores a trained model on the validation and test splits and predicts
//! unlabelled images.

use super::fetch::MODEL;
use super::needs::{self, Contents, WeightsFile};
use crate::common::number::counted;
use crate::config::{KeyType, NoKeys, keys};
use crate::data::tensor_cache::{INPUT, RECORDS, SAMPLES};
use crate::data::{Split, TensorCache};
use crate::engine::{Context, Input, Kind, OrFail, Parts, Resolver, StageError};
use crate::metrics::{Curves, Evaluation, Scoring, ScoringError};
use crate::model::{Classifier, Model, ModelInfo};
use crate::nn::Learner;
use crate::stages::device::gpu_of;
use crate::stages::memos::memo_of;
use crate::training::batches::{Batches, form};
use crate::training::features::FeatureCache;
use std::fs::File;
use std::io::BufWriter;
use std::sync::Arc;

/// The kind `evaluate`.
pub(super) struct Evaluate;

/// The role of the model.
const ROLE: &str = "model";

/// Maximum number of class names in a message.
const SHOWN: usize = 20;

/// Version of the code: raised whenever the same inputs give other bytes or other keys.
///
/// - 5: without labelled images it predicts only; macro averages leave out classes that don't occur;
///   names in `predictions.csv` that look like formulas are quoted.
/// - 6: `curves.json`; areas under the curves and calibration errors of the test split in
///   `metrics.json`.
/// - 7: convolutions and linear layers sum in another order.
/// - 8: convolutions of 3 x 3 taps by F(2 x 2, 3 x 3).
/// - 9: processors with AVX-512 sum as those with AVX2.
/// - 10: the device is part of the key.
const VERSION: u32 = 10;

keys! {
    /// The keys of an `evaluate` stage.
    pub(super) struct EvaluateOptions / EvaluateKeys {
        /// Images per batch. An image's result is the same in any batch.
        batch_size: usize = 32 in 1..=65_536 affects Execution;
    }
}

static INPUTS: [Input; 2] = [
    Input {
        role: "data",
        kinds: &["preprocess"],
        required: true,
        parts: Parts::None,
        reads: &[RECORDS, SAMPLES, INPUT],
        self_checked: &[RECORDS],
        doc: "The images: the validation and test splits are scored, unlabelled images are predicted.",
    },
    Input {
        role: ROLE,
        kinds: &["train", "command"],
        required: true,
        parts: Parts::Of("command"),
        reads: &[MODEL],
        self_checked: &[],
        doc: "The model: a train stage's, or one that a program wrote as `train` and `pipe export` do: a file (`\"stage/path\"`), or \
              a folder with `model.safetensors`.",
    },
];

impl Kind for Evaluate {
    type Keys = EvaluateOptions;
    type Dataset = NoKeys;
    type Resolved = EvaluateOptions;

    fn name(&self) -> &'static str {
        "evaluate"
    }

    fn about(&self) -> &'static str {
        "Scores a trained model on the validation and test images, and predicts those without a label."
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn inputs(&self) -> &'static [Input] {
        &INPUTS
    }

    fn computes(&self) -> bool {
        true
    }

    fn resolve(
        &self,
        keys: EvaluateKeys,
        _dataset: NoKeys,
        resolver: &mut Resolver,
    ) -> Option<EvaluateOptions> {
        needs::check(Contents::Model, ROLE, resolver);
        resolver.is_clean().then(|| EvaluateOptions::resolved(keys))
    }

    fn run(&self, options: &EvaluateOptions, context: &Context) -> Result<(), StageError> {
        let cache = Arc::new(TensorCache::open(&context.input("data")?.path)?);
        let file = WeightsFile::of(ROLE, context.input(ROLE)?)?;
        let (description, weights) = file.read_model()?;
        let classes = check(&cache, &description)?;
        let model = Model::build(description, &weights).or_fail(&file.named)?;
        drop(weights);
        let gpu = gpu_of(context)?;
        let on_gpu = gpu.as_ref().map(|gpu| model.copy_on(gpu)).transpose()?;
        let network: &dyn Learner = match &on_gpu {
            Some(network) => network,
            None => model.network(),
        };
        let images = Images { cache: &cache, classes: &classes, batch_size: options.batch_size };
        let (evaluation, curves) = predict(context, &images, &model, network)?;
        if let Some(curves) = curves {
            write_curves(context, &curves)?;
        }
        let path = context.slot.join("metrics.json");
        std::fs::write(&path, evaluation.to_json()).or_fail("writing metrics.json")?;
        conclude(context, &cache, &evaluation);
        Ok(())
    }
}

/// Checks that the model fits the images. Returns the model's class for each of theirs.
fn check(cache: &TensorCache, description: &ModelInfo) -> Result<Vec<u32>, StageError> {
    let info = cache.info();
    let place = |name: &String| {
        description.classes.iter().position(|class| class == name).map(|place| place as u32)
    };
    let Some(classes) = info.classes.iter().map(place).collect() else {
        let help = match description.head {
            Classifier::Original(_) => {
                "rename the classes to ImageNet's in `dataset.class_names`; `pipe predict` works without"
            }
            Classifier::Dense(_) => "feed evaluate the `data` that the model was trained on",
        };
        return Err(StageError::failed(format!(
            "the model's classes are {}, the images' are {}",
            listed(&description.classes),
            listed(&info.classes)
        ))
        .with_help(help));
    };
    if info.preprocessing != description.preprocessing {
        return Err(StageError::failed(
            "the images were preprocessed differently from those that the model was trained on",
        )
        .with_help("feed evaluate the `data` that the model was trained on"));
    }
    let used = [Split::Validation, Split::Test, Split::Unlabelled];
    if used.iter().all(|&split| cache.of_split(split).is_empty()) {
        return Err(StageError::failed(
            "the validation and the test split are both empty, so there is nothing to score",
        )
        .with_help("set `dataset.split.test` above 0"));
    }
    Ok(classes)
}

/// Names separated by commas; only the first of very many.
fn listed(names: &[String]) -> String {
    match names.get(..SHOWN) {
        Some(first) if names.len() > SHOWN => {
            format!("{} and {} more", first.join(", "), names.len() - SHOWN)
        }
        _ => names.join(", "),
    }
}

/// The images to score.
struct Images<'a> {
    cache: &'a Arc<TensorCache>,
    /// The model's class for each of theirs.
    classes: &'a [u32],
    batch_size: usize,
}

/// Writes `predictions.csv` and scores each labelled split.
fn predict(
    context: &Context,
    images: &Images,
    model: &Model,
    network: &dyn Learner,
) -> Result<(Evaluation, Option<Curves>), StageError> {
    let Images { cache, classes, batch_size } = *images;
    let samples: Vec<usize> = [Split::Validation, Split::Test, Split::Unlabelled]
        .iter()
        .flat_map(|&split| cache.of_split(split))
        .collect();
    let file =
        File::create(context.slot.join("predictions.csv")).or_fail("writing predictions.csv")?;
    let mut scoring =
        Scoring::new(BufWriter::new(file), model.classes()).or_fail("writing predictions.csv")?;
    let task = context.events.task("predict", Some(samples.len() as u64), "images");
    for batch in batches(context, cache, network, samples, batch_size)? {
        StageError::check(&context.cancel)?;
        let batch = batch?;
        let probabilities = batch.probabilities(network)?;
        for (&index, row) in
            batch.samples.iter().zip(probabilities.chunks_exact(model.classes().len()))
        {
            let Some(sample) = cache.samples().get(index) else { continue };
            let class = sample.class.and_then(|class| classes.get(class as usize)).copied();
            let scored = scoring.push(&sample.path, sample.split.name(), class, row);
            scored.or_else(|error| match error {
                ScoringError::Write(error) => Err(error).or_fail("writing predictions.csv"),
                error => Err(StageError::failed(error.to_string())),
            })?;
        }
        task.advance(batch.count() as u64);
    }
    scoring.finish().or_fail("writing predictions.csv")
}

/// Writes `curves.json`.
fn write_curves(context: &Context, curves: &Curves) -> Result<(), StageError> {
    if curves.are_missing() {
        context.events.warn(format!(
            "there are no ROC and precision-recall curves: {} have too many probabilities to sort in memory",
            counted(curves.count, "test image"),
        ));
    }
    std::fs::write(context.slot.join("curves.json"), curves.to_json())
        .or_fail("writing curves.json")
}

/// The batches of `samples`, read as training reads its validation split. If a training stored
/// features of this backbone in the memo, they are reused and missing ones are added; the
/// predictions are the same either way.
fn batches(
    context: &Context,
    cache: &Arc<TensorCache>,
    network: &dyn Learner,
    samples: Vec<usize>,
    batch_size: usize,
) -> Result<Batches, StageError> {
    let (memo, scratch) = (memo_of(context), context.slot.clone());
    let mut features = FeatureCache::new(network, cache, memo, scratch, context.key)?;
    let table = match features.is_stored() {
        true => {
            let session = (&context.events, &context.cancel);
            let table = features.table(network, cache, &samples, None, session)?;
            features.report(&context.events);
            Some(table)
        }
        false => None,
    };
    Ok(Batches::evaluation(cache, samples, batch_size, table, form(network)))
}

/// Reports the results, the headline last.
fn conclude(context: &Context, cache: &TensorCache, evaluation: &Evaluation) {
    let events = &context.events;
    let headline = |split: &str| {
        evaluation.splits.get(split).map(|metrics| {
            let [low, high] = metrics.accuracy_interval.map(|share| share * 100.0);
            let (percent, images) = (metrics.accuracy * 100.0, counted(metrics.count, "image"));
            format!(
                "{split} accuracy {percent:.1} % (95 % interval {low:.1} to {high:.1}) on {images}"
            )
        })
    };
    if evaluation.splits.contains_key("test") {
        let mut missing = evaluation.without_test_images();
        missing.retain(|name| cache.info().classes.iter().any(|class| class == name));
        if !missing.is_empty() {
            events.warn(format!(
                "there are no test images of {}, so their accuracy is unknown",
                missing.join(", ")
            ));
        }
    } else if evaluation.splits.is_empty() {
        events.warn("there are no labelled images to score: the accuracy is unknown, images are only predicted");
    } else {
        events.warn("there is no test split; the validation split is scored, but it also selected the epoch");
    }
    let unlabelled = cache.of_split(Split::Unlabelled).len();
    if unlabelled > 0 {
        events.info(format!(
            "predictions of {} are in predictions.csv",
            counted(unlabelled as u64, "unlabelled image")
        ));
    }
    for split in ["validation", "test"] {
        if let Some(sentence) = headline(split) {
            events.info(sentence);
        }
    }
}
