//! Charts as inline SVG, and a confusion matrix as a table. A leaf: it knows shapes, scales and labels, not the meaning of the values.
//!
//! Charts are fluid: widths are percentages and text keeps its size, so one chart serves a phone
//! and a wide screen without a script. Elements that can be hovered have a `<title>`. Colors are
//! CSS variables ([`STYLE`]) for light and dark mode; the palette is safe for color-blind readers,
//! and whatever must not be confused differs in more than color. Output is deterministic: fixed
//! decimals, no ids, no hash order. Values that aren't finite are left out, and a chart without any
//! value renders as an empty string.

mod bar_chart;
mod confusion_matrix;
mod figure;
mod histogram;
mod interval;
mod line_chart;
mod scale;
mod stage_graph;
mod text;
mod whisker;

pub(crate) use bar_chart::{Bar, BarChart};
pub(crate) use confusion_matrix::ConfusionMatrix;
pub(crate) use histogram::{Bin, Histogram};
pub(crate) use interval::Interval;
pub(crate) use line_chart::{Axes, LineChart, Marker, Series};
pub(crate) use scale::{Scale, Unit};
pub(crate) use stage_graph::{StageGraph, StageNode};
pub(crate) use text::{percent, shorten};
pub(crate) use whisker::whisker;

/// The style sheet that charts need: variables for light and dark mode, and the classes that charts
/// use.
pub(crate) const STYLE: &str = include_str!("style.css");

/// The number of colors in the palette; a series' color is taken modulo this.
pub(crate) const COLORS: usize = 6;
