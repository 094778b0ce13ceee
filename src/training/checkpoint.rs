//! Checkpoints of an interrupted training, stored in the memo under the stage's cache key. A
//! checkpoint saves time and never changes the resulting bytes; one that is corrupt or from another
//! configuration is ignored.

use super::early_stopping::EarlyStoppingState;
use crate::metrics::EpochRow;
use crate::nn::{NnError, Number, WeightTensor, Weights, read_safetensors, write_safetensors};
use crate::store::{Digest, Memo, MemoName, digest_file};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bucket of the memo.
const BUCKET: &str = "checkpoint";
/// Version of the format; checkpoints of other versions are ignored.
const FORMAT: u32 = 2;

/// Tensors by name, in the network's precision.
pub(super) type Tensors<N = f32> = BTreeMap<String, WeightTensor<N>>;

/// Reads and writes the checkpoint of one training.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoints {
    pub memo: Memo,
    /// The stage's cache key.
    pub key: Digest,
    /// Minimum time between two checkpoints.
    pub every: Duration,
    /// A folder for the temporary file, best on the memo's file system.
    pub scratch: PathBuf,
}

/// The state of a training, without tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The current epoch, from 1; the number of epochs + 1 after the last.
    pub epoch: u64,
    /// Completed steps of the epoch.
    pub step: u64,
    /// Training images seen in the epoch.
    pub images: u64,
    /// Correctly classified ones among them.
    pub hits: u64,
    /// Sum of their losses.
    pub loss: f64,
    /// The completed epochs.
    pub history: Vec<EpochRow>,
    #[serde(rename = "watch")]
    pub early_stopping: EarlyStoppingState,
    /// Whether early stopping ended the training.
    pub stopped: bool,
}

/// Everything that a training needs to resume.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Snapshot<N = f32> {
    pub state: State,
    /// Trainable parameters and running statistics.
    pub current: Tensors<N>,
    /// The same tensors after the best epoch so far.
    pub best: Option<Tensors<N>>,
    /// The optimizer's state.
    pub optimizer: Tensors<N>,
}

/// The memo's value. It points to one of two files of tensors: a new file is stored beside the old
/// one before the header switches to it, so a kill at any time leaves a complete checkpoint.
#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    configuration: Digest,
    state: State,
    /// 0 or 1: the current file.
    #[serde(rename = "turn")]
    file: u8,
    /// The digest of that file.
    tensors: Digest,
}

impl Default for State {
    fn default() -> State {
        State {
            epoch: 1,
            step: 0,
            images: 0,
            hits: 0,
            loss: 0.0,
            history: Vec::new(),
            early_stopping: EarlyStoppingState::default(),
            stopped: false,
        }
    }
}

impl Checkpoints {
    /// Replaces the stored snapshot.
    pub(crate) fn write<N: Number>(
        &self,
        configuration: Digest,
        snapshot: Snapshot<N>,
    ) -> io::Result<()> {
        let Snapshot { state, current, best, optimizer: mut tensors } = snapshot;
        let mut put = |prefix: &str, list: Tensors<N>| {
            tensors.extend(
                list.into_iter().map(|(name, tensor)| (format!("{prefix}/{name}"), tensor)),
            );
        };
        put("current", current);
        put("best", best.unwrap_or_default());
        let file = self.scratch.join("checkpoint.safetensors");
        let weights = Weights { tensors, ..Weights::default() };
        let written = write_safetensors(&file, &weights)
            .map_err(|error| match error {
                NnError::Io { source, .. } => source,
                other => io::Error::other(other.to_string()),
            })
            .and_then(|()| self.link(configuration, state, &file));
        let removed = std::fs::remove_file(&file);
        written.and(removed)
    }

    fn link(&self, configuration: Digest, state: State, path: &Path) -> io::Result<()> {
        let previous = self.header().map_or(1, |header| header.file);
        let file = 1 - previous.min(1);
        self.memo.remove(BUCKET, &self.name(file))?;
        self.memo.link(BUCKET, &self.name(file), path)?;
        let tensors = digest_file(path)?;
        let header = Header { format: FORMAT, configuration, state, file, tensors };
        self.memo.put(BUCKET, &self.key.to_string(), &serde_json::to_vec(&header)?)?;
        self.memo.remove(BUCKET, &self.name(previous))
    }

