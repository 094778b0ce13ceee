//! Training images as the network sees them, a row each.

use super::html::{self, section};
use super::thumbnail::{Size, figure, of_pixels};
use crate::data::strip::{Strip, StripImage, StripOptions, strip_of_cache};
use crate::data::{AugmentationPolicy, TensorCache};
use crate::draw::shorten;
use crate::runs::{Results, StageRecord};
use maud::{Markup, html};

/// Images and views in the report of a run.
const IMAGES: usize = 4;
const VIEWS: usize = 5;

/// The page of `pipe preview`.
pub fn strip_page(pipeline: &str, strip: &Strip, sentences: &[String]) -> String {
    let body = html! {
        header { h1 { (pipeline) } }
        (section("Training images as the network sees them", &html! {
            @for sentence in sentences { (html::note(sentence)) }
            (rows(strip))
        }))
    };
    super::text_of(html::page(&format!("{pipeline} · preview"), &body))
}

/// The strip of a training in a run; empty without augmentation or a tensor cache.
pub(super) fn of_training(results: &Results, stage: &StageRecord) -> Markup {
    let augment = stage.parameters.get("augment");
    let policy = augment.and_then(|value| serde_json::from_value(value.clone()).ok());
    let Some(policy) = policy.filter(|policy: &AugmentationPolicy| !policy.is_none()) else {
        return Markup::default();
    };
    let needs = stage.needs.values().filter_map(|need| results.artifact(need));
    let Some(cache) = needs.into_iter().find_map(|folder| TensorCache::open(&folder).ok()) else {
        return Markup::default();
    };
    let seed = results.record().seed;
    let options = StripOptions { policy: Some(&policy), seed, images: IMAGES, views: VIEWS };
    strip_of_cache(&cache, &options).map(|strip| rows(&strip)).unwrap_or_default()
}

fn rows(strip: &Strip) -> Markup {
    html! {
        @for one in &strip.images { .images.strip { (row(one, strip.side)) } }
    }
}

fn row(one: &StripImage, side: u32) -> Markup {
    let plain = html! {
        b { (shorten(one.class.as_deref().unwrap_or("plain"), 40)) }
        span.soft { (shorten(&one.path, 40)) }
    };
    let views = (1..).zip(&one.views);
    html! {
        @if let Some(uri) = of_pixels(&one.plain, side, Size::Large) { (figure(Some(&uri), &one.path, &one.path, &plain)) }
        @for (number, view) in views {
            @let name = format!("view {number}");
            @if let Some(uri) = of_pixels(view, side, Size::Large) {
                (figure(Some(&uri), &name, &one.path, &html! { span.soft { (name) } }))
            }
        }
    }
}
