//! One image: a garment in front of a background, in some light. Colors, position, size and light
//! are drawn independently of the kind of garment.

use super::backdrop::Backdrop;
use super::canvas::{Canvas, Color, blur, hsv, luma, mix, scaled};
use super::garments::{Ink, Part, garment};
use super::raster::{Mask, Point};
use super::sine::{sine, sine_cosine};
use crate::data::DataError;
use crate::random::Stream;

/// Draws a garment of a kind, as a JPEG file.
pub(super) fn draw(kind: usize, stream: &mut Stream) -> Result<Vec<u8>, DataError> {
    let (width, height) = (160 + stream.below(81) as usize, 160 + stream.below(81) as usize);
    let (cloth, background) = colors(stream);
    let pattern = Pattern::new(cloth, stream);
    let backdrop = Backdrop::new(background, [width as f32, height as f32], stream);
    let mut canvas = Canvas::painted(width, height, |x, y| backdrop.at(x, y));
    let mut parts = garment(kind, stream);
    let placement = Placement::of(&parts, [width as f32, height as f32], stream);
    for point in parts.iter_mut().flat_map(|part| part.contours.iter_mut().flatten()) {
        *point = placement.apply(*point);
    }
    lay(&mut canvas, &parts, &placement, &pattern, stream);
    light(&mut canvas, stream);
    canvas.encode(82 + stream.below(13) as u8)
}

/// A random color: mostly saturated, sometimes white, gray, black or beige.
fn any_color(stream: &mut Stream) -> Color {
    let mut of = |low: f64, high: f64| stream.between(low, high) as f32;
    let (hue, pick) = (of(0.0, 1.0), of(0.0, 1.0));
    match pick {
        pick if pick < 0.2 => hsv(hue, of(0.0, 0.08), of(0.08, 0.97)),
        pick if pick < 0.35 => hsv(0.08 + hue * 0.05, of(0.15, 0.45), of(0.35, 0.9)),
        _ => hsv(hue, of(0.25, 0.85), of(0.2, 0.95)),
    }
}

/// The colors of a garment and a background, with enough contrast between them.
fn colors(stream: &mut Stream) -> (Color, Color) {
    let cloth = any_color(stream);
    let distance = |other: Color| {
        let apart: f32 = (0..3)
            .map(|channel| (cloth[channel] - other[channel]) * (cloth[channel] - other[channel]))
            .sum();
        (luma(cloth) - luma(other)).abs() + 0.3 * apart.sqrt()
    };
    let mut best = any_color(stream);
    for _ in 0..12 {
        if distance(best) > 0.42 {
            break;
        }
        let other = mix(any_color(stream), [0.6; 3], 0.25);
        if distance(other) > distance(best) {
            best = other;
        }
    }
    (cloth, best)
}

/// The pattern of a cloth.
enum Weave {
    Plain,
    Stripes([f32; 2]),
    Checks,
    Dots,
    Fade,
}

/// The colors of a garment's cloth as a function of the position on it.
struct Pattern {
    cloth: Color,
    second: Color,
    accent: Color,
    weave: Weave,
    frequency: f32,
    folds: [[f32; 4]; 3],
}

impl Pattern {
    fn new(cloth: Color, stream: &mut Stream) -> Pattern {
        let second = mix(
            cloth,
            if luma(cloth) > 0.5 { [0.05; 3] } else { [0.95; 3] },
            stream.between(0.12, 0.4) as f32,
        );
        let accent = mix(any_color(stream), cloth, 0.35);
        let weave = match stream.below(12) {
            0 => Weave::Stripes([1.0, 0.0]),
            1 => Weave::Stripes([0.0, 1.0]),
            2 => Weave::Stripes([0.7, 0.7]),
            3 => Weave::Checks,
            4 => Weave::Dots,
            5 => Weave::Fade,
            _ => Weave::Plain,
        };
        let mut of = |low: f64, high: f64| stream.between(low, high) as f32;
        let folds =
            std::array::from_fn(|_| [of(2.0, 9.0), of(-3.0, 3.0), of(0.0, 6.3), of(0.01, 0.055)]);
        Pattern { cloth, second, accent, weave, frequency: of(7.0, 20.0), folds }
    }

