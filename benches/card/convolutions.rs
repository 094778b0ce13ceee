//! Every distinct convolution of the networks' training steps, in every direction and precision:
//! what cuDNN computes against the naive kernels of `kernels.cu`, on the card. Outputs are poisoned
//! with NaN before, gaps of wider maps must keep it, and a second execution must give the same
//! bytes.
#![expect(unsafe_code, reason = "plans and kernels take addresses")]

use super::settings::{cache, gpu_index, models, network, number, numbers, precisions};
use super::{Outcome, line};
use pipe::cuda::Argument::{self, Address, U32, Words};
use pipe::cuda::convolution::{
    Cudnn, Direction, Element, Handle, Map, Operands, Plan, Precision, Problem, Shape, Target,
};
use pipe::cuda::{Buffer, Card, KERNELS, Kernel, Library, Module, Source, required};
use pipe::nn::BatchNorm;
use pipe::nn::cuda::{WORKSPACE, convolutions};
use pipe::nn::schedule::{self, Options, Schedule, TrainingInput};
use rayon::prelude::*;
use std::error::Error;

/// Bytes of no number, in f32 as in bf16.
const POISON: u8 = 0xff;

pub(crate) fn run() -> Outcome {
    let problems = problems()?;
    let mut bench = Bench::new(&problems)?;
    let mut failures = 0;
    for precision in precisions(bench.card.properties().capability.computes_bf16()) {
        let (mut worst, mut count) = (Seen::default(), 0);
        for problem in problems.iter().filter(|problem| problem.precision == precision) {
            count += 1;
            match bench.compare(problem) {
                Ok(seen) if seen.flaw().is_none() => worst = worst.worse(seen),
                Ok(seen) => {
                    failures += 1;
                    eprintln!("{}: the {problem}", seen.flaw().unwrap_or_default());
                    worst = worst.worse(seen);
                }
                Err(error) => {
                    failures += 1;
                    eprintln!("{error}: the {problem}");
                }
            }
        }
        let (distance, bound) = (format!("{:.2e}", worst.distance), format!("{:.2e}", worst.bound));
        line(&["convolutions", &precision.to_string(), &count.to_string(), &distance, &bound]);
    }
    match failures {
        0 => Ok(()),
        _ => Err(format!("{failures} convolutions differ or failed").into()),
    }
}

/// The distinct convolutions of a training step of each network.
fn problems() -> Result<Vec<Problem>, Box<dyn Error>> {
    let batch = number("CARD_CONVOLUTION_BATCH", 4);
    let mut all: Vec<Problem> = Vec::new();
    for model in models() {
        let network = network(&model)?;
        let (graph, trainable) = (network.graph(), vec![true; network.parameters().len()]);
        for precision in Precision::ALL {
            let element = match precision.element() {
                Element::F32 => schedule::Element::F32,
                Element::Bf16 => schedule::Element::Bf16,
            };
            let (from, options) = (TrainingInput::Images, Options { batch, element });
            let schedule = Schedule::training(graph, &trainable, from, BatchNorm::Batch, options)?;
            all.extend(convolutions(&schedule, precision));
        }
    }
    let mut distinct = std::collections::HashSet::new();
    all.retain(|problem| distinct.insert(*problem));
    Ok(all)
}

/// What a comparison showed.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// The largest difference, relative to the largest value.
    distance: f64,
    bound: f64,
    /// Elements between the map's that were written.
    outside: usize,
    /// Whether a second execution gave other bytes.
    varies: bool,
}

impl Seen {
    fn flaw(&self) -> Option<String> {
        if self.distance > self.bound {
            return Some(format!("distance {:.2e}, bound {:.2e}", self.distance, self.bound));
        }
        if self.outside > 0 {
            return Some(format!("{} elements outside of the map were written", self.outside));
        }
        self.varies.then(|| "the second execution gave other bytes".to_owned())
    }

    /// The one that is nearer to its bound, or beyond it.
    fn worse(self, other: Seen) -> Seen {
        let ratio = |seen: &Seen| if seen.bound > 0.0 { seen.distance / seen.bound } else { 0.0 };
        if ratio(&self) >= ratio(&other) { self } else { other }
    }
}

