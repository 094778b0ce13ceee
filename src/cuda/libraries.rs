//! Finds and loads the CUDA libraries and checks their versions and functions, before cudarc uses
//! them: cudarc panics where a library or a function is missing, and cuDNN ends the process where
//! cuBLASLt is.
//!
//! Loading by path puts a library where the loader finds it by name; cudarc opens it by name
//! afterwards.
#![expect(unsafe_code, reason = "asks C libraries for their versions")]

use std::{
    ffi::{CStr, c_void},
    fmt,
    path::PathBuf,
    sync::OnceLock,
};

use cudarc::{cudnn, driver, nvrtc};
use serde::Serialize;

use super::{
    error::CudaError,
    loader::{Handle, find, missing, path_of},
};

/// A library that training on a GPU needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Library {
    Driver,
    Nvrtc,
    CublasLt,
    Cudnn,
}

/// A library that is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    pub path: PathBuf,
    pub version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    /// `None` where the library doesn't count patches.
    pub patch: Option<u32>,
}

/// cudarc's bindings need functions that came with this driver.
const OLDEST_DRIVER: Version = Version { major: 12, minor: 8, patch: None };
/// The first that plans for described cards, which is how plans are tested.
const OLDEST_CUDNN: Version = Version { major: 9, minor: 8, patch: Some(0) };

impl Library {
    pub const ALL: [Library; 4] =
        [Library::Driver, Library::Nvrtc, Library::CublasLt, Library::Cudnn];

    /// File names, the preferred ones first.
    pub fn files(self) -> &'static [&'static str] {
        match self {
            Library::Driver => &["libcuda.so.1"],
            Library::Nvrtc => &["libnvrtc.so.13", "libnvrtc.so.12"],
            Library::CublasLt => &["libcublasLt.so.13", "libcublasLt.so.12"],
            Library::Cudnn => &["libcudnn.so.9"],
        }
    }

    fn index(self) -> usize {
        self as usize
    }

    /// Whether cudarc finds the library by name. It doesn't bind cuBLASLt.
    fn is_visible(self) -> bool {
        // SAFETY: loads the library by its name; its initializers are trusted as those of any
        // dependency.
        unsafe {
            match self {
                Library::Driver => driver::sys::is_culib_present(),
                Library::Nvrtc => nvrtc::sys::is_culib_present(),
                Library::Cudnn => cudnn::sys::is_culib_present(),
                Library::CublasLt => true,
            }
        }
    }

    /// The address of a function in the library that cudarc uses. Only after
    /// [`Library::is_visible`].
    fn function(self, name: &CStr) -> Option<*const c_void> {
        let name = name.to_bytes_with_nul();
        // SAFETY: the symbol is used as an address only, and cudarc never unloads a library.
        unsafe {
            match self {
                Library::Driver => driver::sys::culib().get::<*const c_void>(name),
                Library::Nvrtc => nvrtc::sys::culib().get::<*const c_void>(name),
                Library::Cudnn => cudnn::sys::culib().get::<*const c_void>(name),
                Library::CublasLt => return None,
            }
            .ok()
            .map(|symbol| symbol.try_as_raw_ptr().unwrap_or_default().cast_const())
            .filter(|address| !address.is_null())
        }
    }

    /// The functions that this program calls, so that a missing one is reported instead of a panic
    /// of cudarc.
    fn functions(self) -> &'static [&'static CStr] {
        match self {
            Library::Driver => DRIVER_FUNCTIONS,
            Library::Nvrtc => NVRTC_FUNCTIONS,
            Library::CublasLt => &[],
            Library::Cudnn => &[c"cudnnGetVersion", c"cudnnGetCudartVersion"],
        }
    }
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Library::Driver => "the NVIDIA driver",
            Library::Nvrtc => "NVRTC",
            Library::CublasLt => "cuBLASLt",
            Library::Cudnn => "cuDNN",
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        self.patch.map_or(Ok(()), |patch| write!(f, ".{patch}"))
    }
}

