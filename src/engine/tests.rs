//! The engine as its users see it, with kinds made for it: what runs, what doesn't, and the reason that is given.

use super::*;
use crate::config::{GivenNoKeys, KeyType, NoKeys, load};
use crate::events::{CancellationToken, Event, KeyValue, Reason, RunOutcome, StageOutcome};
use crate::store::Store;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Writes its `text`, after what its inputs say. With a `folder`, the digest of that folder's listing is pinned.
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
        reads: &["text"],
        doc: "text to go on from",
    },
    Input { role: "beside", kinds: &["write"], required: false, reads: &[], doc: "more text" },
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
        _dataset: GivenNoKeys,
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
        let facts = [("listing".to_owned(), json!(listing.digest))].into();
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
        _keys: GivenNoKeys,
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
    /// Stage, kind and fingerprint of what ran earlier, the latest first.
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

/// What a run told.
struct Run {
    report: Report,
    events: Vec<Event>,
}

impl Home {
    fn new() -> Home {
        Home { folder: tempfile::tempdir().unwrap(), history: Mutex::default() }
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
        let mut listen = |event: &Event| events.push(event.clone());
        let report = execute_with(
            &InProcessLauncher(KINDS),
            &graph,
            plan,
            &store,
            options,
            cancel,
            &mut listen,
        )
        .unwrap();
        let ran = report.stages.iter().filter(|stage| stage.outcome == StageOutcome::Ran);
        let known = ran.map(|stage| {
            (stage.stage.clone(), stage.kind.to_owned(), stage.fingerprint.clone().unwrap())
        });
        self.history.lock().unwrap().splice(0..0, known);
        Run { report, events }
    }

    /// What is left of runs besides results.
    fn leftovers(&self) -> usize {
        let count =
            |folder: PathBuf| std::fs::read_dir(folder).map_or(0, |entries| entries.count());
        count(self.path("cache/v1/slots")) + count(self.path("cache/v1/jobs"))
    }
}

