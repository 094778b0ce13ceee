//! The keys of a `train` stage: one declaration, from which what was given ([`TrainKeys`]) and what
//! it resolves to ([`Options`]) follow. Defaults that depend on other keys and rules across keys
//! are in `stages::train::resolve`.

use crate::config::{Type, WordOr, choices, keys, leaf_keys};
use crate::data::AugmentationPolicy;
use crate::nn::{AUXILIARY, BatchNorm, Role};
use crate::training::TrainingError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The layer group that follows the backbone: its parameters are the head's.
pub(crate) const HEAD: &str = "head";

/// Whether a layer group is a head: new with the classes, and never frozen.
pub(super) fn is_head(group: &str) -> bool {
    group == HEAD || group == AUXILIARY
}

keys! {
    /// Everything that decides which weights come out, given the data, the weights to start from
    /// and the seed.
    pub(crate) struct Options / TrainKeys {
        /// The network that computes features of images, such as `resnet18` or `resnet50` (`pipe
        /// backbones` lists them). The version in a name of weights (`resnet50/V2`) is ignored.
        backbone: String = "resnet18";
        /// Which part of the backbone keeps the weights it starts with: `none`, `all`, or a layer
        /// group such as `layer4`, below which everything is frozen. `all` if `weights` are given,
        /// else `none`.
        freeze: Freeze = computed;
        /// The epoch from which the whole backbone is trained; or a table of layer groups and
        /// epochs: `{ layer4 = 3, layer3 = 6 }` trains the backbone from `layer4` on in epoch 3,
        /// from `layer3` on in epoch 6.
        unfreeze_at: Option<UnfreezeAt> = none;
        /// The classifier on top of the backbone: a table, or `"original"` for the one that the
        /// weights came with (ImageNet's 1,000 classes). Nothing is trained then.
        head: WordOr<OriginalHead, DenseHead> = {};
        /// For `inception_v3`: trains its auxiliary head too; its loss counts 0.4. It isn't part of
        /// the saved model.
        aux_logits: bool = false formerly "auxiliary";
        /// Batch norm in the trainable part of the backbone. `train`: normalize with the batch's
        /// statistics; `affine`: with the running statistics that the weights came with, scale and
        /// shift are trained; `frozen`: scale and shift are frozen too. `frozen` if the whole
        /// backbone is frozen at first, else `train`.
        batch_norm: BatchNormMode = computed;
        /// Precision of training. `auto` is `f32` on the processor and `tf32` on a GPU, where
        /// convolutions and linear layers multiply numbers rounded to 10 bits after the point, as
        /// PyTorch's do, and sum them in `f32`. `bf16` is mixed precision: they multiply numbers
        /// rounded to bf16; weights are in `f32`. The model is evaluated in bf16, too. Faster on
        /// GPUs and on processors with AVX512-BF16, slower on other processors. `f64`: for
        /// numerical comparison on the processor, in twice the time and memory.
        precision: Precision = "auto";
        /// Passes over the training images.
        epochs: u64 = 20 in 1..=100_000;
        /// Images per batch. All images if there are fewer.
        batch_size: usize = 32 in 1..=65_536;
        /// Batches whose gradients are accumulated before each optimizer step: a larger batch in
        /// the memory of a smaller one. Batch norm still sees single batches.
        gradient_accumulation: usize = 1 in 1..=65_536 formerly "accumulate";
        /// The optimizer. Weight decay doesn't apply to biases and norms.
        optimizer: OptimizerConfig = {};
        /// The learning-rate schedule, updated after every step.
        schedule: Schedule = {};
        /// Label smoothing: the share of each target that is spread evenly over all classes.
        /// Usually 0.1.
        label_smoothing: f64 = 0 in 0..=0.999_999;
        /// Weights of the classes in the loss. `balanced`: inversely proportional to the number of
        /// training images; or a table of classes and weights, 1 for the others.
        class_weights: ClassWeights = "none";
        /// Which training images an epoch shows. `shuffled`: each once; `balanced`: equally many of
        /// every class, images of rare classes several times.
        sampling: Sampling = "shuffled";
        /// Clips the norm of the whole gradient at this value. Usually 1. No clipping by default.
        max_grad_norm: Option<f64> = none above 0 formerly "clip_norm";
        /// Which epoch is the best, by the validation split, and when to stop waiting for a better
        /// one.
        early_stopping: EarlyStopping = {};
        /// The epoch whose weights are saved. Always the last one if there are no validation
        /// images.
        keep: Keep = "best";
        /// Data augmentation: `"none"` or a table. `none` if the whole backbone stays frozen, else
        /// `{ random_resized_crop = { scale = [0.6, 1.0] }, horizontal_flip = true }`. Set
        /// `horizontal_flip = false` where left and right tell classes apart.
        augment: WordOr<NoAugmentation, AugmentationPolicy> = computed;
        /// Checkpoints, from which an interrupted training resumes.
        checkpoint: CheckpointOptions = {} affects Execution;
    }
}

