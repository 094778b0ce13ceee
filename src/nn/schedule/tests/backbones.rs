//! Schedules of all backbones, and their memory.

use super::properties::check_buffers;
use crate::nn::graph::{Graph, Head};
use crate::nn::schedule::{
    Element, Launch, Memory, Options, Part, Schedule, TrainingInput, largest_batch,
};
use crate::nn::{BatchNorm, NnError, backbone, backbones, parameters};

fn graph(name: &str, size: usize) -> Graph {
    let info = backbone(name).unwrap();
    let head = Head::Dense { hidden: vec![], dropout: 0.2, classes: 20 };
    match info.has_auxiliary() {
        true => info.graph_with_auxiliary(&head, (size, size)).unwrap(),
        false => info.graph(&head, (size, size)).unwrap(),
    }
}

/// Training of everything from a layer group on.
fn training(graph: &Graph, from: usize, options: Options) -> Result<Schedule, NnError> {
    let chosen = parameters::describe(graph);
    let trainable: Vec<bool> = chosen.iter().map(|info| info.depth >= from).collect();
    Schedule::training(graph, &trainable, TrainingInput::Images, BatchNorm::Batch, options)
}

#[test]
fn every_backbone_has_schedules_at_every_freeze_point() {
    for info in backbones() {
        let graph = graph(info.name, info.input_size);
        for (batch, element) in [(2, Element::Bf16), (3, Element::F32), (32, Element::Bf16)] {
            let options = Options { batch, element };
            let groups = graph.layer_groups().len();
            for from in [0, 1, groups / 2, groups - 1, groups] {
                check_buffers(&training(&graph, from, options).unwrap());
            }
            for part in [Part::Backbone, Part::Head, Part::Both] {
                check_buffers(&Schedule::inference(&graph, part, options).unwrap());
            }
        }
    }
}

#[test]
fn no_backbone_copies_maps_or_has_gaps_in_the_maps_of_convolutions() {
    for info in backbones() {
        let graph = graph(info.name, info.input_size);
        let options = Options { batch: 2, element: Element::F32 };
        for launch in training(&graph, 0, options).unwrap().launches {
            match launch {
                Launch::Convolution { x, y, .. } => assert!(x.is_packed() && y.is_packed()),
                Launch::ConvolutionByInput { dy, dx, .. } => {
                    assert!(dy.is_packed() && dx.view.is_packed());
                }
                Launch::ConvolutionByWeight { x, dy, .. } => {
                    assert!(x.is_packed() && dy.is_packed());
                }
                Launch::Copy { .. } => panic!("{}: {launch:?}", info.name),
                _ => {}
            }
        }
    }
}

#[test]
fn memory_is_near_what_backward_reads() {
    for (name, size, batch, element, most) in [
        ("resnet50", 224, 32, Element::F32, 100.0),
        ("resnet50", 224, 128, Element::F32, 100.0),
        ("resnet50", 224, 32, Element::Bf16, 50.0),
        ("resnet50", 224, 128, Element::Bf16, 50.0),
        ("inception_v3", 299, 32, Element::F32, 120.0),
        ("inception_v3", 299, 32, Element::Bf16, 60.0),
    ] {
        let schedule = training(&graph(name, size), 0, Options { batch, element }).unwrap();
        let per_image = |bytes: usize| bytes as f64 / 1e6 / batch as f64;
        let (arena, peak) = (per_image(schedule.memory()), per_image(schedule.peak()));
        let kept = per_image(schedule.kept_bytes());
        if std::env::var_os("SHOW_MEMORY").is_some() {
            let launches = (schedule.launches.len(), schedule.backward, schedule.buffers.len());
            let line = format!(
                "{name} {size} batch {batch} {element:?}: arena {arena:.1} MB an image, most live \
                 {peak:.1}, kept {kept:.1}; {launches:?}\n"
            );
            std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
        }
        assert!(arena < 1.05 * peak && arena < most, "{name} {batch}: {arena} {peak} {kept}");
    }
}

#[test]
fn the_largest_batch_fits_and_the_next_one_does_not() {
    let graph = graph("resnet18", 64);
    let needed = |batch| {
        let schedule = training(&graph, 0, Options { batch, element: Element::F32 })?;
        Ok(Memory { arena: schedule.memory(), parameters: 45 << 20, ..Memory::default() })
    };
    let available = 300 << 20;
    let batch = largest_batch(available, 512, needed).unwrap().unwrap();
    assert!((2..512).contains(&batch));
    assert!(needed(batch).unwrap().fits(available) && !needed(batch + 1).unwrap().fits(available));
    assert_eq!(largest_batch(1 << 20, 512, needed).unwrap(), None);
    assert_eq!(largest_batch(usize::MAX, 512, needed).unwrap(), Some(512));
}

#[test]
fn impossible_runs_are_refused() {
    let graph = graph("resnet18", 32);
    let options = |batch| Options { batch, element: Element::F32 };
    let error = training(&graph, 0, options(1)).unwrap_err().to_string();
    assert!(error.contains("layer4.0.bn1 would normalize over a single value"), "{error}");
    assert!(training(&graph, 0, options(0)).is_err());
    let short =
        Schedule::training(&graph, &[true], TrainingInput::Images, BatchNorm::Batch, options(2));
    assert!(short.unwrap_err().to_string().contains("1 choices of trainable parameters"));
}