/// The most that two right results may differ by, relative to the largest value. Inputs are uniform
/// in -1..1, so that a product is 1/3 (root of the mean of squares) and a sum sqrt(terms) / 3.
///
/// - f32: sums in another order; 1e-4 is far above what that makes of 100,000 terms.
/// - bf16: products of bf16 are exact in f32, so results differ where rounding them to bf16 goes
///   the other way: by one step, 2^-7 of the value.
/// - tf32: each factor is off by up to 2^-10, if it is truncated, and a product by 2^-9. The mean of
///   these errors shrinks the value by at most 2^-9; the rest is a sum of as many independent
///   errors as there are terms, of which 8 standard deviations are allowed.
fn bound(precision: Precision, terms: usize, largest: f64) -> f64 {
    match precision {
        Precision::F32 => 1e-4,
        Precision::Bf16 => 2_f64.powi(-7) + 1e-4,
        Precision::Tf32 => {
            let deviation = (terms as f64).sqrt() / 3.0;
            2_f64.powi(-9) * (1.0 + 8.0 * deviation / largest.max(f64::MIN_POSITIVE))
        }
    }
}

/// Products that are summed for an element of the result.
fn terms(problem: &Problem) -> usize {
    let Shape { batch, input, output, kernel, .. } = problem.shape;
    match problem.direction {
        Direction::Forward => kernel.0 * kernel.1 * input.channels,
        Direction::ByInput => kernel.0 * kernel.1 * output.channels,
        Direction::ByWeights => batch * output.height * output.width,
    }
}

/// A tensor of a problem: its map, and how many of it there are.
#[derive(Clone, Copy)]
struct Tensor {
    count: usize,
    map: Map,
    size: usize,
}

impl Tensor {
    /// Input, weights and output of a problem. Weights are a map for each output channel.
    fn of(problem: &Problem) -> [Tensor; 3] {
        let (shape, size) = (problem.shape, problem.precision.element().size());
        let weights = Map::new(shape.kernel.0, shape.kernel.1, shape.input.channels);
        [
            Tensor { count: shape.batch, map: shape.input, size },
            Tensor { count: shape.output.channels, map: weights, size },
            Tensor { count: shape.batch, map: shape.output, size },
        ]
    }

    /// Bytes of the wider map.
    fn bytes(&self) -> usize {
        self.count * self.map.height * self.map.width * self.map.row_stride * self.size
    }

    fn elements(&self) -> usize {
        self.count * self.map.height * self.map.width * self.map.channels
    }

    /// The address of the map's first element in a buffer.
    fn at(&self, buffer: &Buffer<u8>) -> u64 {
        buffer.address() + (self.map.offset * self.size) as u64
    }

    /// Whether an element of the wider map is the map's.
    fn contains(&self, index: usize) -> bool {
        let Map { row_stride, offset, channels, .. } = self.map;
        (offset..offset + channels).contains(&(index % row_stride))
    }
}

/// A card with memory for the largest problem.
struct Bench {
    card: Card,
    handle: Handle,
    kernels: Module,
    /// Random input, weights and output in f32, then in bf16.
    random: [[Buffer<u8>; 3]; 2],
    poison: Buffer<u8>,
    /// What cuDNN and the naive kernels write.
    found: Buffer<u8>,
    expected: Buffer<u8>,
    workspace: Buffer<u8>,
}