keys! {
    /// A head of dense layers.
    pub(crate) struct DenseHead / GivenDenseHead {
        /// Widths of hidden layers between the features and the classes. None by default: a linear
        /// classifier.
        hidden: Vec<usize> = [] each in 1..=65_536;
        /// Dropout probability after each hidden layer, or on the features if there is none.
        dropout: f64 = 0 in 0..=0.999_999;
    }
}

keys! {
    /// An update rule and its hyperparameters.
    pub(crate) struct OptimizerConfig / GivenOptimizerConfig {
        /// `adamw` (decoupled weight decay) or `sgd` (with momentum).
        kind: OptimizerKind = "adamw";
        /// Peak learning rate. 1e-3 for `adamw`, 1e-2 for `sgd`.
        learning_rate: f64 = computed above 0;
        /// Peak learning rate of the backbone. A tenth of `learning_rate` if `weights` are given,
        /// else the same.
        backbone_learning_rate: Option<f64> = none above 0;
        /// Learning-rate multiplier from one layer group of the backbone to the one below it.
        /// Usually 0.75.
        layer_decay: f64 = 1 in 0.001..=1;
        /// Weight decay: decoupled for AdamW, added to the gradient for SGD. 1e-2 for `adamw`, 1e-4
        /// for `sgd`.
        weight_decay: f64 = computed from 0;
        /// For `sgd`.
        momentum: f64 = 0.9 in 0..=0.999_999;
        /// For `sgd`: Nesterov momentum.
        nesterov: bool = false;
        /// For `adamw`: decay rates of the running averages of the gradient and of its square.
        betas: [f64; 2] = [0.9, 0.999] each in 0..=0.999_999;
        /// For `adamw`: added to the denominator for numerical stability.
        epsilon: f64 = 1e-8 above 0;
    }
}

choices! {
    /// An update rule.
    pub(crate) enum OptimizerKind {
        /// Adam with decoupled weight decay (Loshchilov and Hutter, 2019).
        Adamw = "adamw",
        /// Stochastic gradient descent with momentum.
        Sgd = "sgd",
    }
}

keys! {
    /// How the learning rate changes from step to step.
    pub(crate) struct Schedule / GivenSchedule {
        /// The curve after the warm-up: half a cosine, or constant.
        kind: ScheduleKind = "cosine";
        /// Number of warm-up epochs (may be fractional): the learning rate rises linearly to its
        /// peak. 1, but at most a fifth of `epochs`.
        warmup_epochs: f64 = computed from 0 formerly "warm_up";
        /// The learning rate at the end of the cosine, as a fraction of the peak.
        min_learning_rate_ratio: f64 = 0 in 0..=1 formerly "floor";
    }
}

choices! {
    /// A curve of the learning rate.
    pub(crate) enum ScheduleKind {
        /// Half a cosine (Loshchilov and Hutter, 2017, without restarts).
        Cosine = "cosine",
        /// The peak throughout.
        Constant = "constant",
    }
}

keys! {
    /// Which epoch counts as the best, and when to stop waiting for a better one.
    pub(crate) struct EarlyStopping / GivenEarlyStopping {
        /// The metric that is compared after each epoch.
        monitor: Monitor = "validation_loss";
        /// Number of epochs without improvement after which training stops. Never by default.
        patience: Option<u64> = none in 1..=100_000;
        /// For `patience`: smaller changes are no improvement.
        min_delta: f64 = 0 from 0;
    }
}

choices! {
    /// A metric of the validation split, named like its column in `history.csv`.
    pub(crate) enum Monitor {
        /// Mean cross-entropy; lower is better.
        ValidationLoss = "validation_loss",
        /// Share of correctly classified images; higher is better.
        ValidationAccuracy = "validation_accuracy",
    }
}

choices! {
    /// Which epoch's weights are saved.
    pub(crate) enum Keep {
        /// The best epoch's by the monitored metric.
        Best = "best",
        /// The last epoch's.
        Last = "last",
    }
}

keys! {
    /// When checkpoints are written.
    pub(crate) struct CheckpointOptions / GivenCheckpointOptions {
        /// Minimum number of seconds between two checkpoints. One is also written when training is
        /// cancelled.
        every: f64 = 30 from 0 affects Execution;
    }
}

choices! {
    /// The word for the published classifier.
    pub(crate) enum OriginalHead {
        /// It keeps its weights.
        Original = "original",
    }
}

