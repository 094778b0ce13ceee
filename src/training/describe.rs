//! Sentences about the decisions of a training, for its log, its plan and `training.json`.

use super::options::{BatchNormMode, Freeze, Options, Unfreeze};
use crate::common::number::{counted, thousands};
use crate::data::AugmentationPolicy;
use crate::nn::{Learner, Number};

/// The decisions that follow from the options alone, for a plan.
pub(crate) fn decisions_from_options(options: &Options) -> Vec<String> {
    let mut decisions = unfreezing(&options.unfreezing());
    decisions.push(augmentation(options.augmentation()));
    decisions.extend(frozen_backbone(options));
    decisions
}

pub(super) fn augmentation(policy: Option<&AugmentationPolicy>) -> String {
    let Some(policy) = policy.filter(|policy| !policy.is_none() || policy.mixes(1)) else {
        return "training images are not augmented: each is its center crop".to_owned();
    };
    let mut parts = Vec::new();
    if let Some(crop) = &policy.random_resized_crop {
        let [low, high] = crop.scale.map(|share| (share * 100.0).round());
        parts.push(format!("random resized crops ({low} to {high} % of the area)"));
    }
    if policy.horizontal_flip {
        parts.push("horizontal flips".to_owned());
    }
    let words = [
        ("vertical flips", policy.vertical_flip),
        ("random affine", policy.random_affine.is_some()),
        ("random perspective", policy.random_perspective.is_some()),
        ("color jitter", policy.color_jitter.is_some()),
        ("Gaussian blur", policy.gaussian_blur.is_some()),
        ("RandAugment", policy.rand_augment.is_some()),
        ("TrivialAugment", policy.trivial_augment),
        ("random erasing", policy.random_erasing.is_some()),
    ];
    parts.extend(words.iter().filter(|(_, is_used)| *is_used).map(|(name, _)| (*name).to_owned()));
    let amounts = [
        ("random grayscale", policy.random_grayscale),
        ("mixup", policy.mixup),
        ("cutmix", policy.cutmix),
    ];
    parts.extend(
        amounts.iter().filter(|(_, amount)| *amount > 0.0).map(|(name, _)| (*name).to_owned()),
    );
    let views = match policy.views {
        Some(views) => format!("; {} per image", counted(views, "view")),
        None => String::new(),
    };
    format!("training images are augmented by {}{views}", parts.join(", "))
}

pub(super) fn class_weights(weights: &[f64], names: &[String]) -> String {
    let mut sorted: Vec<(&String, f64)> = names.iter().zip(weights.iter().copied()).collect();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
    match (sorted.first(), sorted.last()) {
        (Some((heaviest, high)), Some((lightest, low))) if high > low => {
            format!("class weights range from {low:.2} ({lightest}) to {high:.2} ({heaviest})")
        }
        _ => "all class weights are equal".to_owned(),
    }
}

/// `counts` are the training images of each class.
pub(super) fn balanced_sampling(counts: &[usize]) -> String {
    let present: Vec<usize> = counts.iter().copied().filter(|&count| count > 0).collect();
    let all: usize = present.iter().sum();
    let (low, high) = (present.iter().min().unwrap_or(&0), present.iter().max().unwrap_or(&0));
    format!(
        "each epoch draws about {} images per class; classes have {} to {}",
        thousands((all / present.len().max(1)) as u64),
        thousands(*low as u64),
        thousands(*high as u64)
    )
}

pub(super) fn dropped_batch(count: usize) -> String {
    let images = match count {
        1 => "1 image, a different one each epoch".to_owned(),
        _ => format!("{count} images, different ones each epoch"),
    };
    format!("the last, incomplete batch ({images}) is dropped: too few for batch-norm statistics")
}

pub(super) fn accumulation(batches: usize, batch_size: usize) -> String {
    match batches {
        1 => "`gradient_accumulation` has no effect: an epoch has only one batch".to_owned(),
        _ => format!(
            "each step accumulates the gradients of {batches} batches of {batch_size} images"
        ),
    }
}

pub(super) fn unfreezing(unfreeze: &[Unfreeze]) -> Vec<String> {
    let sentence = |entry: &Unfreeze| {
        format!("from epoch {} on, {}", entry.epoch, trainable_part(&entry.freeze))
    };
    unfreeze.iter().map(sentence).collect()
}

