//! Training as a whole, on small caches: what is learned, kept, stopped and gone on with. Knows no stage and no file of a run.

use super::*;
use crate::config::WordOr;
use crate::data::{AugmentationPolicy, RandomResizedCrop};
use crate::events::StageEvent;
use crate::metrics::write_history;
use crate::nn::{Cpu, weights::to_bytes};
use crate::store::Memo;
use crate::training::testing::{COUNTS, Counts, cache, network};
use crate::training::{
    CheckpointOptions, ClassWeights, DenseHead, EarlyStopping, Freeze, NoAugmentation,
    OptimizerConfig, OptimizerKind, Sampling, Schedule, ScheduleKind, UnfreezeAt,
};
use std::sync::Mutex;
use std::time::Duration;

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

/// The same with a frozen backbone and images that aren't varied.
pub(super) fn frozen() -> Options {
    Options {
        freeze: Freeze::All,
        batch_norm: BatchNormMode::Frozen,
        augment: WordOr::Word(NoAugmentation::None),
        ..options()
    }
}

/// A training from the start: its weights as a file's bytes, and what is known of it.
pub(super) fn train(counts: Counts, options: &Options) -> Result<(Vec<u8>, Fitted), TrainingError> {
    with(&cache(counts), options, &CancellationToken::new(), &EventSink::silent(), None)
}

pub(super) fn with(
    cache: &Arc<TensorCache>,
    options: &Options,
    cancel: &CancellationToken,
    events: &EventSink,
    checkpoints: Option<&Checkpoints>,
) -> Result<(Vec<u8>, Fitted), TrainingError> {
    let memo = Memo::temporary().unwrap();
    let memo = checkpoints.map_or(&memo, |checkpoints| &checkpoints.memo);
    remembering(memo, cache, options, (events, cancel), checkpoints)
}

/// The same with a memo that may know something from before.
pub(super) fn remembering(
    memo: &Memo,
    cache: &Arc<TensorCache>,
    options: &Options,
    (events, cancel): (&EventSink, &CancellationToken),
    checkpoints: Option<&Checkpoints>,
) -> Result<(Vec<u8>, Fitted), TrainingError> {
    let (mut network, scratch) = (network(), tempfile::tempdir().unwrap());
    let session = Session { seed: 7, events, cancel, memo, scratch: scratch.path(), checkpoints };
    let fitted = fit(&mut network, cache, options, &session)?;
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing is left behind");
    Ok((to_bytes(&network.save()).unwrap(), fitted))
}

/// Trains a network with the session of a test.
pub(super) fn fit_alone(
    network: &mut Network<Cpu>,
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
        checkpoints: None,
    };
    fit(network, cache, options, &session).unwrap()
}

fn checkpoints(folder: &std::path::Path, every: Duration) -> Checkpoints {
    Checkpoints {
        memo: Memo::temporary().unwrap(),
        key: Digest::of(b"key"),
        every,
        scratch: folder.to_owned(),
    }
}

#[test]
fn it_learns_and_says_how() {
    let (told, listener) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let sink = Arc::clone(&told);
    let events = EventSink::new(move |fact| match fact {
        StageEvent::Scalar { name, step, value } => sink.lock().unwrap().push((name, step, value)),
        other => listener.lock().unwrap().push(other),
    });
    let options = Options { epochs: 12, ..options() };
    let (_, fitted) =
        with(&cache(COUNTS), &options, &CancellationToken::new(), &events, None).unwrap();
    let (first, last) = (&fitted.history[0], &fitted.history[11]);
    assert!(
        last.train_loss < first.train_loss && last.validation_accuracy > Some(0.8),
        "{:?}",
        fitted.history
    );
    let best = fitted
        .history
        .iter()
        .min_by(|a, b| a.validation_loss.partial_cmp(&b.validation_loss).unwrap());
    assert_eq!(Some(fitted.epoch), best.map(|row| row.epoch));
    let told = told.lock().unwrap();
    let names: Vec<&str> =
        told.iter().filter(|fact| fact.1 == 12).map(|fact| fact.0.as_str()).collect();
    assert_eq!(
        names,
        ["learning_rate", "train/loss", "train/accuracy", "validation/loss", "validation/accuracy"]
    );
    assert!(
        told.iter().any(|fact| fact.0 == "train/loss" && fact.1 == 1 && fact.2 == first.train_loss)
    );
}

