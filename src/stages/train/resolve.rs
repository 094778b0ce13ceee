//! What follows from several parameters together: defaults that depend on others, and rules across keys.

use super::parameters::{DEFAULT_AUGMENT, UnfreezeAt};
use super::start::published_backbone;
use crate::common::nearest;
use crate::config::Values;
use crate::data::AugmentationPolicy;
use crate::engine::{Complaints, Feed};
use crate::nn::weights::registry;
use crate::nn::{self, BackboneInfo};
use crate::stages::fetch::{self, Goods};
use crate::training::Freeze;
use serde_json::{Value, json};

/// Fills in what depends on other values, and complains about what doesn't go together.
pub fn resolve(values: &mut Values, diagnostics: &mut Complaints) {
    fetch::check_brings(Goods::Weights, "weights", diagnostics);
    let weights = diagnostics.input("weights");
    let Some(backbone) = backbone(values, diagnostics) else { return };
    if let Some(feed) = weights {
        check_weights(backbone, feed, diagnostics);
    }
    let frozen = freeze(values, backbone, weights.is_some(), diagnostics);
    let frozen = unfreeze(values, backbone, frozen, diagnostics);
    batch_norm(values, frozen, weights.is_some(), diagnostics);
    optimizer(values, frozen, weights.is_some(), diagnostics);
    schedule(values, diagnostics);
    classes(values, diagnostics);
    early_stopping(values, diagnostics);
    augment(values, frozen, diagnostics);
    head(values, frozen, weights, diagnostics);
    auxiliary(values, backbone, frozen, diagnostics);
}

/// How much of the backbone is frozen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Frozen {
    Nothing,
    Part,
    /// All of it at first, and less later.
    Thawing,
    All,
}

fn text<'a>(values: &'a Values, key: &str) -> Option<&'a str> {
    values.get(key).and_then(Value::as_str)
}

/// The table `key` of the values; an empty one where there is none, which the declarations don't allow.
fn table<'a>(values: &'a mut Values, key: &str) -> Option<&'a mut Values> {
    values.get_mut(key).and_then(Value::as_object_mut)
}

/// The backbone by name; what names weights as well is reduced to the network that they are for.
fn backbone(values: &mut Values, diagnostics: &mut Complaints) -> Option<&'static BackboneInfo> {
    let given = text(values, "backbone")?.to_owned();
    let name = given.split_once('/').map_or(given.as_str(), |(name, _)| name);
    let Some(info) = nn::backbone(name) else {
        let names: Vec<&str> = nn::backbones().iter().map(|info| info.name).collect();
        let help = match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", names.join(", ")),
        };
        diagnostics.complain(
            "backbone",
            format!("no backbone has the name `{given}`"),
            "not known",
            Some(help),
        );
        return None;
    };
    if given != name && registry::preset(&given).is_err() {
        let message = format!("no weights have the name `{given}`");
        let help = format!(
            "write `{name}`: which weights it starts from is for the stage that feeds `weights` to say"
        );
        diagnostics.complain("backbone", message, "not known", Some(help));
    }
    values.insert("backbone".to_owned(), json!(info.name));
    Some(info)
}

/// Another training's weights must be those of the same network.
fn check_weights(backbone: &BackboneInfo, feed: Feed, diagnostics: &mut Complaints) {
    if feed.kind == "train"
        && let Some(other) = text(feed.values, "backbone").filter(|&other| other != backbone.name)
    {
        let message = format!(
            "the stage `{}` trains a {other}, and this one a {}",
            feed.stage, backbone.name
        );
        let help = format!("set `backbone = \"{other}\"`, or start from random weights");
        diagnostics.complain("backbone", message, format!("expected `{other}`"), Some(help));
    }
    if let Some(other) = published_backbone(feed).filter(|&other| other != backbone.name) {
        let message = format!(
            "the stage `{}` fetches weights of {other}, the backbone is {}",
            feed.stage, backbone.name
        );
        let help = format!("set `backbone = \"{other}\"`, or fetch weights of {}", backbone.name);
        diagnostics.complain("backbone", message, format!("expected `{other}`"), Some(help));
    }
}

fn freeze(
    values: &mut Values,
    backbone: &BackboneInfo,
    weights: bool,
    diagnostics: &mut Complaints,
) -> Frozen {
    let default = if weights { "all" } else { "none" };
    let word = values.entry("freeze").or_insert(json!(default)).as_str().unwrap_or(default);
    match word {
        "none" => Frozen::Nothing,
        "all" => Frozen::All,
        stage if backbone.stages.contains(&stage) => Frozen::Part,
        other => {
            let words = || ["none", "all"].into_iter().chain(backbone.stages.iter().copied());
            let help = match nearest(other, words()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", words().collect::<Vec<_>>().join(", ")),
            };
            let message = format!("`{}` has no stage `{other}` to freeze", backbone.name);
            let label = format!("expected one of {}", words().collect::<Vec<_>>().join(", "));
            diagnostics.complain("freeze", message, label, Some(help));
            Frozen::Part
        }
    }
}

