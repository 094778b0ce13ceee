//! The diagnostic log: how long the steps between a command and its result take, for people who
//! look for lost time. Off unless `PIPE_LOG` names a file; the processes of a run append to one
//! file. Nothing of it enters a result.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// The environment variable that names the file.
const FILE: &str = "PIPE_LOG";

/// A file that can't be written to.
pub(crate) struct LogError {
    pub path: PathBuf,
    pub error: io::Error,
}

/// Starts the log if the environment asks for one.
pub(crate) fn start_diagnostic_log() -> Result<(), LogError> {
    match std::env::var_os(FILE).filter(|path| !path.is_empty()) {
        None => Ok(()),
        Some(path) => {
            let path = PathBuf::from(path);
            start(&path).map_err(|error| LogError { path, error })
        }
    }
}

fn start(path: &Path) -> io::Result<()> {
    // Each line is one write at the end of the file, so that processes don't mix.
    let file = File::options().append(true).create(true).open(path)?;
    let log = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::DEBUG)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(false)
        .with_target(false)
        .with_writer(Mutex::new(file))
        .finish();
    // Only the first log of a process counts; tests have none.
    let _ = tracing_subscriber::util::SubscriberInitExt::try_init(log);
    Ok(())
}
