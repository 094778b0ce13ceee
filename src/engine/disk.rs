//! Estimates of the disk space that stages need, made before they run: by kinds, from what is known
//! of their inputs by then.

use super::graph::{Graph, Stage};
use super::plan::Plan;
use super::{Pin, StageError};
use crate::common::number;
use crate::store::{Artifact, Digest, Store};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A stage that needs less isn't worth a message.
const WORTH_A_MESSAGE: u64 = 1_000_000_000;

/// The remedy where the disk is too small.
pub const TOO_LITTLE: &str = "free some space (`pipe cache gc` removes what recent runs didn't use), use another disk with `--cache`, \
     or store images as JPEG: store = \"jpeg\" in the preprocess stage";

/// The facts known of a stage before it runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Estimate {
    /// Bytes that it writes to the store. None if that can't be known yet.
    pub bytes: Option<u64>,
    /// Number of images in its output, if it has any and they are known.
    pub images: Option<u64>,
    /// Digests of their files, each once, sorted.
    pub digests: Option<Arc<Vec<Digest>>>,
    /// Side of the images, or of those that the weights take, in pixels.
    pub side: Option<u32>,
    /// A further sentence of the plan about it.
    pub sentence: Option<String>,
}

/// The basis of an estimate.
pub struct Known<'a> {
    pub pin: &'a Pin,
    pub store: &'a Store,
    /// The stages that feed it, by role.
    pub inputs: BTreeMap<String, KnownInput>,
    /// The folder of its artifact, if it is up to date or done.
    pub artifact: Option<&'a Path>,
}

/// A stage that feeds another one.
pub struct KnownInput {
    pub estimate: Estimate,
    /// The folder of its artifact, if it is up to date or done.
    pub artifact: Option<PathBuf>,
}

/// The disk space that a plan needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Disk {
    /// The stages that aren't up to date.
    pub stages: Vec<(String, Estimate)>,
    /// Bytes free for the store. None if the system doesn't say.
    pub free: Option<u64>,
}

impl Disk {
    /// Bytes that all these stages write, as far as it is known.
    pub fn needed(&self) -> u64 {
        let bytes = self.stages.iter().filter_map(|(_, estimate)| estimate.bytes);
        // Sizes that servers state may be any number.
        bytes.fold(0, u64::saturating_add)
    }

    /// The stages of which it isn't known.
    pub fn unknown(&self) -> Vec<&str> {
        let unknown = self.stages.iter().filter(|(_, estimate)| estimate.bytes.is_none());
        unknown.map(|(name, _)| name.as_str()).collect()
    }

    /// Whether the space doesn't suffice.
    pub fn is_too_small(&self) -> bool {
        self.free.is_some_and(|free| self.needed() > free)
    }

    /// "about 12.2 GB needed, 3.1 GB free".
    pub fn sentence(&self) -> String {
        sentence(self.needed(), self.free)
    }
}

fn sentence(needed: u64, free: Option<u64>) -> String {
    let free = free.map_or(String::new(), |free| format!(", {} free", number::bytes(free)));
    format!("about {} needed{free}", number::bytes(needed))
}

/// The disk space that the stages of a plan need that aren't up to date.
pub fn disk(graph: &Graph, plan: &Plan, store: &Store) -> Disk {
    let seen = |name: &str| {
        let planned = plan.stages.iter().find(|planned| planned.name == name)?;
        let artifact = planned.state.artifact();
        Some(Seen { stage: graph.stage(name)?, pin: &planned.pin, artifact })
    };
    let estimates = Estimates::new(&seen, store, BTreeMap::new());
    let stale = plan.stages.iter().filter(|planned| !planned.state.is_fresh());
    // The size of an output elsewhere is only said to be that: no reason to refuse a run.
    let stale = stale.filter(|planned| planned.state.remote().is_none());
    let stages = stale.map(|planned| (planned.name.clone(), estimates.of(&planned.name)));
    Disk { stages: stages.collect(), free: store.free_bytes() }
}

/// A stage as estimates see it.
pub(super) struct Seen<'a> {
    pub stage: &'a Stage,
    pub pin: &'a Pin,
    pub artifact: Option<&'a Artifact>,
}

/// Estimates of stages by their names, each made once.
pub(super) struct Estimates<'a, 'b> {
    seen: &'b dyn Fn(&str) -> Option<Seen<'a>>,
    store: &'b Store,
    made: RefCell<BTreeMap<String, Estimate>>,
}

impl<'a, 'b> Estimates<'a, 'b> {
    /// `made` are known already.
    pub(super) fn new(
        seen: &'b dyn Fn(&str) -> Option<Seen<'a>>,
        store: &'b Store,
        made: BTreeMap<String, Estimate>,
    ) -> Estimates<'a, 'b> {
        Estimates { seen, store, made: RefCell::new(made) }
    }

    /// All that were made.
    pub(super) fn into_made(self) -> BTreeMap<String, Estimate> {
        self.made.into_inner()
    }

    pub(super) fn of(&self, name: &str) -> Estimate {
        if let Some(made) = self.made.borrow().get(name) {
            return made.clone();
        }
        let Some(Seen { stage, pin, artifact }) = (self.seen)(name) else {
            return Estimate::default();
        };
        let input = |(role, feeder): (&String, &String)| {
            let artifact = (self.seen)(feeder).and_then(|seen| Some(seen.artifact?.path.clone()));
            (role.clone(), KnownInput { estimate: self.of(feeder), artifact })
        };
        let inputs = stage.needs.iter().map(input).collect();
        let artifact = artifact.map(|artifact| artifact.path.as_path());
        let known = Known { pin, store: self.store, inputs, artifact };
        let estimate = stage.kind.disk(&stage.values, &known);
        self.made.borrow_mut().insert(name.to_owned(), estimate.clone());
        estimate
    }
}

/// Checks that there is room for a stage that is about to start. Returns a message where it needs
/// much.
pub(super) fn check(estimate: &Estimate, store: &Store) -> Result<Option<String>, StageError> {
    let (Some(needed), Some(free)) = (estimate.bytes, store.free_bytes()) else { return Ok(None) };
    let sentence = format!("disk: {}", sentence(needed, Some(free)));
    if needed > free {
        let message = format!("there isn't enough space on the {sentence}");
        return Err(StageError::failed(message).with_help(TOO_LITTLE));
    }
    Ok((needed >= WORTH_A_MESSAGE).then_some(sentence))
}
