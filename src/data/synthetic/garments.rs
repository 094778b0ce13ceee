//! The shapes of each kind of garment: a silhouette and details in random proportions, upright in
//! the square from -1 to 1.

use super::raster::{Outline, Point, ellipse, rectangle, stroke};
use super::sine::sine;
use crate::random::Stream;

/// Names of the kinds; a kind is its index here.
pub const KINDS: [&str; 10] =
    ["t-shirt", "trousers", "skirt", "dress", "coat", "shoe", "bag", "hat", "sock", "tie"];

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ink {
    /// The garment's cloth, with its pattern.
    Cloth,
    /// The second color.
    Accent,
    /// The cloth's plain color, darker or brighter by a factor.
    Shade(f32),
    /// A seam: a thin dark line, half transparent.
    Seam,
}

/// A part of a garment. The first is the silhouette, within which the others stay where `inside`
/// says so.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Closed outlines, filled by the non-zero rule.
    pub contours: Vec<Vec<Point>>,
    pub ink: Ink,
    /// Whether it is cut off at the silhouette.
    pub inside: bool,
}

fn part(ink: Ink, contours: Vec<Vec<Point>>) -> Part {
    Part { contours, ink, inside: true }
}

fn seam(points: &[Point]) -> Part {
    part(Ink::Seam, stroke(points, 0.022))
}

fn both_sides(points: &[Point]) -> [Vec<Point>; 2] {
    [points.to_vec(), points.iter().map(|&[x, y]| [-x, y]).collect()]
}

/// Draws proportions from a stream, in single precision.
struct Cut<'a>(&'a mut Stream);

impl Cut<'_> {
    fn of(&mut self, low: f32, high: f32) -> f32 {
        self.0.between(f64::from(low), f64::from(high)) as f32
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.0.chance(probability)
    }
}

/// A garment of a kind with random proportions.
pub(super) fn garment(kind: usize, stream: &mut Stream) -> Vec<Part> {
    let mut cut = Cut(stream);
    let mut parts = match kind {
        0 => t_shirt(&mut cut),
        1 => trousers(&mut cut),
        2 => skirt(&mut cut),
        3 => dress(&mut cut),
        4 => coat(&mut cut),
        5 => shoe(&mut cut),
        6 => bag(&mut cut),
        7 => hat(&mut cut),
        8 => sock(&mut cut),
        _ => tie(&mut cut),
    };
    bend(&mut parts, &mut cut);
    parts
}

/// Bends the garment a little, and mirrors it with probability 0.5.
fn bend(parts: &mut [Part], cut: &mut Cut) {
    let sway = [cut.of(-0.035, 0.035), cut.of(-0.035, 0.035)];
    let phase = [cut.of(0.0, 6.3), cut.of(0.0, 6.3)];
    let (lean, side) = (cut.of(-0.07, 0.07), if cut.chance(0.5) { -1.0 } else { 1.0 });
    for point in parts.iter_mut().flat_map(|part| part.contours.iter_mut().flatten()) {
        let [x, y] = [point[0] * side, point[1]];
        point[0] = x + lean * y + sway[0] * sine(2.6 * y + phase[0]);
        point[1] = y + sway[1] * sine(2.6 * x + phase[1]);
    }
}

