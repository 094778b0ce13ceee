//! Whole trainings on small caches. Options and helpers are here.

mod features;
mod fine_tuning;
mod fitting;
mod resuming;

use super::*;
use crate::config::WordOr;
use crate::data::{AugmentationPolicy, RandomResizedCrop};
use crate::nn::{Head, weights::to_bytes};
use crate::training::options::{
    CheckpointOptions, ClassWeights, DenseHead, EarlyStopping, Freeze, Keep, Monitor,
    NoAugmentation, OptimizerConfig, OptimizerKind, Sampling, Schedule, ScheduleKind,
};
use crate::training::tests::{Counts, cache, network};

pub(super) fn options() -> Options {
    Options {
        epochs: 4,
        batch_size: 8,
        gradient_accumulation: 1,
        optimizer: OptimizerConfig {
            kind: OptimizerKind::Adamw,
            learning_rate: 0.01,
            backbone_learning_rate: None,
            layer_decay: 1.0,
            weight_decay: 0.01,
            momentum: 0.9,
            nesterov: false,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
        },
        schedule: Schedule {
            kind: ScheduleKind::Cosine,
            warmup_epochs: 0.5,
            min_learning_rate_ratio: 0.0,
        },
        label_smoothing: 0.1,
        max_grad_norm: Some(1.0),
        class_weights: ClassWeights::None,
        sampling: Sampling::Shuffled,
        early_stopping: EarlyStopping {
            monitor: Monitor::ValidationLoss,
            patience: None,
            min_delta: 0.0,
        },
        keep: Keep::Best,
        augment: WordOr::Table(AugmentationPolicy {
            random_resized_crop: Some(RandomResizedCrop { scale: [0.6, 1.0], ratio: [0.8, 1.25] }),
            ..AugmentationPolicy::default()
        }),
        freeze: Freeze::None,
        unfreeze_at: None,
        batch_norm: BatchNormMode::Train,
        precision: Precision::F32,
        backbone: "resnet18".to_owned(),
        head: WordOr::Table(DenseHead { hidden: Vec::new(), dropout: 0.0 }),
        aux_logits: false,
        checkpoint: CheckpointOptions { every: 30.0 },
    }
}

/// With a frozen backbone and no augmentation, so that features are cached.
pub(super) fn frozen() -> Options {
    Options {
        freeze: Freeze::All,
        batch_norm: BatchNormMode::Frozen,
        augment: WordOr::Word(NoAugmentation::None),
        ..options()
    }
}

/// [`frozen`] with plain gradient descent at a constant learning rate, so that two ways to compute
/// the same agree.
pub(super) fn plain() -> Options {
    let optimizer = OptimizerConfig {
        kind: OptimizerKind::Sgd,
        learning_rate: 0.1,
        momentum: 0.0,
        ..options().optimizer
    };
    let schedule =
        Schedule { kind: ScheduleKind::Constant, warmup_epochs: 0.0, min_learning_rate_ratio: 0.0 };
    Options {
        optimizer,
        schedule,
        max_grad_norm: None,
        label_smoothing: 0.0,
        keep: Keep::Last,
        ..frozen()
    }
}

/// Trains from the start; returns the bytes of the weights file too.
pub(super) fn train(counts: Counts, options: &Options) -> Result<(Vec<u8>, Fitted), TrainingError> {
    train_with(&cache(counts), options, &CancellationToken::new(), &EventSink::silent(), None)
}

pub(super) fn train_with(
    cache: &Arc<TensorCache>,
    options: &Options,
    cancel: &CancellationToken,
    events: &EventSink,
    checkpoints: Option<&Checkpoints>,
) -> Result<(Vec<u8>, Fitted), TrainingError> {
    let memo = Memo::temporary().unwrap();
    let memo = checkpoints.map_or(&memo, |checkpoints| &checkpoints.memo);
    train_with_memo(memo, cache, options, (events, cancel), checkpoints)
}

pub(super) fn train_with_memo(
    memo: &Memo,
    cache: &Arc<TensorCache>,
    options: &Options,
    (events, cancel): (&EventSink, &CancellationToken),
    checkpoints: Option<&Checkpoints>,
) -> Result<(Vec<u8>, Fitted), TrainingError> {
    let (mut network, scratch) = (network(), tempfile::tempdir().unwrap());
    let (scratch, key) = (scratch.path(), Digest::of(b"stage"));
    let session = Session { seed: 7, events, cancel, memo, scratch, key, checkpoints };
    let fitted = fit(&mut network, cache, options, &session, None)?;
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0, "the scratch folder is left empty");
    Ok((to_bytes(&network.save()).unwrap(), fitted))
}

/// Trains the given network without checkpoints and with an empty memo.
pub(super) fn fit_alone(
    network: &mut Network,
    cache: &Arc<TensorCache>,
    options: &Options,
) -> Fitted {
    let (memo, scratch) = (Memo::temporary().unwrap(), tempfile::tempdir().unwrap());
    let (events, cancel) = (EventSink::silent(), CancellationToken::new());
    let session = Session {
        seed: 7,
        events: &events,
        cancel: &cancel,
        memo: &memo,
        scratch: scratch.path(),
        key: Digest::of(b"stage"),
        checkpoints: None,
    };
    fit(network, cache, options, &session, None).unwrap()
}

/// [`network`] without dropout.
pub(super) fn without_dropout() -> Network {
    let network = network();
    let head = Head::Dense { hidden: Vec::new(), dropout: 0.0, classes: 3 };
    let mut without =
        Network::from_graph(network.graph().clone().without_dropout(), &head, 42).unwrap();
    without.load(&network.save()).unwrap();
    without
}

pub(super) fn trained(options: &Options, cache: &Arc<TensorCache>) -> Tensors {
    let mut network = without_dropout();
    fit_alone(&mut network, cache, options);
    network.save().tensors
}

pub(super) fn assert_close(one: &Tensors, other: &Tensors, tolerance: f32) {
    for (name, tensor) in one {
        let differences = tensor.data.iter().zip(&other[name].data).map(|(a, b)| (a - b).abs());
        let worst = differences.fold(0.0, f32::max);
        assert!(worst < tolerance, "{name} differs by {worst}");
    }
}
