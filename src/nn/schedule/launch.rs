//! What a schedule consists of: buffers, views into them, and launches that read and write views.
//! Pure data: names no device, library or kernel.

use crate::nn::graph::{Shape, Window};
use crate::nn::ops::Pooling;

/// The type of a buffer's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    F32,
    Bf16,
    /// Losses.
    F64,
    /// Indices of maxima within pooling windows.
    U8,
}

impl Element {
    pub fn bytes(self) -> usize {
        match self {
            Element::F64 => 8,
            Element::F32 => 4,
            Element::Bf16 => 2,
            Element::U8 => 1,
        }
    }
}

/// What a buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Images or features, written before the first launch.
    Input,
    /// Targets (batch, classes), written before the first launch.
    Targets,
    /// The loss, one value.
    Loss,
    /// The output of a node.
    Value(usize),
    /// The gradient by the output of a node.
    Gradient(usize),
    /// What a node keeps beside its output: coefficients of a norm, indices of maxima.
    Kept(usize),
    /// Used by neighboring launches only.
    Scratch,
}

/// A range of the arena that holds one map or list from launch `first` to launch `last`.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    pub content: Content,
    pub element: Element,
    /// Number of elements.
    pub length: usize,
    /// Index of the first launch that accesses it; 0 for what is written before the first launch.
    pub first: usize,
    /// Index of the last launch that accesses it, inclusive; the schedule's last one for what is
    /// read after it.
    pub last: usize,
    /// Offset in the arena, in bytes.
    pub offset: usize,
}

impl Buffer {
    pub fn bytes(&self) -> usize {
        self.length * self.element.bytes()
    }
}

/// `rows` x `channels` elements of a buffer. Row i starts `offset + i * stride` elements from the
/// buffer's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Index into [`Schedule::buffers`](super::Schedule::buffers).
    pub buffer: usize,
    /// In elements.
    pub offset: usize,
    /// Elements from one row to the next, at least `channels`.
    pub stride: usize,
    pub rows: usize,
    pub channels: usize,
}

impl View {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.rows * self.channels
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the elements are contiguous.
    pub fn is_packed(&self) -> bool {
        self.stride == self.channels || self.rows == 1
    }

    /// `channels` of its columns, from column `first`.
    pub fn columns(self, first: usize, channels: usize) -> View {
        View { offset: self.offset + first, channels, ..self }
    }

    /// The same elements as rows of another length. A view with gaps keeps its shape; the planner
    /// asks for another one only where there are none.
    pub fn reshaped(self, rows: usize, channels: usize) -> View {
        if (rows, channels) == (self.rows, self.channels) {
            return self;
        }
        debug_assert!(self.is_packed() && rows * channels == self.len());
        View { rows, channels, stride: channels, ..self }
    }
}

/// How a result is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Overwrite,
    /// Added to what is there.
    Add,
}

/// Where and how a gradient is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub view: View,
    pub store: Store,
}

/// The shapes of a convolution. A linear layer is a convolution of maps of one pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub batch: usize,
    /// Shape of one image's input.
    pub input: Shape,
    /// Shape of one image's output.
    pub output: Shape,
    pub window: Window,
}

/// Where a ReLU's gradient is nonzero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Everywhere: there is no ReLU.
    None,
    /// Where (x - mean) * scale + shift is positive.
    Recomputed,
    /// Where the output is positive.
    Output(View),
}

/// Rows that one partial sum covers, of a sum over `rows`: by shape alone, so that sums have one
/// order. The kernels are given this number.
pub fn chunk_rows(rows: usize, channels: usize) -> usize {
    8192usize.div_ceil(channels.max(1)).max(rows.div_ceil(512)).max(1)
}

/// Number of partial sums of a sum over `rows`.
pub(super) fn partial_chunks(rows: usize, channels: usize) -> usize {
    rows.div_ceil(chunk_rows(rows, channels))
}

