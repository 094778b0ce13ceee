//! Small graphs: one for each way that ops meet, and random ones.

use super::Random;
use crate::nn::graph::{Builder, Graph, Head, Op, Shape, Value, Window};

fn head(hidden: &[usize], dropout: f32) -> Head {
    Head::Dense { hidden: hidden.to_vec(), dropout, classes: 3 }
}

fn biased(channels: usize, window: Window) -> Op {
    Op::Convolution { channels, window, bias: true }
}

fn norm() -> Op {
    Op::BatchNorm { epsilon: 1e-2 }
}

/// Residual blocks with and without projection, and a strided first layer, as in a ResNet.
pub(super) fn residual() -> Graph {
    let (mut b, x) = Builder::new(9, 7, 2);
    b.layer_group("all");
    let x = b.convolution("stem", x, 4, Window::square(3, 1, 1)).unwrap();
    let x = b.add("stem_norm", norm(), &[x]).unwrap();
    let x = b.relu(x).unwrap();
    let mut x = b.add("pool", Op::MaxPool(Window::square(3, 2, 1)), &[x]).unwrap();
    for (index, (channels, stride)) in [(4, 1), (6, 2), (6, 1)].into_iter().enumerate() {
        let name = |part: &str| format!("{part}{index}");
        let window = Window::square(3, stride, 1);
        let y = b.convolution(&name("a"), x, channels, window).unwrap();
        let y = b.add(&name("a_norm"), norm(), &[y]).unwrap();
        let y = b.relu(y).unwrap();
        let y = b.convolution(&name("b"), y, channels, Window::square(3, 1, 1)).unwrap();
        let y = b.add(&name("b_norm"), norm(), &[y]).unwrap();
        let mut shortcut = x;
        if stride == 2 {
            shortcut = b.convolution(&name("c"), x, channels, Window::square(1, 2, 0)).unwrap();
            shortcut = b.add(&name("c_norm"), norm(), &[shortcut]).unwrap();
        }
        let sum = b.add(&name("sum"), Op::Add, &[y, shortcut]).unwrap();
        // The last block has no ReLU.
        x = if index < 2 { b.relu(sum).unwrap() } else { sum };
    }
    let x = b.add("mean", Op::AdaptivePool { height: 1, width: 1 }, &[x]).unwrap();
    let x = b.add("flatten", Op::Flatten, &[x]).unwrap();
    b.features(x);
    b.dense_head("fc", x, &head(&[5], 0.3)).unwrap();
    b.finish().unwrap()
}

/// Nested concatenations whose parts have other readers, pools of all kinds, a flattened map that
/// is also read as a map, biases with and without ReLU, and an auxiliary head.
pub(super) fn branches() -> Graph {
    let (mut b, input) = Builder::new(8, 8, 3);
    b.layer_group("one");
    let x = b.add("first", biased(4, Window::square(3, 1, 1)), &[input]).unwrap();
    let x = b.add("relu", Op::Relu, &[x]).unwrap();
    let left = b.convolution("left", x, 3, Window::square(1, 1, 0)).unwrap();
    let left = b.add("left_norm", norm(), &[left]).unwrap();
    let left = b.add("left_relu", Op::Relu, &[left]).unwrap();
    let right = b.add("right", biased(2, Window::square(3, 1, 1)), &[x]).unwrap();
    let inner = b.add("inner", Op::Concatenate, &[left, right]).unwrap();
    let again = b.add("again", biased(2, Window::square(1, 1, 0)), &[left]).unwrap();
    b.layer_group("two");
    let mean = Op::AveragePool { window: Window::square(3, 1, 1), count_padding: true };
    let mean = b.add("average", mean, &[x]).unwrap();
    let outer = b.add("outer", Op::Concatenate, &[mean, inner, again, left, input]).unwrap();
    let branch = outer;
    let maximum = b.add("maximum", Op::MaxPool(Window::square(3, 2, 1)), &[outer]).unwrap();
    let window = Window { kernel: (3, 2), stride: (2, 2), padding: (1, 0) };
    let half = b.add("half", Op::AveragePool { window, count_padding: false }, &[outer]).unwrap();
    let sum = b.add("sum", Op::Add, &[maximum, half]).unwrap();
    let sum = b.add("drop_map", Op::Dropout { probability: 0.25 }, &[sum]).unwrap();
    let bins = b.add("bins", Op::AdaptivePool { height: 3, width: 2 }, &[sum]).unwrap();
    let wide = b.convolution("wide", bins, 4, Window::square(1, 1, 0)).unwrap();
    let flat = b.add("flatten", Op::Flatten, &[wide]).unwrap();
    let flat = b.add("linear", Op::Linear { channels: 6 }, &[flat]).unwrap();
    let flat = b.add("linear_relu", Op::Relu, &[flat]).unwrap();
    let twice = b.add("twice", Op::Concatenate, &[wide, wide]).unwrap();
    let pooled = b.add("pooled", Op::AdaptivePool { height: 1, width: 1 }, &[twice]).unwrap();
    let x = b.add("vectors", Op::Concatenate, &[flat, pooled, flat]).unwrap();
    b.features(x);
    b.dense_head("fc", x, &head(&[4], 0.5)).unwrap();
    b.auxiliary();
    let window = Window::square(4, 2, 0);
    let mean = Op::AveragePool { window, count_padding: true };
    let x = b.add("aux_pool", mean, &[branch]).unwrap();
    let x = b.convolution("aux", x, 4, Window::square(2, 1, 0)).unwrap();
    let x = b.add("aux_norm", norm(), &[x]).unwrap();
    let x = b.relu(x).unwrap();
    let x = b.add("aux_flatten", Op::Flatten, &[x]).unwrap();
    b.add("aux_fc", Op::Linear { channels: 3 }, &[x]).unwrap();
    b.finish().unwrap()
}