fn t_shirt(cut: &mut Cut) -> Vec<Part> {
    let (neck, body, hem) = (cut.of(0.17, 0.27), cut.of(0.46, 0.62), cut.of(0.62, 0.92));
    let (shoulder, reach, drop) =
        (body + cut.of(0.06, 0.12), cut.of(0.88, 1.06), cut.of(-0.28, -0.1));
    let pointed = cut.chance(0.35);
    let depth = if pointed { cut.of(-0.5, -0.36) } else { cut.of(-0.7, -0.58) };
    let control = if pointed { [neck * 0.5, (depth - 0.8) / 2.0] } else { [neck, depth] };
    let neckline = Outline::from(0.0, depth).curve(control, [neck, -0.8]);
    let thickness = cut.of(0.2, 0.3);
    let outline = neckline
        .clone()
        .line(shoulder, -0.7)
        .curve([shoulder + 0.12, -0.62], [reach, drop - thickness * 0.4])
        .line(reach - thickness * 0.75, drop + thickness * 0.45)
        .line(body, -0.26)
        .curve([body - cut.of(-0.04, 0.08), 0.2], [body + cut.of(-0.03, 0.08), hem])
        .curve([body * 0.5, hem + 0.05], [0.0, hem + 0.04]);
    let mut parts = vec![part(Ink::Cloth, vec![outline.mirrored()])];
    let collar = if cut.chance(0.6) { Ink::Accent } else { Ink::Shade(0.8) };
    let [right, left] = both_sides(&neckline.open());
    parts.push(part(collar, [stroke(&right, 0.07), stroke(&left, 0.07)].concat()));
    for side in both_sides(&[
        [reach, drop - thickness * 0.4],
        [reach - thickness * 0.75, drop + thickness * 0.45],
    ]) {
        parts.push(part(Ink::Shade(0.82), stroke(&side, 0.05)));
    }
    for side in both_sides(&[[shoulder, -0.7], [body, -0.26]]) {
        parts.push(seam(&side));
    }
    parts.push(seam(&[[-1.0, hem - 0.05], [1.0, hem - 0.05]]));
    match cut.0.below(5) {
        0 => parts.push(part(
            Ink::Accent,
            vec![ellipse([0.0, -0.05], [cut.of(0.12, 0.2), cut.of(0.12, 0.2)])],
        )),
        1 => {
            parts.push(part(Ink::Accent, vec![rectangle([-1.0, -0.12], [1.0, cut.of(0.02, 0.14)])]))
        }
        2 => parts.push(part(Ink::Shade(0.85), vec![rectangle([0.12, -0.3], [0.36, -0.04])])),
        _ => {}
    }
    parts
}

fn trousers(cut: &mut Cut) -> Vec<Part> {
    let (waist, hip) = (cut.of(0.3, 0.4), cut.of(0.42, 0.52));
    let (ankle, width, length) = (cut.of(0.4, 0.66), cut.of(0.2, 0.34), cut.of(0.86, 0.98));
    let inner = (ankle - width).max(0.12);
    let crotch = cut.of(-0.34, -0.2);
    let outline = Outline::from(0.0, -0.95)
        .line(waist, -0.95)
        .curve([hip, -0.75], [hip, -0.45])
        .curve([(hip + ankle) / 2.0 + cut.of(-0.06, 0.02), 0.25], [ankle, length])
        .line(inner, length + 0.01)
        .curve([cut.of(0.06, 0.12), 0.2], [0.02, crotch])
        .line(0.0, crotch - 0.02);
    let mut parts = vec![part(Ink::Cloth, vec![outline.mirrored()])];
    let band = if cut.chance(0.4) { Ink::Accent } else { Ink::Shade(0.78) };
    parts.push(part(band, vec![rectangle([-1.0, -1.1], [1.0, -0.95 + cut.of(0.08, 0.13)])]));
    parts.push(seam(&[[0.0, -0.9], [0.0, crotch]]));
    for side in both_sides(&[[waist * 0.6, -0.86], [hip, -0.62]]) {
        parts.push(seam(&side));
    }
    if cut.chance(0.4) {
        for side in both_sides(&[[(hip + waist) / 2.2, -0.5], [(ankle + inner) / 2.0, 1.0]]) {
            parts.push(seam(&side));
        }
    }
    if cut.chance(0.3) {
        parts.push(part(Ink::Shade(1.2), vec![rectangle([-1.0, length - 0.09], [1.0, 1.1])]));
    }
    parts
}

fn skirt(cut: &mut Cut) -> Vec<Part> {
    let (waist, hem, length) = (cut.of(0.28, 0.4), cut.of(0.68, 1.0), cut.of(0.45, 0.75));
    let outline = Outline::from(0.0, -0.6)
        .line(waist, -0.6)
        .curve([waist + (hem - waist) * cut.of(0.3, 0.65), cut.of(-0.45, -0.1)], [hem, length])
        .curve([hem * 0.5, length + cut.of(0.08, 0.16)], [0.0, length + cut.of(0.06, 0.12)]);
    let mut parts = vec![part(Ink::Cloth, vec![outline.mirrored()])];
    let band = if cut.chance(0.5) { Ink::Accent } else { Ink::Shade(0.75) };
    let below = -0.6 + cut.of(0.1, 0.16);
    parts.push(part(band, vec![rectangle([-1.0, -0.8], [1.0, below])]));
    if cut.chance(0.6) {
        let count = 3 + cut.0.below(4);
        for pleat in 0..count {
            let at = (pleat as f32 + 0.5) / count as f32 * 2.0 - 1.0;
            parts.push(seam(&[[at * waist, below], [at * hem, length + 0.1]]));
        }
    }
    if cut.chance(0.3) {
        parts.push(part(Ink::Accent, vec![rectangle([-1.2, length - 0.16], [1.2, length - 0.06])]));
    }
    parts
}

