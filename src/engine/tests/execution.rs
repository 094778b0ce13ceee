//! Tests of the executor: failures, timeouts, cancellation, parallel jobs and the options that
//! select stages.

use super::*;

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
fn a_failure_is_reported_and_skips_dependent_stages() {
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
fn cancellation_stops_running_stages_and_keeps_artifacts() {
    let home = Home::new();
    let cancel = CancellationToken::new();
    let text = FORK.replace("ACT", "wait");
    let cancelled = {
        let (cancel, keys) = (cancel.clone(), home.path("cache/v1/keys"));
        std::thread::spawn(move || {
            while !keys.exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(100));
            cancel.cancel();
            Instant::now()
        })
    };
    let run = home.run_with(&text, &Options::default(), &cancel);
    assert!(cancelled.join().unwrap().elapsed() < Duration::from_secs(2));
    assert_eq!(run.outcomes(), "a ran, b cancelled, c skipped, d skipped");
    assert_eq!(
        (run.report.outcome, run.error("c").as_str()),
        (RunOutcome::Cancelled, "interrupted")
    );
    assert!(run.messages().iter().any(|text| text.starts_with("stopping")));
    assert_eq!(home.leftovers(), 0);
    assert_eq!(home.run(&FORK.replace("ACT", "")).outcomes(), "a fresh, b ran, c ran, d ran");
}

#[test]
fn stages_run_in_parallel_up_to_the_number_of_jobs() {
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
fn options_select_stages() {
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
