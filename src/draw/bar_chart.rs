//! Horizontal bars with names, values and confidence intervals.

use super::figure::{Plot, figure, px};
use super::scale::is_drawable;
use super::{figure, shorten};
use maud::{Markup, html};

/// Height of a row and of the bar in it, in pixels.
const ROW: f64 = 24.0;
const THICKNESS: f64 = 14.0;

/// Characters of a name and of a value that are reserved room for at most, and pixels a character.
const NAME: usize = 22;
const LABEL: usize = 20;
const CHARACTER: f64 = 7.4;

/// Bars in the order given.
#[derive(Clone, Debug)]
pub(crate) struct BarChart {
    pub title: String,
    /// The meaning of a bar's length, as the accessible name: "F1 of each class".
    pub description: String,
    pub bars: Vec<Bar>,
    /// The value of a bar as wide as the chart; `None`: the largest value of all bars.
    pub max: Option<f64>,
}

/// One bar.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bar {
    pub name: String,
    /// The length, at least 0.
    pub value: f64,
    /// The ends of the interval drawn over the bar.
    pub interval: Option<[f64; 2]>,
    /// The value as text, to the right of the bar.
    pub label: String,
    /// The name, where this is empty.
    pub tooltip: String,
}

impl BarChart {
    /// The chart as HTML. Empty where there is nothing to draw.
    pub(crate) fn render(&self) -> Markup {
        let bars: Vec<&Bar> = self.bars.iter().filter(|bar| is_drawable(bar.value)).collect();
        if bars.is_empty() {
            return Markup::default();
        }
        let room = |texts: fn(&Bar) -> &str, limit: usize| {
            let longest = bars.iter().map(|bar| texts(bar).chars().count().min(limit)).max();
            longest.unwrap_or(0) as f64 * CHARACTER
        };
        let plot = Plot {
            label: &self.description,
            description: &description(&bars),
            height: ROW * bars.len() as f64,
            margins: [room(|bar| &bar.name, NAME) + 12.0, room(|bar| &bar.label, LABEL) + 10.0],
        };
        let largest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
        let max = self.max.into_iter().chain([largest]).find(|max| *max > 0.0).unwrap_or(1.0);
        let rows = html! {
            @for (index, bar) in bars.iter().enumerate() {
                (row(bar, ROW * index as f64, max))
            }
        };
        figure(&self.title, &Markup::default(), &plot.render(&rows))
    }
}

fn row(bar: &Bar, top: f64, max: f64) -> Markup {
    let width = |value: f64| {
        let share = value / max;
        figure::width(if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 })
    };
    let (y, middle) = (px(top + (ROW - THICKNESS) / 2.0), px(top + ROW / 2.0));
    let interval = bar.interval.filter(|ends| ends.iter().all(|end| is_drawable(*end)));
    let tooltip = if bar.tooltip.is_empty() { &bar.name } else { &bar.tooltip };
    html! {
        g.row {
            title { (tooltip) }
            text.name.end x="-9" y=(middle) dy=".33em" { (shorten(&bar.name, NAME)) }
            rect.track y=(y) width="100%" height=(THICKNESS) rx="2" {}
            rect.bar y=(y) width=(width(bar.value)) height=(THICKNESS) rx="2" {}
            @if let Some([low, high]) = interval {
                line.interval x1=(width(low)) x2=(width(high)) y1=(middle) y2=(middle) {}
            }
            text.value x="100%" dx="9" y=(middle) dy=".33em" { (bar.label) }
        }
    }
}

fn description(bars: &[&Bar]) -> String {
    let limit = 12;
    let mut texts: Vec<String> =
        bars.iter().take(limit).map(|bar| format!("{} {}", bar.name, bar.label)).collect();
    if bars.len() > limit {
        texts.push(format!("and {} more", bars.len() - limit));
    }
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_are_shares_of_the_maximum() {
        let bar = |name: &str, value| Bar {
            name: name.to_owned(),
            value,
            label: value.to_string(),
            ..Bar::default()
        };
        let chart = |max| BarChart {
            title: "t".to_owned(),
            description: "a".to_owned(),
            bars: vec![bar("x", 1.0), bar("<y>", 4.0)],
            max,
        };
        assert!(chart(None).render().into_string().contains(r#"width="25.00%""#));
        assert!(chart(Some(8.0)).render().into_string().contains(r#"width="50.00%""#));
        assert!(chart(None).render().into_string().contains("&lt;y&gt;"));
        assert_eq!(BarChart { bars: Vec::new(), ..chart(None) }.render().into_string(), "");
    }

    proptest! {
        #[test]
        fn any_values_are_drawn(values in prop::collection::vec(any::<[f64; 3]>(), 0..8), max in any::<Option<f64>>()) {
            let bar = |&[value, low, high]: &[f64; 3]| Bar { value, interval: Some([low, high]), ..Bar::default() };
            let bars = values.iter().map(bar).collect();
            let chart = BarChart { title: String::new(), description: String::new(), bars, max };
            let svg = chart.render().into_string();
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", svg);
        }
    }
}
