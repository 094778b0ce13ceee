//! The stores elsewhere of `--cache-from`, for the engine: asked in order, each question once, and
//! not at all any more after one failed.

pub(crate) use crate::download::{Remote, RemoteError, Web};

use crate::download::DownloadError;
use crate::engine::{RemoteCaches, StageError};
use crate::events::{CancellationToken, EventSink};
use crate::store::{Digest, RemoteArtifact};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Stores elsewhere, in the order in which they are asked.
#[derive(Debug)]
pub(crate) struct Remotes {
    all: Vec<Remote>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The answers by place and key. A refused output is none.
    answers: HashMap<(String, Digest), Option<RemoteArtifact>>,
    /// The places that failed.
    failed: Vec<String>,
    notes: Vec<String>,
}

impl Remotes {
    /// The stores at these places. Asks for nothing yet.
    ///
    /// # Errors
    /// If one of them is none, or credentials would be sent to several hosts.
    pub(crate) fn at(places: &[String]) -> Result<Remotes, StageError> {
        let all = places.iter().map(|place| remote_at(place));
        let all = all.collect::<Result<Vec<_>, _>>()?;
        let mut hosts: Vec<&str> = all.iter().filter_map(Remote::host_with_login).collect();
        hosts.sort_unstable();
        hosts.dedup();
        if hosts.len() > 1 {
            let message = format!("the same credentials would be sent to {}", hosts.join(" and "));
            return Err(StageError::failed(message).with_help(
                "name only one web server, or unset PIPE_CACHE_TOKEN and PIPE_CACHE_USER",
            ));
        }
        Ok(Remotes { all, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer of a store; none once it failed.
    fn ask(
        &self,
        remote: &Remote,
        key: &Digest,
        cancel: &CancellationToken,
    ) -> Option<RemoteArtifact> {
        let place = remote.place();
        let question = (place.to_owned(), *key);
        {
            let state = self.state();
            if let Some(known) = state.answers.get(&question) {
                return known.clone();
            }
            if state.failed.iter().any(|failed| failed == place) {
                return None;
            }
        }
        let answer = remote.find(key, cancel).unwrap_or_else(|error| {
            self.take_error(place, error);
            None
        });
        if !cancel.is_cancelled() {
            self.state().answers.insert(question, answer.clone());
        }
        answer
    }

    fn take_error(&self, place: &str, error: RemoteError) {
        let is_unusable = matches!(error, RemoteError::Unusable(..));
        let Some(text) = message(place, error) else { return };
        let mut state = self.state();
        if is_unusable {
            if state.failed.iter().any(|failed| failed == place) {
                return;
            }
            state.failed.push(place.to_owned());
        }
        state.notes.push(text);
    }
}

impl RemoteCaches for Remotes {
    fn find(&self, key: &Digest, cancel: &CancellationToken) -> Option<RemoteArtifact> {
        self.all.iter().find_map(|remote| self.ask(remote, key, cancel))
    }

    fn fetch(
        &self,
        artifact: &RemoteArtifact,
        folder: &Path,
        events: &EventSink,
        cancel: &CancellationToken,
    ) -> Result<(), StageError> {
        let Some(remote) = self.all.iter().find(|remote| remote.place() == artifact.place) else {
            return Err(StageError::failed("it isn't among the caches of this run"));
        };
        let error = match remote.fetch(artifact, folder, events, cancel) {
            Ok(()) => return Ok(()),
            Err(RemoteError::Cancelled) => return Err(StageError::Cancelled),
            Err(error) => error,
        };
        let reason = match &error {
            RemoteError::Refused(reason) => {
                format!("{reason}; `pipe cache push --force` repairs it")
            }
            _ => "it can't be copied".to_owned(),
        };
        if let RemoteError::Unusable(..) = error {
            self.take_error(&artifact.place, error);
        }
        Err(StageError::failed(reason))
    }

    fn refuse(&self, artifact: &RemoteArtifact) {
        self.state().answers.insert((artifact.place.clone(), artifact.key), None);
    }

    fn places(&self) -> Vec<String> {
        let failed = self.state().failed.clone();
        let place = |remote: &Remote| match remote.folder().map(std::path::absolute) {
            Some(Ok(folder)) => folder.to_string_lossy().into_owned(),
            _ => remote.place().to_owned(),
        };
        let all = self.all.iter().filter(|remote| !failed.iter().any(|one| one == remote.place()));
        all.map(place).collect()
    }

    fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.state().notes)
    }
}

/// An error as a sentence with what to do. None if it was cancelled.
pub(crate) fn message(place: &str, error: RemoteError) -> Option<String> {
    match error {
        RemoteError::Cancelled => None,
        RemoteError::Unusable(reason, help) => {
            let help = help.map_or(String::new(), |help| format!("; {help}"));
            Some(format!("the cache {place} can't be used: {reason}{help}"))
        }
        RemoteError::Refused(reason) => Some(format!(
            "an output in {place} isn't used: {reason}; `pipe cache push --force` repairs it"
        )),
    }
}

/// The store at a place.
///
/// # Errors
/// If the text names none, or the credentials for it can't be used.
pub(crate) fn remote_at(place: &str) -> Result<Remote, StageError> {
    Remote::at(place).map_err(|error: DownloadError| {
        let failed = StageError::failed(error.to_string());
        match error.help() {
            Some(help) => failed.with_help(help),
            None => failed,
        }
    })
}
