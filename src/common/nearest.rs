//! Suggests the known name nearest to a misspelled one ("did you mean").

/// Names that other tools use, with ours.
const SYNONYMS: &[(&str, &str)] = &[
    ("acc", "accuracy"),
    ("accumulate_grad_batches", "gradient_accumulation"),
    ("adam", "adamw"),
    ("arch", "backbone"),
    ("architecture", "backbone"),
    ("augmentation", "augment"),
    ("augmentations", "augment"),
    ("bs", "batch_size"),
    ("clip_grad_norm", "max_grad_norm"),
    ("eps", "epsilon"),
    ("grad_clip", "max_grad_norm"),
    ("hflip", "horizontal_flip"),
    ("image_size", "size"),
    ("img_size", "size"),
    ("imgsz", "size"),
    ("lr", "learning_rate"),
    ("lr_scheduler", "schedule"),
    ("max_epochs", "epochs"),
    ("model", "backbone"),
    ("n_epochs", "epochs"),
    ("num_epochs", "epochs"),
    ("optim", "optimizer"),
    ("random_seed", "seed"),
    ("scheduler", "schedule"),
    ("transforms", "augment"),
    ("val", "validation"),
    ("val_acc", "validation_accuracy"),
    ("val_accuracy", "validation_accuracy"),
    ("val_loss", "validation_loss"),
    ("vflip", "vertical_flip"),
    ("warmup", "warmup_epochs"),
    ("wd", "weight_decay"),
];

/// Our name for what other tools call `wanted`.
pub(crate) fn synonym(wanted: &str) -> Option<&'static str> {
    let wanted = wanted.to_lowercase().replace('-', "_");
    SYNONYMS.iter().find(|(theirs, _)| *theirs == wanted).map(|(_, ours)| *ours)
}

/// Our name for what other tools call `wanted`; else the nearest name by edit distance (ignoring
/// case, and `-` for `_`), if at most a third of the characters differ; else the only name that is a
/// prefix of `wanted` or has it as a prefix.
pub(crate) fn nearest<'a>(
    wanted: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    let ours = synonym(wanted);
    let wanted = plain(wanted);
    let length = wanted.chars().count();
    let names: Vec<(&str, String)> = names.into_iter().map(|name| (name, plain(name))).collect();
    if let Some((name, _)) = names.iter().find(|(name, _)| ours == Some(*name)) {
        return Some(name);
    }
    let near = names.iter().filter_map(|(name, plain)| {
        let distance = strsim::damerau_levenshtein(&wanted, plain);
        let longest = length.max(plain.chars().count());
        let allowed = (longest / 3).max(1).min(longest.saturating_sub(1));
        (distance <= allowed).then_some((distance, *name))
    });
    if let Some((_, name)) = near.min() {
        return Some(name);
    }
    let begins = |plain: &str| {
        length >= 3 && plain.len() >= 3 && (plain.starts_with(&wanted) || wanted.starts_with(plain))
    };
    let mut alike = names.iter().filter(|(_, plain)| begins(plain)).map(|(name, _)| *name);
    alike.next().filter(|_| alike.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_and_unique_prefixes_are_suggested() {
        let names = ["epochs", "batch_size", "optimizer", "schedule", "seed"];
        for (wanted, name) in [
            ("epoch", Some("epochs")),
            ("Batch-Size", Some("batch_size")),
            ("optimiser", Some("optimizer")),
            ("sched", Some("schedule")),
            ("learning_rate", None),
            ("num_epochs", Some("epochs")),
            ("lr_scheduler", Some("schedule")),
            ("", None),
        ] {
            assert_eq!(nearest(wanted, names), name, "{wanted}");
        }
    }
}
