//! Every distinct convolution of the networks, on every described card, in every direction and
//! precision.

use super::*;
use std::io::Write as _;
use std::time::{Duration, Instant};

/// What was planned.
#[derive(Default)]
struct Tally {
    plans: usize,
    tensor_cores: usize,
    largest: u64,
    largest_problem: String,
    slowest: Duration,
    failures: Vec<String>,
}

impl Tally {
    fn plan(&mut self, problem: &Problem, card: &DescribedCard) {
        let start = Instant::now();
        let plan = Plan::new(problem, Target::Described(card), LIMIT);
        self.slowest = self.slowest.max(start.elapsed());
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => return self.failures.push(error.to_string()),
        };
        assert!(plan.notes().deterministic(), "{problem}");
        assert!(plan.workspace() <= LIMIT, "{problem}");
        let strict = problem.precision == Precision::F32;
        assert!(!(strict && plan.notes().tensor_cores()), "{problem}");
        self.plans += 1;
        self.tensor_cores += usize::from(plan.notes().tensor_cores());
        if plan.workspace() > self.largest {
            (self.largest, self.largest_problem) = (plan.workspace(), problem.to_string());
        }
    }
}

/// The shapes of `convolutions.txt`, for a batch.
pub(super) fn shapes(batch: usize) -> Vec<Shape> {
    let text = fixture("convolutions.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| shape(batch, line).unwrap_or_else(|| panic!("{line}"))).collect()
}

fn shape(batch: usize, line: &str) -> Option<Shape> {
    let numbers: Result<Vec<usize>, _> =
        line.rsplit_once('|')?.0.replace('|', " ").split_whitespace().map(str::parse).collect();
    let [h, w, c, k, kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w] =
        *numbers.ok()?.as_slice()
    else {
        return None;
    };
    let height = (h + 2 * padding_h).checked_sub(kernel_h)? / stride_h + 1;
    let width = (w + 2 * padding_w).checked_sub(kernel_w)? / stride_w + 1;
    Some(Shape {
        batch,
        input: Map::new(h, w, c),
        output: Map::new(height, width, k),
        kernel: (kernel_h, kernel_w),
        stride: (stride_h, stride_w),
        padding: (padding_h, padding_w),
    })
}

/// The problems of a shape in a precision. Images need no gradient, and have 8 channels in bf16.
fn problems(mut shape: Shape, precision: Precision) -> Vec<Problem> {
    let image = shape.input.channels == 3;
    if image && precision == Precision::Bf16 {
        shape.input = Map::new(shape.input.height, shape.input.width, 8);
    }
    let mut problems: Vec<Problem> = Direction::ALL
        .into_iter()
        .filter(|&direction| !(image && direction == Direction::ByInput))
        .map(|direction| Problem::new(shape, direction, precision))
        .collect();
    // Where the input has several readers, their gradients are added.
    if !image {
        let by_input = Problem::new(shape, Direction::ByInput, precision);
        problems.push(Problem { accumulate: true, ..by_input });
    }
    problems
}

fn grid(batches: &[usize], names: &[&str]) {
    let Some(cudnn) = cudnn() else { return };
    let mut failures = Vec::new();
    for name in names {
        let card = card(cudnn, name);
        for &precision in precisions(name) {
            for &batch in batches {
                let start = Instant::now();
                let mut tally = Tally::default();
                for shape in shapes(batch) {
                    for problem in problems(shape, precision) {
                        tally.plan(&problem, &card);
                    }
                }
                let _ = writeln!(
                    std::io::stderr(),
                    "{name} {precision:?} batch {batch}: {} plans, {} on tensor cores, {} failed, \
                     {:.1} s, slowest {:.3} s, largest workspace {:.1} MB for the {}",
                    tally.plans,
                    tally.tensor_cores,
                    tally.failures.len(),
                    start.elapsed().as_secs_f64(),
                    tally.slowest.as_secs_f64(),
                    tally.largest as f64 / 1e6,
                    tally.largest_problem
                );
                failures.append(&mut tally.failures);
            }
        }
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_convolution_is_planned_on_every_card() {
    grid(&[1, 32, 256], &CARDS);
}
