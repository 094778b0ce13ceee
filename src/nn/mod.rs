//! Neural networks: graphs of layers named as torchvision names their parameters, an interpreter that runs them on
//! dfdx's tape, the ops that dfdx lacks on stable Rust, backbones (one file a family), and their weights. Knows tensors
//! and numbers alone: nothing of images as files, of pipelines, of how training goes or what classes are called.
//!
//! A [`Graph`] is made by a backbone's file; [`Network`] holds its parameters on a device and runs it: a training
//! [`step`](Network::step) on the tape, [`logits`](Network::logits) and [`features`](Network::features) without. What a
//! device must be able to do is the trait [`Backend`]: written by hand for the CPU, composed of dfdx's own ops for others.
//! Images are NHWC, normalized, `f32`; weights leave and enter as torchvision lays them out.

pub mod backbones;
mod error;
mod graph;
mod initialization;
mod interpreter;
mod layout;
mod loading;
mod matrix;
mod network;
mod number;
pub mod ops;
mod parameters;
mod plan;
mod program;
mod recognize;
mod step;
#[cfg(test)]
mod tests;
pub mod weights;

pub use backbones::{BackboneInfo, backbone, backbones};
pub use error::NnError;
pub use graph::{AUXILIARY, Builder, Graph, Head, Node, Op, Shape, Value, Window};
pub use loading::Loaded;
pub use network::{AUXILIARY_WEIGHT, Network};
pub use number::Number;
pub use ops::{Backend, Buffer, soft_targets};
pub use parameters::{Parameter, ParameterInfo, Role};
pub use recognize::{classifier, recognize};
pub use step::{BatchNorm, Step, StepOptions};
pub use weights::{WeightTensor, Weights, read_safetensors, write_safetensors};

/// The CPU device of dfdx, on which the hand-written ops run.
pub use dfdx::tensor::Cpu;