/// What this code made when it was written: training loss and accuracy, validation loss and accuracy.
const GOLDEN: [[f64; 4]; 4] = [
    [1.016, 0.5, 0.988, 0.875],
    [0.578, 1.0, 0.776, 1.0],
    [0.573, 0.917, 0.618, 1.0],
    [0.547, 0.958, 0.562, 1.0],
];

/// Numbers differ in their last digits from one kind of processor to another, since fused and vector instructions
/// round differently: hence the tolerance, and no digest.
#[test]
fn the_history_is_the_known_one() {
    let (_, fitted) = train(COUNTS, &options()).unwrap();
    for (row, golden) in fitted.history.iter().zip(GOLDEN) {
        let validation = [row.validation_loss.unwrap(), row.validation_accuracy.unwrap()];
        let found = [row.train_loss, row.train_accuracy, validation[0], validation[1]];
        assert!(
            found.iter().zip(golden).all(|(a, b)| (a - b).abs() < 2e-3),
            "{found:?} {golden:?} {:?}",
            fitted.history
        );
    }
    assert_eq!(
        fitted.decisions,
        [
            "1,467 of 1,467 parameters learn: the whole network",
            "training images are varied by random crops of 60 to 100 % of the stored squares",
            "each epoch leaves out 2 other images: the statistics of so small a last batch would mislead batch norm",
        ]
    );
}

/// A batch of one image left over has no statistics of its own, nor would half a batch's be worth as much; a network
/// without norms takes none.
#[test]
fn small_last_batches_are_left_out_where_there_are_norms() {
    let drops = |batch_size, normalizes| {
        let options = Options { batch_size, ..options() };
        let plan = Plan::new(&cache(COUNTS), &options, normalizes).unwrap();
        (plan.train.len() % batch_size, plan.drop_last)
    };
    let of_26 = [
        (3, (2, false)),
        (4, (2, true)),
        (5, (1, true)),
        (8, (2, true)),
        (9, (8, false)),
        (13, (0, false)),
    ];
    for (batch_size, expected) in of_26 {
        assert_eq!(drops(batch_size, true), expected, "{batch_size}");
        assert!(!drops(batch_size, false).1);
    }
    let (network, norms) = (network(), |options: Options| normalizes(&network(), &options));
    assert!(normalizes(&network, &options()) && !norms(frozen()));
    assert!(!norms(Options { batch_norm: BatchNormMode::Affine, ..options() }));
    let thawing =
        Options { unfreeze_at: Some(UnfreezeAt::Epoch(3)), freeze: Freeze::All, ..options() };
    assert!(norms(thawing));
    let alexnet = Network::new("alexnet", &head_of_three(), (64, 64), 1, Cpu::default()).unwrap();
    assert!(!normalizes(&alexnet, &options()));
}

fn head_of_three() -> crate::nn::Head {
    crate::nn::Head::Dense { hidden: Vec::new(), dropout: 0.0, classes: 3 }
}

#[test]
fn the_bytes_are_the_same_with_any_number_of_threads() {
    let cache = cache(COUNTS);
    let results: Vec<(Vec<u8>, Vec<u8>)> = [1, 2, 7]
        .into_iter()
        .map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let run = || {
                with(&cache, &options(), &CancellationToken::new(), &EventSink::silent(), None)
                    .unwrap()
            };
            let (weights, fitted) = pool.install(run);
            (weights, write_history(&fitted.history).unwrap())
        })
        .collect();
    assert!(results[0] == results[1] && results[1] == results[2]);
}

