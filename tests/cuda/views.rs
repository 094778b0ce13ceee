//! Views made by the kernels are those of the processor, whatever is drawn.
#![expect(unsafe_code, reason = "launches kernels")]

use pipe::data::augment::Frame;
use pipe::data::decode::DecodeOptions;
use pipe::data::normalization::{network_input, scale_and_shift};
use pipe::data::{
    AugmentationPolicy, ColorJitter, Fit, Interpolation, Preprocessing, RandomAffine,
    RandomErasing, RandomPerspective, RandomResizedCrop, Recipe,
};
use pipe::random::Stream;

use super::*;

pub(super) const SCENARIOS: &[Scenario] = &[("views", views)];

/// Views of each policy, in batches of one size of squares.
const BATCH: usize = 24;

/// One policy, by name.
type Named = (&'static str, AugmentationPolicy);

/// In levels. In f32 the two differ by the roundings of a few operations, which factors of colors up
/// to 11 make larger.
const CLOSE: f32 = 0.05;

/// One level of 255, for bf16.
const LEVEL: f32 = 1.0;

fn views() -> Outcome {
    let card = Card::open(0)?;
    let module = Module::load(&card, Source { text: KERNELS, ..SOURCE }, &NoCache)?;
    let mut report = Vec::new();
    for (size, crop) in [(48, 41), (37, 37), (50, 24), (1, 1)] {
        for (name, policy) in policies() {
            let views = Views::new(size, crop, policy);
            let [exact, rounded] =
                [(4, "augment_f32"), (2, "augment_bf16")].map(|(bytes, kernel)| {
                    Ok::<f32, CudaError>(views.largest(&views.made(&card, &module, bytes, kernel)?))
                });
            let (exact, rounded) = (exact?, rounded?);
            let is_right = exact < CLOSE && rounded < LEVEL;
            let verdict = if is_right { "ok" } else { "WRONG" };
            report
                .push(format!("{verdict} {name} {size} -> {crop}: {exact:.5}, bf16 {rounded:.3}"));
        }
    }
    report.sort_by_key(|line| line.starts_with("ok"));
    let wrong = report.iter().filter(|line| line.starts_with("WRONG")).count();
    Ok(format!("{wrong} of {} differ\n{}", report.len(), report.join("\n")))
}

/// What can be drawn, alone and together, with amounts that are usual and the largest allowed.
fn policies() -> Vec<Named> {
    let none = AugmentationPolicy::default;
    let crop = || Some(RandomResizedCrop { scale: [0.08, 1.0], ratio: [0.75, 4.0 / 3.0] });
    let affine =
        |degrees, scale, shear| Some(RandomAffine { degrees, translate: [0.1, 0.3], scale, shear });
    let perspective = |distortion_scale| Some(RandomPerspective { distortion_scale, p: 1.0 });
    let jitter = |brightness, contrast, saturation, hue| {
        Some(ColorJitter { brightness, contrast, saturation, hue })
    };
    let erasing = |p| Some(RandomErasing { p, scale: [0.02, 0.6], ratio: [0.3, 3.3] });
    let usual = AugmentationPolicy {
        random_resized_crop: crop(),
        horizontal_flip: true,
        vertical_flip: true,
        random_affine: affine(20.0, [0.8, 1.2], 10.0),
        random_perspective: Some(RandomPerspective { distortion_scale: 0.5, p: 0.5 }),
        color_jitter: jitter(0.4, 0.4, 0.4, 0.1),
        random_grayscale: 0.2,
        random_erasing: erasing(0.5),
        ..none()
    };
    vec![
        ("nothing", none()),
        ("crop", AugmentationPolicy { random_resized_crop: crop(), ..none() }),
        ("flips", AugmentationPolicy { horizontal_flip: true, vertical_flip: true, ..none() }),
        ("affine", AugmentationPolicy { random_affine: affine(180.0, [0.5, 2.0], 80.0), ..none() }),
        (
            "a tiny scale",
            AugmentationPolicy { random_affine: affine(180.0, [1e-9, 1e-9], 9.0), ..none() },
        ),
        ("perspective", AugmentationPolicy { random_perspective: perspective(0.5), ..none() }),
        ("a horizon", AugmentationPolicy { random_perspective: perspective(1.0), ..none() }),
        ("brightness", AugmentationPolicy { color_jitter: jitter(1.0, 0.0, 0.0, 0.0), ..none() }),
        ("contrast", AugmentationPolicy { color_jitter: jitter(0.0, 1.0, 0.0, 0.0), ..none() }),
        ("saturation", AugmentationPolicy { color_jitter: jitter(0.0, 0.0, 1.0, 0.0), ..none() }),
        ("hue", AugmentationPolicy { color_jitter: jitter(0.0, 0.0, 0.0, 0.5), ..none() }),
        ("gray", AugmentationPolicy { random_grayscale: 0.5, ..none() }),
        ("erased", AugmentationPolicy { random_erasing: erasing(1.0), ..none() }),
        (
            "much",
            AugmentationPolicy { color_jitter: jitter(10.0, 10.0, 10.0, 0.5), ..usual.clone() },
        ),
        ("everything", usual),
    ]
}

/// A batch of random squares, each with its view.
struct Views {
    policy: AugmentationPolicy,
    preprocessing: Preprocessing,
    squares: Vec<Vec<u8>>,
    frame: Frame,
}

impl Views {
    fn new(size: usize, crop: usize, policy: AugmentationPolicy) -> Views {
        let square = |index: usize| {
            let mut stream = Stream::new(index as u64, "squares", &[size as u64]);
            (0..size * size * 3).map(|_| stream.below(256) as u8).collect()
        };
        let preprocessing = Preprocessing {
            resize: size as u32,
            crop: crop as u32,
            fit: Fit::Crop,
            interpolation: Interpolation::Bilinear,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            decoding: DecodeOptions::default(),
        };
        let frame = Frame {
            size,
            crop,
            offset: preprocessing.crop_offset() as usize,
            mean: preprocessing.mean.map(|mean| mean * 255.0),
        };
        Views { policy, preprocessing, squares: (0..BATCH).map(square).collect(), frame }
    }

    fn stream(index: usize) -> Stream {
        Stream::new(3, "views", &[index as u64])
    }

    /// The view of a square by the processor.
    fn expected(&self, index: usize) -> Vec<f32> {
        let crop = self.frame.crop;
        if self.policy.is_none() {
            return network_input(&self.squares[index], &self.preprocessing);
        }
        let mut out = vec![0.0; crop * crop * 3];
        self.policy.apply(&self.squares[index], &self.frame, Self::stream(index), &mut out);
        let (scale, shift) = scale_and_shift(&self.preprocessing);
        for (at, value) in out.iter_mut().enumerate() {
            *value = *value * scale[at % 3] + shift[at % 3];
        }
        out
    }

    fn recipes(&self) -> Vec<u8> {
        let mut bytes = vec![0; BATCH * Recipe::BYTES];
        for (index, out) in bytes.chunks_exact_mut(Recipe::BYTES).enumerate() {
            let recipe = match self.policy.is_none() {
                true => Recipe::center_crop(&self.frame),
                false => self.policy.recipe(&self.frame, Self::stream(index)),
            };
            recipe.write(out);
        }
        bytes
    }

    /// The views of all squares by the kernels, with values of so many bytes.
    fn made(
        &self,
        card: &Card,
        module: &Module,
        bytes: usize,
        kernel: &str,
    ) -> Result<Vec<f32>, CudaError> {
        let stream = card.compute();
        let area = self.frame.crop * self.frame.crop;
        let out = card.zeros::<u8>(BATCH * area * 3 * bytes)?;
        let means = card.zeros::<f32>(BATCH)?;
        let squares = self.squares.concat();
        let records = card.zeros::<u8>(squares.len())?;
        records.write(stream, 0, &squares)?;
        let written = self.recipes();
        let recipes = card.zeros::<u8>(written.len())?;
        recipes.write(stream, 0, &written)?;
        let pixels = self.pixels();
        let mut arguments = vec![
            Argument::Address(records.address()),
            Argument::Address(recipes.address()),
            Argument::Address(means.address()),
            Argument::Words(&pixels),
        ];
        if self.policy.needs_means() {
            let kernel = module.kernel("augment_means")?;
            // SAFETY: these are its types, and each buffer is of BATCH images.
            unsafe { kernel.launch(stream, [BATCH as u32, 1, 1], [256, 1, 1], &arguments)? };
        } else {
            arguments[2] = Argument::Address(0);
        }
        let grid = [(BATCH * area.div_ceil(256)) as u32, 1, 1];
        arguments.splice(3..3, [Argument::Address(out.address()), Argument::U32(3)]);
        // SAFETY: as above.
        unsafe { module.kernel(kernel)?.launch(stream, grid, [256, 1, 1], &arguments)? };
        let mut host = vec![0; out.count()];
        out.read(stream, 0, &mut host)?;
        Ok(host.chunks_exact(bytes).map(value).collect())
    }

    /// The kernels' struct `Pixels`.
    fn pixels(&self) -> Vec<u32> {
        let Frame { size, crop, .. } = self.frame;
        let colors = u32::from(self.policy.changes_colors());
        let (scale, shift) = scale_and_shift(&self.preprocessing);
        let numbers = [BATCH as u32, size as u32, crop as u32, 3, colors].into_iter();
        numbers.chain(scale.into_iter().chain(shift).map(f32::to_bits)).collect()
    }

    /// The largest difference of `made` and the processor's views, in levels of 255.
    fn largest(&self, made: &[f32]) -> f32 {
        let expected: Vec<f32> = (0..BATCH).flat_map(|index| self.expected(index)).collect();
        assert_eq!(made.len(), expected.len());
        let levels = self.preprocessing.std.map(|std| std * 255.0);
        let pairs = made.iter().zip(&expected).enumerate();
        let differences = pairs.map(|(at, (a, b))| (a - b).abs() * levels[at % 3]);
        differences.fold(0.0, |most, one| if one > most || one.is_nan() { one } else { most })
    }
}

/// Of f32, or of bf16.
fn value(bytes: &[u8]) -> f32 {
    let mut word = [0; 4];
    word[4 - bytes.len()..].copy_from_slice(bytes);
    f32::from_le_bytes(word)
}

#[test]
fn the_kernels_make_the_views_of_the_processor() {
    let Some(report) = Case::new("views").kernels().run() else { return };
    assert!(report.starts_with("0 of 60 differ"), "{report}");
}
