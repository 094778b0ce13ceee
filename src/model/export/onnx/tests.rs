//! Exported files give the logits of the network that they were made of, for every op; damaged ones
//! are refused.

use super::graph::{Normalization, model};
use super::read::read;
use super::run::Runner;
use super::schema::{LOGITS, Node, OnnxModel, Operator};
use super::write::write;
use crate::nn::{Builder, Graph, Head, Network, NnError, Op, Window, backbone};
use crate::random::Stream;
use proptest::prelude::*;

/// Height and width of the map before the adaptive pooling.
const MAP: (usize, usize) = (8, 12);

/// A network with every op, and an adaptive pooling to `bins`.
fn every_op(bins: (usize, usize)) -> Result<Graph, NnError> {
    let (mut builder, x) = Builder::new(29, 23, 3);
    let b = &mut builder;
    b.layer_group("body");
    let window = Window { kernel: (3, 5), stride: (2, 1), padding: (1, 2) };
    let x = b.add("first", Op::Convolution { channels: 8, window, bias: true }, &[x])?;
    let x = b.relu(x)?;
    let x = b.batch_norm("alone", x)?;
    let x = b.add("maximum", Op::MaxPool(Window::square(3, 2, 1)), &[x])?;
    let left = b.convolution("left", x, 8, Window::square(1, 1, 0))?;
    let left = b.batch_norm("left_norm", left)?;
    let right = b.convolution("right", x, 8, Window::square(3, 1, 1))?;
    let right = b.batch_norm("right_norm", right)?;
    let sum = b.add("add", Op::Add, &[left, right])?;
    let sum = b.relu(sum)?;
    let sum = b.add("add", Op::Add, &[sum, x])?;
    let window = Window::square(3, 1, 1);
    let padded = b.add("mean", Op::AveragePool { window, count_padding: true }, &[sum])?;
    let clipped = b.add("mean", Op::AveragePool { window, count_padding: false }, &[sum])?;
    let x = b.add("cat", Op::Concatenate, &[padded, clipped, x])?;
    let shape = b.shape(x);
    assert_eq!((shape.height, shape.width), MAP);
    let x = b.add("bins", Op::AdaptivePool { height: bins.0, width: bins.1 }, &[x])?;
    let x = b.add("flatten", Op::Flatten, &[x])?;
    let x = b.add("drop", Op::Dropout { probability: 0.5 }, &[x])?;
    b.features(x);
    b.dense_head("fc", x, &head())?;
    builder.finish()
}

fn head() -> Head {
    Head::Dense { hidden: vec![6], dropout: 0.5, classes: 4 }
}

/// A network with random weights, norms included.
fn network(graph: Graph, head: &Head) -> Network {
    let mut network = Network::from_graph(graph, head, 3).unwrap();
    let mut weights = network.save();
    for (name, tensor) in &mut weights.tensors {
        let mut stream = Stream::new(5, name, &[]);
        let is_norm = tensor.shape.len() == 1 && !name.contains("fc") && !name.contains("first");
        let (low, high) = match name.ends_with("running_var") {
            true => (0.5, 2.0),
            false => (-0.5, 1.0),
        };
        if is_norm {
            tensor.data.iter_mut().for_each(|value| *value = stream.between(low, high) as f32);
        }
    }
    network.load(&weights).unwrap();
    network
}

/// Images of 0 to 255, (count, height, width, 3).
fn images(count: usize, network: &Network) -> Vec<f32> {
    let mut stream = Stream::new(9, "images", &[]);
    (0..count * network.graph().input().len())
        .map(|_| stream.between(0.0, 255.999).floor() as f32)
        .collect()
}

/// (count, pixels, 3) as (count, 3, pixels).
fn planes(images: &[f32], pixels: usize) -> Vec<f32> {
    let mut planes = Vec::new();
    for image in images.chunks_exact(3 * pixels) {
        (0..3).for_each(|channel| planes.extend(image.iter().skip(channel).step_by(3)));
    }
    planes
}

/// The bytes of the file of a model, and the model.
fn exported(network: &Network, normalization: Option<Normalization>) -> (Vec<u8>, OnnxModel) {
    let mut file = model(network.graph().input(), network.layers(), normalization);
    file.metadata = vec![("classes".to_owned(), "[\"ä\"]".to_owned())];
    file.description = "Of a test.".to_owned();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    write(&file, &path).unwrap();
    (std::fs::read(path).unwrap(), file)
}

