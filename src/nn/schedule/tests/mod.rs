//! Schedules against finite differences and dfdx's tape, on random graphs, and for all backbones. `executor` runs a
//! schedule on the CPU.

mod arena;
mod backbones;
pub(crate) mod executor;
mod gradients;
mod graphs;
mod norms;
mod products;
mod properties;
mod tape;
mod windows;

use super::{Element, Options, Schedule, TrainingInput};
use crate::nn::graph::{Graph, Op};
use crate::nn::{BatchNorm, NnError, parameters};
use executor::{Inputs, Outputs};

/// SplitMix64.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// In [-1, 1).
    fn value(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    fn values(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.value()).collect()
    }
}

/// A graph with random parameters, statistics and inputs.
struct Case {
    graph: Graph,
    batch: usize,
    parameters: Vec<Vec<f64>>,
    running: Vec<(Vec<f64>, Vec<f64>)>,
    images: Vec<f64>,
    targets: Vec<f64>,
}

impl Case {
    fn new(graph: Graph, batch: usize, seed: u64) -> Case {
        let mut random = Random(seed);
        let described = parameters::describe(&graph);
        let parameters = described.iter().map(|info| {
            let count: usize = info.shape.iter().product();
            let fan_in: usize = info.shape.iter().skip(1).product();
            let scale = 1.5 / (fan_in as f64).sqrt();
            let shift =
                if info.name.ends_with("weight") && info.shape.len() == 1 { 1.0 } else { 0.0 };
            random.values(count).iter().map(|v| shift + 0.5f64.max(scale) * v).collect()
        });
        let parameters = parameters.collect();
        let norms = graph.nodes().iter().filter(|node| matches!(node.op, Op::BatchNorm { .. }));
        let running = norms.map(|node| {
            let channels = node.shape.channels;
            let variance = random.values(channels).iter().map(|v| 1.2 + v).collect();
            (random.values(channels), variance)
        });
        let running = running.collect();
        let images = random.values(batch * graph.input().len());
        let targets = random.values(batch * graph.classes()).iter().map(|v| v.abs()).collect();
        Case { graph, batch, parameters, running, images, targets }
    }

    fn options(&self, element: Element) -> Options {
        Options { batch: self.batch, element }
    }

    fn training(&self, trainable: &[bool], norm: BatchNorm) -> Result<Schedule, NnError> {
        let options = self.options(Element::F32);
        Schedule::training(&self.graph, trainable, TrainingInput::Images, norm, options)
    }

    fn run(&self, schedule: &Schedule, input: &[f64], parameters: &[Vec<f64>]) -> Outputs {
        executor::run(
            schedule,
            &Inputs {
                parameters,
                running: &self.running,
                input,
                targets: &self.targets,
                key: &|layer| 77 + layer as u64,
            },
        )
    }
}
