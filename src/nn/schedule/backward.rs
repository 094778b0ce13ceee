//! The launches of the backward pass: the forward steps in reverse order. The first launch that
//! stores a gradient overwrites, later ones add. When a step's turn comes, the gradient of its
//! output is complete and nothing else needs it, so its memory may become that of an input's.

use super::launch::{Content, Launch, Mask, Store, Target, View, partial_chunks};
use super::planner::Planner;
use crate::nn::graph::Op;
use crate::nn::program::Instruction;

impl Planner<'_> {
    /// Schedules the gradients of all trainable parameters.
    pub(super) fn backward(&mut self) {
        for step in self.values.steps.clone().iter().rev() {
            if !self.values.tracked[step.output] || self.values.skips(step) {
                continue;
            }
            match self.gradients[step.output] {
                Some(dy) => self.backward_step(step, dy),
                // The loss doesn't depend on it.
                None => self.zero_gradients(step),
            }
        }
    }

    fn zero_gradients(&mut self, step: &Instruction) {
        for index in 0..2 {
            if let Some(parameter) = self.trained(step.node, index) {
                self.push(Launch::ZeroGradient { parameter });
            }
        }
    }

    fn backward_step(&mut self, step: &Instruction, dy: View) {
        match self.values.graph.nodes()[step.node].op {
            Op::Input | Op::Flatten => {}
            Op::Convolution { .. } | Op::Linear { .. } => self.convolution_backward(step, dy),
            Op::BatchNorm { .. } => self.norm_backward(step, dy),
            Op::Relu => {
                let output = self.location(step.output);
                if let Some(dx) = self.target_over(step.inputs[0], dy) {
                    self.push(Launch::ReluBackward { dy, output, dx });
                }
            }
            Op::MaxPool(_) | Op::AveragePool { .. } | Op::AdaptivePool { .. } => {
                let (pooling, indices) = (self.pooling(step), self.kept[step.node]);
                if let Some(dx) = self.target(step.inputs[0]) {
                    self.push(Launch::PoolBackward { pooling, dy, indices, dx });
                }
            }
            Op::Add => self.hand_on(dy, &[(step.inputs[0], dy), (step.inputs[1], dy)]),
            Op::Concatenate => {
                let mut first = 0;
                let parts = step.inputs.iter().map(|&input| {
                    let channels = self.values.shape(input).channels;
                    first += channels;
                    (input, dy.columns(first - channels, channels))
                });
                let parts: Vec<(usize, View)> = parts.collect();
                self.hand_on(dy, &parts);
            }
            Op::Dropout { probability } => {
                if let Some(y) = self.target_over(step.inputs[0], dy) {
                    self.push(Launch::Dropout { x: dy, y, layer: step.node, probability });
                }
            }
        }
    }

    /// Where a value's gradient is stored next, in the value's shape; `None` if it needs none. The
    /// first time it gets a new buffer.
    pub(super) fn target(&mut self, value: usize) -> Option<Target> {
        let root = self.values.root[value];
        if !self.values.tracked[value] {
            return None;
        }
        let (view, store) = match self.gradients[root] {
            Some(view) => (view, Store::Add),
            None => (self.map(Content::Gradient(root), root), Store::Overwrite),
        };
        self.gradients[root] = Some(view);
        Some(Target { view: self.in_shape_of(value, view), store })
    }

    /// As [`target`](Self::target) for an elementwise launch that reads `dy`: the first time, it
    /// overwrites `dy` itself. A map with gaps stays as it is, since convolutions are faster on
    /// maps without.
    fn target_over(&mut self, value: usize, dy: View) -> Option<Target> {
        let root = self.values.root[value];
        if self.values.tracked[value] && self.gradients[root].is_none() && dy.is_packed() {
            self.become_gradient(value, dy);
            return Some(Target { view: dy, store: Store::Overwrite });
        }
        self.target(value)
    }

    /// Makes a view, in the value's shape, the memory of its gradient.
    fn become_gradient(&mut self, value: usize, view: View) {
        let root = self.values.root[value];
        self.gradients[root] = Some(self.in_shape_of(root, view));
    }

    /// Hands views of the output's gradient `dy` on to inputs, unchanged. Each view becomes the
    /// input's gradient where it has none, unless an earlier input has taken the same view.
    fn hand_on(&mut self, dy: View, inputs: &[(usize, View)]) {
        let mut taken: Vec<View> = Vec::new();
        for &(input, view) in inputs {
            let root = self.values.root[input];
            let contiguous = view.is_packed() || !self.values.contiguous[root];
            let free = self.gradients[root].is_none() && !taken.contains(&view);
            if self.values.tracked[input] && free && contiguous {
                self.become_gradient(input, view);
                taken.push(view);
            } else if let Some(target) = self.target(input) {
                self.accumulate(target, view);
            }
        }
        debug_assert!(taken.iter().all(|view| view.buffer == dy.buffer));
    }

    /// Stores a view in a gradient.
    pub(super) fn accumulate(&mut self, target: Target, from: View) {
        let y = target.view;
        match target.store {
            Store::Overwrite => self.push(Launch::Copy { x: from, y }),
            Store::Add => self.push(Launch::Add { a: y, b: from, y }),
        }
    }

    fn convolution_backward(&mut self, step: &Instruction, dy: View) {
        let (geometry, weight) = (self.geometry(step), self.offsets[step.node]);
        let trains_weight = self.trained(step.node, 0).is_some();
        let by_input = self.values.tracked[step.inputs[0]];
        let dy = self.bias_backward(step, dy, trains_weight || by_input);
        if trains_weight {
            let x = self.location(step.inputs[0]);
            self.push(Launch::ConvolutionByWeight { geometry, x, dy, weight });
        }
        if let Some(dx) = self.target(step.inputs[0]) {
            self.push(Launch::ConvolutionByInput { geometry, dy, weight, dx });
        }
    }

    /// The bias's gradient. Returns the gradient of the convolution without bias and ReLU, which is
    /// computed if it is `needed`.
    fn bias_backward(&mut self, step: &Instruction, dy: View, needed: bool) -> View {
        let output = step.relu.then(|| self.location(step.output));
        let masked = output.is_some() && needed;
        let target = if masked && !dy.is_packed() {
            self.map(Content::Gradient(step.node), step.node)
        } else {
            dy
        };
        if let Some(bias) = self.trained(step.node, 1) {
            let partials = self.scratch(partial_chunks(dy.rows, dy.channels), dy.channels);
            let masked = masked.then_some(target);
            self.push(Launch::BiasBackward { dy, output, masked, partials });
            self.push(Launch::BiasBackwardFinish { partials, bias });
        } else if let Some(output) = output.filter(|_| masked) {
            let dx = Target { view: target, store: Store::Overwrite };
            self.push(Launch::ReluBackward { dy, output, dx });
        }
        target
    }

    fn norm_backward(&mut self, step: &Instruction, dy: View) {
        let (input, residual) = (step.inputs[0], step.residual.then(|| step.inputs[1]));
        let residual = residual.filter(|&residual| self.values.tracked[residual]);
        let wants_input = self.values.tracked[input];
        let [weight, bias] = [0, 1].map(|index| self.trained(step.node, index));
        let of_batch = self.of_batch(step) && wants_input;
        let sums = of_batch || weight.is_some() || bias.is_some();
        let mask = self.norm_mask(step, sums);
        let (Some(coefficients), x) = (self.kept[step.node], self.location(input)) else {
            return;
        };
        // One launch can't store both gradients of a value that is input and residual.
        let twice = residual.is_some_and(|residual| {
            wants_input && self.values.root[residual] == self.values.root[input]
        });
        let mut factors = None;
        if sums {
            let partials = self.scratch(2 * partial_chunks(dy.rows, dy.channels), dy.channels);
            self.push(Launch::NormBackward { dy, x, mask, coefficients, partials });
            factors = of_batch.then(|| self.scratch(2, dy.channels));
            let rows = dy.rows;
            self.push(Launch::NormBackwardFinish {
                partials,
                rows,
                coefficients,
                weight,
                bias,
                factors,
            });
        }
        let target = residual.and_then(|residual| {
            if twice || !wants_input {
                self.pass_residual(step, residual, dy, twice);
                return None;
            }
            self.residual_target(residual, dy, mask)
        });
        if !wants_input {
            return;
        }
        // The residual's gradient has `dy`'s memory, if it has taken it.
        let dy_is_taken = residual.is_some_and(|residual| {
            self.gradients[self.values.root[residual]]
                .is_some_and(|view| view.buffer == dy.buffer && view.offset == dy.offset)
        });
        let dx = if dy_is_taken { self.target(input) } else { self.target_over(input, dy) };
        let Some(dx) = dx else { return };
        let x = (factors.is_some() || mask == Mask::Recomputed).then_some(x);
        self.push(Launch::NormBackwardApply {
            dy,
            x,
            mask,
            coefficients,
            factors,
            dx,
            residual: target,
        });
    }

    /// Where a norm's ReLU passes gradients: recomputed from x where x is read anyway and no
    /// residual was added, which saves reading and keeping the output.
    fn norm_mask(&mut self, step: &Instruction, reads_x: bool) -> Mask {
        match (step.relu, step.residual || !reads_x) {
            (false, _) => Mask::None,
            (true, false) => Mask::Recomputed,
            (true, true) => Mask::Output(self.location(step.output)),
        }
    }

    /// Where the norm's own launch stores the residual's gradient, the masked dy: over `dy` where
    /// it has none yet. Nowhere if that is `dy` as it stands.
    fn residual_target(&mut self, residual: usize, dy: View, mask: Mask) -> Option<Target> {
        let root = self.values.root[residual];
        let contiguous = dy.is_packed() || !self.values.contiguous[root];
        if mask == Mask::None && self.gradients[root].is_none() && contiguous {
            self.become_gradient(residual, dy);
            return None;
        }
        self.target_over(residual, dy)
    }

    /// Stores the residual's gradient in a launch of its own; `dy` stays as it is where it is still
    /// `needed`.
    fn pass_residual(&mut self, step: &Instruction, residual: usize, dy: View, needed: bool) {
        let target = if needed { self.target(residual) } else { self.target_over(residual, dy) };
        let Some(dx) = target else { return };
        if step.relu {
            let output = self.location(step.output);
            self.push(Launch::ReluBackward { dy, output, dx });
        } else if dx.view != dy {
            self.accumulate(dx, dy);
        }
    }
}
