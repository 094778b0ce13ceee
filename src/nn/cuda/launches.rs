//! Each launch of a schedule as a kernel or a planned convolution.
#![expect(unsafe_code, reason = "convolutions read and write memory by addresses")]

use super::kernels::{over_array, over_channels, over_elements};
use super::run::{Memory, address};
use super::tensors::at;
use crate::cuda::Argument::{self, Address, F32, F64, U32, U64, Words};
use crate::cuda::Buffer;
use crate::cuda::convolution::{Direction, Map, Operands, Plan, Precision, Problem, Shape};
use crate::nn::NnError;
use crate::nn::graph;
use crate::nn::ops::{PoolKind, Pooling, dropout_threshold};
use crate::nn::schedule::{
    Element, Geometry, Launch, Mask, Schedule, Store, Target, View, chunk_rows,
};

/// Threads of a block of `cross_entropy`.
const ROW_THREADS: u32 = 128;

/// No address.
const NULL: Argument<'static> = Address(0);

/// A view that isn't there.
const NO_MAP: [Argument<'static>; 2] = [NULL, U32(0)];

/// The convolution of a launch, if it is one.
pub(super) fn problem(launch: &Launch, precision: Precision) -> Option<Problem> {
    let (geometry, x, y, direction, store) = match *launch {
        Launch::Convolution { geometry, x, y, .. } => {
            (geometry, x, y, Direction::Forward, Store::Overwrite)
        }
        Launch::ConvolutionByInput { geometry, dy, dx, .. } => {
            (geometry, dx.view, dy, Direction::ByInput, dx.store)
        }
        Launch::ConvolutionByWeight { geometry, x, dy, .. } => {
            (geometry, x, dy, Direction::ByWeights, Store::Overwrite)
        }
        _ => return None,
    };
    let Geometry { batch, input, output, window } = geometry;
    let shape = Shape {
        batch,
        input: map(input, x),
        output: map(output, y),
        kernel: window.kernel,
        stride: window.stride,
        padding: window.padding,
    };
    let accumulate = store == Store::Add;
    Some(Problem { accumulate, ..Problem::new(shape, direction, precision) })
}

/// The distinct convolutions of a schedule, in the order of their first launches.
pub fn convolutions(schedule: &Schedule, precision: Precision) -> Vec<Problem> {
    let mut distinct = Vec::new();
    for problem in schedule.launches.iter().filter_map(|launch| problem(launch, precision)) {
        if !distinct.contains(&problem) {
            distinct.push(problem);
        }
    }
    distinct
}

/// A launch in words: its convolution, or its kind with the shape of the largest map.
pub(super) fn describe(launch: &Launch, precision: Precision) -> String {
    if let Some(problem) = problem(launch, precision) {
        return problem.to_string();
    }
    let shown = format!("{launch:?}");
    let kind = shown.split(' ').next().unwrap_or_default();
    let views = launch.accesses().into_iter().map(|(view, _)| view);
    match views.max_by_key(View::len) {
        Some(view) => format!("{kind} of {} x {}", view.rows, view.channels),
        None => kind.to_owned(),
    }
}

/// A view as a map of this shape. Rows of wider maps start at their buffer's first element.
fn map(shape: graph::Shape, view: View) -> Map {
    let map = Map::new(shape.height, shape.width, shape.channels);
    match view.is_packed() {
        true => map,
        false => map.within(view.stride, view.offset),
    }
}

/// Enqueues launches of one schedule.
pub(super) struct Launcher<'a> {
    pub memory: &'a Memory<'a>,
    pub schedule: &'a Schedule,
}