/// A linear classifier after dropout, norms whose input is also their residual, sums of sums, a
/// value that nothing reads, and features that end in a ReLU, as AlexNet's.
pub(super) fn odd() -> Graph {
    let (mut b, x) = Builder::new(5, 6, 2);
    b.layer_group("all");
    let x = b.convolution("first", x, 4, Window::square(3, 1, 1)).unwrap();
    let y = b.add("norm", norm(), &[x]).unwrap();
    let sum = b.add("sum", Op::Add, &[x, y]).unwrap();
    let x = b.relu(sum).unwrap();
    b.add("unread", biased(3, Window::square(1, 1, 0)), &[x]).unwrap();
    let z = b.convolution("second", x, 4, Window { kernel: (1, 3), ..Window::square(1, 1, 0) });
    let z = b.add("second_relu", Op::Relu, &[z.unwrap()]).unwrap();
    let p = b.add("third", biased(4, Window { kernel: (1, 3), ..Window::square(1, 1, 0) }), &[x]);
    let p = b.add("third_relu", Op::Relu, &[p.unwrap()]).unwrap();
    let q = b.add("inside", Op::Add, &[p, z]).unwrap();
    let n = b.add("own", norm(), &[q]).unwrap();
    let x = b.add("twice", Op::Add, &[n, q]).unwrap();
    let r = b.add("plain", Op::Relu, &[x]).unwrap();
    let joined = b.add("joined", Op::Concatenate, &[r, x]).unwrap();
    let flat = b.add("flatten", Op::Flatten, &[joined]).unwrap();
    let flat = b.add("drop", Op::Dropout { probability: 0.5 }, &[flat]).unwrap();
    let x = b.add("linear", Op::Linear { channels: 5 }, &[flat]).unwrap();
    let x = b.add("last_relu", Op::Relu, &[x]).unwrap();
    b.features(x);
    b.dense_head("fc", x, &head(&[], 0.2)).unwrap();
    b.finish().unwrap()
}

/// A random graph, with an auxiliary head at times.
pub(super) fn random(seed: u64) -> Graph {
    let mut random = Random(seed);
    let (mut b, input) = Builder::new(6, 5, 2);
    b.layer_group("all");
    let mut values = vec![input];
    for index in 0..6 + random.below(14) {
        let made = step(&mut b, &mut random, &values, index);
        values.extend(made);
    }
    let mut x = values[values.len() - 1];
    x = b.add("flat", Op::Flatten, &[x]).unwrap();
    if random.below(2) == 0 {
        x = b.add("before", Op::Linear { channels: 4 }, &[x]).unwrap();
    }
    b.features(x);
    let hidden = if random.below(2) == 0 { vec![3] } else { vec![] };
    b.dense_head("fc", x, &head(&hidden, [0.0, 0.4][random.below(2)])).unwrap();
    if random.below(2) == 0 {
        b.auxiliary();
        let x = values[random.below(values.len())];
        let x = b.add("aux_pool", Op::AdaptivePool { height: 1, width: 1 }, &[x]).unwrap();
        let x = b.add("aux_flat", Op::Flatten, &[x]).unwrap();
        b.add("aux", Op::Linear { channels: 3 }, &[x]).unwrap();
    }
    b.finish().unwrap()
}

/// Adds a random op on random values, the latest ones more often, if it fits them.
fn step(b: &mut Builder, random: &mut Random, values: &[Value], index: usize) -> Option<Value> {
    let pick = |random: &mut Random| {
        let count = values.len();
        let from = if random.below(3) > 0 { count.saturating_sub(3) } else { 0 };
        values[from + random.below(count - from)]
    };
    let (x, name) = (pick(random), format!("n{index}"));
    let like = |b: &Builder, shape: Shape, same: bool| -> Vec<Value> {
        let fits = |value: &&Value| {
            let other = b.shape(**value);
            (other.height, other.width) == (shape.height, shape.width)
                && (!same || other.channels == shape.channels)
        };
        values.iter().filter(fits).copied().collect()
    };
    let (shape, channels) = (b.shape(x), 1 + random.below(4));
    let op = match random.below(12) {
        0 | 1 => biased(channels, Window::square(3, 1 + random.below(2), 1)),
        2 => Op::Convolution { channels, window: Window::square(1, 1, 0), bias: false },
        3 | 4 => norm(),
        5 => Op::Relu,
        6 => Op::MaxPool(Window::square(3, 1 + random.below(2), 1)),
        7 => {
            let count_padding = random.below(2) == 0;
            Op::AveragePool { window: Window::square(3, 1, 1), count_padding }
        }
        8 => Op::Dropout { probability: [0.0, 0.3][random.below(2)] },
        9 | 10 => {
            let others = like(b, shape, true);
            let other = others[random.below(others.len())];
            return b.add(&name, Op::Add, &[x, other]).ok();
        }
        _ => {
            let others = like(b, shape, false);
            let parts: Vec<Value> =
                (0..1 + random.below(3)).map(|_| others[random.below(others.len())]).collect();
            return b.add(&name, Op::Concatenate, &parts).ok();
        }
    };
    b.add(&name, op, &[x]).ok()
}
