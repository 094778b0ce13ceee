//! The trait of a network that learns, wherever its numbers are: what training calls. Training
//! decides which parameters are trainable, with which learning rates and when; a learner has the
//! parameters, computes gradients and applies updates.

use super::NnError;
use super::graph::{Graph, Shape};
use super::number::Number;
use super::ops::Products;
use super::parameters::ParameterInfo;
use super::step::{BatchNorm, StepOptions};
use super::weights::{WeightTensor, Weights};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a network reads.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Normalized images (batch, height, width, 3).
    Images(&'a [f32]),
    /// Features (batch, feature count), for the head alone.
    Features(&'a [f32]),
    /// What a GPU makes images of.
    Records(Records<'a>),
}

/// Stored squares, and how each becomes an image.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a> {
    /// Another one for each input.
    pub id: u64,
    /// (batch, size, size, 3), row by row.
    pub squares: &'a [u8],
    /// The struct `Recipe` of `cuda/kernels.cu` for each square.
    pub recipes: &'a [u8],
    pub views: Views,
}

/// What the views of all squares have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Views {
    /// Side of the stored squares, in pixels.
    pub size: usize,
    /// By channel, the factor and the summand that normalize a level of 0..=255.
    pub scale: [f32; 3],
    pub shift: [f32; 3],
    /// Whether any recipe changes colors.
    pub changes_colors: bool,
    /// Whether any recipe needs the mean of its view.
    pub needs_means: bool,
}

/// The result of a forward and backward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct PassResult {
    /// Mean cross entropy of the batch, plus that of an auxiliary head times
    /// [`AUXILIARY_WEIGHT`](super::AUXILIARY_WEIGHT).
    pub loss: f64,
    /// Logits (batch, classes) in training mode, of the main network.
    pub logits: Vec<f32>,
}

/// How one parameter is updated in one step, with PyTorch's formulas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Stochastic gradient descent; `weight_decay` is added to the gradient (L2).
    Sgd { learning_rate: f64, momentum: f64, nesterov: bool, weight_decay: f64 },
    /// AdamW: decoupled weight decay.
    Adamw {
        learning_rate: f64,
        betas: [f64; 2],
        epsilon: f64,
        weight_decay: f64,
        /// The parameter's own step, from 1, for bias correction.
        step: u64,
    },
}

/// Checks the number of values of a batch, each of this shape.
///
/// # Errors
/// [`NnError::Input`] with what was found.
pub(super) fn check_length(shape: Shape, found: usize, batch: usize) -> Result<(), NnError> {
    if found == batch * shape.len() {
        return Ok(());
    }
    let Shape { height, width, channels } = shape;
    let each = format!("{height} x {width} x {channels}");
    Err(NnError::Input(format!("{found} values for a batch of {batch}, each {each}")))
}

/// Checks the number of targets of a batch.
///
/// # Errors
/// [`NnError::Input`] with what was found.
pub(super) fn check_targets(graph: &Graph, targets: &[f32], batch: usize) -> Result<(), NnError> {
    let (found, classes) = (targets.len(), graph.classes());
    if found == batch * classes {
        return Ok(());
    }
    Err(NnError::Input(format!("{found} targets for {batch} images of {classes} classes")))
}

/// What a training will do, so that its memory can be allocated before the first step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainingNeeds {
    pub batch: usize,
    /// Whether steps start from features rather than images.
    pub from_features: bool,
    /// Side of the stored squares, in pixels, where images are [`Input::Records`].
    pub squares: Option<usize>,
    pub batch_norm: BatchNorm,
    /// Whether gradients of several passes are added.
    pub accumulates: bool,
    /// Whether each updated parameter has two moments rather than one.
    pub has_second_moments: bool,
}

/// A network that learns. `N` is the precision of parameters, gradients and moments.
pub trait Learner<N: Number = f32> {
    fn graph(&self) -> &Graph;

    /// What convolutions and linear layers multiply.
    fn products(&self) -> Products;

    /// What changes numbers beside parameters and inputs: properties of the processor or the card.
    fn machine(&self) -> String;

    /// Whether it takes [`Input::Records`].
    fn takes_records(&self) -> bool;

