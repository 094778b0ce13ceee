//! cuDNN's descriptors with typed attributes: created, filled, finalized, and destroyed when
//! dropped. Knows nothing of convolutions.

#![allow(unsafe_code)]

use super::library::SUCCESS;
use super::{ConvolutionError, Cudnn};
use cudarc::cudnn::sys;
use std::ffi::c_void;
use std::ptr;
use sys::cudnnBackendAttributeName_t as Attribute;
use sys::cudnnBackendAttributeType_t as Type;
use sys::cudnnBackendDescriptorType_t as Kind;

/// A descriptor of cuDNN. It owns what it points to.
pub(super) struct Descriptor {
    cudnn: Cudnn,
    raw: sys::cudnnBackendDescriptor_t,
    /// Completes "cuDNN failed to create".
    what: &'static str,
}

/// A value of an attribute as cuDNN reads it.
///
/// # Safety
/// The type must have the layout that cuDNN expects for `TYPE`.
unsafe trait Value: Copy {
    const TYPE: Type;
}

// SAFETY: CUDNN_TYPE_INT64 is an int64_t.
unsafe impl Value for i64 {
    const TYPE: Type = Type::CUDNN_TYPE_INT64;
}

// SAFETY: CUDNN_TYPE_FLOAT is a float.
unsafe impl Value for f32 {
    const TYPE: Type = Type::CUDNN_TYPE_FLOAT;
}

// SAFETY: CUDNN_TYPE_CHAR is a char.
unsafe impl Value for u8 {
    const TYPE: Type = Type::CUDNN_TYPE_CHAR;
}

// SAFETY: CUDNN_TYPE_VOID_PTR is a pointer.
unsafe impl Value for *mut c_void {
    const TYPE: Type = Type::CUDNN_TYPE_VOID_PTR;
}

// SAFETY: CUDNN_TYPE_DATA_TYPE is this enum.
unsafe impl Value for sys::cudnnDataType_t {
    const TYPE: Type = Type::CUDNN_TYPE_DATA_TYPE;
}

// SAFETY: CUDNN_TYPE_CONVOLUTION_MODE is this enum.
unsafe impl Value for sys::cudnnConvolutionMode_t {
    const TYPE: Type = Type::CUDNN_TYPE_CONVOLUTION_MODE;
}

// SAFETY: CUDNN_TYPE_HEUR_MODE is this enum.
unsafe impl Value for sys::cudnnBackendHeurMode_t {
    const TYPE: Type = Type::CUDNN_TYPE_HEUR_MODE;
}

impl Descriptor {
    /// An empty descriptor; `what` names it in error messages.
    pub(super) fn new(
        cudnn: Cudnn,
        kind: Kind,
        what: &'static str,
    ) -> Result<Descriptor, ConvolutionError> {
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is a valid place for the pointer.
        let status = unsafe { (cudnn.create_descriptor)(kind, &mut raw) };
        if status != SUCCESS || raw.is_null() {
            return Err(cudnn.failed(format!("create {what}"), status));
        }
        Ok(Descriptor { cudnn, raw, what })
    }

    /// Sets numbers.
    pub(super) fn ints(self, name: Attribute, values: &[i64]) -> Result<Self, ConvolutionError> {
        self.set_values(name, values)
    }

    pub(super) fn float(self, name: Attribute, value: f32) -> Result<Self, ConvolutionError> {
        self.set_values(name, &[value])
    }

    /// Sets a text, without a zero byte at its end.
    pub(super) fn text(self, name: Attribute, text: &str) -> Result<Self, ConvolutionError> {
        self.set_values(name, text.as_bytes())
    }

    /// Sets addresses in device memory. They are kept as numbers.
    pub(super) fn addresses(
        self,
        name: Attribute,
        addresses: &[u64],
    ) -> Result<Self, ConvolutionError> {
        let pointers: Vec<*mut c_void> =
            addresses.iter().map(|&address| address as *mut c_void).collect();
        self.set_values(name, &pointers)
    }

