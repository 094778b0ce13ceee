//! Maps of evidence: against the closed form, finite differences, and images whose class depends on
//! one corner.

use super::*;
use crate::nn::graph::{Builder, Head, Window};
use crate::nn::{BatchNorm, StepOptions, soft_targets};
use crate::random::Stream;

const CLASSES: usize = 3;
const HEAD: Head = Head::Dense { hidden: Vec::new(), dropout: 0.5, classes: CLASSES };

/// A convolution, a norm and a ReLU on images of 8 x 6 pixels, then what `end` adds up to the
/// features, then a linear layer.
fn graph(end: &[(&str, Op)]) -> Graph {
    let build = || -> Result<Graph, NnError> {
        let (mut b, x) = Builder::new(8, 6, 3);
        b.layer_group("body");
        let mut x = b.convolution("conv", x, 5, Window::square(3, 1, 1))?;
        x = b.batch_norm("bn", x)?;
        x = b.relu(x)?;
        for (name, op) in end {
            x = b.add(name, *op, &[x])?;
        }
        b.features(x);
        b.dense_head("fc", x, &HEAD)?;
        b.finish()
    };
    build().unwrap()
}

const MEAN: [(&str, Op); 2] =
    [("pool", Op::AdaptivePool { height: 1, width: 1 }), ("flatten", Op::Flatten)];

/// As AlexNet ends: pooling, then dense layers that see where a value was.
fn dense_end() -> [(&'static str, Op); 5] {
    [
        ("pool", Op::MaxPool(Window::square(2, 2, 0))),
        ("flatten", Op::Flatten),
        ("drop", Op::Dropout { probability: 0.5 }),
        ("dense", Op::Linear { channels: 7 }),
        ("relu2", Op::Relu),
    ]
}

fn network(end: &[(&str, Op)]) -> Network {
    Network::from_graph(graph(end), &HEAD, 4).unwrap()
}

fn images(count: usize) -> Vec<f32> {
    let mut stream = Stream::new(3, "images", &[]);
    (0..count * 8 * 6 * 3).map(|_| stream.normal() as f32).collect()
}

#[test]
fn behind_a_global_mean_the_map_is_the_weighted_sum_of_the_channels() {
    let network = network(&MEAN);
    let classes = [2, 0, 1];
    let maps = network.class_maps(&images(3), 3, &classes).unwrap();
    assert_eq!((maps.height, maps.width, maps.values.len()), (8, 6, 3 * 48));
    let Evidence { map, .. } = network.evidence(&images(3), 3, &classes).unwrap();
    let weights = &network.save().tensors["fc.weight"].data;
    for (image, class) in classes.into_iter().enumerate() {
        let row = &weights[class * 5..][..5];
        for pixel in 0..48 {
            let channels = &map[(image * 48 + pixel) * 5..][..5];
            let sum: f32 = channels.iter().zip(row).map(|(x, w)| x * w).sum();
            let found = maps.values[image * 48 + pixel];
            assert!((found - (sum / 48.0).max(0.0)).abs() < 1e-6, "{found} {sum}");
        }
    }
    assert!(maps.values.iter().any(|&value| value > 0.0));
}

#[test]
fn gradients_equal_finite_differences_of_the_logit() {
    for end in [&MEAN[..], &dense_end()] {
        let network = network(end).converted::<f64>().unwrap();
        let classes = [1, 2];
        let Evidence { shape, map, gradient } = network.evidence(&images(2), 2, &classes).unwrap();
        let last = last_map(&network.graph, &network.program).unwrap();
        let logits = |map: &[f64]| {
            let input = flat(map.to_vec()).unwrap();
            let mut pass = network.interpreter(2, Pass::Evaluation);
            let range = last + 1..network.program.auxiliary;
            let logits = pass.run(range, input, &[network.graph.logits()]).unwrap();
            logits[0].as_vec()
        };
        assert_eq!(gradient.len(), 2 * shape.len());
        assert!(gradient.iter().any(|slope| *slope != 0.0));
        for (index, slope) in gradient.iter().enumerate() {
            // Equal values of a maximum, which a ReLU makes of zeros, have no derivative.
            if end.len() != MEAN.len() && map[index] == 0.0 {
                continue;
            }
            let image = index / shape.len();
            let at = |step: f64| {
                let mut moved = map.clone();
                moved[index] += step;
                logits(&moved)[image * CLASSES + classes[image]]
            };
            let difference = (at(1e-6) - at(-1e-6)) / 2e-6;
            assert!((difference - slope).abs() < 1e-8, "{index}: {difference} {slope}");
        }
    }
}

#[test]
fn an_images_map_depends_on_the_others_only_by_rounding() {
    let network = network(&dense_end());
    let all = network.class_maps(&images(5), 5, &[0, 1, 2, 0, 1]).unwrap();
    let alone = network.class_maps(&images(5)[3 * 144..4 * 144], 1, &[0]).unwrap();
    assert!(alone.values.iter().any(|&value| value > 0.0));
    for (alone, among) in alone.values.iter().zip(&all.values[3 * 48..4 * 48]) {
        assert!((alone - among).abs() < 1e-7, "{alone} {among}");
    }
    let threads = |count| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap();
        pool.install(|| network.class_maps(&images(5), 5, &[0, 1, 2, 0, 1]).unwrap())
    };
    assert!(threads(1) == all && threads(7) == all, "the same bytes with any number of threads");
    assert!(network.class_maps(&[], 0, &[]).unwrap().values.is_empty());
}

