//! A network on a GPU: its parameters, the runs that it has made, and inference. `learning` is what
//! training calls, `work` the memory of a run, `measure` times it.

mod learning;
mod measure;
mod work;

pub use measure::TimedLaunch;

use super::gpu::{Gpu, check_precision};
use super::input::rows;
use super::kernels::over_array;
use super::run::{self, Run};
use super::tensors::{Layout, Tensors};
use super::update::Tables;
use crate::cuda::Argument::{Address, U64};
use crate::cuda::Buffer;
use crate::cuda::convolution::Precision;
use crate::nn::graph::{Graph, Op, Shape};
use crate::nn::learner::{Input, Records, check_length};
use crate::nn::ops::DropoutPosition;
use crate::nn::parameters::{self, ParameterInfo, RunningStatistics};
use crate::nn::schedule::{self, Element, Options, Part, Schedule, largest_batch};
use crate::nn::step::StepOptions;
use crate::nn::{Network, NnError};
use std::cell::RefCell;
use std::rc::Rc;
use work::{Key, Work};

/// Images that inference runs at a time; missing ones are zeros. One number, so that an image's
/// result doesn't depend on the batch that it came in, and convolutions are planned once.
pub const INFERENCE_BATCH: usize = 32;

/// A network on a GPU, in `f32` or in bf16 with parameters in `f32`.
pub struct CudaNetwork {
    pub(super) gpu: Gpu,
    pub(super) graph: Graph,
    /// The parameters, in PyTorch's order, and whether each is trainable.
    parameters: Vec<(ParameterInfo, bool)>,
    pub(super) norms: Vec<RunningStatistics>,
    precision: Precision,
    pub(super) layout: Layout,
    pub(super) tensors: Tensors,
    /// The parameters that have moments.
    pub(super) updated: Vec<bool>,
    /// The passes since the last update.
    passes: usize,
    tables: Tables,
    work: RefCell<Work>,
}

impl CudaNetwork {
    /// A copy of `network` in GPU memory. Convolutions and linear layers multiply in `precision`.
    ///
    /// # Errors
    /// When the GPU can't compute in bf16, or its memory is too small.
    pub fn new(gpu: &Gpu, network: &Network, precision: Precision) -> Result<CudaNetwork, NnError> {
        check_precision(gpu.card().properties().index, precision)?;
        let graph = network.graph().clone();
        let parameters: Vec<(ParameterInfo, bool)> =
            network.parameters().iter().map(|own| (own.info.clone(), own.trainable)).collect();
        let norms = parameters::statistics(&graph);
        let infos: Vec<&ParameterInfo> = parameters.iter().map(|(info, _)| info).collect();
        let layout = Layout::new(&infos, &norms);
        let tensors = Tensors::new(gpu.card(), &layout, precision == Precision::Bf16)?;
        let work = Work::new(gpu, graph.nodes().len())?;
        let mut own = CudaNetwork {
            updated: vec![false; parameters.len()],
            passes: 0,
            tables: Tables::new(gpu)?,
            work: RefCell::new(work),
            gpu: gpu.clone(),
            graph,
            parameters,
            norms,
            precision,
            layout,
            tensors,
        };
        own.write_tensors(&network.save())?;
        Ok(own)
    }

