//! What can be chosen about training, as typed values. Their defaults, ranges and docs are declared by the stage `train`;
//! here every value is there and within its range.

use crate::data::AugmentationPolicy;
use crate::nn::{AUXILIARY, Role};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The stage that follows the backbone: its parameters are the head's.
pub const HEAD: &str = "head";

/// Whether a stage of the network is a head: new with the classes, and never frozen.
pub fn is_head(stage: &str) -> bool {
    stage == HEAD || stage == AUXILIARY
}

/// Everything that decides which weights come out, given the data, the network and the seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Passes over the training split, from 1.
    pub epochs: u64,
    /// Images a batch, from 1; no more than there are.
    pub batch_size: usize,
    /// Batches whose gradients make one step, from 1.
    pub accumulate: usize,
    /// How gradients become steps.
    pub optimizer: OptimizerConfig,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// Share of each target that is spread evenly over all classes, 0 to below 1 (Szegedy et al., 2016).
    pub label_smoothing: f64,
    /// The gradient's global norm is brought down to this where it is larger.
    pub clip_norm: Option<f64>,
    /// How much a image of each class counts.
    pub class_weights: ClassWeights,
    /// Which images an epoch shows.
    pub sampling: Sampling,
    /// Which epoch counts as the best, and when to stop waiting for a better one.
    pub early_stopping: EarlyStopping,
    /// Which epoch's weights are the result.
    pub keep: Keep,
    /// How training images are varied; not at all where there is none.
    pub augment: Option<AugmentationPolicy>,
    /// What of the backbone keeps its weights, at first.
    pub freeze: Freeze,
    /// What thaws later, by epoch: each entry freezes less than the one before.
    pub unfreeze: Vec<Unfreeze>,
    /// What batch norm does.
    pub batch_norm: BatchNormMode,
    /// Precision of training steps.
    pub precision: Precision,
}

/// How gradients become steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimizerConfig {
    /// The rule.
    pub kind: OptimizerKind,
    /// The head's learning rate at its highest.
    pub learning_rate: f64,
    /// The backbone's, where it differs.
    pub backbone_learning_rate: Option<f64>,
    /// Each stage of the backbone takes this share of the rate of the stage above it; the topmost takes the backbone's.
    pub layer_decay: f64,
    /// Decay of weights (not of norms and biases): decoupled for AdamW (Loshchilov and Hutter, 2019), added to the gradient
    /// for SGD, as PyTorch does.
    pub weight_decay: f64,
    /// SGD's momentum, 0 to below 1.
    pub momentum: f64,
    /// SGD's momentum is Nesterov's.
    pub nesterov: bool,
    /// AdamW's decay rates of both moments.
    pub betas: [f64; 2],
    /// AdamW's term against division by zero.
    pub epsilon: f64,
}

/// An update rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// Adam with decoupled weight decay.
    Adamw,
    /// Stochastic gradient descent.
    Sgd,
}

/// How the learning rate changes from step to step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The curve after the warm-up.
    pub kind: ScheduleKind,
    /// Epochs (or parts of one) in which the rate grows evenly to its height; as many as there are at most.
    pub warm_up: f64,
    /// Where the cosine ends, as a share of the height.
    pub floor: f64,
}

/// A curve of the learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Half a cosine wave down to the floor (Loshchilov and Hutter, 2017, without restarts).
    Cosine,
    /// Always the same.
    Constant,
}

/// Which epoch counts as the best, and when to stop waiting for a better one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopping {
    /// What is looked at after each epoch.
    pub monitor: Monitor,
    /// Whether it should fall or rise; by its nature where none is given.
    pub mode: Option<Mode>,
    /// Epochs without improvement after which training stops; never where there is none.
    pub patience: Option<u64>,
    /// What is an improvement only if larger than this.
    pub min_delta: f64,
}

/// A measure taken on the validation split after each epoch; named as its column in `history.csv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Monitor {
    /// Mean cross-entropy.
    ValidationLoss,
    /// Share of images classified rightly.
    ValidationAccuracy,
}

/// The good direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Less is better.
    Min,
    /// More is better.
    Max,
}

/// Which epoch's weights are the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The best epoch's by the monitored measure; the last one's without a validation split.
    Best,
    /// The last epoch's.
    Last,
}

