//! Compiled kernels on a GPU: loaded, looked up by name and launched with typed arguments.
#![expect(unsafe_code, reason = "kernels are known by names and addresses only")]

use std::{
    ffi::{CString, c_void},
    rc::Rc,
    sync::Arc,
};

use cudarc::driver::{CudaContext, result, sys};

use super::{
    compile::{Compilation, CompileCache, Source},
    device::Card,
    error::CudaError,
    stream::{Stream, bind},
};

/// The kernels of one file on one GPU.
#[derive(Debug, Clone)]
pub struct Module {
    loaded: Rc<Loaded>,
}

/// Unloads the kernels when the last [`Kernel`] is gone.
#[derive(Debug)]
struct Loaded {
    module: sys::CUmodule,
    context: Arc<CudaContext>,
    file: String,
}

/// A kernel that can be launched.
#[derive(Debug, Clone)]
pub struct Kernel {
    function: sys::CUfunction,
    name: Rc<str>,
    /// Bytes of each parameter.
    sizes: Rc<[usize]>,
    _loaded: Rc<Loaded>,
}

/// The value of one parameter of a kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Argument<'a> {
    Address(u64),
    U64(u64),
    U32(u32),
    I32(i32),
    F32(f32),
    F64(f64),
    /// A struct of 32-bit members, passed by value.
    Words(&'a [u32]),
}

impl Argument<'_> {
    fn size(&self) -> usize {
        match self {
            Argument::Address(_) | Argument::U64(_) | Argument::F64(_) => 8,
            Argument::U32(_) | Argument::I32(_) | Argument::F32(_) => 4,
            Argument::Words(words) => size_of_val(*words),
        }
    }

    fn pointer(&self) -> *mut c_void {
        match self {
            Argument::Address(value) | Argument::U64(value) => std::ptr::from_ref(value).cast(),
            Argument::U32(value) => std::ptr::from_ref(value).cast(),
            Argument::I32(value) => std::ptr::from_ref(value).cast(),
            Argument::F32(value) => std::ptr::from_ref(value).cast(),
            Argument::F64(value) => std::ptr::from_ref(value).cast::<c_void>(),
            Argument::Words(words) => words.as_ptr().cast(),
        }
        .cast_mut()
    }
}

impl Module {
    /// Loads a file's kernels from the cache, or compiles them.
    pub fn load(
        card: &Card,
        source: Source<'_>,
        cache: &dyn CompileCache,
    ) -> Result<Module, CudaError> {
        let compilation = Compilation::new(source, card.properties().capability)?;
        let kept = cache.read(&compilation.key);
        // A kept image that doesn't load is replaced.
        if let Some(loaded) = kept.and_then(|image| load(card, source.name, image).ok()) {
            return Ok(Module { loaded: Rc::new(loaded) });
        }
        let image = compilation.run()?;
        cache.write(&compilation.key, &image);
        Ok(Module { loaded: Rc::new(load(card, source.name, image)?) })
    }

    pub fn kernel(&self, name: &str) -> Result<Kernel, CudaError> {
        let unknown =
            || CudaError::NoKernel { file: self.loaded.file.clone(), kernel: name.to_owned() };
        let text = CString::new(name).map_err(|_| unknown())?;
        bind(&self.loaded.context)?;
        // SAFETY: the module is loaded until `Loaded` is dropped, which the kernel keeps.
        let function = match unsafe { result::module::get_function(self.loaded.module, text) } {
            Ok(function) => function,
            Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NOT_FOUND => return Err(unknown()),
            Err(error) => {
                return Err(CudaError::driver(format!("looking up the kernel `{name}`"), error));
            }
        };
        Ok(Kernel {
            function,
            name: name.into(),
            sizes: parameter_sizes(function).into(),
            _loaded: self.loaded.clone(),
        })
    }
}

fn load(card: &Card, file: &str, mut image: Vec<u8>) -> Result<Loaded, CudaError> {
    // PTX is read up to a zero.
    if image.last() != Some(&0) {
        image.push(0);
    }
    bind(card.context())?;
    // SAFETY: a whole image of NVRTC (a cache checks what it reads), closed by a zero.
    let module = unsafe { result::module::load_data(image.as_ptr().cast()) }
        .map_err(|e| CudaError::driver(format!("loading the kernels of {file}"), e))?;
    Ok(Loaded { module, context: card.context().clone(), file: file.to_owned() })
}

/// The driver answers an error behind the last parameter.
fn parameter_sizes(function: sys::CUfunction) -> Vec<usize> {
    let mut sizes = Vec::new();
    let (mut offset, mut size) = (0, 0);
    // SAFETY: the function was just given by the driver; two numbers are written.
    while unsafe { sys::cuFuncGetParamInfo(function, sizes.len(), &mut offset, &mut size) }
        == sys::CUresult::CUDA_SUCCESS
    {
        sizes.push(size);
    }
    sizes
}

impl Kernel {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Enqueues the kernel. The number and sizes of the arguments are checked, their meaning isn't.
    ///
    /// # Safety
    /// The arguments have the types of the kernel's parameters, and the kernel touches only live
    /// memory of this GPU with them, in this grid and these blocks.
    pub unsafe fn launch(
        &self,
        stream: &Stream,
        grid: [u32; 3],
        block: [u32; 3],
        arguments: &[Argument<'_>],
    ) -> Result<(), CudaError> {
        self.check(arguments)?;
        let mut pointers: Vec<*mut c_void> = arguments.iter().map(Argument::pointer).collect();
        stream.bind()?;
        // SAFETY: as many pointers as parameters, each to a value of the parameter's size, which
        // the driver copies before it returns. The rest is the caller's promise.
        unsafe {
            result::launch_kernel(
                self.function,
                grid.into(),
                block.into(),
                0,
                stream.raw(),
                &mut pointers,
            )
        }
        .map_err(|e| {
            let doing = format!("launching the kernel `{}` in {grid:?} x {block:?}", self.name);
            CudaError::driver(doing, e)
        })
    }

    fn check(&self, arguments: &[Argument<'_>]) -> Result<(), CudaError> {
        if self.sizes.iter().copied().eq(arguments.iter().map(Argument::size)) {
            return Ok(());
        }
        let given: Vec<usize> = arguments.iter().map(Argument::size).collect();
        Err(CudaError::Arguments {
            kernel: self.name.to_string(),
            expected: format!("arguments of {:?} bytes", self.sizes),
            given: format!("{given:?}"),
        })
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // Kernels may still run.
        self.context.record_err(self.context.synchronize());
        // SAFETY: loaded by `load`, and no `Kernel` is left.
        self.context.record_err(unsafe { result::module::unload(self.module) });
    }
}
