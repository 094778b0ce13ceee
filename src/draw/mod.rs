//! Charts as SVG, and the escaping that everything shown needs. A leaf: knows shapes, scales and names, not what they
//! mean.
//!
//! Charts are fluid: widths are percentages and letters keep their size, so that one chart serves a phone and a wide
//! screen without a script. What can be hovered has a `<title>`. Colors are CSS variables ([`STYLE`]) for light and
//! dark; the palette can be told apart by color-blind readers, and what must not be confused differs in more than
//! color. Output is stable: fixed decimals, no ids, no hash order. Numbers that aren't finite are left out.

mod bars;
mod histogram;
mod interval;
mod lines;
mod matrix;
mod scale;
mod text;

pub use bars::{Bar, Bars, Tone};
pub use histogram::{Bin, Histogram};
pub use interval::Interval;
pub use lines::{Lines, Mark, Series};
pub use matrix::Matrix;
pub use scale::{Scale, Unit};
pub use text::{escape, percent, shorten};

/// The style sheet that charts need: variables for light and dark, and the classes that charts use.
pub const STYLE: &str = include_str!("style.css");

/// How many colors of the palette there are; a series' color is taken modulo this.
pub const COLORS: usize = 6;
