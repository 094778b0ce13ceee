//! What can be chosen about training: declared for checking, the reference and editors, and the same as types.

use crate::config::{DefaultValue, KeyDecl, Type};
use crate::data::AugmentationPolicy;
use crate::model::Classifier;
use crate::training::{
    BatchNormMode, ClassWeights, EarlyStopping, Freeze, Keep, OptimizerConfig, Options, Precision,
    Sampling, Schedule, Unfreeze,
};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

const SHARE: Type = Type::Number { min: 0.0, max: 1.0 };
const BELOW_ONE: Type = Type::Number { min: 0.0, max: 0.999_999 };
const NOT_NEGATIVE: Type = Type::Number { min: 0.0, max: f64::INFINITY };
const ABOVE_ZERO: Type = Type::Number { min: f64::MIN_POSITIVE, max: f64::INFINITY };
const WIDTH: Type = Type::Integer { min: 1, max: 65_536 };
const LATER: Type = Type::Integer { min: 2, max: 100_000 };

/// Everything that a train stage takes.
pub const PARAMETERS: &[KeyDecl] = &[
    KeyDecl::new(
        "backbone",
        Type::Text,
        DefaultValue::Json("\"resnet18\""),
        "The network that makes features of images, such as `resnet18` or `resnet50` (`pipe backbones` lists them). A version of weights after it (`resnet50/V2`) is passed over.",
    ),
    KeyDecl::new(
        "freeze",
        Type::Text,
        DefaultValue::Absent,
        "What keeps the weights it starts with: `none`, `all` of the backbone, or what lies below a stage of it, such as `layer4`. `all` where `weights` are given, else `none`.",
    ),
    KeyDecl::new(
        "unfreeze_at",
        Type::Either(&[LATER, Type::Map(&LATER)]),
        DefaultValue::Absent,
        "The epoch from which on the whole backbone learns; or a table of stages and epochs: `{ layer4 = 3, layer3 = 6 }` lets the backbone learn from `layer4` on in epoch 3, from `layer3` on in epoch 6.",
    ),
    KeyDecl::new(
        "head",
        Type::Either(&[Type::Choice(&["original"]), Type::Table(HEAD)]),
        DefaultValue::Json("{}"),
        "What turns features into classes: a table, or `\"original\"`: the classifier that the weights came with, for ImageNet's 1,000 classes. Nothing is trained then.",
    ),
    KeyDecl::new(
        "auxiliary",
        Type::Bool,
        DefaultValue::Json("false"),
        "For `inception_v3`: its auxiliary head learns beside the head, and its loss counts 0.4. The model that comes out doesn't hold it.",
    ),
    KeyDecl::new(
        "batch_norm",
        Type::Choice(&["train", "affine", "frozen"]),
        DefaultValue::Absent,
        "In the parts that learn: `train` normalizes with the batch's statistics; `affine` with those the weights came with, scale and shift learn; `frozen` leaves scale and shift as well. `frozen` where the whole backbone is frozen at first, else `train`.",
    ),
    KeyDecl::new(
        "precision",
        Type::Choice(&["f32", "f64"]),
        DefaultValue::Json("\"f32\""),
        "Precision of training: `f32`, or `f64` for numerical comparison, in twice the time and memory.",
    ),
    KeyDecl::new(
        "epochs",
        Type::Integer { min: 1, max: 100_000 },
        DefaultValue::Json("20"),
        "Passes over the training images.",
    ),
    KeyDecl::new(
        "batch_size",
        Type::Integer { min: 1, max: 65_536 },
        DefaultValue::Json("32"),
        "Images a batch. Where there are fewer, each takes all.",
    ),
    KeyDecl::new(
        "accumulate",
        Type::Integer { min: 1, max: 65_536 },
        DefaultValue::Json("1"),
        "Batches whose gradients make one step: as if a batch were so many times larger, in the memory of one. Batch norm still sees single batches.",
    ),
    KeyDecl::new(
        "optimizer",
        Type::Table(OPTIMIZER),
        DefaultValue::Json("{}"),
        "How gradients become steps. Norms and biases don't decay.",
    ),
    KeyDecl::new(
        "schedule",
        Type::Table(SCHEDULE),
        DefaultValue::Json("{}"),
        "How the learning rate changes from step to step.",
    ),
    KeyDecl::new(
        "label_smoothing",
        BELOW_ONE,
        DefaultValue::Json("0"),
        "Share of each label that is spread evenly over all classes. 0.1 is usual against overconfidence.",
    ),
    KeyDecl::new(
        "class_weights",
        Type::Either(&[Type::Choice(&["none", "balanced"]), Type::Map(&ABOVE_ZERO)]),
        DefaultValue::Json("\"none\""),
        "How much a image counts in the loss, by its class: `balanced` counts every class as much as any other, however many images it has (in the train split); or a table of classes and weights, 1 for the others.",
    ),
    KeyDecl::new(
        "sampling",
        Type::Choice(&["shuffled", "balanced"]),
        DefaultValue::Json("\"shuffled\""),
        "Which training images an epoch shows: each once, or as many of every class, those of rare classes several times.",
    ),
    KeyDecl::new(
        "clip_norm",
        ABOVE_ZERO,
        DefaultValue::Absent,
        "Brings the norm of the whole gradient down to this where it is larger. 1 is usual. Not clipped by default.",
    ),
    KeyDecl::new(
        "early_stopping",
        Type::Table(EARLY_STOPPING),
        DefaultValue::Json("{}"),
        "Which epoch counts as the best, by the validation images, and when to stop waiting for a better one.",
    ),
    KeyDecl::new(
        "keep",
        Type::Choice(&["best", "last"]),
        DefaultValue::Json("\"best\""),
        "Which epoch's weights are kept. Without validation images the last one's.",
    ),
    KeyDecl::new(
        "augment",
        Type::Either(&[Type::Choice(&["none"]), Type::Table(AUGMENT)]),
        DefaultValue::Absent,
        "How training images are varied: `\"none\"` or a table. `none` where the whole backbone is frozen for good, else random crops (60 to 100 % of the area) and flips. Set `flip = false` where left and right tell classes apart.",
    ),
    KeyDecl::new(
        "checkpoint",
        Type::Table(CHECKPOINT),
        DefaultValue::Json("{}"),
        "What an interrupted training goes on from.",
    )
    .execution(),
];