    /// The color at a position in the garment's own square.
    fn at(&self, [u, v]: Point) -> Color {
        let wave = |along: f32| (sine(along * self.frequency) * 4.0).clamp(-1.0, 1.0) * 0.5 + 0.5;
        let share = match self.weave {
            Weave::Plain => 0.0,
            Weave::Stripes([a, b]) => wave(a * u + b * v),
            Weave::Checks => (wave(u) + wave(v)) * 0.5,
            Weave::Dots => {
                let bump = sine(u * self.frequency) * sine(v * self.frequency);
                ((bump - 0.45) * 6.0).clamp(0.0, 1.0)
            }
            Weave::Fade => (v * 0.5 + 0.5).clamp(0.0, 1.0),
        };
        scaled(mix(self.cloth, self.second, share), self.fold([u, v]))
    }

    /// Brighter and darker where the cloth falls in folds.
    fn fold(&self, [u, v]: Point) -> f32 {
        self.folds
            .iter()
            .fold(1.0, |sum, [a, b, phase, depth]| sum + depth * sine(a * u + b * v + phase))
    }
}

/// The transformation from a garment's square to the image: rotation, scale, translation.
struct Placement {
    rotation: [f32; 2],
    scale: [f32; 2],
    shift: Point,
}

impl Placement {
    /// A random placement in the middle square of the image, which a center crop keeps whole.
    fn of(parts: &[Part], [width, height]: Point, stream: &mut Stream) -> Placement {
        let mut of = |low: f64, high: f64| stream.between(low, high) as f32;
        let (sine, cosine) = sine_cosine(of(-22.0, 22.0).to_radians());
        let stretch = of(0.88, 1.14);
        let mut placement = Placement {
            rotation: [cosine, sine],
            scale: [stretch, 1.0 / stretch],
            shift: [0.0; 2],
        };
        let (low, high) = placement.bounds(parts);
        let extent = [high[0] - low[0], high[1] - low[1]];
        let side = width.min(height);
        let share = of(0.56, 0.9);
        let zoom = share * side / extent[0].max(extent[1]).max(1e-3);
        placement.scale = placement.scale.map(|scale| scale * zoom);
        let mut corner = |axis: usize, whole: f32| {
            let room = side - extent[axis] * zoom;
            (whole - side) / 2.0 + room * of(0.02, 0.98) - low[axis] * zoom
        };
        placement.shift = [corner(0, width), corner(1, height)];
        placement
    }

    fn bounds(&self, parts: &[Part]) -> (Point, Point) {
        let points = parts
            .iter()
            .filter(|part| !part.inside || part.ink == Ink::Cloth)
            .flat_map(|part| &part.contours);
        points.flatten().map(|&point| self.apply(point)).fold(
            ([f32::MAX; 2], [f32::MIN; 2]),
            |(low, high), point| {
                (
                    std::array::from_fn(|axis| low[axis].min(point[axis])),
                    std::array::from_fn(|axis| high[axis].max(point[axis])),
                )
            },
        )
    }

    fn apply(&self, [x, y]: Point) -> Point {
        let ([cosine, sine], [x, y]) = (self.rotation, [x * self.scale[0], y * self.scale[1]]);
        [cosine * x - sine * y + self.shift[0], sine * x + cosine * y + self.shift[1]]
    }

    fn invert(&self, [x, y]: Point) -> Point {
        let ([cosine, sine], [x, y]) = (self.rotation, [x - self.shift[0], y - self.shift[1]]);
        [(cosine * x + sine * y) / self.scale[0], (cosine * y - sine * x) / self.scale[1]]
    }
}

