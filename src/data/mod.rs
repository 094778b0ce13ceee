//! Images: where they come from, what they are called, which split they belong to, how they are decoded, stored and
//! streamed to training. Knows artifacts by their folders and files by their digests; knows nothing of pipeline files,
//! stages or networks.

pub mod augment;
pub mod decode;
mod error;
pub mod explore;
pub mod images;
pub mod labels;
pub mod loader;
mod preprocessing;
mod resize;
pub mod source;
pub mod split;
pub mod synthetic;
mod table;
pub mod tensor_cache;
#[cfg(test)]
mod torchvision_tests;

pub use augment::{Augment, RandomCrop};
pub use error::DataError;
pub use loader::{Batch, Loader, LoaderOptions, Vary};
pub use preprocessing::{Fit, Geometry, InputInfo, Interpolation, Preprocessing};
pub use tensor_cache::{Sample, Split, TensorCache};