impl Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Loads a library, if it isn't loaded yet, and checks that it is new enough.
pub fn required(library: Library) -> Result<&'static Opened, CudaError> {
    let opened = opened(library)?;
    match library {
        Library::Driver if opened.version < OLDEST_DRIVER => Err(CudaError::DriverTooOld {
            version: opened.version,
            needed: OLDEST_DRIVER,
            by: "pipe".to_owned(),
        }),
        // What a newer major version compiles, an older driver can't load.
        Library::Nvrtc => match self::opened(Library::Driver) {
            Ok(driver) if driver.version.major < opened.version.major => {
                Err(CudaError::DriverTooOld {
                    version: driver.version,
                    needed: Version { minor: 0, patch: None, ..opened.version },
                    by: format!("NVRTC {}", opened.version),
                })
            }
            // Without a driver, too, NVRTC compiles.
            _ => Ok(opened),
        },
        Library::Cudnn if opened.version < OLDEST_CUDNN => Err(CudaError::LibraryTooOld {
            library,
            version: opened.version,
            needed: OLDEST_CUDNN,
            path: opened.path.clone(),
        }),
        _ => Ok(opened),
    }
}

/// Loads a library of any version, once per process.
pub(super) fn opened(library: Library) -> Result<&'static Opened, CudaError> {
    static OPENED: [OnceLock<Result<Opened, CudaError>>; 4] = [const { OnceLock::new() }; 4];
    let opened = OPENED[library.index()].get_or_init(|| load(library));
    opened.as_ref().map_err(Clone::clone)
}

fn load(library: Library) -> Result<Opened, CudaError> {
    if library == Library::Cudnn {
        opened(Library::CublasLt)?;
    }
    let handle = find(library, library.files())?;
    if library == Library::CublasLt {
        return version_of_cublas_lt(handle);
    }
    if !library.is_visible() {
        let reason = "it was loaded, but can't be found by name".to_owned();
        return Err(missing(library, library.files(), &[], Some(reason)));
    }
    let path = library
        .functions()
        .first()
        .and_then(|name| library.function(name))
        .and_then(path_of)
        .unwrap_or_default();
    for name in library.functions() {
        if library.function(name).is_none() {
            let function = name.to_string_lossy().into_owned();
            return Err(CudaError::LibraryIncomplete { library, path, function });
        }
    }
    let version = version(library)?;
    if library == Library::Cudnn {
        cublas_lt_for_cudnn()?;
    }
    Ok(Opened { path, version })
}

fn version(library: Library) -> Result<Version, CudaError> {
    match library {
        Library::Driver => {
            let mut version = 0;
            // SAFETY: the function is there (`functions`) and writes one number.
            let result = unsafe { driver::sys::cuDriverGetVersion(&mut version) };
            result.result().map_err(|e| CudaError::driver("asking for the driver's version", e))?;
            Ok(cuda_version(version as u32))
        }
        Library::Nvrtc => {
            let (mut major, mut minor) = (0, 0);
            // SAFETY: the function is there (`functions`) and writes two numbers; it fails on null
            // pointers only.
            unsafe { nvrtc::sys::nvrtcVersion(&mut major, &mut minor) };
            Ok(Version { major: major as u32, minor: minor as u32, patch: None })
        }
        Library::CublasLt | Library::Cudnn => {
            // SAFETY: the function is there (`functions`); it takes nothing and returns a number.
            let number = unsafe { cudnn::sys::cudnnGetVersion() } as u32;
            // 8.9.7 is 8907, 9.10.2 is 91002.
            let unit = if number < 10_000 { 1_000 } else { 10_000 };
            Ok(Version {
                major: number / unit,
                minor: number % unit / 100,
                patch: Some(number % 100),
            })
        }
    }
}

/// 13000 is 13.0.
fn cuda_version(number: u32) -> Version {
    Version { major: number / 1000, minor: number % 1000 / 10, patch: None }
}

