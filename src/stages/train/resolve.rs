//! Defaults of a `train` stage that depend on other keys, and rules across keys. The keys
//! themselves are declared with [`Options`].

use super::Train;
use super::start::published_backbone;
use crate::common::nearest;
use crate::common::words::or_list;
use crate::config::{Choice, Key, KeyType, WordOr, unset};
use crate::data::{
    AugmentationPolicy, GivenAugmentationPolicy, GivenGaussianBlur, RandomResizedCrop,
};
use crate::engine::{Feed, Resolver};
use crate::nn::weights::registry;
use crate::nn::{self, BackboneInfo, Head};
use crate::stages::needs::{self, Contents};
use crate::stages::preprocess::Preprocess;
use crate::training::{
    BatchNormMode, ClassWeights, Freeze, NoAugmentation, OptimizerKind, Options, Sampling,
    ScheduleKind, TrainKeys,
};

/// Fills in what depends on other keys, and reports keys that contradict each other or have no
/// effect.
pub(super) fn resolve(mut keys: TrainKeys, resolver: &mut Resolver) -> Option<Options> {
    needs::check(Contents::Weights, "weights", resolver);
    let weights = resolver.input("weights");
    let backbone = backbone(&mut keys, resolver)?;
    if let Some(feed) = weights {
        check_weights(&keys, backbone, feed, resolver);
    }
    input_size(&keys, backbone, resolver);
    // Weights whose own stage has errors are weights.
    let has_weights = resolver.is_fed("weights");
    let frozen = freeze(&mut keys, backbone, has_weights, resolver);
    let frozen = unfreeze(&mut keys, backbone, frozen, resolver);
    batch_norm(&mut keys, frozen, has_weights, resolver);
    optimizer(&mut keys, frozen, has_weights, resolver);
    schedule(&mut keys, resolver);
    class_balance(&keys, resolver);
    early_stopping(&keys, resolver);
    augment(&mut keys, frozen, resolver);
    head(&keys, frozen, weights, resolver);
    aux_logits(&keys, backbone, frozen, resolver);
    resolver.is_clean().then(|| Options::resolved(keys))
}

/// How much of the backbone is frozen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Frozen {
    Nothing,
    Part,
    /// All of it at first, and less later.
    AtFirst,
    All,
}

const NO_EFFECT: &str = "has no effect";
const FREEZE_LESS: &str = "leave it out, or freeze less of the backbone";

/// The backbone by name; a name of weights is reduced to the network that they are for.
fn backbone(keys: &mut TrainKeys, resolver: &mut Resolver) -> Option<&'static BackboneInfo> {
    let given = keys.backbone.to_string();
    let name = given.split_once('/').map_or(given.as_str(), |(name, _)| name);
    let Some(info) = nn::backbone(name) else {
        let names: Vec<&str> = nn::backbones().iter().map(|info| info.name).collect();
        let help = match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("expected one of {}", names.join(", ")),
        };
        let diagnostic = keys.backbone.error(format!("there is no backbone named `{given}`"));
        resolver.report(diagnostic.label("not known").help(help));
        return None;
    };
    if given != name && registry::preset(&given).is_err() {
        let diagnostic = keys.backbone.error(format!("there are no weights named `{given}`"));
        let help = format!(
            "write `{name}`: the stage that feeds `weights` says which weights to start from"
        );
        resolver.report(diagnostic.label("not known").help(help));
    }
    keys.backbone.set(info.name.to_owned());
    Some(info)
}

/// Weights to start from must be of the same network, as far as that is known before they are
/// fetched.
fn check_weights(keys: &TrainKeys, backbone: &BackboneInfo, feed: Feed, resolver: &mut Resolver) {
    let trained = feed.resolved(&Train).map(|options| options.backbone);
    let (other, does) = match (trained, published_backbone(feed)) {
        (Some(other), _) => (other, "trains a"),
        (None, Some(other)) => (other.to_owned(), "fetches weights of"),
        (None, None) => return,
    };
    if other == backbone.name {
        return;
    }
    let message =
        format!("the stage `{}` {does} {other}, but the backbone is {}", feed.stage, backbone.name);
    let help = format!("set `backbone = \"{other}\"`, or feed weights of {}", backbone.name);
    let diagnostic = keys.backbone.error(message);
    resolver.report(diagnostic.label(format!("expected `{other}`")).help(help));
}

