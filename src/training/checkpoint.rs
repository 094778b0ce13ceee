//! What a training needs to go on where it was interrupted, kept in the memo under the stage's key. It may save time;
//! it never changes a byte of what comes out, and a damaged or foreign one is as good as none.

use super::stopping::Watch;
use crate::metrics::EpochRow;
use crate::nn::{NnError, Number, WeightTensor, Weights, read_safetensors, write_safetensors};
use crate::store::{Digest, Memo, digest_file};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The memo's bucket.
const BUCKET: &str = "checkpoint";
/// The version of the content; another one is ignored.
const FORMAT: u32 = 1;

/// Tensors by name, in the network's precision.
pub type Tensors<N = f32> = BTreeMap<String, WeightTensor<N>>;

/// Where one training's checkpoint is kept.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    /// The memo.
    pub memo: Memo,
    /// The stage's cache key.
    pub key: Digest,
    /// The least time between two checkpoints.
    pub every: Duration,
    /// A folder for the file while it is written, best on the memo's disk.
    pub scratch: PathBuf,
}

/// Where a training stands, without tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The epoch under way, from 1; one more than there are when all are done.
    pub epoch: u64,
    /// Steps of it that are done.
    pub step: u64,
    /// Training images seen in it.
    pub images: u64,
    /// Those of them that were classified rightly.
    pub hits: u64,
    /// The sum of their losses.
    pub loss: f64,
    /// The epochs that are done.
    pub history: Vec<EpochRow>,
    /// What early stopping has seen.
    pub watch: Watch,
    /// Whether it said to stop.
    pub stopped: bool,
}

/// Everything a training needs to go on.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot<N = f32> {
    /// Where it stands.
    pub state: State,
    /// Parameters that learn, and running statistics.
    pub current: Tensors<N>,
    /// The same after the best epoch so far, where there was one.
    pub best: Option<Tensors<N>>,
    /// What the optimizer remembers.
    pub moments: Tensors<N>,
}

/// What is kept as the memo's value, and points to the file of tensors: a new file is kept beside the old one before this
/// changes from one to the other, so a kill at any time leaves a whole checkpoint.
#[derive(Serialize, Deserialize)]
struct Card {
    format: u32,
    configuration: Digest,
    state: State,
    /// Which of the two files is meant.
    turn: u8,
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
            watch: Watch::default(),
            stopped: false,
        }
    }
}

impl Checkpoints {
    /// Keeps a snapshot in place of the one before.
    pub fn write<N: Number>(&self, configuration: Digest, snapshot: Snapshot<N>) -> io::Result<()> {
        let Snapshot { state, current, best, moments } = snapshot;
        let mut tensors = moments;
        let mut put = |prefix: &str, list: Tensors<N>| {
            tensors.extend(
                list.into_iter().map(|(name, tensor)| (format!("{prefix}/{name}"), tensor)),
            );
        };
        put("current", current);
        put("best", best.unwrap_or_default());
        let file = self.scratch.join("checkpoint.safetensors");
        let weights = Weights { tensors, ..Weights::default() };
        let kept = write_safetensors(&file, &weights)
            .map_err(|error| match error {
                NnError::Io { source, .. } => source,
                other => io::Error::other(other.to_string()),
            })
            .and_then(|()| self.keep(configuration, state, &file));
        let removed = std::fs::remove_file(&file);
        kept.and(removed)
    }

    fn keep(&self, configuration: Digest, state: State, file: &Path) -> io::Result<()> {
        let before = self.card().map_or(1, |card| card.turn);
        let turn = 1 - before.min(1);
        self.memo.remove(BUCKET, &self.name(turn))?;
        self.memo.link(BUCKET, &self.name(turn), file)?;
        let card = Card { format: FORMAT, configuration, state, turn, tensors: digest_file(file)? };
        self.memo.put(BUCKET, &self.key.to_string(), &serde_json::to_vec(&card)?)?;
        self.memo.remove(BUCKET, &self.name(before))
    }

