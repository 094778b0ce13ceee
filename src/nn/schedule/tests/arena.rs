//! The executor's arena: one list of numbers, each in the place of as many bytes as a map's element
//! has. Unwritten and freed places hold poison.

use crate::nn::schedule::{Element, Schedule, View};

/// A NaN that no computation makes.
const POISON: u64 = 0x7ff8_dead_beef_0001;

pub(super) struct Arena<'a> {
    schedule: &'a Schedule,
    cells: Vec<f64>,
    /// Bytes that a cell stands for.
    cell: usize,
}

impl<'a> Arena<'a> {
    pub(super) fn new(schedule: &'a Schedule) -> Arena<'a> {
        let cell = schedule.options.element.bytes();
        let cells = vec![f64::from_bits(POISON); schedule.bytes.div_ceil(cell)];
        Arena { schedule, cells, cell }
    }

    /// The cell of an element, and the index of a small element within it.
    fn place(&self, view: View, row: usize, channel: usize) -> (usize, u32) {
        let buffer = &self.schedule.buffers[view.buffer];
        let index = view.offset + row * view.stride + channel;
        assert!(index < buffer.length, "{view:?} leaves its buffer of {} elements", buffer.length);
        let byte = buffer.offset + index * buffer.element.bytes();
        (byte / self.cell, (byte % self.cell) as u32)
    }

    fn element(&self, view: View) -> Element {
        self.schedule.buffers[view.buffer].element
    }

    /// The elements row by row.
    ///
    /// # Panics
    /// When one is poisoned.
    pub(super) fn read(&self, view: View) -> Vec<f64> {
        let small = self.element(view) == Element::U8;
        let mut values = Vec::with_capacity(view.len());
        for row in 0..view.rows {
            for channel in 0..view.channels {
                let (cell, index) = self.place(view, row, channel);
                let value = self.cells[cell];
                let content = self.schedule.buffers[view.buffer].content;
                assert!(
                    value.to_bits() != POISON,
                    "element ({row}, {channel}) of {content:?} is read before it is written"
                );
                values.push(if small { f64::from(digit(value, index)) } else { value });
            }
        }
        values
    }

    pub(super) fn write(&mut self, view: View, values: &[f64]) {
        assert_eq!(values.len(), view.len(), "{view:?}");
        let element = self.element(view);
        for row in 0..view.rows {
            for channel in 0..view.channels {
                let (cell, index) = self.place(view, row, channel);
                let value = values[row * view.channels + channel];
                self.cells[cell] = match element {
                    Element::F32 | Element::F64 => value,
                    Element::Bf16 => bf16(value),
                    Element::U8 => with_digit(self.cells[cell], index, value as u8),
                };
            }
        }
    }

    /// Poisons what the launch at `index` used last.
    pub(super) fn free_after(&mut self, index: usize) {
        if index + 1 == self.schedule.launches.len() {
            return;
        }
        for buffer in self.schedule.buffers.iter().filter(|buffer| buffer.last == index) {
            let end = (buffer.offset + buffer.bytes()).div_ceil(self.cell);
            self.cells[buffer.offset / self.cell..end].fill(f64::from_bits(POISON));
        }
    }
}

/// Rounded to bf16, to nearest even.
fn bf16(value: f64) -> f64 {
    if !value.is_finite() {
        return value;
    }
    let bits = (value as f32).to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000;
    f64::from(f32::from_bits(rounded))
}

/// One of the bytes in a cell.
fn digit(cell: f64, index: u32) -> u8 {
    (cell as u64 >> (8 * index)) as u8
}

fn with_digit(cell: f64, index: u32, value: u8) -> f64 {
    let old = if cell.to_bits() == POISON { 0 } else { cell as u64 };
    ((old & !(0xff << (8 * index))) | u64::from(value) << (8 * index)) as f64
}
