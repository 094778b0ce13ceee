//! What can go wrong with a GPU, from a missing driver to a device that is lost, each with what to
//! do about it.

use std::path::PathBuf;

use cudarc::driver::DriverError;
use thiserror::Error;

use super::libraries::{Library, Version};

/// Installs the libraries beside the driver, for every Python that `folders.rs` looks at.
const INSTALL: &str = "pip install nvidia-cudnn-cu13 nvidia-cublas nvidia-cuda-nvrtc";

#[derive(Debug, Clone, PartialEq, Error)]
pub enum CudaError {
    #[error("no NVIDIA driver was found{}", because(reason))]
    NoDriver { reason: Option<String> },
    #[error("the NVIDIA driver supports CUDA {version}, but {by} needs {needed}")]
    DriverTooOld { version: Version, needed: Version, by: String },
    #[error("the NVIDIA driver found no GPU")]
    NoDevice,
    #[error("there is no GPU {wanted}; there {}", listed(devices))]
    NoSuchDevice { wanted: usize, devices: Vec<String> },
    #[error("{library} ({}) was not found; looked in {}", files.join(", "), folders(looked))]
    LibraryMissing {
        library: Library,
        files: Vec<String>,
        looked: Vec<PathBuf>,
        reason: Option<String>,
    },
    #[error("{library} at {} has no function `{function}`", path.display())]
    LibraryIncomplete { library: Library, path: PathBuf, function: String },
    #[error("{library} {version} at {} is too old; {needed} or newer is needed", path.display())]
    LibraryTooOld { library: Library, version: Version, needed: Version, path: PathBuf },
    #[error("failed to compile {file} for {architecture}: {log}")]
    Compile { file: String, architecture: String, log: String },
    #[error("{file} has no kernel `{kernel}`")]
    NoKernel { file: String, kernel: String },
    #[error("kernel `{kernel}` takes {expected}, but got {given}")]
    Arguments { kernel: String, expected: String, given: String },
    #[error(
        "out of GPU memory: {} bytes wanted, {} free of {}",
        grouped(*wanted), grouped(*free), grouped(*total)
    )]
    OutOfMemory { wanted: u64, free: u64, total: u64 },
    #[error("failed to allocate {} bytes of pinned host memory", grouped(*wanted))]
    OutOfPinnedMemory { wanted: u64 },
    #[error("{what}: elements {start} to {end} of a buffer of {count}")]
    OutOfRange { what: &'static str, start: usize, end: usize, count: usize },
    /// The device reported a failure that ends every later call, too.
    #[error("the GPU failed while {doing}: CUDA error {number} ({name}): {description}")]
    Lost { doing: String, number: u32, name: String, description: String },
    #[error("{doing} failed: CUDA error {number} ({name}): {description}")]
    Driver { doing: String, number: u32, name: String, description: String },
    #[error(
        "{device} (compute capability {capability}) does not compute in bf16, \
         which needs 8.0 or newer"
    )]
    NoBf16 { device: String, capability: String },
    #[error("{0}; this is a bug in pipe; please report it")]
    Bug(String),
}

impl CudaError {
    pub fn help(&self) -> Option<String> {
        use CudaError::*;
        Some(match self {
            NoDriver { .. } => "install the NVIDIA driver (`nvidia-smi` shows whether it works), \
                                or use the processor (`--device cpu`)"
                .into(),
            DriverTooOld { by, .. } if by == "pipe" => "update the NVIDIA driver".into(),
            DriverTooOld { by, .. } => {
                format!("update the NVIDIA driver, or install an older version of {by}")
            }
            NoDevice => {
                "check `nvidia-smi` and the environment variable CUDA_VISIBLE_DEVICES".into()
            }
            NoSuchDevice { devices, .. } if devices.len() == 1 => "use `cuda:0`".into(),
            NoSuchDevice { devices, .. } => format!("use `cuda:0` to `cuda:{}`", devices.len() - 1),
            LibraryMissing { reason: Some(reason), .. } => {
                format!("a file of that name was found, but: {reason}")
            }
            LibraryMissing { library, .. } | LibraryTooOld { library, .. } => install(*library),
            LibraryIncomplete { library: Library::Driver, .. } => "update the NVIDIA driver".into(),
            LibraryIncomplete { library, .. } => install(*library),
            OutOfMemory { .. } => {
                "use a smaller batch size, or stop other programs that use the GPU".into()
            }
            OutOfPinnedMemory { .. } => {
                "use a smaller batch size, or raise the limit of locked memory (`ulimit -l`)".into()
            }
            NoBf16 { .. } => "use `precision = \"f32\"`".into(),
            Lost { .. } => "run again; `dmesg` lists hardware errors of the GPU as `NVRM: Xid`. \
                            If there are none, this is a bug in pipe; please report it"
                .into(),
            Driver { number: 803, .. } => {
                "the driver was updated while it was in use; restart the machine".into()
            }
            Driver { .. } | Compile { .. } | NoKernel { .. } => return None,
            Arguments { .. } | OutOfRange { .. } | Bug(_) => return None,
        })
    }

    /// An error of the driver; `doing` completes "failed while …" and "… failed".
    pub(super) fn driver(doing: impl Into<String>, error: DriverError) -> CudaError {
        let doing = doing.into();
        let number = error.0 as u32;
        let text = |text: Result<&std::ffi::CStr, DriverError>| match text {
            Ok(text) => text.to_string_lossy().into_owned(),
            Err(_) => "unknown".to_owned(),
        };
        let (name, description) = (text(error.error_name()), text(error.error_string()));
        match LOST.contains(&number) {
            true => CudaError::Lost { doing, number, name, description },
            false => CudaError::Driver { doing, number, name, description },
        }
    }
}

/// Errors after which the context is of no use: uncorrectable memory, exceptions in kernels,
/// timeouts.
const LOST: [u32; 13] = [214, 220, 226, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721];

fn install(library: Library) -> String {
    match library {
        Library::Driver => "install the NVIDIA driver".to_owned(),
        _ => format!(
            "`{INSTALL}`, or install {library} from NVIDIA's repository for this system; \
             PIPE_CUDA_LIBRARIES names further folders"
        ),
    }
}

fn because(reason: &Option<String>) -> String {
    reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default()
}

fn listed(devices: &[String]) -> String {
    match devices {
        [one] => format!("is only 0: {one}"),
        _ => {
            let all: Vec<String> = devices
                .iter()
                .enumerate()
                .map(|(index, name)| format!("{index}: {name}"))
                .collect();
            format!("are {}", all.join(", "))
        }
    }
}

fn folders(looked: &[PathBuf]) -> String {
    let mut text = "the folders of the system's loader".to_owned();
    for folder in looked {
        text.push_str(", ");
        text.push_str(&folder.display().to_string());
    }
    text
}

/// A number with thousands separators.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
