//! The network on the CPU as a [`Learner`].

use super::{Compiled, Network};
use crate::nn::NnError;
use crate::nn::graph::Graph;
use crate::nn::learner::{Input, Learner, PassResult, Rule, TrainingNeeds};
use crate::nn::number::Number;
use crate::nn::ops::Products;
use crate::nn::parameters::{Parameter, ParameterInfo};
use crate::nn::step::{Step, StepOptions};
use crate::nn::weights::{WeightTensor, Weights};
use std::collections::BTreeMap;
use std::time::Duration;

impl<N: Number> Learner<N> for Network<N> {
    fn graph(&self) -> &Graph {
        self.graph()
    }

    fn products(&self) -> Products {
        self.products()
    }

    fn machine(&self) -> String {
        #[cfg(target_arch = "x86_64")]
        let simd = [is_x86_feature_detected!("fma"), is_x86_feature_detected!("avx2")];
        #[cfg(not(target_arch = "x86_64"))]
        let simd = [false; 2];
        format!("cpu {} {simd:?}", std::env::consts::ARCH)
    }

    fn takes_records(&self) -> bool {
        false
    }

    fn parameters(&self) -> Vec<(&ParameterInfo, bool)> {
        self.parameters.iter().map(|Parameter { info, trainable, .. }| (info, *trainable)).collect()
    }

    fn set_trainable(&mut self, choose: &dyn Fn(&ParameterInfo) -> bool) {
        self.set_trainable(choose);
    }

    fn reserve(&mut self, _needs: &TrainingNeeds) -> Result<Option<String>, NnError> {
        Ok(None)
    }

    fn pass(
        &mut self,
        input: Input,
        _next: Option<Input>,
        batch: usize,
        targets: &[f32],
        options: &StepOptions,
    ) -> Result<PassResult, NnError> {
        let Step { loss, logits, gradients } = match input {
            Input::Images(images) => self.step(images, batch, targets, options)?,
            Input::Features(rows) => self.step_from_features(rows, batch, targets, options)?,
            Input::Records(_) => return Err(records()),
        };
        self.optimizer.add(&self.parameters, gradients)?;
        Ok(PassResult { loss, logits })
    }

    fn update(
        &mut self,
        rules: &[Option<Rule>],
        max_norm: Option<f64>,
    ) -> Result<Option<f64>, NnError> {
        self.discard_compiled();
        self.optimizer.update(&mut self.parameters, rules, max_norm)
    }

    fn moments(&self) -> Result<BTreeMap<String, WeightTensor<N>>, NnError> {
        Ok(self.optimizer.moments(&self.parameters))
    }

    fn restore_moments(
        &mut self,
        moments: BTreeMap<String, WeightTensor<N>>,
    ) -> Result<(), NnError> {
        self.optimizer.restore(&self.parameters, moments)
    }

    fn evaluate(&self, input: Input, batch: usize) -> Result<Vec<f32>, NnError> {
        match input {
            Input::Images(images) => self.logits(images, batch),
            Input::Features(rows) => self.logits_from_features(rows, batch),
            Input::Records(_) => Err(records()),
        }
    }

    fn features(&self, images: Input, batch: usize) -> Result<Vec<f32>, NnError> {
        match images {
            Input::Images(images) => self.features(images, batch),
            Input::Features(_) => Err(NnError::Input("features are made of images".to_owned())),
            Input::Records(_) => Err(records()),
        }
    }

    fn waited(&mut self) -> Result<Option<Duration>, NnError> {
        Ok(None)
    }

    fn names(&self) -> Vec<String> {
        self.names()
    }

    fn tensors(
        &self,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, WeightTensor<N>>, NnError> {
        Ok(self.save_named(wanted).tensors)
    }

    fn restore(&mut self, weights: &Weights<N>) -> Result<(), NnError> {
        self.restore(weights)
    }

    fn describe_backbone(&self, take: &mut dyn FnMut(&str, &[f32])) -> Result<(), NnError> {
        self.describe_backbone(take);
        Ok(())
    }

    fn release(&mut self) {
        self.compiled = Compiled::default();
    }
}

fn records() -> NnError {
    NnError::Input("the CPU reads images, no records".to_owned())
}