/// The backbone must fit images of the size that feeds it, as far as that is known: some weights
/// say it only once they are fetched.
fn input_size(keys: &TrainKeys, backbone: &BackboneInfo, resolver: &mut Resolver) {
    let Some(feed) = resolver.input("data") else { return };
    let Some(side) = feed.resolved(&Preprocess).and_then(|options| options.crop) else { return };
    let head = Head::Dense { hidden: Vec::new(), dropout: 0.0, classes: 2 };
    let build = |side: u32| {
        let size = (side as usize, side as usize);
        match *keys.aux_logits && backbone.has_auxiliary() {
            true => backbone.graph_with_auxiliary(&head, size),
            false => backbone.graph(&head, size),
        }
    };
    if build(side).is_ok() {
        return;
    }
    let smallest = (side..=backbone.input_size as u32).find(|side| build(*side).is_ok());
    let message = format!("images of {side} x {side} pixels are too small for {}", backbone.name);
    let help = match smallest {
        Some(smallest) => format!(
            "set `size` of the stage `{}` to {smallest} or more; {} was published for {}",
            feed.stage, backbone.name, backbone.input_size
        ),
        None => format!("set another `size` of the stage `{}`", feed.stage),
    };
    resolver.report(keys.backbone.error(message).label("needs larger images").help(help));
}

fn freeze(
    keys: &mut TrainKeys,
    backbone: &BackboneInfo,
    has_weights: bool,
    resolver: &mut Resolver,
) -> Frozen {
    let default = if has_weights { Freeze::All } else { Freeze::None };
    let freeze = keys.freeze.get_or_insert(Key::computed(default));
    if !has_weights && **freeze != Freeze::None {
        let diagnostic =
            freeze.error("without weights to start from, the frozen part would stay random");
        let help = "feed `weights`, such as those of a fetch stage with `source = \"torchvision:resnet18\"`, or leave `freeze` out";
        resolver.report(diagnostic.label("needs `weights`").help(help.to_owned()));
    }
    match &**freeze {
        Freeze::None => Frozen::Nothing,
        Freeze::All => Frozen::All,
        Freeze::Below(group) if backbone.layer_groups.contains(&group.as_str()) => Frozen::Part,
        Freeze::Below(other) => {
            let words = || ["none", "all"].into_iter().chain(backbone.layer_groups.iter().copied());
            let help = nearest(other, words()).map(|near| format!("did you mean `{near}`?"));
            let message = format!("{} has no layer group `{other}` to freeze", backbone.name);
            let label = format!("expected {}", or_list(words()));
            resolver.report(freeze.error(message).label(label).help(help));
            Frozen::Part
        }
    }
}

/// Checks that the groups exist and that each entry leaves less frozen than the one before.
fn unfreeze(
    keys: &mut TrainKeys,
    backbone: &BackboneInfo,
    frozen: Frozen,
    resolver: &mut Resolver,
) -> Frozen {
    let Some(given) = &keys.unfreeze_at else { return frozen };
    let list = given.list();
    if list.is_empty() {
        keys.unfreeze_at = None;
        return frozen;
    }
    let mut report = |message: String, label: &str, help: String| {
        resolver.report(given.error(message).label(label).help(help));
    };
    if frozen == Frozen::Nothing {
        let help = "leave `unfreeze_at` out, or set `freeze = \"all\"`".to_owned();
        report("nothing is frozen, so there is nothing to unfreeze".to_owned(), NO_EFFECT, help);
    }
    let top = backbone.layer_groups.len();
    let position = |freeze: &Freeze| match freeze {
        Freeze::None => Some(0),
        Freeze::All => Some(top),
        Freeze::Below(group) => backbone.layer_groups.iter().position(|name| name == group),
    };
    let mut frozen_below = keys.freeze.as_deref().and_then(position).unwrap_or(top);
    let epochs = *keys.epochs;
    for entry in list {
        let group = String::from(entry.freeze.clone());
        let Some(at) = position(&entry.freeze) else {
            let message = format!("{} has no layer group `{group}` to unfreeze", backbone.name);
            let help = format!("expected {}", or_list(backbone.layer_groups.iter().copied()));
            report(message, "not a layer group", help);
            continue;
        };
        if at >= frozen_below && frozen != Frozen::Nothing {
            let message = format!("`{group}` is trainable before epoch {} already", entry.epoch);
            let help = "later epochs unfreeze lower groups, such as `{ layer4 = 3, layer3 = 6 }`";
            report(message, NO_EFFECT, help.to_owned());
        }
        if entry.epoch > epochs {
            let message =
                format!("there are only {epochs} epochs, so epoch {} never comes", entry.epoch);
            report(message, NO_EFFECT, "raise `epochs`, or unfreeze earlier".to_owned());
        }
        frozen_below = at;
    }
    if frozen == Frozen::All { Frozen::AtFirst } else { frozen }
}

