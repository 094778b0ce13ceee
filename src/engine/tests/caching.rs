//! Tests of cache hits: what reruns, what stays fresh, and the reasons.

use super::*;

#[test]
fn a_second_run_is_fresh_and_replays_the_logs() {
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
fn a_changed_key_reruns_dependent_stages_with_reasons() {
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
        "back to artifacts that were built before"
    );
    let run = home.run(&CHAIN.replace("text = \"c\"", ""));
    assert_eq!(run.reasons("c"), ["text: c -> plain (default)", "input `above` changed (b)"]);
    std::fs::remove_dir_all(home.path("cache")).unwrap();
    assert_eq!(home.run(CHAIN).reasons("a"), ["its artifact is no longer in the store"]);
}

#[test]
fn a_pending_stage_turns_out_fresh_if_the_files_that_it_reads_are_equal() {
    let home = Home::new();
    home.run(CHAIN);
    let run = home.run(&CHAIN.replace("[stages.b]", "aside = \"x\"\n[stages.b]"));
    assert_eq!(run.outcomes(), "a ran, b fresh, c fresh");
    assert_eq!(run.reasons("a"), ["aside: none -> x"]);
    let forced = Options { force: Force::Stages(vec!["a".into()]), ..Options::default() };
    let run = home.run_with(CHAIN, &forced, &CancellationToken::new());
    assert_eq!(run.outcomes(), "a ran, b fresh, c fresh");
    assert_eq!(run.reasons("a"), ["forced"]);
}

#[test]
fn a_fingerprint_contains_only_what_affects_the_output() {
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
    let built = fingerprints(1, 1);
    assert_eq!(built, fingerprints(3, 2));
    let listing = home.store().folder_listing(&home.path("images")).unwrap().digest();
    assert_eq!(
        json!(built[0]),
        json!({"format": 1, "kind": "write", "version": 1, "parameters": {}, "inputs": {}, "facts": {"listing": listing}})
    );
    assert_eq!(
        json!(built[1]),
        json!({"format": 1, "kind": "draw", "version": 2, "parameters": {"dataset.labels": "x"}, "inputs": {},
            "facts": {}, "seed": 7, "device": "cpu"})
    );
    let run = home.run(text);
    let artifacts: Vec<_> =
        run.report.stages.iter().map(|stage| stage.artifact.as_ref().unwrap()).collect();
    assert_eq!(built[2].inputs["above"], artifacts[1].part(&["text"]));
    assert_eq!(built[2].inputs["beside"], artifacts[0].digest);
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

#[test]
fn a_damaged_artifact_is_reported_and_rebuilt() {
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
fn two_stages_with_one_key_build_it_once() {
    let text = "[stages.a]\nkind = \"write\"\nact = \"slow\"\n[stages.b]\nkind = \"write\"\nact = \"slow\"";
    let options = Options { jobs: 2, ..Options::default() };
    let outcomes = Home::new().run_with(text, &options, &CancellationToken::new()).outcomes();
    assert!(outcomes == "a ran, b fresh" || outcomes == "a fresh, b ran", "{outcomes}");
}
