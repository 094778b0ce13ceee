//! Tiles, and products against a naive loop.

use super::*;
use dfdx::tensor::TensorFromVec;
use proptest::prelude::*;

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
    fn rounding_to_bf16_is_to_nearest_and_subnormal_numbers_are_zero(
        values in proptest::collection::vec(any::<u32>().prop_map(f32::from_bits), 1..70),
    ) {
        if !has_bf16() {
            return Ok(());
        }
        let same = |ours: f32, value: f32| {
            let exact = to_bf16(value);
            ours.to_bits() == exact.to_bits() || ours.is_nan() && exact.is_nan()
        };
        let mut row = vec![Pair::ZERO; values.len().div_ceil(2)];
        pairs::round_row(&values, &mut row);
        let found = row.iter().flat_map(|pair| pair.values());
        for (found, value) in found.zip(values.iter().chain(std::iter::repeat(&0.0))) {
            prop_assert!(same(found, *value), "{found} for {value}");
        }
        let reversed: Vec<f32> = values.iter().rev().copied().collect();
        let mut rows = vec![Pair::ZERO; values.len()];
        pairs::round_rows(&values, &reversed, &mut rows);
        for ((pair, first), second) in rows.iter().zip(&values).zip(&reversed) {
            let [low, high] = pair.values();
            prop_assert!(same(low, *first) && same(high, *second));
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn any_instructions_give_the_bits_of_avx2(
        columns in 1usize..33, taps in 1usize..4, length in 0usize..150, accumulate: bool,
    ) {
        const ROWS: usize = 5;
        if !has_kernels() {
            return Ok(());
        }
        let number = |index: usize| ((index * 7919) % 1013) as f32 / 97.0 - 5.0;
        let numbers = |count: usize| (0..count).map(number).collect::<Vec<f32>>();
        let x = numbers(ROWS * taps * length);
        let parts: Vec<&[f32]> =
            (0..ROWS * taps).map(|index| &x[index * length..][..length]).collect();
        let panels = columns.div_ceil(TILE.1);
        let weight = numbers(panels * taps * length * TILE.1);
        let windows = Windows { taps: &parts, rows: ROWS, columns, weight: &weight };
        let right: Vec<&[f32]> =
            (0..panels).map(|panel| &weight[panel * length * TILE.1..][..length * TILE.1]).collect();
        let outer = Outer { left: right[0], columns: 3..3 + ROWS, right: &right };

        let mut found = [numbers(ROWS * columns), numbers(ROWS * columns)];
        let mut of_avx2 = found.clone();
        let [mut product, mut gradient] =
            found.each_mut().map(|out| MatrixMut::new(out, ROWS, columns, columns));
        multiply_windows(&mut product, (0, 0), &windows, accumulate, None);
        multiply_outer(&mut gradient, (0, 0), &outer, accumulate);
        let [product, gradient] =
            of_avx2.each_mut().map(|out| MatrixMut::new(out, ROWS, columns, columns));
        // SAFETY: the processor has the instructions; the shapes are those checked above.
        unsafe {
            avx2::windows::<ROWS>(&product, &windows, length, accumulate, None);
            avx2::outer::<ROWS>(&gradient, &outer, accumulate);
        }
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        for (found, of_avx2) in found.iter().zip(&of_avx2) {
            prop_assert_eq!(bits(found), bits(of_avx2));
        }
    }
}
