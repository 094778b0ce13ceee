//! A line on a terminal about work that emits no events, such as planning.

use super::style::Style;
use std::io::{Write, stderr};

/// The line, on standard error: it is gone when this is dropped. Without a terminal there is none.
pub(crate) struct Passing {
    is_shown: bool,
}

impl Passing {
    /// Shows a line: a few words, which fit every terminal.
    pub(crate) fn show(text: &str) -> Passing {
        let style = Style::stderr();
        let is_shown = style.live && style.width.is_none_or(|columns| columns > text.len());
        if is_shown {
            let _ = stderr().lock().write_all(style.dim(text).as_bytes());
        }
        Passing { is_shown }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if self.is_shown {
            let _ = stderr().lock().write_all(b"\r\x1b[2K");
        }
    }
}
