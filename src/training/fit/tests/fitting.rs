//! Whole trainings: results, decisions and errors.

use super::*;
use crate::events::StageEvent;
use crate::metrics::write_history;
use crate::training::options::UnfreezeAt;
use crate::training::tests::COUNTS;
use std::sync::Mutex;

#[test]
fn training_improves_the_model_and_emits_scalars() {
    let scalars = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&scalars);
    let events = EventSink::new(move |event| {
        if let StageEvent::Scalar { name, step, value } = event {
            sink.lock().unwrap().push((name, step, value));
        }
    });
    let options = Options { epochs: 12, ..options() };
    let (_, fitted) =
        train_with(&cache(COUNTS), &options, &CancellationToken::new(), &events, None).unwrap();
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
    let scalars = scalars.lock().unwrap();
    let names: Vec<&str> =
        scalars.iter().filter(|scalar| scalar.1 == 12).map(|scalar| scalar.0.as_str()).collect();
    assert_eq!(
        names,
        [
            "learning_rate",
            "train/loss",
            "train/accuracy",
            "validation/loss",
            "validation/accuracy",
            "images_per_second",
            "seconds"
        ]
    );
    assert!(scalars.contains(&("train/loss".to_owned(), 1, first.train_loss)));
}

/// Training loss and accuracy, validation loss and accuracy of each epoch.
const GOLDEN: [[f64; 4]; 4] = [
    [1.086, 0.458, 0.995, 0.75],
    [0.699, 0.917, 0.804, 1.0],
    [0.625, 0.917, 0.653, 1.0],
    [0.641, 0.875, 0.598, 1.0],
];

/// With a tolerance instead of a digest: the last digits depend on the processor, whose fused and
/// vector instructions round differently.
#[test]
fn golden_history_and_decisions() {
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
            "1,467 of 1,467 parameters are trainable: the whole network",
            "training images are augmented by random resized crops (60 to 100 % of the area)",
            "the last, incomplete batch (2 images, different ones each epoch) is dropped: too few for batch-norm statistics",
        ]
    );
}

/// One image has no batch statistics, and those of half a batch are too noisy. Without trained
/// batch norms there are none.
#[test]
fn small_last_batches_are_dropped_if_batch_norms_are_trained() {
    let drops = |batch_size, has_batch_statistics| {
        let options = Options { batch_size, ..options() };
        let setup = Setup::new(&cache(COUNTS), &options, has_batch_statistics).unwrap();
        (setup.train.len() % batch_size, setup.drop_last)
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
    let (network, norms) =
        (network(), |options: Options| has_batch_statistics(&network(), &options));
    assert!(has_batch_statistics(&network, &options()) && !norms(frozen()));
    assert!(!norms(Options { batch_norm: BatchNormMode::Affine, ..options() }));
    let unfreezing =
        Options { unfreeze_at: Some(UnfreezeAt::Epoch(3)), freeze: Freeze::All, ..options() };
    assert!(norms(unfreezing));
    let alexnet = Network::new("alexnet", &head_of_three(), (64, 64), 1).unwrap();
    assert!(!has_batch_statistics(&alexnet, &options()));
}

fn head_of_three() -> Head {
    Head::Dense { hidden: Vec::new(), dropout: 0.0, classes: 3 }
}

#[test]
fn any_number_of_threads_yields_the_same_bytes() {
    let cache = cache(COUNTS);
    let results: Vec<(Vec<u8>, Vec<u8>)> = [1, 2, 7]
        .into_iter()
        .map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let run = || {
                train_with(
                    &cache,
                    &options(),
                    &CancellationToken::new(),
                    &EventSink::silent(),
                    None,
                )
                .unwrap()
            };
            let (weights, fitted) = pool.install(run);
            (weights, write_history(&fitted.history).unwrap())
        })
        .collect();
    assert!(results[0] == results[1] && results[1] == results[2]);
}

#[test]
fn a_cancelled_training_stops_before_its_next_step() {
    let cancel = CancellationToken::new();
    cancel.cancel();
    let result = train_with(&cache(COUNTS), &options(), &cancel, &EventSink::silent(), None);
    assert!(matches!(result, Err(TrainingError::Cancelled)));
}

#[test]
fn early_stopping_ends_training_and_the_best_epoch_is_kept() {
    // This learning rate is too small for an improvement by min_delta.
    let small = OptimizerConfig { learning_rate: 1e-9, ..options().optimizer };
    let early_stopping =
        EarlyStopping { patience: Some(2), min_delta: 0.5, ..options().early_stopping };
    let options = Options { epochs: 9, optimizer: small, early_stopping, ..options() };
    let (_, fitted) = train(COUNTS, &options).unwrap();
    assert_eq!((fitted.history.len(), fitted.stopped_early), (3, true));
    assert_eq!(
        fitted.decisions.last().unwrap(),
        "stopped early after epoch 3 of 9: validation loss did not improve for 2 epochs"
    );
}

