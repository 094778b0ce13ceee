//! Every backbone of the list against torchvision: names and shapes of parameters and buffers, counts, features.
//!
//! The golden lists were made with torchvision 0.29:
//! `for k, v in getattr(torchvision.models, NAME)(weights=None).state_dict().items(): print(k, *v.shape)`, without
//! `num_batches_tracked`.

use super::*;
use crate::nn::{Cpu, Network};

/// Name, torchvision's list, its number of parameters, its multiply-adds at 224x224 in millions (0: not published).
const GOLDEN: [(&str, &str, u64, u64); 6] = [
    ("resnet18", include_str!("golden/resnet18.txt"), 11_689_512, 1_814),
    ("resnet34", include_str!("golden/resnet34.txt"), 21_797_672, 3_664),
    ("resnet50", include_str!("golden/resnet50.txt"), 25_557_032, 4_089),
    ("resnet101", include_str!("golden/resnet101.txt"), 44_549_160, 7_801),
    ("resnet152", include_str!("golden/resnet152.txt"), 60_192_808, 11_514),
    ("alexnet", include_str!("golden/alexnet.txt"), 61_100_840, 714),
];

#[test]
fn names_and_shapes_are_torchvisions() {
    assert_eq!(GOLDEN.map(|golden| golden.0).to_vec(), backbones().iter().map(|info| info.name).collect::<Vec<_>>());
    for (name, golden, parameters, millions) in GOLDEN {
        let info = backbone(name).unwrap();
        let graph = info.graph(&Head::Original, (224, 224)).unwrap();
        let mut ours: Vec<String> = crate::nn::parameters::describe(&graph)
            .iter()
            .map(|info| {
                format!("{} {}", info.name, info.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" "))
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
        let (head, stages) = graph.stages().split_last().unwrap();
        assert!(head == "head" && stages == info.stages, "{name}");
    }
}

#[test]
fn heads_are_numbered_as_in_a_sequential() {
    let names = |hidden: &[usize], dropout| {
        let head = Head::Dense { hidden: hidden.to_vec(), dropout, classes: 7 };
        let graph = backbone("resnet18").unwrap().graph(&head, (64, 64)).unwrap();
        let head = crate::nn::parameters::describe(&graph).into_iter().filter(|info| info.stage == "head");
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
fn what_cannot_be_built_is_said() {
    let head = Head::Dense { hidden: vec![], dropout: 0.0, classes: 2 };
    let error = backbone("alexnet").unwrap().graph(&head, (20, 20)).unwrap_err().to_string();
    assert!(error.contains("features.") && error.contains("can't be applied to"), "{error}");
    let error = Network::new("resnet5", &head, (64, 64), 0, Cpu::default()).err().unwrap().to_string();
    assert!(error.starts_with("no backbone has the name `resnet5`; there are resnet50, "), "{error}");
    for head in [
        Head::Dense { hidden: vec![], dropout: 1.0, classes: 2 },
        Head::Dense { hidden: vec![0], dropout: 0.0, classes: 2 },
        Head::Dense { hidden: vec![], dropout: 0.0, classes: 0 },
    ] {
        assert!(backbone("resnet18").unwrap().graph(&head, (64, 64)).is_err());
    }
}
