//! Opens libraries by name or path, in the order of preference, and keeps them open. Knows no
//! versions.
#![expect(unsafe_code, reason = "std loads no libraries")]

use std::{
    ffi::{CStr, CString, OsStr, c_char, c_void},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::{error::CudaError, folders, libraries::Library};

/// Opens the first of `files` that can be loaded: in the folders given, by the loader, in the
/// folders of toolkits and Python environments.
pub(super) fn find(library: Library, files: &[&str]) -> Result<Handle, CudaError> {
    let mut failed = None;
    let given = folders::given();
    let from = |folders: &[PathBuf], failed: &mut Option<String>| {
        folders.iter().find_map(|folder| in_folder(library, folder, files, failed))
    };
    let by_loader = || files.iter().find_map(|file| Handle::open(OsStr::new(file)).ok());
    if let Some(handle) = from(&given, &mut failed).or_else(by_loader) {
        return Ok(handle);
    }
    // The driver belongs to the system, it is in no environment.
    if library == Library::Driver {
        return Err(CudaError::NoDriver { reason: failed });
    }
    let installed = folders::installed();
    if let Some(handle) = from(&installed, &mut failed) {
        return Ok(handle);
    }
    let python = folders::of_python();
    if let Some(handle) = from(python, &mut failed) {
        return Ok(handle);
    }
    Err(missing(library, files, &[&given, &installed, python], failed))
}

pub(super) fn missing(
    library: Library,
    files: &[&str],
    looked: &[&[PathBuf]],
    reason: Option<String>,
) -> CudaError {
    let mut unique: Vec<PathBuf> = Vec::new();
    for folder in looked.iter().flat_map(|folders| folders.iter()) {
        if !unique.contains(folder) {
            unique.push(folder.clone());
        }
    }
    match library {
        Library::Driver => CudaError::NoDriver { reason },
        _ => CudaError::LibraryMissing {
            library,
            files: files.iter().map(|&file| file.to_owned()).collect(),
            looked: unique,
            reason,
        },
    }
}

fn in_folder(
    library: Library,
    folder: &Path,
    files: &[&str],
    failed: &mut Option<String>,
) -> Option<Handle> {
    let paths = files.iter().map(|file| folder.join(file)).filter(|path| path.exists());
    for path in paths {
        if library == Library::Nvrtc {
            open_builtins(folder);
        }
        match Handle::open(path.as_os_str()) {
            Ok(handle) => return Some(handle),
            Err(reason) => *failed = Some(reason),
        }
    }
    None
}

/// NVRTC opens its builtins by name when it compiles, and doesn't look beside itself.
fn open_builtins(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().as_bytes().starts_with(b"libnvrtc-builtins.so.") {
            // A failure shows when NVRTC compiles, with the name of what it misses.
            let _ = Handle::open(entry.path().as_os_str());
        }
    }
}

/// A library that stays loaded until the process ends.
pub(super) struct Handle(*mut c_void);

impl Handle {
    /// By path or name; visible to every later look-up by name.
    pub(super) fn open(file: &OsStr) -> Result<Handle, String> {
        let name = CString::new(file.as_bytes()).map_err(|e| e.to_string())?;
        // SAFETY: a valid C string; the library's initializers are trusted as those of any
        // dependency.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        match handle.is_null() {
            false => Ok(Handle(handle)),
            true => Err(loader_error()),
        }
    }

    pub(super) fn function(&self, name: &CStr) -> Option<*const c_void> {
        // SAFETY: the handle is open, since nothing closes it; the name is a C string.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        (!address.is_null()).then_some(address.cast_const())
    }
}

fn loader_error() -> String {
    // SAFETY: null, or a C string that is valid until this thread's next call of the loader.
    let text = unsafe {
        let text: *const c_char = libc::dlerror();
        (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
    };
    text.unwrap_or_else(|| "unknown error of the loader".to_owned())
}

/// The file that an address was loaded from.
pub(super) fn path_of(address: *const c_void) -> Option<PathBuf> {
    // SAFETY: `Dl_info` is four pointers, which may be null; `dladdr` fills them with strings of
    // the loader, which are valid while the library is loaded.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(address, &mut info) == 0 || info.dli_fname.is_null() {
            return None;
        }
        let path = OsStr::from_bytes(CStr::from_ptr(info.dli_fname).to_bytes());
        Some(std::fs::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path)))
    }
}
