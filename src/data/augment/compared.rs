//! Writes augmented images and random values for `tests/augment.py`, which compares them with
//! torchvision's: `PIPE_AUGMENT=FOLDER cargo test --lib compared`. Without the variable, the test
//! passes without doing anything.

use super::draw::Affine;
use super::filters::{self, Jitter};
use super::ops::{self, OPS};
use super::perspective::Homography;
use super::sample::{Sampling, sample};
use super::*;
use serde_json::{Value, json};
use std::path::Path;

/// Side of the images.
const SIDE: usize = 96;
const DRAWS: u64 = 20_000;

/// Smooth colors with some noise.
fn square() -> Vec<u8> {
    let mut stream = Stream::new(11, "compared", &[]);
    (0..SIDE * SIDE * 3)
        .map(|at| {
            let (x, y) = ((at / 3 % SIDE) as f64, (at / 3 / SIDE) as f64);
            let phase = (at % 3) as f64;
            let wave = (x / 9.0 + phase).sin() * 60.0 + (y / 14.0 - phase).cos() * 50.0;
            (128.0 + wave + stream.between(-12.0, 12.0)) as u8
        })
        .collect()
}

struct Cases<'a> {
    folder: &'a Path,
    list: Vec<Value>,
}

impl Cases<'_> {
    /// Writes the pixels after an operation, and what torchvision needs to do the same.
    fn add(&mut self, op: &str, parameters: Value, pixels: &[f32]) {
        let name = format!("{}.f32", self.list.len());
        let bytes: Vec<u8> = pixels.iter().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(self.folder.join(&name), bytes).unwrap();
        self.list.push(json!({ "op": op, "parameters": parameters, "file": name }));
    }

    fn geometry(&mut self, op: &str, parameters: Value, sampling: &Sampling) {
        let frame = Frame { size: SIDE, crop: SIDE, offset: 0, mean: [0.0; 3] };
        let mut out = vec![0.0; SIDE * SIDE * 3];
        sample(&square(), &frame, sampling, &mut out);
        self.add(op, parameters, &out);
    }

    fn colors(&mut self, op: &str, parameters: Value, change: impl Fn(&mut [f32])) {
        let mut pixels: Vec<f32> = square().into_iter().map(f32::from).collect();
        change(&mut pixels);
        self.add(op, parameters, &pixels);
    }
}

#[test]
fn images_and_values_are_written_for_the_comparison() {
    let Some(folder) = std::env::var_os("PIPE_AUGMENT") else { return };
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("square.u8"), square()).unwrap();
    let mut cases = Cases { folder, list: Vec::new() };
    geometry(&mut cases);
    colors(&mut cases);
    let text = json!({ "side": SIDE, "cases": cases.list, "draws": draws() });
    std::fs::write(folder.join("cases.json"), text.to_string()).unwrap();
}

fn geometry(cases: &mut Cases) {
    let whole = Sampling { center: [48.0; 2], step: [[1.0, 0.0], [0.0, 1.0]], perspective: None };
    let crop = [13.0, 7.0, 48.0, 60.0];
    let center = [crop[0] + crop[2] / 2.0, crop[1] + crop[3] / 2.0];
    let step = [[crop[2] / 96.0, 0.0], [0.0, crop[3] / 96.0]];
    cases.geometry("resized_crop", json!(crop), &Sampling { center, step, ..whole });
    for (angle, shear, scale, translation) in [
        (20.0, 0.0, 1.0, [0.0, 0.0]),
        (-35.0, 12.0, 1.2, [7.0, -4.0]),
        (90.0, -20.0, 0.8, [0.0, 3.0]),
    ] {
        let affine = Affine { angle, translation, scale, shear };
        let sampling = affine.sampling([48.0; 2], [1.0; 2]);
        let parameters =
            json!({ "angle": angle, "shear": shear, "scale": scale, "translate": translation });
        cases.geometry("affine", parameters, &Sampling { perspective: None, ..sampling });
    }
    for seed in 0..3 {
        let mut stream = Stream::new(seed, "compared", &[]);
        let (perspective, corners) = Homography::draw_with_corners(96.0, 0.5, &mut stream);
        cases.geometry("perspective", json!(corners), &Sampling { perspective, ..whole });
    }
}

fn colors(cases: &mut Cases) {
    for factor in [0.4, 1.3, 1.8] {
        for (op, jitter) in [
            ("brightness", Jitter::Brightness(factor)),
            ("contrast", Jitter::Contrast(factor)),
            ("saturation", Jitter::Saturation(factor)),
        ] {
            cases.colors(op, json!(factor), |pixels| jitter.apply(pixels));
        }
    }
    for shift in [-0.3, 0.1, 0.45] {
        cases.colors("hue", json!(shift), |pixels| Jitter::Hue(shift).apply(pixels));
    }
    cases.colors("grayscale", Value::Null, filters::to_gray);
    for (taps, sigma) in [(3, 0.7), (9, 1.5), (23, 2.0)] {
        let parameters = json!({ "taps": taps, "sigma": sigma });
        cases
            .colors("gaussian_blur", parameters, |pixels| filters::blur(SIDE, pixels, taps, sigma));
    }
    for op in OPS {
        for (bin, sign) in [(9, 1.0), (9, -1.0), (27, 1.0)] {
            let parameters = json!({ "name": format!("{op:?}"), "bin": bin, "sign": sign });
            cases.colors("rand_augment", parameters, |pixels| {
                ops::applied(op, f64::from(bin) / 30.0, sign, SIDE, pixels);
            });
        }
    }
}

/// Random values by the classes' defaults, or amounts that are usual.
fn draws() -> Value {
    let crop = RandomResizedCrop { scale: [0.08, 1.0], ratio: [0.75, 4.0 / 3.0] };
    let affine =
        RandomAffine { degrees: 30.0, translate: [0.1, 0.3], scale: [0.8, 1.3], shear: 10.0 };
    let jitter = ColorJitter { brightness: 0.4, contrast: 0.3, saturation: 0.2, hue: 0.1 };
    let erasing = RandomErasing { p: 0.5, scale: [0.02, 0.33], ratio: [0.3, 3.3] };
    let each = |purpose: &str, draw: &dyn Fn(&mut Stream) -> Value| -> Vec<Value> {
        (0..DRAWS).map(|at| draw(&mut Stream::new(5, purpose, &[at]))).collect()
    };
    json!({
        "resized_crop": each("crop", &|stream| json!(crop.draw(224, stream))),
        "affine": each("affine", &|stream| {
            let Affine { angle, translation: [x, y], scale, shear } = affine.draw(224.0, stream);
            json!([angle, x, y, scale, shear])
        }),
        "color_jitter": each("jitter", &|stream| {
            let drawn = jitter.draw(stream);
            let found = |which: fn(&Jitter) -> Option<f32>| {
                drawn.iter().enumerate().find_map(|(at, one)| Some((which(one)?, at)))
            };
            let all: [fn(&Jitter) -> Option<f32>; 4] = [
                |one| if let Jitter::Brightness(value) = one { Some(*value) } else { None },
                |one| if let Jitter::Contrast(value) = one { Some(*value) } else { None },
                |one| if let Jitter::Saturation(value) = one { Some(*value) } else { None },
                |one| if let Jitter::Hue(value) = one { Some(*value) } else { None },
            ];
            let values: Vec<f64> = all
                .into_iter()
                .filter_map(found)
                .flat_map(|(value, at)| [f64::from(value), at as f64])
                .collect();
            json!(values)
        }),
        "erasing": each("erasing", &|stream| json!(erasing.draw(224, stream))),
    })
}