    /// The GPU that it is on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    pub(super) fn infos(&self) -> impl Iterator<Item = &ParameterInfo> {
        self.parameters.iter().map(|(info, _)| info)
    }

    pub(super) fn parameters_below_the_head(&self) -> usize {
        let offsets = parameters::offsets(&self.graph);
        offsets.get(self.graph.features() + 1).copied().unwrap_or(self.parameters.len())
    }

    fn element(&self) -> Element {
        match self.precision {
            Precision::Bf16 => Element::Bf16,
            Precision::F32 | Precision::Tf32 => Element::F32,
        }
    }

    fn schedule(&self, key: Key) -> Result<Schedule, NnError> {
        let options = |batch| Options { batch, element: self.element() };
        match key {
            Key::Training { from, norm, batch } => {
                let trainable: Vec<bool> = self.parameters.iter().map(|(_, own)| *own).collect();
                Schedule::training(&self.graph, &trainable, from, norm, options(batch))
            }
            Key::Inference(part) => {
                Schedule::inference(&self.graph, part, options(INFERENCE_BATCH))
            }
        }
    }

    /// The run of a key, with the memory that it needs.
    fn run(&self, key: Key) -> Result<Rc<Run>, NnError> {
        let known = self.work.borrow().runs.get(&key).cloned();
        let run = match known {
            Some(run) => run,
            None => {
                let schedule = self.schedule(key)?;
                let run = Rc::new(Run::new(&self.gpu, schedule, self.precision)?);
                self.work.borrow_mut().runs.insert(key, run.clone());
                run
            }
        };
        let mut work = self.work.borrow_mut();
        if self.gpu.grow_workspace(run.workspace())? {
            work.forget_addresses();
        }
        if work.arena.bytes() < run.schedule.bytes {
            self.grow_arena(&mut work, &run.schedule, key)?;
        }
        Ok(run)
    }

    fn grow_arena(&self, work: &mut Work, schedule: &Schedule, key: Key) -> Result<(), NnError> {
        work.forget_addresses();
        let card = self.gpu.card();
        // Freed first, so that both needn't fit.
        work.arena = card.allocate(0)?;
        let (free, _) = card.memory()?;
        if schedule.bytes as u64 > free {
            return Err(self.too_large(schedule, key, free));
        }
        work.arena = card.allocate(schedule.bytes)?;
        Ok(())
    }

    /// The error of a batch whose maps don't fit, with the one that would.
    fn too_large(&self, schedule: &Schedule, key: Key, free: u64) -> NnError {
        let batch = schedule.options.batch;
        let needed = |batch| {
            let arena = self.schedule(key.with_batch(batch))?.memory();
            Ok(schedule::Memory { arena, ..schedule::Memory::default() })
        };
        match largest_batch(free as usize, batch, needed) {
            Ok(fits) => NnError::BatchTooLarge { batch, needed: schedule.bytes as u64, free, fits },
            Err(error) => error,
        }
    }

    /// Runs inference of an input of `batch` rows, and returns the output row by row.
    fn infer(&self, part: Part, input: Input, batch: usize) -> Result<Vec<f32>, NnError> {
        self.check_input(&input, batch)?;
        let mut output = Vec::new();
        for first in (0..batch).step_by(INFERENCE_BATCH) {
            let count = INFERENCE_BATCH.min(batch - first);
            let rows = rows(&input, batch, first..first + count);
            let run = self.run(Key::Inference(part))?;
            let mut work = self.work.borrow_mut();
            self.bring(&mut work, &run, rows)?;
            self.execute(&work, &run)?;
            let whole = work.output(&self.gpu, &run)?;
            output.extend_from_slice(&whole[..whole.len() / INFERENCE_BATCH * count]);
        }
        Ok(output)
    }

    /// Brings an input into the arena of a run.
    fn bring(&self, work: &mut Work, run: &Run, input: Input) -> Result<(), NnError> {
        let Work { feed, arena, .. } = work;
        match input {
            Input::Images(values) | Input::Features(values) => {
                feed.bring(&self.gpu, run, arena, values)
            }
            Input::Records(records) => {
                let side = self.graph.nodes()[0].shape.height;
                feed.bring_records(&self.gpu, run, arena, &records, side)
            }
        }
    }

    fn execute(&self, work: &Work, run: &Run) -> Result<(), NnError> {
        run.execute(&self.memory_of_runs(work))
    }

    /// What launches use.
    fn memory_of_runs<'a>(&'a self, work: &'a Work) -> run::Memory<'a> {
        run::Memory {
            gpu: &self.gpu,
            arena: &work.arena,
            layout: &self.layout,
            tensors: &self.tensors,
            keys: &work.keys,
        }
    }

    fn check_input(&self, input: &Input, batch: usize) -> Result<(), NnError> {
        match input {
            Input::Images(images) => check_length(self.graph.input(), images.len(), batch),
            Input::Features(rows) => {
                check_length(self.graph.nodes()[self.graph.features()].shape, rows.len(), batch)
            }
            Input::Records(Records { squares, views, .. }) => {
                check_length(Shape::new(views.size, views.size, 3), squares.len(), batch)
            }
        }
    }

    /// A trainable parameter of a part that doesn't run has a gradient of zero.
    fn zero_gradients_that_are_not_stored(&self, run: &Run) -> Result<(), NnError> {
        let all = run.schedule.stored.iter().zip(&self.parameters).enumerate();
        for (index, (stored, (_, trainable))) in all {
            if *trainable && !stored {
                self.tensors.zero_gradient(self.gpu.stream(), &self.layout, index)?;
            }
        }
        Ok(())
    }

    /// Adds the gradients of earlier passes to those of the last one.
    fn accumulate(&mut self) -> Result<(), NnError> {
        if self.passes == 0 {
            return Ok(());
        }
        let count = self.layout.length;
        let addresses = [self.tensors.summed(), &self.tensors.gradients].map(Buffer::address);
        let arguments = [Address(addresses[0]), Address(addresses[1]), U64(count as u64)];
        let (kernels, stream) = (self.gpu.kernels(), self.gpu.stream());
        kernels.launch(stream, "arena_add", over_array(count), &arguments)
    }

    /// Keeps the gradients of the passes before, which the next one overwrites.
    fn keep_gradients(&mut self) -> Result<(), NnError> {
        self.tensors.is_summed = self.passes > 0;
        if self.passes != 1 {
            return Ok(());
        }
        self.sum_arena()?;
        let (all, Tensors { gradients, sum, .. }) = (0..self.layout.length, &self.tensors);
        if let Some(sum) = sum {
            gradients.copy(self.gpu.stream(), all, sum, 0)?;
        }
        Ok(())
    }

    fn sum_arena(&mut self) -> Result<(), NnError> {
        if self.tensors.sum.is_none() {
            self.tensors.sum = Some(self.gpu.card().allocate(self.layout.length)?);
        }
        Ok(())
    }

    /// The memory that is allocated now.
    fn memory(&self) -> schedule::Memory {
        let Tensors { values, rounded, gradients, rounded_gradients, .. } = &self.tensors;
        let Tensors { sum, first, second, means, variances, .. } = &self.tensors;
        let bytes = |all: &[Option<&Buffer<f32>>]| all.iter().flatten().map(|it| it.bytes()).sum();
        let bf16 = |buffer: &Option<Buffer<u16>>| buffer.as_ref().map_or(0, Buffer::bytes);
        let statistics = means.bytes() + variances.bytes();
        schedule::Memory {
            arena: self.work.borrow().arena.bytes(),
            parameters: values.bytes() + bf16(rounded) + statistics,
            gradients: bytes(&[Some(gradients), sum.as_ref()]) + bf16(rounded_gradients),
            moments: bytes(&[first.as_ref(), second.as_ref()]),
            workspace: self.gpu.workspace_bytes(),
        }
    }

    fn dropout_keys(&self, options: &StepOptions) -> Vec<u64> {
        let key = |(layer, node): (usize, &crate::nn::Node)| match node.op {
            Op::Dropout { .. } => {
                let StepOptions { seed, step, .. } = *options;
                DropoutPosition { seed, step, layer: layer as u64 }.key()
            }
            _ => 0,
        };
        self.graph.nodes().iter().enumerate().map(key).collect()
    }
}