    /// The stored snapshot, if there is one.
    ///
    /// # Errors
    /// A warning that says why the stored snapshot is ignored.
    pub(crate) fn read<N: Number>(
        &self,
        configuration: Digest,
    ) -> Result<Option<Snapshot<N>>, String> {
        let Some(header) = self.header() else { return Ok(None) };
        if header.format != FORMAT || header.configuration != configuration {
            return Err(ignored("is from another configuration"));
        }
        let Some(file) = self.memo.file(BUCKET, &self.name(header.file)) else {
            return Err(ignored("lacks its tensors"));
        };
        if digest_file(&file).ok() != Some(header.tensors) {
            return Err(ignored("is corrupt"));
        }
        let mut tensors = read_safetensors::<N>(&file).map_err(|_| ignored("is corrupt"))?.tensors;
        let mut take = |prefix: &str| -> Tensors<N> {
            let named = |name: &String, _: &mut WeightTensor<N>| name.starts_with(prefix);
            tensors
                .extract_if(.., named)
                .map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor))
                .collect()
        };
        let (current, best) = (take("current/"), take("best/"));
        let best = (!best.is_empty()).then_some(best);
        Ok(Some(Snapshot { state: header.state, current, best, optimizer: tensors }))
    }

    /// Removes the stored snapshot.
    pub(crate) fn clear(&self) -> io::Result<()> {
        clear(&self.memo, self.key)
    }

    /// None if there is no header, or none that this version can parse.
    fn header(&self) -> Option<Header> {
        serde_json::from_slice(&self.memo.get(BUCKET, &self.key.to_string())?).ok()
    }

    fn name(&self, file: u8) -> String {
        names(self.key)[1 + usize::from(file.min(1))].clone()
    }
}

/// The memo's keys of the checkpoint of a stage: of the header, and of its two files.
fn names(key: Digest) -> [String; 3] {
    [key.to_string(), format!("{key}-0"), format!("{key}-1")]
}

/// The memo's entries that the checkpoint of a stage can have, the header first.
pub(crate) fn entries(key: Digest) -> [MemoName; 3] {
    names(key).map(|name| MemoName::of(BUCKET, &name))
}

/// Removes the checkpoint of a stage.
pub(crate) fn clear(memo: &Memo, key: Digest) -> io::Result<()> {
    names(key).iter().try_for_each(|name| memo.remove(BUCKET, name))
}

/// Where the next build of this key goes on, in words, if an interrupted one left a checkpoint:
/// `epoch 3 of 20, step 12`.
pub(crate) fn resumes_at(memo: &Memo, key: Digest, epochs: u64) -> Option<String> {
    let header: Header = serde_json::from_slice(&memo.get(BUCKET, &key.to_string())?).ok()?;
    let State { epoch, step, .. } = header.state;
    (header.format == FORMAT && epoch <= epochs)
        .then(|| format!("epoch {epoch} of {epochs}, step {}", step + 1))
}

fn ignored(defect: &str) -> String {
    format!("the checkpoint {defect} and is ignored: training starts over")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let tensors = |name: &str, start: f32| {
            let data: Vec<f32> = (0..6).map(|index| start + index as f32 / 3.0).collect();
            Tensors::from([(name.to_owned(), WeightTensor { shape: vec![2, 3], data })])
        };
        Snapshot {
            state: State { epoch: 3, step: 7, loss: 0.1 + 0.2, images: 224, ..State::default() },
            current: tensors("fc.weight", 0.0),
            best: Some(tensors("fc.weight", 1.0)),
            optimizer: tensors("first/fc.weight", 2.0),
        }
    }

    fn checkpoints(folder: &std::path::Path) -> Checkpoints {
        Checkpoints {
            memo: Memo::temporary().unwrap(),
            key: Digest::of(b"key"),
            every: Duration::ZERO,
            scratch: folder.to_owned(),
        }
    }

    #[test]
    fn a_written_snapshot_reads_back_and_the_scratch_folder_is_left_empty() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = checkpoints(folder.path());
        let configuration = Digest::of(b"one");
        assert_eq!(checkpoints.read::<f32>(configuration), Ok(None));
        for _ in 0..2 {
            checkpoints.write(configuration, snapshot()).unwrap();
            assert_eq!(checkpoints.read::<f32>(configuration), Ok(Some(snapshot())));
        }
        let without_best = Snapshot { best: None, ..snapshot() };
        checkpoints.write(configuration, without_best.clone()).unwrap();
        assert_eq!(checkpoints.read::<f32>(configuration), Ok(Some(without_best)));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        checkpoints.clear().unwrap();
        assert_eq!(checkpoints.read::<f32>(configuration), Ok(None));
    }

    #[test]
    fn a_checkpoint_from_another_configuration_is_ignored_with_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = checkpoints(folder.path());
        checkpoints.write(Digest::of(b"one"), snapshot()).unwrap();
        assert!(
            checkpoints
                .read::<f32>(Digest::of(b"two"))
                .unwrap_err()
                .contains("another configuration")
        );
    }

    #[test]
    fn a_corrupt_checkpoint_is_ignored_with_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = checkpoints(folder.path());
        let configuration = Digest::of(b"one");
        checkpoints.write(configuration, snapshot()).unwrap();
        let index = checkpoints.header().unwrap().file;
        let file = checkpoints.memo.file(BUCKET, &checkpoints.name(index)).unwrap();
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, &bytes).unwrap();
        assert!(checkpoints.read::<f32>(configuration).unwrap_err().contains("is corrupt"));
        std::fs::remove_file(&file).unwrap();
        assert!(checkpoints.read::<f32>(configuration).unwrap_err().contains("lacks its tensors"));
        // The next one is complete again.
        checkpoints.write(configuration, snapshot()).unwrap();
        assert_eq!(checkpoints.read::<f32>(configuration), Ok(Some(snapshot())));
    }
}
