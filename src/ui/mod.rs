//! The only room that prints: results on standard output; progress, warnings and errors on standard
//! error. Depends on events and on the diagnostics of pipeline files; independent of store, stages
//! and commands.

mod diagnostic_log;
mod epochs;
mod json_lines;
mod live;
mod passing;
mod progress;
mod renderer;
mod reporter;
mod style;
mod table;
mod terminal;
mod text;

pub(crate) use diagnostic_log::start_diagnostic_log;
pub(crate) use live::{Live, following};
pub(crate) use passing::Passing;
pub(crate) use reporter::{OutputMode, Reporter};
pub(crate) use style::Style;
pub(crate) use table::{Side, Table};
pub(crate) use text::{padded, width, wrapped};

use crate::common::visible::{is_hidden, visible};
use crate::config::Diagnostics;
use crate::events::Event;
use renderer::Renderer;
use std::io::{self, Write, stderr, stdout};
use text::indented;

/// Prints the result of a command, for people, to standard output: names in it can't control the
/// terminal. A closed pipe (`pipe runs | head`) is not an error.
pub(crate) fn out(text: &str) -> io::Result<()> {
    data(&shown(text))
}

/// Prints the result of a command, for programs, to standard output, as it is.
pub(crate) fn data(text: &str) -> io::Result<()> {
    part(text).map(drop)
}

/// Prints a part of a long result for programs to standard output. False once nobody reads on: then
/// the rest needn't be computed.
pub(crate) fn part(text: &str) -> io::Result<bool> {
    let mut stream = stdout().lock();
    match stream.write_all(text.as_bytes()).and_then(|()| stream.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Prints `value` to standard output as indented JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    text.push('\n');
    data(&text)
}

/// `text` with what a terminal would act on escaped, except line ends and our own styles.
fn shown(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c| is_hidden(c) && c != '\n') {
        let (before, hidden) = rest.split_at(at);
        result.push_str(before);
        let length = match style::length_of_code(hidden) {
            Some(length) => {
                result.push_str(&hidden[..length]);
                length
            }
            None => {
                let c = hidden.chars().next().unwrap_or_default();
                result.extend(c.escape_default());
                c.len_utf8()
            }
        };
        rest = &hidden[length..];
    }
    result + rest
}

/// Prints to standard error. Failures are ignored: there is nowhere left to report them.
pub(crate) fn note(text: &str) {
    let _ = stderr().lock().write_all(shown(text).as_bytes());
}

/// Prints a usage error of the command line, with our help in place of its tip.
pub(crate) fn usage_error(text: &str, help: Option<&str>) {
    let style = Style::stderr();
    let (first, rest) = text.split_once("\n\n").unwrap_or((text.trim_end(), ""));
    let message = first.strip_prefix("error: ").unwrap_or(first);
    let mut text = format!("{}: {}\n\n", style.bad("error"), visible(message));
    let Some(help) = help else {
        note(&(text + rest));
        return;
    };
    text.push_str(&format!("  {} {}\n\n", style.good("help:"), visible(help)));
    let others = rest.split("\n\n").filter(|paragraph| !paragraph.starts_with("  tip:"));
    note(&(text + &others.collect::<Vec<_>>().join("\n\n")));
}

/// Prints an error and, where known, what to do about it.
pub(crate) fn error(message: &str, help: Option<&str>) {
    note(&error_text(Style::stderr(), message, help));
}

/// Prints a warning.
pub(crate) fn warning(message: &str) {
    let style = Style::stderr();
    note(&format!("{}: {}\n", style.warn("warning"), indented(&visible(message), 2)));
}

fn error_text(style: Style, message: &str, help: Option<&str>) -> String {
    let mut text = format!("{}: {}\n", style.bad("error"), indented(&visible(message), 2));
    if let Some(help) = help {
        text.push_str(&format!("  {} {}\n", style.good("help:"), indented(&visible(help), 2)));
    }
    text
}

/// Prints the diagnostics of a pipeline file, each with its source line and a caret.
pub(crate) fn diagnostics(diagnostics: &Diagnostics) {
    let mut text = diagnostics.render(Style::stderr().color);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    // Its styles aren't ours; it shows control characters of the source as symbols.
    let _ = stderr().lock().write_all(text.as_bytes());
}

/// Renders recorded events as the lines that `pipe run` prints where there are no progress bars.
pub(crate) fn render_events(events: &[Event]) -> String {
    let mut lines = EventLines::new();
    events.iter().map(|event| lines.render(event)).collect()
}

/// The same, one event after the other.
pub(crate) struct EventLines(Renderer);

impl EventLines {
    pub(crate) fn new() -> EventLines {
        EventLines(Renderer::new(Style::stdout(), true, false))
    }

    /// The lines that an event adds, each with its end.
    pub(crate) fn render(&mut self, event: &Event) -> String {
        self.0.render(event).into_iter().map(|line| line + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_styles_reach_the_terminal() {
        let style = Style { color: true, ..Style::PLAIN };
        let text = format!("{}\n", style.bad("no"));
        assert_eq!(shown(&text), text);
        assert_eq!(shown("a\x1b[2Jb\x1b]0;t\x07\r"), "a\\u{1b}[2Jb\\u{1b}]0;t\\u{7}\\r");
        assert_eq!(shown("\x1b[5m"), "\\u{1b}[5m");
    }

    #[test]
    fn an_error_is_escaped_and_indented() {
        assert_eq!(
            error_text(Style::PLAIN, "no images in a\x1b[2J\nsecond line\n", Some("look\nthere")),
            "error: no images in a\\u{1b}[2J\n  second line\n  help: look\n  there\n"
        );
    }
}