const HEAD: &[KeyDecl] = &[
    KeyDecl::new(
        "hidden",
        Type::List(&WIDTH),
        DefaultValue::Json("[]"),
        "Widths of hidden layers between features and classes. None by default: a linear classifier.",
    ),
    KeyDecl::new(
        "dropout",
        BELOW_ONE,
        DefaultValue::Json("0"),
        "Probability of dropout after each hidden layer, or on the features where there is none.",
    ),
];

const OPTIMIZER: &[KeyDecl] = &[
    KeyDecl::new(
        "kind",
        Type::Choice(&["adamw", "sgd"]),
        DefaultValue::Json("\"adamw\""),
        "`adamw` (decoupled decay) or `sgd` (with momentum).",
    ),
    KeyDecl::new(
        "learning_rate",
        ABOVE_ZERO,
        DefaultValue::Absent,
        "The learning rate at its highest. 1e-3 for `adamw`, 1e-2 for `sgd`.",
    ),
    KeyDecl::new(
        "backbone_learning_rate",
        ABOVE_ZERO,
        DefaultValue::Absent,
        "The backbone's learning rate at its highest. A tenth of `learning_rate` where `weights` are given, else the same.",
    ),
    KeyDecl::new(
        "layer_decay",
        Type::Number { min: 1e-3, max: 1.0 },
        DefaultValue::Json("1"),
        "Each stage of the backbone takes this share of the learning rate of the stage above it: what is nearer to the images is more general, and changes less. 0.75 is usual.",
    ),
    KeyDecl::new(
        "weight_decay",
        NOT_NEGATIVE,
        DefaultValue::Absent,
        "Decay of weights. 1e-2 for `adamw`, 1e-4 for `sgd`.",
    ),
    KeyDecl::new("momentum", BELOW_ONE, DefaultValue::Json("0.9"), "For `sgd`."),
    KeyDecl::new(
        "nesterov",
        Type::Bool,
        DefaultValue::Json("false"),
        "For `sgd`: Nesterov's momentum.",
    ),
    KeyDecl::new(
        "betas",
        Type::List(&BELOW_ONE),
        DefaultValue::Json("[0.9, 0.999]"),
        "For `adamw`: how fast both moments forget.",
    ),
    KeyDecl::new(
        "epsilon",
        ABOVE_ZERO,
        DefaultValue::Json("1e-8"),
        "For `adamw`: keeps from dividing by zero.",
    ),
];

