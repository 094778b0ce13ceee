//! Large buffers that kernels need for a moment, kept for the next one: fresh memory would have to
//! be cleared first, by the system or by us.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most values that are kept, 256 MiB.
const KEPT: usize = 64 << 20;

static FREE: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

fn free() -> MutexGuard<'static, Vec<Vec<f32>>> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Values that are arbitrary at first.
pub(super) struct Buffer {
    values: Vec<f32>,
    length: usize,
}

impl Buffer {
    /// A buffer of `length` values.
    pub(super) fn new(length: usize) -> Buffer {
        let mut free = free();
        let sizes = free.iter().enumerate().map(|(index, values)| (values.len(), index));
        let best = sizes.filter(|(size, _)| (length..=2 * length).contains(size)).min();
        let kept = best.map(|(_, index)| free.swap_remove(index));
        drop(free);
        Buffer { values: kept.unwrap_or_else(|| vec![0.0; length]), length }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[..self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = free();
        free.push(std::mem::take(&mut self.values));
        // The smallest go first: they are made again soonest.
        free.sort_by_key(|values| std::cmp::Reverse(values.len()));
        while free.iter().map(Vec::len).sum::<usize>() > KEPT {
            free.pop();
        }
    }
}