    pub(super) fn data_type(
        self,
        name: Attribute,
        value: sys::cudnnDataType_t,
    ) -> Result<Self, ConvolutionError> {
        self.set_values(name, &[value])
    }

    pub(super) fn convolution_mode(
        self,
        name: Attribute,
        value: sys::cudnnConvolutionMode_t,
    ) -> Result<Self, ConvolutionError> {
        self.set_values(name, &[value])
    }

    pub(super) fn heuristic_mode(
        self,
        name: Attribute,
        value: sys::cudnnBackendHeurMode_t,
    ) -> Result<Self, ConvolutionError> {
        self.set_values(name, &[value])
    }

    /// Sets another descriptor, which must be finalized. cuDNN shares what it points to, so that
    /// `value` may be dropped before this one.
    pub(super) fn descriptor(
        self,
        name: Attribute,
        value: &Descriptor,
    ) -> Result<Self, ConvolutionError> {
        // SAFETY: one pointer to a live descriptor.
        unsafe {
            self.set(name, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, (&raw const value.raw).cast())
        }
    }

    /// Sets a handle.
    ///
    /// # Safety
    /// The handle must be live for as long as the descriptor.
    pub(super) unsafe fn handle(
        self,
        name: Attribute,
        handle: sys::cudnnHandle_t,
    ) -> Result<Self, ConvolutionError> {
        // SAFETY: one handle; that it lives long enough is this function's contract.
        unsafe { self.set(name, Type::CUDNN_TYPE_HANDLE, 1, (&raw const handle).cast()) }
    }

    fn set_values<T: Value>(self, name: Attribute, values: &[T]) -> Result<Self, ConvolutionError> {
        // SAFETY: the slice holds as many values of the type as said, by `Value`'s contract.
        unsafe { self.set(name, T::TYPE, values.len(), values.as_ptr().cast()) }
    }

    /// # Safety
    /// `values` must point to `count` values of the type `kind`.
    unsafe fn set(
        self,
        name: Attribute,
        kind: Type,
        count: usize,
        values: *const c_void,
    ) -> Result<Self, ConvolutionError> {
        let Ok(count) = i64::try_from(count) else {
            return Err(self.cudnn.failed(format!("set {name:?} of {}", self.what), SUCCESS));
        };
        // SAFETY: the descriptor is live; the rest is this function's contract.
        let status = unsafe { (self.cudnn.set_attribute)(self.raw, name, kind, count, values) };
        if status != SUCCESS {
            return Err(self.cudnn.failed(format!("set {name:?} of {}", self.what), status));
        }
        Ok(self)
    }

    /// Has cuDNN check and complete the descriptor. Only then can it be read and used by others.
    pub(super) fn finalize(self) -> Result<Self, ConvolutionError> {
        // SAFETY: the descriptor is live.
        let status = unsafe { (self.cudnn.finalize)(self.raw) };
        if status != SUCCESS {
            return Err(self.cudnn.failed(format!("finalize {}", self.what), status));
        }
        Ok(self)
    }

    /// Reads a number.
    pub(super) fn int(&self, name: Attribute) -> Result<i64, ConvolutionError> {
        let mut value = 0_i64;
        // SAFETY: room for one number.
        let count = unsafe { self.get(name, Type::CUDNN_TYPE_INT64, 1, (&raw mut value).cast())? };
        if count < 1 {
            return Err(self.cudnn.failed(format!("read {name:?} of {}", self.what), SUCCESS));
        }
        Ok(value)
    }

    /// Reads a list of at most `N` values of the enum `kind` as numbers: newer libraries return
    /// values that the Rust enums lack.
    pub(super) fn enums<const N: usize>(
        &self,
        name: Attribute,
        kind: Type,
    ) -> Result<Vec<i32>, ConvolutionError> {
        let mut values = [0_i32; N];
        // SAFETY: room for `N` values; the enums of cuDNN are of the size of an i32.
        let count = unsafe { self.get(name, kind, N, values.as_mut_ptr().cast())? };
        Ok(values[..count.min(N)].to_vec())
    }