const SCHEDULE: &[KeyDecl] = &[
    KeyDecl::new(
        "kind",
        Type::Choice(&["cosine", "constant"]),
        DefaultValue::Json("\"cosine\""),
        "The curve after the warm-up: down half a cosine wave, or level.",
    ),
    KeyDecl::new(
        "warm_up",
        NOT_NEGATIVE,
        DefaultValue::Absent,
        "Epochs, or parts of one, in which the rate grows evenly to its height. 1, and no more than a fifth of all.",
    ),
    KeyDecl::new(
        "floor",
        SHARE,
        DefaultValue::Json("0"),
        "Where the cosine ends, as a share of the height.",
    ),
];

const EARLY_STOPPING: &[KeyDecl] = &[
    KeyDecl::new(
        "monitor",
        Type::Choice(&["validation_loss", "validation_accuracy"]),
        DefaultValue::Json("\"validation_loss\""),
        "The measure that is looked at after each epoch.",
    ),
    KeyDecl::new(
        "mode",
        Type::Choice(&["min", "max"]),
        DefaultValue::Absent,
        "Whether less or more of it is better. Follows from `monitor`.",
    ),
    KeyDecl::new(
        "patience",
        Type::Integer { min: 1, max: 100_000 },
        DefaultValue::Absent,
        "Epochs without improvement after which training stops. Never by default.",
    ),
    KeyDecl::new(
        "min_delta",
        NOT_NEGATIVE,
        DefaultValue::Json("0"),
        "For `patience`, only a change larger than this is an improvement.",
    ),
];

const AUGMENT: &[KeyDecl] = &[
    KeyDecl::new(
        "random_crop",
        Type::Table(RANDOM_CROP),
        DefaultValue::Absent,
        "A random part of the stored square in place of its center.",
    ),
    KeyDecl::new(
        "flip",
        Type::Bool,
        DefaultValue::Json("false"),
        "Mirrors left and right, half of the time.",
    ),
    KeyDecl::new(
        "rotate",
        Type::Number { min: 0.0, max: 180.0 },
        DefaultValue::Json("0"),
        "Largest turn to either side, in degrees.",
    ),
    KeyDecl::new(
        "shift",
        SHARE,
        DefaultValue::Json("0"),
        "Largest shift along each side, as a share of it.",
    ),
    KeyDecl::new(
        "zoom",
        SHARE,
        DefaultValue::Json("0"),
        "Largest change of size: 0.1 is a tenth either way.",
    ),
    KeyDecl::new(
        "brightness",
        SHARE,
        DefaultValue::Json("0"),
        "Largest change of brightness, as a factor either way.",
    ),
    KeyDecl::new(
        "contrast",
        SHARE,
        DefaultValue::Json("0"),
        "Largest change of contrast, as a factor either way.",
    ),
    KeyDecl::new(
        "saturation",
        SHARE,
        DefaultValue::Json("0"),
        "Largest change of saturation, as a factor either way.",
    ),
    KeyDecl::new(
        "erase",
        SHARE,
        DefaultValue::Json("0"),
        "Probability that a patch of the image is blanked.",
    ),
    KeyDecl::new(
        "copies",
        Type::Integer { min: 1, max: 1_000 },
        DefaultValue::Absent,
        "In how many ways each image is varied: epoch e shows the way e modulo this. With a frozen backbone its features are then computed once for each way. Anew in every epoch by default.",
    ),
];

const RANDOM_CROP: &[KeyDecl] = &[
    KeyDecl::new(
        "scale",
        Type::List(&SHARE),
        DefaultValue::Json("[0.6, 1.0]"),
        "Share of the stored square's area: from, to.",
    ),
    KeyDecl::new(
        "ratio",
        Type::List(&ABOVE_ZERO),
        DefaultValue::Json("[0.8, 1.25]"),
        "Width over height: from, to.",
    ),
];

