//! The stages of a pipeline, a row each with a bar for its time, and lines from each stage to those
//! that need it. Rows are in the order of the plan, so all lines lead downwards.

use super::figure::{Plot, figure, px, width};
use super::shorten;
use maud::{Markup, html};

/// Height of a row and of the bar in it, in pixels.
const ROW: f64 = 30.0;
const THICKNESS: f64 = 10.0;

/// Characters of a name and of a time that are reserved room for at most, and pixels a character.
const NAME: usize = 18;
const LABEL: usize = 14;
const CHARACTER: f64 = 7.4;

/// How far a line over two rows reaches to the left, how much more with each further row, and the
/// most, in pixels.
const REACH: f64 = 12.0;
const REACH_A_ROW: f64 = 7.0;
const MAX_REACH: f64 = 48.0;

/// A graph of stages.
#[derive(Clone, Debug)]
pub(crate) struct StageGraph {
    pub title: String,
    /// Each after those that it needs.
    pub stages: Vec<StageNode>,
}

/// A stage of the graph.
#[derive(Clone, Debug, Default)]
pub(crate) struct StageNode {
    pub name: String,
    /// The CSS class of its state.
    pub class: &'static str,
    /// The length of its bar.
    pub seconds: f64,
    /// The time or the state as text, to the right of the bar.
    pub label: String,
    /// Indices of the stages that it needs.
    pub needs: Vec<usize>,
}

impl StageGraph {
    /// The graph as HTML. Empty without stages.
    pub(crate) fn render(&self) -> Markup {
        if self.stages.is_empty() {
            return Markup::default();
        }
        let room = |text: fn(&StageNode) -> &str, limit: usize| {
            let longest = self.stages.iter().map(|stage| text(stage).chars().count().min(limit));
            longest.max().unwrap_or(0) as f64 * CHARACTER
        };
        let names = room(|stage| &stage.name, NAME);
        let reach = self.edges().map(|(from, to)| reach(from, to)).fold(0.0, f64::max);
        // Stages are dots to the left of their names.
        let dots = -(names + 24.0);
        let plot = Plot {
            label: &self.title,
            description: &self.description(),
            height: ROW * self.stages.len() as f64,
            margins: [reach + 8.0 - dots, room(|stage| &stage.label, LABEL) + 10.0],
        };
        let content = html! {
            @for (from, to) in self.edges() { (edge(dots, from, to)) }
            @for (index, stage) in self.stages.iter().enumerate() {
                (self.row(stage, dots, ROW * (index as f64 + 0.5)))
            }
        };
        figure(&self.title, &Markup::default(), &plot.render(&content))
    }

    /// (needed stage, stage), in the order of rows.
    fn edges(&self) -> impl Iterator<Item = (usize, usize)> {
        let needs = |(to, stage): (usize, &StageNode)| {
            let earlier = stage.needs.iter().filter(move |from| **from < to);
            earlier.map(move |from| (*from, to)).collect::<Vec<_>>()
        };
        self.stages.iter().enumerate().flat_map(needs)
    }

    fn row(&self, stage: &StageNode, dots: f64, y: f64) -> Markup {
        let longest = self.stages.iter().map(|stage| stage.seconds).fold(0.0, f64::max);
        let share = stage.seconds / longest;
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        let bar = px(y - THICKNESS / 2.0);
        html! {
            g.row {
                title { (stage.name) ": " (stage.label) }
                circle.node.(stage.class) cx=(px(dots)) cy=(px(y)) r="5" {}
                text.name x=(px(dots + 14.0)) y=(px(y)) dy=".33em" { (shorten(&stage.name, NAME)) }
                rect.track y=(bar) width="100%" height=(THICKNESS) rx="2" {}
                rect.bar y=(bar) width=(width(share)) height=(THICKNESS) rx="2" {}
                text.value x="100%" dx="9" y=(px(y)) dy=".33em" { (stage.label) }
            }
        }
    }

    fn description(&self) -> String {
        let of = |stage: &StageNode| {
            let needs: Vec<&str> = stage
                .needs
                .iter()
                .filter_map(|index| Some(self.stages.get(*index)?.name.as_str()))
                .collect();
            let needs = match needs.is_empty() {
                true => String::new(),
                false => format!(", needs {}", needs.join(" and ")),
            };
            format!("{}: {}{needs}", stage.name, stage.label)
        };
        self.stages.iter().map(of).collect::<Vec<_>>().join("; ")
    }
}

fn reach(from: usize, to: usize) -> f64 {
    match to.saturating_sub(from) {
        0 | 1 => 0.0,
        rows => (REACH + REACH_A_ROW * rows as f64).min(MAX_REACH),
    }
}

/// A straight line to the next row, a curve around the rows between to a further one.
fn edge(x: f64, from: usize, to: usize) -> Markup {
    let [start, end] = [from, to].map(|row| ROW * (row as f64 + 0.5));
    // Curves reach three quarters of the way to their control points.
    let far = x - reach(from, to) / 0.75;
    let (path, tip) = if to == from + 1 {
        (format!("M{x:.1} {start:.1}V{end:.1}"), format!("M{x:.1} {:.1}l-3.5 -6h7z", end - 7.0))
    } else {
        (
            format!("M{x:.1} {start:.1}C{far:.1} {start:.1} {far:.1} {end:.1} {x:.1} {end:.1}"),
            format!("M{:.1} {end:.1}l-6 -3.5v7z", x - 6.0),
        )
    };
    html! {
        path.edge d=(path) {}
        path.tip d=(tip) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stage(name: &str, seconds: f64, needs: &[usize]) -> StageNode {
        let (name, label) = (name.to_owned(), format!("{seconds} s"));
        StageNode { name, class: "ran", seconds, label, needs: needs.to_vec() }
    }

    fn render(stages: Vec<StageNode>) -> String {
        StageGraph { title: "Stages".to_owned(), stages }.render().into_string()
    }

    #[test]
    fn every_need_is_a_line_and_the_longest_bar_is_full() {
        let stages = vec![
            stage("fetch", 1.0, &[]),
            stage("<prepare>", 2.0, &[0]),
            stage("train", 4.0, &[1]),
            stage("evaluate", 0.0, &[1, 2]),
        ];
        let svg = render(stages);
        assert_eq!(svg.matches(r#"class="edge""#).count(), 4, "{svg}");
        for part in [
            "&lt;prepare&gt;",
            r#"width="100.00%""#,
            "evaluate: 0 s, needs &lt;prepare&gt; and train",
        ] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert_eq!(render(Vec::new()), "");
    }

    proptest! {
        #[test]
        fn any_graph_is_drawn(stages in prop::collection::vec((any::<f64>(), prop::collection::vec(0usize..9, 0..4)), 0..8)) {
            let stages = stages.iter().map(|(seconds, needs)| StageNode { label: String::new(), ..stage("a", *seconds, needs) });
            let svg = render(stages.collect());
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", svg);
        }
    }
}
