//! Work on long slices in parallel, in chunks whose size never depends on the number of threads. Knows nothing of what is
//! computed.

use crate::nn::number::Number;
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
pub(crate) fn add_to<N: Number>(target: &mut [N], source: &[N]) {
    assert_eq!(target.len(), source.len());
    target.par_chunks_mut(CHUNK).zip(source.par_chunks(CHUNK)).for_each(|(target, source)| {
        for (t, s) in target.iter_mut().zip(source) {
            *t += *s;
        }
    });
}

/// Rows that are summed in single precision before their sum is added to others in double: few enough that hardly a digit
/// is lost, many enough that the double sums cost next to nothing.
pub(crate) const SHORT: usize = 16;

/// `K` sums of `width` columns each over parts of [`SHORT`] rows: `add` adds a part's rows to sums in their own precision that
/// begin at zero.
pub(crate) fn row_sums<T, N: Number, const K: usize>(
    parts: impl Iterator<Item = T>,
    width: usize,
    add: impl Fn(T, &mut [Vec<N>; K]),
) -> [Vec<f64>; K] {
    let mut totals: [Vec<f64>; K] = std::array::from_fn(|_| vec![0.0; width]);
    let mut sums: [Vec<N>; K] = std::array::from_fn(|_| vec![N::ZERO; width]);
    for part in parts {
        add(part, &mut sums);
        for (totals, sums) in totals.iter_mut().zip(&mut sums) {
            totals.iter_mut().zip(sums.iter()).for_each(|(total, sum)| *total += (*sum).into());
            sums.fill(N::ZERO);
        }
    }
    totals
}

/// Sums of columns of (rows, width), each chunk of rows by itself, the chunks' sums added in their order.
pub(crate) fn column_sums<N: Number>(values: &[N], width: usize) -> Vec<N> {
    let of_chunk = |rows: &[N]| {
        row_sums(rows.chunks(SHORT * width), width, |rows: &[N], [sums]: &mut [Vec<N>; 1]| {
            for row in rows.chunks_exact(width) {
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += *value);
            }
        })
    };
    let parts: Vec<[Vec<f64>; 1]> =
        values.par_chunks(chunk_rows(width) * width).map(of_chunk).collect();
    let mut totals = vec![0.0f64; width];
    for [sums] in parts {
        totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
    }
    totals.into_iter().map(N::of).collect()
}

/// The larger of both, and not a number where `x` is none: ReLU must not hide that a network has gone astray.
#[inline(always)]
pub(crate) fn at_least<N: Number>(x: N, floor: N) -> N {
    if x < floor { floor } else { x }
}
