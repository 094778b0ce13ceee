//! The only room that prints: results on standard output; progress, warnings and errors on standard
//! error. Depends on events and on the diagnostics of pipeline files; independent of store, stages
//! and commands.

mod epochs;
mod progress;
mod renderer;
mod reporter;
mod style;
mod table;
mod text;

pub(crate) use reporter::{OutputMode, Reporter};
pub(crate) use style::Style;
pub(crate) use table::{Side, Table};
pub(crate) use text::{padded, width, wrapped};

use crate::config::Diagnostics;
use crate::events::Event;
use renderer::Renderer;
use std::io::{self, Write, stderr, stdout};
use text::{escaped, indented};

/// Prints the result of a command to standard output. A closed pipe (`pipe runs | head`) is not an
/// error.
pub(crate) fn out(text: &str) -> io::Result<()> {
    let mut stream = stdout().lock();
    match stream.write_all(text.as_bytes()).and_then(|()| stream.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Prints `value` to standard output as indented JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    text.push('\n');
    out(&text)
}

/// Prints to standard error. Failures are ignored: there is nowhere left to report them.
pub(crate) fn note(text: &str) {
    let _ = stderr().lock().write_all(text.as_bytes());
}

/// Prints an error and, where known, what to do about it.
pub(crate) fn error(message: &str, help: Option<&str>) {
    note(&error_text(Style::stderr(), message, help));
}

/// Prints a warning.
pub(crate) fn warning(message: &str) {
    let style = Style::stderr();
    note(&format!("{}: {}\n", style.warn("warning"), indented(&escaped(message), 2)));
}

fn error_text(style: Style, message: &str, help: Option<&str>) -> String {
    let mut text = format!("{}: {}\n", style.bad("error"), indented(&escaped(message), 2));
    if let Some(help) = help {
        text.push_str(&format!("  {} {}\n", style.good("help:"), indented(&escaped(help), 2)));
    }
    text
}

/// Prints the diagnostics of a pipeline file, each with its source line and a caret.
pub(crate) fn diagnostics(diagnostics: &Diagnostics) {
    let mut text = diagnostics.render(Style::stderr().color);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    note(&text);
}

/// Renders recorded events as the lines that `pipe run` prints where there are no progress bars.
pub(crate) fn render_events(events: &[Event]) -> String {
    let mut renderer = Renderer::new(Style::stdout(), true, false);
    events.iter().flat_map(|event| renderer.render(event)).map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_escaped_and_indented() {
        assert_eq!(
            error_text(Style::PLAIN, "no images in a\x1b[2J\nsecond line\n", Some("look\nthere")),
            "error: no images in a\\u{1b}[2J\n  second line\n  help: look\n  there\n"
        );
    }
}