/// Interrupts a training after some steps, as a kill right after a checkpoint would.
fn interrupt(
    cache: &Arc<TensorCache>,
    options: &Options,
    checkpoints: &Checkpoints,
    epochs: u64,
    steps: usize,
) {
    match options.precision {
        Precision::F64 => interrupt_in(
            network().converted::<f64>().unwrap(),
            cache,
            options,
            checkpoints,
            epochs,
            steps,
        ),
        Precision::F32 => interrupt_in(network(), cache, options, checkpoints, epochs, steps),
    }
}

fn interrupt_in<N: Number>(
    mut network: Network<Cpu, N>,
    cache: &Arc<TensorCache>,
    options: &Options,
    checkpoints: &Checkpoints,
    epochs: u64,
    steps: usize,
) where
    Cpu: Backend<N>,
{
    let (cancel, events) = (CancellationToken::new(), EventSink::silent());
    let (memo, scratch) = (&checkpoints.memo, checkpoints.scratch.as_path());
    let session = Session {
        seed: 7,
        events: &events,
        cancel: &cancel,
        memo,
        scratch,
        checkpoints: Some(checkpoints),
    };
    let plan = Plan::new(cache, options, normalizes(&network, options)).unwrap();
    let mut fit = Fit::new(&mut network, cache, options, &session, plan).unwrap();
    fit.resume().unwrap();
    for _ in 0..epochs {
        fit.thaw().unwrap();
        fit.epoch().unwrap();
    }
    fit.thaw().unwrap();
    let mut batches = fit.batches().unwrap();
    for _ in 0..steps {
        let step: Vec<Ready> =
            batches.by_ref().take(options.gradient_accumulation).map(Result::unwrap).collect();
        fit.learn(&step).unwrap();
    }
    cancel.cancel();
    assert!(matches!(fit.pause(), Err(TrainingError::Cancelled)));
}

#[test]
fn an_interrupted_training_ends_in_the_same_bytes() {
    let cache = cache(COUNTS);
    let sgd = Options {
        optimizer: OptimizerConfig { kind: OptimizerKind::Sgd, ..options().optimizer },
        ..options()
    };
    let accumulated = Options { gradient_accumulation: 2, batch_size: 3, ..options() };
    let thawing = Options { unfreeze_at: Some(UnfreezeAt::Epoch(3)), ..frozen() };
    let double = Options { precision: Precision::F64, ..options() };
    for options in [options(), sgd, accumulated, double, frozen(), thawing] {
        let (weights, fitted) =
            with(&cache, &options, &CancellationToken::new(), &EventSink::silent(), None).unwrap();
        // Between epochs, within one, before validation, and twice in a row.
        for places in [vec![(1, 0)], vec![(0, 2)], vec![(2, 3)], vec![(0, 1), (1, 2)]] {
            let folder = tempfile::tempdir().unwrap();
            let checkpoints = checkpoints(folder.path(), Duration::from_secs(3600));
            for &(epochs, steps) in &places {
                interrupt(&cache, &options, &checkpoints, epochs, steps);
            }
            let again = with(
                &cache,
                &options,
                &CancellationToken::new(),
                &EventSink::silent(),
                Some(&checkpoints),
            )
            .unwrap();
            assert!(
                again.0 == weights
                    && again.1.history == fitted.history
                    && again.1.epoch == fitted.epoch,
                "{places:?}"
            );
        }
    }
}

#[test]
fn checkpoints_change_nothing_and_those_of_other_options_are_ignored() {
    let cache = cache(COUNTS);
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = checkpoints(folder.path(), Duration::ZERO);
    let plain = train(COUNTS, &options()).unwrap();
    interrupt(&cache, &Options { batch_size: 4, ..options() }, &checkpoints, 1, 1);
    let warned = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&warned);
    let events = EventSink::new(move |fact| {
        if let StageEvent::Message { text, .. } = fact {
            sink.lock().unwrap().push(text);
        }
    });
    let kept =
        with(&cache, &options(), &CancellationToken::new(), &events, Some(&checkpoints)).unwrap();
    assert!(plain == kept);
    assert!(warned.lock().unwrap().iter().any(|text| text.contains("another configuration")));
}