fn dress(cut: &mut Cut) -> Vec<Part> {
    let (strap, chest, waist) = (cut.of(0.2, 0.28), cut.of(0.3, 0.38), cut.of(0.2, 0.28));
    let (hem, length, tuck) = (cut.of(0.52, 0.8), cut.of(0.85, 0.98), cut.of(-0.22, -0.05));
    let outline = Outline::from(0.0, cut.of(-0.72, -0.56))
        .curve([strap * 0.7, -0.62], [strap - 0.06, -0.96])
        .line(strap + 0.06, -0.96)
        .curve([strap + 0.04, -0.62], [chest, -0.5])
        .curve([chest - 0.03, -0.3], [waist, tuck])
        .curve([waist + (hem - waist) * cut.of(0.35, 0.7), tuck + cut.of(0.15, 0.4)], [hem, length])
        .curve([hem * 0.5, length + 0.06], [0.0, length + 0.04]);
    let mut parts = vec![part(Ink::Cloth, vec![outline.mirrored()])];
    let belt = if cut.chance(0.6) { Ink::Accent } else { Ink::Shade(0.8) };
    let half = cut.of(0.025, 0.055);
    parts.push(part(belt, vec![rectangle([-1.0, tuck - half], [1.0, tuck + half])]));
    for at in [-0.55, -0.15, 0.25, 0.6] {
        let at: f32 = at + cut.of(-0.1, 0.1);
        parts.push(seam(&[[at * waist, tuck], [at * hem, length + 0.06]]));
    }
    parts
}

fn coat(cut: &mut Cut) -> Vec<Part> {
    let (neck, body, hem) = (cut.of(0.15, 0.22), cut.of(0.4, 0.5), cut.of(0.46, 0.64));
    let (length, cuff, drop) = (cut.of(0.86, 0.98), cut.of(0.72, 0.98), cut.of(0.3, 0.55));
    let (shoulder, thickness) = (body + cut.of(0.06, 0.12), cut.of(0.17, 0.24));
    let outline = Outline::from(0.0, -0.82)
        .line(neck, -0.92)
        .line(shoulder, -0.78)
        .curve([shoulder + 0.16, -0.5], [cuff, drop])
        .line(cuff - thickness, drop + 0.06)
        .curve([body + 0.1, -0.15], [body, -0.38])
        .curve([body - 0.03, 0.2], [hem, length])
        .line(0.0, length + 0.02);
    let mut parts = vec![part(Ink::Cloth, vec![outline.mirrored()])];
    for side in both_sides(&[
        [0.0, cut.of(-0.3, -0.05)],
        [neck + 0.12, -0.6],
        [neck + 0.02, -0.93],
        [0.03, -0.82],
    ]) {
        parts.push(part(Ink::Shade(0.74), vec![side]));
    }
    parts.push(part(Ink::Seam, stroke(&[[0.02, -0.4], [0.02, 1.1]], 0.035)));
    let ink = if cut.chance(0.5) { Ink::Accent } else { Ink::Shade(0.45) };
    for button in 0..3 {
        parts.push(part(ink, vec![ellipse([0.1, -0.02 + 0.24 * button as f32], [0.036, 0.036])]));
    }
    if cut.chance(0.35) {
        let at = cut.of(0.08, 0.2);
        parts.push(part(
            Ink::Shade(0.65),
            vec![rectangle([-body + 0.03, at], [body - 0.03, at + 0.1])],
        ));
    }
    for side in both_sides(&[[0.2, 0.38], [0.42, 0.34]]) {
        parts.push(part(Ink::Seam, stroke(&side, 0.04)));
    }
    for side in both_sides(&[[cuff + 0.05, drop - 0.1], [cuff - thickness - 0.05, drop - 0.03]]) {
        parts.push(seam(&side));
    }
    parts
}

