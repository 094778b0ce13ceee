//! Convolutions, planned and executed by the fake cuDNN (`cudnn.cpp`) in the streams of the fake
//! driver, and compared with sums in f64.
#![expect(unsafe_code, reason = "plans and kernels take addresses")]

use super::*;
use pipe::cuda::convolution::{
    ConvolutionError, Cudnn, Direction, Element as Kind, Handle, Map, Operands, Plan, Precision,
    Problem, Shape, Target,
};

pub(super) const SCENARIOS: &[Scenario] = &[
    ("convolve in f32", || reported(every(Precision::F32))),
    ("convolve in tf32", || reported(every(Precision::Tf32))),
    ("convolve in bf16", || reported(every(Precision::Bf16))),
    ("convolve once", || reported(once())),
    ("restore a plan", || reported(restored())),
    ("capture a convolution", || reported(captured())),
    ("convolve on two cards", || reported(two_cards())),
    ("invalid addresses", || reported(invalid_addresses())),
    ("no room for a workspace", || reported(no_room())),
    ("small memory", || reported(misuse(Misuse::SmallMemory))),
    ("freed memory", || reported(misuse(Misuse::FreedMemory))),
    ("small workspace", || reported(misuse(Misuse::SmallWorkspace))),
    ("overlap", || reported(misuse(Misuse::Overlap))),
    ("overlap of the workspace", || reported(misuse(Misuse::OverlapOfWorkspace))),
    ("real kernels", real_kernels),
];

const LIMIT: u64 = 1 << 20;

/// The errors of convolutions, with their help, as the harness reports those of the driver.
fn reported(result: Result<String, ConvolutionError>) -> Outcome {
    Ok(result.unwrap_or_else(|error| match error.help() {
        Some(help) => format!("error: {error}\nhelp: {help}"),
        None => format!("error: {error}"),
    }))
}

/// A card with a handle on its compute stream.
struct Bench {
    card: Card,
    handle: Handle,
}

impl Bench {
    fn new(index: usize) -> Result<Bench, ConvolutionError> {
        let card = Card::open(index).unwrap();
        required(Library::Cudnn).unwrap();
        let handle = Handle::new(Cudnn::load()?, card.compute())?;
        Ok(Bench { card, handle })
    }

    fn plan(&self, problem: &Problem) -> Result<Plan, ConvolutionError> {
        Plan::new(problem, Target::Handle(&self.handle), LIMIT)
    }
}

/// Values on the card, in the type of the precision.
enum Memory {
    F32(Buffer<f32>),
    Bf16(Buffer<u16>),
}

impl Memory {
    fn new(card: &Card, kind: Kind, values: &[f32]) -> Memory {
        match kind {
            Kind::F32 => {
                let memory = card.allocate(values.len()).unwrap();
                memory.write(card.compute(), 0, values).unwrap();
                Memory::F32(memory)
            }
            Kind::Bf16 => {
                let memory = card.allocate(values.len()).unwrap();
                let bits: Vec<u16> = values.iter().map(|value| narrowed(*value)).collect();
                memory.write(card.compute(), 0, &bits).unwrap();
                Memory::Bf16(memory)
            }
        }
    }

    /// The address of an element.
    fn at(&self, index: usize) -> u64 {
        match self {
            Memory::F32(memory) => memory.address() + 4 * index as u64,
            Memory::Bf16(memory) => memory.address() + 2 * index as u64,
        }
    }

    fn read(&self, card: &Card) -> Vec<f32> {
        match self {
            Memory::F32(memory) => {
                let mut values = vec![0.0; memory.count()];
                memory.read(card.compute(), 0, &mut values).unwrap();
                values
            }
            Memory::Bf16(memory) => {
                let mut bits = vec![0; memory.count()];
                memory.read(card.compute(), 0, &mut bits).unwrap();
                bits.into_iter().map(widened).collect()
            }
        }
    }
}

