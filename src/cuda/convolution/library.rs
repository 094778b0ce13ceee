//! The functions of cuDNN that convolutions call. They are looked up once: a function that is
//! missing is an error, where cudarc's own wrappers panic. Doesn't search for the library: it must
//! be loaded already, or be where the system's loader looks.

#![allow(unsafe_code)]

use super::ConvolutionError;
use cudarc::cudnn::sys;
use std::ffi::{CStr, c_char, c_void};

/// A status as cuDNN returns it. Newer libraries return values that the enum in `sys` lacks, and
/// a Rust enum with an unknown value is undefined behavior.
pub(super) type Status = i32;

/// `CUDNN_STATUS_SUCCESS`.
pub(super) const SUCCESS: Status = 0;

/// The oldest cuDNN that plans for a described card and without a handle, as
/// `cudnnGetVersion` counts.
const OLDEST: usize = 90_800;

/// cuDNN's functions.
#[derive(Clone, Copy)]
pub struct Cudnn {
    pub(super) create: unsafe extern "C" fn(*mut sys::cudnnHandle_t) -> Status,
    pub(super) destroy: unsafe extern "C" fn(sys::cudnnHandle_t) -> Status,
    pub(super) set_stream: unsafe extern "C" fn(sys::cudnnHandle_t, *mut c_void) -> Status,
    pub(super) create_descriptor: unsafe extern "C" fn(
        sys::cudnnBackendDescriptorType_t,
        *mut sys::cudnnBackendDescriptor_t,
    ) -> Status,
    pub(super) destroy_descriptor: unsafe extern "C" fn(sys::cudnnBackendDescriptor_t) -> Status,
    pub(super) finalize: unsafe extern "C" fn(sys::cudnnBackendDescriptor_t) -> Status,
    pub(super) set_attribute: unsafe extern "C" fn(
        sys::cudnnBackendDescriptor_t,
        sys::cudnnBackendAttributeName_t,
        sys::cudnnBackendAttributeType_t,
        i64,
        *const c_void,
    ) -> Status,
    pub(super) get_attribute: unsafe extern "C" fn(
        sys::cudnnBackendDescriptor_t,
        sys::cudnnBackendAttributeName_t,
        sys::cudnnBackendAttributeType_t,
        i64,
        *mut i64,
        *mut c_void,
    ) -> Status,
    pub(super) execute: unsafe extern "C" fn(
        sys::cudnnHandle_t,
        sys::cudnnBackendDescriptor_t,
        sys::cudnnBackendDescriptor_t,
    ) -> Status,
    error_string: unsafe extern "C" fn(Status) -> *const c_char,
    last_error: unsafe extern "C" fn(*mut c_char, usize),
    version: usize,
}

impl Cudnn {
    /// Looks up the functions. libcublasLt must be loaded before: some versions of cuDNN abort the
    /// process when they don't find it.
    ///
    /// # Errors
    /// When cuDNN isn't found, is older than 9.8, or lacks a function.
    pub fn load() -> Result<Cudnn, ConvolutionError> {
        // SAFETY: opening cuDNN runs its initializers, which have no preconditions.
        if !unsafe { sys::is_culib_present() } {
            return Err(ConvolutionError::Library("libcudnn.so.9 was not found".to_owned()));
        }
        // The version first: older libraries lack some of the other functions.
        let version: unsafe extern "C" fn() -> usize = symbol("cudnnGetVersion")?;
        // SAFETY: `cudnnGetVersion` takes no arguments and may be called at any time.
        let version = unsafe { version() };
        if version < OLDEST {
            return Err(ConvolutionError::Library(format!(
                "cuDNN {} is too old; 9.8 or newer is needed",
                version_text(version)
            )));
        }
        Ok(Cudnn {
            create: symbol("cudnnCreate")?,
            destroy: symbol("cudnnDestroy")?,
            set_stream: symbol("cudnnSetStream")?,
            create_descriptor: symbol("cudnnBackendCreateDescriptor")?,
            destroy_descriptor: symbol("cudnnBackendDestroyDescriptor")?,
            finalize: symbol("cudnnBackendFinalize")?,
            set_attribute: symbol("cudnnBackendSetAttribute")?,
            get_attribute: symbol("cudnnBackendGetAttribute")?,
            execute: symbol("cudnnBackendExecute")?,
            error_string: symbol("cudnnGetErrorString")?,
            last_error: symbol("cudnnGetLastErrorString")?,
            version,
        })
    }

    /// The version as cuDNN counts: 92100 is 9.21.0.
    pub fn version(&self) -> usize {
        self.version
    }

    /// The version in words: `9.21.0`.
    pub fn version_text(&self) -> String {
        version_text(self.version)
    }

    /// An error of a call that returned `status`; `action` completes "cuDNN failed to".
    pub(super) fn failed(&self, action: impl Into<String>, status: Status) -> ConvolutionError {
        ConvolutionError::Cudnn {
            action: action.into(),
            status: self.status_name(status),
            detail: self.last_error(),
        }
    }

    fn status_name(&self, status: Status) -> String {
        // SAFETY: the function accepts any number and returns a static string.
        let name = unsafe { (self.error_string)(status) };
        if name.is_null() {
            return format!("status {status}");
        }
        // SAFETY: not null, and a static string that ends in a zero byte.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    }

    /// The message of the last error of this thread, on one line. Reading it clears it.
    fn last_error(&self) -> String {
        let mut buffer = [0_u8; 1024];
        // SAFETY: cuDNN writes at most the given number of bytes, the last one being zero.
        unsafe { (self.last_error)(buffer.as_mut_ptr().cast(), buffer.len()) };
        let text = CStr::from_bytes_until_nul(&buffer).unwrap_or_default().to_string_lossy();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// A function of the loaded library. `F` must be the type of the function `name`.
fn symbol<F: Copy>(name: &str) -> Result<F, ConvolutionError> {
    // SAFETY: `is_culib_present` was true, so that the library opens; the types above are those of
    // cuDNN's header, with a status read as a number.
    let function = unsafe { sys::culib().get::<F>(name.as_bytes()) };
    function.map(|function| *function).map_err(|_| {
        ConvolutionError::Library(format!("the library found as cuDNN has no function `{name}`"))
    })
}

fn version_text(version: usize) -> String {
    // Until cuDNN 8, a thousand stood for a major version.
    let major = if version < 10_000 { 1000 } else { 10_000 };
    format!("{}.{}.{}", version / major, version % major / 100, version % 100)
}

#[cfg(test)]
mod tests {
    use super::version_text;

    #[test]
    fn versions_in_words() {
        assert_eq!(version_text(8907), "8.9.7");
        assert_eq!(version_text(91_900), "9.19.0");
        assert_eq!(version_text(92_801), "9.28.1");
    }
}