#[test]
fn a_cancelled_training_stops_before_its_next_step() {
    let cancel = CancellationToken::new();
    cancel.cancel();
    let result = with(&cache(COUNTS), &options(), &cancel, &EventSink::silent(), None);
    assert!(matches!(result, Err(TrainingError::Cancelled)));
}

#[test]
fn early_stopping_ends_it_and_the_best_epoch_is_kept() {
    // A rate this small changes nothing visible, so the first epoch stays the best by min_delta.
    let small = OptimizerConfig { learning_rate: 1e-9, ..options().optimizer };
    let early_stopping =
        EarlyStopping { patience: Some(2), min_delta: 0.5, ..options().early_stopping };
    let options = Options { epochs: 9, optimizer: small, early_stopping, ..options() };
    let (_, fitted) = train(COUNTS, &options).unwrap();
    assert_eq!((fitted.history.len(), fitted.stopped_early), (3, true));
    assert_eq!(
        fitted.decisions.last().unwrap(),
        "stopped after epoch 3 of 9: no better validation loss for 2 epochs"
    );
}

#[test]
fn the_kept_epoch_s_weights_are_the_network_s() {
    // Training of one epoch fewer ends in the weights that a longer one with the same rates had then.
    let constant =
        Schedule { kind: ScheduleKind::Constant, warmup_epochs: 0.0, min_learning_rate_ratio: 0.0 };
    let rate = OptimizerConfig { learning_rate: 0.05, ..options().optimizer };
    let options = |epochs, keep| Options {
        epochs,
        keep,
        schedule: constant.clone(),
        optimizer: rate.clone(),
        ..options()
    };
    let (best, fitted) = train(COUNTS, &options(8, Keep::Best)).unwrap();
    let (last, short) = train(COUNTS, &options(fitted.epoch, Keep::Last)).unwrap();
    assert_eq!(short.epoch, fitted.epoch);
    assert!(best == last, "kept epoch {}", fitted.epoch);
}

#[test]
fn what_is_frozen_keeps_its_bytes() {
    let before = network().save().tensors;
    let freeze = Freeze::Below("second".to_owned());
    let mut network = network();
    fit_alone(&mut network, &cache(COUNTS), &Options { freeze, ..options() });
    for (name, tensor) in network.save().tensors {
        assert_eq!(tensor == before[&name], name.starts_with("first"), "{name}");
    }
    let mut network = crate::training::testing::network();
    let options = Options { freeze: Freeze::All, batch_norm: BatchNormMode::Frozen, ..options() };
    fit_alone(&mut network, &cache(COUNTS), &options);
    for (name, tensor) in network.save().tensors {
        assert_eq!(tensor == before[&name], !name.starts_with("fc"), "{name}");
    }
}

#[test]
fn batch_norm_learns_what_it_is_told_to() {
    let before = network().save().tensors;
    for (batch_norm, affine) in [(BatchNormMode::Frozen, false), (BatchNormMode::Affine, true)] {
        let mut network = network();
        fit_alone(&mut network, &cache(COUNTS), &Options { batch_norm, ..options() });
        let after = network.save().tensors;
        assert_eq!(after["first.bn.running_mean"], before["first.bn.running_mean"]);
        assert_eq!(after["first.bn.weight"] != before["first.bn.weight"], affine);
        assert_ne!(after["first.conv.weight"], before["first.conv.weight"]);
    }
}