/// To bf16, to nearest even; for finite values.
fn narrowed(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

fn widened(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// A map of a problem, or its weights as one map for each output channel, with the whole wider map.
struct Tensor {
    map: Map,
    values: Vec<f32>,
    memory: Memory,
}

impl Tensor {
    fn new(card: &Card, kind: Kind, count: usize, map: Map, seed: u64) -> Tensor {
        let mut state = seed;
        let mut values = vec![0.0; count * map.height * map.width * map.row_stride];
        for value in &mut values {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed | 1);
            *value = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
            if kind == Kind::Bf16 {
                *value = widened(narrowed(*value));
            }
        }
        let memory = Memory::new(card, kind, &values);
        Tensor { map, values, memory }
    }

    fn index(&self, count: usize, row: usize, column: usize, channel: usize) -> usize {
        let Map { height, width, row_stride, offset, .. } = self.map;
        ((count * height + row) * width + column) * row_stride + offset + channel
    }

    /// Whether an element of the wider map belongs to the map.
    fn contains(&self, index: usize) -> bool {
        let Map { row_stride, offset, channels, .. } = self.map;
        (offset..offset + channels).contains(&(index % row_stride))
    }

    fn address(&self) -> u64 {
        self.memory.at(self.map.offset)
    }
}

/// A problem with its memory.
struct Execution {
    problem: Problem,
    x: Tensor,
    w: Tensor,
    y: Tensor,
    workspace: Option<Buffer<u8>>,
}

impl Execution {
    fn new(card: &Card, plan: &Plan) -> Execution {
        let problem = *plan.problem();
        let (shape, kind) = (problem.shape, problem.precision.element());
        let weights = Map::new(shape.kernel.0, shape.kernel.1, shape.input.channels);
        let workspace = plan.workspace() as usize;
        Execution {
            problem,
            x: Tensor::new(card, kind, shape.batch, shape.input, 1),
            w: Tensor::new(card, kind, shape.output.channels, weights, 2),
            y: Tensor::new(card, kind, shape.batch, shape.output, 3),
            workspace: (workspace > 0).then(|| card.allocate(workspace).unwrap()),
        }
    }

    fn operands(&self) -> Operands {
        Operands {
            x: self.x.address(),
            w: self.w.address(),
            y: self.y.address(),
            workspace: self.workspace.as_ref().map_or(0, Buffer::address),
        }
    }

    fn execute(&self, plan: &Plan) -> Result<(), ConvolutionError> {
        // SAFETY: the memory is of the plan's sizes; dropping it waits for the execution.
        unsafe { plan.execute(&self.operands()) }
    }

    fn written(&self) -> &Tensor {
        match self.problem.direction {
            Direction::Forward => &self.y,
            Direction::ByInput => &self.x,
            Direction::ByWeights => &self.w,
        }
    }

    /// What must be in the written tensor after `times` executions, gaps included, each value with
    /// the sum of the absolute values of its products.
    fn expected(&self, times: u32) -> Vec<(f64, f64)> {
        let written = self.written();
        let mut sums = vec![(0.0, 0.0); written.values.len()];
        self.each_product(|index, product| {
            sums[index].0 += product;
            sums[index].1 += product.abs();
        });
        for (index, (sum, size)) in sums.iter_mut().enumerate() {
            let old = f64::from(written.values[index]);
            if self.problem.accumulate {
                (*sum, *size) = (*sum * f64::from(times) + old, *size + old.abs());
            } else if !written.contains(index) {
                *sum = old;
            }
        }
        sums
    }

    /// Every product of the convolution with the element that it is added to.
    fn each_product(&self, mut add: impl FnMut(usize, f64)) {
        let Shape { batch, input, output, kernel, stride, padding } = self.problem.shape;
        let inside = |at: usize, tap: usize, padding: usize, size: usize| {
            (at + tap).checked_sub(padding).filter(|place| *place < size)
        };
        for (n, row, column) in triples(batch, output.height, output.width) {
            for (r, s, c) in triples(kernel.0, kernel.1, input.channels) {
                let above = inside(row * stride.0, r, padding.0, input.height);
                let left = inside(column * stride.1, s, padding.1, input.width);
                let (Some(above), Some(left)) = (above, left) else { continue };
                let x = self.x.index(n, above, left, c);
                for k in 0..output.channels {
                    let (w, y) = (self.w.index(k, r, s, c), self.y.index(n, row, column, k));
                    let (index, [a, b]) = match self.problem.direction {
                        Direction::Forward => (y, [self.x.values[x], self.w.values[w]]),
                        Direction::ByInput => (x, [self.y.values[y], self.w.values[w]]),
                        Direction::ByWeights => (w, [self.x.values[x], self.y.values[y]]),
                    };
                    add(index, f64::from(a) * f64::from(b));
                }
            }
        }
    }

    /// The first element that isn't as it must be after `times` executions.
    fn flaw(&self, card: &Card, times: u32) -> Option<String> {
        let written = self.written();
        let seen = written.memory.read(card);
        // Half a step of the type at the store.
        let rounding = match self.problem.precision.element() {
            Kind::F32 => 1e-7,
            Kind::Bf16 => 0.00391 * f64::from(times),
        };
        self.expected(times).into_iter().enumerate().find_map(|(index, (expected, size))| {
            let distance = (f64::from(seen[index]) - expected).abs();
            let allowed = match written.contains(index) {
                true => 1e-6 * size + rounding * expected.abs(),
                false => 0.0,
            };
            // Not a number is no smaller than anything.
            let fits = distance <= allowed;
            let seen = seen[index];
            (!fits).then(|| format!("{}: {seen} at {index}, expected {expected}", self.problem))
        })
    }
}

fn triples(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a * b * c).map(move |i| (i / c / b, i / c % b, i % c))
}

