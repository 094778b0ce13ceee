//! Inference on the CPU: norms folded into convolutions, additions and ReLU in the pass that makes the values, buffers
//! planned and reused. Knows no tape and no device.
//!
//! Images go through the whole network in groups, so that what a layer makes is still in the cache when the next reads
//! it. Products are made in blocks of rows whose shape depends on the network alone; the last block is padded. So a
//! image's values are the same bytes alone, in any batch and with any number of threads.

use super::graph::{Graph, Op};
use super::matrix::{Matrix, MatrixMut, multiply};
use super::number::Number;
use super::ops::chunks::at_least;
use super::ops::convolution::patches::{Patches, block_rows};
use super::ops::{Geometry, Pooling, Taking, folded, pool_one};
use super::parameters::Statistics;
use super::program::{Instruction, Program};
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Mutex;

/// A network ready for inference.
pub(crate) struct Plan {
    stages: Vec<Stage>,
    /// For each value, the buffer that holds it and its values a image.
    places: Vec<Place>,
    /// Values a image of each buffer.
    buffers: Vec<usize>,
    /// Images that go through together.
    group: usize,
    /// Buffers that no run is using.
    arenas: Mutex<Vec<Vec<Vec<f32>>>>,
}

#[derive(Clone, Copy, Default)]
struct Place {
    buffer: usize,
    size: usize,
}

/// One pass over memory.
struct Stage {
    kind: Kind,
    inputs: Vec<usize>,
    output: usize,
}

enum Kind {
    Product(Product),
    /// relu(x * scale + shift + residual).
    Scale {
        scale: Vec<f32>,
        finish: Finish,
    },
    Pool(Pooling),
    /// The sum of two values.
    Add,
    /// Values of these widths side by side.
    Concatenate(Vec<usize>),
    /// The same values under another name.
    Copy,
}

/// Windows times a weight, a block of rows at a time.
struct Product {
    patches: Patches,
    weight: Vec<f32>,
    columns: usize,
    /// Rows of a block.
    rows: usize,
    finish: Finish,
}

/// What is done to a product while it is in the cache.
struct Finish {
    shift: Vec<f32>,
    residual: bool,
    relu: bool,
}

impl Finish {
    /// Rows of values, and of what is added to them.
    fn apply(&self, rows: &mut [f32], residual: Option<&[f32]>) {
        let floor = if self.relu { 0.0 } else { f32::NEG_INFINITY };
        let width = self.shift.len();
        match residual {
            None => rows.chunks_exact_mut(width).for_each(|row| {
                row.iter_mut()
                    .zip(&self.shift)
                    .for_each(|(x, shift)| *x = at_least(*x + shift, floor));
            }),
            Some(residual) => rows
                .chunks_exact_mut(width)
                .zip(residual.chunks_exact(width))
                .for_each(|(row, residual)| {
                    for ((x, shift), residual) in row.iter_mut().zip(&self.shift).zip(residual) {
                        *x = at_least(*x + shift + residual, floor);
                    }
                }),
        }
    }
}

/// The pieces a plan is made from.
struct Source<'a> {
    graph: &'a Graph,
    program: &'a Program,
    offsets: &'a [usize],
    /// The values of the parameter at a place, in our layout.
    parameters: &'a dyn Fn(usize) -> Cow<'a, [f32]>,
    statistics: &'a [Statistics],
    range: Range<usize>,
    group: usize,
}