fn batch_norm(keys: &mut TrainKeys, frozen: Frozen, has_weights: bool, resolver: &mut Resolver) {
    // Where a backbone is unfrozen late, the statistics of small batches would undo the pretrained
    // ones at once.
    let default = match frozen {
        Frozen::All | Frozen::AtFirst => BatchNormMode::Frozen,
        Frozen::Nothing | Frozen::Part => BatchNormMode::Train,
    };
    let given = keys.batch_norm.get_or_insert(Key::computed(default));
    let word = given.word();
    if frozen == Frozen::All && **given != BatchNormMode::Frozen {
        let message = format!(
            "`batch_norm = \"{word}\"` is for trainable parts, and the whole backbone is frozen"
        );
        resolver
            .report(given.error(message).label("expected `frozen`").help(FREEZE_LESS.to_owned()));
    } else if frozen == Frozen::Nothing && **given != BatchNormMode::Train && !has_weights {
        let message = format!(
            "`batch_norm = \"{word}\"` needs the running statistics of weights, and no weights are given"
        );
        let help = "leave `batch_norm` out, or feed `weights`".to_owned();
        resolver.report(given.error(message).label("expected `train`").help(help));
    }
}

fn optimizer(keys: &mut TrainKeys, frozen: Frozen, has_weights: bool, resolver: &mut Resolver) {
    let given = &mut keys.optimizer;
    let kind = *given.kind;
    let (rate, decay) = match kind {
        OptimizerKind::Sgd => (1e-2, 1e-4),
        OptimizerKind::Adamw => (1e-3, 1e-2),
    };
    let rate = **given.learning_rate.get_or_insert(Key::computed(rate));
    given.weight_decay.get_or_insert(Key::computed(decay));
    if frozen == Frozen::All {
        let backbone_rate = given.backbone_learning_rate.as_ref();
        let decay = Some(&given.layer_decay).filter(|decay| ***decay != 1.0);
        for (name, key) in [("backbone_learning_rate", backbone_rate), ("layer_decay", decay)] {
            if let Some(key) = key {
                let message =
                    format!("`{name}` is for a trainable backbone, and all of it is frozen");
                resolver.report(key.error(message).label(NO_EFFECT).help(FREEZE_LESS.to_owned()));
            }
        }
    } else if has_weights {
        given.backbone_learning_rate.get_or_insert(Key::computed(rate / 10.0));
    }
    check_rule(keys, kind, resolver);
}

/// Hyperparameters of the other update rule have no effect.
fn check_rule(keys: &TrainKeys, kind: OptimizerKind, resolver: &mut Resolver) {
    let given = &keys.optimizer;
    let (other, unused) = match kind {
        OptimizerKind::Sgd => (
            OptimizerKind::Adamw,
            vec![("betas", given.betas.handle()), ("epsilon", given.epsilon.handle())],
        ),
        OptimizerKind::Adamw => (OptimizerKind::Sgd, vec![("momentum", given.momentum.handle())]),
    };
    for (name, handle) in unused.into_iter().filter(|(_, handle)| handle.is_given()) {
        let message =
            format!("`{name}` is for `{}`, and the optimizer is `{}`", other.word(), kind.word());
        let help = format!("leave it out, or set `kind = \"{}\"`", other.word());
        resolver.report(handle.error(message).label(NO_EFFECT).help(help));
    }
    if *given.nesterov && (kind != OptimizerKind::Sgd || *given.momentum == 0.0) {
        let diagnostic =
            given.nesterov.error("Nesterov momentum is for `sgd` with a momentum above 0");
        resolver
            .report(diagnostic.label("needs momentum").help("such as `momentum = 0.9`".to_owned()));
    }
}

