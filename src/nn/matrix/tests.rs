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
}
