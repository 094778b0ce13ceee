//! Rasterizes outlines to coverage masks: curves are flattened, areas are filled by the non-zero
//! rule, exactly along x and with four samples per pixel along y.

use super::sine::sine_cosine;

/// A point, x to the right, y downwards.
pub(super) type Point = [f32; 2];

/// Samples a pixel along y.
const SAMPLES: usize = 4;
/// Pieces that a curve is cut into.
const PIECES: usize = 10;

/// A line that grows.
#[derive(Clone, Debug)]
pub(super) struct Outline(Vec<Point>);

impl Outline {
    /// Begins at a point.
    pub(super) fn from(x: f32, y: f32) -> Outline {
        Outline(vec![[x, y]])
    }

    /// Goes straight on.
    pub(super) fn line(mut self, x: f32, y: f32) -> Outline {
        self.0.push([x, y]);
        self
    }

    /// Goes on in a quadratic Bézier curve around a control point.
    pub(super) fn curve(mut self, [cx, cy]: Point, [x, y]: Point) -> Outline {
        let [x0, y0] = self.0.last().copied().unwrap_or([cx, cy]);
        for piece in 1..=PIECES {
            let t = piece as f32 / PIECES as f32;
            let (a, b, c) = ((1.0 - t) * (1.0 - t), 2.0 * t * (1.0 - t), t * t);
            self.0.push([a * x0 + b * cx + c * x, a * y0 + b * cy + c * y]);
        }
        self
    }

    /// The points so far.
    pub(super) fn open(self) -> Vec<Point> {
        self.0
    }

    /// The right half of something symmetric, from its top to its bottom, made whole.
    pub(super) fn mirrored(self) -> Vec<Point> {
        let left: Vec<Point> = self.0.iter().rev().map(|&[x, y]| [-x, y]).collect();
        self.0.into_iter().chain(left).collect()
    }
}

/// An ellipse.
pub(super) fn ellipse([x, y]: Point, [rx, ry]: Point) -> Vec<Point> {
    let step = std::f32::consts::TAU / 28.0;
    (0..28)
        .map(|index| sine_cosine(index as f32 * step))
        .map(|(sin, cos)| [x + rx * cos, y + ry * sin])
        .collect()
}

/// An upright rectangle.
pub(super) fn rectangle([left, top]: Point, [right, bottom]: Point) -> Vec<Point> {
    vec![[left, top], [right, top], [right, bottom], [left, bottom]]
}

/// A line of some width, with round joints: contours to be filled by the non-zero rule.
pub(super) fn stroke(points: &[Point], width: f32) -> Vec<Vec<Point>> {
    let half = width / 2.0;
    let mut contours = Vec::new();
    for pair in points.windows(2) {
        let [[x0, y0], [x1, y1]] = [pair[0], pair[1]];
        let length = ((x1 - x0) * (x1 - x0) + (y1 - y0) * (y1 - y0)).sqrt().max(1e-6);
        let (nx, ny) = (-(y1 - y0) / length * half, (x1 - x0) / length * half);
        contours.push(vec![
            [x0 - nx, y0 - ny],
            [x1 - nx, y1 - ny],
            [x1 + nx, y1 + ny],
            [x0 + nx, y0 + ny],
        ]);
    }
    contours.extend(points.iter().map(|&point| ellipse(point, [half, half])));
    contours
}

/// How much of each pixel is covered, in a part of an image.
#[derive(Clone, Debug, Default)]
pub(super) struct Mask {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 0 to 1, row by row.
    pub coverage: Vec<f32>,
}

