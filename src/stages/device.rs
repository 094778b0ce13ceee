//! Which device a choice stands for on this machine, asked before anything runs; and the GPU of a
//! stage that computes there.

use crate::config::DeviceChoice;
use crate::cuda::{CompileCache, NoCache};
use crate::engine::{Context, Device, StageError};
use crate::model::Model;
use crate::nn::NnError;
use crate::nn::cuda::{self, Gpu};
use crate::store::Memo;
use std::path::Path;

/// The bucket of the memo for what is compiled and planned for GPUs.
const BUCKET: &str = "gpu";

/// Files that are there where an NVIDIA driver is: its own, and that of Windows below Linux.
const DRIVER_FILES: [&str; 3] = ["/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg"];

/// A device, and what a user should know about how it was chosen.
pub struct ChosenDevice {
    pub device: Device,
    /// The device, and of a GPU what its numbers depend on: for records.
    pub description: String,
    /// Why a GPU that is there isn't used.
    pub note: Option<String>,
}

/// The device that a choice stands for if all that a GPU needs is there. Nothing is loaded: that
/// takes longer than a run with nothing to do.
pub fn assume_device(choice: DeviceChoice) -> ChosenDevice {
    let device = match choice {
        DeviceChoice::Cuda(index) => Device::Cuda(index),
        DeviceChoice::Auto if may_have_gpu() => Device::Cuda(0),
        DeviceChoice::Auto | DeviceChoice::Cpu => Device::Cpu,
    };
    ChosenDevice { device, description: device.to_string(), note: None }
}

/// The device of a choice.
///
/// # Errors
/// If a GPU is asked for that can't be used.
pub fn choose_device(choice: DeviceChoice) -> Result<ChosenDevice, StageError> {
    let processor =
        |note| ChosenDevice { device: Device::Cpu, description: Device::Cpu.to_string(), note };
    let gpu = |index: usize, about: String| {
        let device = Device::Cuda(index);
        ChosenDevice { device, description: format!("{device} ({about})"), note: None }
    };
    Ok(match choice {
        DeviceChoice::Cpu => processor(None),
        DeviceChoice::Cuda(index) => gpu(index, cuda::check(index)?),
        DeviceChoice::Auto if !may_have_gpu() => processor(None),
        DeviceChoice::Auto => match cuda::check(0) {
            Ok(about) => gpu(0, about),
            Err(error) => processor(note(&error)),
        },
    })
}

/// Whether it is worth to load the driver.
fn may_have_gpu() -> bool {
    std::env::var_os("PIPE_CUDA_LIBRARIES").is_some()
        || DRIVER_FILES.iter().any(|file| Path::new(file).exists())
}

/// What keeps a GPU from being used, unless there is none.
fn note(error: &NnError) -> Option<String> {
    if cuda::is_absence(error) {
        return None;
    }
    let help = error.help().map(|help| format!("; {help}")).unwrap_or_default();
    Some(format!(
        "networks are computed on the processor, since the GPU can't be used: {error}{help}"
    ))
}

/// The GPU that a stage computes on; none if it computes on the processor.
///
/// # Errors
/// If it can't be used.
pub(super) fn gpu_of(context: &Context) -> Result<Option<Gpu>, StageError> {
    let Device::Cuda(index) = context.device else { return Ok(None) };
    let gpu = Gpu::open(index, Box::new(MemoCache(context.memo.clone())))?;
    Ok(Some(gpu))
}

/// A model that classifies on a device. `memo` keeps what is compiled for a GPU.
///
/// # Errors
/// If the GPU can't be used.
pub(crate) fn place_model(
    model: Model,
    device: Device,
    memo: Option<Memo>,
) -> Result<Model, StageError> {
    let Device::Cuda(index) = device else { return Ok(model) };
    let cache: Box<dyn CompileCache> = match memo {
        Some(memo) => Box::new(MemoCache(memo)),
        None => Box::new(NoCache),
    };
    Ok(model.on(&Gpu::open(index, cache)?)?)
}

/// Keeps compiled kernels and plans in the memo.
struct MemoCache(Memo);

impl CompileCache for MemoCache {
    fn read(&self, key: &str) -> Option<Vec<u8>> {
        self.0.get(BUCKET, key)
    }

    fn write(&self, key: &str, value: &[u8]) {
        // What isn't kept is made again.
        let _ = self.0.put(BUCKET, key, value);
    }
}
