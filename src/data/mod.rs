//! Image data: sources, labels, splits, decoding, resizing, augmentation, the tensor cache and the
//! loader. Independent of pipeline files, stages and networks: artifacts are folders here, and
//! images are identified by their digests.

pub(crate) mod archive;
pub mod augment;
pub(crate) mod class_folders;
pub mod decode;
mod error;
pub mod explore;
pub mod images;
pub mod labels;
pub mod loader;
pub mod normalization;
pub mod order;
pub(crate) mod parquet;
mod preprocessing;
pub mod rejected;
mod resize;
pub mod similarity;
pub(crate) mod skipped;
pub mod source;
pub mod split;
pub mod strip;
pub mod synthetic;
mod table;
pub mod tensor_cache;
pub mod thumbnail;
pub(crate) mod web_dataset;

pub use augment::{
    Augmentation, AugmentationPolicy, ColorJitter, GaussianBlur, GivenAugmentationPolicy,
    GivenGaussianBlur, RandAugment, RandomAffine, RandomErasing, RandomPerspective,
    RandomResizedCrop, Recipe,
};
pub use error::DataError;
pub use loader::{Batch, Form, Loader, LoaderOptions, Pixels, Records};
pub use preprocessing::{Fit, Geometry, InputInfo, Interpolation, Preprocessing};
pub use tensor_cache::{Sample, Split, TensorCache};