impl Launcher<'_> {
    /// Enqueues a launch; `plan` is that of a convolution.
    pub(super) fn launch(&self, launch: &Launch, plan: Option<&Plan>) -> Result<(), NnError> {
        match *launch {
            Launch::Convolution { x, weight, y, .. } => {
                self.convolve(plan, self.at(x), self.weight(weight), self.at(y))
            }
            Launch::ConvolutionByInput { dy, weight, dx, .. } => {
                self.convolve(plan, self.at(dx.view), self.weight(weight), self.at(dy))
            }
            Launch::ConvolutionByWeight { x, dy, weight, .. } => {
                self.convolve(plan, self.at(x), self.weight_gradient(weight), self.at(dy))
            }
            Launch::Bias { bias, relu, y } => {
                let rest = [U32(y.rows as u32), U32(y.channels as u32), U32(relu.into())];
                let bias = [Address(self.value(bias))];
                self.elementwise("bias", y, &[&self.map(y), &bias, &self.map(y), &rest])
            }
            Launch::Relu { x, y } => {
                self.elementwise("relu", y, &[&self.map(x), &self.map(y), &shape(y)])
            }
            Launch::ReluBackward { dy, output, dx } => {
                let maps = [self.map(dy), self.map(output), self.map(dx.view)].concat();
                self.elementwise("relu_backward", dy, &[&maps, &shape(dy), &[add(dx)]])
            }
            Launch::Add { a, b, y } => {
                let maps = [self.map(a), self.map(b), self.map(y)].concat();
                self.elementwise("add", y, &[&maps, &shape(y)])
            }
            Launch::Copy { x, y } => {
                self.elementwise("copy", y, &[&self.map(x), &self.map(y), &shape(y), &[U32(0)]])
            }
            Launch::Dropout { x, y, layer, probability } => {
                let key = Address(at(self.memory.keys, layer));
                let kept = F32(1.0 / (1.0 - probability));
                let mask = [key, U32(dropout_threshold(probability)), kept, add(y)];
                self.elementwise("dropout", x, &[&self.map(x), &self.map(y.view), &shape(x), &mask])
            }
            Launch::ZeroGradient { parameter } => {
                let Memory { gpu, tensors, layout, .. } = self.memory;
                tensors.zero_gradient(gpu.stream(), layout, parameter)
            }
            Launch::BiasBackward { .. } | Launch::BiasBackwardFinish { .. } => {
                self.bias_backward(launch)
            }
            Launch::Pool { .. } | Launch::PoolBackward { .. } => self.pool(launch),
            Launch::CrossEntropy { .. } => self.cross_entropy(launch),
            Launch::NormStatistics { .. }
            | Launch::NormFinish { .. }
            | Launch::NormRunning { .. }
            | Launch::NormApply { .. } => self.norm(launch),
            Launch::NormBackward { .. }
            | Launch::NormBackwardFinish { .. }
            | Launch::NormBackwardApply { .. } => self.norm_backward(launch),
        }
    }

    /// Widens the gradients of weights that are stored in bf16.
    pub(super) fn widen_gradients(&self) -> Result<(), NnError> {
        let Memory { layout, tensors, .. } = self.memory;
        let Some(rounded) = &tensors.rounded_gradients else { return Ok(()) };
        for range in layout.weights_of(&self.schedule.stored) {
            let count = range.len();
            let (from, to) = (at(rounded, range.start), at(&tensors.gradients, range.start));
            let arguments = [Address(from), Address(to), U64(count as u64), U32(0)];
            self.kernel("arena_from_bf16", over_array(count), &[&arguments])?;
        }
        Ok(())
    }

    fn convolve(&self, plan: Option<&Plan>, x: u64, w: u64, y: u64) -> Result<(), NnError> {
        let plan = plan.expect("every convolution of a run is planned");
        let operands = Operands { x, w, y, workspace: self.memory.gpu.workspace() };
        // SAFETY: the plan is of this launch's shape, whose views lie in the arena, and of its
        // weights; the workspace is as large as the largest plan needs. All of it is freed only
        // after the work of the stream, which does one launch after the other.
        unsafe { plan.execute(&operands) }?;
        Ok(())
    }

    fn bias_backward(&self, launch: &Launch) -> Result<(), NnError> {
        match *launch {
            Launch::BiasBackward { dy, output, masked, partials } => {
                let maps = [self.map(dy), self.maybe(output), self.maybe(masked)].concat();
                let sums = [&[Address(self.at(partials))], &chunks(dy.rows, dy.channels)[..]];
                self.typed("column_sums", partials.rows, &[&maps, &sums.concat()])
            }
            Launch::BiasBackwardFinish { partials, bias } => {
                let View { rows, channels, .. } = partials;
                let addresses = [self.at(partials), self.gradient(bias)].map(Address);
                let rest = [U32(rows as u32), U32(channels as u32), U32(0)];
                self.kernel("column_sums_finish", over_channels(channels), &[&addresses, &rest])
            }
            _ => unreachable!("launched with a bias's gradient only"),
        }
    }

    fn pool(&self, launch: &Launch) -> Result<(), NnError> {
        match *launch {
            Launch::Pool { pooling, x, y, indices } => {
                let maps = [self.map(x), self.map(y)].concat();
                let channels = [U32(y.channels as u32)];
                let words = words(&pooling);
                let pooled = [Words(&words)];
                match pooling.kind {
                    PoolKind::Maximum(_) => {
                        let cells = [Address(indices.map_or(0, |view| self.at(view)))];
                        self.elementwise("max_pool", y, &[&maps, &cells, &channels, &pooled])
                    }
                    _ => self.elementwise("mean_pool", y, &[&maps, &channels, &pooled]),
                }
            }
            Launch::PoolBackward { pooling, dy, indices, dx } => {
                let (from, to) = (self.map(dy), self.map(dx.view));
                let words = words(&pooling);
                let rest = [U32(dy.channels as u32), Words(&words), add(dx)];
                match indices {
                    Some(indices) => {
                        let cells = [Address(self.at(indices))];
                        let parts: [&[Argument]; 4] = [&from, &cells, &to, &rest];
                        self.elementwise("max_pool_backward", dx.view, &parts)
                    }
                    None => self.elementwise("mean_pool_backward", dx.view, &[&from, &to, &rest]),
                }
            }
            _ => unreachable!("launched with a pooling only"),
        }
    }

    fn cross_entropy(&self, launch: &Launch) -> Result<(), NnError> {
        let Launch::CrossEntropy { logits, targets, factor, losses, loss, gradient } = *launch
        else {
            unreachable!("launched with a cross entropy only")
        };
        let of_mean = F64(factor / logits.rows as f64);
        let (targets, each) = ([Address(self.at(targets))], [Address(self.at(losses))]);
        let rest = [U32(logits.channels as u32), of_mean];
        let parts = [&self.map(logits)[..], &targets, &self.maybe(gradient), &each, &rest];
        let name = self.name("cross_entropy");
        let Memory { gpu, .. } = self.memory;
        gpu.kernels().launch_with(
            gpu.stream(),
            &name,
            logits.rows,
            ROW_THREADS,
            &parts.concat(),
        )?;
        let total = [Address(self.at(loss.view)), U32(logits.rows as u32), of_mean, add(loss)];
        self.kernel("cross_entropy_total", 1, &[&each, &total])
    }

    fn norm(&self, launch: &Launch) -> Result<(), NnError> {
        let Memory { layout, tensors, .. } = self.memory;
        let running = |norm: usize| {
            let first = layout.norms[norm].start;
            [at(&tensors.means, first), at(&tensors.variances, first)].map(Address)
        };
        match *launch {
            Launch::NormStatistics { x, partials } => {
                let partial = [Address(self.at(partials))];
                let sums = chunks(x.rows, x.channels);
                self.typed("norm_statistics", partials.rows / 2, &[&self.map(x), &partial, &sums])
            }
            Launch::NormFinish { partials, rows, norm, weight, bias, epsilon, coefficients } => {
                let channels = coefficients.channels;
                let own = [self.at(partials), self.value(weight), self.value(bias)].map(Address);
                let moments = [Address(self.at(coefficients)), F64(epsilon)];
                let sums = chunks(rows, channels);
                let parts: [&[Argument]; 4] = [&own, &running(norm), &moments, &sums];
                self.kernel("norm_finish", over_channels(channels), &parts)
            }
            Launch::NormRunning { norm, weight, bias, epsilon, coefficients } => {
                let channels = coefficients.channels;
                let own = [self.value(weight), self.value(bias), self.at(coefficients)];
                let rest = [F64(epsilon), U32(channels as u32)];
                let parts: [&[Argument]; 3] = [&running(norm), &own.map(Address), &rest];
                self.kernel("norm_running", channels.div_ceil(256), &parts)
            }
            Launch::NormApply { x, coefficients, residual, relu, y } => {
                let maps = [self.map(x), self.maybe(residual), self.map(y)].concat();
                let moments = [Address(self.at(coefficients))];
                let parts: [&[Argument]; 4] = [&maps, &moments, &shape(y), &[U32(relu.into())]];
                self.elementwise("norm_apply", y, &parts)
            }
            _ => unreachable!("launched with a norm only"),
        }
    }

    fn norm_backward(&self, launch: &Launch) -> Result<(), NnError> {
        match *launch {
            Launch::NormBackward { dy, x, mask, coefficients, partials } => {
                let maps = [self.map(dy), self.map(x), self.maybe(mask.output())].concat();
                let own = [self.at(coefficients), self.at(partials)].map(Address);
                let sums = chunks(dy.rows, dy.channels);
                let parts: [&[Argument]; 4] = [&maps, &own, &sums, &[mask_number(mask)]];
                self.typed("norm_backward_sums", partials.rows / 2, &parts)
            }
            Launch::NormBackwardFinish { partials, rows, coefficients, weight, bias, factors } => {
                let channels = coefficients.channels;
                let factors_at = factors.map_or(0, |view| self.at(view));
                let gradient = |parameter: Option<usize>| {
                    parameter.map_or(0, |parameter| self.gradient(parameter))
                };
                let own = [self.at(partials), self.at(coefficients), factors_at];
                let gradients = [gradient(weight), gradient(bias)].map(Address);
                let flags = [U32(factors.is_some().into()), U32(0)];
                let sums = chunks(rows, channels);
                let parts: [&[Argument]; 4] = [&own.map(Address), &gradients, &sums, &flags];
                self.kernel("norm_backward_finish", over_channels(channels), &parts)
            }
            Launch::NormBackwardApply { dy, x, mask, coefficients, factors, dx, residual } => {
                let read = [self.map(dy), self.maybe(x), self.maybe(mask.output())].concat();
                let factors = factors.map_or(0, |view| self.at(view));
                let own = [self.at(coefficients), factors].map(Address);
                let residual_map = self.maybe(residual.map(|target| target.view));
                let written = [self.map(dx.view), residual_map].concat();
                let add_residual = residual.map_or(U32(0), add);
                let flags = [mask_number(mask), add(dx), add_residual];
                let parts: [&[Argument]; 5] = [&read, &own, &written, &shape(dy), &flags];
                self.elementwise("norm_backward", dx.view, &parts)
            }
            _ => unreachable!("launched with a norm's gradient only"),
        }
    }

    /// A kernel over the elements of the map that it writes.
    fn elementwise(&self, name: &str, of: View, parts: &[&[Argument]]) -> Result<(), NnError> {
        self.typed(name, over_elements(of.rows, of.channels), parts)
    }

    /// A kernel that exists for both types of maps.
    fn typed(&self, name: &str, blocks: usize, parts: &[&[Argument]]) -> Result<(), NnError> {
        self.kernel(&self.name(name), blocks, parts)
    }

    fn kernel(&self, name: &str, blocks: usize, parts: &[&[Argument]]) -> Result<(), NnError> {
        let gpu = self.memory.gpu;
        gpu.kernels().launch(gpu.stream(), name, blocks, &parts.concat())
    }

    fn name(&self, name: &str) -> String {
        format!("{name}_{}", suffix(self.schedule.options.element))
    }

    fn at(&self, view: View) -> u64 {
        address(self.schedule, self.memory.arena, view)
    }

    fn map(&self, view: View) -> [Argument<'static>; 2] {
        [Address(self.at(view)), U32(view.stride as u32)]
    }

    fn maybe(&self, view: Option<View>) -> [Argument<'static>; 2] {
        view.map_or(NO_MAP, |view| self.map(view))
    }

    /// A parameter that is added or scaled with, always in f32.
    fn value(&self, parameter: usize) -> u64 {
        let Memory { layout, tensors, .. } = self.memory;
        at(&tensors.values, layout.parameters[parameter].start)
    }

    fn gradient(&self, parameter: usize) -> u64 {
        let Memory { layout, tensors, .. } = self.memory;
        at(&tensors.gradients, layout.parameters[parameter].start)
    }

    /// A weight of a convolution, of the maps' type.
    fn weight(&self, parameter: usize) -> u64 {
        let Memory { layout, tensors, .. } = self.memory;
        let first = layout.parameters[parameter].start;
        tensors.rounded.as_ref().map_or(at(&tensors.values, first), |all| at(all, first))
    }

    /// Where a convolution stores its weight's gradient, of the maps' type.
    fn weight_gradient(&self, parameter: usize) -> u64 {
        let Memory { layout, tensors, .. } = self.memory;
        let first = layout.parameters[parameter].start;
        let rounded: Option<&Buffer<u16>> = tensors.rounded_gradients.as_ref();
        rounded.map_or(at(&tensors.gradients, first), |all| at(all, first))
    }
}

