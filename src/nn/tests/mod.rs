//! Whole networks: gradients of every parameter, reproducible bytes, frozen parts, and loading and
//! saving of weights.

mod auxiliary_head;

use super::graph::Value;
use super::number::to_f64;
use super::*;
use crate::random::Stream;
use dfdx::prelude::*;

const OPTIONS: StepOptions = StepOptions { seed: 5, step: 2, batch_norm: BatchNorm::Batch };

fn dense(hidden: &[usize], dropout: f32) -> super::Head {
    super::Head::Dense { hidden: hidden.to_vec(), dropout, classes: 5 }
}

fn images(count: usize, size: usize) -> Vec<f32> {
    let mut stream = Stream::new(3, "images", &[]);
    (0..count * size * size * 3).map(|_| stream.normal() as f32).collect()
}

fn targets(count: usize) -> Vec<f32> {
    soft_targets(&(0..count).map(|index| index % 5).collect::<Vec<_>>(), 5, 0.1)
}

fn network(backbone: &str, head: &super::Head, size: usize) -> Network {
    Network::new(backbone, head, (size, size), 1).unwrap()
}

fn with_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

/// A small network with every kind of node.
fn with_every_op() -> Network {
    let head = dense(&[6], 0.2);
    let (mut b, x) = Builder::new(13, 11, 3);
    let build = |b: &mut Builder, x: Value| -> Result<(), NnError> {
        b.layer_group("stem");
        let wide = Window { kernel: (1, 7), stride: (1, 1), padding: (0, 3) };
        let x = b.add("conv", Op::Convolution { channels: 8, window: wide, bias: true }, &[x])?;
        let x = b.batch_norm("bn", x)?;
        b.layer_group("body");
        let left = b.convolution("left", x, 6, Window::square(3, 2, 1))?;
        let left = b.relu(left)?;
        let mean = Op::AveragePool { window: Window::square(3, 2, 1), count_padding: true };
        let middle = b.add("middle", mean, &[x])?;
        let right = b.add("right", Op::MaxPool(Window::square(3, 2, 1)), &[x])?;
        let both = b.add("sum", Op::Add, &[middle, right])?;
        let joined = b.add("cat", Op::Concatenate, &[left, both])?;
        let x = b.add("bins", Op::AdaptivePool { height: 2, width: 3 }, &[joined])?;
        let flat = b.add("flatten", Op::Flatten, &[x])?;
        let dense = b.add("linear", Op::Linear { channels: 10 }, &[flat])?;
        let mean = b.add("mean", Op::AdaptivePool { height: 1, width: 1 }, &[x])?;
        let x = b.add("beside", Op::Concatenate, &[dense, mean])?;
        b.features(x);
        b.dense_head("fc", x, &head).map(|_| ())
    };
    build(&mut b, x).unwrap();
    Network::from_graph(b.finish().unwrap(), &head, 4).unwrap()
}

#[test]
fn every_parameter_gets_a_gradient_with_either_statistics() {
    let small = (with_every_op(), images(3, 13)[..3 * 13 * 11 * 3].to_vec());
    for (mut network, images) in
        [(network("resnet18", &dense(&[8], 0.1), 40), images(3, 40)), small]
    {
        for batch_norm in [BatchNorm::Batch, BatchNorm::Running] {
            let step = network
                .step(&images, 3, &targets(3), &StepOptions { batch_norm, ..OPTIONS })
                .unwrap();
            assert!(step.loss.is_finite() && step.logits.len() == 15);
            for parameter in network.parameters() {
                let gradient = step.gradients.get(&parameter.tensor).as_vec();
                let name = &parameter.info.name;
                assert_eq!(gradient.len(), parameter.tensor.as_vec().len(), "{name}");
                assert!(gradient.iter().all(|value| value.is_finite()), "{name}");
                assert!(gradient.iter().any(|value| *value != 0.0), "{name}");
            }
        }
    }
}

