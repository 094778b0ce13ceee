//! Moves parameters, moments and running statistics between GPU memory and the host, in
//! torchvision's layout.

use super::gpu::Gpu;
use super::network::CudaNetwork;
use crate::cuda::Buffer;
use crate::nn::parameters::{ParameterInfo, RunningStatistics};
use crate::nn::weights::{WeightTensor, Weights};
use crate::nn::{NnError, layout, loading};
use std::collections::BTreeMap;
use std::ops::Range;

/// Tensors by name.
type Named = BTreeMap<String, WeightTensor>;

/// Values for the elements of an arena.
type Placed = Vec<(Range<usize>, Vec<f32>)>;

impl CudaNetwork {
    /// See [`Learner::tensors`](crate::nn::Learner::tensors).
    pub(super) fn read_tensors(&self, wanted: &dyn Fn(&str) -> bool) -> Result<Named, NnError> {
        let mut named = Named::new();
        for (info, range) in self.infos().zip(&self.layout.parameters) {
            if wanted(&info.name) {
                named.insert(info.name.clone(), self.parameter(&self.tensors.values, info, range)?);
            }
        }
        for (norm, range) in self.norms.iter().zip(&self.layout.norms) {
            let (mean, variance) = norm.names();
            for (name, arena) in [(mean, &self.tensors.means), (variance, &self.tensors.variances)]
            {
                if wanted(&name) {
                    let data = read(&self.gpu, arena, range)?;
                    named.insert(name, WeightTensor { shape: vec![data.len()], data });
                }
            }
        }
        Ok(named)
    }

    /// See [`Learner::restore`](crate::nn::Learner::restore).
    pub(super) fn write_tensors(&mut self, weights: &Weights) -> Result<(), NnError> {
        let mut matched = Matched::default();
        let values = matched.parameters(weights, "", self.infos(), &self.layout.parameters);
        let (mut means, mut variances) = (Placed::new(), Placed::new());
        for (norm, range) in self.norms.iter().zip(&self.layout.norms) {
            let (mean, variance) = norm.names();
            means.extend(matched.plain(weights, &mean, range));
            variances.extend(matched.plain(weights, &variance, range));
        }
        let names = self.all_names();
        matched.finish(weights, |name| names.iter().any(|known| known == name))?;
        let arenas = [
            (&self.tensors.values, values),
            (&self.tensors.means, means),
            (&self.tensors.variances, variances),
        ];
        for (arena, placed) in arenas {
            write(&self.gpu, arena, &placed)?;
        }
        self.tensors.round(&self.gpu)
    }

    /// See [`Learner::moments`](crate::nn::Learner::moments).
    pub(super) fn read_moments(&self) -> Result<Named, NnError> {
        let mut named = Named::new();
        let arenas = [("first", &self.tensors.first), ("second", &self.tensors.second)];
        for (which, arena) in arenas {
            let Some(arena) = arena else { continue };
            let all = self.infos().zip(&self.layout.parameters).zip(&self.updated);
            for ((info, range), _) in all.filter(|(_, updated)| **updated) {
                let tensor = self.parameter(arena, info, range)?;
                named.insert(format!("{which}/{}", info.name), tensor);
            }
        }
        Ok(named)
    }

    /// See [`Learner::restore_moments`](crate::nn::Learner::restore_moments).
    pub(super) fn write_moments(&mut self, moments: Named) -> Result<(), NnError> {
        let saved = Weights { tensors: moments, ..Weights::default() };
        let mut matched = Matched::default();
        let ranges = &self.layout.parameters;
        let [first, second] = ["first/", "second/"]
            .map(|which| matched.parameters(&saved, which, self.infos(), ranges));
        matched.finish(&saved, |_| false)?;
        let starts: Vec<usize> = first.iter().map(|(range, _)| range.start).collect();
        self.updated = ranges.iter().map(|range| starts.contains(&range.start)).collect();
        // Cleared rather than freed: a training has reserved them.
        for arena in [&self.tensors.first, &self.tensors.second].into_iter().flatten() {
            arena.clear(self.gpu.stream())?;
        }
        for (which, placed) in [(Which::First, first), (Which::Second, second)] {
            if !placed.is_empty() {
                let gpu = self.gpu.clone();
                write(&gpu, self.moment_arena(which)?, &placed)?;
            }
        }
        Ok(())
    }