/// One launch. Maps are views; weights, biases and their gradients are indices into the network's
/// parameters, `norm` is an index into its batch norms, whose running statistics lie outside of the
/// arena as parameters do. Gradients of parameters are overwritten. Elementwise launches may have
/// the same view as input and output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Launch {
    /// y = convolution of x with the weight.
    Convolution { geometry: Geometry, x: View, weight: usize, y: View },
    /// dx = gradient of a convolution by its input.
    ConvolutionByInput { geometry: Geometry, dy: View, weight: usize, dx: Target },
    /// The weight's gradient.
    ConvolutionByWeight { geometry: Geometry, x: View, dy: View, weight: usize },
    /// y += bias, then ReLU, in place.
    Bias { bias: usize, relu: bool, y: View },
    /// Partial sums over rows of dy where `output`, if there is one, is positive: (chunks,
    /// channels). Stores the masked dy in `masked`.
    BiasBackward { dy: View, output: Option<View>, masked: Option<View>, partials: View },
    /// The bias's gradient from partial sums.
    BiasBackwardFinish { partials: View, bias: usize },
    /// Partial sums for mean and variance of each channel: (chunks x 2, channels).
    NormStatistics { x: View, partials: View },
    /// The batch's statistics from partial sums over `rows`, and the coefficients: (4, channels)
    /// for mean, scale, shift and inverse deviation. Updates the running statistics.
    NormFinish {
        partials: View,
        rows: usize,
        norm: usize,
        weight: usize,
        bias: usize,
        epsilon: f64,
        coefficients: View,
    },
    /// The coefficients with running statistics.
    NormRunning { norm: usize, weight: usize, bias: usize, epsilon: f64, coefficients: View },
    /// y = (x - mean) * scale + shift (+ residual), then ReLU.
    NormApply { x: View, coefficients: View, residual: Option<View>, relu: bool, y: View },
    /// Partial sums of the masked dy and of the masked dy times (x - mean): (chunks x 2, channels).
    NormBackward { dy: View, x: View, mask: Mask, coefficients: View, partials: View },
    /// Gradients of the norm's weight and bias from partial sums over `rows`, and the factors (2,
    /// channels) of [`NormBackwardApply`](Launch::NormBackwardApply), which only norms with the
    /// batch's statistics have: b = -scale * inverse² * sum of dy (x - mean) / rows, c = -scale *
    /// sum of dy / rows.
    NormBackwardFinish {
        partials: View,
        rows: usize,
        coefficients: View,
        weight: Option<usize>,
        bias: Option<usize>,
        factors: Option<View>,
    },
    /// With the masked dy: dx = scale * dy + b * (x - mean) + c, without factors scale * dy; the
    /// residual's gradient is dy. x is given where factors or mask need it.
    NormBackwardApply {
        dy: View,
        x: Option<View>,
        mask: Mask,
        coefficients: View,
        factors: Option<View>,
        dx: Target,
        residual: Option<Target>,
    },
    /// y = max(x, 0).
    Relu { x: View, y: View },
    /// dx = dy where the output is positive, else 0.
    ReluBackward { dy: View, output: View, dx: Target },
    /// y = a + b.
    Add { a: View, b: View, y: View },
    /// y = x.
    Copy { x: View, y: View },
    /// `indices`: position of the maximum in its window, (rows of y, channels).
    Pool { pooling: Pooling, x: View, y: View, indices: Option<View> },
    /// With `indices` of a maximum, else of a mean.
    PoolBackward { pooling: Pooling, dy: View, indices: Option<View>, dx: Target },
    /// y = x where the mask of `layer` keeps it, divided by 1 - probability. Backward it is the
    /// same, with gradients as x and y.
    Dropout { x: View, y: Target, layer: usize, probability: f32 },
    /// loss (+)= factor * mean cross entropy, and the gradient by the logits. `losses` is scratch:
    /// (batch, 1).
    CrossEntropy {
        logits: View,
        targets: View,
        factor: f64,
        losses: View,
        loss: Target,
        gradient: Option<View>,
    },
    /// Zeroes the gradient of a parameter that the loss doesn't depend on.
    ZeroGradient { parameter: usize },
}

