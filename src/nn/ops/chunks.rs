//! Parallel work on long slices, in chunks whose size never depends on the number of threads, so
//! that results don't either.

use crate::nn::matrix::vectorized;
use crate::nn::number::Number;
use rayon::prelude::*;

/// Values per chunk: fits in an L2 cache, and is long enough for a task.
pub(crate) const CHUNK: usize = 16 * 1024;

/// Rows per chunk of rows with `width` values.
pub(crate) fn chunk_rows(width: usize) -> usize {
    (CHUNK / width.max(1)).max(1)
}

/// `target[i] += source[i]`.
///
/// # Panics
/// When the lengths differ: zipping would drop gradients.
pub(crate) fn add_to<N: Number>(target: &mut [N], source: &[N]) {
    assert_eq!(target.len(), source.len());
    target.par_chunks_mut(CHUNK).zip(source.par_chunks(CHUNK)).for_each(|(target, source)| {
        vectorized(|| target.iter_mut().zip(source).for_each(|(t, s)| *t += *s));
    });
}

/// Rows that are summed in `N` before their sum is added to an `f64`: few enough that rounding is
/// small, many enough that the `f64` sums cost little.
pub(crate) const SHORT: usize = 16;

/// `K` column sums of `width` columns over parts of [`SHORT`] rows. `add` adds a part's rows to
/// sums in `N` that start at zero.
pub(crate) fn row_sums<T, N: Number, const K: usize>(
    parts: impl Iterator<Item = T>,
    width: usize,
    add: impl Fn(T, &mut [Vec<N>; K]),
) -> [Vec<f64>; K] {
    let mut totals: [Vec<f64>; K] = std::array::from_fn(|_| vec![0.0; width]);
    let mut sums: [Vec<N>; K] = std::array::from_fn(|_| vec![N::ZERO; width]);
    vectorized(|| {
        for part in parts {
            add(part, &mut sums);
            for (totals, sums) in totals.iter_mut().zip(&mut sums) {
                totals.iter_mut().zip(sums.iter()).for_each(|(total, sum)| *total += (*sum).into());
                sums.fill(N::ZERO);
            }
        }
    });
    totals
}

/// Column sums of (rows, width): per chunk of rows, added in order.
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

/// The maximum of both; NaN if `x` is NaN, so that a ReLU doesn't hide a diverged network.
#[inline(always)]
pub(crate) fn at_least<N: Number>(x: N, floor: N) -> N {
    if x < floor { floor } else { x }
}