/// Compares the logits of a file with those of its network. Returns the operators of the file.
fn check(network: &Network, normalization: Option<Normalization>) -> Vec<Operator> {
    let (bytes, file) = exported(network, normalization);
    assert_eq!(read(&bytes).unwrap(), file);
    let operators = file.nodes.iter().map(|node| node.operator).collect();
    let count = 3;
    let levels = images(count, network);
    let (mean, std) = normalization.unwrap_or(([0.3, 0.4, 0.5], [0.2, 0.3, 0.25]));
    let normalized: Vec<f32> = levels
        .iter()
        .enumerate()
        .map(|(at, level)| (level / 255.0 - mean[at % 3]) / std[at % 3])
        .collect();
    let runner = Runner::new(file).unwrap();
    let pixels = network.graph().input().pixels();
    let input = if normalization.is_some() { &levels } else { &normalized };
    let made = runner.logits(&planes(input, pixels)).unwrap();
    let expected = network.logits(&normalized, count).unwrap();
    let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    assert!(largest > 0.01, "{largest}");
    for (made, expected) in made.iter().zip(&expected) {
        assert!((made - expected).abs() < 1e-5 * (1.0 + largest), "{made} {expected}");
    }
    assert_eq!(made.len(), expected.len());
    operators
}

#[test]
fn every_op_and_every_adaptive_pooling_gives_the_networks_logits() {
    for (bins, operator) in [
        ((1, 1), Some(Operator::GlobalAveragePool)),
        (MAP, None),
        (
            (4, 6),
            Some(Operator::AveragePool {
                window: Window { kernel: (2, 2), stride: (2, 2), padding: (0, 0) },
                count_padding: false,
            }),
        ),
        ((3, 5), Some(Operator::MatMul)),
        ((9, 20), Some(Operator::MatMul)),
    ] {
        let network = network(every_op(bins).unwrap(), &head());
        let operators = check(&network, None);
        assert!(operator.is_none_or(|operator| operators.contains(&operator)), "{bins:?}");
        let count = |wanted| operators.iter().filter(|&&operator| operator == wanted).count();
        // That of the norm alone, of the fused residual and of the other sum.
        assert_eq!((count(Operator::Add), count(Operator::Mul)), (3, 1));
    }
}

#[test]
fn a_normalization_inside_the_model_is_that_of_training() {
    let network = network(every_op((1, 1)).unwrap(), &head());
    let normalization = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let operators = check(&network, Some(normalization));
    assert_eq!(operators[..3], [Operator::Div, Operator::Sub, Operator::Div]);
}

#[test]
fn backbones_give_their_logits() {
    let head = Head::Dense { hidden: vec![], dropout: 0.0, classes: 5 };
    for (name, side) in [("resnet18", 40), ("resnet50", 33), ("inception_v3", 75)] {
        let graph = backbone(name).unwrap().graph(&head, (side, side)).unwrap();
        let network = Network::from_graph(graph, &head, 3).unwrap();
        let operators = check(&network, None);
        // Norms are folded: no scale is left.
        assert!(!operators.contains(&Operator::Mul), "{name}");
    }
}

#[test]
fn files_cut_short_or_of_other_operators_are_refused() {
    let network = network(every_op((1, 1)).unwrap(), &head());
    let (bytes, _) = exported(&network, None);
    for length in (0..bytes.len()).step_by(7).chain(bytes.len() - 20..bytes.len()) {
        assert!(read(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
    }
    let renamed = |from: &[u8], to: &[u8]| {
        let at = bytes.windows(from.len()).position(|part| part == from).unwrap();
        let mut bytes = bytes.clone();
        bytes[at..][..to.len()].copy_from_slice(to);
        read(&bytes).unwrap_err()
    };
    assert_eq!(renamed(b"Softmax", b"Softmin"), "the operator isn't supported: \"Softmin\"");
    assert_eq!(renamed(b"strides", b"strider"), "the attribute strides isn't supported: []");
    assert_eq!(
        renamed(b"count_include_pad", b"count_include_pod"),
        "the attribute count_include_pad isn't supported: []"
    );
}

#[test]
fn values_that_nothing_makes_are_refused() {
    let network = network(every_op((1, 1)).unwrap(), &head());
    let file = || exported(&network, None).1;
    let mut without = file();
    without.nodes.remove(0);
    assert_eq!(Runner::new(without).err().unwrap(), "relu reads first, which isn't made before");
    let mut twice = file();
    let node = twice.nodes[1].clone();
    twice.nodes.insert(1, node);
    assert_eq!(Runner::new(twice).err().unwrap(), "two values are called relu");
    let relu =
        Node { operator: Operator::Gemm, inputs: vec!["images".into()], output: LOGITS.into() };
    let other = OnnxModel { nodes: vec![relu], constants: Vec::new(), ..file() };
    let error = Runner::new(other).unwrap().logits(&[0.0; 29 * 23 * 3]).unwrap_err();
    assert_eq!(error, "Gemm doesn't fit values of the shapes [[1, 3, 29, 23]]");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_flipped_bit_never_panics(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        static FILE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let mut bytes = FILE
            .get_or_init(|| exported(&network(every_op((1, 1)).unwrap(), &head()), None).0)
            .clone();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(runner) = read(&bytes).and_then(Runner::new)
            && runner.input_length() <= 3 * 29 * 23
        {
            let _ = runner.logits(&vec![0.5; runner.input_length()]);
        }
    }
}