/// One epoch of warm-up, but at most a fifth of a short training.
fn schedule(keys: &mut TrainKeys, resolver: &mut Resolver) {
    let warmup = (*keys.epochs as f64 / 5.0).min(1.0);
    keys.schedule.warmup_epochs.get_or_insert(Key::computed(warmup));
    let ratio = &keys.schedule.min_learning_rate_ratio;
    if *keys.schedule.kind == ScheduleKind::Constant && ratio.is_given() {
        let diagnostic = ratio.error("a constant learning rate has no minimum");
        let help = "leave it out, or set `kind = \"cosine\"`".to_owned();
        resolver.report(diagnostic.label(NO_EFFECT).help(help));
    }
}

fn class_balance(keys: &TrainKeys, resolver: &mut Resolver) {
    if *keys.class_weights == ClassWeights::Balanced && *keys.sampling == Sampling::Balanced {
        let message = "`class_weights` and `sampling` both balance the classes: rare ones would count twice over";
        let label = "beside `class_weights = \"balanced\"`";
        let help = "leave one of them out".to_owned();
        resolver.report(keys.sampling.error(message).label(label).help(help));
    }
}

/// The published classifier needs its weights, and keeps them.
fn head(keys: &TrainKeys, frozen: Frozen, weights: Option<Feed>, resolver: &mut Resolver) {
    let WordOr::Word(head) = &keys.head else { return };
    let Some(feed) = weights else {
        let diagnostic =
            head.error("the original classifier comes with weights, and none are given");
        let help = "feed `weights`, such as those of a fetch stage with `source = \"torchvision:resnet50\"`";
        resolver.report(diagnostic.label("needs `weights`").help(help.to_owned()));
        return;
    };
    if let Some(options) = feed.resolved(&Train)
        && options.head.as_table().is_some()
    {
        let message = format!(
            "the stage `{}` trains a head of its own instead of the published classifier",
            feed.stage
        );
        let help = "leave `head` out, or feed published weights".to_owned();
        resolver.report(head.error(message).label("isn't there").help(help));
    }
    if frozen != Frozen::All {
        let message =
            "with the original classifier nothing is trained, so the whole backbone is frozen";
        let diagnostic = match &keys.freeze {
            Some(freeze) => freeze.error(message),
            None => head.error(message),
        };
        let help = "leave `freeze` and `unfreeze_at` out".to_owned();
        resolver.report(diagnostic.label("expected `all`").help(help));
    }
}

fn aux_logits(keys: &TrainKeys, backbone: &BackboneInfo, frozen: Frozen, resolver: &mut Resolver) {
    if !*keys.aux_logits {
        return;
    }
    let (message, help) = if !backbone.has_auxiliary() {
        let with = nn::backbones().iter().filter(|info| info.has_auxiliary());
        let names = or_list(with.map(|info| info.name));
        (
            format!("{} has no auxiliary head", backbone.name),
            format!("leave `aux_logits` out, or use {names}"),
        )
    } else if frozen == Frozen::All {
        (
            "an auxiliary head helps to train a backbone, and all of it is frozen".to_owned(),
            FREEZE_LESS.to_owned(),
        )
    } else {
        return;
    };
    resolver.report(keys.aux_logits.error(message).label(NO_EFFECT).help(help));
}

fn early_stopping(keys: &TrainKeys, resolver: &mut Resolver) {
    let given = &keys.early_stopping;
    match &given.patience {
        None if given.min_delta.is_given() => {
            let help = "set `patience` too, such as 5, or leave it out".to_owned();
            let diagnostic = given.min_delta.error("`min_delta` is for `patience`");
            resolver.report(diagnostic.label(NO_EFFECT).help(help));
        }
        Some(patience) if validates_nothing(resolver) => {
            let help = "set `dataset.split.validation` above 0, or leave `patience` out".to_owned();
            let diagnostic = patience.error("there are no validation images");
            resolver.report(diagnostic.label("waits for nothing").help(help));
        }
        _ => {}
    }
}