/// What of the backbone keeps the weights it starts with. Written as one word: "all", "none" or a stage of the backbone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Freeze {
    /// Nothing.
    None,
    /// Everything but the head.
    All,
    /// Everything before this stage of the backbone.
    Below(String),
}

impl From<String> for Freeze {
    fn from(word: String) -> Freeze {
        match word.as_str() {
            "none" => Freeze::None,
            "all" => Freeze::All,
            _ => Freeze::Below(word),
        }
    }
}

impl From<Freeze> for String {
    fn from(freeze: Freeze) -> String {
        match freeze {
            Freeze::None => "none".to_owned(),
            Freeze::All => "all".to_owned(),
            Freeze::Below(stage) => stage,
        }
    }
}

impl Freeze {
    /// Whether a stage of the network is frozen, given all of them from the images on. The head never is.
    pub fn holds(&self, stage: &str, stages: &[String]) -> bool {
        let place = |wanted: &str| stages.iter().position(|name| name == wanted);
        match self {
            _ if is_head(stage) => false,
            Freeze::None => false,
            Freeze::All => true,
            Freeze::Below(first) => place(stage) < place(first),
        }
    }
}

/// From an epoch on, less is frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfreeze {
    /// The first epoch, from 2, in which it holds.
    pub epoch: u64,
    /// What is frozen from then on.
    pub freeze: Freeze,
}

/// How much a image of each class counts in the loss, against others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeights {
    /// All the same.
    None,
    /// Each class counts as much as any other, however many images it has: n / (classes * n of the class), over the train
    /// split.
    Balanced,
    /// By the classes' names; 1 for those that aren't named.
    Given(BTreeMap<String, f64>),
}

/// Which images an epoch shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// Each once, in random order.
    Shuffled,
    /// As many in all, but as many of each class: images of rare classes come several times, of frequent ones not in every
    /// epoch.
    Balanced,
}

/// Precision of training: of parameters, gradients, activations and the optimizer's state. A model file, features and
/// evaluation are in `f32` after either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// `f32`.
    F32,
    /// `f64`, for numerical comparison.
    F64,
}

/// What batch norm does in the parts of the backbone that learn; in frozen parts it is always [`Frozen`](Self::Frozen).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchNormMode {
    /// Running statistics, and scale and shift as they are.
    Frozen,
    /// Running statistics; scale and shift learn.
    Affine,
    /// The batch's statistics, which the running ones follow; scale and shift learn.
    Train,
}

impl Options {
    /// What is frozen in an epoch.
    pub fn freeze_at(&self, epoch: u64) -> &Freeze {
        let reached = self.unfreeze.iter().rev().find(|entry| entry.epoch <= epoch);
        reached.map_or(&self.freeze, |entry| &entry.freeze)
    }

    /// Whether a parameter learns in an epoch, given where it lies and what it is for. Norms of the head and of an
    /// auxiliary one always do.
    pub fn trains(&self, epoch: u64, stage: &str, role: Role, stages: &[String]) -> bool {
        let held = self.freeze_at(epoch).holds(stage, stages);
        let norm = matches!(role, Role::NormWeight | Role::NormBias) && !is_head(stage);
        !(held || (norm && self.batch_norm == BatchNormMode::Frozen))
    }

    /// Whether the whole backbone keeps its weights in an epoch.
    pub fn backbone_frozen(&self, epoch: u64) -> bool {
        *self.freeze_at(epoch) == Freeze::All
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freezing_holds_what_lies_below_and_never_the_head() {
        let stages = ["conv1", "layer1", "layer2", HEAD].map(str::to_owned);
        let held = |freeze: Freeze| -> Vec<bool> {
            stages.iter().map(|stage| freeze.holds(stage, &stages)).collect()
        };
        assert_eq!(held(Freeze::None), [false; 4]);
        assert_eq!(held(Freeze::All), [true, true, true, false]);
        assert_eq!(held(Freeze::Below("layer2".to_owned())), [true, true, false, false]);
        assert_eq!(held(Freeze::Below("conv1".to_owned())), [false; 4]);
    }

    #[test]
    fn one_word_says_what_is_frozen() {
        for (word, freeze) in [
            ("none", Freeze::None),
            ("all", Freeze::All),
            ("layer4", Freeze::Below("layer4".to_owned())),
        ] {
            assert_eq!(Freeze::from(word.to_owned()), freeze);
            assert_eq!(String::from(freeze), word);
        }
    }
}
