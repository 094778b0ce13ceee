//! The oracle: a pipeline as a user sees it, and what a run does with each stage. Written without
//! digests, keys or files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// A stage as a user sees it.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Write {
        text: &'static str,
        aside: Option<u64>,
        /// Whether the listing of the folder is pinned.
        lists: bool,
        every: u64,
        fails: bool,
        above: Option<usize>,
        beside: Option<usize>,
    },
    Draw,
}

#[derive(Clone, Debug)]
pub(super) struct Drafted {
    pub(super) name: String,
    pub(super) body: Body,
}

/// What a user can edit. Stages need earlier ones only.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) seed: u64,
    pub(super) salt: u64,
    pub(super) stages: Vec<Drafted>,
    /// The stages are written in the opposite order.
    pub(super) is_reversed: bool,
    /// The content of each file of the folder.
    pub(super) files: BTreeMap<u64, u64>,
}

/// Texts of stages that list the folder; what they feed reads it in place, and says so.
pub(super) const LISTING_TEXTS: [&str; 2] = ["f0 ", "f1 "];
pub(super) const TEXTS: [&str; 3] = ["plain", "t0 ", "t1 "];

/// An output: the files `text` and, of a stage that writes, `aside`.
pub(super) type Output = (String, Option<String>);

/// Everything that may affect the output of a stage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    Write {
        text: &'static str,
        aside: Option<u64>,
        listing: Option<BTreeMap<u64, u64>>,
        /// The one file that is read.
        above: Option<String>,
        beside: Option<Output>,
    },
    Draw {
        seed: u64,
        salt: u64,
    },
}

/// What the store should have.
#[derive(Default)]
pub(super) struct Oracle {
    pub(super) built: BTreeMap<Cause, Output>,
    pub(super) stored: BTreeSet<Output>,
    pub(super) damaged: BTreeSet<Output>,
    /// The numbers that were drawn: the oracle doesn't know them, but that they never change.
    pub(super) drawn: BTreeMap<(u64, u64), String>,
}

/// What happens to a stage, with its output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Fresh(Output),
    Ran(Output),
    Failed,
    Skipped,
}

impl Fate {
    pub(super) fn output(&self) -> Option<&Output> {
        match self {
            Fate::Fresh(output) | Fate::Ran(output) => Some(output),
            Fate::Failed | Fate::Skipped => None,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Fate::Fresh(_) => "fresh",
            Fate::Ran(_) => "ran",
            Fate::Failed => "failed",
            Fate::Skipped => "skipped",
        }
    }
}

impl Draft {
    pub(super) fn text(&self) -> String {
        let mut stages: Vec<String> = self.stages.iter().map(|stage| self.stage(stage)).collect();
        if self.is_reversed {
            stages.reverse();
        }
        format!(
            "[pipeline]\nseed = {}\n[dataset]\nlabels = \"x\"\nsalt = {}\n{}",
            self.seed,
            self.salt,
            stages.concat()
        )
    }

    pub(super) fn stage(&self, stage: &Drafted) -> String {
        let Drafted { name, body } = stage;
        let Body::Write { text, aside, lists, every, fails, above, beside } = body else {
            return format!("[stages.{name}]\nkind = \"draw\"\n");
        };
        let mut out = format!("[stages.{name}]\nkind = \"write\"\nevery = {every}\n");
        if *text != "plain" {
            writeln!(out, "text = \"{text}\"").unwrap();
        }
        if let Some(aside) = aside {
            writeln!(out, "aside = \"{aside}\"").unwrap();
        }
        if *lists {
            out += "folder = \"images\"\n";
        }
        if *fails {
            out += "act = \"fail\"\n";
        }
        let needs = [("above", above), ("beside", beside)].map(|(role, from)| {
            from.map(|from| format!("{role} = \"{}\"", self.stages[from].name))
        });
        let needs: Vec<String> = needs.into_iter().flatten().collect();
        writeln!(out, "needs = {{ {} }}", needs.join(", ")).unwrap();
        out
    }

    pub(super) fn feeders(&self, index: usize) -> impl Iterator<Item = usize> {
        let feeders = match &self.stages[index].body {
            Body::Write { above, beside, .. } => [*above, *beside],
            Body::Draw => [None, None],
        };
        feeders.into_iter().flatten()
    }

    pub(super) fn fails(&self, index: usize) -> bool {
        matches!(self.stages[index].body, Body::Write { fails: true, .. })
    }

    /// Whether a stage repeats the text of the one above, which its kind forbids.
    pub(super) fn repeats(&self) -> bool {
        let text = |body: &Body| match body {
            Body::Write { text, .. } => Some(*text),
            Body::Draw => None,
        };
        self.stages.iter().any(|stage| match &stage.body {
            Body::Write { text: own, above: Some(above), .. } => {
                text(&self.stages[*above].body) == Some(own)
            }
            _ => false,
        })
    }

