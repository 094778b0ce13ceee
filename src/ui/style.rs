//! What a stream can show: color or not, whether it is a terminal on which lines may be drawn again, and how wide that
//! is. Knows the conventions of the environment (NO_COLOR, CLICOLOR_FORCE, TERM) and nothing of what is printed.

use std::env;
use std::io::{IsTerminal, stderr, stdout};
use std::os::fd::AsFd;
use terminal_size::{Width, terminal_size_of};

/// How text is dressed for one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether colors may be used.
    pub color: bool,
    /// Whether lines may be drawn again in place: a terminal that understands cursor movements.
    pub live: bool,
    /// Columns of the terminal; `None` where lines go anywhere else, and may be of any length.
    pub width: Option<usize>,
}

impl Style {
    /// No color, nothing drawn twice.
    pub const PLAIN: Style = Style { color: false, live: false, width: None };

    /// The style of standard output.
    pub fn stdout() -> Style {
        Style::of_stream(stdout())
    }

    /// The style of standard error.
    pub fn stderr() -> Style {
        Style::of_stream(stderr())
    }

    fn of_stream(stream: impl IsTerminal + AsFd) -> Style {
        let variable =
            |name: &str| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let style = Style::of(stream.is_terminal(), variable);
        // A terminal that nobody gave a size says 0.
        let width = terminal_size_of(&stream)
            .map(|(Width(columns), _)| usize::from(columns))
            .filter(|&columns| columns > 0);
        Style { width, ..style }
    }

    /// NO_COLOR (no-color.org) wins over CLICOLOR_FORCE, which wins over what the stream is.
    fn of(terminal: bool, variable: impl Fn(&str) -> Option<String>) -> Style {
        let set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
        let dumb = variable("TERM").is_some_and(|term| term == "dumb");
        let forced = set("CLICOLOR_FORCE") && variable("CLICOLOR_FORCE").as_deref() != Some("0");
        let live = terminal && !dumb;
        Style { color: !set("NO_COLOR") && (forced || live), live, width: None }
    }

    fn dressed(self, code: &str, text: &str) -> String {
        if self.color && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// What matters most.
    pub fn bold(self, text: &str) -> String {
        self.dressed("1", text)
    }

    /// What may be skipped.
    pub fn dim(self, text: &str) -> String {
        self.dressed("2", text)
    }

    /// What went well.
    pub fn good(self, text: &str) -> String {
        self.dressed("32", text)
    }

    /// What deserves a look.
    pub fn warn(self, text: &str) -> String {
        self.dressed("33", text)
    }

    /// What went wrong.
    pub fn bad(self, text: &str) -> String {
        self.dressed("1;31", text)
    }
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
    fn the_environment_decides() {
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
    fn plain_text_stays_as_it_is() {
        assert_eq!(Style::PLAIN.bad("no"), "no");
        assert_eq!(Style { color: true, ..Style::PLAIN }.bad("no"), "\x1b[1;31mno\x1b[0m");
    }
}
