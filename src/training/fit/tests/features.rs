//! A frozen backbone and the feature cache.

use super::*;
use crate::data::RandomAffine;
use crate::events::StageEvent;
use crate::random::Stream;
use crate::training::tests::COUNTS;
use std::sync::Mutex;

/// Trains, and counts the images that the backbone ran for.
fn counted(memo: &Memo, cache: &Arc<TensorCache>, options: &Options) -> (Vec<u8>, u64) {
    let images = Arc::new(Mutex::new(0));
    let sink = Arc::clone(&images);
    let events = EventSink::new(move |event| {
        if let StageEvent::Progress { task, total: Some(total), .. } = event
            && task == "features"
        {
            let mut most = sink.lock().unwrap();
            *most = total.max(*most);
        }
    });
    let (weights, _) =
        train_with_memo(memo, cache, options, (&events, &CancellationToken::new()), None).unwrap();
    let count = *images.lock().unwrap();
    (weights, count)
}

#[test]
fn a_frozen_backbone_runs_once_per_image() {
    let (memo, cache) = (Memo::temporary().unwrap(), cache(COUNTS));
    let (first, images) = counted(&memo, &cache, &frozen());
    assert_eq!(images, 26, "the training split; the 8 validation images follow");
    // Another learning rate reuses them, and the same training yields the same bytes.
    let other = Options {
        optimizer: OptimizerConfig { learning_rate: 0.03, ..options().optimizer },
        ..frozen()
    };
    assert_eq!(counted(&memo, &cache, &other).1, 0);
    assert!(counted(&memo, &cache, &frozen()) == (first, 0));
    // New images cost only their own.
    let more = crate::training::tests::cache(Counts { train: 29, ..COUNTS });
    let (bytes, images) = counted(&memo, &more, &frozen());
    assert!(images > 0 && images <= 3, "{images}");
    assert!(bytes == counted(&Memo::temporary().unwrap(), &more, &frozen()).0);
}

#[test]
fn cached_features_train_to_the_same_weights_as_images() {
    // A rotation too small to change anything, so that images are augmented and not cached.
    let affine = |degrees: f64, translate: f64| {
        Some(RandomAffine { degrees, translate: [translate; 2], scale: [1.0; 2], shear: 0.0 })
    };
    let cache = cache(COUNTS);
    let unchanged =
        AugmentationPolicy { random_affine: affine(1e-7, 0.0), ..AugmentationPolicy::default() };
    let by_features = trained(&plain(), &cache);
    let by_images = trained(&Options { augment: WordOr::Table(unchanged), ..plain() }, &cache);
    assert_close(&by_features, &by_images, 1e-4);
    assert_ne!(by_features["fc.weight"], without_dropout().save().tensors["fc.weight"]);
}

#[test]
fn a_frozen_backbone_runs_once_per_view() {
    let (memo, cache) = (Memo::temporary().unwrap(), cache(COUNTS));
    let augment = |views| {
        WordOr::Table(AugmentationPolicy {
            horizontal_flip: true,
            random_affine: Some(RandomAffine {
                degrees: 0.0,
                translate: [0.2; 2],
                scale: [1.0; 2],
                shear: 0.0,
            }),
            views,
            ..AugmentationPolicy::default()
        })
    };
    let copied = Options { epochs: 6, augment: augment(Some(2)), ..frozen() };
    let (bytes, images) = counted(&memo, &cache, &copied);
    assert_eq!(images, 26);
    assert!(counted(&memo, &cache, &copied) == (bytes.clone(), 0));
    assert!(counted(&Memo::temporary().unwrap(), &cache, &copied).0 == bytes);
    // A view is the same, however many others there are.
    let more = Options { augment: augment(Some(4)), ..copied.clone() };
    let alone = Memo::temporary().unwrap();
    assert!(counted(&memo, &cache, &more).0 == counted(&alone, &cache, &more).0);
    assert_eq!(memo.files().unwrap().len(), alone.files().unwrap().len());
    let anew = Options { augment: augment(None), ..copied.clone() };
    let (other, none) = counted(&memo, &cache, &anew);
    assert!(none == 0 && other != bytes);
    let decision =
        |options: &Options| train(COUNTS, options).unwrap().1.decisions.last().unwrap().clone();
    assert!(decision(&copied).ends_with("features are extracted once per view and cached"));
    assert!(decision(&anew).ends_with("with `augment.views = 4` features would be cached"));
    // Balanced sampling repeats images within an epoch, each time with another view.
    let balanced = Options { sampling: Sampling::Balanced, ..copied };
    assert!(
        counted(&memo, &cache, &balanced).0
            == counted(&Memo::temporary().unwrap(), &cache, &balanced).0
    );
}

#[test]
fn losses_and_damage_in_the_memo_change_no_byte() {
    let (memo, cache) = (Memo::temporary().unwrap(), cache(COUNTS));
    let augment = WordOr::Table(AugmentationPolicy {
        horizontal_flip: true,
        views: Some(3),
        ..AugmentationPolicy::default()
    });
    let options = Options { augment, ..frozen() };
    let (expected, _) = counted(&memo, &cache, &options);
    for round in 0..12 {
        let mut stream = Stream::new(round, "loss", &[]);
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
fn any_number_of_threads_yields_the_same_features() {
    let cache = cache(COUNTS);
    let results = [1, 2, 7].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            train_with(&cache, &frozen(), &CancellationToken::new(), &EventSink::silent(), None)
                .unwrap()
                .0
        })
    });
    assert!(results[0] == results[1] && results[1] == results[2]);
}

#[test]
fn a_cancelled_extraction_keeps_finished_rows() {
    let (memo, cache, cancel) = (
        Memo::temporary().unwrap(),
        cache(Counts { train: 70, ..COUNTS }),
        CancellationToken::new(),
    );
    let stop = cancel.clone();
    let events = EventSink::new(move |event| {
        if let StageEvent::Progress { task, done, .. } = event
            && task == "features"
            && done > 0
        {
            stop.cancel();
        }
    });
    let ended = train_with_memo(&memo, &cache, &frozen(), (&events, &cancel), None);
    assert!(matches!(ended, Err(TrainingError::Cancelled)));
    let (_, images) = counted(&memo, &cache, &frozen());
    assert!(images < 70, "{images} images ran again");
}