fn shoe(cut: &mut Cut) -> Vec<Part> {
    let (collar, toe, front) = (cut.of(-0.5, -0.3), cut.of(-0.06, 0.1), cut.of(-0.3, -0.1));
    let sole = cut.of(0.1, 0.17);
    let outline = Outline::from(-0.86, collar)
        .curve([(front - 0.86) / 2.0, collar + 0.14], [front, collar - 0.03])
        .curve([front + 0.3, toe - 0.12], [0.55, toe])
        .curve([1.0, toe + 0.05], [0.98, 0.36])
        .line(-0.92, 0.36)
        .curve([-0.98, 0.0], [-0.86, collar]);
    let mut parts = vec![part(Ink::Cloth, vec![outline.open()])];
    let heel = if cut.chance(0.3) { cut.of(0.08, 0.2) } else { 0.0 };
    let base = Outline::from(-0.96, 0.3)
        .line(1.0, 0.3)
        .curve([1.08, 0.3 + sole * 0.7], [0.96, 0.32 + sole])
        .line(-0.3, 0.32 + sole)
        .line(-0.4, 0.32 + sole + heel)
        .line(-0.95, 0.32 + sole + heel)
        .curve([-1.02, 0.4], [-0.96, 0.3]);
    let ink = if cut.chance(0.6) { Ink::Accent } else { Ink::Shade(0.5) };
    parts.push(Part { contours: vec![base.open()], ink, inside: false });
    let count = if cut.chance(0.75) { 3 + cut.0.below(2) } else { 0 };
    for lace in 0..count {
        let t = (lace as f32 + 0.5) / (count as f32 + 0.5);
        let (x, y) = (front + (0.5 - front) * t, collar + 0.02 + (toe - collar) * t * 0.9);
        parts.push(part(Ink::Accent, stroke(&[[x - 0.05, y - 0.06], [x - 0.14, y + 0.16]], 0.05)));
    }
    parts.push(part(Ink::Shade(0.75), vec![ellipse([1.0, 0.34], [0.34, 0.26])]));
    if cut.chance(0.5) {
        parts.push(part(Ink::Shade(0.75), vec![rectangle([-1.1, -0.6], [-0.7, 0.34])]));
    }
    if cut.chance(0.4) {
        parts.push(part(Ink::Accent, stroke(&[[-0.45, 0.28], [-0.1, -0.08], [0.1, 0.28]], 0.07)));
    }
    parts
}

fn bag(cut: &mut Cut) -> Vec<Part> {
    let (top, bottom) = (cut.of(0.52, 0.78), cut.of(0.66, 0.92));
    let (upper, lower) = (cut.of(-0.3, -0.08), cut.of(0.66, 0.88));
    let round = cut.of(0.05, 0.22);
    let body = Outline::from(0.0, upper)
        .line(top - 0.05, upper)
        .curve([top, upper], [top, upper + 0.08])
        .line(bottom, lower - round)
        .curve([bottom, lower], [bottom - round, lower])
        .line(0.0, lower);
    let (foot, height, width) = (top * cut.of(0.45, 0.8), cut.of(-0.98, -0.8), cut.of(0.075, 0.12));
    let handle = Outline::from(-foot, upper + 0.06)
        .curve([-foot, height], [0.0, height])
        .curve([foot, height], [foot, upper + 0.06]);
    let mut parts = vec![part(Ink::Cloth, vec![body.mirrored()])];
    let ink = if cut.chance(0.5) { Ink::Accent } else { Ink::Shade(0.68) };
    parts.push(Part { contours: stroke(&handle.open(), width), ink, inside: false });
    match cut.0.below(3) {
        0 => {
            let flap = upper + (lower - upper) * cut.of(0.35, 0.55);
            let outline =
                Outline::from(0.0, upper).line(top, upper).curve([top, flap], [0.0, flap + 0.04]);
            parts.push(part(Ink::Shade(0.82), vec![outline.mirrored()]));
            parts.push(part(Ink::Accent, vec![ellipse([0.0, flap], [0.07, 0.07])]));
        }
        1 => {
            parts.push(part(
                Ink::Shade(0.8),
                vec![rectangle([-1.0, upper - 0.05], [1.0, upper + 0.1])],
            ));
            parts.push(seam(&[[-0.4, upper + 0.35], [0.4, upper + 0.35]]));
        }
        _ => {
            let half = top * 0.6;
            parts.push(part(Ink::Shade(0.85), vec![rectangle([-half, 0.25], [half, lower - 0.1])]));
            parts.push(seam(&[[-half, 0.25], [half, 0.25]]));
        }
    }
    parts
}

