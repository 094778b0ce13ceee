//! cuDNN's handle: bound to a stream, on whose card plans are made and executed.

#![allow(unsafe_code)]

use super::descriptor::Descriptor;
use super::library::SUCCESS;
use super::{ConvolutionError, Cudnn};
use crate::cuda::Stream;
use cudarc::cudnn::sys;
use cudarc::driver::CudaStream;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use sys::cudnnBackendAttributeName_t as Attribute;
use sys::cudnnBackendDescriptorType_t as Kind;

/// A handle of cuDNN. Its plans keep it. Neither it nor they leave their thread.
#[derive(Clone)]
pub struct Handle {
    inner: Rc<Inner>,
}

struct Inner {
    cudnn: Cudnn,
    raw: sys::cudnnHandle_t,
    /// Executions are enqueued here.
    stream: Arc<CudaStream>,
    name: String,
    capability: (u32, u32),
}

impl Handle {
    /// A handle whose plans are executed on `stream`.
    ///
    /// # Errors
    /// When the driver or cuDNN fails.
    pub fn new(cudnn: Cudnn, stream: &Stream) -> Result<Handle, ConvolutionError> {
        let stream = stream.shared();
        let context = stream.context();
        let driver = |error| ConvolutionError::Cudnn {
            action: "use the stream's card".to_owned(),
            status: format!("{error:?}"),
            detail: String::new(),
        };
        context.bind_to_thread().map_err(driver)?;
        let name = context.name().map_err(driver)?;
        let (major, minor) = context.compute_capability().map_err(driver)?;
        let capability = (major.unsigned_abs(), minor.unsigned_abs());
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is a valid place for the handle, and a context is current.
        let status = unsafe { (cudnn.create)(&mut raw) };
        if status != SUCCESS {
            return Err(cudnn.failed("create a handle", status));
        }
        // From here on, dropping destroys the handle.
        let inner = Inner { cudnn, raw, stream, name, capability };
        // SAFETY: the handle is live; the stream lives as long as it does.
        let status = unsafe { (cudnn.set_stream)(raw, inner.stream.cu_stream().cast()) };
        if status != SUCCESS {
            return Err(cudnn.failed("set the handle's stream", status));
        }
        Ok(Handle { inner: Rc::new(inner) })
    }

    /// The card's description in cuDNN's JSON, for [`DescribedCard`](super::DescribedCard).
    ///
    /// # Errors
    /// When cuDNN fails.
    pub fn describe(&self) -> Result<String, ConvolutionError> {
        let kind = Kind::CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR;
        let card = Descriptor::new(self.cudnn(), kind, "the card's description")?;
        // SAFETY: the descriptor is dropped at the end of this function, before the handle.
        let card = unsafe { card.handle(Attribute::CUDNN_ATTR_DEVICEPROP_HANDLE, self.raw())? };
        card.finalize()?.read_text(Attribute::CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION)
    }

    /// Makes the card's context current on this thread.
    pub(super) fn bind(&self) -> Result<(), ConvolutionError> {
        self.inner.stream.context().bind_to_thread().map_err(|error| ConvolutionError::Cudnn {
            action: "use the stream's card".to_owned(),
            status: format!("{error:?}"),
            detail: String::new(),
        })
    }

    pub(super) fn cudnn(&self) -> Cudnn {
        self.inner.cudnn
    }

    pub(super) fn raw(&self) -> sys::cudnnHandle_t {
        self.inner.raw
    }

    pub(super) fn name(&self) -> &str {
        &self.inner.name
    }

    pub(super) fn capability(&self) -> (u32, u32) {
        self.inner.capability
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: created by `new`, destroyed once. Its status says nothing that could be handled.
        unsafe { (self.cudnn.destroy)(self.raw) };
    }
}
