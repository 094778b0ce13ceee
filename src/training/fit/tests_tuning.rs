//! Fine-tuning as a whole, on small caches: what thaws when, how classes and batches count, and features that are computed
//! once. Knows no stage and no file of a run.

use super::tests::{fit_alone, frozen, options, remembering, train, with};
use super::*;
use crate::config::WordOr;
use crate::data::AugmentationPolicy;
use crate::events::StageEvent;
use crate::nn::Cpu;
use crate::training::testing::{COUNTS, Counts, cache, network};
use crate::training::{
    ClassWeights, EarlyStopping, Freeze, OptimizerConfig, OptimizerKind, Sampling, Schedule,
    ScheduleKind, UnfreezeAt,
};
use std::sync::Mutex;

/// Everything off that would make two ways of computing the same differ: plain gradient descent at one rate.
fn plain() -> Options {
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

/// The test's network without dropout.
fn sure() -> Network<Cpu> {
    let network = network();
    let head = crate::nn::Head::Dense { hidden: Vec::new(), dropout: 0.0, classes: 3 };
    let mut sure =
        Network::from_graph(network.graph().clone().without_dropout(), &head, 42, Cpu::default())
            .unwrap();
    sure.load(&network.save()).unwrap();
    sure
}

fn trained(options: &Options, cache: &Arc<TensorCache>) -> Tensors {
    let mut network = sure();
    fit_alone(&mut network, cache, options);
    network.save().tensors
}

fn assert_close(one: &Tensors, other: &Tensors, tolerance: f32) {
    for (name, tensor) in one {
        let differences = tensor.data.iter().zip(&other[name].data).map(|(a, b)| (a - b).abs());
        let worst = differences.fold(0.0, f32::max);
        assert!(worst < tolerance, "{name} differs by {worst}");
    }
}

#[test]
fn what_thaws_learns_from_its_epoch_on_and_not_before() {
    let cache = cache(COUNTS);
    let start = sure().save().tensors;
    let moved = |options: &Options| -> Vec<&str> {
        let after = trained(options, &cache);
        let parts = ["first.conv.weight", "second.conv.weight", "fc.weight"];
        parts.into_iter().filter(|&part| after[part] != start[part]).collect()
    };
    let unfreeze_at =
        UnfreezeAt::Groups([("second".to_owned(), 2), ("first".to_owned(), 4)].into());
    let thawing = |epochs| Options { epochs, unfreeze_at: Some(unfreeze_at.clone()), ..plain() };
    assert_eq!(moved(&thawing(1)), ["fc.weight"]);
    assert_eq!(moved(&thawing(3)), ["second.conv.weight", "fc.weight"]);
    assert_eq!(moved(&thawing(4)), ["first.conv.weight", "second.conv.weight", "fc.weight"]);
    let (_, fitted) = train(COUNTS, &thawing(4)).unwrap();
    assert_eq!(
        fitted.decisions[..3],
        [
            "51 of 1,467 parameters learn: the head alone",
            "from epoch 2 on, the backbone from `second` on learns too",
            "from epoch 4 on, the backbone from `first` on learns too",
        ]
    );
}

#[test]
fn the_best_epoch_is_restored_whole_though_more_learned_later() {
    // At this rate what thaws in epoch 3 is ruined at once, so an earlier epoch stays the best one.
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
    let mut network = sure();
    let fitted = fit_alone(&mut network, &cache, &options);
    assert!(fitted.epoch < 3, "{:?}", fitted.history);
    let short = trained(&Options { epochs: fitted.epoch, keep: Keep::Last, ..options }, &cache);
    assert!(network.save().tensors == short);
}

#[test]
fn accumulated_batches_are_one_larger_batch() {
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
    // Batches of unequal size and weight count by their images' weights.
    let unequal = cache_of_23();
    let weights = || ClassWeights::Given([("red".to_owned(), 3.0)].into());
    let whole = Options { batch_size: 23, class_weights: weights(), ..plain() };
    let parts = Options { batch_size: 5, gradient_accumulation: 5, ..whole.clone() };
    assert_close(&trained(&whole, &unequal), &trained(&parts, &unequal), 2e-6);
}

fn cache_of_23() -> Arc<TensorCache> {
    cache(Counts { train: 23, ..COUNTS })
}

/// PyTorch 2.15's weighted mean:
///
/// ```python
/// import torch
/// logits = torch.tensor([[0.2, -0.4, 1.0], [1.5, 0.1, -0.3], [-0.2, 0.7, 0.4]])
/// print(torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 1]), weight=torch.tensor([1., 3., 1.])))
/// ```
#[test]
fn weighted_losses_are_pytorchs() {
    let logits = [[0.2, -0.4, 1.0], [1.5, 0.1, -0.3], [-0.2, 0.7, 0.4f64]];
    let labels = [0, 1, 1];
    let weights = [1.0, 3.0, 1.0];
    let total = balance::total(Some(&weights), labels.into_iter());
    let factors = balance::row_factors(Some(&weights), &labels, total);
    let losses = logits.iter().zip(labels).map(|(row, label)| {
        let sum: f64 = row.iter().map(|logit| logit.exp()).sum();
        sum.ln() - row[label]
    });
    let mean =
        losses.zip(factors).map(|(loss, factor)| loss * f64::from(factor)).sum::<f64>() / 3.0;
    assert!((mean - WEIGHTED).abs() < 1e-6, "{mean}");
}

const WEIGHTED: f64 = 1.265_112_2;

#[test]
fn classes_are_told_how_they_count() {
    let given = ClassWeights::Given([("red".to_owned(), 3.0)].into());
    let options =
        Options { class_weights: given, sampling: Sampling::Balanced, epochs: 1, ..options() };
    let (_, fitted) = train(COUNTS, &options).unwrap();
    let said = |sentence: &str| {
        assert!(fitted.decisions.iter().any(|one| one == sentence), "{:?}", fitted.decisions)
    };
    said("classes are weighted: from blue (images count 1.00 times) to red (3.00 times)");
    said("each epoch shows about 8 images of every class, of which there are 8 to 9");
    let unknown = ClassWeights::Given([("rot".to_owned(), 3.0)].into());
    let error = train(COUNTS, &Options { class_weights: unknown, ..options }).unwrap_err();
    assert_eq!(error.help(), Some("the classes are red, green, blue"));
}

/// A training, and how many images the backbone ran for.
fn counted(memo: &Memo, cache: &Arc<TensorCache>, options: &Options) -> (Vec<u8>, u64) {
    let images = Arc::new(Mutex::new(0));
    let sink = Arc::clone(&images);
    let events = EventSink::new(move |fact| {
        if let StageEvent::Progress { task, total: Some(total), .. } = fact
            && task == "features"
        {
            let mut most = sink.lock().unwrap();
            *most = total.max(*most);
        }
    });
    let (weights, _) =
        remembering(memo, cache, options, (&events, &CancellationToken::new()), None).unwrap();
    let count = *images.lock().unwrap();
    (weights, count)
}

#[test]
fn a_frozen_backbone_runs_once_a_image() {
    let (memo, cache) = (Memo::temporary().unwrap(), cache(COUNTS));
    let (first, images) = counted(&memo, &cache, &frozen());
    assert_eq!(images, 26, "the train split; the validation split's 8 come after it");
    // Another head or rate shares them, and the same training gives the same bytes.
    let other = Options {
        optimizer: OptimizerConfig { learning_rate: 0.03, ..options().optimizer },
        ..frozen()
    };
    assert_eq!(counted(&memo, &cache, &other).1, 0);
    assert!(counted(&memo, &cache, &frozen()) == (first, 0));
    // New images cost only themselves.
    let more = crate::training::testing::cache(Counts { train: 29, ..COUNTS });
    let (bytes, images) = counted(&memo, &more, &frozen());
    assert!(images > 0 && images <= 3, "{images}");
    assert!(bytes == counted(&Memo::temporary().unwrap(), &more, &frozen()).0);
}

#[test]
fn features_lead_where_images_would() {
    // A turn too small to change anything still counts as variation, so images go through the backbone every time.
    let cache = cache(COUNTS);
    let still = AugmentationPolicy { rotation: 1e-7, ..AugmentationPolicy::default() };
    let by_features = trained(&plain(), &cache);
    let by_images = trained(&Options { augment: WordOr::Table(still), ..plain() }, &cache);
    assert_close(&by_features, &by_images, 1e-4);
    assert_ne!(by_features["fc.weight"], sure().save().tensors["fc.weight"]);
}

#[test]
fn with_copies_the_backbone_runs_once_for_each() {
    let (memo, cache) = (Memo::temporary().unwrap(), cache(COUNTS));
    let augment = |copies| {
        WordOr::Table(AugmentationPolicy {
            horizontal_flip: true,
            translation: 0.2,
            views: copies,
            ..AugmentationPolicy::default()
        })
    };
    let copied = Options { epochs: 6, augment: augment(Some(2)), ..frozen() };
    let (bytes, images) = counted(&memo, &cache, &copied);
    assert_eq!(images, 26);
    assert!(counted(&memo, &cache, &copied) == (bytes.clone(), 0));
    assert!(counted(&Memo::temporary().unwrap(), &cache, &copied).0 == bytes);
    // A view looks the same however many others there are.
    let more = Options { augment: augment(Some(4)), ..copied.clone() };
    let alone = Memo::temporary().unwrap();
    assert!(counted(&memo, &cache, &more).0 == counted(&alone, &cache, &more).0);
    assert_eq!(memo.files().unwrap().len(), alone.files().unwrap().len());
    let anew = Options { augment: augment(None), ..copied.clone() };
    let (other, none) = counted(&memo, &cache, &anew);
    assert!(none == 0 && other != bytes);
    let said =
        |options: &Options| train(COUNTS, options).unwrap().1.decisions.last().unwrap().clone();
    assert!(said(&copied).ends_with("in 2 ways: it runs once for each, and its features are kept"));
    assert!(said(&anew).contains("`augment.views = 4` would have its features kept"));
    // Balanced sampling repeats images within an epoch, each time in another way.
    let balanced = Options { sampling: Sampling::Balanced, ..copied };
    assert!(
        counted(&memo, &cache, &balanced).0
            == counted(&Memo::temporary().unwrap(), &cache, &balanced).0
    );
}

#[test]
fn whatever_the_memo_loses_the_bytes_are_the_same() {
    let (memo, cache) = (Memo::temporary().unwrap(), cache(COUNTS));
    let augment = WordOr::Table(AugmentationPolicy {
        horizontal_flip: true,
        views: Some(3),
        ..AugmentationPolicy::default()
    });
    let options = Options { augment, ..frozen() };
    let (expected, _) = counted(&memo, &cache, &options);
    for round in 0..12 {
        let mut stream = crate::random::Stream::new(round, "loss", &[]);
        for path in memo.files().unwrap() {
            match stream.below(4) {
                0 => std::fs::remove_file(&path).unwrap(),
                1 => {
                    let mut bytes = std::fs::read(&path).unwrap();
                    let at = stream.below(bytes.len() as u64) as usize;
                    bytes[at] ^= 1;
                    std::fs::remove_file(&path).unwrap();
                    std::fs::write(&path, bytes).unwrap();
                }
                _ => {}
            }
        }
        assert!(counted(&memo, &cache, &options).0 == expected, "round {round}");
    }
}

#[test]
fn features_are_the_same_bytes_with_any_number_of_threads() {
    let cache = cache(COUNTS);
    let results = [1, 2, 7].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            with(&cache, &frozen(), &CancellationToken::new(), &EventSink::silent(), None)
                .unwrap()
                .0
        })
    });
    assert!(results[0] == results[1] && results[1] == results[2]);
}

#[test]
fn a_cancelled_pass_keeps_what_it_made() {
    let (memo, cache, cancel) = (
        Memo::temporary().unwrap(),
        cache(Counts { train: 70, ..COUNTS }),
        CancellationToken::new(),
    );
    let stop = cancel.clone();
    let events = EventSink::new(move |fact| {
        if let StageEvent::Progress { task, done, .. } = fact
            && task == "features"
            && done > 0
        {
            stop.cancel();
        }
    });
    let ended = remembering(&memo, &cache, &frozen(), (&events, &cancel), None);
    assert!(matches!(ended, Err(TrainingError::Cancelled)));
    let (_, images) = counted(&memo, &cache, &frozen());
    assert!(images < 70, "{images} images ran again");
}