    /// The arena of moments, all zero at first.
    pub(super) fn moment_arena(&mut self, which: Which) -> Result<&Buffer<f32>, NnError> {
        let arena = match which {
            Which::First => &mut self.tensors.first,
            Which::Second => &mut self.tensors.second,
        };
        Ok(match arena {
            Some(arena) => arena,
            none => none.insert(self.gpu.card().zeros(self.layout.length)?),
        })
    }

    fn parameter(
        &self,
        arena: &Buffer<f32>,
        info: &ParameterInfo,
        range: &Range<usize>,
    ) -> Result<WeightTensor, NnError> {
        let data = layout::gpu_to_torch(info, &read(&self.gpu, arena, range)?);
        Ok(WeightTensor { shape: info.shape.clone(), data })
    }

    /// The names of parameters and buffers.
    pub(super) fn all_names(&self) -> Vec<String> {
        let buffers = |norm: &RunningStatistics| <[String; 2]>::from(norm.names());
        let parameters = self.infos().map(|info| info.name.clone());
        parameters.chain(self.norms.iter().flat_map(buffers)).collect()
    }

    /// Calls `take` with the structure below the head and everything that its output depends on.
    pub(super) fn describe(&self, take: &mut dyn FnMut(&str, &[f32])) -> Result<(), NnError> {
        let features = self.graph.features();
        take(&format!("{:?}", &self.graph.nodes()[..=features]), &[]);
        let head = self.parameters_below_the_head();
        for (info, range) in self.infos().zip(&self.layout.parameters).take(head) {
            let values = read(&self.gpu, &self.tensors.values, range)?;
            take(&info.name, &values);
        }
        for (norm, range) in self.norms.iter().zip(&self.layout.norms) {
            for arena in [&self.tensors.means, &self.tensors.variances] {
                take(&norm.name, &read(&self.gpu, arena, range)?);
            }
        }
        Ok(())
    }
}

/// The first or the second moments.
#[derive(Clone, Copy)]
pub(super) enum Which {
    First,
    Second,
}

/// The tensors of weights that were matched with a network's.
#[derive(Default)]
struct Matched {
    taken: usize,
    mismatches: Vec<String>,
}

impl Matched {
    /// The values of the parameters that the weights have as `prefix` and their name.
    fn parameters<'a>(
        &mut self,
        weights: &Weights,
        prefix: &str,
        infos: impl Iterator<Item = &'a ParameterInfo>,
        ranges: &[Range<usize>],
    ) -> Placed {
        let mut placed = Placed::new();
        for (info, range) in infos.zip(ranges) {
            let name = format!("{prefix}{}", info.name);
            if !weights.tensors.contains_key(&name) {
                continue;
            }
            self.taken += 1;
            match loading::found(weights, &name, &info.shape) {
                Ok(tensor) => {
                    placed.push((range.clone(), layout::torch_to_gpu(info, &tensor.data)));
                }
                Err(reason) => self.mismatches.push(reason),
            }
        }
        placed
    }

    /// The values of a buffer, if the weights have it.
    fn plain(
        &mut self,
        weights: &Weights,
        name: &str,
        range: &Range<usize>,
    ) -> Option<(Range<usize>, Vec<f32>)> {
        weights.tensors.get(name)?;
        self.taken += 1;
        match loading::found(weights, name, &[range.len()]) {
            Ok(tensor) => Some((range.clone(), tensor.data.clone())),
            Err(reason) => {
                self.mismatches.push(reason);
                None
            }
        }
    }

    /// Whether all tensors were matched.
    fn finish(mut self, weights: &Weights, is_known: impl Fn(&str) -> bool) -> Result<(), NnError> {
        if self.mismatches.is_empty() && self.taken < weights.tensors.len() {
            let unknown = weights.tensors.keys().filter(|name| !is_known(name));
            self.mismatches
                .extend(unknown.map(|name| format!("{name}: the network has no such tensor")));
        }
        match self.mismatches.is_empty() {
            true => Ok(()),
            false => Err(NnError::Mismatch(self.mismatches)),
        }
    }
}

fn read(gpu: &Gpu, arena: &Buffer<f32>, range: &Range<usize>) -> Result<Vec<f32>, NnError> {
    let mut values = vec![0.0; range.len()];
    arena.read(gpu.stream(), range.start, &mut values)?;
    Ok(values)
}

fn write(gpu: &Gpu, arena: &Buffer<f32>, placed: &Placed) -> Result<(), NnError> {
    for (range, values) in placed {
        arena.write(gpu.stream(), range.start, values)?;
    }
    Ok(())
}