#[test]
fn a_step_is_the_same_bytes_with_any_number_of_threads() {
    fn step<N: Number>(network: &Network) -> (f64, Vec<Vec<f64>>, Weights<N>)
    where
        Cpu: Device<N>,
    {
        let mut network = network.converted::<N>().unwrap();
        let step = network.step(&images(9, 40), 9, &targets(9), &OPTIONS).unwrap();
        let gradient =
            |parameter: &Parameter<N>| to_f64(&step.gradients.get(&parameter.tensor).as_vec());
        let gradients = network.parameters().iter().map(gradient).collect();
        (step.loss, gradients, network.save())
    }
    let network = network("resnet18", &dense(&[16], 0.3), 40);
    let steps = |threads| with_threads(threads, || (step::<f32>(&network), step::<f64>(&network)));
    let (in_f32, in_f64) = steps(1);
    for threads in [2, 7] {
        assert!((&in_f32, &in_f64) == (&steps(threads).0, &steps(threads).1), "{threads} threads");
    }
    assert!((in_f32.0 - in_f64.0).abs() < 1e-5 * in_f64.0, "{} {}", in_f32.0, in_f64.0);
}

#[test]
fn converting_to_f64_and_back_changes_nothing() {
    let mut network = with_every_op();
    network.set_trainable(|info| info.group == "head");
    let wide = network.converted::<f64>().unwrap();
    assert!(
        wide.parameters()
            .iter()
            .all(|parameter| parameter.trainable == (parameter.info.group == "head"))
    );
    assert!(wide.converted::<f32>().unwrap().save() == network.save());
    let images = &images(2, 13)[..2 * 13 * 11 * 3];
    assert_eq!(wide.logits(images, 2).unwrap(), network.logits(images, 2).unwrap());
}

#[test]
fn an_images_logits_are_the_same_bytes_alone_in_any_batch_and_with_any_threads() {
    for (backbone, size, count) in
        [("resnet18", 64, 37), ("resnet50", 32, 5), ("inception_v3", 80, 5)]
    {
        let network = network(backbone, &dense(&[], 0.0), size);
        let images = images(count, size);
        let together = with_threads(2, || network.logits(&images, count).unwrap());
        assert!(together == with_threads(1, || network.logits(&images, count).unwrap()));
        assert!(together == with_threads(7, || network.logits(&images, count).unwrap()));
        for index in [0, 3, count - 1] {
            let alone = &images[index * size * size * 3..][..size * size * 3];
            assert!(
                network.logits(alone, 1).unwrap() == together[index * 5..index * 5 + 5],
                "{backbone} {index}"
            );
        }
        let features = network.features(&images, count).unwrap();
        assert_eq!(network.logits_from_features(&features, count).unwrap(), together);
    }
}

#[test]
fn compiled_networks_agree_with_the_interpreter() {
    let inception = network("inception_v3", &dense(&[], 0.0), 80);
    for mut network in [network("resnet18", &dense(&[8], 0.5), 64), with_every_op(), inception] {
        let shape = network.graph().input();
        let count = 6;
        let mut stream = Stream::new(8, "images", &[]);
        let images: Vec<f32> = (0..count * shape.len()).map(|_| stream.normal() as f32).collect();
        // Running statistics other than those at the start.
        network.step(&images, count, &targets(count), &OPTIONS).unwrap();
        let compiled = network.logits(&images, count).unwrap();
        let interpreted = network.interpreted_logits(&images, count).unwrap();
        let largest = interpreted.iter().fold(0.0f32, |largest, v| largest.max(v.abs()));
        for (a, b) in compiled.iter().zip(&interpreted) {
            assert!((a - b).abs() < 1e-4 * largest, "{a} {b}");
        }
    }
}

