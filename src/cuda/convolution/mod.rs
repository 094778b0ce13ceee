//! Convolutions by cuDNN's graph API: a [`Shape`] is planned for a card (engine choice, workspace),
//! and the [`Plan`] is executed on the stream of a [`Handle`]. Planning needs no card: it also
//! works for a card that is described in JSON. Doesn't depend on how the libraries were found, nor
//! on networks; the caller owns all device memory.
//!
//! Maps are NHWC, weights are (out, kernel height, kernel width, in), sums are in f32. An engine is
//! chosen by cuDNN's heuristics alone, without timing, and never a nondeterministic one: the same
//! card and the same cuDNN give the same bytes on every run.

mod choice;
mod descriptor;
mod error;
mod graph;
mod handle;
mod library;
mod notes;
mod plan;
mod problem;
mod shape;
mod target;
#[cfg(test)]
mod tests;

pub use error::ConvolutionError;
pub use handle::Handle;
pub use library::Cudnn;
pub use notes::NumericalNotes;
pub use plan::{Operands, Plan};
pub use problem::{Direction, Element, Precision, Problem};
pub use shape::{Map, Shape};
pub use target::{DescribedCard, Target};
