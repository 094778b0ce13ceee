//! torchvision's `RandomPerspective`: the corners move inward at random.

use crate::random::Stream;

/// The smallest divisor of a position.
const NEAREST: f64 = 1e-9;

/// From a position in the output to where it comes from, both in pixels of the output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Homography([f64; 8]);

impl Homography {
    /// Moves nothing.
    pub(super) const IDENTITY: Homography = Homography([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);

    /// a to h of ((a x + b y + c) / z, (d x + e y + f) / z) with z = g x + h y + 1.
    pub(super) fn coefficients(&self) -> [f64; 8] {
        self.0
    }

    pub(super) fn source(&self, x: f64, y: f64) -> [f64; 2] {
        let [a, b, c, d, e, f, g, h] = self.0;
        // On the horizon itself a position would be infinite.
        let depth = g * x + h * y + 1.0;
        let depth = if depth.abs() < NEAREST { NEAREST } else { depth };
        [(a * x + b * y + c) / depth, (d * x + e * y + f) / depth]
    }

    /// Moves each corner of a square by up to half of `distortion` of its side.
    pub(super) fn draw(side: f64, distortion: f64, stream: &mut Stream) -> Option<Homography> {
        Homography::draw_with_corners(side, distortion, stream).0
    }

    /// The same with where the corners move: top left, top right, bottom right, bottom left.
    pub(super) fn draw_with_corners(
        side: f64,
        distortion: f64,
        stream: &mut Stream,
    ) -> (Option<Homography>, [[f64; 2]; 4]) {
        let last = side - 1.0;
        // Whole pixels.
        let most = (distortion * (side / 2.0).floor()) as u64;
        let mut inward = || stream.below(most + 1) as f64;
        let corners = [[0.0, 0.0], [last, 0.0], [last, last], [0.0, last]];
        let moved = corners
            .map(|corner| corner.map(|at| if at == 0.0 { at + inward() } else { at - inward() }));
        (solve(moved, corners).map(Homography), moved)
    }
}

/// The coefficients that take each point of `from` to the one of `to` (Gauss and Jordan).
fn solve(from: [[f64; 2]; 4], to: [[f64; 2]; 4]) -> Option<[f64; 8]> {
    let mut rows = [[0.0; 9]; 8];
    for (index, ([x, y], [u, v])) in from.into_iter().zip(to).enumerate() {
        rows[2 * index] = [x, y, 1.0, 0.0, 0.0, 0.0, -u * x, -u * y, u];
        rows[2 * index + 1] = [0.0, 0.0, 0.0, x, y, 1.0, -v * x, -v * y, v];
    }
    for column in 0..8 {
        let largest =
            (column..8).max_by(|&a, &b| rows[a][column].abs().total_cmp(&rows[b][column].abs()))?;
        rows.swap(column, largest);
        let pivot = rows[column][column];
        if pivot.abs() < 1e-9 {
            return None;
        }
        rows[column] = rows[column].map(|value| value / pivot);
        let line = rows[column];
        for (_, row) in rows.iter_mut().enumerate().filter(|(index, _)| *index != column) {
            let factor = row[column];
            row.iter_mut().zip(line).for_each(|(value, other)| *value -= factor * other);
        }
    }
    Some(rows.map(|row| row[8]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_come_from_the_corners() {
        let moved = [[1.0, 2.0], [8.0, 1.5], [9.0, 7.0], [0.5, 9.0]];
        let corners = [[0.0, 0.0], [9.0, 0.0], [9.0, 9.0], [0.0, 9.0]];
        let homography = Homography(solve(moved, corners).unwrap());
        for ([x, y], corner) in moved.into_iter().zip(corners) {
            let found = homography.source(x, y);
            assert!((0..2).all(|axis| (found[axis] - corner[axis]).abs() < 1e-9), "{found:?}");
        }
        assert!(solve([[0.0; 2]; 4], corners).is_none());
    }
}
