//! Products of random shapes, packed and in blocks, against a naive loop in `f64`; their bytes alone
//! and in a batch; NaN and infinity.

use super::*;
use crate::nn::graph::Shape;
use crate::nn::matrix::{has_kernels, to_bf16};
use crate::random::Stream;
use proptest::prelude::*;

/// Rounded to bf16, so that products are exact whatever is multiplied.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut stream = Stream::new(seed, "test", &[]);
    (0..count).map(|_| to_bf16(stream.normal() as f32)).collect()
}

/// Ways to compute a product: in blocks, and all that the processor can.
fn ways() -> Vec<Option<Products>> {
    let bf16 = has_kernels().then_some(Some(Products::Bf16));
    [None, Some(Products::Own)].into_iter().chain(bf16).collect()
}

/// Patches that need not lie within the map: also kernels larger than the image.
fn patches() -> impl Strategy<Value = Patches> {
    let side = || (1usize..9, 1usize..6, 1usize..4, 0usize..4, 1usize..8);
    let channels = prop_oneof![1usize..8, 15usize..20, 60usize..70, 250usize..260, 600usize..601];
    (side(), side(), channels).prop_map(|(y, x, channels)| Patches {
        map: Shape::new(y.0, x.0, channels),
        grid: (y.4, x.4),
        step: (y.2, x.2),
        origin: (-(y.3 as isize), -(x.3 as isize)),
        taps: (y.1, x.1),
    })
}

struct Case {
    patches: Patches,
    images: usize,
    x: Vec<f32>,
    weight: Vec<f32>,
    shift: Vec<f32>,
    residual: Option<Vec<f32>>,
    relu: bool,
}

impl Case {
    fn new(
        patches: Patches,
        images: usize,
        columns: usize,
        options: (bool, bool),
        seed: u64,
    ) -> Case {
        let rows = images * patches.rows_per_image();
        Case {
            patches,
            images,
            x: numbers(images * patches.map.len(), seed),
            weight: numbers(patches.depth() * columns, seed + 1),
            shift: numbers(columns, seed + 2),
            residual: options.0.then(|| numbers(rows * columns, seed + 3)),
            relu: options.1,
        }
    }

    fn product(&self, prepared: Option<Products>) -> Product {
        let epilogue = Epilogue {
            shift: self.shift.clone(),
            residual: self.residual.is_some(),
            relu: self.relu,
        };
        let mut product = Product::new(self.patches, self.weight.clone(), epilogue, 3);
        if let Some(products) = prepared {
            product.prepare(products);
        }
        product
    }

    /// The output of the images `range`.
    fn run(&self, product: &Product, range: std::ops::Range<usize>) -> Vec<f32> {
        let input = self.patches.map.len();
        let output = self.patches.rows_per_image() * self.shift.len();
        let part =
            |values: &[f32], size: usize| values[range.start * size..range.end * size].to_vec();
        let residual = self.residual.as_ref().map(|residual| part(residual, output));
        // Nothing is read of what the output was before.
        let mut out = vec![f32::NAN; range.len() * output];
        product.run(&part(&self.x, input), residual.as_deref(), &mut out);
        out
    }

    fn naive(&self) -> Vec<f64> {
        let (depth, columns) = (self.patches.depth(), self.shift.len());
        let rows = self.images * self.patches.rows_per_image();
        let mut windows = vec![0.0; rows * depth];
        self.patches.gather(&self.x, 0, &mut windows);
        let value = |at: usize| {
            let (row, column) = (at / columns, at % columns);
            let products = (0..depth).map(|k| {
                f64::from(windows[row * depth + k]) * f64::from(self.weight[k * columns + column])
            });
            let residual = self.residual.as_ref().map_or(0.0, |residual| f64::from(residual[at]));
            let sum = products.sum::<f64>() + f64::from(self.shift[column]) + residual;
            if self.relu && sum < 0.0 { 0.0 } else { sum }
        };
        (0..rows * columns).map(value).collect()
    }

    /// Whether tiles are transformed, which are rounded to bf16 then.
    fn is_tiled(&self) -> bool {
        let Patches { map, grid, step, taps, .. } = self.patches;
        let channels = [map.channels, self.shift.len()];
        (taps, step) == ((3, 3), (1, 1))
            && grid.0.min(grid.1) > 1
            && channels.iter().all(|count| *count >= 32 && count.is_multiple_of(8))
    }

