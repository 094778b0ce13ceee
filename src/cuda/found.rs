//! What of CUDA this machine has, for `pipe device`: libraries with paths and versions, devices,
//! and what is missing.

use std::path::PathBuf;

use serde::Serialize;

use super::{
    device::{self, Card},
    error::CudaError,
    libraries::{self, Library, Version},
};

#[derive(Debug, Clone, Serialize)]
pub struct Found {
    pub driver: FoundLibrary,
    pub nvrtc: FoundLibrary,
    pub cublas_lt: FoundLibrary,
    pub cudnn: FoundLibrary,
    pub devices: Vec<FoundDevice>,
    /// Why there are no devices.
    pub problem: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct FoundLibrary {
    pub path: Option<PathBuf>,
    pub version: Option<Version>,
    /// Why the library can't be used.
    pub problem: Option<String>,
    pub help: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct FoundDevice {
    pub index: usize,
    pub name: String,
    pub capability: String,
    pub bf16: bool,
    pub memory_total: u64,
    /// `None` where the device can't be used now; `problem` says why.
    pub memory_free: Option<u64>,
    pub problem: Option<String>,
}

/// Loads every library and opens every device for a moment.
pub fn found() -> Found {
    let (devices, problem) = match device::all() {
        Ok(all) => (all.iter().map(look_at).collect(), None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    Found {
        driver: library(Library::Driver),
        nvrtc: library(Library::Nvrtc),
        cublas_lt: library(Library::CublasLt),
        cudnn: library(Library::Cudnn),
        devices,
        problem,
    }
}

fn library(library: Library) -> FoundLibrary {
    let opened = libraries::opened(library).ok();
    let error: Option<CudaError> = libraries::required(library).err();
    FoundLibrary {
        path: opened.map(|opened| opened.path.clone()),
        version: opened.map(|opened| opened.version),
        problem: error.as_ref().map(ToString::to_string),
        help: error.as_ref().and_then(CudaError::help),
    }
}

fn look_at(device: &device::Properties) -> FoundDevice {
    let memory = Card::open(device.index).and_then(|card| card.memory());
    FoundDevice {
        index: device.index,
        name: device.name.clone(),
        capability: device.capability.to_string(),
        bf16: device.capability.computes_bf16(),
        memory_total: device.memory,
        memory_free: memory.as_ref().ok().map(|memory| memory.0),
        problem: memory.err().map(|error| error.to_string()),
    }
}