impl Plan {
    /// Folds the parameters (in our layout, by their place in torch's order) and running statistics of the instructions
    /// `range`, which begin with the network's or with its head.
    pub fn new<'a>(
        graph: &'a Graph,
        program: &'a Program,
        offsets: &'a [usize],
        parameters: &'a dyn Fn(usize) -> Cow<'a, [f32]>,
        statistics: &'a [Statistics],
        range: Range<usize>,
    ) -> Plan {
        let group = group_size(graph);
        let source = Source { graph, program, offsets, parameters, statistics, range, group };
        let stages = source.stages();
        let (places, buffers) = source.places(&stages);
        Plan { stages, places, buffers, group, arenas: Mutex::default() }
    }

    /// Runs the instructions on a batch of what the first one reads.
    pub fn run(&self, input: &[f32], batch: usize) -> Vec<f32> {
        let (Some(begin), Some(end)) = (self.stages.first(), self.stages.last()) else {
            return input.to_vec();
        };
        let (source, target) = (begin.inputs[0], end.output);
        let mut out = vec![0.0; batch * self.places[target].size];
        let (taken, made) =
            (self.group * self.places[source].size, self.group * self.places[target].size);
        // As many groups at a time as there are threads: a thread that waits within one group would begin another, and
        // each that is under way holds buffers of its own.
        let wave = rayon::current_num_threads();
        for (input, out) in input.chunks(wave * taken).zip(out.chunks_mut(wave * made)) {
            out.par_chunks_mut(made).zip(input.par_chunks(taken)).for_each(|(out, input)| {
                let mut arena = self.arena();
                let count = input.len() / self.places[source].size;
                for stage in &self.stages {
                    self.stage(stage, source, input, count, &mut arena);
                }
                out.copy_from_slice(&arena[self.places[target].buffer][..out.len()]);
                if let Ok(mut arenas) = self.arenas.lock() {
                    arenas.push(arena);
                }
            });
        }
        out
    }

    fn arena(&self) -> Vec<Vec<f32>> {
        let kept = self.arenas.lock().ok().and_then(|mut arenas| arenas.pop());
        kept.unwrap_or_else(|| {
            self.buffers.iter().map(|size| vec![0.0; size * self.group]).collect()
        })
    }

    /// Runs one stage on `count` images; the value `source` is `input`, the others are in the arena.
    fn stage(
        &self,
        stage: &Stage,
        source: usize,
        input: &[f32],
        count: usize,
        arena: &mut [Vec<f32>],
    ) {
        let target = self.places[stage.output];
        let mut buffer = std::mem::take(&mut arena[target.buffer]);
        let out = &mut buffer[..count * target.size];
        let read = |index: usize| {
            let value = stage.inputs[index];
            if value == source {
                input
            } else {
                &arena[self.places[value].buffer][..count * self.places[value].size]
            }
        };
        let x = read(0);
        match &stage.kind {
            Kind::Product(product) => product.run(x, product.finish.residual.then(|| read(1)), out),
            Kind::Scale { scale, finish } => {
                for (out, x) in out.chunks_exact_mut(scale.len()).zip(x.chunks_exact(scale.len())) {
                    out.iter_mut().zip(x).zip(scale).for_each(|((out, x), scale)| *out = x * scale);
                }
                finish.apply(out, finish.residual.then(|| read(1)));
            }
            Kind::Pool(pooling) => {
                let maps = x.par_chunks_exact(pooling.input.len());
                out.par_chunks_exact_mut(target.size)
                    .zip(maps)
                    .for_each(|(out, map)| pool_one(map, pooling, out));
            }
            Kind::Add => {
                out.iter_mut().zip(x.iter().zip(read(1))).for_each(|(out, (a, b))| *out = a + b)
            }
            Kind::Concatenate(widths) => {
                let total: usize = widths.iter().sum();
                let mut first = 0;
                for (index, &width) in widths.iter().enumerate() {
                    for (out, part) in
                        out.chunks_exact_mut(total).zip(read(index).chunks_exact(width))
                    {
                        out[first..first + width].copy_from_slice(part);
                    }
                    first += width;
                }
            }
            Kind::Copy => out.copy_from_slice(x),
        }
        arena[target.buffer] = buffer;
    }
}

impl Product {
    fn run(&self, x: &[f32], residual: Option<&[f32]>, out: &mut [f32]) {
        let block = self.rows * self.columns;
        out.par_chunks_mut(block).enumerate().for_each(|(index, out)| {
            let residual = residual.map(|residual| &residual[index * block..][..out.len()]);
            self.block(x, index * self.rows, residual, out);
        });
    }