impl Run {
    /// "a ran, b fresh".
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

#[test]
fn a_second_run_does_nothing_and_tells_the_same() {
    let home = Home::new();
    let first = home.run(CHAIN);
    assert_eq!(first.outcomes(), "a ran, b ran, c ran");
    assert_eq!(first.text("c"), "plainbc");
    assert_eq!(first.reasons("a"), ["never ran before"]);
    let second = home.run(CHAIN);
    assert_eq!(second.outcomes(), "a fresh, b fresh, c fresh");
    assert_eq!(second.report.outcome, RunOutcome::Ok);
    assert_eq!(second.messages(), ["wrote plain", "wrote plainb", "wrote plainbc"]);
    assert!(home.plan(CHAIN, &Options::default()).is_fresh());
    assert_eq!(home.leftovers(), 0);
}

#[test]
fn a_change_reruns_what_it_reaches_and_says_why() {
    let home = Home::new();
    home.run(CHAIN);
    let changed = CHAIN.replace("text = \"b\"", "text = \"B\"");
    let plan = home.plan(&changed, &Options::default());
    let [a, b, c] = plan.stages.as_slice() else { panic!() };
    assert!(a.state.is_fresh());
    let given = |text: &str| KeyValue::Given(text.into());
    let reason = Reason::KeyChanged { path: "text".into(), old: given("b"), new: given("B") };
    assert!(
        matches!(&b.state, Planned::Dirty { reasons, .. } if reasons.as_slice() == [reason.clone()]),
        "{:?}",
        b.state
    );
    assert!(matches!(&c.state, Planned::Pending { below } if *below == ["b"]), "{:?}", c.state);
    let run = home.run(&changed);
    assert_eq!(run.outcomes(), "a fresh, b ran, c ran");
    assert_eq!(run.reasons("b"), ["text: b -> B"]);
    assert_eq!(run.reasons("c"), ["input `above` changed (b)"]);
    assert_eq!(
        home.run(CHAIN).outcomes(),
        "a fresh, b fresh, c fresh",
        "back to what was made before"
    );
    let run = home.run(&CHAIN.replace("text = \"c\"", ""));
    assert_eq!(run.reasons("c"), ["text: c -> plain (default)", "input `above` changed (b)"]);
    std::fs::remove_dir_all(home.path("cache")).unwrap();
    assert_eq!(home.run(CHAIN).reasons("a"), ["its artifact is no longer in the store"]);
}

#[test]
fn a_stage_below_turns_out_fresh_where_what_it_reads_stays_the_same() {
    let home = Home::new();
    home.run(CHAIN);
    let run = home.run(&CHAIN.replace("[stages.b]", "aside = \"x\"\n[stages.b]"));
    assert_eq!(run.outcomes(), "a ran, b fresh, c fresh");
    assert_eq!(run.reasons("a"), ["aside: default -> x"]);
    let forced = Options { force: Force::Stages(vec!["a".into()]), ..Options::default() };
    let run = home.run_with(CHAIN, &forced, &CancellationToken::new());
    assert_eq!(run.outcomes(), "a ran, b fresh, c fresh");
    assert_eq!(run.reasons("a"), ["forced"]);
}

#[test]
fn a_fingerprint_is_what_affects_the_output_and_nothing_else() {
    let home = Home::new();
    std::fs::create_dir(home.path("images")).unwrap();
    let text = r#"
        [pipeline]
        seed = 7
        [dataset]
        labels = "x"
        [stages.a]
        kind = "write"
        text = "plain"
        folder = "images"
        every = 9
        timeout = 100
        [stages.d]
        kind = "draw"
        [stages.e]
        kind = "write"
        text = "e"
        needs = { above = "d", beside = "a" }
    "#;
    let fingerprints = |threads, jobs| -> Vec<Fingerprint> {
        let options = Options { threads, jobs, ..Options::default() };
        let report = home.run_with(text, &options, &CancellationToken::new()).report;
        report.stages.into_iter().map(|stage| stage.fingerprint.unwrap()).collect()
    };
    let made = fingerprints(1, 1);
    assert_eq!(made, fingerprints(3, 2));
    let listing = home.store().folder_listing(&home.path("images")).unwrap().digest;
    assert_eq!(
        json!(made[0]),
        json!({"format": 1, "kind": "write", "version": 1, "parameters": {}, "inputs": {}, "facts": {"listing": listing}})
    );
    assert_eq!(
        json!(made[1]),
        json!({"format": 1, "kind": "draw", "version": 2, "parameters": {"dataset.labels": "x"}, "inputs": {},
            "facts": {}, "seed": 7, "device": "cpu"})
    );
    let run = home.run(text);
    let artifacts: Vec<_> =
        run.report.stages.iter().map(|stage| stage.artifact.as_ref().unwrap()).collect();
    assert_eq!(made[2].inputs["above"], artifacts[1].part(&["text"]));
    assert_eq!(made[2].inputs["beside"], artifacts[0].digest);
    assert_eq!(run.text("e"), "7 {\"labels\":\"x\",\"salt\":1}plain (borrowed)e");
}

#[test]
fn a_folder_may_move_but_not_change() {
    let home = Home::new();
    let text = |folder: &str, more: &str| {
        format!("[stages.a]\nkind = \"write\"\nfolder = \"{folder}\"\n{more}")
    };
    std::fs::create_dir(home.path("one")).unwrap();
    std::fs::write(home.path("one/image"), "1").unwrap();
    assert_eq!(home.run(&text("one", "")).outcomes(), "a ran");
    std::fs::rename(home.path("one"), home.path("two")).unwrap();
    assert_eq!(home.run(&text("two", "")).outcomes(), "a fresh");
    std::fs::write(home.path("two/image"), "2").unwrap();
    let run = home.run(&text("two", ""));
    assert!(run.reasons("a")[0].starts_with("listing: "), "{:?}", run.reasons("a"));
    let run = home.run(&text("two", "aside = \"x\"\nact = \"spoil\""));
    assert_eq!(run.outcomes(), "a failed");
    assert!(
        run.error("a").contains("changed while the stage ran, so the result was discarded"),
        "{}",
        run.error("a")
    );
    assert_eq!(home.leftovers(), 0);
    let graph = home.graph(&text("none", "")).unwrap();
    let error =
        plan(&graph, &home.store(), &Options::default(), &NoHistory, &CancellationToken::new())
            .unwrap_err();
    assert!(matches!(&error, EngineError::Stage { stage, .. } if stage == "a"), "{error}");
}

const FORK: &str = r#"
    [stages.a]
    kind = "write"
    act = "slow"
    [stages.b]
    kind = "write"
    text = "b"
    act = "ACT"
    [stages.c]
    kind = "write"
    text = "c"
    needs = { above = "b" }
    [stages.d]
    kind = "write"
    text = "d"
    needs = { above = "a" }
"#;

#[test]
fn a_failure_is_told_and_stops_what_it_has_to() {
    let home = Home::new();
    let run = home.run(&FORK.replace("ACT", "fail"));
    assert_eq!(run.outcomes(), "a ran, b failed, c skipped, d skipped");
    assert_eq!(run.report.outcome, RunOutcome::Failed);
    assert_eq!(run.error("b"), "it failed\ndo better");
    assert_eq!((run.error("c"), run.error("d")), ("`b` failed".into(), "`b` failed".into()));
    let options = Options { keep_going: true, ..Options::default() };
    let run = home.run_with(&FORK.replace("ACT", "fail"), &options, &CancellationToken::new());
    assert_eq!(run.outcomes(), "a fresh, b failed, c skipped, d ran");
    let run = home.run(&FORK.replace("ACT", "panic"));
    assert!(run.error("b").starts_with("internal error: at the disco"), "{}", run.error("b"));
    assert_eq!(home.leftovers(), 0);
    assert_eq!(home.run(&FORK.replace("ACT", "")).outcomes(), "a fresh, b ran, c ran, d fresh");
}

#[test]
fn a_timeout_fails_the_stage() {
    let home = Home::new();
    let run = home.run("[stages.a]\nkind = \"write\"\nact = \"wait\"\ntimeout = 0.05");
    assert_eq!(run.outcomes(), "a failed");
    assert_eq!(run.error("a"), "stopped after its timeout of 0.05 seconds");
}

#[test]
fn a_wish_to_stop_is_answered_and_loses_nothing() {
    let home = Home::new();
    let cancel = CancellationToken::new();
    let text = FORK.replace("ACT", "wait");
    let asked = {
        let (cancel, made) = (cancel.clone(), home.path("cache/v1/keys"));
        std::thread::spawn(move || {
            while !made.exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(100));
            cancel.cancel();
            Instant::now()
        })
    };
    let run = home.run_with(&text, &Options::default(), &cancel);
    assert!(asked.join().unwrap().elapsed() < Duration::from_secs(2));
    assert_eq!(run.outcomes(), "a ran, b skipped, c skipped, d skipped");
    assert_eq!((run.report.outcome, run.error("b").as_str()), (RunOutcome::Cancelled, "cancelled"));
    assert!(run.messages().iter().any(|text| text.starts_with("stopping")));
    assert_eq!(home.leftovers(), 0);
    assert_eq!(home.run(&FORK.replace("ACT", "")).outcomes(), "a fresh, b ran, c ran, d ran");
}

