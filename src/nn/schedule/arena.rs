//! Places buffers in one arena: buffers whose lifetimes overlap get disjoint ranges of bytes. The
//! same buffers get the same offsets in every run.

use super::launch::Buffer;

/// Offsets are multiples of this: what `cuMemAlloc` guarantees, and enough for any vector load.
pub(super) const ALIGNMENT: usize = 256;

/// Sets the offsets of `buffers` and returns the arena's size in bytes. The largest buffers are
/// placed first, each into the smallest gap that holds it between those that live at the same time,
/// or behind them: the arena is rarely more than a few percent above the most bytes live at once.
pub(super) fn place(buffers: &mut [Buffer]) -> usize {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&index| {
        let buffer = &buffers[index];
        (std::cmp::Reverse(buffer.bytes()), buffer.first, index)
    });
    // Begin and end of the placed buffers, by offset.
    let mut placed: Vec<(usize, usize, usize)> = Vec::with_capacity(buffers.len());
    let mut size = 0;
    for index in order {
        let bytes = buffers[index].bytes().next_multiple_of(ALIGNMENT);
        let lives = |other: &usize| overlap(&buffers[*other], &buffers[index]);
        let occupied = placed.iter().filter(|(_, _, other)| lives(other));
        let offset = best_gap(occupied.map(|&(begin, end, _)| (begin, end)), bytes);
        buffers[index].offset = offset;
        let range = (offset, offset + bytes, index);
        placed.insert(placed.partition_point(|other| *other < range), range);
        size = size.max(offset + bytes);
    }
    size
}

/// Whether two buffers live at the same time.
pub(super) fn overlap(a: &Buffer, b: &Buffer) -> bool {
    a.first <= b.last && b.first <= a.last
}

/// The offset of the smallest gap of at least `bytes` between ranges sorted by their begin, or that
/// behind the last one.
fn best_gap(occupied: impl Iterator<Item = (usize, usize)>, bytes: usize) -> usize {
    let (mut best, mut free) = (None, 0);
    for (begin, end) in occupied {
        let gap = begin.saturating_sub(free);
        if gap >= bytes && best.is_none_or(|(smallest, _)| gap < smallest) {
            best = Some((gap, free));
        }
        free = free.max(end);
    }
    best.map_or(free, |(_, offset)| offset)
}

/// The most bytes live at one launch: no arena is smaller.
#[cfg(test)]
pub(super) fn peak(buffers: &[Buffer]) -> usize {
    let launches = buffers.iter().map(|buffer| buffer.last + 1).max().unwrap_or(0);
    let mut changes = vec![0i64; launches + 1];
    for buffer in buffers {
        let bytes = buffer.bytes().next_multiple_of(ALIGNMENT) as i64;
        changes[buffer.first] += bytes;
        changes[buffer.last + 1] -= bytes;
    }
    let (mut live, mut most) = (0, 0);
    for change in changes {
        live += change;
        most = most.max(live);
    }
    usize::try_from(most).unwrap_or(0)
}
