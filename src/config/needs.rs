//! Checks `needs`: unknown stages and cycles.

use std::collections::{BTreeMap, BTreeSet};

use super::pipeline::Needs;
use super::{Diagnostic, Origin};
use crate::common::nearest;
use crate::common::words::and_list;

/// Stage -> the stages it needs, with the location of each.
type Edges<'a> = BTreeMap<&'a str, Vec<(&'a str, &'a Origin)>>;

/// Reports needed stages that don't exist, and each cycle once.
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
    while let Some(cycle) = find_cycle(&edges) {
        diagnostics.push(describe_cycle(&cycle));
        for (stage, _) in cycle {
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

/// Stages of a cycle, each with the location where it names the next.
fn find_cycle<'a>(edges: &Edges<'a>) -> Option<Vec<(&'a str, &'a Origin)>> {
    let blocked = blocked_stages(edges);
    let needs_next = |stage: &str| {
        edges.get(stage)?.iter().copied().find(|(needed, _)| blocked.contains(needed))
    };
    let mut path: Vec<(&str, &Origin)> = Vec::new();
    let mut stage = *blocked.first()?;
    // Every blocked stage needs another blocked one, so the walk ends in a cycle.
    loop {
        if let Some(first) = path.iter().position(|(visited, _)| *visited == stage) {
            return Some(path.split_off(first));
        }
        let (next, origin) = needs_next(stage)?;
        path.push((stage, origin));
        stage = next;
    }
}

/// The stages that could never start: those in a cycle or depending on one.
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

fn describe_cycle(cycle: &[(&str, &Origin)]) -> Diagnostic {
    let names: Vec<String> =
        cycle.iter().chain(cycle.first()).map(|(stage, _)| format!("`{stage}`")).collect();
    let diagnostic =
        Diagnostic::new(format!("stages need each other in a cycle: {}", names.join(" needs ")));
    diagnostic.at(cycle.last().map(|(_, origin)| (*origin).clone())).label("the cycle closes here")
}