    /// The snapshot that is kept, if it is one of this configuration; otherwise a sentence that says why it is ignored,
    /// and nothing at all where there is none.
    pub fn read<N: Number>(&self, configuration: Digest) -> Result<Option<Snapshot<N>>, String> {
        let Some(card) = self.card() else { return Ok(None) };
        if card.format != FORMAT || card.configuration != configuration {
            return Err(ignored("is of another configuration"));
        }
        let Some(file) = self.memo.file(BUCKET, &self.name(card.turn)) else {
            return Err(ignored("lacks its file"));
        };
        if digest_file(&file).ok() != Some(card.tensors) {
            return Err(ignored("is damaged"));
        }
        let mut tensors = read_safetensors::<N>(&file).map_err(|_| ignored("is damaged"))?.tensors;
        let mut take = |prefix: &str| -> Tensors<N> {
            let named = |name: &String, _: &mut WeightTensor<N>| name.starts_with(prefix);
            tensors
                .extract_if(.., named)
                .map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor))
                .collect()
        };
        let (current, best) = (take("current/"), take("best/"));
        let best = (!best.is_empty()).then_some(best);
        Ok(Some(Snapshot { state: card.state, current, best, moments: tensors }))
    }

    /// Forgets the snapshot.
    pub fn clear(&self) -> io::Result<()> {
        let names = [self.key.to_string(), self.name(0), self.name(1)];
        names.iter().try_for_each(|name| self.memo.remove(BUCKET, name))
    }

    /// The value that is kept; none where there is none, or one that no reader of this version understands.
    fn card(&self) -> Option<Card> {
        serde_json::from_slice(&self.memo.get(BUCKET, &self.key.to_string())?).ok()
    }

    fn name(&self, turn: u8) -> String {
        format!("{}-{turn}", self.key)
    }
}

fn ignored(what: &str) -> String {
    format!("the checkpoint {what} and is ignored: training starts from the beginning")
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
            moments: tensors("first/fc.weight", 2.0),
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
    fn what_was_kept_is_read_and_nothing_is_left_in_the_scratch_folder() {
        let folder = tempfile::tempdir().unwrap();
        let place = checkpoints(folder.path());
        let configuration = Digest::of(b"one");
        assert_eq!(place.read::<f32>(configuration), Ok(None));
        for _ in 0..2 {
            place.write(configuration, snapshot()).unwrap();
            assert_eq!(place.read::<f32>(configuration), Ok(Some(snapshot())));
        }
        let without_best = Snapshot { best: None, ..snapshot() };
        place.write(configuration, without_best.clone()).unwrap();
        assert_eq!(place.read::<f32>(configuration), Ok(Some(without_best)));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        place.clear().unwrap();
        assert_eq!(place.read::<f32>(configuration), Ok(None));
    }

    #[test]
    fn one_of_another_configuration_is_ignored_with_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let place = checkpoints(folder.path());
        place.write(Digest::of(b"one"), snapshot()).unwrap();
        assert!(
            place.read::<f32>(Digest::of(b"two")).unwrap_err().contains("another configuration")
        );
    }

    #[test]
    fn one_that_was_damaged_is_ignored_with_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let place = checkpoints(folder.path());
        let configuration = Digest::of(b"one");
        place.write(configuration, snapshot()).unwrap();
        let turn = place.card().unwrap().turn;
        let file = place.memo.file(BUCKET, &place.name(turn)).unwrap();
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, &bytes).unwrap();
        assert!(place.read::<f32>(configuration).unwrap_err().contains("is damaged"));
        std::fs::remove_file(&file).unwrap();
        assert!(place.read::<f32>(configuration).unwrap_err().contains("lacks its file"));
        // The next one is whole again.
        place.write(configuration, snapshot()).unwrap();
        assert_eq!(place.read::<f32>(configuration), Ok(Some(snapshot())));
    }
}
