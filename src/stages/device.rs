//! Whether the device of `--device` can be used: asked before anything runs, and by training.

use crate::engine::{Device, StageError};

/// Checks that networks can be computed on `device`.
///
/// # Errors
/// For a GPU, if this program was built without CUDA or the GPU can't be opened.
pub fn check_device(device: Device) -> Result<(), StageError> {
    match device {
        Device::Cpu => Ok(()),
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => cuda(index).map(drop),
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => Err(without_cuda()),
    }
}

/// Opens the GPU with this index.
#[cfg(feature = "cuda")]
pub(super) fn cuda(index: usize) -> Result<dfdx::tensor::Cuda, StageError> {
    dfdx::tensor::Cuda::try_build(index, 0).map_err(|_| {
        StageError::failed(format!("the CUDA device {index} can't be used")).with_help(
            "see `nvidia-smi` for the GPUs that there are, or leave `--device` out to use the processor",
        )
    })
}

#[cfg(not(feature = "cuda"))]
pub(super) fn without_cuda() -> StageError {
    StageError::failed("this `pipe` was built without CUDA").with_help(
        "build it with `cargo build --release --features cuda`, or leave `--device` out to use the processor",
    )
}
