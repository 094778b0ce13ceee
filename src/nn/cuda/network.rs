//! A network on a GPU as a [`Learner`].

mod measure;

pub use measure::TimedLaunch;

use super::exchange::Which;
use super::gpu::{Gpu, check_precision};
use super::input::{Feed, bring_targets};
use super::kernels::{over_array, over_elements};
use super::launches::suffix;
use super::run::{self, Run};
use super::tensors::{Layout, Tensors};
use super::update::{Tables, write};
use crate::common::number;
use crate::cuda::Argument::{Address, U32, U64};
use crate::cuda::Buffer;
use crate::cuda::convolution::Precision;
use crate::nn::graph::{Graph, Op};
use crate::nn::learner::{Input, Learner, PassResult, Records, Rule, TrainingNeeds};
use crate::nn::ops::{DropoutPosition, Products};
use crate::nn::parameters::{self, ParameterInfo, RunningStatistics};
use crate::nn::schedule::{self, Element, Options, Part, Schedule, TrainingInput, largest_batch};
use crate::nn::step::StepOptions;
use crate::nn::weights::{WeightTensor, Weights};
use crate::nn::{BatchNorm, Network, NnError};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

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

/// What runs, and the memory that it uses from its first launch to its last.
struct Work {
    runs: HashMap<Key, Rc<Run>>,
    arena: Buffer<u8>,
    feed: Feed,
    /// The targets as the host has them, and what it reads.
    targets: Buffer<f32>,
    output: Buffer<f32>,
    /// The keys of dropout masks, by node.
    keys: Buffer<u64>,
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Training { features: bool, batch_statistics: bool, batch: usize },
    Inference(PartKey),
}