/// The ending of the kernels of a type of maps.
pub(super) fn suffix(element: Element) -> &'static str {
    match element {
        Element::Bf16 => "bf16",
        Element::F32 => "f32",
        Element::F64 | Element::U8 => unreachable!("maps are f32 or bf16"),
    }
}

fn shape(view: View) -> [Argument<'static>; 2] {
    [U32(view.rows as u32), U32(view.channels as u32)]
}

/// Rows, channels and the rows of a chunk.
fn chunks(rows: usize, channels: usize) -> [Argument<'static>; 3] {
    [rows, channels, chunk_rows(rows, channels)].map(|number| U32(number as u32))
}

fn add(target: Target) -> Argument<'static> {
    U32((target.store == Store::Add).into())
}

fn mask_number(mask: Mask) -> Argument<'static> {
    U32(match mask {
        Mask::None => 0,
        Mask::Output(_) => 1,
        Mask::Recomputed => 2,
    })
}

/// The struct `Pooling` of the kernels.
fn words(pooling: &Pooling) -> [u32; 12] {
    let Pooling { batch, input, output, kind } = *pooling;
    let (window, kind) = match kind {
        PoolKind::Maximum(window) => (window, 0),
        PoolKind::Mean { window, count_padding } => (window, u32::from(count_padding)),
        PoolKind::Bins => (graph::Window::square(1, 1, 0), 2),
    };
    let sizes = [batch, input.height, input.width, output.height, output.width];
    let window = [window.kernel, window.stride, window.padding].map(|(y, x)| [y, x]);
    let numbers = sizes.into_iter().chain(window.into_iter().flatten());
    let mut words = [0; 12];
    for (word, number) in words.iter_mut().zip(numbers) {
        *word = number as u32;
    }
    words[11] = kind;
    words
}
