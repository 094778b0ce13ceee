//! What training decided, in sentences for its log and for `training.json`.

use super::options::{BatchNormMode, Freeze, Options, Unfreeze};
use crate::common::number::thousands;
use crate::data::AugmentationPolicy;
use crate::nn::{Backend, Network, Number};

/// What can be said of a training before it is known what it learns from: how images are varied, and whether features
/// are kept.
pub fn foreseen(options: &Options) -> Vec<String> {
    let sentences =
        thawing(&options.unfreezing()).into_iter().chain([augmentation(options.augmentation())]);
    sentences.chain(backbone(options)).collect()
}

/// How training images are varied.
pub fn augmentation(augment: Option<&AugmentationPolicy>) -> String {
    let Some(augment) = augment.filter(|augment| !augment.is_none()) else {
        return "training images are the centers of the stored squares, not varied".to_owned();
    };
    let mut parts = Vec::new();
    if let Some(crop) = &augment.random_resized_crop {
        let [low, high] = crop.scale.map(|share| (share * 100.0).round());
        parts.push(format!("random crops of {low} to {high} % of the stored squares"));
    }
    if augment.horizontal_flip {
        parts.push("flips".to_owned());
    }
    let amounts = [
        ("shifts", augment.translation),
        ("turns", augment.rotation),
        ("zoom", augment.zoom),
        ("brightness", augment.brightness),
        ("contrast", augment.contrast),
        ("saturation", augment.saturation),
        ("erased patches", augment.random_erasing),
    ];
    parts.extend(
        amounts.iter().filter(|(_, amount)| *amount > 0.0).map(|(name, _)| (*name).to_owned()),
    );
    let ways = match augment.views {
        Some(1) => ", each in one way",
        Some(copies) => &format!(", each in {copies} ways that take turns"),
        None => "",
    };
    format!("training images are varied by {}{ways}", parts.join(", "))
}

/// How much the classes count.
pub fn class_weights(weights: &[f64], names: &[String]) -> String {
    let mut sorted: Vec<(&String, f64)> = names.iter().zip(weights.iter().copied()).collect();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
    match (sorted.first(), sorted.last()) {
        (Some((most, high)), Some((least, low))) if high > low => {
            format!(
                "classes are weighted: from {least} (images count {low:.2} times) to {most} ({high:.2} times)"
            )
        }
        _ => "classes are weighted, and all weights are the same".to_owned(),
    }
}

/// How an epoch's images are drawn from classes of these sizes.
pub fn sampling(counts: &[usize]) -> String {
    let present: Vec<usize> = counts.iter().copied().filter(|&count| count > 0).collect();
    let all: usize = present.iter().sum();
    let (low, high) = (present.iter().min().unwrap_or(&0), present.iter().max().unwrap_or(&0));
    format!(
        "each epoch shows about {} images of every class, of which there are {} to {}",
        thousands((all / present.len().max(1)) as u64),
        thousands(*low as u64),
        thousands(*high as u64)
    )
}

/// What thaws, and when.
pub fn thawing(unfreeze: &[Unfreeze]) -> Vec<String> {
    let sentence =
        |entry: &Unfreeze| format!("from epoch {} on, {}", entry.epoch, parts(&entry.freeze));
    unfreeze.iter().map(sentence).collect()
}

/// What learns from an epoch on.
pub fn learning(options: &Options, epoch: u64) -> String {
    format!("from now on, {}", parts(&options.freeze_at(epoch)))
}

fn parts(freeze: &Freeze) -> String {
    match freeze {
        Freeze::None => "the whole network learns".to_owned(),
        Freeze::All => "the head alone learns".to_owned(),
        Freeze::Below(stage) => format!("the backbone from `{stage}` on learns too"),
    }
}

/// Which way the images go through a frozen backbone, and why.
pub fn backbone(options: &Options) -> Option<String> {
    if !options.backbone_frozen(1) {
        return None;
    }
    let until = options
        .unfreezing()
        .first()
        .map_or(String::new(), |entry| format!(" up to epoch {}", entry.epoch - 1));
    Some(match options.augmentation().map(|augment| augment.views) {
        None => format!(
            "the backbone is frozen{until} and images aren't varied: it runs once a image, and its features are kept"
        ),
        Some(Some(copies)) => format!(
            "the backbone is frozen{until} and each image is varied in {copies} ways: it runs once for each, and its features are kept"
        ),
        Some(None) => {
            // What is shown once can't be shown again.
            let is_once =
                options.unfreezing().first().map_or(options.epochs, |entry| entry.epoch - 1) == 1;
            let hint =
                if is_once { "" } else { "; `augment.views = 4` would have its features kept" };
            format!(
                "the backbone is frozen{until}, but runs in every epoch, since images are varied anew each time{hint}"
            )
        }
    })
}

/// What learns.
pub fn trainable<D: Backend<N>, N: Number>(network: &Network<D, N>, options: &Options) -> String {
    let count = |learning: bool| -> u64 {
        let list = network.parameters().iter().filter(|parameter| parameter.trainable || !learning);
        list.map(|parameter| parameter.info.shape.iter().product::<usize>() as u64).sum()
    };
    let what = match (&options.freeze, options.batch_norm) {
        (Freeze::All, _) => "the head alone".to_owned(),
        (Freeze::Below(stage), _) => format!("the backbone from `{stage}` on, and the head"),
        (Freeze::None, BatchNormMode::Train) => "the whole network".to_owned(),
        (Freeze::None, BatchNormMode::Affine) => {
            "the whole network but running statistics".to_owned()
        }
        (Freeze::None, BatchNormMode::Frozen) => {
            "the whole network but the backbone's norms".to_owned()
        }
    };
    format!("{} of {} parameters learn: {what}", thousands(count(true)), thousands(count(false)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::RandomResizedCrop;

    #[test]
    fn what_is_varied_is_named() {
        let none = "training images are the centers of the stored squares, not varied";
        assert_eq!(augmentation(None), none);
        assert_eq!(augmentation(Some(&AugmentationPolicy::default())), none);
        let augment = AugmentationPolicy {
            random_resized_crop: Some(RandomResizedCrop { scale: [0.6, 1.0], ratio: [0.8, 1.25] }),
            horizontal_flip: true,
            rotation: 10.0,
            ..AugmentationPolicy::default()
        };
        assert_eq!(
            augmentation(Some(&augment)),
            "training images are varied by random crops of 60 to 100 % of the stored squares, flips, turns"
        );
    }
}
