//! Compiles kernels by NVRTC for one GPU, without using it, and keeps what was compiled. Loading
//! and launching is in `module.rs`.
#![expect(unsafe_code, reason = "NVRTC's interface is C")]

use std::{
    ffi::{CString, c_char, c_int},
    fs,
    path::PathBuf,
};

use cudarc::nvrtc::{result, sys};
use sha2::{Digest, Sha256};

use super::{
    device::Capability,
    error::CudaError,
    libraries::{self, Library},
};

/// A `.cu` file.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// For messages.
    pub name: &'a str,
    pub text: &'a str,
    pub options: &'a [&'a str],
}

/// Keeps what is compiled or planned for a GPU under keys that change with everything that it
/// depends on. It is only a cache: what it can't read or write is made again.
pub trait CompileCache {
    fn read(&self, key: &str) -> Option<Vec<u8>>;
    fn write(&self, key: &str, value: &[u8]);
}

pub struct NoCache;

/// A file per key, with a checksum: a driver reads damaged images beyond their end.
pub struct FolderCache(pub PathBuf);

impl FolderCache {
    fn file(&self, key: &str) -> PathBuf {
        self.0.join(hex(Sha256::digest(key)))
    }
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl CompileCache for NoCache {
    fn read(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn write(&self, _: &str, _: &[u8]) {}
}

impl CompileCache for FolderCache {
    fn read(&self, key: &str) -> Option<Vec<u8>> {
        let file = fs::read(self.file(key)).ok()?;
        let (checksum, image) = file.split_at_checked(32)?;
        (Sha256::digest(image)[..] == *checksum).then(|| image.to_owned())
    }

    fn write(&self, key: &str, image: &[u8]) {
        let file = [&Sha256::digest(image)[..], image].concat();
        let unfinished = self.file(key).with_extension(std::process::id().to_string());
        let written = fs::create_dir_all(&self.0)
            .and_then(|()| fs::write(&unfinished, file))
            .and_then(|()| fs::rename(&unfinished, self.file(key)));
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
    }
}

/// A compilation that is planned: what it needs, and the key of its result.
pub(super) struct Compilation<'a> {
    source: Source<'a>,
    architecture: String,
    pub(super) key: String,
}

impl<'a> Compilation<'a> {
    pub(super) fn new(
        source: Source<'a>,
        capability: Capability,
    ) -> Result<Compilation<'a>, CudaError> {
        let version = libraries::required(Library::Nvrtc)?.version;
        let architecture = architecture(source.name, capability)?;
        let mut key = Sha256::new();
        // The first line changes with what is written into the cache.
        for part in ["1", &version.to_string(), &architecture, source.name, source.text]
            .iter()
            .chain(source.options)
        {
            key.update((part.len() as u64).to_le_bytes());
            key.update(part.as_bytes());
        }
        let key = hex(key.finalize());
        Ok(Compilation { source, architecture, key })
    }

    /// Machine code for the GPU, or PTX for one that is newer than NVRTC; ends with a zero.
    pub(super) fn run(&self) -> Result<Vec<u8>, CudaError> {
        let program = Program::new(self)?;
        program.compile(self)?;
        let mut image = program.image(self)?;
        if image.last() != Some(&0) {
            image.push(0);
        }
        Ok(image)
    }

    fn failed(&self, log: impl Into<String>) -> CudaError {
        CudaError::Compile {
            file: self.source.name.to_owned(),
            architecture: self.architecture.clone(),
            log: log.into(),
        }
    }
}

/// Compiles for a GPU that need not be there.
pub fn compile(source: Source<'_>, capability: Capability) -> Result<Vec<u8>, CudaError> {
    Compilation::new(source, capability)?.run()
}

/// `sm_90` where NVRTC knows this GPU, else the newest older `compute_80`, which the driver
/// translates.
fn architecture(file: &str, capability: Capability) -> Result<String, CudaError> {
    let wanted = capability.number();
    let known = known_architectures();
    if known.contains(&wanted) {
        return Ok(format!("sm_{wanted}"));
    }
    let older = known.iter().filter(|&&number| number < wanted).max();
    older.map(|number| format!("compute_{number}")).ok_or_else(|| CudaError::Compile {
        file: file.to_owned(),
        architecture: format!("sm_{wanted}"),
        log: "this version of NVRTC supports newer GPUs only".to_owned(),
    })
}

fn known_architectures() -> Vec<u32> {
    let mut count: c_int = 0;
    // SAFETY: the functions are there (`libraries.rs`); the second writes as many numbers as the
    // first counts.
    unsafe {
        if sys::nvrtcGetNumSupportedArchs(&mut count).result().is_err() {
            return Vec::new();
        }
        let mut numbers = vec![0; count.max(0) as usize];
        match sys::nvrtcGetSupportedArchs(numbers.as_mut_ptr()).result() {
            Ok(()) => numbers.into_iter().map(|number: c_int| number as u32).collect(),
            Err(_) => Vec::new(),
        }
    }
}

/// NVRTC's object of a compilation.
struct Program {
    program: sys::nvrtcProgram,
    // NVRTC may refer to them until the program is destroyed.
    _text: CString,
    _name: CString,
}

impl Program {
    fn new(of: &Compilation) -> Result<Program, CudaError> {
        let zero = |_| of.failed("the source or its name contains a zero byte");
        let text = CString::new(of.source.text).map_err(zero)?;
        let name = CString::new(of.source.name).map_err(zero)?;
        let program = result::create_program(&text, Some(&name))
            .map_err(|e| of.failed(format!("{:?}", e.0)))?;
        Ok(Program { program, _text: text, _name: name })
    }

    fn compile(&self, of: &Compilation) -> Result<(), CudaError> {
        let mut options = vec![format!("--gpu-architecture={}", of.architecture)];
        options.extend(of.source.options.iter().map(|&option| option.to_owned()));
        if options.iter().any(|option| option.contains('\0')) {
            return Err(of.failed("an option contains a zero byte"));
        }
        // SAFETY: the program is alive until `drop`.
        let compiled = unsafe { result::compile_program(self.program, &options) };
        compiled.map_err(|error| {
            let log = self.log();
            let log = log.trim_end_matches(['\0', '\n']);
            match log.is_empty() {
                true => of.failed(format!("{:?}", error.0)),
                false => of.failed(format!("{:?}\n{log}", error.0)),
            }
        })
    }

    fn log(&self) -> String {
        // SAFETY: the program is alive until `drop`.
        let log = unsafe { result::get_program_log(self.program) }.unwrap_or_default();
        let bytes: Vec<u8> = log.into_iter().map(|byte| byte as u8).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn image(&self, of: &Compilation) -> Result<Vec<u8>, CudaError> {
        let machine_code = of.architecture.starts_with("sm_");
        let mut size = 0;
        // SAFETY: the program is alive until `drop`, and each function writes as many bytes as the
        // size says.
        let image = unsafe {
            match machine_code {
                true => sys::nvrtcGetCUBINSize(self.program, &mut size),
                false => sys::nvrtcGetPTXSize(self.program, &mut size),
            }
            .result()
            .and_then(|()| {
                let mut image = vec![0u8; size];
                let start = image.as_mut_ptr().cast::<c_char>();
                match machine_code {
                    true => sys::nvrtcGetCUBIN(self.program, start),
                    false => sys::nvrtcGetPTX(self.program, start),
                }
                .result()
                .map(|()| image)
            })
        };
        image.map_err(|e| of.failed(format!("no code was made ({:?})", e.0)))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: created by `new`, destroyed here only.
        let _ = unsafe { result::destroy_program(self.program) };
    }
}
