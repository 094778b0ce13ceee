//! Compiles a network for inference on the CPU: norms are folded into convolutions, additions and
//! ReLU fused into the op that computes their input, buffers allocated once and reused. Doesn't
//! depend on the tape or on devices.
//!
//! Images go through the network in groups, small enough that a layer's output is still in the
//! cache when the next layer reads it; through linear layers at the end in larger ones, since there
//! the weights are what is large. Sums of an image's products are divided by the network's shapes
//! alone. So an image's output is bitwise identical alone, in any batch and with any number of
//! threads.

mod compiler;
mod layers;
mod product;

pub(super) use layers::layers;
pub use layers::{Layer, LayerOp};

use super::graph::Graph;
use super::ops::chunks::at_least;
use super::ops::{Pooling, Products, pool_one};
use super::parameters::RunningStatistics;
use super::program::Program;
use compiler::{Compiler, VECTORS};
use product::Product;
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Mutex;

/// A network compiled for inference: parts that run one after the other, each on the whole batch.
pub(crate) struct CompiledNetwork {
    parts: Vec<Part>,
}

/// Ops that read one value from before: the first op's input.
struct Part {
    ops: Vec<FusedOp>,
    /// For each value, its buffer and its size.
    slots: Vec<Slot>,
    /// Size of each buffer, in values per image.
    buffers: Vec<usize>,
    /// Images processed together.
    group: usize,
    /// Sets of buffers that are not in use.
    arenas: Mutex<Vec<Vec<Vec<f32>>>>,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    buffer: usize,
    size: usize,
}

/// One fused op: a single pass over memory.
struct FusedOp {
    /// The node that the computation is named after: of a convolution with a norm, the convolution.
    node: usize,
    computation: Computation,
    inputs: Vec<usize>,
    output: usize,
}

enum Computation {
    Product(Product),
    /// relu(x * scale + shift + residual).
    Scale {
        scale: Vec<f32>,
        epilogue: Epilogue,
    },
    Pool(Pooling),
    /// Sum of two values.
    Add,
    /// Concatenates values of these widths.
    Concatenate(Vec<usize>),
    /// Copies the input.
    Copy,
}

impl Computation {
    /// Prepares a product's weight for the processor's kernel.
    fn prepare(&mut self, products: Products) {
        if let Computation::Product(product) = self {
            product.prepare(products);
        }
    }
}

/// The epilogue of a product, applied while it is in the cache: shift, residual, ReLU.
struct Epilogue {
    shift: Vec<f32>,
    residual: bool,
    relu: bool,
}

impl Epilogue {
    /// The least value of an output.
    fn floor(&self) -> f32 {
        if self.relu { 0.0 } else { f32::NEG_INFINITY }
    }

    /// Applies it to the columns of a row from `column` on, with a residual as long.
    fn apply(&self, row: &mut [f32], column: usize, residual: Option<&[f32]>) {
        let floor = self.floor();
        let shift = &self.shift[column..][..row.len()];
        match residual {
            None => {
                row.iter_mut().zip(shift).for_each(|(x, shift)| *x = at_least(*x + shift, floor));
            }
            Some(residual) => {
                for ((x, shift), residual) in row.iter_mut().zip(shift).zip(residual) {
                    *x = at_least(*x + shift + residual, floor);
                }
            }
        }
    }
}

