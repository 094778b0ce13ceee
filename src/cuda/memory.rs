//! Memory of the GPU and pinned memory of the host, and copies between them.
//!
//! A copy from pinned memory runs while the host goes on; [`Upload`] owns the memory until then.
//! Everything else that touches host memory waits for its copy.
#![expect(unsafe_code, reason = "memory of the GPU is known by addresses only")]

use std::{fmt, marker::PhantomData, mem::size_of, ops::Range, sync::Arc};

use cudarc::driver::{CudaContext, result, sys};

use super::{
    error::CudaError,
    stream::{Event, Stream, bind},
};

/// A number of which every bit pattern is a value.
///
/// # Safety
/// The type has no padding and no invalid values.
pub unsafe trait Element: Copy + 'static {}

// SAFETY: these types have no padding and no invalid values.
unsafe impl Element for u8 {}
// SAFETY: as above. `u16` also carries the bits of bf16.
unsafe impl Element for u16 {}
// SAFETY: as above.
unsafe impl Element for u32 {}
// SAFETY: as above.
unsafe impl Element for i32 {}
// SAFETY: as above.
unsafe impl Element for u64 {}
// SAFETY: as above.
unsafe impl Element for f32 {}
// SAFETY: as above.
unsafe impl Element for f64 {}

/// Memory of the GPU. Kernels know it by its address.
pub struct Buffer<T> {
    address: u64,
    count: usize,
    context: Arc<CudaContext>,
    elements: PhantomData<*const T>,
}

impl<T: Element> Buffer<T> {
    pub(super) fn new(context: &Arc<CudaContext>, count: usize) -> Result<Buffer<T>, CudaError> {
        bind(context)?;
        let wanted = (count as u64).saturating_mul(size_of::<T>() as u64);
        let address = match wanted {
            0 => 0,
            _ => allocate(wanted)?,
        };
        Ok(Buffer { address, count, context: context.clone(), elements: PhantomData })
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn bytes(&self) -> usize {
        self.count * size_of::<T>()
    }

    /// The address of the first element, for kernels.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Sets every byte to zero.
    pub fn clear(&self, stream: &Stream) -> Result<(), CudaError> {
        self.clear_range(stream, 0..self.count)
    }

    pub fn clear_range(&self, stream: &Stream, range: Range<usize>) -> Result<(), CudaError> {
        let address = self.at("clearing", &range)?;
        if range.is_empty() {
            return Ok(());
        }
        stream.bind()?;
        // SAFETY: the range is within the allocation, which is freed only after the work of all
        // streams.
        unsafe { result::memset_d8_async(address, 0, range.len() * size_of::<T>(), stream.raw()) }
            .map_err(|e| CudaError::driver("clearing GPU memory", e))
    }

    /// Copies from the host, from element `start` on. Ends when the copy has ended.
    pub fn write(&self, stream: &Stream, start: usize, from: &[T]) -> Result<(), CudaError> {
        let address = self.at("writing", &(start..start.saturating_add(from.len())))?;
        if from.is_empty() {
            return Ok(());
        }
        stream.bind()?;
        // SAFETY: the range is within the allocation, and `from` is borrowed until the stream has
        // run.
        unsafe { result::memcpy_htod_async(address, from, stream.raw()) }
            .map_err(|e| CudaError::driver("copying to the GPU", e))?;
        stream.synchronize()
    }

    /// Copies to the host, from element `start` on. Ends when the copy has ended.
    pub fn read(&self, stream: &Stream, start: usize, to: &mut [T]) -> Result<(), CudaError> {
        let address = self.at("reading", &(start..start.saturating_add(to.len())))?;
        if to.is_empty() {
            return Ok(());
        }
        stream.bind()?;
        // SAFETY: the range is within the allocation, and `to` is borrowed until the stream has
        // run; every bit pattern is a value.
        unsafe { result::memcpy_dtoh_async(to, address, stream.raw()) }
            .map_err(|e| CudaError::driver("copying from the GPU", e))?;
        stream.synchronize()
    }

    /// Enqueues a copy of `range` to the elements of `to` from `start` on. The two must not
    /// overlap.
    pub fn copy(
        &self,
        stream: &Stream,
        range: Range<usize>,
        to: &Buffer<T>,
        start: usize,
    ) -> Result<(), CudaError> {
        let source = self.at("copying", &range)?;
        let target = to.at("copying", &(start..start.saturating_add(range.len())))?;
        if range.is_empty() {
            return Ok(());
        }
        let bytes = range.len() * size_of::<T>();
        stream.bind()?;
        // SAFETY: both ranges are within allocations, which are freed only after the work of all
        // streams.
        unsafe { result::memcpy_dtod_async(target, source, bytes, stream.raw()) }
            .map_err(|e| CudaError::driver("copying within the GPU", e))
    }

    fn at(&self, what: &'static str, range: &Range<usize>) -> Result<u64, CudaError> {
        let Range { start, end } = *range;
        match start <= end && end <= self.count {
            true => Ok(self.address + (start * size_of::<T>()) as u64),
            false => Err(CudaError::OutOfRange { what, start, end, count: self.count }),
        }
    }
}

fn allocate(wanted: u64) -> Result<u64, CudaError> {
    // SAFETY: plain allocation; the content is unspecified, and every bit pattern is a value of an
    // `Element`.
    match unsafe { result::malloc_sync(wanted as usize) } {
        Ok(address) => Ok(address),
        Err(error) if error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
            let (free, total) = result::mem_get_info().unwrap_or_default();
            Err(CudaError::OutOfMemory { wanted, free: free as u64, total: total as u64 })
        }
        Err(error) => Err(CudaError::driver("allocating GPU memory", error)),
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        if self.address == 0 {
            return;
        }
        // Kernels and copies that use it may still run. Errors show in the next call.
        self.context.record_err(self.context.synchronize());
        // SAFETY: allocated by `new`, and nothing uses it any more.
        self.context.record_err(unsafe { result::free_sync(self.address) });
    }
}

