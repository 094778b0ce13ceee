//! Compiles a network for inference on the CPU: norms are folded into convolutions, additions and
//! ReLU fused into the op that computes their input, buffers allocated once and reused. Doesn't
//! depend on the tape or on devices.
//!
//! Images go through the network in groups, small enough that a layer's output is still in the
//! cache when the next layer reads it. Matrix products are computed in blocks of rows whose size
//! depends only on the network; the last block is padded. So an image's output is bitwise identical
//! alone, in any batch and with any number of threads.

mod compiler;
mod layers;

pub(super) use layers::layers;
pub use layers::{Layer, LayerOp};

use super::graph::Graph;
use super::matrix::{Matrix, MatrixMut, multiply};
use super::number::Number;
use super::ops::chunks::at_least;
use super::ops::convolution::patches::Patches;
use super::ops::{Pooling, pool_one};
use super::parameters::RunningStatistics;
use super::program::Program;
use compiler::Compiler;
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Mutex;

/// A network compiled for inference.
pub(crate) struct CompiledNetwork {
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

/// Convolution or linear layer: im2col rows times a weight, a block of rows at a time.
struct Product {
    patches: Patches,
    weight: Vec<f32>,
    columns: usize,
    /// Rows per block.
    rows: usize,
    epilogue: Epilogue,
}

/// The epilogue of a product, applied while it is in the cache: shift, residual, ReLU.
struct Epilogue {
    shift: Vec<f32>,
    residual: bool,
    relu: bool,
}

impl Epilogue {
    /// Applies it to (rows, channels), with a residual of the same shape.
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
    ) -> CompiledNetwork {
        let compiler = Compiler::new(graph, program, offsets, parameters, statistics, range);
        let group = compiler.group;
        let ops = compiler.ops();
        let (slots, buffers) = compiler.slots(&ops);
        CompiledNetwork { ops, slots, buffers, group, arenas: Mutex::default() }
    }

    /// Runs the network on the input of its first instruction, (batch, height, width, channels).
    pub(super) fn run(&self, input: &[f32], batch: usize) -> Vec<f32> {
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
                for (out, x) in out.chunks_exact_mut(scale.len()).zip(x.chunks_exact(scale.len())) {
                    out.iter_mut().zip(x).zip(scale).for_each(|((out, x), scale)| *out = x * scale);
                }
                epilogue.apply(out, epilogue.residual.then(|| read(1)));
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

impl Product {
    fn run(&self, x: &[f32], residual: Option<&[f32]>, out: &mut [f32]) {
        let block = self.rows * self.columns;
        out.par_chunks_mut(block).enumerate().for_each(|(index, out)| {
            let residual = residual.map(|residual| &residual[index * block..][..out.len()]);
            self.block(x, index * self.rows, residual, out);
        });
    }

    /// Computes one block of rows from `first` on. A short last block is padded.
    fn block(&self, x: &[f32], first: usize, residual: Option<&[f32]>, out: &mut [f32]) {
        let (depth, columns) = (self.patches.depth(), self.columns);
        let weight = Matrix::new(&self.weight, depth, columns, columns);
        let rows = out.len() / columns;
        if rows == self.rows && self.patches.is_identity() {
            let windows = Matrix::new(&x[first * depth..][..rows * depth], rows, depth, depth);
            multiply(&mut MatrixMut::new(out, rows, columns, columns), false, windows, weight);
            return self.epilogue.apply(out, residual);
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
        self.epilogue.apply(out, residual);
    }
}
