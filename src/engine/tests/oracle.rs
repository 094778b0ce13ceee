//! Random sequences of edits, runs, failures and damage, compared with an oracle (`model.rs`): a model
//! of what affects what. It says of every stage whether it has to run and what its output is.

mod model;

use super::*;
use crate::random::Stream;
use model::{Body, Draft, Drafted, LISTING_TEXTS, Oracle, Output, TEXTS};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// Sequences, and edits of each.
const SEQUENCES: u64 = 1_000;
const EDITS: u64 = 8;
const STAGES_MAX: usize = 5;

/// One sequence: the draft, the store and the oracle, and what was done so far.
struct Sequence {
    random: Stream,
    home: Home,
    draft: Draft,
    oracle: Oracle,
    /// The output of each stage after the last run.
    outputs: Vec<Option<(Output, PathBuf)>>,
    names: u64,
    done: String,
}

impl Sequence {
    fn new(number: u64) -> Sequence {
        let draft = Draft {
            seed: 0,
            salt: 1,
            stages: Vec::new(),
            is_reversed: false,
            files: BTreeMap::from([(0, 0)]),
        };
        let mut sequence = Sequence {
            random: Stream::new(1, "edits", &[number]),
            home: Home::in_memory(),
            draft,
            oracle: Oracle::default(),
            outputs: Vec::new(),
            names: 0,
            done: format!("sequence {number}\n"),
        };
        for _ in 0..3 {
            sequence.add_stage();
        }
        sequence.write_files();
        sequence
    }

    fn pick(&mut self, bound: usize) -> usize {
        self.random.below(bound as u64) as usize
    }

    fn new_name(&mut self) -> String {
        self.names += 1;
        format!("s{}", self.names)
    }

    fn add_stage(&mut self) {
        if self.draft.stages.len() == STAGES_MAX {
            return;
        }
        let name = self.new_name();
        let body = if self.random.chance(0.2) { Body::Draw } else { self.new_body() };
        self.draft.stages.push(Drafted { name, body });
        self.connect(self.draft.stages.len() - 1);
        while self.draft.repeats() {
            self.connect(self.draft.stages.len() - 1);
        }
    }

    fn new_body(&mut self) -> Body {
        let lists = self.random.chance(0.3);
        let text = if lists { LISTING_TEXTS[self.pick(2)] } else { TEXTS[self.pick(3)] };
        let aside = self.random.chance(0.3).then(|| self.random.below(2));
        Body::Write { text, aside, lists, every: 3, fails: false, above: None, beside: None }
    }

    /// Gives a stage other inputs.
    fn connect(&mut self, index: usize) {
        let (new_above, new_beside) = (self.pick(index + 1), self.pick(index + 1));
        let writes: Vec<bool> = self
            .draft
            .stages
            .iter()
            .map(|stage| matches!(stage.body, Body::Write { .. }))
            .collect();
        if let Body::Write { above, beside, .. } = &mut self.draft.stages[index].body {
            *above = Some(new_above).filter(|from| *from < index);
            *beside = Some(new_beside).filter(|from| *from < index && writes[*from]);
        }
    }

    fn write_files(&self) {
        let folder = self.home.path("images");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        for (file, content) in &self.draft.files {
            std::fs::write(folder.join(file.to_string()), content.to_string()).unwrap();
        }
    }

    /// One edit, which the kinds' rules allow.
    fn edit(&mut self) {
        let before = self.draft.clone();
        let done = self.edit_once();
        let text = self.draft.text();
        if self.draft.repeats() {
            assert!(self.home.graph(&text).is_err(), "{}\n{text}", self.done);
            self.draft = before;
            self.write_files();
        } else {
            writeln!(self.done, "{done}").unwrap();
        }
    }

    fn edit_once(&mut self) -> String {
        let index = self.pick(self.draft.stages.len());
        let (choice, number) = (self.random.below(18), self.random.below(3));
        let stage = &mut self.draft.stages[index];
        let of = stage.name.clone();
        match (choice, &mut stage.body) {
            (0 | 1, Body::Write { text, lists, .. }) => {
                let texts: &[&str] = if *lists { &LISTING_TEXTS } else { &TEXTS };
                *text = texts[number as usize % texts.len()];
                format!("{of}: text {text}")
            }
            (2, Body::Write { aside, .. }) => {
                *aside = number.checked_sub(1);
                format!("{of}: aside {aside:?}")
            }
            (3, Body::Write { every, .. }) => {
                *every = number;
                format!("{of}: every {every}")
            }
            // What is damaged can be rebuilt.
            (4, Body::Write { fails, .. }) if self.oracle.damaged.is_empty() => {
                *fails = !*fails;
                format!("{of}: fails {fails}")
            }
            (5 | 6, _) => {
                self.connect(index);
                format!("{of}: connected")
            }
            (7, _) => {
                self.draft.stages[index].name = self.new_name();
                format!("{of}: renamed")
            }
            (8, _) => {
                self.add_stage();
                "a stage added".to_owned()
            }
            (9, _) => self.drop_last(),
            (10, _) => {
                self.draft.seed = number;
                format!("seed {number}")
            }
            (11, _) => {
                self.draft.salt = number;
                format!("salt {number}")
            }
            (12, _) => {
                self.draft.is_reversed = !self.draft.is_reversed;
                "the other order".to_owned()
            }
            (13, _) => {
                let content = self.random.below(2);
                self.draft.files.insert(number, content);
                self.write_files();
                format!("file {number}: {content}")
            }
            (14, _) => {
                self.draft.files.remove(&number);
                self.write_files();
                format!("no file {number}")
            }
            (15, _) => self.remove_output(index),
            (16, _) => self.damage_output(index),
            (17, _) if number == 0 => {
                std::fs::remove_dir_all(self.home.path("cache")).unwrap_or_default();
                let drawn = std::mem::take(&mut self.oracle.drawn);
                self.oracle = Oracle { drawn, ..Oracle::default() };
                "no store".to_owned()
            }
            _ => "nothing".to_owned(),
        }
    }

