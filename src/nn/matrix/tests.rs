//! Tiles, and products against a naive loop.

use super::*;
use dfdx::tensor::TensorFromVec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

#[test]
fn a_tensors_values_are_read_in_place() {
    let tensor = Cpu::default().tensor_from_vec(vec![1.0, 2.0, 3.0], (3usize,));
    assert_eq!(values(&tensor), [1.0, 2.0, 3.0]);
    assert_eq!(values::<f32>(&Cpu::default().tensor_from_vec(vec![], (0usize,))), [0.0; 0]);
}

#[test]
#[should_panic(expected = "broadcast")]
fn a_broadcast_tensor_is_refused() {
    use dfdx::tensor_ops::BroadcastTo;
    let tensor = Cpu::default().tensor_from_vec(vec![1.0], ());
    values(&tensor.broadcast_like::<_, dfdx::shapes::Axis<0>>(&(3usize,)));
}

#[test]
#[should_panic(expected = "3 x 2 by 2 in 5")]
fn a_matrix_must_fit_its_data() {
    MatrixMut::new(&mut [0.0; 5], 3, 2, 2);
}

proptest! {
    #[test]
    fn tiles_cover_a_matrix_once(rows in 0usize..9, columns in 0usize..9, gap in 0usize..3, h in 1usize..5, w in 1usize..5) {
        let stride = columns + gap;
        let mut data = vec![0.0; rows * stride];
        for mut tile in MatrixMut::new(&mut data, rows, columns, stride).tiles(h, w) {
            for row in 0..tile.out.rows() {
                for (column, value) in tile.out.row(row).iter_mut().enumerate() {
                    *value += 1.0 + ((tile.row + row) * columns + tile.column + column) as f32;
                }
            }
        }
        for (index, value) in data.iter().enumerate() {
            let (row, column) = (index / stride, index % stride);
            let expected = if column < columns { 1.0 + (row * columns + column) as f32 } else { 0.0 };
            prop_assert_eq!(*value, expected);
        }
    }

    #[test]
    fn products_equal_a_naive_loop(
        m in 1usize..20, n in 1usize..20, k in 0usize..200, transposed: bool, accumulate: bool,
    ) {
        let number = |index: usize| (index * 37 % 11) as f32 - 5.0;
        let a: Vec<f32> = (0..m * k).map(number).collect();
        let b: Vec<f32> = (0..k * n).map(|i| number(i + 3)).collect();
        let mut out: Vec<f32> = (0..m * n).map(number).collect();
        let expected: Vec<f32> = (0..m * n)
            .map(|at| {
                let (i, j) = (at / n, at % n);
                let a = |l: usize| if transposed { a[l * m + i] } else { a[i * k + l] };
                (0..k).map(|l| a(l) * b[l * n + j]).sum::<f32>() + if accumulate { out[at] } else { 0.0 }
            })
            .collect();
        let left = if transposed { Matrix::new(&a, k, m, m).transposed() } else { Matrix::new(&a, m, k, k) };
        let right = Matrix::new(&b, k, n, n);
        multiply(&mut MatrixMut::new(&mut out, m, n, n), accumulate, left, right);
        prop_assert_eq!(&out, &expected);
    }

    #[test]
    fn rounding_to_bf16_is_to_nearest_and_ties_to_even(bits: u32) {
        let (value, rounded) = (f32::from_bits(bits), to_bf16(f32::from_bits(bits)));
        if value.is_nan() {
            prop_assert!(rounded.is_nan());
        } else if value.is_subnormal() {
            prop_assert_eq!(rounded.to_bits(), bits & 0x8000_0000);
        } else {
            // The neighbours of as large or as small a magnitude; beyond the last one is infinity.
            let below = bits & 0xffff_0000;
            let exact = |bits: u32| match f32::from_bits(bits).is_infinite() {
                true => 2f64.powi(128).copysign(f64::from(value)),
                false => f64::from(f32::from_bits(bits)),
            };
            let far = |bits: u32| (exact(bits) - f64::from(value)).abs();
            let nearest = match far(below).total_cmp(&far(below.wrapping_add(0x1_0000))) {
                _ if value.is_infinite() => bits,
                std::cmp::Ordering::Less => below,
                std::cmp::Ordering::Greater => below + 0x1_0000,
                std::cmp::Ordering::Equal => below + (below & 0x1_0000),
            };
            prop_assert_eq!(rounded.to_bits(), nearest);
        }
    }

    #[test]
    fn instructions_round_as_portable_code_does(
        values in proptest::collection::vec(any::<u32>().prop_map(f32::from_bits), 1..70),
    ) {
        let bits = |pairs: &[Pair]| -> Vec<u32> {
            pairs.iter().flat_map(|pair| pair.values()).map(f32::to_bits).collect()
        };
        let [mut row, mut portable] = [(); 2].map(|()| vec![Pair::ZERO; values.len().div_ceil(2)]);
        pairs::round_row(&values, &mut row);
        pairs::round_row_portably(&values, &mut portable);
        prop_assert_eq!(bits(&row), bits(&portable));
        let reversed: Vec<f32> = values.iter().rev().copied().collect();
        let [mut rows, mut portable] = [(); 2].map(|()| vec![Pair::ZERO; values.len()]);
        pairs::round_rows(&values, &reversed, &mut rows);
        pairs::round_rows_portably(&values, &reversed, &mut portable);
        prop_assert_eq!(bits(&rows), bits(&portable));
    }

    /// The last factor decides how large the products are: down to subnormal numbers.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn any_instructions_give_the_bits_of_avx2(
        columns in 1usize..33, taps in 1usize..4, length in 0usize..150, accumulate: bool, size in -70i32..3,
    ) {
        if has_kernels() {
            let scale = 10f32.powi(size.min(0) / 2);
            let number = |index: usize| scale * (((index * 7919) % 1013) as f32 / 97.0 - 5.0);
            let shape = (columns, taps, length, accumulate);
            bits_of_avx2(shape, number, |out, windows| {
                // SAFETY: the processor has the instructions; `multiply_windows` checked the shapes.
                unsafe { avx2::of_f32::windows::<ROWS>(out, windows, length, accumulate, None) }
            }, |out, outer| {
                // SAFETY: the processor has the instructions; `multiply_outer` checked the shapes.
                unsafe { avx2::of_f32::outer::<ROWS>(out, outer, accumulate) }
            })?;
            let pair = |index: usize| {
                let mut pair = [Pair::ZERO];
                pairs::round_row(&[number(index), number(index + 17)], &mut pair);
                pair[0]
            };
            bits_of_avx2(shape, pair, |out, windows| {
                // SAFETY: as above.
                unsafe { avx2::of_bf16::windows::<ROWS>(out, windows, length, accumulate, None) }
            }, |out, outer| {
                // SAFETY: as above.
                unsafe { avx2::of_bf16::outer::<ROWS>(out, outer, accumulate) }
            })?;
        }
    }
}

