//! The convolutions that networks on a GPU run can all be planned by the real cuDNN, for described
//! cards: with heads of any number of classes, images of three channels, and batches of any size.

use super::launches::problem;
use crate::cuda::convolution::{Cudnn, DescribedCard, Plan, Precision, Problem, Target};
use crate::cuda::{Library, required};
use crate::nn::backbones::{BackboneInfo, backbone};
use crate::nn::schedule::{Element, Options, Part, Schedule, TrainingInput};
use crate::nn::{BatchNorm, Head};
use std::collections::HashSet;
use std::io::Write as _;
use std::path::Path;

/// The problems of training and inference, with a head of odd sizes.
fn problems(info: &BackboneInfo, precision: Precision, batch: usize) -> HashSet<Problem> {
    let head = Head::Dense { hidden: vec![37], dropout: 0.5, classes: 15 };
    let side = info.input_size.max(64);
    let graph = info.graph(&head, (side, side)).unwrap();
    let element = match precision {
        Precision::Bf16 => Element::Bf16,
        Precision::F32 | Precision::Tf32 => Element::F32,
    };
    let options = Options { batch, element };
    let trainable = vec![true; crate::nn::parameters::describe(&graph).len()];
    let (from, norm) = (TrainingInput::Images, BatchNorm::Batch);
    let training = Schedule::training(&graph, &trainable, from, norm, options).unwrap();
    let inference = Schedule::inference(&graph, Part::Both, options).unwrap();
    let launches = training.launches.iter().chain(&inference.launches);
    launches.filter_map(|launch| problem(launch, precision)).collect()
}

fn cards(cudnn: Cudnn) -> Vec<DescribedCard> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda/cards");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "json"));
    let read = |path| DescribedCard::new(cudnn, &std::fs::read_to_string(path).unwrap()).unwrap();
    files.map(read).collect()
}

#[test]
fn every_convolution_of_every_family_is_planned() {
    let cudnn = required(Library::CublasLt)
        .and_then(|_| required(Library::Cudnn))
        .map_err(|error| error.to_string())
        .and_then(|_| Cudnn::load().map_err(|error| error.to_string()));
    let cudnn = match cudnn {
        Ok(cudnn) => cudnn,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "skipped: {error}");
            return;
        }
    };
    let cards = cards(cudnn);
    assert!(cards.len() >= 6);
    let (mut plans, mut failures) = (0, Vec::new());
    for name in ["resnet18", "resnet50", "inception_v3", "alexnet"] {
        let info = backbone(name).unwrap();
        for precision in Precision::ALL {
            for batch in [1 + super::network::INFERENCE_BATCH, 6] {
                let problems = problems(info, precision, batch);
                for (problem, card) in problems
                    .iter()
                    .flat_map(|problem| cards.iter().map(move |card| (problem, card)))
                {
                    match Plan::new(problem, Target::Described(card), super::WORKSPACE) {
                        Ok(_) => plans += 1,
                        // T4 has no bf16.
                        Err(error) if error.help().is_some_and(|help| help.contains("f32")) => {}
                        Err(error) => failures.push(error.to_string()),
                    }
                }
            }
        }
    }
    failures.sort();
    failures.dedup();
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    assert!(plans > 1000);
    let _ = writeln!(std::io::stderr(), "{plans} plans");
}
