//! Errors of networks, their inputs and their weights.

use crate::common::number;
use crate::cuda::CudaError;
use crate::cuda::convolution::ConvolutionError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// An error of a network, its input or its weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NnError {
    /// No backbone or preset has this name.
    #[error("no {what} has the name `{name}`; there are {}", known.join(", "))]
    Unknown {
        /// "backbone" or "weights".
        what: &'static str,
        name: String,
        /// The known names, most similar first.
        known: Vec<String>,
    },
    /// The graph is invalid, or doesn't match the size of its input.
    #[error("{0}")]
    Graph(String),
    /// An input has the wrong length.
    #[error("{0}")]
    Input(String),
    /// A batch norm would compute statistics of a single value per channel: one image, one pixel.
    #[error(
        "{norm} would normalize over a single value per channel: batches of one image are too small here"
    )]
    SingleValue { norm: String },
    /// Weights that don't match the network: one message per tensor, with both shapes.
    #[error("{}", mismatches(.0))]
    Mismatch(Vec<String>),
    /// A weights file is invalid.
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    /// A file can't be read or written.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// The device can't multiply in bf16.
    #[error("bf16 is computed on processors with AVX2 and FMA alone")]
    Bf16,
    /// The device has too little memory.
    #[error("there is not enough memory")]
    OutOfMemory,
    /// A batch needs more memory than the GPU has free.
    #[error(
        "a batch of {batch} needs {} of GPU memory, {} are free",
        number::bytes(*.needed), number::bytes(*.free)
    )]
    BatchTooLarge {
        batch: usize,
        needed: u64,
        free: u64,
        /// The largest batch that fits, if one of one image does.
        fits: Option<usize>,
    },
    /// A GPU or a library beside it is missing or failed.
    #[error(transparent)]
    Cuda(#[from] CudaError),
    /// cuDNN is missing or failed.
    #[error(transparent)]
    Convolution(#[from] ConvolutionError),
    /// The device failed otherwise.
    #[error("the device failed: {0}")]
    Device(String),
}

impl NnError {
    /// What to do, if it is known.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            NnError::Bf16 => Some("train with `precision = \"f32\"`".to_owned()),
            NnError::BatchTooLarge { fits: Some(batch), .. } => {
                Some(format!("use `batch_size = {batch}`, or stop other programs that use the GPU"))
            }
            NnError::BatchTooLarge { fits: None, .. } => {
                Some("use smaller images, or stop other programs that use the GPU".to_owned())
            }
            NnError::Cuda(error) => error.help(),
            NnError::Convolution(error) => error.help().map(str::to_owned),
            _ => None,
        }
    }

    /// A shape with more rows than a GPU's kernels count.
    pub(crate) fn too_large_for_a_gpu() -> NnError {
        NnError::Input("the batch is too large for a GPU".to_owned())
    }

    pub(crate) fn device(error: impl fmt::Debug) -> NnError {
        let text = format!("{error:?}");
        // `OutOfMemory` on the processor, `CUDA_ERROR_OUT_OF_MEMORY` on a GPU.
        match text.to_lowercase().replace('_', "").contains("outofmemory") {
            true => NnError::OutOfMemory,
            false => NnError::Device(text),
        }
    }

    pub(crate) fn file(path: &Path, reason: impl Into<String>) -> NnError {
        NnError::File { path: path.to_owned(), reason: reason.into() }
    }

    /// An unknown name; sorts the known names by similarity.
    pub(crate) fn unknown<'a>(
        what: &'static str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> NnError {
        let mut known: Vec<String> = known.into_iter().map(str::to_owned).collect();
        known.sort_by(|a, b| {
            strsim::jaro_winkler(name, b).total_cmp(&strsim::jaro_winkler(name, a))
        });
        NnError::Unknown { what, name: name.to_owned(), known }
    }
}

/// At most eight of the messages.
fn mismatches(list: &[String]) -> String {
    let (shown, rest) = list.split_at(list.len().min(8));
    let more = if rest.is_empty() { String::new() } else { format!("; and {} more", rest.len()) };
    format!("{} of the weights don't match the network: {}{more}", list.len(), shown.join("; "))
}
