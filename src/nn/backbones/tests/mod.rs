//! Compares all backbones with torchvision: names and shapes of parameters and buffers, counts,
//! features.
//!
//! The golden lists were made with torchvision 0.29: `for k, v in getattr(torchvision.models,
//! NAME)(weights=None).state_dict().items(): print(k, *v.shape)`, without `num_batches_tracked`.

mod blocks;

use super::*;
use crate::nn::{BatchNorm, Network, Role, StepOptions, WeightTensor, Weights, soft_targets};
use crate::random::Stream;

/// Name, torchvision's list, its number of parameters, its multiply-adds at the usual input size in
/// millions, as torchvision publishes them (`num_params` and `_ops` of the weights' `meta`).
/// Inception's list and number are those with the auxiliary head, its multiply-adds those without,
/// since evaluation doesn't run it.
const GOLDEN: &[(&str, &str, u64, u64)] = &[
    ("resnet18", include_str!("../golden/resnet18.txt"), 11_689_512, 1_814),
    ("resnet34", include_str!("../golden/resnet34.txt"), 21_797_672, 3_664),
    ("resnet50", include_str!("../golden/resnet50.txt"), 25_557_032, 4_089),
    ("resnet101", include_str!("../golden/resnet101.txt"), 44_549_160, 7_801),
    ("resnet152", include_str!("../golden/resnet152.txt"), 60_192_808, 11_514),
    ("inception_v3", include_str!("../golden/inception_v3.txt"), 27_161_264, 5_713),
    ("alexnet", include_str!("../golden/alexnet.txt"), 61_100_840, 714),
];

/// The graph of a backbone as published, the auxiliary head included.
fn whole(info: &BackboneInfo) -> Graph {
    let size = (info.input_size, info.input_size);
    let build =
        if info.has_auxiliary() { BackboneInfo::graph_with_auxiliary } else { BackboneInfo::graph };
    build(info, &Head::Original, size).unwrap()
}

#[test]
fn names_and_shapes_are_torchvisions() {
    assert_eq!(
        GOLDEN.iter().map(|golden| golden.0).collect::<Vec<_>>(),
        backbones().iter().map(|info| info.name).collect::<Vec<_>>()
    );
    for &(name, golden, parameters, millions) in GOLDEN {
        let info = backbone(name).unwrap();
        let graph = whole(info);
        let mut ours: Vec<String> = crate::nn::parameters::describe(&graph)
            .iter()
            .map(|info| {
                format!(
                    "{} {}",
                    info.name,
                    info.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" ")
                )
            })
            .collect();
        for norm in crate::nn::parameters::statistics(&graph) {
            let (mean, variance) = norm.names();
            ours.extend([mean, variance].map(|name| format!("{name} {}", norm.mean.len())));
        }
        let mut theirs: Vec<&str> = golden.lines().collect();
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "{name}");
        assert_eq!(graph.parameter_count(), parameters, "{name}");
        assert_eq!((graph.multiply_adds() as f64 / 1e6).round() as u64, millions, "{name}");
        assert_eq!(graph.feature_count(), info.features);
        assert_eq!(graph.classes(), 1000);
        let (head, groups) = graph.layer_groups().split_last().unwrap();
        assert!(head == "head" && groups == info.layer_groups, "{name}");
    }
}

