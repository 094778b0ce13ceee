//! A panic of a command becomes its error, with the place in the source where it is a bug.

use super::failure::Failure;
use crate::engine::explain_panic;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

/// Where the last panic was.
static PLACE: Mutex<Option<String>> = Mutex::new(None);

/// Runs a command. Nothing is printed of panics that the program handles itself.
pub(super) fn guarded(
    command: impl FnOnce() -> Result<ExitCode, Failure>,
) -> Result<ExitCode, Failure> {
    set_hook(Box::new(remember));
    catch_unwind(AssertUnwindSafe(command)).unwrap_or_else(|panic| {
        let place = PLACE.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut failure = Failure::from(explain_panic(&*panic));
        if let (Failure::Message { message, .. }, Some(place)) = (&mut failure, place)
            && message.starts_with("internal error")
        {
            message.push_str(&format!(" ({place})"));
        }
        Err(failure)
    })
}

fn remember(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    *PLACE.lock().unwrap_or_else(PoisonError::into_inner) = place;
}
