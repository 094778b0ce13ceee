//! The images of the cells of a confusion matrix. Each cell is a panel that is shown while the
//! page's address ends in its name, so that a link opens it: no script is needed, and the browser
//! moves keyboard and screen reader to it.

use super::gallery::{figure, shown, thumbnails};
use super::html;
use super::scored::{Cell, Scored};
use super::stored::StoredImages;
use super::thumbnail::Size;
use crate::metrics::Prediction;
use maud::{Markup, html};
use std::collections::BTreeMap;

/// Images of one cell, of errors and of hits, and of all cells of a page, which its evaluations
/// share: what a browser loads in a moment.
const MAX_ERRORS: usize = 12;
const MAX_HITS: usize = 6;
const MAX_IMAGES: usize = 900;

/// The images that are shown, by cell.
pub(super) struct Cells<'a> {
    /// Distinguishes the evaluations of a page.
    index: usize,
    classes: &'a [String],
    /// Those that are shown of each cell with their images, and the number of all.
    shown: BTreeMap<Cell, (Vec<Shown<'a>>, usize)>,
}

struct Shown<'a> {
    row: &'a Prediction,
    uri: Option<String>,
}

impl<'a> Cells<'a> {
    /// Those of the cells `wanted` of an evaluation, which is given as its index and their number on
    /// the page; the most important cells first. Where there are too many images,
    /// each cell gets its first before any gets its second.
    pub(super) fn new(
        (index, evaluations): (usize, usize),
        classes: &'a [String],
        scored: &'a Scored,
        images: Option<&StoredImages>,
        wanted: &[Cell],
    ) -> Cells<'a> {
        let by_cell = scored.by_cell(classes);
        let chosen = chosen(&by_cell, wanted, MAX_IMAGES / evaluations.max(1));
        let rows: Vec<&Prediction> = chosen.values().flatten().copied().collect();
        let mut uris = thumbnails(&rows, images, Size::Small).into_iter();
        let shown = chosen.into_iter().map(|(cell, rows)| {
            let count = by_cell.get(&cell).map_or(0, Vec::len);
            let images = rows.into_iter().map(|row| Shown { row, uri: uris.next().flatten() });
            (cell, (images.collect::<Vec<_>>(), count))
        });
        Cells { index, classes, shown: shown.collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }

    /// The number of images that could be drawn.
    pub(super) fn drawn(&self) -> usize {
        let shown = self.shown.values().flat_map(|(images, _)| images);
        shown.filter(|image| image.uri.is_some()).count()
    }

    /// Where the images of a cell are: `#…`. None if none of them is shown.
    pub(super) fn link(&self, cell: Cell) -> Option<String> {
        self.shown.contains_key(&cell).then(|| format!("#{}", self.name(cell)))
    }

    /// The name of the whole, to which panels lead back.
    pub(super) fn home(&self) -> String {
        format!("errors-{}", self.index)
    }

    fn name(&self, (truth, prediction): Cell) -> String {
        format!("cell-{}-{truth}-{prediction}", self.index)
    }

    /// A panel for each cell. All are hidden but the one that the address names.
    pub(super) fn panels(&self) -> Markup {
        html! {
            @for (cell, (images, count)) in &self.shown { (self.panel(*cell, images, *count)) }
        }
    }

    fn panel(&self, cell: Cell, images: &[Shown], count: usize) -> Markup {
        let [truth, prediction] =
            [cell.0, cell.1].map(|class| self.classes.get(class).map_or("", String::as_str));
        let is_hit = cell.0 == cell.1;
        let order = if is_hit { "the least confident first" } else { "the most confident first" };
        let name = self.name(cell);
        html! {
            div.panel #(name) tabindex="-1" role="region" aria-labelledby=(format_args!("{name}-title")) {
                h3 #(format_args!("{name}-title")) {
                    @if is_hit { (truth) ", correctly classified" } @else { (truth) " predicted as " (prediction) }
                }
                (html::note(&format!("{}, {order}.", shown(count, images.len(), "image"))))
                .images.small {
                    @for image in images { (figure(image.row, image.uri.as_deref(), false)) }
                }
                p.back { a href=(format_args!("#{}", self.home())) { "Back to the matrix" } }
            }
        }
    }
}

/// At most `room` rows: the first of each wanted cell, then the second, and so on.
fn chosen<'a>(
    by_cell: &BTreeMap<Cell, Vec<&'a Prediction>>,
    wanted: &[Cell],
    room: usize,
) -> BTreeMap<Cell, Vec<&'a Prediction>> {
    let rank = |rank: usize| {
        let has_room =
            move |cell: &&Cell| rank < if cell.0 == cell.1 { MAX_HITS } else { MAX_ERRORS };
        let row = move |cell: &Cell| Some((*cell, *by_cell.get(cell)?.get(rank)?));
        wanted.iter().filter(has_room).filter_map(row)
    };
    let mut chosen: BTreeMap<Cell, Vec<&Prediction>> = BTreeMap::new();
    for (cell, row) in (0..MAX_ERRORS.max(MAX_HITS)).flat_map(rank).take(room) {
        chosen.entry(cell).or_default().push(row);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_has_an_image_before_any_has_two() {
        let row = |path: &str| Prediction {
            path: path.to_owned(),
            split: "test".to_owned(),
            label: None,
            prediction: String::new(),
            probability: 0.5,
        };
        let rows: Vec<Prediction> = (0..60).map(|path| row(&path.to_string())).collect();
        let rows: Vec<&Prediction> = rows.iter().collect();
        let by_cell = BTreeMap::from([
            ((0, 0), rows[..20].to_vec()),
            ((0, 1), rows[20..40].to_vec()),
            ((1, 0), rows[40..41].to_vec()),
        ]);
        let counts = |room: usize| {
            let chosen = chosen(&by_cell, &[(0, 1), (1, 0), (0, 0), (7, 7)], room);
            [(0, 0), (0, 1), (1, 0)].map(|cell| chosen.get(&cell).map_or(0, Vec::len))
        };
        assert_eq!(counts(3), [1, 1, 1]);
        assert_eq!(counts(6), [2, 3, 1]);
        assert_eq!(counts(100), [MAX_HITS, MAX_ERRORS, 1]);
    }
}
