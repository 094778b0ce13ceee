//! What the places of stores have in common: their errors, and the transfer of several files at a
//! time.

use super::folder::Folder;
use super::web::Web;
use crate::download::DownloadError;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Files that are transferred at a time: each waits for the network most of its time.
const AT_A_TIME: usize = 8;

/// The objects of a store.
#[derive(Debug)]
pub(super) enum Objects {
    Folder(Folder),
    Web(Web),
}

/// Why a store elsewhere isn't used.
#[derive(Debug)]
pub(crate) enum RemoteError {
    Cancelled,
    /// The whole place: a sentence, and what to do.
    Unusable(String, Option<String>),
    /// One of its objects: the end of a sentence.
    Refused(String),
}

impl RemoteError {
    /// A failure to write here.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> RemoteError {
        let path = path.to_owned();
        move |error| {
            RemoteError::Refused(format!("can't be written to {}: {error}", path.display()))
        }
    }
}

impl From<DownloadError> for RemoteError {
    fn from(error: DownloadError) -> RemoteError {
        match error {
            DownloadError::Cancelled => RemoteError::Cancelled,
            DownloadError::NotFound { .. } => RemoteError::Refused("is missing".to_owned()),
            DownloadError::TooLong { .. } | DownloadError::Changed { .. } => {
                RemoteError::Refused("has another length than its manifest says".to_owned())
            }
            DownloadError::Damaged { .. } | DownloadError::WrongDigest { .. } => {
                RemoteError::Refused("arrives damaged".to_owned())
            }
            DownloadError::Io { path, source } => RemoteError::io(&path)(source),
            DownloadError::Busy { seconds, .. } => {
                let reason = "it limits the number of requests (status 429)".to_owned();
                RemoteError::Unusable(reason, Some(format!("try again after {seconds} seconds")))
            }
            DownloadError::Unreachable { reason, .. } => {
                RemoteError::Unusable(reason, Some(NETWORK_HELP.to_owned()))
            }
            error => {
                let help = error.help().map(str::to_owned);
                RemoteError::Unusable(error.to_string(), help)
            }
        }
    }
}

const NETWORK_HELP: &str = "check the address and the network; behind a proxy, set HTTPS_PROXY";

/// Does `work` for each of the items, several at a time, until one fails.
///
/// # Errors
/// The first failure.
pub(super) fn each<T: Sync>(
    items: &[T],
    work: impl Fn(&T) -> Result<(), RemoteError> + Sync,
) -> Result<(), RemoteError> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let lock = || failed.lock().unwrap_or_else(PoisonError::into_inner);
    let work_on = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = work(item) {
                // The others take no more items.
                next.store(items.len(), Ordering::Relaxed);
                lock().get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        let more = AT_A_TIME.min(items.len()).saturating_sub(1);
        for _ in 0..more {
            // Fewer threads do the same work.
            if std::thread::Builder::new().spawn_scoped(scope, work_on).is_err() {
                break;
            }
        }
        work_on();
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_until_one_fails() {
        let items: Vec<usize> = (0..100).collect();
        let done = AtomicUsize::new(0);
        each(&items, |item| {
            done.fetch_add(*item, Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
        assert_eq!(done.into_inner(), 4950);
        let failed = each(&items, |item| match item {
            3 => Err(RemoteError::Refused("is missing".to_owned())),
            _ => Ok(()),
        });
        assert!(matches!(failed, Err(RemoteError::Refused(_))));
        each(&[0; 0], |_| Err(RemoteError::Cancelled)).unwrap();
    }
}
