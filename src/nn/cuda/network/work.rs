//! What a network on a GPU runs, and the memory of a run.

use crate::cuda::Argument::{Address, U32};
use crate::cuda::Buffer;
use crate::nn::cuda::gpu::Gpu;
use crate::nn::cuda::input::Feed;
use crate::nn::cuda::kernels::over_elements;
use crate::nn::cuda::launches::suffix;
use crate::nn::cuda::run::Run;
use crate::nn::schedule::{Part, TrainingInput};
use crate::nn::{BatchNorm, NnError};
use std::collections::HashMap;
use std::rc::Rc;

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Training { from: TrainingInput, norm: BatchNorm, batch: usize },
    Inference(Part),
}

/// What runs, and the memory that it uses from its first launch to its last.
pub(super) struct Work {
    pub runs: HashMap<Key, Rc<Run>>,
    pub arena: Buffer<u8>,
    pub feed: Feed,
    /// The targets as the host has them, and what it reads.
    pub targets: Buffer<f32>,
    pub output: Buffer<f32>,
    /// The keys of dropout masks, by node.
    pub keys: Buffer<u64>,
}

impl Key {
    pub(super) fn with_batch(self, batch: usize) -> Key {
        match self {
            Key::Training { from, norm, .. } => Key::Training { from, norm, batch },
            Key::Inference(part) => Key::Inference(part),
        }
    }
}

impl Work {
    pub(super) fn new(gpu: &Gpu, nodes: usize) -> Result<Work, NnError> {
        let card = gpu.card();
        Ok(Work {
            runs: HashMap::new(),
            arena: card.allocate(0)?,
            feed: Feed::new(gpu)?,
            targets: card.allocate(0)?,
            output: card.allocate(0)?,
            keys: card.zeros(nodes)?,
        })
    }

    pub(super) fn forget_addresses(&mut self) {
        self.runs.values().for_each(|run| run.forget_addresses());
    }

    /// Reads the output of a run, after it has ended.
    pub(super) fn output(&mut self, gpu: &Gpu, run: &Run) -> Result<Vec<f32>, NnError> {
        let view = run.schedule.output;
        grow(gpu, &mut self.output, view.len())?;
        let arguments = [
            Address(run.address(&self.arena, view)),
            U32(view.stride as u32),
            Address(self.output.address()),
            U32(view.channels as u32),
            U32(view.rows as u32),
            U32(view.channels as u32),
            U32(0),
        ];
        let name = format!("to_f32_{}", suffix(run.element(view)));
        let blocks = over_elements(view.rows, view.channels);
        gpu.kernels().launch(gpu.stream(), &name, blocks, &arguments)?;
        let mut values = vec![0.0; view.len()];
        self.output.read(gpu.stream(), 0, &mut values)?;
        Ok(values)
    }

    pub(super) fn loss(&self, gpu: &Gpu, run: &Run) -> Result<f64, NnError> {
        let Some(view) = run.schedule.loss else { return Ok(0.0) };
        let mut bytes = [0; 8];
        let start = (run.address(&self.arena, view) - self.arena.address()) as usize;
        self.arena.read(gpu.stream(), start, &mut bytes)?;
        Ok(f64::from_le_bytes(bytes))
    }
}

/// Makes a buffer at least this long.
fn grow(gpu: &Gpu, buffer: &mut Buffer<f32>, count: usize) -> Result<(), NnError> {
    if buffer.count() < count {
        *buffer = gpu.card().allocate(count)?;
    }
    Ok(())
}