impl<T> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({:#x}, {})", self.address, self.count)
    }
}

/// Host memory that the GPU reads by itself. Any thread may fill and drop it.
#[derive(Debug)]
pub struct Pinned {
    start: *mut u8,
    bytes: usize,
    context: Arc<CudaContext>,
}

// SAFETY: plain memory with one owner; `drop` binds the context to its thread.
unsafe impl Send for Pinned {}
// SAFETY: shared references only read.
unsafe impl Sync for Pinned {}

impl Pinned {
    pub(super) fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Pinned, CudaError> {
        bind(context)?;
        if bytes == 0 || bytes > isize::MAX as usize {
            return Err(CudaError::Bug(format!("{bytes} bytes of pinned memory were asked for")));
        }
        // SAFETY: plain allocation, initialized below.
        let start = match unsafe { result::malloc_host(bytes, sys::CU_MEMHOSTALLOC_WRITECOMBINED) }
        {
            Ok(start) => start.cast::<u8>(),
            Err(error) if error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                return Err(CudaError::OutOfPinnedMemory { wanted: bytes as u64 });
            }
            Err(error) => return Err(CudaError::driver("allocating pinned memory", error)),
        };
        // SAFETY: the allocation has `bytes` bytes, and nothing else knows it.
        unsafe { start.write_bytes(0, bytes) };
        Ok(Pinned { start, bytes, context: context.clone() })
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: initialized by `new`, and borrowed with `self`; a copy in flight owns the
        // `Pinned`.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes) }
    }

    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(self.start, self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.context.record_err(self.context.bind_to_thread());
        // SAFETY: allocated by `new`; copies own the memory until they have ended.
        self.context.record_err(unsafe { result::free_host(self.start.cast()) });
    }
}

/// A copy from pinned memory to the GPU that may still run.
#[derive(Debug)]
pub struct Upload {
    /// `Some` until `finish` or `drop` has waited.
    pinned: Option<Pinned>,
    arrived: Option<Event>,
}

impl Upload {
    /// Enqueues a copy of the first `bytes` bytes and records `arrived` behind it.
    pub fn start(
        stream: &Stream,
        pinned: Pinned,
        bytes: usize,
        to: &Buffer<u8>,
        arrived: Event,
    ) -> Result<Upload, CudaError> {
        let count = pinned.bytes;
        let from = pinned.as_slice().get(..bytes).ok_or(CudaError::OutOfRange {
            what: "copying from pinned memory",
            start: 0,
            end: bytes,
            count,
        })?;
        let address = to.at("copying to the GPU", &(0..bytes))?;
        stream.bind()?;
        if bytes > 0 {
            // SAFETY: the range is within the allocation, which is freed only after the work of all
            // streams. `Upload` keeps the source and lends it to nobody until the copy has ended.
            unsafe { result::memcpy_htod_async(address, from, stream.raw()) }
                .map_err(|e| CudaError::driver("copying to the GPU", e))?;
        }
        match stream.record(&arrived) {
            Ok(()) => Ok(Upload { pinned: Some(pinned), arrived: Some(arrived) }),
            Err(error) => {
                // The copy may run already, and `pinned` is dropped here.
                let _ = stream.synchronize();
                Err(error)
            }
        }
    }

    /// The event behind the copy.
    pub fn arrived(&self) -> Option<&Event> {
        self.arrived.as_ref()
    }

    /// Waits on the host for the copy and gives back the memory and the event.
    pub fn finish(mut self) -> Result<(Pinned, Event), CudaError> {
        if let Some(arrived) = &self.arrived {
            arrived.synchronize()?;
        }
        match (self.pinned.take(), self.arrived.take()) {
            (Some(pinned), Some(arrived)) => Ok((pinned, arrived)),
            _ => Err(CudaError::Bug("a copy was ended twice".to_owned())),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(arrived) = &self.arrived {
            // After an error of the device no copy runs any more.
            let _ = arrived.synchronize();
        }
    }
}
