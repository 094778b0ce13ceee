//! The only code that prints: facts on standard output, the narration of a run and every complaint on standard error.
//! Knows events and the mistakes of a pipeline file; knows no store, no stage and no command.

mod live;
mod narrator;
mod story;
mod style;
mod table;

pub use narrator::{Narrator, Telling};
pub use style::Style;
pub use table::{Side, Table};

use crate::config::Diagnostics;
use crate::events::Event;
use std::io::{self, Write, stderr, stdout};

/// Prints facts that were asked for. A reader who has seen enough and closed the pipe is no error.
pub fn out(text: &str) -> io::Result<()> {
    let mut stream = stdout().lock();
    match stream.write_all(text.as_bytes()).and_then(|()| stream.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Prints `value` as indented JSON.
pub fn json(value: &impl serde::Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    text.push('\n');
    out(&text)
}

/// Says something beside the facts. Nothing can be done where even that fails.
pub fn note(text: &str) {
    let _ = stderr().lock().write_all(text.as_bytes());
}

/// Says what went wrong and, where known, what to do.
pub fn error(message: &str, help: Option<&str>) {
    note(&complaint(Style::stderr(), message, help));
}

/// Says what is probably not as the user thinks.
pub fn warning(message: &str) {
    let style = Style::stderr();
    note(&format!("{}: {}\n", style.warn("warning"), tame(message)));
}

fn complaint(style: Style, message: &str, help: Option<&str>) -> String {
    let mut text = format!("{}: {}\n", style.bad("error"), indented(&tame(message), "  "));
    if let Some(help) = help {
        text.push_str(&format!("  {} {}\n", style.good("help:"), indented(&tame(help), "  ")));
    }
    text
}

/// Shows the mistakes of a pipeline file, as a compiler shows them.
pub fn diagnostics(diagnostics: &Diagnostics) {
    let mut text = diagnostics.render(Style::stderr().color);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    note(&text);
}

/// The lines that events leave behind, as they are printed where nothing is drawn in place.
pub fn retold(events: &[Event]) -> String {
    let mut story = story::Story::new(Style::stdout(), true, false);
    events.iter().flat_map(|event| story.hear(event)).map(|line| line + "\n").collect()
}

/// What comes from files (names, messages of libraries) must not steer the terminal: control characters are escaped.
fn tame(text: &str) -> String {
    let harmless = |c: char| !c.is_control() || c == '\n';
    if text.chars().all(harmless) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| if harmless(c) { c.to_string() } else { c.escape_default().to_string() })
        .collect()
}

/// Every line but the first moved in by `by`.
fn indented(text: &str, by: &str) -> String {
    text.trim_end().replace('\n', &format!("\n{by}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_keeps_its_lines_together() {
        assert_eq!(
            complaint(Style::PLAIN, "no images in a\x1b[2J\nsecond line\n", Some("look\nthere")),
            "error: no images in a\\u{1b}[2J\n  second line\n  help: look\n  there\n"
        );
    }
}