/// cuDNN needs cuBLASLt of the CUDA version that it was built for, which need not be the newest
/// that was found.
fn cublas_lt_for_cudnn() -> Result<(), CudaError> {
    // SAFETY: the function is there (`functions`); it takes nothing and returns a number.
    let built_for = cuda_version(unsafe { cudnn::sys::cudnnGetCudartVersion() } as u32).major;
    let suffix = format!(".so.{built_for}");
    match Library::CublasLt.files().iter().find(|file| file.ends_with(&suffix)) {
        Some(file) => find(Library::CublasLt, &[file]).map(drop),
        None => Ok(()),
    }
}

fn version_of_cublas_lt(handle: Handle) -> Result<Opened, CudaError> {
    const NAME: &CStr = c"cublasLtGetVersion";
    let address = handle.function(NAME);
    let path = address.and_then(path_of).unwrap_or_default();
    let Some(address) = address else {
        let function = NAME.to_string_lossy().into_owned();
        return Err(CudaError::LibraryIncomplete { library: Library::CublasLt, path, function });
    };
    // SAFETY: `size_t cublasLtGetVersion(void)` in every version of the library, which is never
    // unloaded.
    let number =
        unsafe { std::mem::transmute::<*const c_void, unsafe extern "C" fn() -> usize>(address)() }
            as u32;
    let version =
        Version { major: number / 10_000, minor: number % 10_000 / 100, patch: Some(number % 100) };
    Ok(Opened { path, version })
}

const DRIVER_FUNCTIONS: &[&CStr] = &[
    c"cuDriverGetVersion",
    c"cuInit",
    c"cuGetErrorName",
    c"cuGetErrorString",
    c"cuDeviceGet",
    c"cuDeviceGetCount",
    c"cuDeviceGetName",
    c"cuDeviceGetAttribute",
    c"cuDeviceTotalMem_v2",
    c"cuDevicePrimaryCtxRetain",
    c"cuDevicePrimaryCtxRelease_v2",
    c"cuCtxGetCurrent",
    c"cuCtxSetCurrent",
    c"cuCtxSynchronize",
    c"cuMemGetInfo_v2",
    c"cuMemAlloc_v2",
    c"cuMemFree_v2",
    c"cuMemHostAlloc",
    c"cuMemFreeHost",
    c"cuMemsetD8Async",
    c"cuMemcpyHtoDAsync_v2",
    c"cuMemcpyDtoHAsync_v2",
    c"cuMemcpyDtoDAsync_v2",
    c"cuStreamCreate",
    c"cuStreamDestroy_v2",
    c"cuStreamSynchronize",
    c"cuStreamWaitEvent",
    c"cuStreamBeginCapture_v2",
    c"cuStreamEndCapture",
    c"cuStreamIsCapturing",
    c"cuEventCreate",
    c"cuEventDestroy_v2",
    c"cuEventRecord",
    c"cuEventSynchronize",
    c"cuEventQuery",
    c"cuEventElapsedTime_v2",
    c"cuGraphInstantiateWithFlags",
    c"cuGraphLaunch",
    c"cuGraphExecDestroy",
    c"cuGraphDestroy",
    c"cuModuleLoadData",
    c"cuModuleUnload",
    c"cuModuleGetFunction",
    c"cuFuncGetParamInfo",
    c"cuLaunchKernel",
];

const NVRTC_FUNCTIONS: &[&CStr] = &[
    c"nvrtcVersion",
    c"nvrtcGetErrorString",
    c"nvrtcGetNumSupportedArchs",
    c"nvrtcGetSupportedArchs",
    c"nvrtcCreateProgram",
    c"nvrtcDestroyProgram",
    c"nvrtcCompileProgram",
    c"nvrtcGetProgramLogSize",
    c"nvrtcGetProgramLog",
    c"nvrtcGetPTXSize",
    c"nvrtcGetPTX",
    c"nvrtcGetCUBINSize",
    c"nvrtcGetCUBIN",
];
