//! The CUDA driver and the libraries beside it: found and loaded at run time, so that one binary
//! serves machines with and without a GPU. Devices, memory, streams, captured graphs, compiled
//! kernels, the ring that feeds them, and convolutions by cuDNN. A leaf: it knows nothing of networks, images or
//! configuration.
//!
//! Everything that belongs to a [`Card`] stays on the thread that opened it. The exception is
//! [`Slot`]: other threads may fill it.

mod compile;
pub mod convolution;
mod device;
mod error;
mod folders;
mod found;
mod libraries;
mod loader;
mod memory;
mod module;
mod ring;
mod stream;

/// The kernels of training, for [`compile()`].
pub const KERNELS: &str = include_str!("kernels.cu");

pub use compile::{CompileCache, FolderCache, NoCache, Source, compile};
pub use device::{Capability, Card, Properties};
pub use error::CudaError;
pub use found::{Found, FoundDevice, FoundLibrary, found};
pub use libraries::{Library, Opened, Version, required};
pub use memory::{Buffer, Element, Pinned, Upload};
pub use module::{Argument, Kernel, Module};
pub use ring::{Arrived, Ring, Slot};
pub use stream::{Event, Graph, Stream};
