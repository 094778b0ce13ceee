//! Launches the kernels of `cuda/kernels.cu` by name. Its table says what each takes.
#![expect(unsafe_code, reason = "kernels read and write memory by addresses")]

use crate::cuda::{Argument, Card, CompileCache, KERNELS, Kernel, Module, Source, Stream};
use crate::nn::NnError;
use std::cell::RefCell;
use std::collections::HashMap;

/// Threads of a block.
const THREADS: u32 = 256;

/// Kernels on one GPU, looked up at their first use.
pub(super) struct Kernels {
    module: Module,
    known: RefCell<HashMap<String, Kernel>>,
}

impl Kernels {
    /// # Errors
    /// When NVRTC is missing or fails.
    pub(super) fn load(card: &Card, cache: &dyn CompileCache) -> Result<Kernels, NnError> {
        let source = Source { name: "kernels.cu", text: KERNELS, options: &["--std=c++17"] };
        let module = Module::load(card, source, cache)?;
        Ok(Kernels { module, known: RefCell::default() })
    }

    /// Enqueues a kernel in `blocks` blocks. Callers pass addresses of memory that they own, as
    /// large as the shapes beside them say, as the table in `kernels.cu` demands.
    pub(super) fn launch(
        &self,
        stream: &Stream,
        name: &str,
        blocks: usize,
        arguments: &[Argument],
    ) -> Result<(), NnError> {
        self.launch_with(stream, name, blocks, THREADS, arguments)
    }

    /// As [`launch`](Self::launch), with blocks of another size.
    pub(super) fn launch_with(
        &self,
        stream: &Stream,
        name: &str,
        blocks: usize,
        threads: u32,
        arguments: &[Argument],
    ) -> Result<(), NnError> {
        let kernel = self.kernel(name)?;
        let blocks = u32::try_from(blocks).map_err(|_| NnError::too_large_for_a_gpu())?;
        // SAFETY: the number and sizes of the arguments are checked. This module's callers make
        // them from live buffers and the views of a schedule, whose tests run every launch.
        unsafe { kernel.launch(stream, [blocks, 1, 1], [threads, 1, 1], arguments) }?;
        Ok(())
    }

    fn kernel(&self, name: &str) -> Result<Kernel, NnError> {
        if let Some(kernel) = self.known.borrow().get(name) {
            return Ok(kernel.clone());
        }
        let kernel = self.module.kernel(name)?;
        self.known.borrow_mut().insert(name.to_owned(), kernel.clone());
        Ok(kernel)
    }
}

/// Blocks of a kernel over a map's elements.
pub(super) fn over_elements(rows: usize, channels: usize) -> usize {
    (rows * channels).div_ceil(2048).clamp(1, 4096)
}

/// Blocks of a kernel over an array without rows.
pub(super) fn over_array(count: usize) -> usize {
    count.div_ceil(4096).clamp(1, 4096)
}

/// Blocks of the second stage of sums by channel.
pub(super) fn over_channels(channels: usize) -> usize {
    channels.div_ceil(32)
}
