//! Networks with an auxiliary head: its part in training, and its absence from evaluation and
//! files.

use crate::nn::*;
use crate::random::Stream;
use dfdx::prelude::*;

const OPTIONS: StepOptions = StepOptions { seed: 5, step: 2, batch_norm: BatchNorm::Batch };

/// A small network whose auxiliary head is built as Inception's is, with other sizes.
fn small(classes: usize, auxiliary: bool) -> (Graph, Head) {
    let head = Head::Dense { hidden: vec![], dropout: 0.25, classes };
    let (mut b, x) = Builder::new(9, 9, 3);
    let mut build = || -> Result<(), NnError> {
        b.layer_group("stem");
        let x = b.convolution("conv", x, 6, Window::square(3, 1, 1))?;
        let x = b.batch_norm("bn", x)?;
        let branch = b.relu(x)?;
        b.layer_group("body");
        let x = b.convolution("conv2", branch, 8, Window::square(3, 2, 1))?;
        let x = b.batch_norm("bn2", x)?;
        let x = b.relu(x)?;
        let x = b.add("avgpool", Op::AdaptivePool { height: 1, width: 1 }, &[x])?;
        let x = b.add("flatten", Op::Flatten, &[x])?;
        b.features(x);
        b.dense_head("fc", x, &head)?;
        if auxiliary {
            b.auxiliary();
            b.within(AUXILIARY, |b| {
                let window = Window::square(5, 3, 0);
                let x = b.add(
                    "avg_pool2d",
                    Op::AveragePool { window, count_padding: true },
                    &[branch],
                )?;
                let x = b.within("conv0", |b| {
                    let x = b.convolution("conv", x, 4, Window::square(2, 1, 0))?;
                    let x = b.batch_norm("bn", x)?;
                    b.relu(x)
                })?;
                let x = b.add("flatten", Op::Flatten, &[x])?;
                b.add("fc", Op::Linear { channels: classes }, &[x])
            })?;
        }
        Ok(())
    };
    build().unwrap();
    (b.finish().unwrap(), head)
}

fn network(classes: usize, auxiliary: bool, seed: u64) -> Network {
    let (graph, head) = small(classes, auxiliary);
    Network::from_graph(graph, &head, seed).unwrap()
}

fn images(count: usize) -> Vec<f32> {
    let mut stream = Stream::new(3, "images", &[]);
    (0..count * 9 * 9 * 3).map(|_| stream.normal() as f32).collect()
}

fn targets(count: usize) -> Vec<f32> {
    soft_targets(&(0..count).map(|index| index % 5).collect::<Vec<_>>(), 5, 0.1)
}

fn gradients(step: &mut Step, network: &Network) -> Vec<(String, Vec<f32>)> {
    let of = |parameter: &Parameter| {
        (
            parameter.info.name.clone(),
            step.gradients.get_or_alloc_mut(&parameter.tensor).unwrap().to_vec(),
        )
    };
    network.parameters().iter().map(of).collect()
}

/// The squared norm of the trainable parameters' gradients.
fn squares(step: &mut Step, network: &Network) -> f64 {
    let trainable = network.parameters().iter().filter(|parameter| parameter.trainable);
    let of = |parameter: &Parameter| {
        step.gradients
            .get_or_alloc_mut(&parameter.tensor)
            .unwrap()
            .iter()
            .map(|&value| f64::from(value) * f64::from(value))
            .sum::<f64>()
    };
    trainable.map(of).sum()
}

#[test]
fn evaluation_and_steps_from_features_ignore_it() {
    let (plain, whole) = (network(5, false, 1), network(5, true, 1));
    let images = images(4);
    assert_eq!(plain.logits(&images, 4).unwrap(), whole.logits(&images, 4).unwrap());
    assert_eq!(
        plain.interpreted_logits(&images, 4).unwrap(),
        whole.interpreted_logits(&images, 4).unwrap()
    );
    let features = plain.features(&images, 4).unwrap();
    assert_eq!(features, whole.features(&images, 4).unwrap());
    let (mut plain, mut whole) = (plain, whole);
    let mut one = plain.step_from_features(&features, 4, &targets(4), &OPTIONS).unwrap();
    let mut other = whole.step_from_features(&features, 4, &targets(4), &OPTIONS).unwrap();
    assert_eq!((one.loss, &one.logits), (other.loss, &other.logits));
    whole.set_trainable(|info| info.group == "head" || info.group == AUXILIARY);
    plain.set_trainable(|info| info.group == "head");
    assert_eq!(squares(&mut one, &plain), squares(&mut other, &whole));
    assert_eq!(plain.save(), whole.save_without_auxiliary());
    assert_eq!(whole.save().tensors.len(), plain.save().tensors.len() + 7);
}