/// [`Part`] as a part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum PartKey {
    Backbone,
    Head,
    Both,
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
            Key::Training { features, batch_statistics, batch } => {
                let trainable: Vec<bool> = self.parameters.iter().map(|(_, own)| *own).collect();
                let from = match features {
                    true => TrainingInput::Features,
                    false => TrainingInput::Images,
                };
                let norm = match batch_statistics {
                    true => BatchNorm::Batch,
                    false => BatchNorm::Running,
                };
                Schedule::training(&self.graph, &trainable, from, norm, options(batch))
            }
            Key::Inference(part) => {
                let part = match part {
                    PartKey::Backbone => Part::Backbone,
                    PartKey::Head => Part::Head,
                    PartKey::Both => Part::Both,
                };
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
    fn infer(&self, part: PartKey, input: Input, batch: usize) -> Result<Vec<f32>, NnError> {
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
        let nodes = self.graph.nodes();
        let (found, per_image, what) = match input {
            Input::Images(images) => (images.len(), nodes[0].shape.len(), "pixel values"),
            Input::Features(rows) => (rows.len(), self.graph.feature_count(), "features"),
            Input::Records(Records { squares, views, .. }) => {
                (squares.len(), views.size * views.size * 3, "bytes")
            }
        };
        if found == batch * per_image {
            return Ok(());
        }
        Err(NnError::Input(format!("{found} {what} for {batch} images of {per_image} each")))
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

impl Key {
    fn with_batch(self, batch: usize) -> Key {
        match self {
            Key::Training { features, batch_statistics, .. } => {
                Key::Training { features, batch_statistics, batch }
            }
            Key::Inference(part) => Key::Inference(part),
        }
    }
}

impl Work {
    fn new(gpu: &Gpu, nodes: usize) -> Result<Work, NnError> {
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

    fn forget_addresses(&mut self) {
        self.runs.values().for_each(|run| run.forget_addresses());
    }

    /// Reads the output of a run, after it has ended.
    fn output(&mut self, gpu: &Gpu, run: &Run) -> Result<Vec<f32>, NnError> {
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

    fn loss(&self, gpu: &Gpu, run: &Run) -> Result<f64, NnError> {
        let Some(view) = run.schedule.loss else { return Ok(0.0) };
        let mut bytes = [0; 8];
        let start = (run.address(&self.arena, view) - self.arena.address()) as usize;
        self.arena.read(gpu.stream(), start, &mut bytes)?;
        Ok(f64::from_le_bytes(bytes))
    }
}

/// Some rows of an input of `batch` rows. Records that are a part of others are others.
fn rows<'a>(input: &Input<'a>, batch: usize, rows: Range<usize>) -> Input<'a> {
    fn part<T>(all: &[T], batch: usize, rows: Range<usize>) -> &[T] {
        let width = all.len() / batch.max(1);
        &all[rows.start * width..rows.end * width]
    }
    match *input {
        Input::Images(images) => Input::Images(part(images, batch, rows)),
        Input::Features(all) => Input::Features(part(all, batch, rows)),
        Input::Records(records) => Input::Records(Records {
            id: if rows.len() == batch { records.id } else { u64::MAX },
            squares: part(records.squares, batch, rows.clone()),
            recipes: part(records.recipes, batch, rows),
            ..records
        }),
    }
}

/// Makes a buffer at least this long.
fn grow(gpu: &Gpu, buffer: &mut Buffer<f32>, count: usize) -> Result<(), NnError> {
    if buffer.count() < count {
        *buffer = gpu.card().allocate(count)?;
    }
    Ok(())
}

impl Learner for CudaNetwork {
    fn graph(&self) -> &Graph {
        &self.graph
    }

    fn products(&self) -> Products {
        match self.precision {
            Precision::Bf16 => Products::Bf16,
            Precision::F32 | Precision::Tf32 => Products::Own,
        }
    }

    fn machine(&self) -> String {
        let properties = self.gpu.card().properties();
        format!("cuda {} cuDNN {} {}", properties.name, self.gpu.cudnn(), self.precision)
    }

    fn takes_records(&self) -> bool {
        true
    }

    fn parameters(&self) -> Vec<(&ParameterInfo, bool)> {
        self.parameters.iter().map(|(info, trainable)| (info, *trainable)).collect()
    }

    fn set_trainable(&mut self, choose: &dyn Fn(&ParameterInfo) -> bool) {
        for (info, trainable) in &mut self.parameters {
            *trainable = choose(info);
        }
        let runs = &mut self.work.borrow_mut().runs;
        runs.retain(|key, _| matches!(key, Key::Inference(_)));
    }

    fn reserve(&mut self, needs: &TrainingNeeds) -> Result<Option<String>, NnError> {
        let TrainingNeeds { batch, from_features: features, batch_norm, .. } = *needs;
        self.moment_arena(Which::First)?;
        if needs.has_second_moments {
            self.moment_arena(Which::Second)?;
        }
        if needs.accumulates {
            self.sum_arena()?;
        }
        let batch_statistics = batch_norm == BatchNorm::Batch;
        self.run(Key::Training { features, batch_statistics, batch })?;
        self.run(Key::Inference(if features { PartKey::Head } else { PartKey::Both }))?;
        let (free, _) = self.gpu.card().memory()?;
        let (needed, free) = (number::bytes(self.memory().total() as u64), number::bytes(free));
        Ok(Some(format!("batches of {batch} need {needed} of GPU memory; {free} are left")))
    }

    fn pass(
        &mut self,
        input: Input,
        next: Option<Input>,
        batch: usize,
        targets: &[f32],
        options: &StepOptions,
    ) -> Result<PassResult, NnError> {
        self.check_input(&input, batch)?;
        let features = matches!(input, Input::Features(_));
        let classes = self.graph.classes();
        if targets.len() != batch * classes {
            let found = targets.len();
            let message = format!("{found} targets for {batch} images of {classes} classes");
            return Err(NnError::Input(message));
        }
        let batch_statistics = options.batch_norm == BatchNorm::Batch;
        let run = self.run(Key::Training { features, batch_statistics, batch })?;
        self.keep_gradients()?;
        for (index, stored) in run.schedule.stored.iter().enumerate() {
            if !stored {
                self.tensors.zero_gradient(self.gpu.stream(), &self.layout, index)?;
            }
        }
        let (loss, logits) = {
            let mut work = self.work.borrow_mut();
            let keys = self.dropout_keys(options);
            write(&self.gpu, &mut work.keys, &keys)?;
            self.bring(&mut work, &run, input)?;
            let Work { arena, targets: staging, .. } = &mut *work;
            bring_targets(&self.gpu, &run, arena, staging, targets)?;
            self.execute(&work, &run)?;
            if let Some(Input::Records(next)) = next {
                work.feed.stage(&self.gpu, &next)?;
            }
            (work.loss(&self.gpu, &run)?, work.output(&self.gpu, &run)?)
        };
        self.accumulate()?;
        self.passes += 1;
        Ok(PassResult { loss, logits })
    }

    fn update(
        &mut self,
        rules: &[Option<Rule>],
        max_norm: Option<f64>,
    ) -> Result<Option<f64>, NnError> {
        self.moment_arena(Which::First)?;
        if rules.iter().flatten().any(|rule| matches!(rule, Rule::Adamw { .. })) {
            self.moment_arena(Which::Second)?;
        }
        if self.passes == 0 {
            self.tensors.is_summed = false;
            self.tensors.gradients.clear(self.gpu.stream())?;
        }
        let CudaNetwork { gpu, layout, tensors, tables, .. } = self;
        let norm = tables.update(gpu, layout, tensors, rules, max_norm)?;
        for (updated, rule) in self.updated.iter_mut().zip(rules) {
            *updated |= rule.is_some();
        }
        self.passes = 0;
        self.work.borrow_mut().feed.idle()?;
        Ok(norm)
    }

    fn moments(&self) -> Result<BTreeMap<String, WeightTensor>, NnError> {
        self.read_moments()
    }

    fn restore_moments(&mut self, moments: BTreeMap<String, WeightTensor>) -> Result<(), NnError> {
        self.write_moments(moments)?;
        self.passes = 0;
        Ok(())
    }

    fn evaluate(&self, input: Input, batch: usize) -> Result<Vec<f32>, NnError> {
        let part = match input {
            Input::Features(_) => PartKey::Head,
            Input::Images(_) | Input::Records(_) => PartKey::Both,
        };
        self.infer(part, input, batch)
    }

    fn features(&self, images: Input, batch: usize) -> Result<Vec<f32>, NnError> {
        if let Input::Features(_) = images {
            return Err(NnError::Input("features are made of images".to_owned()));
        }
        self.infer(PartKey::Backbone, images, batch)
    }

    fn waited(&mut self) -> Result<Option<Duration>, NnError> {
        self.work.borrow_mut().feed.waited()
    }

    fn names(&self) -> Vec<String> {
        self.all_names()
    }

    fn tensors(
        &self,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, WeightTensor>, NnError> {
        self.read_tensors(wanted)
    }

    fn restore(&mut self, weights: &Weights) -> Result<(), NnError> {
        self.write_tensors(weights)
    }

    fn describe_backbone(&self, take: &mut dyn FnMut(&str, &[f32])) -> Result<(), NnError> {
        self.describe(take)
    }

    fn release(&mut self) {
        // Memory of steps is small beside what a GPU has, and is freed with the network.
    }
}