/// The shape of a convolution of two maps.
fn shape(
    (height, width): (usize, usize),
    channels: (usize, usize),
    kernel: (usize, usize),
    stride: (usize, usize),
    padding: (usize, usize),
) -> Shape {
    let size = |size: usize, kernel, stride, padding| (size + 2 * padding - kernel) / stride + 1;
    let high = size(height, kernel.0, stride.0, padding.0);
    let wide = size(width, kernel.1, stride.1, padding.1);
    Shape {
        batch: 2,
        input: Map::new(height, width, channels.0),
        output: Map::new(high, wide, channels.1),
        kernel,
        stride,
        padding,
    }
}

/// With maps that are ranges of the channels of wider ones.
fn within(shape: Shape, input: (usize, usize), output: (usize, usize)) -> Shape {
    Shape {
        input: shape.input.within(input.0, input.1),
        output: shape.output.within(output.0, output.1),
        ..shape
    }
}

fn shapes() -> Vec<Shape> {
    vec![
        shape((9, 7), (5, 6), (3, 3), (1, 1), (1, 1)),
        shape((8, 9), (16, 32), (3, 3), (2, 2), (1, 1)),
        // The last row and column of the input are under no kernel.
        shape((8, 8), (4, 9), (3, 3), (2, 2), (0, 0)),
        shape((6, 5), (16, 17), (1, 1), (1, 1), (0, 0)),
        shape((7, 6), (9, 24), (1, 1), (2, 2), (0, 0)),
        shape((5, 5), (3, 4), (1, 1), (1, 1), (1, 1)),
        shape((15, 17), (3, 20), (7, 7), (2, 2), (3, 3)),
        shape((6, 9), (8, 12), (1, 7), (1, 1), (0, 3)),
        shape((9, 6), (12, 8), (7, 1), (1, 1), (3, 0)),
        shape((11, 10), (7, 10), (3, 5), (2, 1), (1, 2)),
        shape((8, 6), (10, 16), (2, 2), (2, 2), (0, 0)),
        shape((2, 2), (300, 5), (3, 3), (1, 1), (1, 1)),
        within(shape((7, 8), (20, 36), (3, 3), (1, 1), (1, 1)), (23, 3), (41, 5)),
        within(shape((7, 8), (8, 16), (3, 3), (2, 2), (1, 1)), (24, 16), (32, 0)),
        within(shape((6, 6), (16, 8), (1, 1), (1, 1), (0, 0)), (16, 0), (40, 8)),
        within(shape((6, 7), (3, 5), (1, 1), (1, 1), (0, 0)), (8, 4), (5, 0)),
        Shape::linear(7, 33, 10),
        Shape::linear(1, 600, 16),
    ]
}

