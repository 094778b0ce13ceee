//! Tries after a failure that may pass: how many, after what wait, and with how much memory.

use crate::config::{KeyType, WordOr, unset};
use std::time::Duration;

/// No wait is longer, in seconds.
const LONGEST_WAIT: f64 = 3600.0;

crate::config::keys! {
    /// How a stage is tried again.
    pub struct Retries / GivenRetries {
        /// How often it is tried again.
        times: u32 = 1 in 0..=1000 affects Execution;
        /// Seconds to wait before it is tried again.
        wait: f64 = 10 from 0 affects Execution;
        /// Factor by which each further wait is longer, up to an hour.
        backoff: f64 = 2 from 1 affects Execution;
        /// Factor by which the limit `resources.memory` grows with each try, up to the memory of the
        /// run.
        memory: f64 = 1 from 1 affects Execution;
    }
}

impl Retries {
    /// Of a number alone, the rest is at its default.
    pub(super) fn of(given: WordOr<u32, Retries>) -> Retries {
        match given {
            WordOr::Word(times) => Retries { times, ..Retries::resolved(unset::<Retries>()) },
            WordOr::Table(retries) => retries,
        }
    }

    /// The wait after this many failed tries.
    pub(super) fn wait_after(&self, failed: u32) -> Duration {
        let exponent = failed.saturating_sub(1).min(1_000) as i32;
        let seconds = if self.wait > 0.0 { self.wait * self.backoff.powi(exponent) } else { 0.0 };
        Duration::from_secs_f64(seconds.min(LONGEST_WAIT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_alone_leaves_the_rest_at_its_default() {
        let short = Retries::of(WordOr::Word(1));
        assert_eq!(short, Retries::resolved(unset::<Retries>()));
    }

    #[test]
    fn waits_grow_up_to_an_hour() {
        let retries = Retries { times: 9, wait: 10.0, backoff: 3.0, memory: 1.0 };
        let seconds = |failed| retries.wait_after(failed).as_secs_f64();
        assert_eq!([1, 2, 3, 7, u32::MAX].map(seconds), [10.0, 30.0, 90.0, 3600.0, 3600.0]);
        let none = Retries { wait: 0.0, backoff: f64::MAX, ..retries };
        assert_eq!(none.wait_after(3), Duration::ZERO);
    }
}