    fn hold(&self) -> Result<(), TestCaseError> {
        let expected = self.naive();
        for prepared in ways() {
            let rounds = prepared == Some(Products::Bf16) && self.is_tiled();
            let near = (if rounds { 3e-2 } else { 1e-5 }) * (self.patches.depth() as f64).sqrt();
            let product = self.product(prepared);
            let out = self.run(&product, 0..self.images);
            for (index, (ours, exact)) in out.iter().zip(&expected).enumerate() {
                prop_assert!((f64::from(*ours) - exact).abs() < near, "{index}: {ours} {exact}");
            }
            let size = out.len() / self.images;
            for image in 0..self.images {
                let alone = self.run(&product, image..image + 1);
                prop_assert!(
                    alone[..] == out[image * size..][..size],
                    "image {image}, {prepared:?}"
                );
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn products_equal_a_naive_loop(
        patches in patches(), images in 1usize..4, columns in 1usize..40, options: (bool, bool), seed in 0u64..1000,
    ) {
        Case::new(patches, images, columns, options, seed).hold()?;
    }

    #[test]
    fn tiled_products_equal_a_naive_loop(
        side in (1usize..9, 1usize..9),
        grid in (2usize..24, 2usize..24),
        padding in (0isize..4, 0isize..4),
        images in 1usize..4,
        channels in (prop_oneof![Just(32usize), Just(40), Just(264)], prop_oneof![Just(32usize), Just(48), Just(136)]),
        options: (bool, bool),
        seed in 0u64..1000,
    ) {
        let patches = Patches {
            map: Shape::new(side.0, side.1, channels.0),
            grid,
            step: (1, 1),
            origin: (-padding.0, -padding.1),
            taps: (3, 3),
        };
        Case::new(patches, images, channels.1, options, seed).hold()?;
    }

    #[test]
    fn linear_layers_equal_a_naive_loop(
        depth in 1usize..700, images in 1usize..30, columns in 1usize..600, relu: bool, seed in 0u64..1000,
    ) {
        let patches = Patches {
            map: Shape::vector(depth), grid: (1, 1), step: (1, 1), origin: (0, 0), taps: (1, 1),
        };
        Case::new(patches, images, columns, (false, relu), seed).hold()?;
    }
}

#[test]
fn large_products_equal_a_naive_loop() {
    for (side, channels, taps, columns) in [(17, 64, 3, 130), (13, 300, 1, 257), (19, 3, 7, 64)] {
        let patches = Patches {
            map: Shape::new(side, side, channels),
            grid: (side, side),
            step: (1, 1),
            origin: (-(taps as isize / 2), -(taps as isize / 2)),
            taps: (taps, taps),
        };
        Case::new(patches, 2, columns, (true, true), 7).hold().unwrap();
    }
}

#[test]
fn nan_and_infinity_reach_only_the_windows_that_read_them() {
    for (channels, columns) in [(3, 5), (20, 18)] {
        let patches = Patches {
            map: Shape::new(4, 5, channels),
            grid: (4, 5),
            step: (1, 1),
            origin: (-1, -1),
            taps: (3, 3),
        };
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut case = Case::new(patches, 2, columns, (true, false), 3);
            // Pixel (0, 0) of the second image.
            case.x[patches.map.len()] = value;
            let expected = case.naive();
            for prepared in ways() {
                let out = case.run(&case.product(prepared), 0..2);
                for (ours, exact) in out.iter().zip(&expected) {
                    let same =
                        if exact.is_nan() { ours.is_nan() } else { f64::from(*ours) == *exact };
                    assert!(same || (exact - f64::from(*ours)).abs() < 1e-4, "{ours} {exact}");
                    assert_eq!(exact.is_finite(), ours.is_finite());
                }
            }
        }
        let mut case = Case::new(patches, 1, columns, (false, true), 3);
        case.shift[0] = f32::NAN;
        for prepared in ways() {
            assert!(case.run(&case.product(prepared), 0..1)[0].is_nan(), "ReLU keeps NaN");
        }
    }
}