choices! {
    /// The word for no augmentation.
    pub(crate) enum NoAugmentation {
        /// Training images are the center crops of the stored squares.
        None = "none",
    }
}

choices! {
    /// Which images an epoch shows.
    pub(crate) enum Sampling {
        /// Each once, in random order.
        Shuffled = "shuffled",
        /// As many in all, but equally many of each class: images of rare classes come several
        /// times, of frequent ones not in every epoch.
        Balanced = "balanced",
    }
}

choices! {
    /// The type of parameters, activations and gradients in training. Model files, features and
    /// evaluation are `f32`; a model in bf16 is evaluated in bf16.
    pub(crate) enum Precision {
        /// `f32` on the processor, `tf32` on a GPU.
        Auto = "auto",
        /// 32-bit floats.
        F32 = "f32",
        /// 32-bit floats, which convolutions and linear layers on a GPU round to 10 bits after the
        /// point before they multiply them.
        Tf32 = "tf32",
        /// 32-bit floats, which convolutions and linear layers round to bf16 before they multiply
        /// them: mixed precision.
        Bf16 = "bf16",
        /// 64-bit floats.
        F64 = "f64",
    }
}

impl Precision {
    /// Checks that a training in this precision is possible on the processor, or on a GPU.
    ///
    /// # Errors
    /// [`TrainingError::Incompatible`] if it isn't.
    pub(crate) fn check(self, on_gpu: bool) -> Result<(), TrainingError> {
        let (precision, place, help) = match (self, on_gpu) {
            (Precision::F64, true) => {
                ("f64", "on a GPU", "use `--device cpu`, or leave `precision` out")
            }
            (Precision::Tf32, false) => {
                ("tf32", "on the processor", "use `precision = \"f32\"`, or a GPU")
            }
            _ => return Ok(()),
        };
        Err(TrainingError::Incompatible {
            message: format!("`precision = \"{precision}\"` isn't possible {place}"),
            help: help.to_owned(),
        })
    }
}

choices! {
    /// What batch norm does in the trainable parts of the backbone; in frozen parts it is always
    /// [`Frozen`](Self::Frozen).
    pub(crate) enum BatchNormMode {
        /// Normalizes with the batch's statistics, which the running ones follow; scale and shift
        /// are trained.
        Train = "train",
        /// Normalizes with the running statistics; scale and shift are trained.
        Affine = "affine",
        /// Normalizes with the running statistics; scale and shift are frozen.
        Frozen = "frozen",
    }
}

impl BatchNormMode {
    /// The statistics that training normalizes with.
    pub(crate) fn statistics(self) -> BatchNorm {
        match self {
            BatchNormMode::Train => BatchNorm::Batch,
            BatchNormMode::Affine | BatchNormMode::Frozen => BatchNorm::Running,
        }
    }
}

/// The frozen part of the backbone. Written as one word: "all", "none" or a layer group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Freeze {
    /// Nothing.
    None,
    /// The whole backbone.
    All,
    /// Everything below this layer group.
    Below(String),
}

leaf_keys! { Freeze = Type::Text }

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
            Freeze::Below(group) => group,
        }
    }
}

impl Freeze {
    /// Whether a layer group is frozen, given all of them from the images on. A head never is.
    pub fn includes(&self, group: &str, groups: &[String]) -> bool {
        let position = |wanted: &str| groups.iter().position(|name| name == wanted);
        match self {
            _ if is_head(group) => false,
            Freeze::None => false,
            Freeze::All => true,
            Freeze::Below(first) => position(group) < position(first),
        }
    }
}

/// An epoch, or one for each of some layer groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum UnfreezeAt {
    /// The whole backbone is trained from this epoch on.
    Epoch(u64),
    /// The backbone is trained from these groups on.
    Groups(BTreeMap<String, u64>),
}

const LATER_EPOCH: Type = Type::Integer { min: 2, max: 100_000 };
leaf_keys! { UnfreezeAt = Type::Either(&[LATER_EPOCH, Type::Map(&LATER_EPOCH)]) }

impl UnfreezeAt {
    /// The frozen part from each epoch on, in the order of epochs.
    pub(crate) fn list(&self) -> Vec<Unfreeze> {
        let mut list: Vec<Unfreeze> = match self {
            UnfreezeAt::Epoch(epoch) => vec![Unfreeze { epoch: *epoch, freeze: Freeze::None }],
            UnfreezeAt::Groups(groups) => groups
                .iter()
                .map(|(group, &epoch)| Unfreeze { epoch, freeze: Freeze::Below(group.clone()) })
                .collect(),
        };
        list.sort_by_key(|entry| entry.epoch);
        list
    }
}