const CHECKPOINT: &[KeyDecl] = &[KeyDecl::new(
    "every",
    NOT_NEGATIVE,
    DefaultValue::Json("30"),
    "Least seconds between two checkpoints. One is also kept when training is cancelled.",
)
.execution()];

/// The default augmentation: a random crop by its own defaults, and flips.
pub const DEFAULT_AUGMENT: &str =
    r#"{"random_crop": {"scale": [0.6, 1.0], "ratio": [0.8, 1.25]}, "flip": true}"#;

/// The parameters, resolved.
#[derive(Debug, Deserialize)]
pub struct Parameters {
    pub backbone: String,
    pub head: Classifier,
    pub auxiliary: bool,
    pub checkpoint: Checkpoint,
    freeze: Freeze,
    #[serde(default)]
    unfreeze_at: Option<UnfreezeAt>,
    batch_norm: BatchNormMode,
    precision: Precision,
    epochs: u64,
    batch_size: usize,
    accumulate: usize,
    class_weights: Weighting,
    sampling: Sampling,
    optimizer: OptimizerConfig,
    schedule: Schedule,
    label_smoothing: f64,
    clip_norm: Option<f64>,
    early_stopping: EarlyStopping,
    keep: Keep,
    #[serde(deserialize_with = "variation")]
    augment: Option<AugmentationPolicy>,
}

/// An epoch, or one for each of some stages.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum UnfreezeAt {
    Epoch(u64),
    Stages(BTreeMap<String, u64>),
}

impl UnfreezeAt {
    /// What thaws, in the order of epochs.
    pub fn list(&self) -> Vec<Unfreeze> {
        let mut list: Vec<Unfreeze> = match self {
            UnfreezeAt::Epoch(epoch) => vec![Unfreeze { epoch: *epoch, freeze: Freeze::None }],
            UnfreezeAt::Stages(stages) => stages
                .iter()
                .map(|(stage, &epoch)| Unfreeze { epoch, freeze: Freeze::Below(stage.clone()) })
                .collect(),
        };
        list.sort_by_key(|entry| entry.epoch);
        list
    }
}

/// A word, or weights by class.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Weighting {
    Word(String),
    Given(BTreeMap<String, f64>),
}

impl From<Weighting> for ClassWeights {
    fn from(weighting: Weighting) -> ClassWeights {
        match weighting {
            Weighting::Word(word) if word == "balanced" => ClassWeights::Balanced,
            Weighting::Word(_) => ClassWeights::None,
            Weighting::Given(weights) => ClassWeights::Given(weights),
        }
    }
}

/// When checkpoints are kept.
#[derive(Debug, Deserialize)]
pub struct Checkpoint {
    /// Least seconds between two.
    pub every: f64,
}

/// The word "none", or a table.
fn variation<'de, D: Deserializer<'de>>(from: D) -> Result<Option<AugmentationPolicy>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    if value.is_string() {
        Ok(None)
    } else {
        AugmentationPolicy::deserialize(value).map(Some).map_err(D::Error::custom)
    }
}

impl Parameters {
    /// What the training itself needs to know of them.
    pub fn options(&self) -> Options {
        Options {
            epochs: self.epochs,
            batch_size: self.batch_size,
            accumulate: self.accumulate,
            optimizer: self.optimizer.clone(),
            schedule: self.schedule.clone(),
            label_smoothing: self.label_smoothing,
            clip_norm: self.clip_norm,
            class_weights: self.class_weights.clone().into(),
            sampling: self.sampling,
            early_stopping: self.early_stopping.clone(),
            keep: self.keep,
            augment: self.augment.clone().filter(|augment| !augment.is_none()),
            freeze: self.freeze.clone(),
            unfreeze: self.unfreeze_at.as_ref().map(UnfreezeAt::list).unwrap_or_default(),
            batch_norm: self.batch_norm,
            precision: self.precision,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declared_defaults_are_of_the_declared_types() {
        assert_eq!(crate::config::audit(PARAMETERS), Vec::<String>::new());
    }
}