/// Rows of the products that are compared.
const ROWS: usize = 5;

/// Compares the kernels that the processor chooses with others.
#[cfg(target_arch = "x86_64")]
fn bits_of_avx2<F: Factor>(
    (columns, taps, length, accumulate): (usize, usize, usize, bool),
    factor: impl Fn(usize) -> F,
    windows_of_avx2: impl Fn(&MatrixMut, &Windows<F>),
    outer_of_avx2: impl Fn(&MatrixMut, &Outer<F>),
) -> Result<(), TestCaseError> {
    let factors = |count: usize| (0..count).map(&factor).collect::<Vec<F>>();
    let x = factors(ROWS * taps * length);
    let parts: Vec<&[F]> = (0..ROWS * taps).map(|index| &x[index * length..][..length]).collect();
    let panels = columns.div_ceil(TILE.1);
    let weight = factors(panels * taps * length * TILE.1);
    let windows = Windows { taps: &parts, rows: ROWS, columns, weight: &weight };
    let right: Vec<&[F]> =
        (0..panels).map(|panel| &weight[panel * length * TILE.1..][..length * TILE.1]).collect();
    let outer = Outer { left: right[0], columns: 3..3 + ROWS, right: &right };

    let before: Vec<f32> = (0..ROWS * columns).map(|index| index as f32 / 7.0).collect();
    let [mut product, mut gradient, mut product_of_avx2, mut gradient_of_avx2] =
        [(); 4].map(|()| before.clone());
    let matrix = |out| MatrixMut::new(out, ROWS, columns, columns);
    multiply_windows(&mut matrix(&mut product), (0, 0), &windows, accumulate, None);
    multiply_outer(&mut matrix(&mut gradient), (0, 0), &outer, accumulate);
    windows_of_avx2(&matrix(&mut product_of_avx2), &windows);
    outer_of_avx2(&matrix(&mut gradient_of_avx2), &outer);
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    prop_assert_eq!(bits(&product), bits(&product_of_avx2));
    prop_assert_eq!(bits(&gradient), bits(&gradient_of_avx2));
    Ok(())
}