    /// One block of rows from `first` on; the last one may be short, and is padded.
    fn block(&self, x: &[f32], first: usize, residual: Option<&[f32]>, out: &mut [f32]) {
        let (depth, columns) = (self.patches.depth(), self.columns);
        let weight = Matrix::new(&self.weight, depth, columns, columns);
        let rows = out.len() / columns;
        if rows == self.rows && self.patches.is_identity() {
            let windows = Matrix::new(&x[first * depth..][..rows * depth], rows, depth, depth);
            multiply(&mut MatrixMut::new(out, rows, columns, columns), false, windows, weight);
            return self.finish.apply(out, residual);
        }
        f32::with_scratch(self.rows * (depth + columns), |scratch| {
            let (windows, product) = scratch.split_at_mut(self.rows * depth);
            let (real, padding) = windows.split_at_mut(rows * depth);
            padding.fill(0.0);
            self.patches.gather(x, first, real);
            let windows = Matrix::new(windows, self.rows, depth, depth);
            if rows == self.rows {
                multiply(&mut MatrixMut::new(out, rows, columns, columns), false, windows, weight);
            } else {
                multiply(
                    &mut MatrixMut::new(product, self.rows, columns, columns),
                    false,
                    windows,
                    weight,
                );
                out.copy_from_slice(&product[..rows * columns]);
            }
        });
        self.finish.apply(out, residual);
    }
}

/// How many images go through together: enough that the smallest maps make blocks of a hundred rows, no more than a
/// cache holds of the largest.
fn group_size(graph: &Graph) -> usize {
    let products = graph.proper().iter().filter(|node| matches!(node.op, Op::Convolution { .. }));
    let smallest = products.map(|node| node.shape.pixels()).min().unwrap_or(1);
    let largest = graph.proper().iter().map(|node| node.shape.len()).max().unwrap_or(1);
    128usize.div_ceil(smallest).clamp(1, 32).min((4 << 20) / largest).max(1)
}

