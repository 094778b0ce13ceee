//! What training decided, in sentences for its log and for `training.json`.

use super::options::{BatchNormMode, Freeze, Options};
use crate::data::Augment;
use crate::nn::{Backend, Network};

/// How training pictures are varied.
pub fn augmentation(augment: Option<&Augment>) -> String {
    let Some(augment) = augment.filter(|augment| !augment.is_none()) else {
        return "training pictures are the centres of the stored squares, not varied".to_owned();
    };
    let mut parts = Vec::new();
    if let Some(crop) = &augment.random_crop {
        let [low, high] = crop.scale.map(|share| (share * 100.0).round());
        parts.push(format!("random crops of {low} to {high} % of the stored squares"));
    }
    if augment.flip {
        parts.push("flips".to_owned());
    }
    let amounts = [
        ("shifts", augment.shift),
        ("turns", augment.rotate),
        ("zoom", augment.zoom),
        ("brightness", augment.brightness),
        ("contrast", augment.contrast),
        ("saturation", augment.saturation),
        ("erased patches", augment.erase),
    ];
    parts.extend(amounts.iter().filter(|(_, amount)| *amount > 0.0).map(|(name, _)| (*name).to_owned()));
    format!("training pictures are varied by {}", parts.join(", "))
}

/// What learns.
pub fn trainable<D: Backend>(network: &Network<D>, options: &Options) -> String {
    let count = |learning: bool| -> usize {
        let list = network.parameters().iter().filter(|parameter| parameter.trainable || !learning);
        list.map(|parameter| parameter.info.shape.iter().product::<usize>()).sum()
    };
    let what = match (&options.freeze, options.batch_norm) {
        (Freeze::All, _) => "the head alone".to_owned(),
        (Freeze::Below(stage), _) => format!("the backbone from `{stage}` on, and the head"),
        (Freeze::None, BatchNormMode::Train) => "the whole network".to_owned(),
        (Freeze::None, _) => "the whole network but running statistics".to_owned(),
    };
    format!("{} of {} parameters learn: {what}", grouped(count(true)), grouped(count(false)))
}

/// A whole number with a comma before each group of three digits.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::RandomCrop;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn what_is_varied_is_named() {
        let none = "training pictures are the centres of the stored squares, not varied";
        assert_eq!(augmentation(None), none);
        assert_eq!(augmentation(Some(&Augment::default())), none);
        let augment = Augment {
            random_crop: Some(RandomCrop { scale: [0.6, 1.0], ratio: [0.8, 1.25] }),
            flip: true,
            rotate: 10.0,
            ..Augment::default()
        };
        assert_eq!(
            augmentation(Some(&augment)),
            "training pictures are varied by random crops of 60 to 100 % of the stored squares, flips, turns"
        );
    }
}
