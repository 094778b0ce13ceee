//! Usage errors as clap finds them, with the help that it doesn't have: the nearest command, and
//! `--set` for keys of the pipeline file.

use super::failure::INVALID;
use crate::common::nearest;
use crate::stages::KINDS;
use crate::ui;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};
use std::ffi::OsString;
use std::process::ExitCode;

/// Prints a usage error, or the help or version text, which clap returns as errors too.
pub(super) fn report(error: &Error, command: &Command, arguments: &[OsString]) -> ExitCode {
    if !error.use_stderr() {
        // Failing to print it leaves nowhere to report that.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    let help = match error.kind() {
        ErrorKind::InvalidSubcommand => nearest_command(error, command),
        ErrorKind::UnknownArgument => key_of_the_file(error, arguments),
        _ => None,
    };
    ui::usage_error(&text, help.as_deref());
    ExitCode::from(INVALID)
}

fn context(error: &Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text),
        _ => None,
    }
}

/// The command that was probably meant. clap's suggestion is no help for swapped letters.
fn nearest_command(error: &Error, command: &Command) -> Option<String> {
    let wanted = context(error, ContextKind::InvalidSubcommand)?;
    let near = nearest(wanted, command.get_subcommands().map(Command::get_name))?;
    Some(format!("did you mean `pipe {near}`?"))
}

/// For an option that is a key of the pipeline file: `--set` with it.
fn key_of_the_file(error: &Error, arguments: &[OsString]) -> Option<String> {
    let option = context(error, ContextKind::InvalidArg)?;
    let name = option.strip_prefix("--")?.split('=').next()?.replace('-', "_");
    let (stage, key) = KINDS.iter().find_map(|kind| {
        let key = crate::config::dotted_name(&name, kind.keys())?;
        Some((kind.name(), key))
    })?;
    let arguments: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    let at = arguments.iter().position(|argument| argument.starts_with(option))?;
    let value = arguments[at].split_once('=').map(|(_, value)| value);
    let next = arguments.get(at + 1).filter(|next| !next.starts_with('-'));
    let value = value.or(next.map(|next| next.as_ref())).unwrap_or("VALUE");
    Some(format!(
        "for a key of the pipeline file, write `--set stages.{stage}.{key}={value}`, with the name of your stage"
    ))
}
