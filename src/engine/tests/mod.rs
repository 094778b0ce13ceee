//! Tests of the engine through its public interface, with kinds made for them.

mod caching;
mod damage;
mod errors;
mod execution;
mod oracle;
mod remote;

use super::*;
use crate::config::{KeyType, NoKeys, load};
use crate::events::{CancellationToken, Event, KeyValue, Reason, RunOutcome, StageOutcome};
use crate::store::Store;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Writes its `text`, after what its inputs say. With a `folder`, the digest of that folder's
/// listing is pinned.
struct Write;

crate::config::keys! {
    struct WriteOptions / WriteKeys {
        text: String = "plain";
        /// Written to a file that nobody reads.
        aside: Option<String> = none;
        folder: Option<PathBuf> = none;
        every: u64 = 3 in 0..=100 affects Execution;
        /// Something bad.
        act: Option<String> = none affects Execution;
    }
}

const WRITE_INPUTS: &[Input] = &[
    Input {
        role: "above",
        kinds: &["write", "draw"],
        required: false,
        parts: Parts::None,
        reads: &["text"],
        self_checked: &[],
        doc: "text to go on from",
    },
    Input {
        role: "beside",
        kinds: &["write"],
        required: false,
        parts: Parts::None,
        reads: &[],
        self_checked: &[],
        doc: "more text",
    },
];

impl Kind for Write {
    type Keys = WriteOptions;
    type Dataset = NoKeys;
    type Resolved = WriteOptions;

    fn name(&self) -> &'static str {
        "write"
    }
    fn about(&self) -> &'static str {
        "writes"
    }
    fn version(&self) -> u32 {
        1
    }
    fn inputs(&self) -> &'static [Input] {
        WRITE_INPUTS
    }
    fn resolve(
        &self,
        keys: WriteKeys,
        _dataset: NoKeys,
        resolver: &mut Resolver,
    ) -> Option<WriteOptions> {
        if *keys.text == "forbidden" {
            let diagnostic = keys.text.error("that text is forbidden");
            resolver.report(diagnostic.label("expected another").help("write `plain`".to_owned()));
        }
        if let Some(feed) = resolver.input("above")
            && feed.resolved(&Write).is_some_and(|above| above.text == *keys.text)
        {
            resolver.report(resolver.stage_error(format!("it repeats `{}`", feed.stage)));
        }
        resolver.is_clean().then(|| WriteOptions::resolved(keys))
    }
    fn pin(
        &self,
        options: &WriteOptions,
        store: &Store,
        _cancel: &CancellationToken,
    ) -> Result<Pin, StageError> {
        let Some(folder) = &options.folder else { return Ok(Pin::default()) };
        let listing = store.folder_listing(folder).or_fail("listing `folder`")?;
        let facts = [("listing".to_owned(), json!(listing.digest()))].into();
        Ok(Pin { facts, replaces: vec!["folder"], folder: Some(folder.clone()) })
    }
    fn run(&self, options: &WriteOptions, context: &Context) -> Result<(), StageError> {
        let mut text = String::new();
        for role in ["above", "beside"] {
            if let Some(input) = context.optional_input(role) {
                text += &std::fs::read_to_string(input.path.join("text"))
                    .or_fail("reading what is above")?;
                text += if input.folder.is_some() { " (borrowed)" } else { "" };
            }
        }
        text += &options.text;
        context.events.info(format!("wrote {text}"));
        match options.act.as_deref().unwrap_or_default() {
            "fail" => return Err(StageError::failed("it failed").with_help("do better")),
            "panic" => panic!("at the disco"),
            "wait" => {
                let task = context.events.task("wait", None, "moments");
                loop {
                    StageError::check(&context.cancel)?;
                    task.advance(1);
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            "spoil" => std::fs::write(options.folder.as_ref().unwrap().join("new"), "x")
                .or_fail("spoiling")?,
            "slow" => std::thread::sleep(Duration::from_millis(150)),
            _ => {}
        }
        std::fs::write(context.slot.join("aside"), options.aside.as_deref().unwrap_or_default())
            .or_fail("writing aside")?;
        std::fs::write(context.slot.join("text"), text).or_fail("writing text")
    }
}

/// Draws a number, and reads a key of `[dataset]`.
struct Draw;

crate::config::keys! {
    struct Salt / GivenSalt {
        salt: u64 = 1 in 0..=9;
        labels: String = required;
    }
}

#[derive(Serialize, Deserialize)]
struct DrawOptions {
    dataset: Salt,
}

impl Kind for Draw {
    type Keys = NoKeys;
    type Dataset = Salt;
    type Resolved = DrawOptions;

    fn name(&self) -> &'static str {
        "draw"
    }
    fn about(&self) -> &'static str {
        "draws"
    }
    fn version(&self) -> u32 {
        2
    }
    fn resolve(
        &self,
        _keys: NoKeys,
        dataset: GivenSalt,
        _resolver: &mut Resolver,
    ) -> Option<DrawOptions> {
        Some(DrawOptions { dataset: Salt::resolved(dataset) })
    }
    fn draws(&self) -> bool {
        true
    }
    fn computes(&self) -> bool {
        true
    }
    fn run(&self, _options: &DrawOptions, context: &Context) -> Result<(), StageError> {
        std::fs::write(
            context.slot.join("text"),
            format!("{} {}", context.seed, context.values["dataset"]),
        )
        .or_fail("writing")
    }
}