/// Whether the split of the stage that feeds `data` leaves no images for validation.
fn validates_nothing(resolver: &Resolver) -> bool {
    let feed = resolver.input("data");
    feed.and_then(|feed| feed.resolved(&Preprocess))
        .is_some_and(|options| options.dataset.split.validation == 0.0)
}

fn augment(keys: &mut TrainKeys, frozen: Frozen, resolver: &mut Resolver) {
    let augment = keys.augment.get_or_insert_with(|| default_augmentation(frozen));
    let WordOr::Table(table) = augment else { return };
    check_mixing(table, resolver);
    let policy = AugmentationPolicy::resolved(table.clone());
    if policy.is_none() && !policy.mixes(1) {
        if let Some(views) = &table.views {
            let help = "set an augmentation, such as `horizontal_flip = true`, or leave it out";
            let diagnostic = views.error("all views are the same without augmentation");
            resolver.report(diagnostic.label(NO_EFFECT).help(help.to_owned()));
        }
        *augment = WordOr::Word(Key::computed(NoAugmentation::None));
        return;
    }
    check_ranges(table, resolver);
    if let Some(blur) = &table.gaussian_blur {
        check_blur(blur, resolver);
    }
}

/// Reports keys that have no effect or contradict the caching of features.
fn check_mixing(table: &GivenAugmentationPolicy, resolver: &mut Resolver) {
    let mixes = *table.mixup > 0.0 || *table.cutmix > 0.0;
    if let Some(off) = table.mix_off_epoch.as_ref().filter(|_| !mixes) {
        let diagnostic = off.error("nothing is mixed").label(NO_EFFECT);
        resolver.report(diagnostic.help("set `mixup` or `cutmix`, or leave it out".to_owned()));
    }
    if let Some(views) = table.views.as_ref().filter(|_| mixes) {
        let diagnostic = views.error("mixed images are different in every epoch");
        let help = "leave `views` out, or `mixup` and `cutmix`";
        resolver.report(diagnostic.label(NO_EFFECT).help(help.to_owned()));
    }
}

fn check_blur(blur: &GivenGaussianBlur, resolver: &mut Resolver) {
    if blur.kernel_size.is_multiple_of(2) {
        let diagnostic = blur.kernel_size.error("a kernel has an odd number of taps");
        let help = format!("such as {}", *blur.kernel_size + 1);
        resolver.report(diagnostic.label("expected an odd number").help(help));
    }
    if blur.sigma[0] > blur.sigma[1] {
        let diagnostic = blur.sigma.error("`sigma` is a range: the smaller number first");
        resolver
            .report(diagnostic.label("expected [from, to]").help("such as [0.1, 2.0]".to_owned()));
    }
}

/// None for a backbone that stays frozen, so that its features are computed once; else milder crops
/// than torchvision's, which suit long trainings on a million images.
fn default_augmentation(frozen: Frozen) -> WordOr<Key<NoAugmentation>, GivenAugmentationPolicy> {
    if frozen == Frozen::All {
        return WordOr::Word(Key::computed(NoAugmentation::None));
    }
    let mut mild = unset::<AugmentationPolicy>();
    let mut crop = unset::<RandomResizedCrop>();
    crop.scale.set([0.6, 1.0]);
    mild.random_resized_crop = Some(crop);
    mild.horizontal_flip.set(true);
    WordOr::Table(mild)
}

fn check_ranges(table: &GivenAugmentationPolicy, resolver: &mut Resolver) {
    let crop = table.random_resized_crop.iter();
    let crop = crop.flat_map(|crop| [("scale", &crop.scale), ("ratio", &crop.ratio)]);
    let erasing = table.random_erasing.iter();
    let erasing =
        erasing.flat_map(|erasing| [("scale", &erasing.scale), ("ratio", &erasing.ratio)]);
    let affine = table.random_affine.iter().map(|affine| ("scale", &affine.scale));
    for (name, key) in crop.chain(erasing).chain(affine) {
        let [low, high] = **key;
        if !(0.0 < low && low <= high) {
            let message =
                format!("`{name}` is a range: two numbers above 0, the smaller one first");
            let diagnostic = key.error(message).label("expected [from, to]");
            resolver.report(diagnostic.help("such as [0.6, 1.0]".to_owned()));
        }
    }
}
