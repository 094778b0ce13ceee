//! The terminal that progress bars are drawn on, three columns narrower than it is: the `^C` that it
//! echoes then stays on the bars' last line, instead of moving the cursor to a line that the bars
//! don't know of.

use indicatif::TermLike;
use std::io::{self, Write, stderr};
use terminal_size::{Height, Width, terminal_size_of};

/// Columns left free at the end of each line.
const MARGIN: u16 = 3;

/// Standard error as a terminal.
#[derive(Debug)]
pub(super) struct Terminal;

impl Terminal {
    fn write(&self, text: &str) -> io::Result<()> {
        stderr().lock().write_all(text.as_bytes())
    }

    /// Moves the cursor with a control sequence; by 0 it would move by 1.
    fn move_by(&self, count: usize, direction: char) -> io::Result<()> {
        if count == 0 { Ok(()) } else { self.write(&format!("\x1b[{count}{direction}")) }
    }
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        let columns = terminal_size_of(stderr()).map_or(80, |(Width(columns), _)| columns);
        // The bars can't be drawn in less than one wide character.
        columns.saturating_sub(MARGIN).max(2)
    }

    fn height(&self) -> u16 {
        terminal_size_of(stderr()).map_or(24, |(_, Height(rows))| rows)
    }

    fn move_cursor_up(&self, count: usize) -> io::Result<()> {
        self.move_by(count, 'A')
    }

    fn move_cursor_down(&self, count: usize) -> io::Result<()> {
        self.move_by(count, 'B')
    }

    fn move_cursor_right(&self, count: usize) -> io::Result<()> {
        self.move_by(count, 'C')
    }

    fn move_cursor_left(&self, count: usize) -> io::Result<()> {
        self.move_by(count, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write(&format!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.write(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.write("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        stderr().lock().flush()
    }
}