/// What thaws later: stages that the backbone has, in an order in which each leaves less frozen than the one before.
fn unfreeze(
    values: &mut Values,
    backbone: &BackboneInfo,
    frozen: Frozen,
    diagnostics: &mut Complaints,
) -> Frozen {
    let Some(given) = values.get("unfreeze_at") else { return frozen };
    let Ok(list) = serde_json::from_value::<UnfreezeAt>(given.clone()).map(|given| given.list())
    else {
        return frozen;
    };
    if list.is_empty() {
        values.remove("unfreeze_at");
        return frozen;
    }
    let mut complain = |message: String, label: &str, help: String| {
        diagnostics.complain("unfreeze_at", message, label, Some(help));
    };
    if frozen == Frozen::Nothing {
        let help = "leave `unfreeze_at` out, or set `freeze = \"all\"`".to_owned();
        complain("nothing is frozen, so nothing can thaw".to_owned(), "has no effect", help);
    }
    let place = |freeze: &Freeze| match freeze {
        Freeze::None => Some(0),
        Freeze::All => Some(backbone.stages.len()),
        Freeze::Below(stage) => backbone.stages.iter().position(|name| name == stage),
    };
    let first = text(values, "freeze").unwrap_or_default().to_owned();
    let mut above = place(&Freeze::from(first)).unwrap_or(backbone.stages.len());
    let epochs = values.get("epochs").and_then(Value::as_u64).unwrap_or(u64::MAX);
    for entry in list {
        let stage = String::from(entry.freeze.clone());
        let Some(at) = place(&entry.freeze) else {
            let message = format!("`{}` has no stage `{stage}` to unfreeze", backbone.name);
            complain(message, "not a stage", format!("there are {}", backbone.stages.join(", ")));
            continue;
        };
        if at >= above && frozen != Frozen::Nothing {
            let message = format!("`{stage}` learns already when epoch {} begins", entry.epoch);
            let help = "later epochs unfreeze stages nearer to the images, such as `{ layer4 = 3, layer3 = 6 }`";
            complain(message, "has no effect", help.to_owned());
        }
        if entry.epoch > epochs {
            let message = format!("epoch {} never comes: there are {epochs}", entry.epoch);
            complain(message, "has no effect", "raise `epochs`, or unfreeze earlier".to_owned());
        }
        above = at;
    }
    if frozen == Frozen::All { Frozen::Thawing } else { frozen }
}

fn batch_norm(values: &mut Values, frozen: Frozen, weights: bool, diagnostics: &mut Complaints) {
    // Statistics of small batches would undo at once what the weights came with, when a backbone thaws late.
    let default = if matches!(frozen, Frozen::All | Frozen::Thawing) { "frozen" } else { "train" };
    let given = values.entry("batch_norm").or_insert(json!(default)).as_str().unwrap_or(default);
    if frozen == Frozen::All && given != "frozen" {
        let message = format!(
            "`batch_norm = \"{given}\"` is for parts that learn, and the whole backbone is frozen"
        );
        let help = "leave `batch_norm` out, or freeze less of the backbone".to_owned();
        diagnostics.complain("batch_norm", message, "expected `frozen`", Some(help));
    } else if frozen == Frozen::Nothing && given != "train" && !weights {
        let message = format!(
            "`batch_norm = \"{given}\"` needs statistics that came with weights, and no weights are given"
        );
        let help = "leave `batch_norm` out, or feed `weights`".to_owned();
        diagnostics.complain("batch_norm", message, "expected `train`", Some(help));
    }
}