fn every(precision: Precision) -> Result<String, ConvolutionError> {
    let bench = Bench::new(0)?;
    let (mut executed, mut with_workspace) = (0, 0);
    for shape in shapes() {
        for direction in Direction::ALL {
            for accumulate in [false, true] {
                let problem = Problem { shape, direction, precision, accumulate };
                let plan = bench.plan(&problem)?;
                let case = Execution::new(&bench.card, &plan);
                case.execute(&plan)?;
                if let Some(flaw) = case.flaw(&bench.card, 1) {
                    return Ok(flaw);
                }
                executed += 1;
                with_workspace += usize::from(plan.workspace() > 0);
            }
        }
    }
    Ok(format!("{executed} executed, {with_workspace} with a workspace"))
}

#[test]
fn convolutions_are_computed() {
    for scenario in ["convolve in f32", "convolve in tf32", "convolve in bf16"] {
        Case::new(scenario).reports("108 executed, 80 with a workspace");
    }
}

/// The gradient by the weights, added to what is there, which takes a workspace.
fn by_weights() -> Problem {
    let shape = within(shape((7, 8), (8, 16), (3, 3), (2, 2), (1, 1)), (24, 16), (32, 0));
    let problem = Problem::new(shape, Direction::ByWeights, Precision::F32);
    Problem { accumulate: true, ..problem }
}

fn once() -> Result<String, ConvolutionError> {
    let bench = Bench::new(0)?;
    let plan = bench.plan(&by_weights())?;
    let case = Execution::new(&bench.card, &plan);
    case.execute(&plan)?;
    Ok(case.flaw(&bench.card, 1).unwrap_or_else(|| "computed".to_owned()))
}

fn restored() -> Result<String, ConvolutionError> {
    let bench = Bench::new(0)?;
    let target = Target::Handle(&bench.handle);
    for precision in Precision::ALL {
        for direction in Direction::ALL {
            let problem = Problem { precision, direction, ..by_weights() };
            let plan = bench.plan(&problem)?;
            let restored = Plan::restore(&problem, target, LIMIT, &plan.save()?)?;
            assert_eq!(restored.workspace(), plan.workspace());
            let (case, other) =
                (Execution::new(&bench.card, &plan), Execution::new(&bench.card, &plan));
            drop(plan);
            case.execute(&restored)?;
            other.execute(&bench.plan(&problem)?)?;
            assert_eq!(case.flaw(&bench.card, 1), None);
            let read = |case: &Execution| case.written().memory.read(&bench.card);
            assert_eq!(read(&case), read(&other));
        }
    }
    let saved = bench.plan(&by_weights())?.save()?;
    let damaged = saved.replacen(", 8, ", ", 9, ", 1);
    assert_ne!(saved, damaged);
    match Plan::restore(&by_weights(), target, LIMIT, &damaged) {
        Ok(_) => Ok("restored a damaged plan".to_owned()),
        Err(error) => Err(error),
    }
}

#[test]
fn a_restored_plan_computes_the_same() {
    let Some(report) = Case::new("restore a plan").run() else { return };
    let start = "error: the saved plan of the gradient by the weights of the convolution of 2 maps";
    assert!(report.starts_with(start), "{report}");
    assert!(report.contains("CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH"), "{report}");
}

fn captured() -> Result<String, ConvolutionError> {
    let bench = Bench::new(0)?;
    let plan = bench.plan(&by_weights())?;
    let case = Execution::new(&bench.card, &plan);
    let mut enqueued = Ok(());
    let graph = bench.card.compute().capture(|_| -> Result<(), CudaError> {
        enqueued = case.execute(&plan);
        Ok(())
    });
    let graph = graph.unwrap();
    enqueued?;
    assert_eq!(case.flaw(&bench.card, 0), None, "it ran while it was captured");
    graph.launch().unwrap();
    graph.launch().unwrap();
    Ok(case.flaw(&bench.card, 2).unwrap_or_else(|| "added twice".to_owned()))
}

#[test]
fn a_captured_convolution_runs_as_often_as_it_is_launched() {
    Case::new("capture a convolution").reports("added twice");
}

