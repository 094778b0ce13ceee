//! Work on long slices in parallel, in chunks whose size never depends on the number of threads. Knows nothing of what is
//! computed.

use rayon::prelude::*;

/// Values in a chunk: small enough for a core's second-level cache, long enough to be worth a task.
pub(crate) const CHUNK: usize = 16 * 1024;

/// Rows in a chunk of rows of `width` values.
pub(crate) fn chunk_rows(width: usize) -> usize {
    (CHUNK / width.max(1)).max(1)
}

/// `target[i] += source[i]`.
///
/// # Panics
/// When the lengths differ: zipping them would drop gradients.
pub(crate) fn add_to(target: &mut [f32], source: &[f32]) {
    assert_eq!(target.len(), source.len());
    target.par_chunks_mut(CHUNK).zip(source.par_chunks(CHUNK)).for_each(|(target, source)| {
        for (t, s) in target.iter_mut().zip(source) {
            *t += s;
        }
    });
}

/// Sums of columns of (rows, width), each chunk of rows by itself, the chunks' sums added in their order.
pub(crate) fn column_sums(values: &[f32], width: usize) -> Vec<f32> {
    let partial: Vec<Vec<f32>> = values
        .par_chunks(chunk_rows(width) * width)
        .map(|rows| {
            let mut sums = vec![0.0; width];
            for row in rows.chunks_exact(width) {
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += value;
                }
            }
            sums
        })
        .collect();
    let mut totals = vec![0.0f64; width];
    for sums in partial {
        for (total, sum) in totals.iter_mut().zip(sums) {
            *total += f64::from(sum);
        }
    }
    totals.into_iter().map(|total| total as f32).collect()
}

/// The larger of both, and not a number where `x` is none: ReLU must not hide that a network has gone astray.
#[inline(always)]
pub(crate) fn at_least(x: f32, floor: f32) -> f32 {
    if x < floor { floor } else { x }
}
