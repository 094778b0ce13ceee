//! Initial values of parameters, from named random streams.

use super::parameters::{ParameterInfo, Role};
use crate::random::Stream;
use rayon::prelude::*;

/// Initial values of all parameters; see [`initial_of`].
pub(crate) fn initial(parameters: &[ParameterInfo], seed: u64) -> Vec<Vec<f32>> {
    (0..parameters.len()).into_par_iter().map(|index| initial_of(parameters, index, seed)).collect()
}

/// Initial values of one parameter of a list, in our layout. The random stream is named after the
/// parameter, so networks that share a layer's name and shape share its initial values. As in
/// torchvision's residual networks and AlexNet: Kaiming normal initialization by fan-out for
/// convolutions without a bias (followed by norms), PyTorch's default uniform(-1/sqrt(fan_in),
/// 1/sqrt(fan_in)) for layers with a bias, 1 and 0 for norms. Inception is initialized the same
/// way: torchvision warns of its own initialization (a standard deviation of 0.1 for any fan).
pub(crate) fn initial_of(parameters: &[ParameterInfo], index: usize, seed: u64) -> Vec<f32> {
    let info = &parameters[index];
    let mut stream = Stream::new(seed, &format!("initial {}", info.name), &[]);
    let count: usize = info.shape.iter().product();
    let biased = parameters.get(index + 1).is_some_and(|next| next.role == Role::Bias);
    // A bias follows its weight in the list and has the same fan-in.
    let weight = if info.role == Role::Bias { &parameters[index - 1] } else { info };
    let bound = 1.0 / (weight.shape[1..].iter().product::<usize>() as f64).sqrt();
    match info.role {
        Role::ConvWeight if !biased => {
            let deviation = (2.0 * info.shape[1] as f64 / count as f64).sqrt();
            (0..count).map(|_| (stream.normal() * deviation) as f32).collect()
        }
        Role::ConvWeight | Role::LinearWeight | Role::Bias => {
            (0..count).map(|_| stream.between(-bound, bound) as f32).collect()
        }
        Role::NormWeight => vec![1.0; count],
        Role::NormBias => vec![0.0; count],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::parameters::describe;
    use crate::nn::{Head, backbone};

    #[test]
    fn convolutions_have_the_standard_deviation_of_their_fan_out() {
        let graph = backbone("resnet18").unwrap().graph(&Head::Original, (64, 64)).unwrap();
        let list = describe(&graph);
        let index = list.iter().position(|info| info.name == "layer2.0.conv2.weight").unwrap();
        let draw = |seed| initial(&list, seed).swap_remove(index);
        let values = draw(7);
        let variance =
            values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / values.len() as f64;
        assert!((variance / (2.0 / (128.0 * 9.0)) - 1.0).abs() < 0.02, "{variance}");
        assert_eq!(values, draw(7));
        assert_ne!(values, draw(8));
    }
}