fn optimizer(values: &mut Values, frozen: Frozen, weights: bool, diagnostics: &mut Complaints) {
    let Some(table) = table(values, "optimizer") else { return };
    let sgd = text(table, "kind") == Some("sgd");
    let (rate, decay) = if sgd { (1e-2, 1e-4) } else { (1e-3, 1e-2) };
    let rate = table.entry("learning_rate").or_insert(json!(rate)).as_f64().unwrap_or(rate);
    table.entry("weight_decay").or_insert(json!(decay));
    match table.get("backbone_learning_rate") {
        Some(_) if frozen == Frozen::All => {
            let message =
                "`backbone_learning_rate` is for a backbone that learns, and all of it is frozen";
            let help = "leave it out, or freeze less of the backbone".to_owned();
            diagnostics.complain(
                "optimizer.backbone_learning_rate",
                message,
                "has no effect",
                Some(help),
            );
        }
        None if weights && frozen != Frozen::All => {
            table.insert("backbone_learning_rate".to_owned(), json!(rate / 10.0));
        }
        _ => (),
    }
    if frozen == Frozen::All && table.get("layer_decay").and_then(Value::as_f64) != Some(1.0) {
        let message = "`layer_decay` is for a backbone that learns, and all of it is frozen";
        let help = "leave it out, or freeze less of the backbone".to_owned();
        diagnostics.complain("optimizer.layer_decay", message, "has no effect", Some(help));
    }
    let others: &[(&str, Value)] = if sgd {
        &[("betas", json!([0.9, 0.999])), ("epsilon", json!(1e-8))]
    } else {
        &[("momentum", json!(0.9))]
    };
    let (this, other) = if sgd { ("sgd", "adamw") } else { ("adamw", "sgd") };
    for (key, default) in
        others.iter().filter(|(key, default)| table.get(*key).is_some_and(|given| given != default))
    {
        let message = format!(
            "`{key}` is `{other}`'s, and the optimizer is `{this}`; {default} changes nothing"
        );
        let help = format!("leave it out, or set `kind = \"{other}\"`");
        diagnostics.complain(&format!("optimizer.{key}"), message, "has no effect", Some(help));
    }
    let still = table.get("momentum").and_then(Value::as_f64) == Some(0.0);
    if table.get("nesterov") == Some(&json!(true)) && (still || !sgd) {
        let message = "Nesterov's momentum is for `sgd` with a momentum above 0";
        diagnostics.complain(
            "optimizer.nesterov",
            message,
            "needs momentum",
            Some("such as `momentum = 0.9`".to_owned()),
        );
    }
    if table.get("betas").and_then(Value::as_array).is_some_and(|betas| betas.len() != 2) {
        diagnostics.complain(
            "optimizer.betas",
            "AdamW has two betas",
            "expected two numbers",
            Some("such as [0.9, 0.999]".to_owned()),
        );
    }
}

/// An epoch of warm-up, and no more than a fifth of a short training.
fn schedule(values: &mut Values, diagnostics: &mut Complaints) {
    let epochs = values.get("epochs").and_then(Value::as_f64).unwrap_or(1.0);
    let Some(table) = table(values, "schedule") else { return };
    table.entry("warm_up").or_insert(json!((epochs / 5.0).min(1.0)));
    let floor = table.get("floor").and_then(Value::as_f64).unwrap_or(0.0);
    if text(table, "kind") == Some("constant") && floor != 0.0 {
        let help = "leave it out, or set `kind = \"cosine\"`".to_owned();
        diagnostics.complain(
            "schedule.floor",
            "a constant rate has no floor",
            "has no effect",
            Some(help),
        );
    }
}

/// Classes are evened out once: by what their images count, or by how often they are shown.
fn classes(values: &mut Values, diagnostics: &mut Complaints) {
    if values.get("class_weights") == Some(&json!({})) {
        values.insert("class_weights".to_owned(), json!("none"));
    }
    if text(values, "class_weights") == Some("balanced")
        && text(values, "sampling") == Some("balanced")
    {
        let message = "`class_weights` and `sampling` would both even out the classes, and rare ones count twice over";
        let help = "leave one of them out".to_owned();
        diagnostics.complain(
            "sampling",
            message,
            "beside `class_weights = \"balanced\"`",
            Some(help),
        );
    }
}

/// The published classifier needs its weights, and keeps them.
fn head(values: &Values, frozen: Frozen, weights: Option<Feed>, diagnostics: &mut Complaints) {
    if text(values, "head") != Some("original") {
        return;
    }
    if let Some(feed) =
        weights.filter(|feed| feed.kind == "train" && text(feed.values, "head") != Some("original"))
    {
        let message = format!(
            "the stage `{}` trains a head of its own: no published classifier is left",
            feed.stage
        );
        let help = "leave `head` out, or feed published weights".to_owned();
        diagnostics.complain("head", message, "isn't there", Some(help));
    }
    if weights.is_none() {
        let help = "feed `weights`, such as those of a fetch stage with `source = \"torchvision:resnet50\"`".to_owned();
        diagnostics.complain(
            "head",
            "the original classifier comes with weights, and none are given",
            "needs `weights`",
            Some(help),
        );
    } else if frozen != Frozen::All {
        let message =
            "with the original classifier nothing is trained, so all of the backbone is frozen";
        diagnostics.complain(
            "freeze",
            message,
            "expected `all`",
            Some("leave `freeze` and `unfreeze_at` out".to_owned()),
        );
    }
}

