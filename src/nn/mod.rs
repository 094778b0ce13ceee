//! Neural networks: graphs of layers, their execution on dfdx's tape, the ops that dfdx lacks on
//! stable Rust, backbones (one file a family) and weights files. Parameters have torchvision's
//! names. Doesn't depend on image files, pipelines, training loops or class names.
//!
//! A backbone's file builds a [`Graph`]; [`Network`] holds its parameters and runs it on the CPU: a
//! training [`step`](Network::step) on the tape, [`logits`](Network::logits) and
//! [`features`](Network::features) without. Training knows it as a [`Learner`]. Images are NHWC,
//! normalized, `f32`; weights are read and written in torchvision's layouts.

pub mod backbones;
mod compiled;
pub mod cuda;
mod error;
mod graph;
mod initialization;
mod interpreter;
mod layout;
mod learner;
mod loading;
mod matrix;
mod memory;
mod network;
mod number;
pub mod ops;
mod optimizer;
mod parameters;
mod program;
mod recognize;
pub mod schedule;
mod step;
#[cfg(test)]
mod tests;
pub mod weights;

pub use backbones::{BackboneInfo, backbone, backbones};
pub use compiled::{Layer, LayerOp};
pub use error::NnError;
pub use graph::{AUXILIARY, Builder, Graph, Head, Node, Op, Shape, Value, Window};
pub use learner::{Input, Learner, PassResult, Records, Rule, TrainingNeeds, Views};
pub use loading::Loaded;
pub use matrix::has_bf16;
pub(crate) use matrix::{Matrix, MatrixMut, multiply};
pub use memory::keep_freed_memory;
pub use network::{AUXILIARY_WEIGHT, ClassMaps, Network};
pub use number::Number;
pub use ops::{Products, soft_targets};
#[cfg(test)]
pub(crate) use optimizer::OptimizerState;
pub use parameters::{Parameter, ParameterInfo, Role};
pub use recognize::{classifier, recognize};
pub use step::{BatchNorm, Step, StepOptions};
pub use weights::{WeightTensor, Weights, read_safetensors, write_safetensors};

/// dfdx's CPU device, which runs the hand-written kernels.
pub use dfdx::tensor::Cpu;
