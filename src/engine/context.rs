//! The context of a running stage: values, inputs, an empty slot, the memo, an event sink, a
//! cancellation token, a seed, a thread budget and a device. A stage sees nothing else.

use super::StageError;
use crate::config::Values;
use crate::events::{CancellationToken, EventSink};
use crate::store::{Digest, Memo};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The device that computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Device {
    #[default]
    Cpu,
    /// The NVIDIA GPU with this index.
    Cuda(usize),
}

impl Device {
    /// The part of the device that changes numbers and so is part of keys: "cpu" or "cuda",
    /// without the index.
    pub fn class(self) -> &'static str {
        match self {
            Device::Cpu => "cpu",
            Device::Cuda(_) => "cuda",
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl From<Device> for String {
    fn from(device: Device) -> String {
        device.to_string()
    }
}

impl TryFrom<String> for Device {
    type Error = String;

    fn try_from(text: String) -> Result<Device, String> {
        text.parse()
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Device, String> {
        let device = match text {
            "cpu" => Some(Device::Cpu),
            "cuda" => Some(Device::Cuda(0)),
            _ => text.strip_prefix("cuda:").and_then(|index| index.parse().ok()).map(Device::Cuda),
        };
        device.ok_or_else(|| format!("`{text}` is not a device: use `cpu`, `cuda`, or `cuda:N`"))
    }
}

/// An artifact that a stage reads.
#[derive(Clone, Debug)]
pub struct InputArtifact {
    /// The read-only folder of its files.
    pub path: PathBuf,
    pub digest: Digest,
    /// The folder outside the store whose files the artifact lists. They are read in place and
    /// checked against the artifact.
    pub folder: Option<PathBuf>,
    /// The file or folder of it that is needed, where it isn't all of it.
    pub inside: Option<String>,
}

/// Everything that a running stage has access to.
pub struct Context {
    /// The resolved values as JSON; the kind's `run` gets them typed.
    pub values: Values,
    /// Inputs by role.
    pub inputs: BTreeMap<String, InputArtifact>,
    /// The facts from [`Kind::pin`](super::Kind::pin) that are part of the key.
    pub facts: BTreeMap<String, serde_json::Value>,
    /// A private, empty folder. Its content becomes the artifact.
    pub slot: PathBuf,
    pub memo: Memo,
    /// Caches elsewhere, whose memos may be asked: places as the user names them.
    pub cache_from: Vec<String>,
    pub events: EventSink,
    /// To be checked between steps.
    pub cancel: CancellationToken,
    /// The seed of all random numbers; 0 for a kind that doesn't draw any.
    pub seed: u64,
    /// The thread budget, which is the size of rayon's current pool.
    pub threads: usize,
    pub device: Device,
    /// The GPUs that it asked for, by the names that CUDA has for them.
    pub gpus: Vec<String>,
    /// The cache key, for checkpoints in the memo.
    pub key: Digest,
}

impl Context {
    /// The input `role`.
    ///
    /// # Errors
    /// If no stage feeds it.
    pub fn input(&self, role: &str) -> Result<&InputArtifact, StageError> {
        self.optional_input(role)
            .ok_or_else(|| StageError::failed(format!("no stage feeds the input `{role}`")))
    }

    /// The input `role`, if a stage feeds it.
    pub fn optional_input(&self, role: &str) -> Option<&InputArtifact> {
        self.inputs.get(role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_round_trip_and_other_names_are_refused() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(3)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cpu:1", "cuda:-1"] {
            assert!(wrong.parse::<Device>().unwrap_err().contains("not a device"), "{wrong}");
        }
    }
}
