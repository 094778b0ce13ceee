//! Who holds a lock: a line that the holder writes to the lock's file, for those who wait. It is read
//! only while the lock is taken, since a killed process leaves its line behind.

use super::lock::Lock;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// The most bytes of a line that are read.
const MOST: u64 = 1 << 10;

/// The process that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    pub host: String,
    /// When it got the lock, in seconds since 1970.
    pub since: i64,
}

impl Holder {
    /// This process, since now.
    pub(super) fn this() -> Holder {
        let name = rustix::system::uname();
        let host = name.nodename().to_string_lossy().into_owned();
        Holder { pid: std::process::id(), host, since: Timestamp::now().as_second() }
    }

    /// The holder of the lock at this path. None if nobody has it, or it isn't known who.
    pub(super) fn of(path: &Path) -> Option<Holder> {
        if !matches!(Lock::try_shared(path), Ok(None)) {
            return None;
        }
        let file = std::fs::File::open(path).ok()?;
        let found: Holder = serde_json::from_reader(std::io::Read::take(file, MOST)).ok()?;
        // A line of something else may have a time that is none.
        Timestamp::from_second(found.since).is_ok().then_some(found)
    }
}

/// `process 4711 on lab1 since 2026-11-27 05:58:01 UTC`.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)?;
        let since = Timestamp::from_second(self.since).unwrap_or_default();
        write!(f, " since {} UTC", since.strftime("%Y-%m-%d %H:%M:%S"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_lock_says_who_has_it_and_a_free_one_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = Lock::try_exclusive(&path).unwrap().unwrap();
        assert_eq!(Holder::of(&path), None, "it doesn't say yet");
        lock.write_holder();
        let holder = Holder::of(&path).unwrap();
        assert_eq!(holder.pid, std::process::id());
        assert!(!holder.host.is_empty());
        assert!(Timestamp::now().as_second() - holder.since < 60, "{holder}");
        drop(lock);
        assert_eq!(Holder::of(&path), None, "its line is left, but nobody has the lock");
        // The next holder replaces a line of any length.
        std::fs::write(&path, "x".repeat(5000)).unwrap();
        let lock = Lock::try_exclusive(&path).unwrap().unwrap();
        assert_eq!(Holder::of(&path), None);
        lock.write_holder();
        assert_eq!(Holder::of(&path).map(|holder| holder.pid), Some(std::process::id()));
        drop(lock);
    }
}