/// How a launch accesses a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    /// Overwritten.
    Write,
    /// Read and written.
    Update,
}

impl Launch {
    /// The views it accesses. A view that is overwritten by elements that depend on itself is
    /// listed twice: read, then written.
    pub fn accesses(&self) -> Vec<(View, Access)> {
        let (read, write) = (|view| (view, Access::Read), |view| (view, Access::Write));
        let target = |target: Target| {
            let add = target.store == Store::Add;
            (target.view, if add { Access::Update } else { Access::Write })
        };
        let mut list = Vec::new();
        match *self {
            Launch::Convolution { x, y, .. } => list.extend([read(x), write(y)]),
            Launch::ConvolutionByInput { dy, dx, .. } => list.extend([read(dy), target(dx)]),
            Launch::ConvolutionByWeight { x, dy, .. } => list.extend([read(x), read(dy)]),
            Launch::Bias { y, .. } => list.push((y, Access::Update)),
            Launch::BiasBackward { dy, output, masked, partials } => {
                list.push(read(dy));
                list.extend(output.map(read));
                list.extend(masked.map(write));
                list.push(write(partials));
            }
            Launch::BiasBackwardFinish { partials, .. } => list.push(read(partials)),
            Launch::NormStatistics { x, partials } => list.extend([read(x), write(partials)]),
            Launch::NormFinish { partials, coefficients, .. } => {
                list.extend([read(partials), write(coefficients)]);
            }
            Launch::NormRunning { coefficients, .. } => list.push(write(coefficients)),
            Launch::NormApply { x, coefficients, residual, y, .. } => {
                list.extend([read(x), read(coefficients)]);
                list.extend(residual.map(read));
                list.push(write(y));
            }
            Launch::NormBackward { dy, x, mask, coefficients, partials } => {
                list.extend([read(dy), read(x), read(coefficients)]);
                list.extend(mask.output().map(read));
                list.push(write(partials));
            }
            Launch::NormBackwardFinish { partials, coefficients, factors, .. } => {
                list.extend([read(partials), read(coefficients)]);
                list.extend(factors.map(write));
            }
            Launch::NormBackwardApply { dy, x, mask, coefficients, factors, dx, residual } => {
                list.extend([read(dy), read(coefficients)]);
                list.extend([x, mask.output(), factors].into_iter().flatten().map(read));
                list.extend([Some(dx), residual].into_iter().flatten().map(target));
            }
            Launch::Relu { x, y } | Launch::Copy { x, y } => list.extend([read(x), write(y)]),
            Launch::ReluBackward { dy, output, dx } => {
                list.extend([read(dy), read(output), target(dx)]);
            }
            Launch::Add { a, b, y } => list.extend([read(a), read(b), write(y)]),
            Launch::Pool { x, y, indices, .. } => {
                list.extend([read(x), write(y)]);
                list.extend(indices.map(write));
            }
            Launch::PoolBackward { dy, indices, dx, .. } => {
                list.push(read(dy));
                list.extend(indices.map(read));
                list.push(target(dx));
            }
            Launch::Dropout { x, y, .. } => list.extend([read(x), target(y)]),
            Launch::CrossEntropy { logits, targets, losses, loss, gradient, .. } => {
                list.extend([read(logits), read(targets), write(losses), target(loss)]);
                list.extend(gradient.map(write));
            }
            Launch::ZeroGradient { .. } => {}
        }
        list
    }

    /// The parameter gradients it stores.
    pub fn stored_gradients(&self) -> Vec<usize> {
        match *self {
            Launch::ConvolutionByWeight { weight, .. } => vec![weight],
            Launch::BiasBackwardFinish { bias, .. } => vec![bias],
            Launch::NormBackwardFinish { weight, bias, .. } => {
                weight.into_iter().chain(bias).collect()
            }
            Launch::ZeroGradient { parameter } => vec![parameter],
            _ => Vec::new(),
        }
    }
}

impl Mask {
    pub fn output(self) -> Option<View> {
        match self {
            Mask::Output(view) => Some(view),
            Mask::None | Mask::Recomputed => None,
        }
    }
}