#[test]
fn an_auxiliary_head_is_a_layer_group_that_freeze_cannot_name() {
    let head = Head::Dense { hidden: vec![8], dropout: 0.0, classes: 7 };
    let info = backbone("inception_v3").unwrap();
    let (plain, whole) = (
        info.graph(&head, (299, 299)).unwrap(),
        info.graph_with_auxiliary(&head, (299, 299)).unwrap(),
    );
    assert!(plain.auxiliary().is_none() && plain.main_nodes() == plain.nodes());
    assert_eq!(whole.main_nodes(), plain.nodes(), "the main network is the same");
    assert_eq!((whole.layer_groups(), whole.classes()), (plain.layer_groups(), 7));
    assert_eq!(
        (whole.features(), whole.multiply_adds()),
        (plain.features(), plain.multiply_adds())
    );
    assert_eq!(whole.nodes()[whole.auxiliary().unwrap()].name, "AuxLogits.fc");
    let described = crate::nn::parameters::describe(&whole);
    let own = described.iter().filter(|info| info.group == crate::nn::AUXILIARY);
    let depth = whole.layer_groups().len() - 1;
    assert!(
        own.clone().count() == 8
            && own.clone().all(|info| info.name.starts_with("AuxLogits.") && info.depth == depth)
    );
    assert!(!whole.layer_groups().iter().any(|group| group == crate::nn::AUXILIARY));
    assert!(info.graph_with_auxiliary(&head, (299, 320)).is_ok());
    assert!(info.graph_with_auxiliary(&head, (299, 298)).is_err());
    let error = info.graph_with_auxiliary(&head, (203, 203)).unwrap_err().to_string();
    assert!(error.contains("needs a map of 17 x 17 pixels, and has one of 11 x 11"), "{error}");
    let error = backbone("resnet18")
        .unwrap()
        .graph_with_auxiliary(&head, (224, 224))
        .unwrap_err()
        .to_string();
    assert_eq!(error, "resnet18 has no auxiliary head; only inception_v3 has");
    assert!(info.graph(&head, (75, 75)).is_ok() && info.graph(&head, (74, 75)).is_err());
}

const OPTIONS: StepOptions = StepOptions { seed: 5, step: 2, batch_norm: BatchNorm::Batch };

fn images(count: usize, size: usize) -> Vec<f32> {
    let mut stream = Stream::new(3, "images", &[]);
    (0..count * size * size * 3).map(|_| stream.normal() as f32).collect()
}

/// A network whose parameters repeat a few thousand random numbers: drawing tens of millions would
/// take seconds.
fn quick(graph: Graph, head: &Head) -> Network {
    let mut stream = Stream::new(3, "weights", &[]);
    let table: Vec<f32> = (0..8191).map(|_| stream.normal() as f32).collect();
    let mut weights = Weights::default();
    let mut put = |name: String, shape: Vec<usize>, fill: &dyn Fn(f32) -> f32| {
        let count = shape.iter().product();
        let data = table
            .iter()
            .cycle()
            .skip(name.len() * 97)
            .take(count)
            .map(|value| fill(*value))
            .collect();
        weights.tensors.insert(name, WeightTensor { shape, data });
    };
    for info in crate::nn::parameters::describe(&graph) {
        let fan_in: usize = info.shape[1..].iter().product();
        let scale = (2.0 / fan_in as f32).sqrt();
        match info.role {
            Role::NormWeight => put(info.name, info.shape, &|_| 1.0),
            Role::NormBias | Role::Bias => put(info.name, info.shape, &|_| 0.0),
            Role::ConvWeight | Role::LinearWeight => {
                put(info.name, info.shape, &|value| value * scale)
            }
        }
    }
    for norm in crate::nn::parameters::statistics(&graph) {
        let (mean, variance) = norm.names();
        put(mean, vec![norm.mean.len()], &|_| 0.0);
        put(variance, vec![norm.mean.len()], &|_| 1.0);
    }
    Network::from_weights(graph, head, &weights, 0).unwrap().0
}

/// A step on two small images; Inception's on images of the size that its auxiliary head needs.
#[test]
fn every_parameter_of_every_backbone_gets_a_gradient() {
    for info in backbones() {
        let size = if info.has_auxiliary() { 299 } else { 66 };
        let build = if info.has_auxiliary() {
            BackboneInfo::graph_with_auxiliary
        } else {
            BackboneInfo::graph
        };
        let head = Head::Dense { hidden: vec![8], dropout: 0.0, classes: 5 };
        let graph = build(info, &head, (size, size)).unwrap().without_dropout();
        let mut network = quick(graph, &head);
        let targets = soft_targets(&[1, 3], 5, 0.0);
        let mut step = network.step(&images(2, size), 2, &targets, &OPTIONS).unwrap();
        assert!(step.loss.is_finite() && step.logits.len() == 10, "{}", info.name);
        for parameter in network.parameters() {
            let (gradient, name) =
                (step.gradients.get_or_alloc_mut(&parameter.tensor).unwrap(), &parameter.info.name);
            assert_eq!(
                gradient.len(),
                parameter.info.shape.iter().product::<usize>(),
                "{} {name}",
                info.name
            );
            assert!(gradient.iter().all(|value| value.is_finite()), "{} {name}", info.name);
            assert!(gradient.iter().any(|value| *value != 0.0), "{} {name}", info.name);
        }
    }
}

