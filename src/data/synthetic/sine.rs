//! Sine and cosine from additions and multiplications alone, so that images have the same bytes on
//! every machine, whatever its mathematical library.

use std::f64::consts::{FRAC_PI_2, TAU};

/// The sine of an angle in radians, to about 1e-7.
pub(super) fn sine(angle: f32) -> f32 {
    of_turns(f64::from(angle) / TAU)
}

/// The cosine of an angle in radians.
pub(super) fn cosine(angle: f32) -> f32 {
    of_turns((f64::from(angle) + FRAC_PI_2) / TAU)
}

/// Both.
pub(super) fn sine_cosine(angle: f32) -> (f32, f32) {
    (sine(angle), cosine(angle))
}

fn of_turns(turns: f64) -> f32 {
    let whole = (turns + if turns < 0.0 { -0.5 } else { 0.5 }) as i64 as f64;
    let part = turns - whole;
    // Within a quarter turn of zero, where the series is short: its mirror image has the same sine.
    let part = if part.abs() > 0.25 { 0.5f64.copysign(part) - part } else { part };
    let x = part * TAU;
    let s = x * x;
    let series =
        s * s * (1.0 / 120.0 - s * (1.0 / 5040.0 - s * (1.0 / 362_880.0 - s / 39_916_800.0)));
    (x * (1.0 - s / 6.0 + series)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_sine() {
        for step in -4000..4000 {
            let angle = step as f32 * 0.01;
            assert!(
                (sine(angle) - angle.sin()).abs() < 3e-6,
                "{angle}: {} {}",
                sine(angle),
                angle.sin()
            );
            assert!((cosine(angle) - angle.cos()).abs() < 3e-6, "{angle}");
        }
    }
}
