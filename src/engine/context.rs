//! What a stage is given while it runs, and nothing else: parameters, inputs, an empty slot, the memo, a voice, a wish to
//! stop, a seed, a thread budget, a device.

use super::StageError;
use crate::config::Values;
use crate::events::{CancellationToken, EventSink};
use crate::store::{Digest, Memo};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The NVIDIA card of this number.
    Cuda(usize),
}

impl Device {
    /// What of it changes numbers, and so is part of keys: "cpu" or "cuda", not which card.
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
            Device::Cuda(card) => write!(f, "cuda:{card}"),
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
        match text.split_once(':') {
            None if text == "cpu" => Ok(Device::Cpu),
            None if text == "cuda" => Ok(Device::Cuda(0)),
            Some(("cuda", card)) if card.parse::<usize>().is_ok() => {
                Ok(Device::Cuda(card.parse().unwrap_or(0)))
            }
            _ => Err(format!("`{text}` is not a device: use `cpu`, `cuda`, or `cuda:N`")),
        }
    }
}

/// An artifact that a stage reads.
#[derive(Clone, Debug)]
pub struct InputArtifact {
    /// Its folder. Read-only.
    pub path: PathBuf,
    /// Its digest, of all its files.
    pub digest: Digest,
    /// The folder outside the store that it lists and that is read in place. Its files are checked as they are read.
    pub folder: Option<PathBuf>,
}

/// What a stage sees while it runs.
pub struct Context {
    /// Its resolved values as JSON; the kind's `run` gets them typed.
    pub values: Values,
    /// Its inputs by role.
    pub inputs: BTreeMap<String, InputArtifact>,
    /// Facts from outside that its key was made with, as [`Kind::pin`](super::Kind::pin) told them.
    pub facts: BTreeMap<String, serde_json::Value>,
    /// An empty folder that nobody else sees. What is in it at the end becomes the artifact.
    pub slot: PathBuf,
    /// The keyed side store for pure, repeatable work.
    pub memo: Memo,
    /// Takes what the stage has to tell.
    pub events: EventSink,
    /// Raised when the stage should stop. To be looked at between steps.
    pub cancel: CancellationToken,
    /// The root of random numbers; 0 for a kind that doesn't declare that it draws any.
    pub seed: u64,
    /// How many threads it may keep busy. Rayon's current pool has that many.
    pub threads: usize,
    /// What computes.
    pub device: Device,
    /// Its cache key, for checkpoints in the memo.
    pub key: Digest,
}

impl Context {
    /// The artifact that feeds `role`.
    pub fn input(&self, role: &str) -> Result<&InputArtifact, StageError> {
        self.optional_input(role)
            .ok_or_else(|| StageError::failed(format!("nothing feeds the input `{role}`")))
    }

    /// The artifact that feeds `role`, if any does.
    pub fn optional_input(&self, role: &str) -> Option<&InputArtifact> {
        self.inputs.get(role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(3)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cpu:1", "cuda:-1"] {
            assert!(wrong.parse::<Device>().unwrap_err().contains("not a device"), "{wrong}");
        }
    }
}
