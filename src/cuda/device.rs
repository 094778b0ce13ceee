//! GPUs: which there are, and one of them opened with its two streams. Memory, streams and events
//! are in `memory.rs` and `stream.rs`.
#![expect(unsafe_code, reason = "the driver's interface is C")]

use std::{fmt, marker::PhantomData, sync::Arc};

use cudarc::driver::{CudaContext, result, sys::CUdevice_attribute as Attribute};

use super::{
    error::CudaError,
    libraries::{self, Library},
    memory::{Buffer, Element, Pinned},
    stream::{Event, Stream},
};

/// What a GPU is, as the driver describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Properties {
    pub index: usize,
    pub name: String,
    pub capability: Capability,
    /// Bytes of memory, used or not.
    pub memory: u64,
}

/// Compute capability: the generation of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capability {
    pub major: u32,
    pub minor: u32,
}

/// A GPU opened by this process. Its streams, buffers and events stay on the thread that opened it.
#[derive(Debug)]
pub struct Card {
    context: Arc<CudaContext>,
    compute: Stream,
    copy: Stream,
    properties: Properties,
    one_thread: PhantomData<*const ()>,
}

impl Capability {
    pub fn computes_bf16(self) -> bool {
        self.major >= 8
    }

    /// As NVRTC numbers architectures: 90 for 9.0.
    pub fn number(self) -> u32 {
        self.major * 10 + self.minor
    }
}

impl Properties {
    /// Checks that the GPU computes in bf16.
    pub fn require_bf16(&self) -> Result<(), CudaError> {
        match self.capability.computes_bf16() {
            true => Ok(()),
            false => Err(CudaError::NoBf16 {
                device: self.name.clone(),
                capability: self.capability.to_string(),
            }),
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The GPUs of this machine, at least one.
pub(super) fn all() -> Result<Vec<Properties>, CudaError> {
    libraries::required(Library::Driver)?;
    const DOING: &str = "starting the driver";
    if let Err(error) = result::init() {
        return Err(match CudaError::driver(DOING, error) {
            CudaError::Driver { number: 100, .. } => CudaError::NoDevice,
            // The toolkit's stand-in for linking, found where the driver should be.
            CudaError::Driver { number: 34, description, .. } => {
                CudaError::NoDriver { reason: Some(description) }
            }
            other => other,
        });
    }
    let count = result::device::get_count().map_err(|e| CudaError::driver(DOING, e))?;
    match count {
        0 => Err(CudaError::NoDevice),
        _ => (0..count as usize).map(properties).collect(),
    }
}

fn properties(index: usize) -> Result<Properties, CudaError> {
    let failed = |e| CudaError::driver(format!("reading the properties of GPU {index}"), e);
    let device = result::device::get(index as i32).map_err(failed)?;
    let attribute = |attribute: Attribute| {
        // SAFETY: the handle was just given by the driver.
        unsafe { result::device::get_attribute(device, attribute) }.map_err(failed)
    };
    Ok(Properties {
        index,
        name: result::device::get_name(device).map_err(failed)?,
        capability: Capability {
            major: attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)? as u32,
            minor: attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)? as u32,
        },
        // SAFETY: as above.
        memory: unsafe { result::device::total_mem(device) }.map_err(failed)? as u64,
    })
}

impl Card {
    /// The properties of the GPU of this index, without opening it.
    pub fn check(index: usize) -> Result<Properties, CudaError> {
        let all = all()?;
        all.get(index).cloned().ok_or_else(|| {
            let devices = all.into_iter().map(|device| device.name).collect();
            CudaError::NoSuchDevice { wanted: index, devices }
        })
    }

    /// Opens the GPU of this index, as the driver counts (and CUDA_VISIBLE_DEVICES chooses) them.
    pub fn open(index: usize) -> Result<Card, CudaError> {
        let properties = Card::check(index)?;
        let failed = |e| CudaError::driver(format!("opening GPU {index}"), e);
        let context = CudaContext::new(index).map_err(failed)?;
        // SAFETY: no slice of cudarc is used, which these events would protect. Waits between
        // streams are placed where they are needed; recorded by cudarc, they would make capturing
        // fail.
        unsafe { context.disable_event_tracking() };
        let compute = Stream::new(&context)?;
        let copy = Stream::new(&context)?;
        Ok(Card { context, compute, copy, properties, one_thread: PhantomData })
    }

    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// The stream that runs the kernels.
    pub fn compute(&self) -> &Stream {
        &self.compute
    }

    /// The stream that brings data from the host.
    pub fn copy(&self) -> &Stream {
        &self.copy
    }

    /// Free and total bytes of memory, now.
    pub fn memory(&self) -> Result<(u64, u64), CudaError> {
        let (free, total) = self
            .context
            .mem_get_info()
            .map_err(|e| CudaError::driver("asking for free GPU memory", e))?;
        Ok((free as u64, total as u64))
    }

    /// Device memory, all zero.
    pub fn zeros<T: Element>(&self, count: usize) -> Result<Buffer<T>, CudaError> {
        let buffer = self.allocate(count)?;
        buffer.clear(&self.compute)?;
        // The copy stream may write to it next.
        self.compute.synchronize()?;
        Ok(buffer)
    }

    /// Device memory with unspecified content.
    pub fn allocate<T: Element>(&self, count: usize) -> Result<Buffer<T>, CudaError> {
        Buffer::new(&self.context, count)
    }

    /// Host memory that the GPU reads by itself, all zero. Write it in order and don't read it: it
    /// isn't cached.
    pub fn pinned(&self, bytes: usize) -> Result<Pinned, CudaError> {
        Pinned::new(&self.context, bytes)
    }

    pub fn event(&self) -> Result<Event, CudaError> {
        Event::new(&self.context, false)
    }

    /// An event that records the time, too.
    pub fn timed_event(&self) -> Result<Event, CudaError> {
        Event::new(&self.context, true)
    }

    /// Waits until everything enqueued has run.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.context.synchronize().map_err(|e| CudaError::driver("waiting for the GPU", e))
    }

    pub(super) fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }
}