fn auxiliary(
    values: &Values,
    backbone: &BackboneInfo,
    frozen: Frozen,
    diagnostics: &mut Complaints,
) {
    if values.get("auxiliary") != Some(&json!(true)) {
        return;
    }
    if !backbone.has_auxiliary() {
        let with: Vec<&str> = nn::backbones()
            .iter()
            .filter(|info| info.has_auxiliary())
            .map(|info| info.name)
            .collect();
        let message = format!("`{}` has no auxiliary head", backbone.name);
        let help = format!("leave `auxiliary` out, or use {}", with.join(" or "));
        diagnostics.complain("auxiliary", message, "has no effect", Some(help));
    } else if frozen == Frozen::All {
        let message = "an auxiliary head helps a backbone to learn, and all of it is frozen";
        let help = "leave `auxiliary` out, or freeze less of the backbone".to_owned();
        diagnostics.complain("auxiliary", message, "has no effect", Some(help));
    }
}

fn early_stopping(values: &mut Values, diagnostics: &mut Complaints) {
    let Some(table) = table(values, "early_stopping") else { return };
    let (right, measure) = match text(table, "monitor") {
        Some("validation_accuracy") => ("max", "more accuracy"),
        _ => ("min", "less loss"),
    };
    if table.get("mode").is_some_and(|mode| mode != right) {
        let message = format!("{measure} is better, so the mode is `{right}`");
        diagnostics.complain(
            "early_stopping.mode",
            message,
            format!("expected `{right}`"),
            Some("leave `mode` out".to_owned()),
        );
    }
    // It says nothing that `monitor` doesn't.
    table.remove("mode");
    let least = table.get("min_delta").and_then(Value::as_f64).unwrap_or(0.0);
    if least != 0.0 && table.get("patience").is_none_or(Value::is_null) {
        let help = "set `patience` as well, such as 5, or leave it out".to_owned();
        diagnostics.complain(
            "early_stopping.min_delta",
            "`min_delta` is for `patience`",
            "has no effect",
            Some(help),
        );
    }
    if table.get("patience").is_some_and(|patience| !patience.is_null())
        && validates_nothing(diagnostics)
    {
        let help = "set `dataset.split.validation` above 0, or leave `patience` out".to_owned();
        diagnostics.complain(
            "early_stopping.patience",
            "there are no validation images",
            "waits for nothing",
            Some(help),
        );
    }
}

/// Whether the split of the stage that feeds `data` leaves no images for validation.
fn validates_nothing(diagnostics: &Complaints) -> bool {
    let split = diagnostics
        .input("data")
        .and_then(|feed| feed.values.get("dataset")?.get("split")?.get("validation"));
    split.and_then(Value::as_f64) == Some(0.0)
}

fn augment(values: &mut Values, frozen: Frozen, diagnostics: &mut Complaints) {
    if !values.contains_key("augment") {
        let mild = serde_json::from_str(DEFAULT_AUGMENT).unwrap_or_else(|_| json!("none"));
        values
            .insert("augment".to_owned(), if frozen == Frozen::All { json!("none") } else { mild });
    }
    let parsed = values
        .get("augment")
        .and_then(|given| serde_json::from_value::<AugmentationPolicy>(given.clone()).ok());
    if let Some(nothing) = parsed.filter(AugmentationPolicy::is_none) {
        if nothing.copies.is_some() {
            let help = "say how they are varied, such as `flip = true`, or leave it out".to_owned();
            diagnostics.complain(
                "augment.copies",
                "nothing varies the images",
                "has no effect",
                Some(help),
            );
        }
        values.insert("augment".to_owned(), json!("none"));
    }
    let Some(crop) = table(values, "augment").and_then(|augment| table(augment, "random_crop"))
    else {
        return;
    };
    for key in ["scale", "ratio"] {
        let range: Option<Vec<f64>> = crop
            .get(key)
            .and_then(Value::as_array)
            .map(|list| list.iter().filter_map(Value::as_f64).collect());
        let fits =
            range.is_some_and(|range| matches!(range[..], [low, high] if 0.0 < low && low <= high));
        if !fits {
            let at = format!("augment.random_crop.{key}");
            let message = format!("`{key}` is a range: two numbers above 0, the smaller one first");
            diagnostics.complain(
                &at,
                message,
                "expected [from, to]",
                Some("such as [0.6, 1.0]".to_owned()),
            );
        }
    }
}
