//! Rows that a JPEG file lacks: the decoder fills them with gray without a word.

use super::segments::{scan_start, segments};
use image::DynamicImage;

/// The value with which the decoder fills missing rows.
const FILL: u8 = 128;

/// Rows that the file lacks: those at the end that have the color of missing ones, and the row of
/// blocks before them, in which the file ends. At least one of a file without an end.
pub(super) fn rows(image: &DynamicImage, bytes: &[u8]) -> u64 {
    match (gray_rows(image), is_cut_short(bytes)) {
        (filled, false) => filled,
        (0, true) => 1,
        (filled, true) => {
            let (height, block) = (u64::from(image.height()), block_height(bytes));
            height - (height.saturating_sub(filled + 1)) / block * block
        }
    }
}

/// The height of a row of blocks in pixels: 8 times the largest vertical sampling factor.
fn block_height(bytes: &[u8]) -> u64 {
    let frame = segments(bytes).find(|(marker, _)| matches!(marker, 0xc0..=0xc2));
    let components = frame.and_then(|(_, content)| content.get(6..)).unwrap_or_default();
    let factors = components.chunks_exact(3).map(|component| u64::from(component[1] & 15));
    8 * factors.max().unwrap_or(1).clamp(1, 4)
}

/// Whether no end marker comes after the start of the first scan.
pub(super) fn is_cut_short(bytes: &[u8]) -> bool {
    let has_pair = |part: &[u8], marker| part.windows(2).rposition(|two| two == [0xff, marker]);
    has_pair(bytes.get(scan_start(bytes)..).unwrap_or_default(), 0xd9).is_none()
}

/// Rows at the end that have the color of missing ones.
fn gray_rows(image: &DynamicImage) -> u64 {
    let row = image.as_bytes().len() / (image.height() as usize).max(1);
    let rows = image.as_bytes().chunks_exact(row.max(1)).rev();
    rows.take_while(|row| row.iter().all(|&value| value == FILL)).count() as u64
}
