//! The state of a schedule under construction: its buffers and launches, and where values and
//! gradients lie.

use super::arena;
use super::launch::{Buffer, Content, Element, Launch, View};
use super::values::Values;

/// A schedule under construction.
pub(super) struct Planner<'a> {
    pub values: Values<'a>,
    /// Element type of maps and their gradients.
    pub element: Element,
    /// Whether norms that depend on trainable parameters use the batch's statistics.
    pub batch_statistics: bool,
    /// For each node, the index of its first parameter, and at the end the number of parameters.
    pub offsets: Vec<usize>,
    /// Which parameters get a gradient.
    pub trainable: Vec<bool>,
    pub buffers: Vec<Buffer>,
    pub launches: Vec<Launch>,
    /// Where each value lies, by root.
    locations: Vec<Option<View>>,
    /// Where each value's gradient lies, by root.
    pub gradients: Vec<Option<View>>,
    /// What each node keeps for the backward pass: coefficients of a norm, indices of maxima.
    pub kept: Vec<Option<View>>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        values: Values<'a>,
        element: Element,
        batch_statistics: bool,
        offsets: Vec<usize>,
        trainable: Vec<bool>,
    ) -> Planner<'a> {
        let nodes = values.root.len();
        Planner {
            values,
            element,
            batch_statistics,
            offsets,
            trainable,
            buffers: Vec::new(),
            launches: Vec::new(),
            locations: vec![None; nodes],
            gradients: vec![None; nodes],
            kept: vec![None; nodes],
        }
    }

    pub(super) fn push(&mut self, launch: Launch) {
        self.launches.push(launch);
    }

    /// A new buffer of `rows` x `channels` elements.
    pub(super) fn allocate(
        &mut self,
        content: Content,
        element: Element,
        (rows, channels): (usize, usize),
    ) -> View {
        let length = rows * channels;
        let (first, last, offset) = (usize::MAX, 0, 0);
        self.buffers.push(Buffer { content, element, length, first, last, offset });
        View { buffer: self.buffers.len() - 1, offset: 0, stride: channels, rows, channels }
    }

    /// A new map of a value's shape.
    pub(super) fn map(&mut self, content: Content, value: usize) -> View {
        let shape = (self.values.rows(value), self.values.shape(value).channels);
        self.allocate(content, self.element, shape)
    }

    /// A new list of `rows` x `channels` of `f32`, for use by neighboring launches.
    pub(super) fn scratch(&mut self, rows: usize, channels: usize) -> View {
        self.allocate(Content::Scratch, Element::F32, (rows, channels))
    }

    /// Where a value lies, in its own shape. Its buffer is made at the first call, in the map of a
    /// concatenation where it has its home there.
    pub(super) fn location(&mut self, value: usize) -> View {
        let root = self.values.root[value];
        let view = match (self.locations[root], self.values.home[root]) {
            (Some(view), _) => view,
            (None, Some((concatenation, first))) => {
                let channels = self.values.shape(root).channels;
                self.location(concatenation).columns(first, channels)
            }
            (None, None) => self.map(Content::Value(root), root),
        };
        self.locations[root] = Some(view);
        self.in_shape_of(value, view)
    }

    /// Places a value where another one lies.
    pub(super) fn place_at(&mut self, value: usize, view: View) {
        let view = self.in_shape_of(value, view);
        self.locations[self.values.root[value]] = Some(view);
    }

    /// A view of a value's root, or of its gradient, in the value's own shape.
    pub(super) fn in_shape_of(&self, value: usize, view: View) -> View {
        view.reshaped(self.values.rows(value), self.values.shape(value).channels)
    }

    /// The index of a node's parameter.
    pub(super) fn parameter(&self, node: usize, index: usize) -> Option<usize> {
        Some(self.offsets[node] + index).filter(|&own| own < self.offsets[node + 1])
    }

    /// The index of a node's parameter, if it gets a gradient.
    pub(super) fn trained(&self, node: usize, index: usize) -> Option<usize> {
        self.parameter(node, index).filter(|&own| self.trainable[own])
    }

    /// Sets lifetimes and offsets; `kept` buffers live to the end, `given` ones from the start.
    /// Returns the arena's size in bytes.
    pub(super) fn finish(&mut self, given: &[View], kept: &[View]) -> usize {
        let end = self.launches.len().saturating_sub(1);
        for (index, launch) in self.launches.iter().enumerate() {
            for (view, _) in launch.accesses() {
                let buffer = &mut self.buffers[view.buffer];
                buffer.first = buffer.first.min(index);
                buffer.last = index;
            }
        }
        given.iter().for_each(|view| self.buffers[view.buffer].first = 0);
        for view in kept {
            let buffer = &mut self.buffers[view.buffer];
            (buffer.first, buffer.last) = (buffer.first.min(end), end);
        }
        debug_assert!(self.buffers.iter().all(|buffer| buffer.first <= buffer.last));
        arena::place(&mut self.buffers)
    }
}