/// The card that was used last isn't the plan's.
fn two_cards() -> Result<String, ConvolutionError> {
    let benches = [Bench::new(0)?, Bench::new(1)?];
    let plans = [benches[0].plan(&by_weights())?, benches[1].plan(&by_weights())?];
    let cases = [0, 1].map(|i| Execution::new(&benches[i].card, &plans[i]));
    cases[0].execute(&plans[0])?;
    cases[1].execute(&plans[1])?;
    let flaws: Vec<String> =
        [0, 1].into_iter().filter_map(|i| cases[i].flaw(&benches[i].card, 1)).collect();
    Ok(if flaws.is_empty() { "both computed".to_owned() } else { flaws.join("\n") })
}

#[test]
fn plans_of_two_cards_are_executed_by_turns() {
    let case = Case::new("convolve on two cards").set("FAKE_CUDA_DEVICES", 2);
    case.reports("both computed");
}

fn invalid_addresses() -> Result<String, ConvolutionError> {
    let bench = Bench::new(0)?;
    let plan = bench.plan(&by_weights())?;
    let case = Execution::new(&bench.card, &plan);
    let right = Operands { x: 0x1000, w: 0x2000, y: 0x3000, workspace: 0x4000 };
    let wrong = [
        Operands { x: 0, ..right },
        Operands { x: 0x1004, ..right },
        Operands { w: 0x2008, ..right },
        Operands { y: 0x3001, ..right },
        Operands { workspace: 0, ..right },
    ];
    let mut errors = Vec::new();
    for operands in wrong {
        // SAFETY: none of them is executed.
        let Err(error) = (unsafe { plan.execute(&operands) }) else { continue };
        let text = error.to_string();
        errors.push(text.split_once(" got an ").unwrap_or_default().1.to_owned());
    }
    assert_eq!(case.flaw(&bench.card, 0), None);
    Ok(errors.join("\n"))
}

#[test]
fn addresses_are_checked_before_cudnn_sees_them() {
    Case::new("invalid addresses").reports(
        "invalid address of its input: 0x0 is null or not a multiple of 16\n\
         invalid address of its input: 0x1004 is null or not a multiple of 16\n\
         invalid address of its weights: 0x2008 is null or not a multiple of 16\n\
         invalid address of its output: 0x3001 is null or not a multiple of 16\n\
         invalid address of its workspace: 4864 bytes are needed",
    );
}

fn no_room() -> Result<String, ConvolutionError> {
    let bench = Bench::new(0)?;
    // Of the proposed engines, the fallback needs the least.
    let plan = Plan::new(&by_weights(), Target::Handle(&bench.handle), 100)?;
    let fallback = format!("engine {}, {} bytes", plan.engine(), plan.workspace());
    let error = Plan::new(&by_weights(), Target::Handle(&bench.handle), 10).err();
    let error = error.map(|error| error.to_string()).unwrap_or_default();
    Ok(format!("{fallback}\n{}", error.split_once(" on ").unwrap_or_default().1))
}

#[test]
fn workspaces_are_limited() {
    Case::new("no room for a workspace").reports(
        "engine 0, 64 bytes\n\
         Fake H100 needs a workspace of 64 bytes; the limit is 10 bytes",
    );
}

#[test]
fn failures_of_cudnn() {
    const PROBLEM: &str = "gradient by the weights of the convolution of 2 maps 7x8x8 (channels \
                           16.. of 24) to 4x4x16 (channels 0.. of 32) with a 3x3 kernel, stride \
                           2x2, padding 1x1 in f32, accumulated";
    Case::new("convolve once").reports("computed");
    for (rule, sentence) in [
        (
            "cudnnCreate:1:1001",
            "create a handle: CUDNN_STATUS_NOT_INITIALIZED (cudnnCreate: on purpose)".to_owned(),
        ),
        (
            "cudnnSetStream:1:5000",
            "set the handle's stream: CUDNN_STATUS_EXECUTION_FAILED (cudnnSetStream: on purpose)"
                .to_owned(),
        ),
        (
            "cudnnBackendFinalize:1:4000",
            "finalize the input's map: CUDNN_STATUS_INTERNAL_ERROR \
             (cudnnBackendFinalize: on purpose)"
                .to_owned(),
        ),
        (
            "cudnnBackendExecute:1:5000",
            format!(
                "execute the {PROBLEM}: CUDNN_STATUS_EXECUTION_FAILED \
                 (cudnnBackendExecute: on purpose)"
            ),
        ),
    ] {
        let case = Case::new("convolve once").set("FAKE_CUDNN_FAIL", rule);
        case.reports(&format!("error: cuDNN failed to {sentence}"));
    }
    let case = Case::new("convolve once").set("FAKE_CUDA_FAIL", "fake_cuda_enqueue:1:700");
    case.reports(&format!(
        "error: cuDNN failed to execute the {PROBLEM}: CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER \
         (cudnnBackendExecute: the driver answers 700)"
    ));
}

