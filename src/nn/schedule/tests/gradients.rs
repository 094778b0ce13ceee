//! Gradients against central differences of the loss, and inference against training.

use super::{Case, Random, graphs};
use crate::nn::graph::{Graph, Head};
use crate::nn::schedule::{Element, Launch, Options, Part, Schedule, Store, TrainingInput};
use crate::nn::{BatchNorm, backbone};

/// Checks each stored gradient along one random direction.
fn check_gradients(case: &Case, schedule: &Schedule, input: &[f64], what: &str) {
    let outputs = case.run(schedule, input, &case.parameters);
    let mut random = Random(9);
    for (index, gradient) in outputs.gradients.iter().enumerate() {
        assert_eq!(gradient.is_some(), schedule.stored[index], "{what}: parameter {index}");
        let Some(gradient) = gradient else { continue };
        let direction = random.values(gradient.len());
        let at = |distance: f64| {
            let mut moved = case.parameters.clone();
            moved[index].iter_mut().zip(&direction).for_each(|(p, d)| *p += distance * d);
            case.run(schedule, input, &moved).loss
        };
        let distance = 1e-6;
        let slope = (at(distance) - at(-distance)) / (2.0 * distance);
        let own: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
        let size: f64 = gradient.iter().map(|g| g.abs()).sum();
        assert!(
            (slope - own).abs() < 1e-5 * size + 1e-7,
            "{what}: parameter {index}: {own} is not {slope}"
        );
    }
}

/// Freeze points: everything from each parameter on, everything up to it, and single ones.
fn choices(count: usize) -> Vec<Vec<bool>> {
    let choose = |chosen: &dyn Fn(usize) -> bool| (0..count).map(chosen).collect::<Vec<bool>>();
    let mut all: Vec<Vec<bool>> = (0..=count).map(|from| choose(&|p| p >= from)).collect();
    all.extend((0..count).map(|only| choose(&|p| p == only)));
    all.extend((1..count).map(|to| choose(&|p| p < to)));
    all
}

fn check_graph(graph: Graph) {
    let case = Case::new(graph, 3, 5);
    for trainable in choices(case.parameters.len()) {
        for norm in [BatchNorm::Batch, BatchNorm::Running] {
            let schedule = case.training(&trainable, norm).unwrap();
            assert_eq!(schedule.stored, trainable);
            check_gradients(&case, &schedule, &case.images, &format!("{trainable:?} {norm:?}"));
        }
    }
}

#[test]
fn gradients_of_residual_blocks_equal_differences_at_every_freeze_point() {
    check_graph(graphs::residual());
}

#[test]
fn gradients_of_branches_equal_differences_at_every_freeze_point() {
    check_graph(graphs::branches());
}

#[test]
fn gradients_of_odd_graphs_equal_differences_at_every_freeze_point() {
    check_graph(graphs::odd());
}

#[test]
fn gradients_of_random_graphs_equal_differences() {
    for seed in 0..60 {
        let case = Case::new(graphs::random(seed), 2, seed);
        let mut random = Random(seed);
        let from = random.below(case.parameters.len());
        let trainable: Vec<bool> =
            (0..case.parameters.len()).map(|p| p >= from && random.below(4) > 0).collect();
        for norm in [BatchNorm::Batch, BatchNorm::Running] {
            let schedule = case.training(&trainable, norm).unwrap();
            check_gradients(&case, &schedule, &case.images, &format!("graph {seed} {norm:?}"));
        }
    }
}

#[test]
fn gradients_of_backbones_equal_differences_along_a_direction() {
    for (name, size) in [("resnet18", 32), ("resnet50", 32), ("inception_v3", 75)] {
        let head = Head::Dense { hidden: vec![6], dropout: 0.3, classes: 3 };
        let graph = backbone(name).unwrap().graph(&head, (size, size)).unwrap();
        let case = Case::new(graph, 2, 12);
        let all = vec![true; case.parameters.len()];
        let norm = BatchNorm::Running;
        let schedule = case.training(&all, norm).unwrap();
        let outputs = case.run(&schedule, &case.images, &case.parameters);
        let mut random = Random(2);
        let directions: Vec<Vec<f64>> =
            case.parameters.iter().map(|values| random.values(values.len())).collect();
        let at = |distance: f64| {
            let mut moved = case.parameters.clone();
            for (values, direction) in moved.iter_mut().zip(&directions) {
                values.iter_mut().zip(direction).for_each(|(p, d)| *p += distance * d);
            }
            case.run(&schedule, &case.images, &moved).loss
        };
        let distance = 1e-8;
        let slope = (at(distance) - at(-distance)) / (2.0 * distance);
        let gradients = outputs.gradients.iter().map(|gradient| gradient.as_ref().unwrap());
        let own: f64 =
            gradients.zip(&directions).flat_map(|(g, d)| g.iter().zip(d)).map(|(g, d)| g * d).sum();
        assert!((slope - own).abs() < 1e-4 * own.abs(), "{name}: {own} is not {slope}");
    }
}

