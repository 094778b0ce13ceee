//! Planning with the real cuDNN, for described cards: no card and no driver are needed. Where cuDNN
//! isn't found, these tests say so and pass.

mod errors;
mod grid;
mod maps;
mod saved;
mod shapes;

use super::*;
use crate::cuda::{Library, Version, required};
use std::io::Write as _;
use std::path::Path;
use std::sync::OnceLock;

/// Names the folder of the libraries.
const LIBRARIES: &str = "PIPE_CUDA_LIBRARIES";

const CARDS: [&str; 6] = ["t4", "rtx3060", "a100", "rtx4090", "h100", "rtx5090"];

/// The limit of workspaces in these tests.
const LIMIT: u64 = 512 << 20;

/// cuDNN, or nothing where it isn't installed.
fn cudnn() -> Option<Cudnn> {
    static CUDNN: OnceLock<Result<Cudnn, String>> = OnceLock::new();
    match CUDNN.get_or_init(load) {
        Ok(cudnn) => Some(*cudnn),
        Err(reason) => {
            let _ = writeln!(
                std::io::stderr(),
                "skipped: {reason}; set {LIBRARIES} to the libraries' folder"
            );
            None
        }
    }
}

/// Plans for described cards need no driver up to cuDNN 9.26; later versions load `libcuda.so.1`.
fn load() -> Result<Cudnn, String> {
    let version = required(Library::Cudnn).map_err(|error| error.to_string())?.version;
    let described = Version { major: 9, minor: 26, patch: Some(u32::MAX) };
    if version > described && required(Library::Driver).is_err() {
        return Err(format!("cuDNN {version} plans only where a driver is"));
    }
    Cudnn::load().map_err(|error| error.to_string())
}

fn fixture(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn card(cudnn: Cudnn, name: &str) -> DescribedCard {
    DescribedCard::new(cudnn, &fixture(&format!("cards/{name}.json"))).expect("a valid card")
}

/// A convolution of `batch` maps, square in everything.
fn square(batch: usize, side: usize, channels: (usize, usize), kernel: usize) -> Shape {
    Shape {
        batch,
        input: Map::new(side, side, channels.0),
        output: Map::new(side, side, channels.1),
        kernel: (kernel, kernel),
        stride: (1, 1),
        padding: (kernel / 2, kernel / 2),
    }
}

/// A plan that must exist, be deterministic and fit.
fn planned(problem: &Problem, card: &DescribedCard) -> Plan {
    let plan = Plan::new(problem, Target::Described(card), LIMIT);
    let plan = plan.unwrap_or_else(|error| panic!("{error}"));
    assert!(plan.notes().deterministic(), "{problem}");
    assert!(plan.workspace() <= LIMIT, "{problem}");
    plan
}

/// The precisions that a card has.
fn precisions(card: &str) -> &'static [Precision] {
    if card == "t4" { &Precision::ALL[..2] } else { &Precision::ALL }
}
