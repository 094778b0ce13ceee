//! A network's weights, in and out, under torchvision's names and in its layouts: all of them, or some. Which tensors of a
//! file fit is `loading`'s to say; nothing here runs a network.

use super::{Network, Plans, tensor};
use crate::nn::NnError;
use crate::nn::layout;
use crate::nn::loading::{self, Loaded, Taken};
use crate::nn::number::{Number, converted};
use crate::nn::ops::Backend;
use crate::nn::parameters::{Parameter, ParameterInfo};
use crate::nn::weights::{WeightTensor, Weights};

impl<D: Backend> Network<D> {
    /// Takes weights by name. The tensors of the original classifier are left out where the head is dense and they don't
    /// fit it; an auxiliary head that the weights lack keeps its values, as does its classifier where they have another
    /// number of classes. What was left out is said.
    ///
    /// # Errors
    /// [`NnError::Mismatch`] names every tensor that is missing or has another shape, with both shapes; nothing was taken
    /// then.
    pub fn load(&mut self, weights: &Weights) -> Result<Loaded, NnError> {
        let infos: Vec<&ParameterInfo> =
            self.parameters.iter().map(|parameter| &parameter.info).collect();
        let Taken { values, statistics, loaded } =
            loading::take(&infos, self.statistics.clone(), &self.head, weights)?;
        for (parameter, values) in self.parameters.iter_mut().zip(values) {
            if let Some(values) = values {
                parameter.tensor = tensor(&self.device, values)?;
            }
        }
        self.statistics = statistics;
        self.plans = Plans::default();
        Ok(loaded)
    }
}

impl<D: Backend<N>, N: Number> Network<D, N> {
    /// Values in our layout, such as a gradient, in torchvision's.
    pub fn torch_layout(&self, info: &ParameterInfo, values: &[N]) -> Vec<N> {
        layout::to_torch(info, values)
    }

    /// As [`save`](Self::save), without what only training uses: the auxiliary head. This is what a model file keeps.
    pub fn save_without_auxiliary(&self) -> Weights<N> {
        let mut weights = self.save();
        weights.tensors.retain(|name, _| !loading::in_auxiliary(name));
        weights
    }

    /// Parameters and buffers under torchvision's names and in its layouts; no metadata.
    pub fn save(&self) -> Weights<N> {
        self.save_named(|_| true)
    }

    /// As [`save`](Self::save), of the names that are asked for alone.
    pub fn save_named(&self, wanted: impl Fn(&str) -> bool) -> Weights<N> {
        let mut weights = Weights::default();
        for Parameter { info, tensor, .. } in
            self.parameters.iter().filter(|parameter| wanted(&parameter.info.name))
        {
            let data = layout::to_torch(info, &D::numbers(tensor));
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

    /// The names under which [`save`](Self::save) gives parameters and buffers.
    pub fn names(&self) -> Vec<String> {
        let parameters = self.parameters.iter().map(|parameter| parameter.info.name.clone());
        parameters
            .chain(self.statistics.iter().flat_map(|norm| <[String; 2]>::from(norm.names())))
            .collect()
    }

    /// Puts what [`save_named`](Self::save_named) gave back in its place; the rest stays.
    ///
    /// # Errors
    /// As [`load`](Self::load), when a tensor has no place here or another shape; nothing was taken then.
    pub fn restore(&mut self, weights: &Weights<N>) -> Result<(), NnError> {
        let mut places = Vec::new();
        let mut mismatches = Vec::new();
        for (place, Parameter { info, .. }) in self.parameters.iter().enumerate() {
            if weights.tensors.contains_key(&info.name) {
                match loading::found(weights, &info.name, &info.shape) {
                    Ok(tensor) => places.push((place, layout::from_torch(info, &tensor.data))),
                    Err(reason) => mismatches.push(reason),
                }
            }
        }
        let mut statistics = self.statistics.clone();
        let mut taken = places.len();
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
        for (place, values) in places {
            self.parameters[place].tensor = tensor(&self.device, values)?;
        }
        self.statistics = statistics;
        self.plans = Plans::default();
        Ok(())
    }

    /// Calls `take` with everything that decides what [`features`](Self::features) gives, which are in single precision: the
    /// structure as a text, then each parameter and buffer below the head by name.
    pub fn describe_backbone(&self, mut take: impl FnMut(&str, &[f32])) {
        let features = self.graph.features();
        take(&format!("{:?}", &self.graph.nodes()[..=features]), &[]);
        let head = self.offsets.get(features + 1).copied().unwrap_or(self.parameters.len());
        for Parameter { info, tensor, .. } in &self.parameters[..head] {
            take(&info.name, &N::singles(D::numbers(tensor)));
        }
        for norm in &self.statistics {
            take(&norm.name, &norm.mean);
            take(&norm.name, &norm.variance);
        }
    }
}