impl Source<'_> {
    fn stages(&self) -> Vec<Stage> {
        let instructions = &self.program.instructions[self.range.clone()];
        let mut uses = self.program.uses(self.range.clone(), self.graph.nodes().len());
        uses[self.graph.features()] += 1;
        let mut stages: Vec<Stage> = Vec::new();
        // Convolutions whose only reader is a norm wait for it.
        let mut waiting: Vec<usize> = Vec::new();
        for (index, made) in instructions.iter().enumerate() {
            let follower =
                instructions.iter().find(|other| other.inputs.first() == Some(&made.output));
            let op = |made: &Instruction| self.graph.nodes()[made.node].op;
            let folds = matches!(op(made), Op::Convolution { .. })
                && uses[made.output] == 1
                && follower.is_some_and(|follower| matches!(op(follower), Op::BatchNorm { .. }));
            if folds {
                waiting.push(index);
                continue;
            }
            let convolution =
                waiting.iter().position(|&waiting| instructions[waiting].output == made.inputs[0]);
            let convolution = convolution.map(|position| &instructions[waiting.remove(position)]);
            let (kind, mut inputs) = (self.kind(made, convolution), made.inputs.clone());
            if let Some(convolution) = convolution {
                inputs[0] = convolution.inputs[0];
            }
            stages.push(Stage { kind, inputs, output: made.output });
        }
        stages
    }

    fn parameter(&self, node: usize, index: usize) -> Cow<'_, [f32]> {
        (self.parameters)(self.offsets[node] + index)
    }

    fn kind(&self, made: &Instruction, convolution: Option<&Instruction>) -> Kind {
        let nodes = self.graph.nodes();
        let node = &nodes[made.node];
        let (input, output) = (nodes[made.inputs[0]].shape, node.shape);
        let pool = |taking| Kind::Pool(Pooling { batch: 1, input, output, taking });
        match node.op {
            Op::Convolution { bias, .. } => {
                let weight = self.parameter(made.node, 0).into_owned();
                let shift = if bias {
                    self.parameter(made.node, 1).into_owned()
                } else {
                    vec![0.0; output.channels]
                };
                self.product(made, weight, Finish { shift, residual: false, relu: made.relu })
            }
            Op::BatchNorm { epsilon } => {
                let before = nodes[..made.node]
                    .iter()
                    .filter(|node| matches!(node.op, Op::BatchNorm { .. }))
                    .count();
                let Statistics { mean, variance, .. } = &self.statistics[before];
                let affine = (self.parameter(made.node, 0), self.parameter(made.node, 1));
                let (scale, mut shift) = folded(&affine.0, &affine.1, mean, variance, epsilon);
                let Some(convolution) = convolution else {
                    return Kind::Scale {
                        scale,
                        finish: Finish { shift, residual: made.residual, relu: made.relu },
                    };
                };
                let Kind::Product(product) = self.kind(convolution, None) else {
                    return Kind::Copy;
                };
                let mut weight = product.weight;
                for row in weight.chunks_exact_mut(scale.len()) {
                    row.iter_mut().zip(&scale).for_each(|(weight, scale)| *weight *= scale);
                }
                for ((shift, bias), scale) in
                    shift.iter_mut().zip(&product.finish.shift).zip(&scale)
                {
                    *shift += bias * scale;
                }
                let finish = Finish { shift, residual: made.residual, relu: made.relu };
                self.product(convolution, weight, finish)
            }
            Op::Linear { .. } => {
                let shift = self.parameter(made.node, 1).into_owned();
                let finish = Finish { shift, residual: false, relu: made.relu };
                self.product(made, self.parameter(made.node, 0).into_owned(), finish)
            }
            Op::Relu => {
                let finish =
                    Finish { shift: vec![0.0; output.channels], residual: false, relu: true };
                Kind::Scale { scale: vec![1.0; output.channels], finish }
            }
            Op::MaxPool(window) => pool(Taking::Maximum(window)),
            Op::AveragePool { window, count_padding } => {
                pool(Taking::Mean { window, count_padding })
            }
            Op::AdaptivePool { .. } => pool(Taking::Bins),
            Op::Add => Kind::Add,
            Op::Concatenate => Kind::Concatenate(
                made.inputs.iter().map(|&input| nodes[input].shape.channels).collect(),
            ),
            Op::Input | Op::Flatten | Op::Dropout { .. } => Kind::Copy,
        }
    }

    /// The product of a convolution or a linear layer, which is a convolution of maps of one pixel.
    fn product(&self, made: &Instruction, weight: Vec<f32>, finish: Finish) -> Kind {
        let nodes = self.graph.nodes();
        let (input, output) = (nodes[made.inputs[0]].shape, nodes[made.node].shape);
        let window = match nodes[made.node].op {
            Op::Convolution { window, .. } => window,
            _ => super::Window::square(1, 1, 0),
        };
        let patches = Geometry { batch: 1, input, output, window }.patches();
        let total = self.group * patches.rows_per_image();
        let blocks = total.div_ceil(block_rows(patches.depth()).max(112)).max(1);
        let rows = total.div_ceil(blocks).next_multiple_of(8);
        Kind::Product(Product { patches, weight, columns: output.channels, rows, finish })
    }

    /// A buffer for each value, used again once nothing reads the value any more.
    fn places(&self, stages: &[Stage]) -> (Vec<Place>, Vec<usize>) {
        let nodes = self.graph.nodes();
        let mut left = vec![0usize; nodes.len()];
        stages.iter().flat_map(|stage| &stage.inputs).for_each(|&input| left[input] += 1);
        // What a run may start from or end with keeps its place.
        left[self.graph.features()] += 1;
        let mut places: Vec<Place> =
            nodes.iter().map(|node| Place { buffer: usize::MAX, size: node.shape.len() }).collect();
        let (mut buffers, mut free) = (Vec::<usize>::new(), Vec::<usize>::new());
        for stage in stages {
            let size = places[stage.output].size;
            // The smallest free buffer that is large enough, else the largest, made larger.
            free.sort_by_key(|&buffer| {
                if buffers[buffer] >= size {
                    (0, buffers[buffer])
                } else {
                    (1, usize::MAX - buffers[buffer])
                }
            });
            let buffer = if free.is_empty() { buffers.len() } else { free.remove(0) };
            if buffer == buffers.len() {
                buffers.push(0);
            }
            buffers[buffer] = buffers[buffer].max(size);
            places[stage.output].buffer = buffer;
            for &input in &stage.inputs {
                left[input] -= 1;
                if left[input] == 0 && places[input].buffer != usize::MAX {
                    free.push(places[input].buffer);
                }
            }
        }
        (places, buffers)
    }
}