#[test]
fn a_head_trained_from_features_gets_the_gradients_it_gets_from_images() {
    for graph in [graphs::residual(), graphs::odd(), graphs::branches()] {
        let case = Case::new(graph, 3, 8);
        let infos = crate::nn::parameters::describe(&case.graph);
        let trainable: Vec<bool> = infos.iter().map(|info| info.group == "head").collect();
        let options = Options { batch: 3, element: Element::F32 };
        let backbone = Schedule::inference(&case.graph, Part::Backbone, options);
        let features = case.run(&backbone.unwrap(), &case.images, &case.parameters).output;
        let graph = &case.graph;
        let norm = BatchNorm::Batch;
        let head =
            Schedule::training(graph, &trainable, TrainingInput::Features, norm, options).unwrap();
        let whole = case.training(&trainable, norm).unwrap();
        check_gradients(&case, &head, &features, "head");
        let from_features = case.run(&head, &features, &case.parameters);
        let from_images = case.run(&whole, &case.images, &case.parameters);
        assert_eq!(from_features.gradients, from_images.gradients);
        assert_eq!(from_features.output, from_images.output);
        // The auxiliary head runs from images only.
        assert_eq!(from_features.loss == from_images.loss, graph.auxiliary().is_none());
    }
}

#[test]
fn inference_equals_training_with_running_statistics() {
    for graph in [graphs::residual(), graphs::branches(), graphs::odd(), graphs::random(3)] {
        let case = Case::new(graph.without_dropout(), 3, 6);
        let all = vec![true; case.parameters.len()];
        let training = case.training(&all, BatchNorm::Running).unwrap();
        let training = case.run(&training, &case.images, &case.parameters);
        let run = |part, input: &[f64]| {
            let options = case.options(Element::F32);
            let schedule = Schedule::inference(&case.graph, part, options);
            case.run(&schedule.unwrap(), input, &case.parameters).output
        };
        assert_eq!(run(Part::Both, &case.images), training.output);
        let features = run(Part::Backbone, &case.images);
        assert_eq!(run(Part::Head, &features), training.output);
    }
}

#[test]
fn norms_below_all_trainable_parameters_use_running_statistics() {
    let case = Case::new(graphs::residual(), 3, 7);
    for trainable in choices(case.parameters.len()) {
        let schedule = case.training(&trainable, BatchNorm::Batch).unwrap();
        let outputs = case.run(&schedule, &case.images, &case.parameters);
        let first = trainable.iter().position(|&chosen| chosen);
        let used = outputs.batch_statistics.iter().filter(|used| used.is_some()).count();
        match first {
            None => assert_eq!((used, schedule.backward), (0, schedule.launches.len())),
            Some(0) => assert_eq!(used, outputs.batch_statistics.len()),
            Some(_) => assert!(used <= outputs.batch_statistics.len()),
        }
    }
    // The head alone: no norm uses the batch's statistics, and nothing of the backbone is kept.
    let infos = crate::nn::parameters::describe(&case.graph);
    let head: Vec<bool> = infos.iter().map(|info| info.group == "head").collect();
    let schedule = case.training(&head, BatchNorm::Batch).unwrap();
    let of_norms = |launch: &Launch| matches!(launch, Launch::NormStatistics { .. });
    assert!(!schedule.launches.iter().any(of_norms));
    let on_maps = |launch: &Launch| match launch {
        Launch::ConvolutionByInput { geometry, .. } => geometry.input.pixels() > 1,
        Launch::PoolBackward { .. } | Launch::NormBackwardApply { .. } => true,
        _ => false,
    };
    assert!(!schedule.launches.iter().any(on_maps));
}

#[test]
fn dropout_is_always_on_in_the_head_and_in_the_backbone_where_something_below_trains() {
    let case = Case::new(graphs::branches(), 2, 4);
    let layers = |trainable: &[bool]| {
        let schedule = case.training(trainable, BatchNorm::Batch).unwrap();
        let forward = schedule.launches[..schedule.backward].iter();
        let named = forward.filter_map(|launch| match launch {
            Launch::Dropout { layer, .. } => Some(case.graph.nodes()[*layer].name.clone()),
            _ => None,
        });
        named.collect::<Vec<String>>()
    };
    assert_eq!(layers(&vec![true; case.parameters.len()]), ["drop_map", "fc.2"]);
    assert_eq!(layers(&vec![false; case.parameters.len()]), ["fc.2"]);
}

#[test]
fn the_auxiliary_loss_counts_two_fifths() {
    let case = Case::new(graphs::branches(), 2, 4);
    let none = vec![false; case.parameters.len()];
    let schedule = case.training(&none, BatchNorm::Batch).unwrap();
    let factors = schedule.launches.iter().filter_map(|launch| match launch {
        Launch::CrossEntropy { factor, loss, .. } => Some((*factor, loss.store)),
        _ => None,
    });
    let factors: Vec<(f64, Store)> = factors.collect();
    assert_eq!(factors, [(1.0, Store::Overwrite), (0.4, Store::Add)]);
    assert!(
        case.run(&schedule, &case.images, &case.parameters).gradients.iter().all(|g| g.is_none())
    );
}

#[test]
fn bf16_is_near_f32() {
    let case = Case::new(graphs::residual(), 4, 3);
    let all = vec![true; case.parameters.len()];
    let graph = &case.graph;
    let of = |element| {
        let options = case.options(element);
        let norm = BatchNorm::Batch;
        Schedule::training(graph, &all, TrainingInput::Images, norm, options).unwrap()
    };
    let (wide, narrow) = (of(Element::F32), of(Element::Bf16));
    let [wide, narrow] =
        [&wide, &narrow].map(|schedule| case.run(schedule, &case.images, &case.parameters));
    assert!(wide.loss != narrow.loss && (wide.loss - narrow.loss).abs() < 0.03 * wide.loss);
}