#[test]
fn stages_run_side_by_side_within_the_number_of_jobs() {
    let most_at_once = |jobs| {
        let options = Options { jobs, ..Options::default() };
        let run =
            Home::new().run_with(&FORK.replace("ACT", "slow"), &options, &CancellationToken::new());
        assert_eq!(run.outcomes(), "a ran, b ran, c ran, d ran");
        let (mut now, mut most) = (0, 0);
        for event in &run.events {
            match event {
                Event::StageStarted { .. } => now += 1,
                Event::StageFinished { .. } => now -= 1,
                _ => {}
            }
            most = most.max(now);
        }
        most
    };
    assert_eq!((most_at_once(1), most_at_once(2)), (1, 2));
}

#[test]
fn two_stages_with_one_key_make_it_once() {
    let text = "[stages.a]\nkind = \"write\"\nact = \"slow\"\n[stages.b]\nkind = \"write\"\nact = \"slow\"";
    let options = Options { jobs: 2, ..Options::default() };
    let outcomes = Home::new().run_with(text, &options, &CancellationToken::new()).outcomes();
    assert!(outcomes == "a ran, b fresh" || outcomes == "a fresh, b ran", "{outcomes}");
}

#[test]
fn options_name_stages() {
    let home = Home::new();
    let until = Options { until: vec!["b".into()], ..Options::default() };
    assert_eq!(home.run_with(CHAIN, &until, &CancellationToken::new()).outcomes(), "a ran, b ran");
    home.run(CHAIN);
    let from = Options { from: Some("b".into()), ..Options::default() };
    assert_eq!(
        home.run_with(CHAIN, &from, &CancellationToken::new()).outcomes(),
        "a fresh, b ran, c ran"
    );
    let all = Options { force: Force::All, ..Options::default() };
    assert_eq!(
        home.run_with(CHAIN, &all, &CancellationToken::new()).outcomes(),
        "a ran, b ran, c ran"
    );
    let wrong = Options { until: vec!["zzz".into()], ..Options::default() };
    let graph = home.graph(CHAIN).unwrap();
    let error =
        plan(&graph, &home.store(), &wrong, &NoHistory, &CancellationToken::new()).unwrap_err();
    assert_eq!(error.to_string(), "there is no stage `zzz`; the stages are `a`, `b`, `c`");
}

