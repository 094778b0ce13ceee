//! Loads and saves a network's weights, all or some, under torchvision's names and in its layouts,
//! and describes its layers for exporters.

use super::{Compiled, Network};
use crate::nn::NnError;
use crate::nn::compiled::{self, Layer};
use crate::nn::layout;
use crate::nn::loading::{self, Loaded, Taken};
use crate::nn::matrix::values;
use crate::nn::number::{Number, converted};
use crate::nn::ops::flat;
use crate::nn::parameters::{Parameter, ParameterInfo};
use crate::nn::weights::{WeightTensor, Weights};

impl Network {
    /// Loads weights by name. A dense head keeps its values if the classifier in the weights has
    /// other shapes; so does an auxiliary head that the weights lack, or its classifier for another
    /// number of classes. Returns the unmatched names.
    ///
    /// # Errors
    /// [`NnError::Mismatch`] with every tensor that is missing or has another shape; the network is unchanged then.
    pub fn load(&mut self, weights: &Weights) -> Result<Loaded, NnError> {
        let infos: Vec<&ParameterInfo> =
            self.parameters.iter().map(|parameter| &parameter.info).collect();
        let Taken { values, statistics, loaded } =
            loading::take(&infos, self.statistics.clone(), &self.head, weights)?;
        for (parameter, values) in self.parameters.iter_mut().zip(values) {
            if let Some(values) = values {
                parameter.tensor = flat(values).map_err(NnError::device)?;
            }
        }
        self.statistics = statistics;
        self.compiled = Compiled::default();
        Ok(loaded)
    }
}

impl<N: Number> Network<N> {
    /// Converts values such as a gradient from our layout to torchvision's.
    pub fn torch_layout(&self, info: &ParameterInfo, values: &[N]) -> Vec<N> {
        layout::to_torch(info, values)
    }

    /// As [`save`](Self::save), without the auxiliary head, which only training uses. Model files
    /// contain these weights.
    pub fn save_without_auxiliary(&self) -> Weights<N> {
        let mut weights = self.save();
        weights.tensors.retain(|name, _| !loading::in_auxiliary(name));
        weights
    }

    /// Parameters and buffers under torchvision's names and in its layouts; no metadata.
    pub fn save(&self) -> Weights<N> {
        self.save_named(|_| true)
    }

    /// As [`save`](Self::save), only of the names for which `wanted` is true.
    pub fn save_named(&self, wanted: impl Fn(&str) -> bool) -> Weights<N> {
        let mut weights = Weights::default();
        for Parameter { info, tensor, .. } in
            self.parameters.iter().filter(|parameter| wanted(&parameter.info.name))
        {
            let data = layout::to_torch(info, values(tensor));
            weights
                .tensors
                .insert(info.name.clone(), WeightTensor { shape: info.shape.clone(), data });
        }
        for norm in &self.statistics {
            let (mean, variance) = norm.names();
            for (name, values) in [(mean, &norm.mean), (variance, &norm.variance)] {
                if wanted(&name) {
                    weights.tensors.insert(
                        name,
                        WeightTensor { shape: vec![values.len()], data: converted(values) },
                    );
                }
            }
        }
        weights
    }

    /// The layers of evaluation in execution order, up to the logits: norms are folded into
    /// convolutions, and there is no dropout and no auxiliary head.
    pub fn layers(&self) -> Vec<Layer> {
        let infos = |index: usize| &self.parameters[index].info;
        let values = |index: usize| N::as_f32(values(&self.parameters[index].tensor));
        compiled::layers(
            &self.graph,
            &self.program,
            &self.offsets,
            infos,
            &values,
            &self.statistics,
        )
    }

    /// The names of parameters and buffers in [`save`](Self::save).
    pub fn names(&self) -> Vec<String> {
        let parameters = self.parameters.iter().map(|parameter| parameter.info.name.clone());
        parameters
            .chain(self.statistics.iter().flat_map(|norm| <[String; 2]>::from(norm.names())))
            .collect()
    }

    /// Restores weights from [`save_named`](Self::save_named); other parameters don't change.
    ///
    /// # Errors
    /// [`NnError::Mismatch`] if a tensor is unknown or has another shape; the network is unchanged then.
    pub fn restore(&mut self, weights: &Weights<N>) -> Result<(), NnError> {
        let mut indices = Vec::new();
        let mut mismatches = Vec::new();
        for (index, Parameter { info, .. }) in self.parameters.iter().enumerate() {
            if weights.tensors.contains_key(&info.name) {
                match loading::found(weights, &info.name, &info.shape) {
                    Ok(tensor) => indices.push((index, layout::from_torch(info, &tensor.data))),
                    Err(reason) => mismatches.push(reason),
                }
            }
        }
        let mut statistics = self.statistics.clone();
        let mut taken = indices.len();
        for norm in &mut statistics {
            let (mean, variance) = norm.names();
            for (name, values) in [(mean, &mut norm.mean), (variance, &mut norm.variance)] {
                let Some(tensor) = weights.tensors.get(&name) else { continue };
                taken += 1;
                if tensor.data.len() == values.len() {
                    *values = converted(&tensor.data);
                } else {
                    mismatches.push(format!(
                        "{name} is {:?}, the network's is [{}]",
                        tensor.shape,
                        values.len()
                    ));
                }
            }
        }
        if mismatches.is_empty() && taken < weights.tensors.len() {
            let names = self.names();
            mismatches.extend(weights.tensors.keys().filter(|name| !names.contains(name)).cloned());
        }
        if !mismatches.is_empty() {
            return Err(NnError::Mismatch(mismatches));
        }
        for (index, values) in indices {
            self.parameters[index].tensor = flat(values).map_err(NnError::device)?;
        }
        self.statistics = statistics;
        self.compiled = Compiled::default();
        Ok(())
    }

    /// Calls `take` with everything that determines [`features`](Self::features): the structure as
    /// text, then each parameter and buffer below the head by name, in `f32`. Used to hash a frozen
    /// backbone.
    pub fn describe_backbone(&self, mut take: impl FnMut(&str, &[f32])) {
        let features = self.graph.features();
        take(&format!("{:?}", &self.graph.nodes()[..=features]), &[]);
        let head = self.offsets.get(features + 1).copied().unwrap_or(self.parameters.len());
        for Parameter { info, tensor, .. } in &self.parameters[..head] {
            take(&info.name, &N::as_f32(values(tensor)));
        }
        for norm in &self.statistics {
            take(&norm.name, &norm.mean);
            take(&norm.name, &norm.variance);
        }
    }
}