    /// The parameters, in PyTorch's order, and whether each is trainable.
    fn parameters(&self) -> Vec<(&ParameterInfo, bool)>;

    /// Selects the trainable parameters. Layers below all of them run with running statistics.
    fn set_trainable(&mut self, choose: &dyn Fn(&ParameterInfo) -> bool);

    /// Allocates what passes and updates of the trainable parameters need, and says how much that is
    /// in all. `None` where memory is allocated as it is used.
    ///
    /// # Errors
    /// When it doesn't fit, or a batch norm would see a single value per channel.
    fn reserve(&mut self, needs: &TrainingNeeds) -> Result<Option<String>, NnError>;

    /// Forward, mean cross entropy against `targets`, backward. The gradients are added to those of
    /// the passes since the last [`update`](Self::update). `targets` are (batch, classes) with rows
    /// of any sum, so that label smoothing and class weights can be folded in. `next` is the input
    /// of the next pass, if it is known: a GPU copies it while it computes.
    ///
    /// # Errors
    /// When lengths don't match, a batch norm would see a single value per channel, or memory can't
    /// be allocated.
    fn pass(
        &mut self,
        input: Input,
        next: Option<Input>,
        batch: usize,
        targets: &[f32],
        options: &StepOptions,
    ) -> Result<PassResult, NnError>;

    /// Updates each parameter that has a rule, in the order of [`parameters`](Self::parameters),
    /// with the gradients of the passes since the last update. With `max_norm`, the gradients'
    /// global norm is clipped to it and the norm before is returned; nothing is updated if that is
    /// NaN or infinite. A parameter's moments are zeros at its first update.
    ///
    /// # Errors
    /// When memory can't be allocated.
    fn update(
        &mut self,
        rules: &[Option<Rule>],
        max_norm: Option<f64>,
    ) -> Result<Option<f64>, NnError>;

    /// The moments of each updated parameter by `first/NAME` and, with AdamW, `second/NAME`, in
    /// torchvision's layout.
    ///
    /// # Errors
    /// When they can't be read.
    fn moments(&self) -> Result<BTreeMap<String, WeightTensor<N>>, NnError>;

    /// Replaces all moments by those that [`moments`](Self::moments) returned, and drops gradients
    /// that weren't used for an update.
    ///
    /// # Errors
    /// [`NnError::Mismatch`] if a name is unknown or a shape another; nothing is changed then.
    fn restore_moments(
        &mut self,
        moments: BTreeMap<String, WeightTensor<N>>,
    ) -> Result<(), NnError>;

    /// Logits (batch, classes) in evaluation mode.
    ///
    /// # Errors
    /// When the length doesn't match, or memory can't be allocated.
    fn evaluate(&self, input: Input, batch: usize) -> Result<Vec<f32>, NnError>;

    /// Features (batch, feature count) in evaluation mode, the input of the head.
    ///
    /// # Errors
    /// When the length doesn't match, or memory can't be allocated.
    fn features(&self, images: Input, batch: usize) -> Result<Vec<f32>, NnError>;

    /// How long a GPU had nothing to do but wait for the next input, since the last call.
    ///
    /// # Errors
    /// When it can't be read.
    fn waited(&mut self) -> Result<Option<Duration>, NnError>;

    /// The names of parameters and buffers.
    fn names(&self) -> Vec<String>;

    /// Parameters and buffers for which `wanted` is true, under torchvision's names and in its
    /// layouts.
    ///
    /// # Errors
    /// When they can't be read.
    fn tensors(
        &self,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, WeightTensor<N>>, NnError>;

    /// Replaces parameters and buffers by name; others don't change.
    ///
    /// # Errors
    /// [`NnError::Mismatch`] if a tensor is unknown or has another shape; nothing is changed then.
    fn restore(&mut self, weights: &Weights<N>) -> Result<(), NnError>;

    /// Calls `take` with everything that determines [`features`](Self::features): the structure as
    /// text, then each parameter and buffer below the head by name, in `f32`.
    ///
    /// # Errors
    /// When they can't be read.
    fn describe_backbone(&self, take: &mut dyn FnMut(&str, &[f32])) -> Result<(), NnError>;

    /// Frees what only evaluation needs; the next evaluation makes it again.
    fn release(&mut self);
}