fn hat(cut: &mut Cut) -> Vec<Part> {
    let (base, tip, height) = (cut.of(0.46, 0.6), cut.of(0.3, 0.46), cut.of(-0.62, -0.34));
    let (brim, rise) = (cut.of(0.88, 1.02), cut.of(0.13, 0.22));
    let dent = if cut.chance(0.5) { cut.of(0.06, 0.14) } else { -0.1 };
    let crown = Outline::from(0.0, height + dent)
        .curve([tip * 0.5, height - 0.05], [tip, height + 0.02])
        .curve([base, height + 0.1], [base, 0.34])
        .line(0.0, 0.36);
    let edge = ellipse([0.0, 0.34], [brim, rise]);
    let droop: Vec<Point> = {
        let amount = cut.of(-0.12, 0.12);
        edge.into_iter().map(|[x, y]| [x, y + amount * x * x]).collect()
    };
    let mut parts = vec![part(Ink::Cloth, vec![droop.clone(), crown.clone().mirrored()])];
    parts.push(part(Ink::Shade(0.8), vec![droop]));
    parts.push(part(Ink::Cloth, vec![crown.mirrored()]));
    let (lower, upper) = (0.27, 0.27 - cut.of(0.12, 0.24));
    let band = Outline::from(-base, lower)
        .curve([0.0, lower + 0.14], [base, lower])
        .line(base, upper)
        .curve([0.0, upper + 0.14], [-base, upper]);
    let ink = if cut.chance(0.75) { Ink::Accent } else { Ink::Shade(0.6) };
    parts.push(part(ink, vec![band.open()]));
    parts
}

fn sock(cut: &mut Cut) -> Vec<Part> {
    let (back, front) = (cut.of(-0.5, -0.4), cut.of(0.04, 0.18));
    let (top, toe, height) = (cut.of(-0.98, -0.7), cut.of(0.72, 0.95), cut.of(0.42, 0.52));
    let outline = Outline::from(back, top)
        .line(front, top)
        .curve([front - 0.06, -0.2], [front + 0.02, 0.16])
        .curve([front + 0.12, height - 0.06], [toe - 0.2, height])
        .curve([toe + 0.08, height + 0.08], [toe, 0.74])
        .curve([toe - 0.08, 0.92], [toe - 0.35, 0.9])
        .line(back + 0.2, 0.92)
        .curve([back - 0.16, 0.9], [back - 0.08, 0.5])
        .curve([back + 0.06, 0.1], [back, top]);
    let mut parts = vec![part(Ink::Cloth, vec![outline.open()])];
    let ink = if cut.chance(0.65) { Ink::Accent } else { Ink::Shade(0.72) };
    parts.push(part(ink, vec![ellipse([toe + 0.02, 0.7], [0.26, 0.34])]));
    parts.push(part(ink, vec![ellipse([back - 0.02, 0.84], [0.24, 0.28])]));
    parts.push(part(ink, vec![rectangle([-1.0, top - 0.1], [1.0, top + cut.of(0.14, 0.24)])]));
    if cut.chance(0.4) {
        for stripe in 0..2 {
            let at = top + 0.36 + 0.16 * stripe as f32;
            parts.push(part(Ink::Accent, vec![rectangle([-1.0, at], [1.0, at + 0.07])]));
        }
    }
    parts
}

fn tie(cut: &mut Cut) -> Vec<Part> {
    let (knot, neck, blade) = (cut.of(0.13, 0.18), cut.of(0.075, 0.11), cut.of(0.2, 0.3));
    let (under, wide) = (cut.of(-0.74, -0.66), cut.of(0.6, 0.74));
    let outline = Outline::from(0.0, -0.96)
        .line(knot, -0.95)
        .curve([knot + 0.02, -0.86], [neck, under])
        .line(neck + 0.015, under)
        .curve([blade * 0.7, 0.1], [blade, wide])
        .line(0.0, 0.98);
    let mut parts = vec![part(Ink::Cloth, vec![outline.mirrored()])];
    parts.push(part(Ink::Shade(0.82), vec![rectangle([-0.4, -1.1], [0.4, under])]));
    parts.push(seam(&[[-0.3, under], [0.3, under]]));
    if cut.chance(0.7) {
        let count = 3 + cut.0.below(4);
        let slant = cut.of(0.15, 0.4);
        for stripe in 0..count {
            let at = under + (stripe as f32 + 0.6) / count as f32 * 1.6;
            parts.push(part(
                Ink::Accent,
                stroke(&[[-0.5, at + slant], [0.5, at - slant]], cut.of(0.06, 0.12)),
            ));
        }
    }
    parts
}
