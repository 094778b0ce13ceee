//! Horizontal bars with names, values and intervals.

use super::scale::drawable;
use super::{escape, shorten};
use std::fmt::Write;

/// Height of a row and of the bar in it, in pixels.
const ROW: f64 = 24.0;
const THICK: f64 = 14.0;

/// Room for a name: characters of it, and pixels a character.
const NAME: usize = 22;
const LETTER: f64 = 7.4;

/// Bars, drawn in the order given.
#[derive(Clone, Debug)]
pub struct Bars {
    /// The heading.
    pub title: String,
    /// What a bar's length says, for those who don't see it: "F1 of each class".
    pub about: String,
    /// The bars.
    pub bars: Vec<Bar>,
    /// The value of a bar as long as the chart is wide; the largest of all bars where it is `None`.
    pub full: Option<f64>,
}

/// What a bar stands for, besides its length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing in particular.
    #[default]
    Plain,
    /// Paler: resting on little.
    Faint,
}

/// One bar.
#[derive(Clone, Debug, Default)]
pub struct Bar {
    /// Its name.
    pub name: String,
    /// Its length, not below 0.
    pub value: f64,
    /// The ends of the interval drawn over it.
    pub interval: Option<[f64; 2]>,
    /// The value as it is written at the right.
    pub text: String,
    /// What hovering tells.
    pub hover: String,
    /// How it is shown.
    pub tone: Tone,
}

impl Bars {
    /// The chart as HTML. Empty where there is nothing to draw.
    pub fn draw(&self) -> String {
        let bars: Vec<&Bar> = self.bars.iter().filter(|bar| drawable(bar.value)).collect();
        if bars.is_empty() {
            return String::new();
        }
        let width = |texts: &dyn Fn(&Bar) -> usize, most: usize| {
            bars.iter().map(|bar| texts(bar).min(most)).max()
        };
        let left = width(&|bar| bar.name.chars().count(), NAME).unwrap_or(0) as f64 * LETTER + 12.0;
        let right = width(&|bar| bar.text.chars().count(), 20).unwrap_or(0) as f64 * LETTER + 10.0;
        let largest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
        let full = self.full.filter(|full| *full > 0.0).unwrap_or(if largest > 0.0 {
            largest
        } else {
            1.0
        });
        let mut svg = format!(
            r#"<figure class="chart"><figcaption><b>{}</b></figcaption><svg class="plot" role="img" aria-label="{}" height="{:.0}" style="--left:{left:.0}px;--right:{right:.0}px"><desc>{}</desc>"#,
            escape(&self.title),
            escape(&self.about),
            ROW * bars.len() as f64,
            escape(&description(&bars)),
        );
        for (index, bar) in bars.iter().enumerate() {
            draw(&mut svg, bar, ROW * index as f64, full);
        }
        svg.push_str("</svg></figure>");
        svg
    }
}

fn draw(svg: &mut String, bar: &Bar, top: f64, full: f64) {
    let percent = |value: f64| {
        let share = value / full;
        100.0 * if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    };
    let (y, middle) = (top + (ROW - THICK) / 2.0, top + ROW / 2.0);
    let tone = if bar.tone == Tone::Faint { " faint" } else { "" };
    let _ = write!(
        svg,
        r#"<g class="row"><title>{}</title><text class="name end" x="-9" y="{middle:.1}" dy=".33em">{}</text><rect class="track" y="{y:.1}" width="100%" height="{THICK:.0}" rx="2"/><rect class="bar{tone}" y="{y:.1}" width="{:.2}%" height="{THICK:.0}" rx="2"/>"#,
        escape(if bar.hover.is_empty() { &bar.name } else { &bar.hover }),
        escape(&shorten(&bar.name, NAME)),
        percent(bar.value),
    );
    if let Some([low, high]) = bar.interval.filter(|ends| ends.iter().all(|end| drawable(*end))) {
        let (low, high) = (percent(low), percent(high));
        let _ = write!(
            svg,
            r#"<line class="interval" x1="{low:.2}%" x2="{high:.2}%" y1="{middle:.1}" y2="{middle:.1}"/>"#
        );
    }
    let _ = write!(
        svg,
        r#"<text class="value" x="100%" dx="9" y="{middle:.1}" dy=".33em">{}</text></g>"#,
        escape(&bar.text)
    );
}

fn description(bars: &[&Bar]) -> String {
    let most = 12;
    let mut texts: Vec<String> =
        bars.iter().take(most).map(|bar| format!("{} {}", bar.name, bar.text)).collect();
    if bars.len() > most {
        texts.push(format!("and {} more", bars.len() - most));
    }
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_are_shares_of_the_full_one() {
        let bar = |name: &str, value| Bar {
            name: name.to_owned(),
            value,
            text: value.to_string(),
            ..Bar::default()
        };
        let bars = |full| Bars {
            title: "t".to_owned(),
            about: "a".to_owned(),
            bars: vec![bar("x", 1.0), bar("<y>", 4.0)],
            full,
        };
        assert!(bars(None).draw().contains(r#"width="25.00%""#));
        assert!(bars(Some(8.0)).draw().contains(r#"width="50.00%""#));
        assert!(bars(None).draw().contains("&lt;y&gt;"));
        assert_eq!(Bars { bars: Vec::new(), ..bars(None) }.draw(), "");
    }

    proptest! {
        #[test]
        fn any_numbers_draw(values in prop::collection::vec(any::<[f64; 3]>(), 0..8), full in any::<Option<f64>>()) {
            let bar = |&[value, low, high]: &[f64; 3]| Bar { value, interval: Some([low, high]), ..Bar::default() };
            let bars = values.iter().map(bar).collect();
            let svg = Bars { title: String::new(), about: String::new(), bars, full }.draw();
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", svg);
        }
    }
}
