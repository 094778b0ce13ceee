//! A training that is interrupted and resumed ends in the same bytes.

use super::*;
use crate::events::StageEvent;
use crate::training::batches::Batch;
use crate::training::options::UnfreezeAt;
use crate::training::tests::COUNTS;
use std::sync::Mutex;
use std::time::Duration;

fn checkpoints(folder: &std::path::Path, every: Duration) -> Checkpoints {
    Checkpoints {
        memo: Memo::temporary().unwrap(),
        key: Digest::of(b"key"),
        every,
        scratch: folder.to_owned(),
    }
}

/// Interrupts a training after some epochs and steps, right after a checkpoint.
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
        _ => interrupt_in(network(), cache, options, checkpoints, epochs, steps),
    }
}

fn interrupt_in<N: Number>(
    mut network: Network<N>,
    cache: &Arc<TensorCache>,
    options: &Options,
    checkpoints: &Checkpoints,
    epochs: u64,
    steps: usize,
) {
    let (cancel, events) = (CancellationToken::new(), EventSink::silent());
    let (memo, scratch) = (&checkpoints.memo, checkpoints.scratch.as_path());
    let session = Session {
        seed: 7,
        events: &events,
        cancel: &cancel,
        memo,
        scratch,
        key: checkpoints.key,
        checkpoints: Some(checkpoints),
    };
    let setup = Setup::new(cache, options, has_batch_statistics(&network, options)).unwrap();
    let mut fit = Fit::new(&mut network, cache, options, &session, setup).unwrap();
    fit.resume().unwrap();
    for _ in 0..epochs {
        fit.unfreeze().unwrap();
        fit.train_epoch().unwrap();
    }
    fit.unfreeze().unwrap();
    let mut batches = fit.training_batches().unwrap();
    for _ in 0..steps {
        let mut step: Vec<Batch> =
            batches.by_ref().take(options.gradient_accumulation).map(Result::unwrap).collect();
        fit.train_step(&mut step, None).unwrap();
    }
    cancel.cancel();
    assert!(matches!(fit.checkpoint_or_cancel(), Err(TrainingError::Cancelled)));
}

#[test]
fn an_interrupted_training_ends_in_the_same_bytes() {
    let cache = cache(COUNTS);
    let sgd = Options {
        optimizer: OptimizerConfig { kind: OptimizerKind::Sgd, ..options().optimizer },
        ..options()
    };
    let accumulated = Options { gradient_accumulation: 2, batch_size: 3, ..options() };
    let unfreezing = Options { unfreeze_at: Some(UnfreezeAt::Epoch(3)), ..frozen() };
    let in_f64 = Options { precision: Precision::F64, ..options() };
    for options in [options(), sgd, accumulated, in_f64, frozen(), unfreezing] {
        let (weights, fitted) =
            train_with(&cache, &options, &CancellationToken::new(), &EventSink::silent(), None)
                .unwrap();
        // Between epochs, within one, before validation, and twice in a row.
        for places in [vec![(1, 0)], vec![(0, 2)], vec![(2, 3)], vec![(0, 1), (1, 2)]] {
            let folder = tempfile::tempdir().unwrap();
            let checkpoints = checkpoints(folder.path(), Duration::from_secs(3600));
            for &(epochs, steps) in &places {
                interrupt(&cache, &options, &checkpoints, epochs, steps);
            }
            let again = train_with(
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
fn checkpoints_change_no_result_and_those_of_other_options_are_ignored() {
    let cache = cache(COUNTS);
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = checkpoints(folder.path(), Duration::ZERO);
    let plain = train(COUNTS, &options()).unwrap();
    interrupt(&cache, &Options { batch_size: 4, ..options() }, &checkpoints, 1, 1);
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&warnings);
    let events = EventSink::new(move |event| {
        if let StageEvent::Message { text, .. } = event {
            sink.lock().unwrap().push(text);
        }
    });
    let trained =
        train_with(&cache, &options(), &CancellationToken::new(), &events, Some(&checkpoints))
            .unwrap();
    assert!(plain == trained);
    assert!(warnings.lock().unwrap().iter().any(|text| text.contains("another configuration")));
}
