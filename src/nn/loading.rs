//! Matches the tensors of a weights file with a network's parameters by name and shape. Doesn't
//! depend on devices.

use super::NnError;
use super::graph::{AUXILIARY, Head};
use super::layout;
use super::number::Number;
use super::parameters::{ParameterInfo, RunningStatistics};
use super::weights::{WeightTensor, Weights};
use rayon::prelude::*;
use std::collections::BTreeSet;

/// Parameters and tensors that loading left unmatched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// Parameters that keep their values, such as those of a new head.
    pub kept: Vec<String>,
    /// Tensors of the file without a matching parameter, such as the original classifier's.
    pub unused: Vec<String>,
}

/// The values that a network takes from weights.
pub(crate) struct Taken {
    /// For each parameter its values in our layout, or `None` if it keeps its own.
    pub values: Vec<Option<Vec<f32>>>,
    pub statistics: Vec<RunningStatistics>,
    pub loaded: Loaded,
}

/// The parts that may be missing.
struct Optional {
    /// The head: it is dense, and the weights lack part of it.
    head: bool,
    /// The auxiliary head: the weights have none of it.
    auxiliary: bool,
}

impl Optional {
    fn of(parameters: &[&ParameterInfo], head: &Head, weights: &Weights) -> Optional {
        let mut own = parameters.iter().filter(|info| info.group == "head");
        Optional {
            head: matches!(head, Head::Dense { .. })
                && own.any(|info| found(weights, &info.name, &info.shape).is_err()),
            auxiliary: !weights.tensors.keys().any(|name| in_auxiliary(name)),
        }
    }

    /// Whether this parameter may keep its values if the weights don't match it. Of an auxiliary
    /// head for another number of classes, only the classifier may.
    fn allows(&self, info: &ParameterInfo) -> bool {
        match info.group.as_str() {
            "head" => self.head,
            AUXILIARY => self.auxiliary || info.name.starts_with("AuxLogits.fc."),
            _ => false,
        }
    }
}

/// Whether a parameter or buffer belongs to the auxiliary head.
pub(crate) fn in_auxiliary(name: &str) -> bool {
    name.strip_prefix(AUXILIARY).is_some_and(|rest| rest.starts_with('.'))
}

/// Looks up all parameters and running statistics.
///
/// # Errors
/// [`NnError::Mismatch`] names every tensor that is missing or has another shape, with both shapes.
pub(crate) fn take(
    parameters: &[&ParameterInfo],
    mut statistics: Vec<RunningStatistics>,
    head: &Head,
    weights: &Weights,
) -> Result<Taken, NnError> {
    let optional = Optional::of(parameters, head, weights);
    let (mut loaded, mut mismatches, mut taken) = (Loaded::default(), Vec::new(), BTreeSet::new());
    let mut tensors = Vec::with_capacity(parameters.len());
    for info in parameters {
        let tensor = found(weights, &info.name, &info.shape);
        match &tensor {
            Ok(_) => {
                taken.insert(info.name.clone());
            }
            Err(_) if optional.allows(info) => loaded.kept.push(info.name.clone()),
            Err(reason) => mismatches.push(reason.clone()),
        }
        tensors.push(tensor.ok());
    }
    for norm in &mut statistics {
        let (mean, variance) = norm.names();
        let shape = [norm.mean.len()];
        for (name, values) in [(mean, &mut norm.mean), (variance, &mut norm.variance)] {
            match found(weights, &name, &shape) {
                Ok(tensor) => values.copy_from_slice(&tensor.data),
                Err(_) if optional.auxiliary && in_auxiliary(&name) => {}
                Err(reason) => mismatches.push(reason),
            }
            taken.insert(name);
        }
        if norm.variance.iter().any(|variance| *variance < 0.0) {
            mismatches.push(format!("{}.running_var contains a negative variance", norm.name));
        }
    }
    if !mismatches.is_empty() {
        return Err(NnError::Mismatch(mismatches));
    }
    loaded.unused = weights.tensors.keys().filter(|name| !taken.contains(*name)).cloned().collect();
    let converted = |(info, tensor): (&&ParameterInfo, &Option<&WeightTensor>)| {
        tensor.map(|tensor| layout::from_torch(info, &tensor.data))
    };
    let values = parameters.par_iter().zip(&tensors).map(converted).collect();
    Ok(Taken { values, statistics, loaded })
}

/// The tensor of this name and shape, or a message with the shape found instead.
pub(crate) fn found<'a, N: Number>(
    weights: &'a Weights<N>,
    name: &str,
    shape: &[usize],
) -> Result<&'a WeightTensor<N>, String> {
    match weights.tensors.get(name) {
        Some(tensor)
            if tensor.shape == shape && tensor.data.len() == shape.iter().product::<usize>() =>
        {
            Ok(tensor)
        }
        Some(tensor) => Err(format!("{name} is {:?}, the network's is {shape:?}", tensor.shape)),
        None => Err(format!("{name} {shape:?} is missing")),
    }
}
