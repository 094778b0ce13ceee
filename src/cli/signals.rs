//! Ctrl-C and SIGTERM: the first signal cancels, the second exits. SIGHUP keeps its default, which
//! `nohup` relies on. SIGXFSZ is caught, so that a write fails with a reason.

use super::failure::{Failure, INTERRUPTED};
use crate::events::CancellationToken;
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use std::sync::Arc;

/// Cancels `cancel` on the first signal; the second ends the process at once. Worker processes exit
/// when their parent is gone.
pub(super) fn cancel_on_interrupt(cancel: &CancellationToken) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::failed(format!("failed to install a signal handler: {error}"))
    };
    for signal in [SIGINT, SIGTERM] {
        // Handlers run in this order: on the first signal the flag isn't set yet when the first one
        // checks it.
        flag::register_conditional_shutdown(signal, i32::from(INTERRUPTED), cancel.flag())
            .map_err(failed)?;
        flag::register(signal, cancel.flag()).map_err(failed)?;
    }
    Ok(())
}

/// Lets a write beyond the limit of file sizes (`ulimit -f`) fail instead of killing the process.
pub(super) fn survive_the_file_size_limit() {
    // Without the handler the signal kills, as it did.
    let _ = flag::register(SIGXFSZ, Arc::default());
}