#[test]
fn changed_parameters_change_the_compiled_network() {
    let mut network = network("resnet18", &dense(&[], 0.0), 32);
    let images = images(2, 32);
    let before = network.logits(&images, 2).unwrap();
    network.parameters_mut().last_mut().unwrap().tensor[[0]] += 1.0;
    let after = network.logits(&images, 2).unwrap();
    assert!((after[0] - before[0] - 1.0).abs() < 1e-5 && after[1] == before[1]);
}

#[test]
fn layers_below_everything_trainable_do_not_change() {
    let mut network = network("resnet18", &dense(&[], 0.0), 64);
    network.set_trainable(|info| info.group == "layer4" || info.group == "head");
    let before = network.save();
    let step = network.step(&images(4, 64), 4, &targets(4), &OPTIONS).unwrap();
    assert!(step.loss.is_finite());
    let changed: Vec<String> = network
        .save()
        .tensors
        .into_iter()
        .filter(|(name, tensor)| before.tensors[name] != *tensor)
        .map(|(name, _)| name)
        .collect();
    assert!(
        !changed.is_empty()
            && changed.iter().all(|name| name.starts_with("layer4") && name.contains("running"))
    );

    // With a frozen backbone, a step from features equals one from images.
    network.set_trainable(|info| info.group == "head");
    let whole = network.step(&images(4, 64), 4, &targets(4), &OPTIONS).unwrap();
    let features = network.features(&images(4, 64), 4).unwrap();
    let head = network.step_from_features(&features, 4, &targets(4), &OPTIONS).unwrap();
    assert!((whole.loss - head.loss).abs() < 1e-4 * whole.loss, "{} {}", whole.loss, head.loss);
    network.set_trainable(|_| false);
    assert!(network.step(&images(4, 64), 4, &targets(4), &OPTIONS).unwrap().loss.is_finite());
}

#[test]
fn weights_round_trip_and_mismatches_are_refused() {
    let (source, mut target) = (network("resnet18", &dense(&[], 0.0), 32), with_every_op());
    let weights = source.save();
    let error = target.load(&weights).unwrap_err().to_string();
    assert!(error.contains("conv.weight [8, 3, 1, 7] is missing"), "{error}");

    let mut other = Network::new("resnet18", &dense(&[], 0.0), (32, 32), 77).unwrap();
    assert_ne!(other.save(), weights);
    assert_eq!(other.load(&weights).unwrap(), Loaded::default());
    assert_eq!(other.save(), weights);
    let bytes = weights::to_bytes(&other.save()).unwrap();
    assert_eq!(weights::from_bytes(&bytes).unwrap(), weights);

    // Only a head may have other shapes than the weights.
    let mut head = network("resnet18", &dense(&[4], 0.0), 32);
    let loaded = head.load(&weights).unwrap();
    assert_eq!(loaded.unused, ["fc.bias", "fc.weight"]);
    assert_eq!(loaded.kept, ["fc.0.weight", "fc.0.bias", "fc.3.weight", "fc.3.bias"]);
    let mut wrong = weights.clone();
    wrong.tensors.get_mut("layer1.0.conv1.weight").unwrap().shape = vec![64, 64, 9];
    wrong.tensors.remove("bn1.running_var");
    let before = head.save();
    let error = head.load(&wrong).unwrap_err().to_string();
    assert!(
        error.contains("layer1.0.conv1.weight is [64, 64, 9], the network's is [64, 64, 3, 3]"),
        "{error}"
    );
    assert!(error.contains("bn1.running_var [64] is missing"), "{error}");
    assert_eq!(head.save(), before, "mismatching weights change nothing");
}