#[test]
fn batch_statistics_of_a_single_value_are_refused() {
    let head = Head::Dense { hidden: vec![], dropout: 0.0, classes: 5 };
    let info = backbone("inception_v3").unwrap();
    let smallest = info.graph(&head, (75, 75)).unwrap();
    let whole = info.graph_with_auxiliary(&head, (299, 299)).unwrap();
    for (graph, size, norm) in
        [(smallest, 75, "Mixed_7a.branch3x3_2.bn"), (whole, 299, "AuxLogits.conv1.bn")]
    {
        let mut network = quick(graph, &head);
        let (targets, images) = (soft_targets(&[1], 5, 0.0), images(1, size));
        let error = network.step(&images, 1, &targets, &OPTIONS).err().unwrap().to_string();
        assert!(
            error.starts_with(&format!("{norm} would normalize over a single value per channel")),
            "{error}"
        );
        let running = StepOptions { batch_norm: BatchNorm::Running, ..OPTIONS };
        assert!(network.step(&images, 1, &targets, &running).unwrap().loss.is_finite());
    }
}

/// torchvision's published Inception takes images normalized as ImageNet's are and undoes that
/// first (`transform_input`). What the network then sees is what normalizing with the preset's mean
/// and deviation gives.
#[test]
fn inceptions_preset_is_transform_input() {
    let preset = crate::nn::weights::preset("inception_v3").unwrap();
    let imagenet = [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)];
    for (channel, (mean, std)) in imagenet.into_iter().enumerate() {
        for level in 0..=255 {
            let pixel = f64::from(level) / 255.0;
            let transformed = (pixel - mean) / std * (std / 0.5) + (mean - 0.5) / 0.5;
            let ours = (pixel - f64::from(preset.mean[channel])) / f64::from(preset.std[channel]);
            assert!((ours - transformed).abs() < 1e-12, "{level}: {ours} {transformed}");
        }
    }
}

#[test]
fn heads_are_numbered_as_in_a_sequential() {
    let names = |hidden: &[usize], dropout| {
        let head = Head::Dense { hidden: hidden.to_vec(), dropout, classes: 7 };
        let graph = backbone("resnet18").unwrap().graph(&head, (64, 64)).unwrap();
        let head =
            crate::nn::parameters::describe(&graph).into_iter().filter(|info| info.group == "head");
        head.map(|info| format!("{} {:?}", info.name, info.shape)).collect::<Vec<_>>()
    };
    assert_eq!(names(&[], 0.5), ["fc.weight [7, 512]", "fc.bias [7]"]);
    assert_eq!(
        names(&[256, 32], 0.0),
        [
            "fc.0.weight [256, 512]",
            "fc.0.bias [256]",
            "fc.3.weight [32, 256]",
            "fc.3.bias [32]",
            "fc.6.weight [7, 32]",
            "fc.6.bias [7]"
        ]
    );
}

#[test]
fn invalid_graphs_are_refused() {
    let head = Head::Dense { hidden: vec![], dropout: 0.0, classes: 2 };
    let error = backbone("alexnet").unwrap().graph(&head, (20, 20)).unwrap_err().to_string();
    assert!(error.contains("features.") && error.contains("pixels doesn't fit"), "{error}");
    let error = Network::new("resnet5", &head, (64, 64), 0).err().unwrap().to_string();
    assert!(
        error.starts_with("no backbone has the name `resnet5`; there are resnet50, "),
        "{error}"
    );
    for head in [
        Head::Dense { hidden: vec![], dropout: 1.0, classes: 2 },
        Head::Dense { hidden: vec![0], dropout: 0.0, classes: 2 },
        Head::Dense { hidden: vec![], dropout: 0.0, classes: 0 },
    ] {
        assert!(backbone("resnet18").unwrap().graph(&head, (64, 64)).is_err());
    }
}
