//! Updates on a GPU: clipping, SGD and AdamW over all parameters in one launch each.

use super::gpu::Gpu;
use super::kernels::over_array;
use super::tensors::{Layout, Tensors};
use crate::cuda::Argument::{Address, F64, U32, U64};
use crate::cuda::{Buffer, Element};
use crate::nn::NnError;
use crate::nn::learner::Rule;

/// Elements that one block of the kernels covers.
const BLOCK: usize = 4096;

/// The tables of an update in GPU memory.
pub(super) struct Tables {
    /// The struct `Segment` of the kernels for each updated parameter.
    segments: Buffer<u32>,
    /// The struct `Start` for each block.
    starts: Buffer<u32>,
    /// The lengths of the segments that `starts` was made for.
    lengths: Vec<usize>,
    /// A sum of squares for each block.
    partials: Buffer<f64>,
    norm: Buffer<f64>,
    factor: Buffer<f32>,
}

impl Tables {
    pub(super) fn new(gpu: &Gpu) -> Result<Tables, NnError> {
        let card = gpu.card();
        Ok(Tables {
            segments: card.allocate(0)?,
            starts: card.allocate(0)?,
            lengths: Vec::new(),
            partials: card.allocate(0)?,
            norm: card.zeros(1)?,
            factor: card.zeros(1)?,
        })
    }

    /// Updates each parameter that has a rule. With `max_norm`, the gradients' global norm is
    /// clipped to it and returned; nothing is updated if it is NaN or infinite.
    pub(super) fn update(
        &mut self,
        gpu: &Gpu,
        layout: &Layout,
        tensors: &Tensors,
        rules: &[Option<Rule>],
        max_norm: Option<f64>,
    ) -> Result<Option<f64>, NnError> {
        let updated: Vec<(usize, Rule)> =
            rules.iter().enumerate().filter_map(|(index, rule)| Some((index, (*rule)?))).collect();
        let Some(&(_, rule)) = updated.first() else { return Ok(max_norm.map(|_| 0.0)) };
        self.fill(gpu, layout, &updated)?;
        if let Some(limit) = max_norm {
            self.clip(gpu, tensors, limit)?;
        }
        self.step(gpu, tensors, rule, max_norm.is_some())?;
        let norm = max_norm.map(|_| read_one(gpu, &self.norm));
        norm.transpose()
    }

    /// Writes the segments, and the blocks where the updated parameters are others than last time.
    fn fill(
        &mut self,
        gpu: &Gpu,
        layout: &Layout,
        updated: &[(usize, Rule)],
    ) -> Result<(), NnError> {
        let ranges = updated.iter().map(|&(index, _)| &layout.parameters[index]);
        let lengths: Vec<usize> = ranges.clone().map(ExactSizeIterator::len).collect();
        let words: Vec<u32> = ranges
            .zip(updated)
            .flat_map(|(range, (_, rule))| segment(range.start, range.len(), rule))
            .collect();
        write(gpu, &mut self.segments, &words)?;
        if lengths != self.lengths {
            let starts: Vec<u32> = starts(&lengths);
            write(gpu, &mut self.starts, &starts)?;
            self.partials = gpu.card().allocate(starts.len() / 2)?;
            self.lengths = lengths;
        }
        Ok(())
    }

    fn blocks(&self) -> usize {
        self.starts.count() / 2
    }

    fn clip(&self, gpu: &Gpu, tensors: &Tensors, limit: f64) -> Result<(), NnError> {
        let (kernels, stream) = (gpu.kernels(), gpu.stream());
        let tables = [tensors.summed().address(), self.segments.address(), self.starts.address()];
        let sums = [&tables[..], &[self.partials.address()]].concat();
        let sums: Vec<_> = sums.into_iter().map(Address).collect();
        kernels.launch(stream, "square_sums", self.blocks(), &sums)?;
        let clip = [
            Address(self.partials.address()),
            U32(self.blocks() as u32),
            F64(limit),
            Address(self.norm.address()),
            Address(self.factor.address()),
        ];
        kernels.launch(stream, "clip", 1, &clip)
    }

    fn step(&self, gpu: &Gpu, tensors: &Tensors, rule: Rule, clipped: bool) -> Result<(), NnError> {
        let moments = |buffer: &Option<Buffer<f32>>| {
            buffer.as_ref().expect("moments are allocated before an update").address()
        };
        let (name, second) = match rule {
            Rule::Sgd { .. } => ("sgd", None),
            Rule::Adamw { .. } => ("adamw", Some(moments(&tensors.second))),
        };
        let first = [tensors.values.address(), tensors.summed().address(), moments(&tensors.first)];
        let factor = if clipped { self.factor.address() } else { 0 };
        let rounded = tensors.rounded.as_ref().map_or(0, Buffer::address);
        let rest = [rounded, self.segments.address(), self.starts.address(), factor];
        let arguments: Vec<_> = first.into_iter().chain(second).chain(rest).map(Address).collect();
        gpu.kernels().launch(gpu.stream(), name, self.blocks(), &arguments)
    }
}

