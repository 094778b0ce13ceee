//! The network on a GPU as a [`Learner`].

use super::work::{Key, Work};
use super::{CudaNetwork, INFERENCE_BATCH};
use crate::common::number;
use crate::cuda::convolution::Precision;
use crate::nn::NnError;
use crate::nn::cuda::exchange::Which;
use crate::nn::cuda::input::bring_targets;
use crate::nn::cuda::update::write;
use crate::nn::graph::Graph;
use crate::nn::learner::{Input, Learner, PassResult, Rule, TrainingNeeds, check_targets};
use crate::nn::ops::Products;
use crate::nn::parameters::ParameterInfo;
use crate::nn::schedule::{Part, TrainingInput};
use crate::nn::step::StepOptions;
use crate::nn::weights::{WeightTensor, Weights};
use std::collections::BTreeMap;
use std::time::Duration;

impl Learner for CudaNetwork {
    fn graph(&self) -> &Graph {
        &self.graph
    }

    fn products(&self) -> Products {
        match self.precision {
            Precision::Bf16 => Products::Bf16,
            Precision::F32 | Precision::Tf32 => Products::Own,
        }
    }

    fn machine(&self) -> String {
        let properties = self.gpu.card().properties();
        format!("cuda {} cuDNN {} {}", properties.name, self.gpu.cudnn(), self.precision)
    }

    fn takes_records(&self) -> bool {
        true
    }

    fn parameters(&self) -> Vec<(&ParameterInfo, bool)> {
        self.parameters.iter().map(|(info, trainable)| (info, *trainable)).collect()
    }

    fn set_trainable(&mut self, choose: &dyn Fn(&ParameterInfo) -> bool) {
        for (info, trainable) in &mut self.parameters {
            *trainable = choose(info);
        }
        let runs = &mut self.work.borrow_mut().runs;
        runs.retain(|key, _| matches!(key, Key::Inference(_)));
    }

    fn reserve(&mut self, needs: &TrainingNeeds) -> Result<Option<String>, NnError> {
        let TrainingNeeds { batch, from_features, squares, batch_norm: norm, .. } = *needs;
        self.moment_arena(Which::First)?;
        if needs.has_second_moments {
            self.moment_arena(Which::Second)?;
        }
        if needs.accumulates {
            self.sum_arena()?;
        }
        let (from, part) = match from_features {
            true => (TrainingInput::Features, Part::Head),
            false => (TrainingInput::Images, Part::Both),
        };
        let run = self.run(Key::Training { from, norm, batch })?;
        let inference = self.run(Key::Inference(part))?;
        let values = run.schedule.input.len().max(inference.schedule.input.len());
        {
            let feed = &mut self.work.borrow_mut().feed;
            match squares {
                Some(side) => feed.reserve_records(&self.gpu, batch.max(INFERENCE_BATCH), side)?,
                None => feed.reserve_plain(&self.gpu, values)?,
            }
        }
        let (free, _) = self.gpu.card().memory()?;
        let (needed, free) = (number::bytes(self.memory().total() as u64), number::bytes(free));
        Ok(Some(format!("batches of {batch} need {needed} of GPU memory; {free} are left")))
    }

    fn pass(
        &mut self,
        input: Input,
        next: Option<Input>,
        batch: usize,
        targets: &[f32],
        options: &StepOptions,
    ) -> Result<PassResult, NnError> {
        self.check_input(&input, batch)?;
        check_targets(&self.graph, targets, batch)?;
        let from = match input {
            Input::Features(_) => TrainingInput::Features,
            Input::Images(_) | Input::Records(_) => TrainingInput::Images,
        };
        let run = self.run(Key::Training { from, norm: options.batch_norm, batch })?;
        self.keep_gradients()?;
        self.zero_gradients_that_are_not_stored(&run)?;
        let (loss, logits) = {
            let mut work = self.work.borrow_mut();
            let keys = self.dropout_keys(options);
            write(&self.gpu, &mut work.keys, &keys)?;
            self.bring(&mut work, &run, input)?;
            let Work { arena, targets: staging, .. } = &mut *work;
            bring_targets(&self.gpu, &run, arena, staging, targets)?;
            self.execute(&work, &run)?;
            if let Some(Input::Records(next)) = next {
                work.feed.stage(&self.gpu, &next)?;
            }
            (work.loss(&self.gpu, &run)?, work.output(&self.gpu, &run)?)
        };
        self.accumulate()?;
        self.passes += 1;
        Ok(PassResult { loss, logits })
    }

    fn update(
        &mut self,
        rules: &[Option<Rule>],
        max_norm: Option<f64>,
    ) -> Result<Option<f64>, NnError> {
        self.moment_arena(Which::First)?;
        if rules.iter().flatten().any(|rule| matches!(rule, Rule::Adamw { .. })) {
            self.moment_arena(Which::Second)?;
        }
        if self.passes == 0 {
            self.tensors.is_summed = false;
            self.tensors.gradients.clear(self.gpu.stream())?;
        }
        let CudaNetwork { gpu, layout, tensors, tables, .. } = self;
        let norm = tables.update(gpu, layout, tensors, rules, max_norm)?;
        for (updated, rule) in self.updated.iter_mut().zip(rules) {
            *updated |= rule.is_some();
        }
        self.passes = 0;
        self.work.borrow_mut().feed.idle()?;
        Ok(norm)
    }

    fn moments(&self) -> Result<BTreeMap<String, WeightTensor>, NnError> {
        self.read_moments()
    }

    fn restore_moments(&mut self, moments: BTreeMap<String, WeightTensor>) -> Result<(), NnError> {
        self.write_moments(moments)?;
        self.passes = 0;
        Ok(())
    }

    fn evaluate(&self, input: Input, batch: usize) -> Result<Vec<f32>, NnError> {
        let part = match input {
            Input::Features(_) => Part::Head,
            Input::Images(_) | Input::Records(_) => Part::Both,
        };
        self.infer(part, input, batch)
    }

    fn features(&self, images: Input, batch: usize) -> Result<Vec<f32>, NnError> {
        if let Input::Features(_) = images {
            return Err(NnError::Input("features are made of images".to_owned()));
        }
        self.infer(Part::Backbone, images, batch)
    }

    fn waited(&mut self) -> Result<Option<Duration>, NnError> {
        self.work.borrow_mut().feed.waited()
    }

    fn names(&self) -> Vec<String> {
        self.all_names()
    }

    fn tensors(
        &self,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, WeightTensor>, NnError> {
        self.read_tensors(wanted)
    }

    fn restore(&mut self, weights: &Weights) -> Result<(), NnError> {
        self.write_tensors(weights)
    }

    fn describe_backbone(&self, take: &mut dyn FnMut(&str, &[f32])) -> Result<(), NnError> {
        self.describe(take)
    }

    fn release(&mut self) {
        let runs = &mut self.work.borrow_mut().runs;
        runs.retain(|key, _| matches!(key, Key::Training { .. }));
    }
}