impl Bench {
    fn new(problems: &[Problem]) -> Result<Bench, Box<dyn Error>> {
        let card = Card::open(gpu_index())?;
        // cuDNN ends the process where it doesn't find it.
        required(Library::CublasLt)?;
        required(Library::Cudnn)?;
        let handle = Handle::new(Cudnn::load()?, card.compute())?;
        let source = Source { name: "kernels.cu", text: KERNELS, options: &["--std=c++17"] };
        let kernels = Module::load(&card, source, &*cache())?;
        let most = |place: usize, element| {
            let own = problems.iter().filter(|p| p.precision.element() == element);
            own.map(|problem| Tensor::of(problem)[place].bytes()).max().unwrap_or(0)
        };
        let random = |element| -> Result<[Buffer<u8>; 3], Box<dyn Error>> {
            let one = |place| random(&card, element, most(place, element), place as u64 + 1);
            Ok([one(0)?, one(1)?, one(2)?])
        };
        let random = [random(Element::F32)?, random(Element::Bf16)?];
        let largest = (0..3).map(|place| most(place, Element::F32)).max().unwrap_or(0);
        let poison = card.allocate(largest)?;
        poison.write(card.compute(), 0, &vec![POISON; largest])?;
        let (found, expected) = (card.allocate(largest)?, card.allocate(largest)?);
        let workspace = card.allocate(0)?;
        Ok(Bench { card, handle, kernels, random, poison, found, expected, workspace })
    }

    fn compare(&mut self, problem: &Problem) -> Result<Seen, Box<dyn Error>> {
        let plan = Plan::new(problem, Target::Handle(&self.handle), WORKSPACE)?;
        if self.workspace.bytes() < plan.workspace() as usize {
            self.workspace = self.card.allocate(plan.workspace() as usize)?;
        }
        let written = Tensor::of(problem)[place(problem.direction)];
        self.prepare(problem, &self.expected)?;
        self.naive(problem)?;
        let expected = self.read(&self.expected, written)?;
        let mut found = Vec::new();
        for _ in 0..2 {
            self.prepare(problem, &self.found)?;
            self.execute(&plan)?;
            found.push(self.read(&self.found, written)?);
        }
        let mut seen = difference(problem, written, &found[0], &expected);
        seen.varies = found[0] != found[1];
        Ok(seen)
    }

    fn inputs(&self, problem: &Problem) -> &[Buffer<u8>; 3] {
        &self.random[usize::from(problem.precision.element() == Element::Bf16)]
    }

    /// Fills the memory of a result: what it is added to, or poison.
    fn prepare(&self, problem: &Problem, result: &Buffer<u8>) -> Outcome {
        let place = place(problem.direction);
        let bytes = Tensor::of(problem)[place].bytes();
        let from = if problem.accumulate { &self.inputs(problem)[place] } else { &self.poison };
        Ok(from.copy(self.card.compute(), 0..bytes, result, 0)?)
    }

    /// The addresses of a problem's tensors with the result in `result`.
    fn addresses(&self, problem: &Problem, result: &Buffer<u8>) -> [u64; 3] {
        let (tensors, inputs) = (Tensor::of(problem), self.inputs(problem));
        let mut addresses = [0, 1, 2].map(|place| tensors[place].at(&inputs[place]));
        let written = place(problem.direction);
        addresses[written] = tensors[written].at(result);
        addresses
    }

    fn execute(&self, plan: &Plan) -> Outcome {
        let [x, w, y] = self.addresses(plan.problem(), &self.found);
        let operands = Operands { x, w, y, workspace: self.workspace.address() };
        // SAFETY: every buffer is as large as the largest tensor of its place, and the workspace as
        // the plan needs; all live longer than the execution, and one stream does all work.
        Ok(unsafe { plan.execute(&operands) }?)
    }

    fn naive(&self, problem: &Problem) -> Outcome {
        let Shape { input, output, .. } = problem.shape;
        let [x, w, y] = self.addresses(problem, &self.expected).map(Address);
        let strides = [input.row_stride, output.row_stride].map(|stride| U32(stride as u32));
        let words = words(&problem.shape);
        let (shape, add) = (Words(&words), U32(problem.accumulate.into()));
        let (name, arguments): (_, Vec<Argument>) = match problem.direction {
            Direction::Forward => ("convolution", vec![x, strides[0], w, y, strides[1], shape]),
            Direction::ByInput => {
                ("convolution_by_input", vec![y, strides[1], w, x, strides[0], shape, add])
            }
            Direction::ByWeights => {
                // Rounded: in the type of the maps, as cuDNN stores it.
                let rounded = U32(1);
                let arguments = vec![x, strides[0], y, strides[1], w, shape, rounded, add];
                ("convolution_by_weights", arguments)
            }
        };
        let suffix = match problem.precision.element() {
            Element::F32 => "f32",
            Element::Bf16 => "bf16",
        };
        let kernel: Kernel = self.kernels.kernel(&format!("{name}_{suffix}"))?;
        let elements = Tensor::of(problem)[place(problem.direction)].elements();
        let blocks = u32::try_from(elements.div_ceil(256))?;
        // SAFETY: the arguments are those of the table in `kernels.cu`; the memory is as large as
        // the shape says.
        unsafe {
            kernel.launch(self.card.compute(), [blocks, 1, 1], [256, 1, 1], &arguments)?;
        }
        Ok(())
    }