#[test]
fn heuristics_that_fail_are_not_the_end() {
    // Three tensors, the convolution, the operation and the graph are finalized before.
    let case = Case::new("convolve once").set("FAKE_CUDNN_FAIL", "cudnnBackendFinalize:7:4000");
    case.reports("computed");
}

#[test]
fn an_incomplete_cudnn() {
    Case::new("convolve once").instead("libcudnn.so.9", STUB_OF_CUDNN).reports(
        "error: the library found as cuDNN has no function `cudnnCreate`\n\
         help: install cuDNN 9.8 or newer, for example with `pip install nvidia-cudnn-cu13`",
    );
}

enum Misuse {
    SmallMemory,
    FreedMemory,
    SmallWorkspace,
    Overlap,
    OverlapOfWorkspace,
}

/// What the contract of `Plan::execute` forbids.
fn misuse(what: Misuse) -> Result<String, ConvolutionError> {
    let bench = Bench::new(0)?;
    let plan = bench.plan(&by_weights())?;
    let case = Execution::new(&bench.card, &plan);
    let small = bench.card.allocate::<u8>(512).unwrap();
    let mut operands = case.operands();
    match what {
        Misuse::SmallMemory => operands.y = small.address(),
        Misuse::FreedMemory => {
            operands.x = small.address();
            drop(small);
        }
        Misuse::SmallWorkspace => operands.workspace = small.address(),
        Misuse::Overlap => operands.w = operands.x,
        Misuse::OverlapOfWorkspace => operands.workspace = case.x.memory.at(0),
    }
    // SAFETY: none: the fake libraries end the process.
    unsafe { plan.execute(&operands)? };
    bench.card.synchronize().unwrap();
    Ok("nothing was noticed".to_owned())
}

#[test]
fn the_fake_cudnn_notices_wrong_memory() {
    for (scenario, sentence) in [
        ("small memory", "the output of a convolution: 4032 bytes from offset 0 of device memory"),
        ("freed memory", "has been freed"),
        ("small workspace", "the workspace of a convolution: 4864 bytes from offset 0 of device"),
        ("overlap", "the weights of a convolution, which is written, overlaps the input of a"),
        ("overlap of the workspace", "the input of a convolution overlaps the workspace"),
    ] {
        let Some(report) = Case::new(scenario).run() else { return };
        assert!(report.starts_with("signal: 6"), "{report}");
        assert!(report.contains(sentence), "{report}");
    }
}

/// The kernels of training are there, by their names and parameters.
fn real_kernels() -> Outcome {
    let card = Card::open(0)?;
    let source = Source { name: "kernels.cu", text: KERNELS, options: &[] };
    let relu = Module::load(&card, source, &NoCache)?.kernel("relu_f32")?;
    let (x, y) = (card.zeros::<f32>(4)?, card.zeros::<f32>(4)?);
    x.write(card.compute(), 0, &[1.0, -2.0, 3.0, -4.0])?;
    let one = Argument::U32(1);
    let arguments = [
        Argument::Address(x.address()),
        one,
        Argument::Address(y.address()),
        one,
        Argument::U32(4),
        one,
    ];
    // SAFETY: `relu_f32` takes these types, and both maps have four rows of one channel.
    unsafe { relu.launch(card.compute(), [1, 1, 1], [256, 1, 1], &arguments)? };
    let mut seen = [0.0; 4];
    y.read(card.compute(), 0, &mut seen)?;
    Ok(format!("{seen:?}"))
}

#[test]
fn the_kernels_of_training_run_on_the_fake_card() {
    Case::new("real kernels").kernels().reports("[1.0, 0.0, 3.0, 0.0]");
}
