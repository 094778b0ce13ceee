//! Tests of outputs in caches elsewhere: which are copied, and what happens if that fails.

use super::*;
use crate::events::EventSink;
use crate::store::{Digest, RemoteArtifact};
use std::path::Path;
use std::sync::Arc;

/// Another store. Some of its outputs can't be copied.
#[derive(Debug)]
struct Other {
    store: Store,
    broken: Vec<Digest>,
    refused: Mutex<Vec<Digest>>,
    copied: Mutex<Vec<Digest>>,
}

impl RemoteCaches for Other {
    fn find(&self, key: &Digest, _cancel: &CancellationToken) -> Option<RemoteArtifact> {
        if self.refused.lock().unwrap().contains(key) {
            return None;
        }
        let found = self.store.lookup(key).unwrap()?;
        let (log, place) = (self.store.log(key).unwrap(), "other".to_owned());
        let (digest, manifest) = (found.digest, found.manifest);
        Some(RemoteArtifact { key: *key, digest, manifest, log, place })
    }

    fn fetch(
        &self,
        artifact: &RemoteArtifact,
        folder: &Path,
        _events: &EventSink,
        _cancel: &CancellationToken,
    ) -> Result<(), StageError> {
        if self.broken.contains(&artifact.digest) {
            return Err(StageError::failed("it is broken"));
        }
        let found = self.store.artifact(&artifact.digest).unwrap().unwrap();
        for file in &found.manifest.files {
            std::fs::copy(found.file(&file.path), folder.join(&file.path)).unwrap();
        }
        self.copied.lock().unwrap().push(artifact.digest);
        Ok(())
    }

    fn refuse(&self, artifact: &RemoteArtifact) {
        self.refused.lock().unwrap().push(artifact.key);
    }

    fn places(&self) -> Vec<String> {
        Vec::new()
    }

    fn take_notes(&self) -> Vec<String> {
        Vec::new()
    }
}

fn digest_of(run: &Run, of: &str) -> Digest {
    run.report.stages.iter().find(|stage| stage.stage == of).unwrap().digest.unwrap()
}

/// A run of `text` in a new store, beside one that has [`CHAIN`] and can't copy the outputs of the
/// `broken` stages. Also the stages whose outputs were copied.
fn beside(text: &str, broken: &[&str]) -> (Home, Run, Vec<&'static str>) {
    let (one, home) = (Home::new(), Home::new());
    let first = one.run(CHAIN);
    let other = Arc::new(Other {
        store: one.store(),
        broken: broken.iter().map(|stage| digest_of(&first, stage)).collect(),
        refused: Mutex::default(),
        copied: Mutex::default(),
    });
    let options = Options { remotes: Some(other.clone()), ..Options::default() };
    let run = home.run_with(text, &options, &CancellationToken::new());
    assert_eq!(home.leftovers(), 0);
    let copied = other.copied.lock().unwrap().clone();
    let names = ["a", "b", "c"].into_iter();
    let copied = names.filter(|stage| copied.contains(&digest_of(&first, stage))).collect();
    (home, run, copied)
}

#[test]
fn results_are_copied_and_steps_on_the_way_are_not() {
    let (home, run, copied) = beside(CHAIN, &[]);
    assert_eq!(run.outcomes(), "a fresh, b fresh, c fresh");
    assert_eq!(copied, ["c"]);
    assert_eq!(run.text("c"), "plainbc");
    assert!(run.report.stages.iter().all(|stage| stage.remote.is_some() && stage.digest.is_some()));
    assert!(run.report.stages[1].artifact.is_none());
    assert!(run.messages().contains(&"wrote plainb"), "its log is replayed");
    // Without the other store the steps have to run, and what is below them turns out fresh.
    assert_eq!(home.run(CHAIN).outcomes(), "a ran, b ran, c fresh");
}

#[test]
fn inputs_of_stages_that_run_are_copied() {
    let (_home, run, copied) = beside(&CHAIN.replace("text = \"c\"", "text = \"C\""), &[]);
    assert_eq!(run.outcomes(), "a fresh, b fresh, c ran");
    assert_eq!(copied, ["b"]);
    assert_eq!(run.text("c"), "plainbC");
}

#[test]
fn a_stage_whose_output_cannot_be_copied_runs() {
    for (broken, outcomes, expected) in [
        (&["c"][..], "a fresh, b fresh, c ran", &["b"][..]),
        (&["b"], "a fresh, b fresh, c fresh", &["c"]),
        (&["b", "c"], "a fresh, b ran, c ran", &["a"]),
        (&["a", "b", "c"], "a ran, b ran, c ran", &[]),
    ] {
        let (_home, run, copied) = beside(CHAIN, broken);
        assert_eq!(run.outcomes(), outcomes, "{broken:?}");
        assert_eq!(copied, expected, "{broken:?}");
        assert_eq!(run.text("c"), "plainbc");
        let is_warning = |text: &&&str| text.ends_with("in other isn't used: it is broken");
        let warnings = run.messages().iter().filter(is_warning).count();
        assert_eq!(warnings, broken.len() - usize::from(broken == ["b"]), "{broken:?}");
    }
}

#[test]
fn a_forced_stage_is_not_taken_from_elsewhere() {
    let one = Home::new();
    one.run(CHAIN);
    let other = Other {
        store: one.store(),
        broken: Vec::new(),
        refused: Mutex::default(),
        copied: Mutex::default(),
    };
    let force = Force::Stages(vec!["b".to_owned()]);
    let options = Options { remotes: Some(Arc::new(other)), force, ..Options::default() };
    let run = Home::new().run_with(CHAIN, &options, &CancellationToken::new());
    assert_eq!(run.outcomes(), "a fresh, b ran, c fresh");
}
