//! The memos of the stores elsewhere of `--cache-from`, for stages that can use their entries. A place
//! that fails isn't asked again, and what is wrong with it is one warning.

use super::remotes::{Remote, RemoteError, message, remote_at};
use crate::engine::Context;
use crate::events::{CancellationToken, EventSink, Task};
use crate::store::{Digest, Memo, MemoSource};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// The memo of a stage, with those of the stores elsewhere.
pub(super) fn memo_of(context: &Context) -> Memo {
    let sources = context.cache_from.iter().filter_map(|place| match remote_at(place) {
        Ok(remote) => Some(Arc::new(MemoElsewhere::of(remote, context)) as Arc<dyn MemoSource>),
        Err(error) => {
            context.events.warn(format!("the cache {place} can't be used: {error}"));
            None
        }
    });
    context.memo.clone().with_sources(sources.collect())
}

/// The memo of a store elsewhere.
struct MemoElsewhere {
    remote: Remote,
    events: EventSink,
    cancel: CancellationToken,
    /// The progress of all files, from the first one on.
    task: OnceLock<Task>,
    has_failed: AtomicBool,
    has_warned: AtomicBool,
}

impl MemoElsewhere {
    fn of(remote: Remote, context: &Context) -> MemoElsewhere {
        MemoElsewhere {
            remote,
            events: context.events.clone(),
            cancel: context.cancel.clone(),
            task: OnceLock::new(),
            has_failed: AtomicBool::new(false),
            has_warned: AtomicBool::new(false),
        }
    }

    /// The answer to a question, unless the place fails or has failed before.
    fn ask<T>(
        &self,
        question: impl FnOnce(&Remote) -> Result<Option<T>, RemoteError>,
    ) -> Option<T> {
        if self.has_failed.load(Ordering::Relaxed) {
            return None;
        }
        match question(&self.remote) {
            Ok(answer) => return answer,
            Err(RemoteError::Refused(reason)) => self.refuse(reason),
            Err(error) => {
                self.has_failed.store(true, Ordering::Relaxed);
                if let Some(text) = message(self.place(), error) {
                    self.warn(text);
                }
            }
        }
        None
    }

    fn warn(&self, text: String) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            self.events.warn(text);
        }
    }
}

impl MemoSource for MemoElsewhere {
    fn place(&self) -> &str {
        self.remote.place()
    }

    fn value(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        self.ask(|remote| remote.memo_value(bucket, key, &self.cancel))
    }

    fn file(
        &self,
        bucket: &str,
        key: &str,
        digest: &Digest,
        most: u64,
        folder: &Path,
    ) -> Option<PathBuf> {
        self.ask(|remote| {
            let Some(file) = remote.memo_file(bucket, key, digest, &self.cancel)? else {
                return Ok(None);
            };
            if file.listed.len > most {
                let reason = format!("`{}` has {} bytes", file.object, file.listed.len);
                return Err(RemoteError::Refused(reason));
            }
            let task = self.task.get_or_init(|| self.events.task("download", None, "bytes"));
            let (object, listed) = (&file.object, &file.listed);
            remote.fetch_file(object, listed, folder, task, &self.events, &self.cancel)?;
            Ok(Some(folder.join(&listed.path)))
        })
    }

    fn refuse(&self, reason: String) {
        let place = self.place();
        self.warn(format!(
            "cached features in {place} aren't used: {reason}; `pipe cache push --force` repairs it"
        ));
    }
}

impl fmt::Debug for MemoElsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoElsewhere in {}", self.place())
    }
}
