//! Ctrl-C and a polite kill: the first one asks to stop, the second one ends the process. Knows signals, not what is going
//! on. (A hang-up is left as it is: `nohup` relies on that.)

use super::failure::{Failure, INTERRUPTED};
use crate::events::CancellationToken;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// From now on the first signal raises `cancel`, and the next one exits at once: stages that are running see that their
/// parent is gone and go too.
pub(super) fn raise(cancel: &CancellationToken) -> Result<(), Failure> {
    let wrong = |error: std::io::Error| Failure::failed(format!("can't listen to Ctrl-C: {error}"));
    for signal in [SIGINT, SIGTERM] {
        // Handlers run in this order: one that saw the flag up already exits before the flag is raised.
        flag::register_conditional_shutdown(signal, i32::from(INTERRUPTED), cancel.flag())
            .map_err(wrong)?;
        flag::register(signal, cancel.flag()).map_err(wrong)?;
    }
    Ok(())
}