/// From an epoch on, less is frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unfreeze {
    /// The first epoch, from 2, in which it holds.
    pub epoch: u64,
    /// The part that is frozen from then on.
    pub freeze: Freeze,
}

/// Weights of the classes in the loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "WordOr<Weighting, BTreeMap<String, f64>>")]
#[serde(into = "WordOr<Weighting, BTreeMap<String, f64>>")]
pub enum ClassWeights {
    /// 1 for all.
    None,
    /// n / (classes * n of the class), over the train split.
    Balanced,
    /// By the classes' names; 1 for the others.
    Given(BTreeMap<String, f64>),
}

choices! {
    /// The words for class weights.
    pub enum Weighting {
        /// 1 for all.
        None = "none",
        /// Inversely proportional to the number of images.
        Balanced = "balanced",
    }
}

const WEIGHT: Type = Type::Number { min: f64::MIN_POSITIVE, max: f64::INFINITY };
leaf_keys! {
    ClassWeights =
        Type::Either(&[Type::Choice(&["none", "balanced"]), Type::Map(&WEIGHT)])
}

impl From<WordOr<Weighting, BTreeMap<String, f64>>> for ClassWeights {
    fn from(given: WordOr<Weighting, BTreeMap<String, f64>>) -> ClassWeights {
        match given {
            WordOr::Word(Weighting::None) => ClassWeights::None,
            WordOr::Word(Weighting::Balanced) => ClassWeights::Balanced,
            WordOr::Table(weights) if weights.is_empty() => ClassWeights::None,
            WordOr::Table(weights) => ClassWeights::Given(weights),
        }
    }
}

impl From<ClassWeights> for WordOr<Weighting, BTreeMap<String, f64>> {
    fn from(weights: ClassWeights) -> Self {
        match weights {
            ClassWeights::None => WordOr::Word(Weighting::None),
            ClassWeights::Balanced => WordOr::Word(Weighting::Balanced),
            ClassWeights::Given(weights) => WordOr::Table(weights),
        }
    }
}

impl Options {
    /// Data augmentation, if there is any.
    pub(crate) fn augmentation(&self) -> Option<&AugmentationPolicy> {
        self.augment.as_table()
    }

    /// The parts that are frozen later, each smaller than the one before.
    pub(crate) fn unfreezing(&self) -> Vec<Unfreeze> {
        self.unfreeze_at.as_ref().map(UnfreezeAt::list).unwrap_or_default()
    }

    /// The part that is frozen in an epoch.
    pub(crate) fn freeze_at(&self, epoch: u64) -> Freeze {
        let reached = self.unfreezing().into_iter().rev().find(|entry| entry.epoch <= epoch);
        reached.map_or_else(|| self.freeze.clone(), |entry| entry.freeze)
    }

    /// Whether a parameter is trainable in an epoch, given its layer group and its role. Norms of a
    /// head always are.
    pub(crate) fn trains(&self, epoch: u64, group: &str, role: Role, groups: &[String]) -> bool {
        let frozen = self.freeze_at(epoch).includes(group, groups);
        let norm = matches!(role, Role::NormWeight | Role::NormBias) && !is_head(group);
        !(frozen || (norm && self.batch_norm == BatchNormMode::Frozen))
    }

    /// Whether the whole backbone is frozen in an epoch.
    pub(crate) fn backbone_frozen(&self, epoch: u64) -> bool {
        self.freeze_at(epoch) == Freeze::All
    }

    /// Whether an epoch reads cached features: the whole backbone is frozen, and images have a
    /// limited number of views.
    pub(crate) fn reads_features(&self, epoch: u64) -> bool {
        let limited = |policy: &AugmentationPolicy| policy.views.is_some() && !policy.mixes(epoch);
        self.backbone_frozen(epoch) && self.augmentation().is_none_or(limited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Keys, audit};

    #[test]
    fn the_declarations_are_sound() {
        assert_eq!(audit(Options::KEYS), Vec::<String>::new());
    }

    #[test]
    fn the_part_below_a_group_is_frozen_and_never_the_head() {
        let groups = ["conv1", "layer1", "layer2", HEAD].map(str::to_owned);
        let frozen = |freeze: Freeze| -> Vec<bool> {
            groups.iter().map(|group| freeze.includes(group, &groups)).collect()
        };
        assert_eq!(frozen(Freeze::None), [false; 4]);
        assert_eq!(frozen(Freeze::All), [true, true, true, false]);
        assert_eq!(frozen(Freeze::Below("layer2".to_owned())), [true, true, false, false]);
        assert_eq!(frozen(Freeze::Below("conv1".to_owned())), [false; 4]);
    }

    #[test]
    fn freeze_is_written_as_one_word() {
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