#[test]
fn every_backbone_is_explained_by_its_last_map_that_is_large_enough() {
    for (name, size, side, channels) in [
        ("resnet50", 224, 7, 2048),
        ("alexnet", 96, 5, 256),
        ("inception_v3", 299, 8, 2048),
        // Their last maps show no place: they have 3, 2, 1 and 2 pixels a side.
        ("resnet50", 96, 6, 1024),
        ("resnet18", 64, 4, 256),
        ("resnet18", 32, 4, 128),
        ("inception_v3", 107, 5, 768),
    ] {
        let graph = crate::nn::backbone(name).unwrap().graph(&HEAD, (size, size)).unwrap();
        let program = Program::new(&graph);
        let last = &program.instructions[last_map(&graph, &program).unwrap()];
        let shape = graph.nodes()[last.output].shape;
        assert_eq!(shape, Shape::new(side, side, channels), "{name} {size}");
    }
}

#[test]
fn a_network_without_a_map_and_a_class_that_is_not_there_are_errors() {
    let network = network(&MEAN);
    let error = network.class_maps(&images(1), 1, &[3]).unwrap_err().to_string();
    assert_eq!(error, "1 classes to explain for 1 images of 3 classes");
    assert!(network.class_maps(&images(1), 1, &[]).is_err());
    let build = || -> Result<Graph, NnError> {
        let (mut b, x) = Builder::new(2, 2, 3);
        b.layer_group("body");
        let x = b.convolution("conv", x, 4, Window::square(2, 1, 0))?;
        let x = b.add("flatten", Op::Flatten, &[x])?;
        b.features(x);
        b.dense_head("fc", x, &HEAD)?;
        b.finish()
    };
    let flat = Network::from_graph(build().unwrap(), &HEAD, 4).unwrap();
    assert_eq!(flat.explained_map(), None);
    assert!(matches!(flat.class_maps(&[0.0; 12], 1, &[0]), Err(NnError::Graph(_))));
}

/// Images of 12 x 12 pixels with a gray patch anywhere; those of class 1 have a red patch in the
/// corner at the top left.
fn corners(seed: u64, count: usize) -> (Vec<f32>, Vec<usize>) {
    let mut stream = Stream::new(seed, "corners", &[]);
    let mut images = Vec::new();
    let classes: Vec<usize> = (0..count).map(|index| index % 2).collect();
    for &class in &classes {
        let [left, top] = [0; 2].map(|_| 3 + stream.below(7) as usize);
        let is_in = |x: usize, y: usize, left: usize, top: usize| {
            (left..left + 3).contains(&x) && (top..top + 3).contains(&y)
        };
        for (y, x) in (0..12).flat_map(|y| (0..12).map(move |x| (y, x))) {
            let gray = if is_in(x, y, left, top) { 1.5 } else { 0.0 };
            let red = if class == 1 && is_in(x, y, 0, 0) { 2.0 } else { 0.0 };
            let noise = 0.1 * stream.normal() as f32;
            images.extend([gray + red + noise, gray + noise, gray + noise]);
        }
    }
    (images, classes)
}

/// Two convolutions, a global mean and a linear layer, after some steps of gradient descent.
fn trained_on_corners() -> Network {
    let head = Head::Dense { hidden: Vec::new(), dropout: 0.0, classes: 2 };
    let (mut b, x) = Builder::new(12, 12, 3);
    b.layer_group("body");
    let x = b.convolution("conv1", x, 6, Window::square(3, 1, 1)).unwrap();
    let x = b.relu(x).unwrap();
    let x = b.convolution("conv2", x, 6, Window::square(3, 2, 1)).unwrap();
    let x = b.relu(x).unwrap();
    let x = b.add("pool", Op::AdaptivePool { height: 1, width: 1 }, &[x]).unwrap();
    let x = b.add("flatten", Op::Flatten, &[x]).unwrap();
    b.features(x);
    b.dense_head("fc", x, &head).unwrap();
    let mut network = Network::from_graph(b.finish().unwrap(), &head, 4).unwrap();
    let (images, classes) = corners(9, 32);
    let targets = soft_targets(&classes, 2, 0.0);
    let options = StepOptions { seed: 1, step: 0, batch_norm: BatchNorm::Running };
    for _ in 0..300 {
        let step = network.step(&images, 32, &targets, &options).unwrap();
        let slopes: Vec<Vec<f32>> = network
            .parameters()
            .iter()
            .map(|parameter| step.gradients.get(&parameter.tensor).as_vec())
            .collect();
        for (parameter, slopes) in network.parameters_mut().iter_mut().zip(slopes) {
            for (index, slope) in slopes.into_iter().enumerate() {
                parameter.tensor[[index]] -= 0.3 * slope;
            }
        }
    }
    network
}

#[test]
fn the_evidence_for_a_class_is_where_its_images_differ() {
    let network = trained_on_corners();
    // Others than those it was trained on.
    let (images, classes) = corners(10, 8);
    let logits = network.logits(&images, 8).unwrap();
    let right = logits
        .chunks_exact(2)
        .zip(&classes)
        .filter(|(row, class)| (row[1] > row[0]) == (**class == 1));
    assert_eq!(right.count(), 8, "it has learned the corner: {logits:?}");
    let maps = network.class_maps(&images, 8, &[1; 8]).unwrap();
    assert_eq!((maps.height, maps.width), (6, 6));
    for (map, class) in maps.values.chunks_exact(36).zip(classes) {
        let all: f32 = map.iter().sum();
        let quarter: f32 = map.chunks_exact(6).take(3).flat_map(|row| &row[..3]).sum();
        if class == 1 {
            assert!(quarter > 0.9 * all, "{quarter} of {all}: {map:?}");
        }
    }
}
