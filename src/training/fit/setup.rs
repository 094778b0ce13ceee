//! Everything that follows from options and samples before the first step: splits, batch size,
//! steps per epoch, class weights, and the decisions among them. Depends on no network.

use crate::common::number::counted;
use crate::data::order::shuffled;
use crate::data::{Split, TensorCache};
use crate::training::options::{Options, Sampling};
use crate::training::schedule::LearningRates;
use crate::training::{TrainingError, balance, describe};

pub(super) struct Setup {
    pub train: Vec<usize>,
    pub validation: Vec<usize>,
    pub batch_size: usize,
    /// Number of batches whose gradients are accumulated into one step.
    pub gradient_accumulation: usize,
    /// Whether the incomplete last batch of an epoch is dropped.
    pub drop_last: bool,
    /// Optimizer steps per epoch.
    pub steps: u64,
    pub learning_rates: LearningRates,
    /// None if all classes have the same weight.
    pub class_weights: Option<Vec<f64>>,
    /// Sentences for the log and `training.json`.
    pub decisions: Vec<String>,
    /// The training split by class, for balanced sampling.
    classes: Option<Vec<Vec<usize>>>,
}

impl Setup {
    /// `has_batch_statistics` says whether any batch norm is trained with the batch's statistics.
    pub(super) fn new(
        cache: &TensorCache,
        options: &Options,
        has_batch_statistics: bool,
    ) -> Result<Setup, TrainingError> {
        let (train, validation) = (cache.of_split(Split::Train), cache.of_split(Split::Validation));
        let names = &cache.info().classes;
        let by_class = by_class(cache, &train);
        check_samples(names, &by_class)?;
        if validation.is_empty() && options.early_stopping.patience.is_some() {
            return Err(TrainingError::Incompatible {
                message: "`early_stopping.patience` needs a validation split, but it is empty"
                    .to_owned(),
                help: "set `dataset.split.validation` above 0, or remove `early_stopping.patience`"
                    .to_owned(),
            });
        }
        let mut decisions = vec![describe::augmentation(options.augmentation())];
        decisions.extend(classes_without_images(names, &by_class));
        let counts: Vec<usize> = by_class.iter().map(Vec::len).collect();
        let class_weights = balance::class_weights(&options.class_weights, names, &counts)?;
        decisions.extend(
            class_weights.as_deref().map(|weights| describe::class_weights(weights, names)),
        );
        let classes = (options.sampling == Sampling::Balanced).then_some(by_class);
        decisions.extend(classes.as_ref().map(|_| describe::balanced_sampling(&counts)));
        let batch_size = options.batch_size.clamp(1, train.len());
        if batch_size < options.batch_size {
            decisions.push(format!(
                "`batch_size` is {}, but there are only {}: each step uses all of them",
                options.batch_size,
                counted(batch_size as u64, "training image")
            ));
        }
        let rest = train.len() % batch_size;
        let drop_last = has_batch_statistics && rest * 2 <= batch_size && rest > 0;
        if drop_last {
            decisions.push(describe::dropped_batch(rest));
        }
        if validation.is_empty() {
            decisions.push(
                "there is no validation split: the weights of the last epoch are kept".to_owned(),
            );
        }
        let batches =
            if drop_last { train.len() / batch_size } else { train.len().div_ceil(batch_size) };
        let gradient_accumulation = options.gradient_accumulation.clamp(1, batches.max(1));
        if options.gradient_accumulation > 1 {
            decisions.push(describe::accumulation(gradient_accumulation, batch_size));
        }
        let steps = batches.div_ceil(gradient_accumulation) as u64;
        let learning_rates = LearningRates::new(&options.schedule, options.epochs, steps);
        Ok(Setup {
            train,
            validation,
            batch_size,
            gradient_accumulation,
            drop_last,
            steps,
            learning_rates,
            class_weights,
            decisions,
            classes,
        })
    }

    /// The number of images that an epoch trains on.
    pub(super) fn images(&self) -> u64 {
        let rest = if self.drop_last { self.train.len() % self.batch_size } else { 0 };
        (self.train.len() - rest) as u64
    }

    /// The training samples of an epoch in their order.
    pub(super) fn order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let samples = match &self.classes {
            Some(classes) => balance::balanced_samples(classes, seed, epoch),
            None => self.train.clone(),
        };
        shuffled(samples, seed, epoch)
    }
}

fn by_class(cache: &TensorCache, samples: &[usize]) -> Vec<Vec<usize>> {
    let mut classes = vec![Vec::new(); cache.info().classes.len()];
    for &index in samples {
        let class = cache.samples().get(index).and_then(|sample| sample.class);
        if let Some(list) = class.and_then(|class| classes.get_mut(class as usize)) {
            list.push(index);
        }
    }
    classes
}

/// Training needs images of at least two classes.
fn check_samples(names: &[String], by_class: &[Vec<usize>]) -> Result<(), TrainingError> {
    let error = |message: String, help: &str| {
        Err(TrainingError::Incompatible { message, help: help.to_owned() })
    };
    let present: Vec<&String> = names
        .iter()
        .zip(by_class)
        .filter(|(_, samples)| !samples.is_empty())
        .map(|(name, _)| name)
        .collect();
    match present[..] {
        [] => error(
            "the training split is empty".to_owned(),
            "set `dataset.split.train` above 0, or add labelled images",
        ),
        [name] => error(
            format!("the training split has images of one class only, `{name}`"),
            "add images of other classes, or check `dataset.labels`",
        ),
        _ => Ok(()),
    }
}

fn classes_without_images(names: &[String], by_class: &[Vec<usize>]) -> Option<String> {
    let missing = names.iter().zip(by_class).filter(|(_, samples)| samples.is_empty());
    let missing: Vec<&str> = missing.map(|(name, _)| name.as_str()).collect();
    (!missing.is_empty()).then(|| {
        format!("no training images of {}: the model can't learn to predict it", missing.join(", "))
    })
}