    fn read(&self, buffer: &Buffer<u8>, tensor: Tensor) -> Result<Vec<u8>, Box<dyn Error>> {
        let mut bytes = vec![0; tensor.bytes()];
        buffer.read(self.card.compute(), 0, &mut bytes)?;
        Ok(bytes)
    }
}

/// Which of input, weights and output is written.
fn place(direction: Direction) -> usize {
    match direction {
        Direction::ByInput => 0,
        Direction::ByWeights => 1,
        Direction::Forward => 2,
    }
}

/// The struct `Convolution` of the kernels.
fn words(shape: &Shape) -> [u32; 13] {
    let Shape { batch, input, output, kernel, stride, padding } = *shape;
    [
        batch,
        input.height,
        input.width,
        input.channels,
        output.height,
        output.width,
        output.channels,
        kernel.0,
        kernel.1,
        stride.0,
        stride.1,
        padding.0,
        padding.1,
    ]
    .map(|number| number as u32)
}

/// Random numbers on the card.
fn random(
    card: &Card,
    element: Element,
    bytes: usize,
    seed: u64,
) -> Result<Buffer<u8>, Box<dyn Error>> {
    let values = numbers(bytes / element.size(), seed);
    let bytes: Vec<u8> = match element {
        Element::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Element::Bf16 => {
            values.iter().flat_map(|value| ((value.to_bits() >> 16) as u16).to_le_bytes()).collect()
        }
    };
    let buffer = card.allocate(bytes.len())?;
    buffer.write(card.compute(), 0, &bytes)?;
    Ok(buffer)
}

/// Compares all elements of the wider map.
fn difference(problem: &Problem, tensor: Tensor, found: &[u8], expected: &[u8]) -> Seen {
    let size = tensor.size;
    let all = found.par_chunks(size * tensor.map.row_stride);
    let lines = all.zip(expected.par_chunks(size * tensor.map.row_stride));
    let of_line = |(found, expected): (&[u8], &[u8])| {
        let (mut difference, mut largest, mut outside) = (0.0_f64, 0.0_f64, 0);
        let elements = found.chunks_exact(size).zip(expected.chunks_exact(size));
        for (index, (found, expected)) in elements.enumerate() {
            if !tensor.contains(index) {
                outside += usize::from(found != expected);
                continue;
            }
            let (found, expected) = (value(found), value(expected));
            let distance = (found - expected).abs();
            // What isn't a number is beyond every bound.
            difference = difference.max(if distance.is_nan() { f64::INFINITY } else { distance });
            largest = largest.max(expected.abs());
        }
        (difference, largest, outside)
    };
    let both = |a: (f64, f64, usize), b: (f64, f64, usize)| (a.0.max(b.0), a.1.max(b.1), a.2 + b.2);
    let (difference, largest, outside) = lines.map(of_line).reduce(Default::default, both);
    Seen {
        distance: difference / largest.max(f64::MIN_POSITIVE),
        bound: bound(problem.precision, terms(problem), largest),
        outside,
        varies: false,
    }
}

/// An element as a number: f32, or bf16.
fn value(bytes: &[u8]) -> f64 {
    let bits = match *bytes {
        [a, b] => u32::from(u16::from_le_bytes([a, b])) << 16,
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
        _ => unreachable!("elements are of two or four bytes"),
    };
    f64::from(f32::from_bits(bits))
}
