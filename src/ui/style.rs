//! The capabilities of an output stream (colors, cursor movement, width) and the styles of text on
//! it. Follows NO_COLOR, CLICOLOR_FORCE and TERM.

use std::env;
use std::io::{IsTerminal, stderr, stdout};
use std::os::fd::AsFd;
use terminal_size::{Width, terminal_size_of};

/// The capabilities of one output stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    /// Whether colors may be used.
    pub color: bool,
    /// Whether lines can be redrawn in place: a terminal that supports cursor movement.
    pub live: bool,
    /// Columns of the terminal; `None` if the stream is not a terminal.
    pub width: Option<usize>,
}

impl Style {
    /// Neither color nor redrawing, and no width.
    #[cfg(test)]
    pub(crate) const PLAIN: Style = Style { color: false, live: false, width: None };

    /// The style of standard output.
    pub(crate) fn stdout() -> Style {
        Style::of_stream(stdout())
    }

    /// The style of standard error.
    pub(crate) fn stderr() -> Style {
        Style::of_stream(stderr())
    }

    fn of_stream(stream: impl IsTerminal + AsFd) -> Style {
        let variable =
            |name: &str| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let style = Style::of(stream.is_terminal(), variable);
        // A terminal without a size reports 0 columns.
        let width = terminal_size_of(&stream)
            .map(|(Width(columns), _)| usize::from(columns))
            .filter(|&columns| columns > 0);
        Style { width, ..style }
    }

    /// NO_COLOR (no-color.org) overrides CLICOLOR_FORCE, which overrides the kind of stream.
    fn of(terminal: bool, variable: impl Fn(&str) -> Option<String>) -> Style {
        let set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
        let dumb = variable("TERM").is_some_and(|term| term == "dumb");
        let forced = set("CLICOLOR_FORCE") && variable("CLICOLOR_FORCE").as_deref() != Some("0");
        let live = terminal && !dumb;
        Style { color: !set("NO_COLOR") && (forced || live), live, width: None }
    }

    fn styled(self, code: &str, text: &str) -> String {
        if self.color && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// For headlines and names.
    pub(crate) fn bold(self, text: &str) -> String {
        self.styled("1", text)
    }

    /// For details.
    pub(crate) fn dim(self, text: &str) -> String {
        self.styled("2", text)
    }

    /// For success.
    pub(crate) fn good(self, text: &str) -> String {
        self.styled("32", text)
    }

    /// For warnings.
    pub(crate) fn warn(self, text: &str) -> String {
        self.styled("33", text)
    }

    /// For errors.
    pub(crate) fn bad(self, text: &str) -> String {
        self.styled("1;31", text)
    }
}

/// The length of one of our own escape sequences at the start of `text`.
pub(super) fn length_of_code(text: &str) -> Option<usize> {
    let code = text.strip_prefix("\x1b[")?.split_once('m')?.0;
    ["0", "1", "2", "32", "33", "1;31"].contains(&code).then_some(code.len() + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(terminal: bool, variables: &[(&str, &str)]) -> Style {
        Style::of(terminal, |name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_decides_color_and_redrawing() {
        let color = |color, live| Style { color, live, width: None };
        assert_eq!(of(true, &[]), color(true, true));
        assert_eq!(of(false, &[]), color(false, false));
        assert_eq!(of(true, &[("NO_COLOR", "1")]), color(false, true));
        assert_eq!(of(true, &[("NO_COLOR", "")]), color(true, true));
        assert_eq!(of(true, &[("TERM", "dumb")]), color(false, false));
        assert_eq!(of(false, &[("CLICOLOR_FORCE", "1")]), color(true, false));
        assert_eq!(of(false, &[("CLICOLOR_FORCE", "0")]), color(false, false));
        assert_eq!(of(false, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), color(false, false));
    }

    #[test]
    fn without_color_text_is_unchanged() {
        assert_eq!(Style::PLAIN.bad("no"), "no");
        assert_eq!(Style { color: true, ..Style::PLAIN }.bad("no"), "\x1b[1;31mno\x1b[0m");
    }
}