/// Lays shadow and garment over the background.
fn lay(
    canvas: &mut Canvas,
    parts: &[Part],
    placement: &Placement,
    pattern: &Pattern,
    stream: &mut Stream,
) {
    let (width, height) = (canvas.width, canvas.height);
    let masks: Vec<Mask> =
        parts.iter().map(|part| Mask::fill(&part.contours, width, height)).collect();
    let Some(silhouette) = masks.first() else { return };
    let soft = softened(&masks, parts, width, height);
    shadow(canvas, &soft, stream);
    let seam = scaled(pattern.cloth, 0.35);
    for (part, mask) in parts.iter().zip(&masks) {
        let mut mask = mask.clone();
        if part.inside {
            clip(&mut mask, silhouette);
        }
        canvas.lay(&mask, |x, y| {
            let position = placement.invert([x, y]);
            // Rounder towards its edges: the blurred silhouette falls off there.
            let depth = 0.72
                + 0.28
                    * soft
                        .get(y as usize * width + x as usize)
                        .copied()
                        .unwrap_or(1.0)
                        .clamp(0.0, 1.0);
            match part.ink {
                Ink::Cloth => (scaled(pattern.at(position), depth), 1.0),
                Ink::Accent => (scaled(pattern.accent, depth * pattern.fold(position)), 1.0),
                Ink::Shade(factor) => {
                    (scaled(pattern.cloth, factor * depth * pattern.fold(position)), 1.0)
                }
                Ink::Seam => (seam, 0.55),
            }
        });
    }
}

/// The silhouette with everything that juts out of it, blurred.
fn softened(masks: &[Mask], parts: &[Part], width: usize, height: usize) -> Vec<f32> {
    let mut field = vec![0f32; width * height];
    for (mask, _) in masks
        .iter()
        .zip(parts)
        .enumerate()
        .filter(|(at, (_, part))| *at == 0 || !part.inside)
        .map(|(_, both)| both)
    {
        for (row, line) in mask.coverage.chunks_exact(mask.width.max(1)).enumerate() {
            let start = (mask.top + row) * width + mask.left;
            for (value, coverage) in field[start..].iter_mut().zip(line) {
                *value = value.max(*coverage);
            }
        }
    }
    blur(&mut field, width, width.min(height) / 40);
    field
}

fn shadow(canvas: &mut Canvas, soft: &[f32], stream: &mut Stream) {
    let (width, height) = (canvas.width as isize, canvas.height as isize);
    let strength = stream.between(0.1, 0.5) as f32;
    let (dx, dy) = (stream.below(13) as isize - 6, stream.below(9) as isize - 1);
    for y in 0..height {
        for x in 0..width {
            let (from_x, from_y) = (x - dx, y - dy);
            if (0..width).contains(&from_x) && (0..height).contains(&from_y) {
                let dark =
                    1.0 - strength * soft[(from_y * width + from_x) as usize].clamp(0.0, 1.0);
                let pixel = &mut canvas.pixels[(y * width + x) as usize];
                *pixel = scaled(*pixel, dark);
            }
        }
    }
}

fn clip(mask: &mut Mask, silhouette: &Mask) {
    for row in 0..mask.height {
        for column in 0..mask.width {
            mask.coverage[row * mask.width + column] *=
                silhouette.at(mask.left + column, mask.top + row);
        }
    }
}

/// The light of the whole image: brighter to one side, warmer or cooler, darker corners, noise.
fn light(canvas: &mut Canvas, stream: &mut Stream) {
    let mut of = |low: f64, high: f64| stream.between(low, high) as f32;
    let (exposure, warmth, corners) = (of(0.78, 1.14), of(-0.07, 0.07), of(0.0, 0.22));
    let (sine, cosine) = sine_cosine(of(0.0, std::f64::consts::TAU));
    let (slope, noise) = (of(0.0, 0.32), of(0.004, 0.03));
    let tint = [1.0 + warmth, 1.0, 1.0 - warmth];
    let (width, height) = (canvas.width, canvas.height);
    for (row, line) in canvas.pixels.chunks_exact_mut(width).enumerate() {
        let y = row as f32 / height as f32 - 0.5;
        for (column, pixel) in line.iter_mut().enumerate() {
            let x = column as f32 / width as f32 - 0.5;
            let factor = exposure
                * (1.0 + slope * (x * cosine + y * sine))
                * (1.0 - corners * 2.0 * (x * x + y * y));
            *pixel = std::array::from_fn(|channel| pixel[channel] * factor * tint[channel]);
        }
    }
    canvas.add_noise(noise, stream);
}
