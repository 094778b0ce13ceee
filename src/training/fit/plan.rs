//! What follows from options and samples before the first step: who is in which split, how many steps an epoch has, what
//! was decided. Knows no network.

use crate::data::order::shuffled;
use crate::data::{Split, TensorCache};
use crate::training::options::{Options, Sampling};
use crate::training::schedule::Rates;
use crate::training::{TrainingError, balance, describe};

/// What follows from options and samples before the first step.
pub struct Plan {
    pub train: Vec<usize>,
    pub validation: Vec<usize>,
    pub batch_size: usize,
    /// Batches that make one step.
    pub gradient_accumulation: usize,
    pub drop_last: bool,
    /// Steps an epoch.
    pub steps: u64,
    pub rates: Rates,
    /// How much a image of each class counts, where that differs.
    pub class_weights: Option<Vec<f64>>,
    pub decisions: Vec<String>,
    /// The train split by class, where epochs are drawn from it evenly.
    classes: Option<Vec<Vec<usize>>>,
}

impl Plan {
    /// `normalizes` says whether a batch's statistics are taken anywhere.
    pub fn new(
        cache: &TensorCache,
        options: &Options,
        normalizes: bool,
    ) -> Result<Plan, TrainingError> {
        let (train, validation) = (cache.of_split(Split::Train), cache.of_split(Split::Validation));
        let names = &cache.info().classes;
        let by_class = by_class(cache, &train);
        check_samples(names, &by_class)?;
        if validation.is_empty() && options.early_stopping.patience.is_some() {
            return Err(TrainingError::Unfit {
                message: "early stopping looks at the validation split, and there is none"
                    .to_owned(),
                help:
                    "set `dataset.split.validation` above 0, or leave `early_stopping.patience` out"
                        .to_owned(),
            });
        }
        let mut decisions = vec![describe::augmentation(options.augmentation())];
        decisions.extend(unseen(names, &by_class));
        let counts: Vec<usize> = by_class.iter().map(Vec::len).collect();
        let class_weights = balance::weights(&options.class_weights, names, &counts)?;
        decisions.extend(
            class_weights.as_deref().map(|weights| describe::class_weights(weights, names)),
        );
        let classes = (options.sampling == Sampling::Balanced).then_some(by_class);
        decisions.extend(classes.as_ref().map(|_| describe::sampling(&counts)));
        let batch_size = options.batch_size.clamp(1, train.len());
        if batch_size < options.batch_size {
            decisions.push(format!(
                "batch_size is {}, but there are {batch_size} training images: each step takes all of them",
                options.batch_size
            ));
        }
        let rest = train.len() % batch_size;
        let drop_last = normalizes && rest * 2 <= batch_size && rest > 0;
        if drop_last {
            let others =
                if rest == 1 { "another image".to_owned() } else { format!("{rest} other images") };
            decisions.push(format!(
                "each epoch leaves out {others}: the statistics of so small a last batch would mislead batch norm"
            ));
        }
        if validation.is_empty() {
            decisions
                .push("there is no validation split: the last epoch's weights are kept".to_owned());
        }
        let batches =
            if drop_last { train.len() / batch_size } else { train.len().div_ceil(batch_size) };
        let accumulate = options.gradient_accumulation.clamp(1, batches.max(1));
        if options.gradient_accumulation > 1 {
            decisions.push(match accumulate {
                1 => "`gradient_accumulation` is above 1, but an epoch has one batch: each step takes its gradients alone"
                    .to_owned(),
                _ => format!("each step takes the gradients of {accumulate} batches of {batch_size} images"),
            });
        }
        let steps = batches.div_ceil(accumulate) as u64;
        let rates = Rates::new(&options.schedule, options.epochs, steps);
        Ok(Plan {
            train,
            validation,
            batch_size,
            gradient_accumulation: accumulate,
            drop_last,
            steps,
            rates,
            class_weights,
            decisions,
            classes,
        })
    }

    /// The training samples of an epoch, in their order.
    pub fn order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let samples = match &self.classes {
            Some(classes) => balance::sampled(classes, seed, epoch),
            None => self.train.clone(),
        };
        shuffled(samples, seed, epoch)
    }
}

/// The samples of each class.
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

/// Whether there is something to be learned.
fn check_samples(names: &[String], by_class: &[Vec<usize>]) -> Result<(), TrainingError> {
    let unfit =
        |message: String, help: &str| Err(TrainingError::Unfit { message, help: help.to_owned() });
    let seen: Vec<(&String, &Vec<usize>)> =
        names.iter().zip(by_class).filter(|(_, samples)| !samples.is_empty()).collect();
    match seen[..] {
        [] => unfit(
            "the train split is empty".to_owned(),
            "set `dataset.split.train` above 0, or add labelled images",
        ),
        [(name, samples)] => unfit(
            format!(
                "all {} training images are of one class, `{name}`: there is nothing to tell apart",
                samples.len()
            ),
            "add images of other classes, or look at `dataset.labels`",
        ),
        _ => Ok(()),
    }
}

/// Which classes can't be learned, if any.
fn unseen(names: &[String], by_class: &[Vec<usize>]) -> Option<String> {
    let missing = names.iter().zip(by_class).filter(|(_, samples)| samples.is_empty());
    let missing: Vec<&str> = missing.map(|(name, _)| name.as_str()).collect();
    (!missing.is_empty())
        .then(|| format!("no training images of {}: that can't be learned", missing.join(", ")))
}