    /// Reads a text.
    pub(super) fn read_text(&self, name: Attribute) -> Result<String, ConvolutionError> {
        // SAFETY: asked for zero values, cuDNN writes none and returns how many there are.
        let length = unsafe { self.get(name, Type::CUDNN_TYPE_CHAR, 0, ptr::null_mut())? };
        let mut bytes = vec![0_u8; length];
        // SAFETY: room for as many bytes as asked for.
        let length =
            unsafe { self.get(name, Type::CUDNN_TYPE_CHAR, length, bytes.as_mut_ptr().cast())? };
        bytes.truncate(length);
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        String::from_utf8(bytes)
            .map_err(|_| self.cudnn.failed(format!("read {name:?} of {}", self.what), SUCCESS))
    }

    /// Reads a list of descriptors of the kind `kind`.
    pub(super) fn descriptors(
        &self,
        name: Attribute,
        kind: Kind,
        what: &'static str,
    ) -> Result<Vec<Descriptor>, ConvolutionError> {
        let list = Type::CUDNN_TYPE_BACKEND_DESCRIPTOR;
        // SAFETY: asked for zero values, cuDNN writes none and returns how many there are.
        let count = unsafe { self.get(name, list, 0, ptr::null_mut())? };
        self.filled(name, kind, what, count)
    }

    /// Reads a descriptor of the kind `kind`.
    pub(super) fn only(
        &self,
        name: Attribute,
        kind: Kind,
        what: &'static str,
    ) -> Result<Descriptor, ConvolutionError> {
        let found = self.filled(name, kind, what, 1)?.pop();
        found.ok_or_else(|| self.cudnn.failed(format!("read {name:?} of {}", self.what), SUCCESS))
    }

    /// Reads at most `count` descriptors: cuDNN fills those that it is given.
    fn filled(
        &self,
        name: Attribute,
        kind: Kind,
        what: &'static str,
        count: usize,
    ) -> Result<Vec<Descriptor>, ConvolutionError> {
        let empty = (0..count).map(|_| Descriptor::new(self.cudnn, kind, what));
        let mut found = empty.collect::<Result<Vec<_>, _>>()?;
        let mut raw: Vec<_> = found.iter().map(|descriptor| descriptor.raw).collect();
        let list = Type::CUDNN_TYPE_BACKEND_DESCRIPTOR;
        // SAFETY: `count` live descriptors of the list's kind.
        let count = unsafe { self.get(name, list, count, raw.as_mut_ptr().cast())? };
        found.truncate(count);
        Ok(found)
    }

    /// Reads an attribute, and returns how many values there are.
    ///
    /// # Safety
    /// `values` must have room for `count` values of the type `kind`.
    unsafe fn get(
        &self,
        name: Attribute,
        kind: Type,
        count: usize,
        values: *mut c_void,
    ) -> Result<usize, ConvolutionError> {
        let failed = |status| self.cudnn.failed(format!("read {name:?} of {}", self.what), status);
        let room = i64::try_from(count).map_err(|_| failed(SUCCESS))?;
        let mut found = 0_i64;
        // SAFETY: the descriptor is live; the rest is this function's contract.
        let status =
            unsafe { (self.cudnn.get_attribute)(self.raw, name, kind, room, &mut found, values) };
        if status != SUCCESS {
            return Err(failed(status));
        }
        usize::try_from(found).map_err(|_| failed(status))
    }

    pub(super) fn raw(&self) -> sys::cudnnBackendDescriptor_t {
        self.raw
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: created by `new`, destroyed once. Its status says nothing that could be handled.
        unsafe { (self.cudnn.destroy_descriptor)(self.raw) };
    }
}