/// The loss is the sum, and so are the gradients: 1 of the network's and 0.4 of the auxiliary
/// head's.
#[test]
fn a_step_adds_its_cross_entropy_times_0_4() {
    let images = images(4);
    let (mut plain, mut whole) = (network(5, false, 1), network(5, true, 1));
    let mut alone = plain.step(&images, 4, &targets(4), &OPTIONS).unwrap();
    let mut both = whole.step(&images, 4, &targets(4), &OPTIONS).unwrap();
    assert_eq!(alone.logits, both.logits);
    assert!(both.loss > alone.loss);
    // The auxiliary head as a network of its own, ending where the branch ends.
    let (graph, head) = small(5, true);
    let mut alike = Network::from_graph(graph, &head, 1).unwrap();
    for parameter in alike.parameters_mut() {
        // Without a say of its own, the head's loss is that of even logits, and sends nothing down.
        if parameter.info.group == "head" {
            parameter.tensor = Cpu::default().zeros_like(&parameter.tensor);
        }
    }
    let mut auxiliary = alike.step(&images, 4, &targets(4), &OPTIONS).unwrap();
    let even = 5f64.ln();
    assert!((both.loss - alone.loss - (auxiliary.loss - even)).abs() < 1e-5);
    let (alone, auxiliary) = (gradients(&mut alone, &plain), gradients(&mut auxiliary, &alike));
    for (name, both) in gradients(&mut both, &whole) {
        let of = |list: &[(String, Vec<f32>)]| {
            let found = list.iter().find(|(other, _)| *other == name);
            found.map_or(vec![0.0; both.len()], |(_, values)| values.clone())
        };
        let in_head = name.starts_with("fc.");
        let own = of(&auxiliary).into_iter().map(|value| if in_head { 0.0 } else { value });
        for ((both, alone), auxiliary) in both.iter().zip(of(&alone)).zip(own) {
            assert!((both - alone - auxiliary).abs() < 1e-6, "{name}: {both} {alone} {auxiliary}");
        }
        assert!(both.iter().any(|value| *value != 0.0), "{name}");
    }
}

#[test]
fn it_can_be_trained_alone_or_not_at_all() {
    let mut network = network(5, true, 1);
    for trained in [vec!["head", AUXILIARY], vec!["head"], vec![AUXILIARY], vec![]] {
        network.set_trainable(|info| trained.contains(&info.group.as_str()));
        let mut step = network.step(&images(4), 4, &targets(4), &OPTIONS).unwrap();
        assert!(step.loss.is_finite());
        assert_eq!(squares(&mut step, &network) > 0.0, !trained.is_empty());
    }
}

#[test]
fn weights_without_it_leave_its_initial_values() {
    let kept_of_all = [
        "AuxLogits.conv0.conv.weight",
        "AuxLogits.conv0.bn.weight",
        "AuxLogits.conv0.bn.bias",
        "AuxLogits.fc.weight",
        "AuxLogits.fc.bias",
    ];
    let (plain, whole) = (network(5, false, 7).save(), network(5, true, 7).save());
    let branch = |weights: &Weights| -> Vec<(String, WeightTensor)> {
        let tensors = weights.tensors.iter().filter(|(name, _)| loading::in_auxiliary(name));
        tensors.map(|(name, tensor)| (name.clone(), tensor.clone())).collect()
    };
    let mut target = network(5, true, 1);
    let own = branch(&target.save());
    assert_eq!(
        target.load(&plain).unwrap(),
        Loaded { kept: kept_of_all.map(str::to_owned).into(), unused: vec![] }
    );
    assert_eq!(target.save_without_auxiliary(), plain);
    assert_eq!(branch(&target.save()), own);

    // With another number of classes, its convolutions are loaded and its classifier isn't.
    let mut fewer = network(3, true, 1);
    let loaded = fewer.load(&whole).unwrap();
    assert_eq!(loaded.kept, ["fc.weight", "fc.bias", "AuxLogits.fc.weight", "AuxLogits.fc.bias"]);
    assert_eq!(loaded.unused, ["AuxLogits.fc.bias", "AuxLogits.fc.weight", "fc.bias", "fc.weight"]);
    assert_eq!(
        fewer.save().tensors["AuxLogits.conv0.conv.weight"],
        whole.tensors["AuxLogits.conv0.conv.weight"]
    );

    // A network without it leaves it unused.
    let loaded = network(5, false, 1).load(&whole).unwrap();
    assert!(loaded.kept.is_empty() && loaded.unused.len() == 7, "{loaded:?}");
    assert!(loaded.unused.iter().all(|name| loading::in_auxiliary(name)));

    // A partial auxiliary head is an error.
    let mut half = whole.clone();
    half.tensors.remove("AuxLogits.conv0.bn.running_var");
    let error = target.load(&half).unwrap_err().to_string();
    assert!(error.contains("AuxLogits.conv0.bn.running_var [4] is missing"), "{error}");
}

#[test]
fn from_weights_equals_a_new_network_that_loads_them() {
    for (source, classes, auxiliary) in [(5, 5, true), (5, 3, true), (5, 5, false), (4, 5, false)] {
        let weights = network(source, auxiliary, 7).save();
        for with in [true, false] {
            let (graph, head) = small(classes, with);
            let mut expected = Network::from_graph(graph.clone(), &head, 3).unwrap();
            let loaded = expected.load(&weights).unwrap();
            let (made, also_loaded) = Network::from_weights(graph, &head, &weights, 3).unwrap();
            assert_eq!(loaded, also_loaded);
            assert_eq!(made.save(), expected.save());
        }
    }
    let mut broken = network(5, false, 7).save();
    broken.tensors.remove("conv.weight");
    let (graph, head) = small(5, false);
    let error = Network::from_weights(graph, &head, &broken, 3).err().unwrap().to_string();
    assert!(error.contains("conv.weight [6, 3, 3, 3] is missing"), "{error}");
}

#[test]
fn another_number_of_auxiliary_logits_is_refused() {
    let (mut b, x) = Builder::new(1, 1, 3);
    b.layer_group("body");
    b.features(x);
    b.add("fc", Op::Linear { channels: 4 }, &[x]).unwrap();
    b.auxiliary();
    b.add("other", Op::Linear { channels: 5 }, &[x]).unwrap();
    assert_eq!(b.finish().unwrap_err().to_string(), "5 auxiliary logits beside the network's 4");
}
