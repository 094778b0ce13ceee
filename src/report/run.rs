//! The page of one run: the result, then images, then where the errors are, then everything else.

use super::advice::advice;
use super::findings::Thumbnails;
use super::gallery::GalleryImages;
use super::headline::{self, primary_split};
use super::heat_maps::{Explain, HeatMaps};
use super::html::{self, section, with_code};
use super::scored::Scored;
use super::stored::StoredImages;
use super::{
    classes, curves, evaluation, exploration, files, gallery, leaks, provenance, stages, strip,
    training,
};
use crate::metrics::Evaluation;
use crate::runs::{Results, StageRecord, Status};
use maud::{Markup, html};

/// An evaluation with what is read once for several sections.
struct Evaluated<'a> {
    stage: &'a StageRecord,
    evaluation: Evaluation,
    /// The name of the split that is shown.
    split: String,
    scored: Scored,
    images: Option<StoredImages>,
    /// Distinguishes its sections from those of the others; empty where it is the only one.
    suffix: String,
}

impl<'a> Evaluated<'a> {
    fn all(results: &Results<'a>) -> Vec<Evaluated<'a>> {
        let evaluations = results.evaluations();
        let several = evaluations.len() > 1;
        let evaluated = |(stage, evaluation): (&'a StageRecord, Evaluation)| {
            let split =
                primary_split(&evaluation).map_or(String::new(), |(name, _)| name.to_owned());
            Evaluated {
                scored: Scored::of(results, stage, &split),
                images: StoredImages::of_inputs(results, stage),
                suffix: suffix(stage, several),
                stage,
                evaluation,
                split,
            }
        };
        evaluations.into_iter().map(evaluated).collect()
    }

    /// Most people look at images first.
    fn gallery(&self, results: &Results, index: usize, explain: Option<Explain>) -> Markup {
        let Evaluated { scored, split, suffix, .. } = self;
        let images = self.images.as_ref();
        let heat_maps = HeatMaps::of(results, self.stage, images, explain);
        let sources = GalleryImages { index, images, heat_maps };
        html! {
            (section(&format!("Most confident errors{suffix}"), &gallery::errors(scored, &sources, split)))
            (section(&format!("Least confident correct predictions{suffix}"), &gallery::correct(scored, &sources, split)))
        }
    }

    fn errors(&self, results: &Results, position: (usize, usize)) -> Markup {
        let Evaluated { stage, evaluation, scored, suffix, .. } = self;
        let errors = evaluation::errors(position, evaluation, scored, self.images.as_ref());
        html! {
            (section(&format!("Confusion matrix{suffix}"), &errors))
            (section(&format!("Classes{suffix}"), &classes::classes(evaluation)))
            (section(&format!("Curves and calibration{suffix}"), &curves::plots(results, stage)))
        }
    }
}

pub(super) fn page(results: &Results, explain: Option<Explain>) -> Markup {
    let record = results.record();
    let evaluated = Evaluated::all(results);
    let body = html! {
        (provenance::header(record))
        (provenance::failure(results))
        @for one in &evaluated {
            @let headline = headline::headline(results, one.stage, &one.evaluation);
            @if evaluated.len() > 1 { (section(&one.stage.stage, &headline)) } @else { (headline) }
        }
        @for (index, one) in evaluated.iter().enumerate() { (one.gallery(results, index, explain)) }
        (section("What to try next", &suggestions(results)))
        @for (index, one) in evaluated.iter().enumerate() { (one.errors(results, (index, evaluated.len()))) }
        (section("Training", &training::curves(results)))
        @for stage in &record.stages {
            (section(&format!("Training images as `{}` sees them", stage.stage), &strip::of_training(results, stage)))
        }
        (data(results))
        (section("Stages", &stages::stages(record)))
        (section("Files", &files::links(results)))
        (section("How to reproduce it", &provenance::reproduction(results)))
        (provenance::footer(&[record]))
    };
    html::page(&format!("{} · run {}", record.pipeline, record.id), &body)
}

/// What was found in the data set: statistics, findings, copies across splits.
fn data(results: &Results) -> Markup {
    let (explorations, leaking) = (results.explorations(), results.leaks());
    html! {
        @for (stage, found) in &explorations {
            @let suffix = suffix(stage, explorations.len() > 1);
            @let thumbnails = Thumbnails { drawn: results.thumbnails(stage), stored: StoredImages::of_explored(results, stage) };
            (section(&format!("Images{suffix}"), &exploration::plots(found, &thumbnails)))
        }
        @for (stage, rows) in &leaking {
            @let suffix = suffix(stage, leaking.len() > 1);
            (section(&format!("Copies in different splits{suffix}"), &leaks::pairs(results, stage, rows)))
        }
    }
}

/// Distinguishes sections of several stages.
fn suffix(stage: &StageRecord, several: bool) -> String {
    if several { format!(" of `{}`", stage.stage) } else { String::new() }
}

/// Advice for a run that succeeded.
fn suggestions(results: &Results) -> Markup {
    let succeeded = results.record().status == Status::Ok;
    let sentences = if succeeded { advice(results) } else { Vec::new() };
    html! {
        @if !sentences.is_empty() {
            ul { @for sentence in &sentences { li { (with_code(sentence)) } } }
        }
    }
}