#[test]
fn what_is_damaged_is_said_and_made_again() {
    let home = Home::new();
    let artifact = home.run(CHAIN).report.stages[1].artifact.clone().unwrap();
    std::fs::remove_file(artifact.file("text")).unwrap();
    let run = home.run(CHAIN);
    assert_eq!(run.outcomes(), "a fresh, b ran, c fresh");
    let reason = &run.reasons("b")[0];
    assert!(reason.contains("was damaged (text is missing)"), "{reason}");
    assert!(run.messages().contains(&reason.as_str()));
}

#[test]
fn all_mistakes_are_told_together() {
    let home = Home::new();
    let text = r#"
[dataset]
salt = 11
lables = "x"
[stages.a]
kind = "write"
text = "forbidden"
[stages.b]
kind = "wirte"
[stages.c]
kind = "write"
txt = 3
needs = { abov = "a", beside = "d" }
[stages.d]
kind = "draw"
[stages.e]
kind = "write"
text = "x"
[stages.f]
kind = "write"
text = "x"
needs = { above = "e" }
"#;
    let diagnostics = home.graph(text).unwrap_err();
    let said = |words: &str| {
        diagnostics.list.iter().filter(|diagnostic| diagnostic.message.contains(words)).count()
    };
    for words in [
        "forbidden",
        "there is no kind of stage named `wirte`",
        "has no input named `abov`",
        "`d` can't feed `beside` of `c`: it is a `draw` stage",
        "`txt`",
        "`lables`",
        "it repeats `e`",
    ] {
        assert_eq!(said(words), 1, "{words}: {diagnostics}");
    }
    let rendered = diagnostics.to_string();
    for help in [
        "did you mean `write`?",
        "did you mean `above`?",
        "did you mean `text`?",
        "did you mean `labels`?",
    ] {
        assert!(rendered.contains(help), "{help}: {rendered}");
    }
    let unread = home.graph("[dataset]\nsalt = 2\n[stages.a]\nkind = \"write\"").unwrap();
    assert!(!unread.stages[0].values.contains_key("dataset"));
    assert!(home.graph("[stages.a]\nkind = \"draw\"").unwrap_err().to_string().contains("labels"));
    let missing =
        home.graph("[stages.a]\nkind = \"write\"\nneeds = { above = \"z\" }\n").unwrap_err();
    assert_eq!(missing.list.len(), 1, "{missing}");
}