pub(super) fn trainable_part(freeze: &Freeze) -> String {
    match freeze {
        Freeze::None => "the whole network is trainable".to_owned(),
        Freeze::All => "only the head is trainable".to_owned(),
        Freeze::Below(group) => format!("the backbone from `{group}` on is trainable"),
    }
}

/// Whether features of a frozen backbone are cached, and why not.
pub(super) fn frozen_backbone(options: &Options) -> Option<String> {
    if !options.backbone_frozen(1) {
        return None;
    }
    let unfreeze = options.unfreezing().first().map(|entry| entry.epoch);
    let until = unfreeze.map_or(String::new(), |epoch| format!(" through epoch {}", epoch - 1));
    Some(match options.augmentation().map(|policy| policy.views) {
        None => {
            format!(
                "the backbone is frozen{until}: features are extracted once per image and cached"
            )
        }
        Some(Some(_)) => {
            format!(
                "the backbone is frozen{until}: features are extracted once per view and cached"
            )
        }
        Some(None) => {
            // Views pay off only if each of them is used in more than one epoch.
            let frozen_epochs = unfreeze.map_or(options.epochs, |epoch| epoch - 1);
            let hint = match frozen_epochs {
                1 => "",
                _ => "; with `augment.views = 4` features would be cached",
            };
            format!(
                "the backbone is frozen{until} but runs in every epoch, because every epoch augments images differently{hint}"
            )
        }
    })
}

pub(super) fn trainable<N: Number>(network: &dyn Learner<N>, options: &Options) -> String {
    let count = |trainable_only: bool| -> u64 {
        let parameters = network.parameters();
        let list = parameters.iter().filter(|(_, trainable)| *trainable || !trainable_only);
        list.map(|(info, _)| info.shape.iter().product::<usize>() as u64).sum()
    };
    let part = match (&options.freeze, options.batch_norm) {
        (Freeze::All, _) => "only the head".to_owned(),
        (Freeze::Below(group), _) => format!("the backbone from `{group}` on, and the head"),
        (Freeze::None, BatchNormMode::Train) => "the whole network".to_owned(),
        (Freeze::None, BatchNormMode::Affine) => {
            "the whole network, with fixed running statistics".to_owned()
        }
        (Freeze::None, BatchNormMode::Frozen) => {
            "the whole network except the backbone's batch norms".to_owned()
        }
    };
    let (trainable, all) = (thousands(count(true)), thousands(count(false)));
    format!("{trainable} of {all} parameters are trainable: {part}")
}

pub(super) fn early_stop(options: &Options, epoch: u64) -> String {
    let waited = options.early_stopping.patience.unwrap_or_default();
    format!(
        "stopped early after epoch {epoch} of {}: {} did not improve for {}",
        options.epochs,
        options.early_stopping.monitor.words(),
        counted(waited, "epoch")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{RandomAffine, RandomResizedCrop};

    #[test]
    fn every_augmentation_in_use_is_named() {
        let none = "training images are not augmented: each is its center crop";
        assert_eq!(augmentation(None), none);
        assert_eq!(augmentation(Some(&AugmentationPolicy::default())), none);
        let policy = AugmentationPolicy {
            random_resized_crop: Some(RandomResizedCrop { scale: [0.6, 1.0], ratio: [0.8, 1.25] }),
            horizontal_flip: true,
            random_affine: Some(RandomAffine {
                degrees: 10.0,
                translate: [0.0; 2],
                scale: [1.0; 2],
                shear: 0.0,
            }),
            views: Some(4),
            ..AugmentationPolicy::default()
        };
        assert_eq!(
            augmentation(Some(&policy)),
            "training images are augmented by random resized crops (60 to 100 % of the area), horizontal flips, random affine; 4 views per image"
        );
    }

    #[test]
    fn the_dropped_batch_is_counted() {
        assert_eq!(
            dropped_batch(63),
            "the last, incomplete batch (63 images, different ones each epoch) is dropped: too few for batch-norm statistics"
        );
        assert!(dropped_batch(1).contains("(1 image, a different one each epoch)"));
    }
}
