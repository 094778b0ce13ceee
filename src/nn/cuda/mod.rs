//! A network on a GPU. It does what [`Network`](super::Network) does on the CPU, by a
//! [`Schedule`](super::schedule::Schedule) whose launches are kernels and planned convolutions over
//! one arena. Parameters, gradients and moments stay in GPU memory between steps.
//!
//! `gpu` is what all networks on a GPU share, `kernels` launches kernels by name, `tensors` places
//! parameters in arenas, `input` brings what a run reads, `exchange` moves parameters to and from
//! the host, `run` executes a schedule, `launches` has one function per launch, `update` is the
//! optimizer, `network` puts them together.

mod exchange;
mod gpu;
mod input;
mod kernels;
mod launches;
mod network;
mod run;
mod tensors;
#[cfg(test)]
mod tests;
mod update;

pub use crate::cuda::convolution::Precision;
pub use gpu::{Gpu, WORKSPACE, check, check_precision, is_absence};
pub use launches::convolutions;
pub use network::{CudaNetwork, INFERENCE_BATCH, TimedLaunch};
