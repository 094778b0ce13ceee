//! What stages need, held against the stages there are: unknown ones and circles. Doesn't know what a role is for.

use std::collections::{BTreeMap, BTreeSet};

use super::pipeline::Needs;
use super::{Diagnostic, Origin};
use crate::common::nearest;
use crate::common::words::and_list;

/// Stage -> the stages it needs, with where it says so.
type Edges<'a> = BTreeMap<&'a str, Vec<(&'a str, &'a Origin)>>;

/// Reports needed stages that aren't among those of `all`, and circles of stages, each once.
pub(super) fn check_needs(all: &BTreeMap<String, Needs>, diagnostics: &mut Vec<Diagnostic>) {
    let mut edges = Edges::new();
    for (stage, needs) in all {
        let known = edges.entry(stage).or_default();
        for (needed, origin) in needs.values() {
            if all.contains_key(needed) {
                known.push((needed, origin));
            } else {
                diagnostics.push(unknown_stage(needed, origin, stage, all));
            }
        }
    }
    while let Some(circle) = find_circle(&edges) {
        diagnostics.push(describe_circle(&circle));
        for (stage, _) in circle {
            edges.remove(stage);
        }
    }
}

fn unknown_stage(
    needed: &str,
    origin: &Origin,
    stage: &str,
    all: &BTreeMap<String, Needs>,
) -> Diagnostic {
    let others = || all.keys().map(String::as_str).filter(|name| *name != stage);
    let help = match nearest(needed, others()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if all.len() == 1 => "it is the only stage".to_owned(),
        None => format!("the other stages are {}", and_list(others())),
    };
    let diagnostic = Diagnostic::new(format!("stage `{stage}` needs an unknown stage `{needed}`"));
    diagnostic.at(origin.clone()).label("no stage of this name").help(help)
}

/// Stages that need each other in a ring, each with the place where it names the next.
fn find_circle<'a>(edges: &Edges<'a>) -> Option<Vec<(&'a str, &'a Origin)>> {
    let blocked = blocked_stages(edges);
    let needs_next = |stage: &str| {
        edges.get(stage)?.iter().copied().find(|(needed, _)| blocked.contains(needed))
    };
    let mut path: Vec<(&str, &Origin)> = Vec::new();
    let mut stage = *blocked.first()?;
    // Whatever is blocked needs something blocked, so the walk comes round.
    loop {
        if let Some(first) = path.iter().position(|(visited, _)| *visited == stage) {
            return Some(path.split_off(first));
        }
        let (next, origin) = needs_next(stage)?;
        path.push((stage, origin));
        stage = next;
    }
}

/// The stages that could never start: in a ring, or above one.
fn blocked_stages<'a>(edges: &Edges<'a>) -> BTreeSet<&'a str> {
    let mut blocked: BTreeSet<&str> = edges.keys().copied().collect();
    loop {
        let ready = |stage: &&str| {
            edges.get(stage).is_none_or(|needs| !needs.iter().any(|(n, _)| blocked.contains(n)))
        };
        let free: BTreeSet<&str> = blocked.iter().copied().filter(ready).collect();
        if free.is_empty() {
            return blocked;
        }
        blocked.retain(|stage| !free.contains(stage));
    }
}

fn describe_circle(circle: &[(&str, &Origin)]) -> Diagnostic {
    let names: Vec<String> =
        circle.iter().chain(circle.first()).map(|(stage, _)| format!("`{stage}`")).collect();
    let diagnostic =
        Diagnostic::new(format!("stages need each other in a circle: {}", names.join(" needs ")));
    diagnostic
        .at(circle.last().map(|(_, origin)| (*origin).clone()))
        .label("the circle closes here")
}