#[test]
fn inputs_of_wrong_length_are_refused() {
    let mut network = network("resnet18", &dense(&[], 0.0), 32);
    let two = images(2, 32);
    assert!(
        network
            .logits(&two, 3)
            .unwrap_err()
            .to_string()
            .contains("6144 values for a batch of 3, each 32 x 32 x 3")
    );
    assert_eq!(network.logits(&[], 0).unwrap(), [0.0; 0]);
    assert!(network.step(&two, 2, &targets(1), &OPTIONS).is_err());
    assert!(network.step(&[], 0, &[], &OPTIONS).is_err());
    assert!(network.step_from_features(&two, 2, &targets(2), &OPTIONS).is_err());
    let alone = network.step(&two[..two.len() / 2], 1, &targets(1), &OPTIONS);
    let error = alone.err().unwrap().to_string();
    assert!(error.contains("layer4.0.bn1 would normalize over a single value"), "{error}");
    let running = StepOptions { batch_norm: BatchNorm::Running, ..OPTIONS };
    assert!(network.step(&two[..two.len() / 2], 1, &targets(1), &running).is_ok());
}

/// The gradients of a whole network against differences of its loss, where maps are read more than
/// once.
#[test]
fn gradients_equal_finite_differences_of_the_loss() {
    let mut network = with_every_op();
    let input = network.graph().input().len();
    let images: Vec<f32> = images(6, 13)[..4 * input].to_vec();
    let options = StepOptions { batch_norm: BatchNorm::Running, ..OPTIONS };
    let step = network.step(&images, 4, &targets(4), &options).unwrap();
    let gradients: Vec<Vec<f32>> = network
        .parameters()
        .iter()
        .map(|parameter| step.gradients.get(&parameter.tensor).as_vec())
        .collect();
    for (which, gradient) in gradients.iter().enumerate() {
        // The loss changes most along the gradient, so that `f32` resolves the difference.
        let norm = gradient.iter().map(|v| v * v).sum::<f32>().sqrt();
        let mut at = |distance: f32| {
            for (index, slope) in gradient.iter().enumerate() {
                network.parameters_mut()[which].tensor[[index]] += distance * slope / norm;
            }
            let loss = network.step(&images, 4, &targets(4), &options).unwrap().loss;
            for (index, slope) in gradient.iter().enumerate() {
                network.parameters_mut()[which].tensor[[index]] -= distance * slope / norm;
            }
            loss
        };
        let slope = (at(4e-3) - at(-4e-3)) / 8e-3;
        let norm = f64::from(norm);
        assert!((slope - norm).abs() < 0.05 * norm + 2e-3, "{which}: {slope} {norm}");
    }
}

/// A network that ends in linear layers, on more images than run through them at once.
#[test]
fn linear_layers_at_the_end_give_an_image_the_same_bytes_in_any_batch() {
    let head = dense(&[9], 0.0);
    let (mut b, x) = Builder::new(7, 9, 3);
    b.layer_group("all");
    let build = |b: &mut Builder, x: Value| -> Result<(), NnError> {
        let x = b.convolution("conv", x, 8, Window::square(3, 2, 1))?;
        let x = b.relu(x)?;
        let x = b.add("flatten", Op::Flatten, &[x])?;
        let x = b.add("wide", Op::Linear { channels: 300 }, &[x])?;
        let x = b.relu(x)?;
        let x = b.add("narrow", Op::Linear { channels: 10 }, &[x])?;
        b.features(x);
        b.dense_head("fc", x, &head).map(|_| ())
    };
    build(&mut b, x).unwrap();
    let network = Network::from_graph(b.finish().unwrap(), &head, 4).unwrap();
    let (count, size) = (150, network.graph().input().len());
    let images = images(count, 9)[..count * size].to_vec();
    let together = with_threads(2, || network.logits(&images, count).unwrap());
    assert!(together == with_threads(7, || network.logits(&images, count).unwrap()));
    for (first, number) in [(0, 1), (63, 2), (100, 50), (149, 1)] {
        let part = &images[first * size..][..number * size];
        let logits = network.logits(part, number).unwrap();
        assert!(logits == together[first * 5..][..number * 5], "{first}");
    }
    let interpreted = network.interpreted_logits(&images, count).unwrap();
    assert!(together.iter().zip(&interpreted).all(|(a, b)| (a - b).abs() < 1e-4));
}
