//! The small results of outputs that stay in a cache elsewhere, for the record of a run: it keeps
//! copies of them, so that it can be shown and compared without the rest.

use super::failure::Failure;
use crate::engine::{Options, Report, StageReport};
use crate::events::{CancellationToken, EventSink};
use crate::runs::{self, StageRecord};
use crate::store::{JobFolder, Manifest, RemoteArtifact, Store};
use crate::ui;

/// Copies the results to a folder, from which the recorder takes them before it is removed. One that
/// can't be copied is left out, with a warning.
pub(super) fn copy_results(
    report: &Report,
    options: &Options,
    store: &Store,
    stages: &mut [StageRecord],
    cancel: &CancellationToken,
) -> Result<Option<JobFolder>, Failure> {
    let Some(caches) = &options.remotes else { return Ok(None) };
    let left = |stage: &StageReport| stage.artifact.is_none() && stage.remote.is_some();
    if !report.stages.iter().any(left) {
        return Ok(None);
    }
    let folder = store.job_folder()?;
    let recorded = runs::recorded_names();
    for (index, (stage, record)) in report.stages.iter().zip(stages).enumerate() {
        let Some(remote) = stage.remote.as_ref().filter(|_| stage.artifact.is_none()) else {
            continue;
        };
        let files = remote.manifest.files.iter();
        let small = files.filter(|file| recorded.contains(&file.path.as_str())).cloned().collect();
        let part = RemoteArtifact { manifest: Manifest { files: small }, ..(**remote).clone() };
        let path = folder.path().join(index.to_string());
        match caches.fetch(&part, &path, &EventSink::silent(), cancel) {
            Ok(()) => record.artifact = Some(path),
            Err(error) => ui::warning(&format!(
                "the record of `{}` is without its results: {error}",
                stage.stage
            )),
        }
    }
    Ok(Some(folder))
}