static KINDS: &Kinds = &[KindRef::new(&Write), KindRef::new(&Draw)];

struct Home {
    folder: tempfile::TempDir,
    /// Stage, kind and fingerprint of the stages that ran, latest first.
    history: Mutex<Vec<(String, String, Fingerprint)>>,
}

impl History for Home {
    fn earlier(&self, stage: &str, kind: &str) -> Vec<(String, Fingerprint)> {
        let history = self.history.lock().unwrap();
        let pair = |(name, _, known): &(String, String, Fingerprint)| (name.clone(), known.clone());
        let same = history.iter().find(|(name, _, _)| name == stage).map(|known| vec![pair(known)]);
        same.unwrap_or_else(|| history.iter().filter(|(_, of, _)| of == kind).map(pair).collect())
    }
}

/// The report and the events of a run.
struct Run {
    report: Report,
    events: Vec<Event>,
}

impl Home {
    fn new() -> Home {
        Home { folder: tempfile::tempdir().unwrap(), history: Mutex::default() }
    }

    /// Where syncing costs nothing, if there is such a place.
    fn in_memory() -> Home {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        Home { folder, history: Mutex::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn store(&self) -> Store {
        Store::open(&self.path("cache")).unwrap()
    }

    fn graph(&self, text: &str) -> Result<Graph, crate::config::Diagnostics> {
        let file = self.path("p.toml");
        std::fs::write(&file, text).unwrap();
        graph(&load(&file, &[])?, KINDS)
    }

    fn plan(&self, text: &str, options: &Options) -> Plan {
        plan(&self.graph(text).unwrap(), &self.store(), options, self, &CancellationToken::new())
            .unwrap()
    }

    fn run(&self, text: &str) -> Run {
        self.run_with(text, &Options::default(), &CancellationToken::new())
    }

    fn run_with(&self, text: &str, options: &Options, cancel: &CancellationToken) -> Run {
        let (graph, store) = (self.graph(text).unwrap(), self.store());
        let plan = plan(&graph, &store, options, self, cancel).unwrap();
        let mut events = Vec::new();
        let mut handler = |event: &Event| events.push(event.clone());
        let report = execute_with(
            &InProcessLauncher(KINDS),
            &graph,
            plan,
            &store,
            options,
            cancel,
            &mut handler,
        )
        .unwrap();
        let ran = report.stages.iter().filter(|stage| stage.outcome == StageOutcome::Ran);
        let known = ran.map(|stage| {
            (stage.stage.clone(), stage.kind.to_owned(), stage.fingerprint.clone().unwrap())
        });
        self.history.lock().unwrap().splice(0..0, known);
        Run { report, events }
    }

    /// The number of leftover slots and job folders.
    fn leftovers(&self) -> usize {
        let count =
            |folder: PathBuf| std::fs::read_dir(folder).map_or(0, |entries| entries.count());
        count(self.path("cache/v1/slots")) + count(self.path("cache/v1/jobs"))
    }
}

impl Run {
    /// Such as "a ran, b fresh".
    fn outcomes(&self) -> String {
        let word = |outcome: StageOutcome| json!(outcome).as_str().unwrap().to_owned();
        let words = self
            .report
            .stages
            .iter()
            .map(|stage| format!("{} {}", stage.stage, word(stage.outcome)));
        words.collect::<Vec<_>>().join(", ")
    }

    fn reasons(&self, of: &str) -> Vec<String> {
        let reasons = self.events.iter().find_map(|event| match event {
            Event::StageStarted { stage, reasons, .. } if stage == of => Some(reasons.clone()),
            _ => None,
        });
        reasons.unwrap_or_default()
    }

    fn text(&self, of: &str) -> String {
        let stage = self.report.stages.iter().find(|stage| stage.stage == of).unwrap();
        std::fs::read_to_string(stage.artifact.as_ref().unwrap().file("text")).unwrap()
    }

    fn error(&self, of: &str) -> String {
        self.report
            .stages
            .iter()
            .find(|stage| stage.stage == of)
            .unwrap()
            .error
            .clone()
            .unwrap_or_default()
    }

    fn messages(&self) -> Vec<&str> {
        let messages = self.events.iter().filter_map(|event| match event {
            Event::Message { text, .. } => Some(text.as_str()),
            _ => None,
        });
        messages.collect()
    }
}

const CHAIN: &str = r#"
    [stages.a]
    kind = "write"
    [stages.b]
    kind = "write"
    text = "b"
    needs = { above = "a" }
    [stages.c]
    kind = "write"
    text = "c"
    needs = { above = "b" }
"#;
