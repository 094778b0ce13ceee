//! The markers and segments of a JPEG file.

/// Start of scan.
const SOS: u8 = 0xda;
/// More than a decoder reads ahead.
const PADDING: [u8; 8] = [0; 8];

/// The segments before the first scan: marker and content.
pub(super) fn segments(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut at = 2;
    std::iter::from_fn(move || {
        at = marker_at(bytes, at);
        let &[0xff, marker, high, low] = bytes.get(at..at + 4)? else { return None };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let content = bytes.get(at + 4..at + 2 + length)?;
        at += 2 + length;
        (marker != SOS).then_some((marker, content))
    })
}

/// The position of the first scan's compressed data.
pub(super) fn scan_start(bytes: &[u8]) -> usize {
    let end = |at, (_, content): (u8, &[u8])| marker_at(bytes, at) + 4 + content.len();
    let header = marker_at(bytes, segments(bytes).fold(2, end));
    header + segment_length(bytes, header).unwrap_or(2)
}

/// The position of the marker at `at`: any number of fill bytes may come before it.
fn marker_at(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at) == Some(&0xff) && bytes.get(at + 1) == Some(&0xff) {
        at += 1;
    }
    at
}

/// The end of the compressed data that begins at `from`: the next marker that isn't a restart.
fn scan_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut pairs = bytes.get(from..)?.windows(2);
    let at = pairs.position(|two| two[0] == 0xff && !matches!(two[1], 0 | 0xd0..=0xd7 | 0xff))?;
    Some(from + at)
}

/// The length of the segment whose marker is at `at`, with the marker; none behind the end.
fn segment_length(bytes: &[u8], at: usize) -> Option<usize> {
    let &[high, low] = bytes.get(at + 2..at + 4)? else { return None };
    Some(2 + usize::from(u16::from_be_bytes([high, low])))
}

/// The file up to its last whole segment or scan, with an end.
pub(super) fn completed(bytes: &[u8]) -> Vec<u8> {
    let mut at = scan_start(bytes);
    let end = loop {
        let Some(marker) = scan_end(bytes, at) else { break bytes.len() };
        match segment_length(bytes, marker).filter(|length| marker + length <= bytes.len()) {
            // A segment that isn't a scan is followed by a marker, or by no part of the image.
            Some(length) => at = marker + length,
            None => break marker,
        }
    };
    let mut whole = bytes[..end.min(bytes.len())].to_vec();
    whole.extend([0xff, 0xd9]);
    whole
}

/// A baseline file of one scan up to the end of its data, with zeros in place of the end marker.
/// None for any other file.
pub(super) fn without_end(bytes: &[u8]) -> Option<Vec<u8>> {
    if !segments(bytes).any(|(marker, _)| matches!(marker, 0xc0 | 0xc1)) {
        return None;
    }
    let end = scan_end(bytes, scan_start(bytes))?;
    let has_end = bytes.get(end + 1) == Some(&0xd9);
    has_end.then(|| [&bytes[..end], &PADDING].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fill_bytes_before_markers_are_skipped() {
        let bytes = [0xff, 0xd8, 0xff, 0xff, 0xff, 0xdb, 0, 4, 1, 2, 0xff, 0xff, 0xda, 0, 3, 9, 7];
        let found: Vec<(u8, &[u8])> = segments(&bytes).collect();
        assert_eq!(found, [(0xdb, &[1, 2][..])]);
        assert_eq!(bytes[scan_start(&bytes)..], [7]);
    }
}