    /// Removes the last stage: nothing needs it.
    fn drop_last(&mut self) -> String {
        if self.draft.stages.len() > 1 {
            self.draft.stages.pop();
        }
        "the last stage removed".to_owned()
    }

    /// The output of a stage after the last run, if it is still in the store.
    fn output(&self, index: usize) -> Option<(Output, PathBuf)> {
        let found = self.outputs.get(index)?.clone()?;
        self.oracle.stored.contains(&found.0).then_some(found)
    }

    fn remove_output(&mut self, index: usize) -> String {
        let Some((output, path)) = self.output(index) else { return "nothing".to_owned() };
        std::fs::remove_dir_all(path).unwrap();
        self.oracle.stored.remove(&output);
        self.oracle.damaged.remove(&output);
        format!("output {output:?} removed")
    }

    /// Changes a byte of an output; of a pipeline in which nothing fails, so that it can be rebuilt.
    fn damage_output(&mut self, index: usize) -> String {
        let Some((output, path)) = self.output(index) else { return "nothing".to_owned() };
        for stage in &mut self.draft.stages {
            if let Body::Write { fails, .. } = &mut stage.body {
                *fails = false;
            }
        }
        if self.oracle.damaged.insert(output.clone()) {
            super::damage::flip_file(&path.join("text"));
        }
        format!("output {output:?} damaged, nothing fails")
    }

    /// Runs the pipeline and compares what happens with what the oracle says. Returns the number of
    /// decisions.
    fn run(&mut self) -> u64 {
        let count = self.draft.stages.len();
        let forced = self.random.chance(0.15).then(|| self.pick(count));
        let name = |index: usize| self.draft.stages[index].name.clone();
        let force = forced.map_or(Force::None, |index| Force::Stages(vec![name(index)]));
        writeln!(self.done, "run, force {:?}", forced.map(name)).unwrap();
        let options = Options { force, keep_going: true, ..Options::default() };
        let text = self.draft.text();
        let plan = self.home.plan(&text, &options);
        let planned: BTreeMap<&str, &str> =
            plan.stages.iter().map(|stage| (stage.name.as_str(), stage.state.name())).collect();
        let run = self.home.run_with(&text, &options, &CancellationToken::new());
        let stages: Vec<&StageReport> = self
            .draft
            .stages
            .iter()
            .map(|drafted| run.report.stages.iter().find(|stage| stage.stage == drafted.name))
            .map(|stage| stage.expect("it is in the report"))
            .collect();
        let read = |stage: &&StageReport| {
            let artifact = stage.artifact.as_ref();
            artifact
                .map(|artifact| std::fs::read_to_string(artifact.file("text")).unwrap_or_default())
        };
        let texts: Vec<Option<String>> = stages.iter().map(read).collect();
        let seen: Vec<String> = texts.iter().map(|text| text.clone().unwrap_or_default()).collect();
        let expected_plan = self.oracle.planned(&self.draft, forced);
        // Of two stages with the same key, the first one runs.
        let position = |stage: &PlannedStage| {
            self.draft.stages.iter().position(|drafted| drafted.name == stage.name)
        };
        let order: Vec<usize> = plan.stages.iter().filter_map(position).collect();
        let fates = self.oracle.fates(&self.draft, &order, forced, &seen);
        for (index, fate) in fates.iter().enumerate() {
            let place = format!("{}{text}stage {}", self.done, name(index));
            assert_eq!(planned[name(index).as_str()], expected_plan[index], "{place}, planned");
            let outcome = json!(stages[index].outcome);
            assert_eq!(outcome, fate.name(), "{place}, outcome");
            let is_damaged =
                fate.output().is_some_and(|output| self.oracle.damaged.contains(output));
            if !is_damaged {
                let expected = fate.output().map(|(text, _)| text);
                assert_eq!(texts[index].as_ref(), expected, "{place}, output");
            }
        }
        let path = |stage: &StageReport| stage.artifact.as_ref().unwrap().path.clone();
        let pairs = fates.iter().zip(stages);
        self.outputs = pairs
            .map(|(fate, stage)| fate.output().map(|output| (output.clone(), path(stage))))
            .collect();
        2 * count as u64
    }
}

#[test]
fn random_edits_run_what_an_oracle_says() {
    let (next, decisions) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= SEQUENCES {
                break;
            }
            let mut sequence = Sequence::new(number);
            for _ in 0..EDITS {
                sequence.edit();
                if sequence.random.chance(0.7) {
                    decisions.fetch_add(sequence.run(), Ordering::Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    assert!(decisions.into_inner() > 20 * SEQUENCES);
}
