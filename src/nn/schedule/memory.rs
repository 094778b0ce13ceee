//! How much memory a schedule needs, and which batch fits.

use super::Schedule;
#[cfg(test)]
use super::{Content, arena};
use crate::nn::NnError;

/// Bytes on a card, by use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Maps, gradients of maps and scratch, see [`Schedule::memory`].
    pub arena: usize,
    /// Parameters in all precisions they are kept in, and running statistics.
    pub parameters: usize,
    /// Gradients of parameters.
    pub gradients: usize,
    /// The optimizer's moments.
    pub moments: usize,
    /// Workspace of the convolution library.
    pub workspace: usize,
}

impl Memory {
    pub fn total(&self) -> usize {
        self.arena + self.parameters + self.gradients + self.moments + self.workspace
    }

    pub fn fits(&self, available: usize) -> bool {
        self.total() <= available
    }
}

impl Schedule {
    /// Bytes of the arena.
    pub fn memory(&self) -> usize {
        self.bytes
    }

    /// The most bytes live at one launch, which no arena can be smaller than.
    #[cfg(test)]
    pub fn peak(&self) -> usize {
        arena::peak(&self.buffers)
    }

    /// Bytes of the values and statistics that the backward pass reads; they are live together when
    /// it begins.
    #[cfg(test)]
    pub fn kept_bytes(&self) -> usize {
        let kept = |content| matches!(content, Content::Value(_) | Content::Kept(_));
        let crosses = |first, last| first < self.backward && last >= self.backward;
        let buffers = self.buffers.iter();
        let kept = buffers.filter(|b| kept(b.content) && crosses(b.first, b.last));
        kept.map(|buffer| buffer.bytes()).sum()
    }
}

/// The largest batch of at most `most` images whose memory fits `available` bytes, or `None` if
/// not even one image's does. `needed` gives the memory of a batch; it must not shrink as the batch
/// grows.
///
/// # Errors
/// Those of `needed`.
pub fn largest_batch(
    available: usize,
    most: usize,
    needed: impl Fn(usize) -> Result<Memory, NnError>,
) -> Result<Option<usize>, NnError> {
    let (mut fitting, mut beyond) = (0, most + 1);
    while beyond - fitting > 1 {
        let batch = fitting + (beyond - fitting) / 2;
        match needed(batch) {
            Ok(memory) if memory.fits(available) => fitting = batch,
            // Norms have no statistics of a single value: a batch too small is no batch too large.
            Err(NnError::SingleValue { .. }) => fitting = batch,
            Ok(_) => beyond = batch,
            Err(error) => return Err(error),
        }
    }
    Ok((fitting > 0).then_some(fitting))
}