impl Mask {
    /// Fills contours in an image of `width` x `height` pixels; what lies outside is cut off.
    pub(super) fn fill(contours: &[Vec<Point>], width: usize, height: usize) -> Mask {
        let points = || contours.iter().flatten();
        let least = |axis: usize| points().fold(f32::MAX, |least, point| least.min(point[axis]));
        let most = |axis: usize| points().fold(f32::MIN, |most, point| most.max(point[axis]));
        let range = |axis: usize, end: usize| {
            let from = (least(axis).floor().max(0.0) as usize).min(end);
            (from, (most(axis).ceil().max(0.0) as usize).clamp(from, end))
        };
        let ((left, right), (top, bottom)) = (range(0, width), range(1, height));
        let mut mask = Mask {
            left,
            top,
            width: right - left,
            height: bottom - top,
            coverage: vec![0.0; (right - left) * (bottom - top)],
        };
        if mask.coverage.is_empty() {
            return mask;
        }
        let mut crossings: Vec<(f32, i32)> = Vec::new();
        for (row, line) in mask.coverage.chunks_exact_mut(right - left).enumerate() {
            for sample in 0..SAMPLES {
                let y = (top + row) as f32 + (sample as f32 + 0.5) / SAMPLES as f32;
                cross(contours, y, &mut crossings);
                let mut winding = 0;
                for pair in crossings.windows(2) {
                    winding += pair[0].1;
                    if winding != 0 {
                        cover(line, pair[0].0 - left as f32, pair[1].0 - left as f32);
                    }
                }
            }
        }
        mask
    }

    /// The coverage of a pixel of the image; 0 outside.
    pub(super) fn at(&self, x: usize, y: usize) -> f32 {
        let (Some(column), Some(row)) = (x.checked_sub(self.left), y.checked_sub(self.top)) else {
            return 0.0;
        };
        if column >= self.width {
            0.0
        } else {
            self.coverage.get(row * self.width + column).copied().unwrap_or(0.0)
        }
    }
}

/// Where contours cross a horizontal line, from left to right, with the direction of each crossing.
fn cross(contours: &[Vec<Point>], y: f32, crossings: &mut Vec<(f32, i32)>) {
    crossings.clear();
    for contour in contours {
        let mut before = match contour.last() {
            Some(&last) => last,
            None => continue,
        };
        for &point in contour {
            let (low, high, direction) =
                if before[1] < point[1] { (before, point, 1) } else { (point, before, -1) };
            if low[1] <= y && y < high[1] {
                crossings.push((
                    low[0] + (high[0] - low[0]) * (y - low[1]) / (high[1] - low[1]),
                    direction,
                ));
            }
            before = point;
        }
    }
    crossings.sort_by(|a, b| a.0.total_cmp(&b.0));
}

/// Adds one sample's share of `from..to` to a row.
fn cover(line: &mut [f32], from: f32, to: f32) {
    const SHARE: f32 = 1.0 / SAMPLES as f32;
    let (from, to) = (from.clamp(0.0, line.len() as f32), to.clamp(0.0, line.len() as f32));
    if to <= from {
        return;
    }
    let (first, last) = (from as usize, (to as usize).min(line.len() - 1));
    if first >= last {
        line[first.min(last)] += (to - from) * SHARE;
        return;
    }
    line[first] += (first as f32 + 1.0 - from) * SHARE;
    for value in &mut line[first + 1..last] {
        *value += SHARE;
    }
    line[last] += (to - last as f32) * SHARE;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn area(contours: &[Vec<Point>]) -> f32 {
        Mask::fill(contours, 40, 30).coverage.iter().sum()
    }

    #[test]
    fn areas_are_those_of_the_shapes() {
        assert!((area(&[rectangle([3.25, 4.0], [10.5, 9.5])]) - 7.25 * 5.5).abs() < 1e-3);
        assert!(
            (area(&[ellipse([20.0, 15.0], [10.0, 8.0])]) - std::f32::consts::PI * 80.0).abs() < 4.0
        );
        let twice = [rectangle([3.0, 4.0], [10.0, 9.0]), rectangle([3.0, 4.0], [10.0, 9.0])];
        assert!((area(&twice) - 35.0).abs() < 1e-3);
        assert!(
            (area(&stroke(&[[5.0, 5.0], [25.0, 5.0]], 2.0)) - 40.0 - std::f32::consts::PI).abs()
                < 0.5
        );
    }

    proptest! {
        #[test]
        fn any_contour_fills_without_panic(points in proptest::collection::vec((-50f32..90.0, -50f32..90.0), 0..12)) {
            let contour: Vec<Point> = points.iter().map(|&(x, y)| [x, y]).collect();
            let mask = Mask::fill(&[contour], 40, 30);
            prop_assert!(mask.coverage.iter().all(|share| (-1e-4..=1.0001).contains(share)));
            prop_assert_eq!(mask.coverage.len(), mask.width * mask.height);
        }
    }
}
