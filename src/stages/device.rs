//! Whether the device of `--device` can be used: asked before anything runs, and by training.

use crate::engine::{Device, StageError};

/// Checks that networks can be computed on `device`.
///
/// # Errors
/// For a GPU: training on CUDA isn't available yet.
pub fn check_device(device: Device) -> Result<(), StageError> {
    match device {
        Device::Cpu => Ok(()),
        Device::Cuda(_) => Err(StageError::failed("this version of `pipe` can't train on a GPU")
            .with_help("leave `--device` out to use the processor; `pipe device` shows what of CUDA is found")),
    }
}