#[test]
fn the_network_has_the_weights_of_the_kept_epoch() {
    // A shorter training with the same learning rates ends in the weights that a longer one had
    // then.
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
fn a_nan_loss_is_an_error_with_remedies() {
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
fn options_that_do_not_fit_the_data_are_refused_before_the_first_step() {
    let fails = |counts: Counts, options: Options| train(counts, &options).unwrap_err().to_string();
    let early_stopping = EarlyStopping { patience: Some(2), ..options().early_stopping };
    let patient = Options { early_stopping, ..options() };
    let without_validation = Counts { validation: 0, ..COUNTS };
    assert_eq!(
        fails(without_validation, patient),
        "`early_stopping.patience` needs a validation split, but it is empty"
    );
    assert_eq!(fails(Counts { train: 0, ..COUNTS }, options()), "the training split is empty");
    assert_eq!(
        fails(Counts { train: 1, ..COUNTS }, options()),
        "the training split has images of one class only, `red`"
    );
}

#[test]
fn a_class_without_training_images_is_named() {
    let (_, fitted) =
        train(Counts { train: 2, ..COUNTS }, &Options { epochs: 1, ..options() }).unwrap();
    let sentence = "no training images of blue: the model can't learn to predict it";
    assert!(fitted.decisions.iter().any(|decision| decision == sentence), "{:?}", fitted.decisions);
}

#[test]
fn nan_weights_are_never_a_result() {
    // The only step has a finite loss but overflows the weights, and no validation notices.
    let sgd =
        OptimizerConfig { kind: OptimizerKind::Sgd, learning_rate: 1e300, ..options().optimizer };
    let options =
        Options { epochs: 1, batch_size: 26, optimizer: sgd, max_grad_norm: None, ..options() };
    let error = train(Counts { validation: 0, ..COUNTS }, &options).unwrap_err();
    assert!(
        error.to_string().starts_with("training diverged: a weight became NaN in epoch"),
        "{error}"
    );
}

#[test]
fn without_validation_the_last_epoch_is_kept() {
    let (_, fitted) = train(Counts { validation: 0, ..COUNTS }, &options()).unwrap();
    assert_eq!(fitted.epoch, 4);
    assert!(fitted.history.iter().all(|row| row.validation_loss.is_none()));
}

#[test]
fn a_batch_larger_than_the_split_uses_all_of_it() {
    let (_, fitted) = train(COUNTS, &Options { batch_size: 64, ..options() }).unwrap();
    let sentence =
        "`batch_size` is 64, but there are only 26 training images: each step uses all of them";
    assert!(fitted.decisions.iter().any(|decision| decision == sentence), "{:?}", fitted.decisions);
}

#[test]
fn every_trainable_parameter_moves() {
    let before: Vec<Vec<f32>> = network().parameters().iter().map(|p| p.tensor.as_vec()).collect();
    let mut network: Network = network();
    fit_alone(&mut network, &cache(COUNTS), &Options { epochs: 1, keep: Keep::Last, ..options() });
    for (parameter, before) in network.parameters().iter().zip(before) {
        assert_ne!(parameter.tensor.as_vec(), before, "{}", parameter.info.name);
    }
}

#[test]
fn bf16_ends_near_f32_with_cached_features_and_without() {
    for (options, near) in [(options(), 0.05), (frozen(), 0.01)] {
        let with = |precision| train(COUNTS, &Options { precision, ..options.clone() }).unwrap();
        let [single, half] = [Precision::F32, Precision::Bf16].map(with);
        assert!(single.0 != half.0);
        let loss = |fitted: &(Vec<u8>, Fitted)| fitted.1.history.last().unwrap().train_loss;
        assert!((loss(&single) - loss(&half)).abs() < near, "{} {}", loss(&single), loss(&half));
        assert_eq!(half, with(Precision::Bf16), "the same bytes again");
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

#[test]
fn an_earlier_training_of_the_network_leaves_nothing_behind() {
    let (mut once, mut twice) = (network(), network());
    let start = once.save();
    fit_alone(&mut twice, &cache(COUNTS), &options());
    twice.load(&start).unwrap();
    for network in [&mut once, &mut twice] {
        fit_alone(network, &cache(COUNTS), &options());
    }
    assert!(once.save().tensors == twice.save().tensors);
}