impl Tensors {
    /// The gradients of all passes since the last update.
    pub(super) fn summed(&self) -> &Buffer<f32> {
        self.sum.as_ref().filter(|_| self.is_summed).unwrap_or(&self.gradients)
    }

    /// Rounds the parameters, where maps are in bf16.
    pub(super) fn round(&self, gpu: &Gpu) -> Result<(), NnError> {
        let Some(rounded) = &self.rounded else { return Ok(()) };
        let count = rounded.count();
        let (from, to) = (self.values.address(), rounded.address());
        let arguments = [Address(from), Address(to), U64(count as u64)];
        gpu.kernels().launch(gpu.stream(), "arena_to_bf16", over_array(count), &arguments)
    }
}

/// The words of the struct `Segment`. Formulas are dfdx's, as on the CPU.
fn segment(first: usize, length: usize, rule: &Rule) -> [u32; 12] {
    let mut words = [0; 12];
    (words[0], words[1]) = (first as u32, (first as u64 >> 32) as u32);
    words[2] = length as u32;
    let (numbers, nesterov) = match *rule {
        Rule::Sgd { learning_rate, momentum, nesterov, weight_decay } => {
            ([learning_rate, weight_decay, momentum, 0.0, 0.0, 0.0, 0.0], nesterov)
        }
        Rule::Adamw { learning_rate, betas, epsilon, weight_decay, step } => {
            let step = i32::try_from(step).unwrap_or(i32::MAX);
            // In f32, as dfdx has it.
            let correction = |beta: f64| f64::from((1.0 - (beta as f32).powi(step)).recip());
            let [first, second] = betas.map(correction);
            let decay = weight_decay * learning_rate;
            ([learning_rate, decay, betas[0], betas[1], epsilon, first, second], false)
        }
    };
    for (word, number) in words[3..].iter_mut().zip(numbers) {
        *word = (number as f32).to_bits();
    }
    words[10] = nesterov.into();
    words
}

/// Segment and first element of each block.
fn starts(lengths: &[usize]) -> Vec<u32> {
    let blocks = |(segment, &length): (usize, &usize)| {
        (0..length).step_by(BLOCK).flat_map(move |first| [segment as u32, first as u32])
    };
    lengths.iter().enumerate().flat_map(blocks).collect()
}

/// Writes all elements, to a new buffer where the old one has another length.
pub(super) fn write<T: Element>(
    gpu: &Gpu,
    buffer: &mut Buffer<T>,
    values: &[T],
) -> Result<(), NnError> {
    if buffer.count() != values.len() {
        *buffer = gpu.card().allocate(values.len())?;
    }
    Ok(buffer.write(gpu.stream(), 0, values)?)
}

fn read_one(gpu: &Gpu, buffer: &Buffer<f64>) -> Result<f64, NnError> {
    let mut value = [0.0];
    buffer.read(gpu.stream(), 0, &mut value)?;
    Ok(value[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_in_one_block() {
        let lengths = [1, BLOCK, BLOCK + 1, 3 * BLOCK];
        let starts = starts(&lengths);
        let (blocks, rest) = starts.as_chunks::<2>();
        assert!(rest.is_empty());
        for (segment, &length) in lengths.iter().enumerate() {
            let own = blocks.iter().filter(|block| block[0] as usize == segment);
            let covered: usize = own.map(|block| BLOCK.min(length - block[1] as usize)).sum();
            assert_eq!(covered, length);
        }
    }

    #[test]
    fn a_segment_has_the_words_of_its_rule() {
        let rule = Rule::Adamw {
            learning_rate: 0.5,
            betas: [0.5, 0.75],
            epsilon: 2.0,
            weight_decay: 0.25,
            step: 2,
        };
        let words = segment((1 << 32) + 3, 7, &rule);
        assert_eq!(words[..3], [3, 1, 7]);
        let numbers: Vec<f32> = words[3..10].iter().map(|&word| f32::from_bits(word)).collect();
        assert_eq!(numbers[..5], [0.5, 0.125, 0.5, 0.75, 2.0]);
        assert_eq!(numbers[5..], [1.0 / 0.75, 1.0 / 0.4375]);
        let rule =
            Rule::Sgd { learning_rate: 0.5, momentum: 0.9, nesterov: true, weight_decay: 0.0 };
        assert_eq!(segment(0, 7, &rule)[10..], [1, 0]);
    }
}
