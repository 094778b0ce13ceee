//! Freezing, unfreezing, class weights and gradient accumulation.

use super::*;
use crate::training::balance;
use crate::training::options::UnfreezeAt;
use crate::training::tests::COUNTS;

#[test]
fn frozen_parameters_keep_their_bytes() {
    let before = network().save().tensors;
    let freeze = Freeze::Below("second".to_owned());
    let mut network = network();
    fit_alone(&mut network, &cache(COUNTS), &Options { freeze, ..options() });
    for (name, tensor) in network.save().tensors {
        assert_eq!(tensor == before[&name], name.starts_with("first"), "{name}");
    }
    let mut network = crate::training::tests::network();
    let options = Options { freeze: Freeze::All, batch_norm: BatchNormMode::Frozen, ..options() };
    fit_alone(&mut network, &cache(COUNTS), &options);
    for (name, tensor) in network.save().tensors {
        assert_eq!(tensor == before[&name], !name.starts_with("fc"), "{name}");
    }
}

#[test]
fn each_batch_norm_mode_trains_its_part() {
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
fn unfrozen_parameters_are_trained_from_their_epoch_on() {
    let cache = cache(COUNTS);
    let start = without_dropout().save().tensors;
    let moved = |options: &Options| -> Vec<&str> {
        let after = trained(options, &cache);
        let parts = ["first.conv.weight", "second.conv.weight", "fc.weight"];
        parts.into_iter().filter(|&part| after[part] != start[part]).collect()
    };
    let unfreeze_at =
        UnfreezeAt::Groups([("second".to_owned(), 2), ("first".to_owned(), 4)].into());
    let unfreezing = |epochs| Options { epochs, unfreeze_at: Some(unfreeze_at.clone()), ..plain() };
    assert_eq!(moved(&unfreezing(1)), ["fc.weight"]);
    assert_eq!(moved(&unfreezing(3)), ["second.conv.weight", "fc.weight"]);
    assert_eq!(moved(&unfreezing(4)), ["first.conv.weight", "second.conv.weight", "fc.weight"]);
    let (_, fitted) = train(COUNTS, &unfreezing(4)).unwrap();
    assert_eq!(
        fitted.decisions[..3],
        [
            "51 of 1,467 parameters are trainable: only the head",
            "from epoch 2 on, the backbone from `second` on is trainable",
            "from epoch 4 on, the backbone from `first` on is trainable",
        ]
    );
}

#[test]
fn the_best_epoch_is_restored_with_parameters_that_were_unfrozen_later() {
    // At this learning rate the parameters unfrozen in epoch 3 diverge, so an earlier epoch is the
    // best.
    let cache = cache(COUNTS);
    let optimizer = OptimizerConfig {
        learning_rate: 0.5,
        backbone_learning_rate: Some(30.0),
        ..plain().optimizer
    };
    let early_stopping =
        EarlyStopping { monitor: Monitor::ValidationAccuracy, ..options().early_stopping };
    let unfreeze_at = Some(UnfreezeAt::Epoch(3));
    let options =
        Options { epochs: 4, keep: Keep::Best, optimizer, early_stopping, unfreeze_at, ..plain() };
    let mut network = without_dropout();
    let fitted = fit_alone(&mut network, &cache, &options);
    assert!(fitted.epoch < 3, "{:?}", fitted.history);
    let short = trained(&Options { epochs: fitted.epoch, keep: Keep::Last, ..options }, &cache);
    assert!(network.save().tensors == short);
}

#[test]
fn accumulated_gradients_equal_those_of_one_larger_batch() {
    let cache = cache(Counts { train: 24, ..COUNTS });
    let whole = trained(
        &Options { batch_size: 12, unfreeze_at: None, freeze: Freeze::None, ..plain() },
        &cache,
    );
    let parts = trained(
        &Options { batch_size: 4, gradient_accumulation: 3, freeze: Freeze::None, ..plain() },
        &cache,
    );
    assert_close(&whole, &parts, 2e-6);
    // Batches of different sizes and class weights.
    let unequal = cache_of_23();
    let weights = || ClassWeights::Given([("red".to_owned(), 3.0)].into());
    let whole = Options { batch_size: 23, class_weights: weights(), ..plain() };
    let parts = Options { batch_size: 5, gradient_accumulation: 5, ..whole.clone() };
    assert_close(&trained(&whole, &unequal), &trained(&parts, &unequal), 2e-6);
}

fn cache_of_23() -> Arc<TensorCache> {
    cache(Counts { train: 23, ..COUNTS })
}

/// PyTorch 2.15:
///
/// ```python
/// import torch
/// logits = torch.tensor([[0.2, -0.4, 1.0], [1.5, 0.1, -0.3], [-0.2, 0.7, 0.4]])
/// weight = torch.tensor([1., 3., 1.])
/// print(torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 1]), weight=weight))
/// ```
#[test]
fn weighted_losses_equal_pytorch() {
    let logits = [[0.2, -0.4, 1.0], [1.5, 0.1, -0.3], [-0.2, 0.7, 0.4f64]];
    let labels = [0, 1, 1];
    let weights = [1.0, 3.0, 1.0];
    let total = balance::total_weight(Some(&weights), labels.into_iter());
    let weights_of_rows = balance::row_weights(Some(&weights), &labels, total);
    let losses = logits.iter().zip(labels).map(|(row, label)| {
        let sum: f64 = row.iter().map(|logit| logit.exp()).sum();
        sum.ln() - row[label]
    });
    let mean =
        losses.zip(weights_of_rows).map(|(loss, factor)| loss * f64::from(factor)).sum::<f64>()
            / 3.0;
    assert!((mean - WEIGHTED).abs() < 1e-6, "{mean}");
}

const WEIGHTED: f64 = 1.265_112_2;

#[test]
fn class_weights_and_balanced_sampling_are_described() {
    let given = ClassWeights::Given([("red".to_owned(), 3.0)].into());
    let options =
        Options { class_weights: given, sampling: Sampling::Balanced, epochs: 1, ..options() };
    let (_, fitted) = train(COUNTS, &options).unwrap();
    let assert_decided = |sentence: &str| {
        assert!(fitted.decisions.iter().any(|one| one == sentence), "{:?}", fitted.decisions)
    };
    assert_decided("class weights range from 1.00 (blue) to 3.00 (red)");
    assert_decided("each epoch draws about 8 images per class; classes have 8 to 9");
    let unknown = ClassWeights::Given([("rot".to_owned(), 3.0)].into());
    let error = train(COUNTS, &Options { class_weights: unknown, ..options }).unwrap_err();
    assert_eq!(error.help().as_deref(), Some("the classes are red, green, blue"));
}