#[test]
fn a_loss_that_is_no_number_stops_it_with_what_to_try() {
    let sgd =
        OptimizerConfig { kind: OptimizerKind::Sgd, learning_rate: 1e30, ..options().optimizer };
    let options = Options { optimizer: sgd, max_grad_norm: None, ..options() };
    let error = train(COUNTS, &options).unwrap_err();
    assert!(matches!(error, TrainingError::Diverged { .. }), "{error}");
    assert!(error.to_string().contains("training diverged"), "{error}");
    assert!(
        error.help().unwrap().contains("`optimizer.learning_rate` (such as 1e29)"),
        "{:?}",
        error.help()
    );
}

#[test]
fn what_does_not_fit_is_said_before_the_first_step() {
    let fails = |counts: Counts, options: Options| train(counts, &options).unwrap_err().to_string();
    let early_stopping = EarlyStopping { patience: Some(2), ..options().early_stopping };
    let patient = Options { early_stopping, ..options() };
    let without_validation = Counts { validation: 0, ..COUNTS };
    assert_eq!(
        fails(without_validation, patient),
        "early stopping looks at the validation split, and there is none"
    );
    assert_eq!(fails(Counts { train: 0, ..COUNTS }, options()), "the train split is empty");
    assert_eq!(
        fails(Counts { train: 1, ..COUNTS }, options()),
        "all 1 training images are of one class, `red`: there is nothing to tell apart"
    );
}

#[test]
fn a_class_without_training_images_is_named() {
    let (_, fitted) =
        train(Counts { train: 2, ..COUNTS }, &Options { epochs: 1, ..options() }).unwrap();
    let sentence = "no training images of blue: that can't be learned";
    assert!(fitted.decisions.iter().any(|decision| decision == sentence), "{:?}", fitted.decisions);
}

#[test]
fn weights_that_are_no_numbers_are_never_a_result() {
    // The one step's loss is a number; what it does to the weights is not, and there is no validation to notice.
    let sgd =
        OptimizerConfig { kind: OptimizerKind::Sgd, learning_rate: 1e300, ..options().optimizer };
    let options =
        Options { epochs: 1, batch_size: 26, optimizer: sgd, max_grad_norm: None, ..options() };
    let error = train(Counts { validation: 0, ..COUNTS }, &options).unwrap_err();
    assert!(error.to_string().starts_with("a weight became NaN in epoch"), "{error}");
}

#[test]
fn without_validation_the_last_epoch_is_kept() {
    let (_, fitted) = train(Counts { validation: 0, ..COUNTS }, &options()).unwrap();
    assert_eq!(fitted.epoch, 4);
    assert!(fitted.history.iter().all(|row| row.validation_loss.is_none()));
}

#[test]
fn a_batch_larger_than_the_split_takes_all_of_it() {
    let (_, fitted) = train(COUNTS, &Options { batch_size: 64, ..options() }).unwrap();
    let sentence =
        "batch_size is 64, but there are 26 training images: each step takes all of them";
    assert!(fitted.decisions.iter().any(|decision| decision == sentence), "{:?}", fitted.decisions);
}

#[test]
fn every_trainable_parameter_moves() {
    let before: Vec<Vec<f32>> = network().parameters().iter().map(|p| p.tensor.as_vec()).collect();
    let mut network: Network<Cpu> = network();
    fit_alone(&mut network, &cache(COUNTS), &Options { epochs: 1, keep: Keep::Last, ..options() });
    for (parameter, before) in network.parameters().iter().zip(before) {
        assert_ne!(parameter.tensor.as_vec(), before, "{}", parameter.info.name);
    }
}

#[test]
fn f32_and_f64_end_near_each_other_and_not_in_the_same_bytes() {
    let with = |precision| train(COUNTS, &Options { precision, ..options() }).unwrap();
    let [narrow, wide] = [Precision::F32, Precision::F64].map(with);
    assert!(narrow.0 != wide.0);
    let loss = |fitted: &(Vec<u8>, Fitted)| fitted.1.history.last().unwrap().train_loss;
    assert!((loss(&narrow) - loss(&wide)).abs() < 1e-3);
}