    pub(super) fn cause<'a>(
        &self,
        index: usize,
        output: impl Fn(usize) -> Option<&'a Output>,
    ) -> Option<Cause> {
        let Body::Write { text, aside, lists, above, beside, .. } = &self.stages[index].body else {
            return Some(Cause::Draw { seed: self.seed, salt: self.salt });
        };
        let needed = |role: &Option<usize>| match role {
            Some(from) => output(*from).map(|output| Some(output.clone())),
            None => Some(None),
        };
        Some(Cause::Write {
            text,
            aside: *aside,
            listing: lists.then(|| self.files.clone()),
            above: needed(above)?.map(|(text, _)| text),
            beside: needed(beside)?,
        })
    }
}

impl Oracle {
    pub(super) fn has(&self, cause: &Cause) -> Option<&Output> {
        self.built.get(cause).filter(|output| self.stored.contains(*output))
    }

    /// The output of a cause; of drawn numbers, what was seen first.
    pub(super) fn made(&mut self, cause: &Cause, lists: [bool; 2], seen: &str) -> Output {
        match cause {
            Cause::Draw { seed, salt } => {
                let drawn = self.drawn.entry((*seed, *salt)).or_insert_with(|| seen.to_owned());
                (drawn.clone(), None)
            }
            Cause::Write { text, aside, above, beside, .. } => {
                let beside = beside.as_ref().map(|(text, _)| text);
                let read = [above.as_ref(), beside].into_iter().zip(lists);
                let read = read.filter_map(|(text, lists)| Some((text?, lists)));
                let borrowed = |lists| if lists { " (borrowed)" } else { "" };
                let read: String =
                    read.map(|(text, lists)| format!("{text}{}", borrowed(lists))).collect();
                let aside = aside.map(|aside| aside.to_string()).unwrap_or_default();
                (read + text, Some(aside))
            }
        }
    }

    /// Runs a stage whose inputs are there, after those of them that are damaged or gone.
    pub(super) fn run(&mut self, draft: &Draft, index: usize, fates: &mut [Fate], seen: &[String]) {
        for feeder in draft.feeders(index) {
            let output = fates[feeder].output().expect("its inputs are there").clone();
            if self.damaged.remove(&output) || !self.stored.contains(&output) {
                self.stored.remove(&output);
                self.run(draft, feeder, fates, seen);
            }
        }
        if draft.fails(index) {
            fates[index] = Fate::Failed;
            return;
        }
        let cause = draft.cause(index, |feeder| fates[feeder].output());
        let cause = cause.expect("its inputs are there");
        let lists = match &draft.stages[index].body {
            Body::Write { above, beside, .. } => [above, beside].map(|from| {
                from.is_some_and(|from| {
                    matches!(draft.stages[from].body, Body::Write { lists: true, .. })
                })
            }),
            Body::Draw => [false; 2],
        };
        let output = self.made(&cause, lists, &seen[index]);
        self.damaged.remove(&output);
        self.stored.insert(output.clone());
        self.built.insert(cause, output.clone());
        fates[index] = Fate::Ran(output);
    }

    /// What a run does that takes stages in this order. `seen` are the texts that they really wrote.
    pub(super) fn fates(
        &mut self,
        draft: &Draft,
        order: &[usize],
        forced: Option<usize>,
        seen: &[String],
    ) -> Vec<Fate> {
        let mut fates = vec![Fate::Skipped; draft.stages.len()];
        for &index in order {
            if draft.feeders(index).any(|feeder| fates[feeder].output().is_none()) {
                continue;
            }
            let cause = draft.cause(index, |feeder| fates[feeder].output());
            let cause = cause.expect("its inputs are there");
            match self.has(&cause) {
                Some(output) if forced != Some(index) => fates[index] = Fate::Fresh(output.clone()),
                _ => self.run(draft, index, &mut fates, seen),
            }
        }
        fates
    }

    /// The states in the plan: what is known before anything runs.
    pub(super) fn planned(&self, draft: &Draft, forced: Option<usize>) -> Vec<&'static str> {
        let mut outputs: Vec<Option<Output>> = Vec::new();
        let mut states = Vec::new();
        for index in 0..draft.stages.len() {
            let cause = draft.cause(index, |feeder| outputs[feeder].as_ref());
            let is_forced = forced == Some(index);
            let output = cause.as_ref().and_then(|cause| self.has(cause)).filter(|_| !is_forced);
            states.push(match (&cause, output) {
                (None, _) => "pending",
                (Some(_), None) => "dirty",
                (Some(_), Some(_)) => "fresh",
            });
            outputs.push(output.cloned());
        }
        states
    }
}