impl CompiledNetwork {
    /// Compiles the instructions `range`, which begin at the network's input or at its head.
    /// `parameters` gives values in our layout by index in PyTorch's order.
    pub(super) fn new<'a>(
        graph: &'a Graph,
        program: &'a Program,
        offsets: &'a [usize],
        parameters: &'a dyn Fn(usize) -> Cow<'a, [f32]>,
        statistics: &'a [RunningStatistics],
        range: Range<usize>,
        products: Products,
    ) -> CompiledNetwork {
        let compiler = Compiler::new(graph, program, offsets, parameters, statistics, range);
        let mut ops = compiler.ops();
        ops.iter_mut().for_each(|op| op.computation.prepare(products));
        let vectors = ops.split_off(compiler.vectors(&ops).unwrap_or(ops.len()));
        let parts = [(ops, compiler.group), (vectors, VECTORS)];
        let part = |(ops, group): (Vec<FusedOp>, usize)| {
            let (slots, buffers) = compiler.slots(&ops);
            Part { ops, slots, buffers, group, arenas: Mutex::default() }
        };
        let parts = parts.into_iter().filter(|(ops, _)| !ops.is_empty());
        CompiledNetwork { parts: parts.map(part).collect() }
    }

    /// Runs the network on the input of its first instruction, (batch, height, width, channels).
    pub(super) fn run(&self, input: &[f32], batch: usize) -> Vec<f32> {
        let mut parts = self.parts.iter();
        let Some(first) = parts.next() else { return input.to_vec() };
        parts.fold(first.run(input, batch), |values, part| part.run(&values, batch))
    }
}

impl Part {
    fn run(&self, input: &[f32], batch: usize) -> Vec<f32> {
        let (Some(begin), Some(end)) = (self.ops.first(), self.ops.last()) else {
            return input.to_vec();
        };
        let (source, target) = (begin.inputs[0], end.output);
        let mut out = vec![0.0; batch * self.slots[target].size];
        let (taken, instruction) =
            (self.group * self.slots[source].size, self.group * self.slots[target].size);
        // No more groups at a time than threads: a thread that waits within one group would start
        // another, and each group in progress needs its own buffers.
        let wave = rayon::current_num_threads();
        for (input, out) in input.chunks(wave * taken).zip(out.chunks_mut(wave * instruction)) {
            out.par_chunks_mut(instruction).zip(input.par_chunks(taken)).for_each(
                |(out, input)| {
                    let mut arena = self.arena();
                    let count = input.len() / self.slots[source].size;
                    for op in &self.ops {
                        self.op(op, source, input, count, &mut arena);
                    }
                    out.copy_from_slice(&arena[self.slots[target].buffer][..out.len()]);
                    if let Ok(mut arenas) = self.arenas.lock() {
                        arenas.push(arena);
                    }
                },
            );
        }
        out
    }

    fn arena(&self) -> Vec<Vec<f32>> {
        let kept = self.arenas.lock().ok().and_then(|mut arenas| arenas.pop());
        kept.unwrap_or_else(|| {
            self.buffers.iter().map(|size| vec![0.0; size * self.group]).collect()
        })
    }

    /// Runs one op on `count` images. The value `source` is `input`, all others are in the arena.
    fn op(&self, op: &FusedOp, source: usize, input: &[f32], count: usize, arena: &mut [Vec<f32>]) {
        let target = self.slots[op.output];
        let mut buffer = std::mem::take(&mut arena[target.buffer]);
        let out = &mut buffer[..count * target.size];
        let read = |index: usize| {
            let value = op.inputs[index];
            if value == source {
                input
            } else {
                &arena[self.slots[value].buffer][..count * self.slots[value].size]
            }
        };
        let x = read(0);
        match &op.computation {
            Computation::Product(product) => {
                product.run(x, product.epilogue.residual.then(|| read(1)), out)
            }
            Computation::Scale { scale, epilogue } => {
                let (width, residual) = (scale.len(), epilogue.residual.then(|| read(1)));
                let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width));
                for (index, (out, x)) in rows.enumerate() {
                    out.iter_mut().zip(x).zip(scale).for_each(|((out, x), scale)| *out = x * scale);
                    let residual = residual.map(|residual| &residual[index * width..][..width]);
                    epilogue.apply(out, 0, residual);
                }
            }
            Computation::Pool(pooling) => {
                let maps = x.par_chunks_exact(pooling.input.len());
                out.par_chunks_exact_mut(target.size)
                    .zip(maps)
                    .for_each(|(out, map)| pool_one(map, pooling, out));
            }
            Computation::Add => {
                out.iter_mut().zip(x.iter().zip(read(1))).for_each(|(out, (a, b))| *out = a + b)
            }
            Computation::Concatenate(widths) => {
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
            Computation::Copy => out.copy_from_slice(x),
        }
        arena[target.buffer] = buffer;
    }
}
