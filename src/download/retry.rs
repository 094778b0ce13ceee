//! Timeouts of requests, and how often and when they are sent again.

use super::DownloadError;
use crate::events::CancellationToken;
use std::time::{Duration, Instant};

/// Interval between checks for cancellation.
pub(super) const POLL: Duration = Duration::from_millis(50);

/// Timeouts and retries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetryPolicy {
    /// Timeout of a connection.
    pub connect: Duration,
    /// Timeout of the response's head, and of each read of its body.
    pub stall: Duration,
    /// Number of consecutive attempts without progress.
    pub attempts: u32,
    /// The pause after the first failure; doubles with each further one.
    pub pause: Duration,
    /// The longest pause that a server may ask for.
    pub patience: Duration,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        let seconds = Duration::from_secs;
        RetryPolicy {
            connect: seconds(15),
            stall: seconds(30),
            attempts: 5,
            pause: seconds(1),
            patience: seconds(600),
        }
    }
}

impl RetryPolicy {
    /// For questions that planning waits for: two quick attempts.
    pub(crate) fn quick() -> RetryPolicy {
        let seconds = Duration::from_secs;
        RetryPolicy {
            connect: seconds(4),
            stall: seconds(10),
            attempts: 2,
            pause: Duration::from_millis(500),
            patience: seconds(5),
        }
    }

    /// Sleeps after the failure number `failures`, at least as long as the server asks for.
    pub(super) fn pause(
        &self,
        failures: u32,
        wait: Option<Duration>,
        cancel: &CancellationToken,
    ) -> Result<(), DownloadError> {
        let pause = self.pause.saturating_mul(1 << failures.saturating_sub(1).min(5));
        let until = Instant::now() + pause.max(wait.unwrap_or_default());
        while Instant::now() < until {
            if cancel.is_cancelled() {
                return Err(DownloadError::Cancelled);
            }
            std::thread::sleep(POLL.min(until.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }
}
