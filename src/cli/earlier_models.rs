//! Resolves `source = "run:ID/STAGE"` to a model file in the store before planning: only the
//! command line has access to both runs and stages.

use super::failure::Failure;
use super::shared::{find_run, intact, stage_of};
use crate::engine::Graph;
use crate::runs::{Record, RunId, StageRecord};
use crate::stages;
use crate::store::{Digest, Store};
use crate::ui;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Stages that start from a model of an earlier run: by name, the run's full id and its train
/// stage.
pub(super) struct EarlierModels(BTreeMap<String, (RunId, String)>);

impl EarlierModels {
    /// Replaces the path of the model, which means nothing to a reader, by run and stage in a
    /// stage's record.
    pub(super) fn name_in(&self, stage: &mut StageRecord) {
        if let Some((run, made_by)) = self.0.get(&stage.stage) {
            stages::name_earlier_model(&mut stage.parameters, run.as_str(), made_by);
        }
    }
}

/// Replaces each source that names an earlier run by the path of the model in the store.
pub(super) fn resolve(graph: &mut Graph, store: &Store) -> Result<EarlierModels, Failure> {
    let mut models = BTreeMap::new();
    for stage in &mut graph.stages {
        let Some((run, made_by)) = stages::earlier_model(stage.kind.name(), &stage.values) else {
            continue;
        };
        let record = find_run(store, &run)?;
        let name = &stage.name;
        if run.starts_with('@') {
            let id = &record.id;
            ui::warning(&format!(
                "stage `{name}`: `run:{run}/{made_by}` changes its meaning with every run, now {id}; write `run:{id}/{made_by}` to pin it"
            ));
        }
        let path =
            artifact_of(&record, &made_by, store).map_err(|failure| failure.in_stage(name))?;
        if !stages::set_earlier_model(&mut stage.values, &path) {
            let message = format!("stage `{made_by}` of run {} has no model", record.id);
            return Err(Failure::invalid(message)
                .help("name a stage that trains, such as `run:k3x9qa/train`")
                .in_stage(name));
        }
        models.insert(stage.name.clone(), (record.id.clone(), made_by));
    }
    Ok(EarlierModels(models))
}

/// The artifact of a stage of an earlier run.
fn artifact_of(record: &Record, name: &str, store: &Store) -> Result<PathBuf, Failure> {
    let stage = stage_of(record, name)?;
    let digest = stage.digest.as_ref().and_then(|digest| digest.parse::<Digest>().ok());
    let Some(digest) = digest else {
        let message = format!("stage `{name}` of run {} did not succeed", record.id);
        return Err(Failure::invalid(message)
            .help("name a run in which it succeeded: `pipe runs` lists them"));
    };
    let artifact = intact(store, &digest, &[])?.ok_or_else(|| {
        let message =
            format!("the output of `{name}` of run {} is no longer in the store", record.id);
        Failure::invalid(message).help(format!("run its pipeline again: `{}`", record.file))
    })?;
    Ok(artifact.path)
}
