//! The background of an image: a surface (wall and floor, boards, tiles, cloth, stripes) with a few
//! blurred objects, uneven light and texture. Independent of the garment in front of it.

use super::canvas::{Color, mix, scaled};
use super::sine::{sine, sine_cosine};
use crate::random::Stream;

/// A smooth random field: values on a lattice, blended between.
struct Lattice {
    side: usize,
    values: Vec<f32>,
    cell: f32,
}

impl Lattice {
    /// Cells of `cell` pixels over an image whose longer side has `longest`.
    fn new(cell: f32, longest: f32, stream: &mut Stream) -> Lattice {
        let side = (longest / cell) as usize + 3;
        let values = (0..side * side).map(|_| stream.between(-1.0, 1.0) as f32).collect();
        Lattice { side, values, cell }
    }

    fn at(&self, x: f32, y: f32) -> f32 {
        let (x, y) = ((x / self.cell).max(0.0), (y / self.cell).max(0.0));
        let (column, row) = ((x as usize).min(self.side - 2), (y as usize).min(self.side - 2));
        let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
        let (fx, fy) = (smooth((x - column as f32).min(1.0)), smooth((y - row as f32).min(1.0)));
        let value = |column: usize, row: usize| self.values[row * self.side + column];
        let upper = value(column, row) + (value(column + 1, row) - value(column, row)) * fx;
        let lower =
            value(column, row + 1) + (value(column + 1, row + 1) - value(column, row + 1)) * fx;
        upper + (lower - upper) * fy
    }
}

/// The kinds of surface.
enum Surface {
    Plain,
    /// A wall above a floor, which begins at this height.
    Room(f32),
    /// Boards across a direction, this wide, with grain along them.
    Boards {
        across: [f32; 2],
        width: f32,
    },
    /// Square tiles of this side.
    Tiles(f32),
    /// Threads of this distance both ways.
    Cloth(f32),
    /// Broad soft stripes across a direction, this wide.
    Stripes {
        across: [f32; 2],
        width: f32,
    },
}

/// A background as a function of the position.
pub(super) struct Backdrop {
    colors: [Color; 2],
    surface: Surface,
    slope: [f32; 2],
    coarse: Lattice,
    fine: Lattice,
    amount: f32,
    contrast: f32,
    blobs: Vec<([f32; 2], f32, Color)>,
    size: [f32; 2],
}

impl Backdrop {
    /// A background around a color for an image of `size` pixels.
    pub(super) fn new(color: Color, size: [f32; 2], stream: &mut Stream) -> Backdrop {
        let mut of = |low: f64, high: f64| stream.between(low, high) as f32;
        let longest = size[0].max(size[1]);
        let angle = of(0.0, std::f64::consts::TAU);
        let (sine, cosine) = sine_cosine(angle);
        let width = of(14.0, 44.0);
        let tint = [of(-0.06, 0.06), of(-0.06, 0.06), of(-0.06, 0.06)];
        let second = mix(color, [of(0.2, 0.9), of(0.2, 0.9), of(0.2, 0.9)], of(0.05, 0.2));
        let second: Color = std::array::from_fn(|channel| second[channel] + tint[channel]);
        let (horizon, slope) = (of(0.55, 0.85) * size[1], of(0.0, 0.18));
        let (amount, contrast) = (of(0.0, 0.09), of(0.03, 0.1));
        let surface = match stream.below(8) {
            0 | 1 => Surface::Room(horizon),
            2 => Surface::Boards { across: [cosine, sine], width },
            3 => Surface::Tiles(width),
            4 => Surface::Cloth(width / 6.0),
            5 => Surface::Stripes { across: [cosine, sine], width },
            _ => Surface::Plain,
        };
        let blobs = (0..stream.below(4))
            .map(|_| {
                let mut of = |low: f64, high: f64| stream.between(low, high) as f32;
                let position = [of(0.0, 1.0) * size[0], of(0.0, 1.0) * size[1]];
                (
                    position,
                    of(0.06, 0.2) * longest,
                    mix(color, [of(0.0, 1.0), of(0.0, 1.0), of(0.0, 1.0)], 0.25),
                )
            })
            .collect();
        Backdrop {
            colors: [color, second],
            surface,
            slope: [slope * cosine, slope * sine],
            coarse: Lattice::new(longest / 3.0, longest, stream),
            fine: Lattice::new(longest / 24.0, longest, stream),
            amount,
            contrast,
            blobs,
            size,
        }
    }

    /// The color at a position in pixels.
    pub(super) fn at(&self, x: f32, y: f32) -> Color {
        let [first, second] = self.colors;
        let joint = |distance: f32| (1.0 - distance.abs()).clamp(0.0, 1.0) * self.contrast * 2.0;
        let (base, dark) = match self.surface {
            Surface::Plain => (first, 0.0),
            Surface::Room(horizon) => {
                let share = ((y - horizon) / 3.0).clamp(0.0, 1.0);
                (mix(first, scaled(second, 0.86), share), joint((y - horizon) / 2.0))
            }
            Surface::Boards { across, width } => {
                let along = (x * across[0] + y * across[1]) / width + 100.0;
                let tone = (sine(along.floor() * 12.9898) * 43_758.547).fract();
                (scaled(first, 1.0 + tone * self.contrast), joint(along.fract() * width))
            }
            Surface::Tiles(side) => {
                let edge = |at: f32| (at / side).fract() * side;
                (first, joint(edge(x).min(edge(y))))
            }
            Surface::Cloth(thread) => {
                let wave = sine(x / thread * 3.0) * sine(y / thread * 3.0);
                (first, wave * self.contrast * 0.6)
            }
            Surface::Stripes { across, width } => {
                let along = (x * across[0] + y * across[1]) / width;
                (mix(first, second, 0.5 + 0.5 * sine(along * 3.0)), 0.0)
            }
        };
        let mut color = base;
        for ([bx, by], radius, tint) in &self.blobs {
            let near = 1.0 - ((x - bx) * (x - bx) + (y - by) * (y - by)) / (radius * radius);
            if near > 0.0 {
                color = mix(color, *tint, (near * 1.5).min(1.0));
            }
        }
        let rough = self.coarse.at(x, y) * self.amount + self.fine.at(x, y) * self.amount * 0.5;
        let lit =
            self.slope[0] * (x / self.size[0] - 0.5) + self.slope[1] * (y / self.size[1] - 0.5);
        scaled(color, (1.0 + rough + lit) * (1.0 - dark))
    }
}
