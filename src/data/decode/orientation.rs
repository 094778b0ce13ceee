//! The orientation in a file's metadata. As Pillow's `exif_transpose`: the value of tag 0x112 in
//! the first directory, of any numeric type; else the property `tiff:Orientation` of XMP.

use super::bytes::Order;
use image::metadata::Orientation;

const TAG: u16 = 0x112;

/// From EXIF and XMP, as they are in the file. No transform if neither has a valid one.
pub(super) fn orientation(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Orientation {
    exif.and_then(from_exif)
        .or_else(|| xmp.and_then(from_xmp))
        .and_then(Orientation::from_exif)
        .unwrap_or(Orientation::NoTransforms)
}

/// From the EXIF data, with or without the prefix `Exif\0\0`.
fn from_exif(bytes: &[u8]) -> Option<u8> {
    let bytes = bytes.strip_prefix(b"Exif\0\0").unwrap_or(bytes);
    let order = match bytes.get(..4)? {
        [b'I', b'I', 42, 0] => Order::Little,
        [b'M', b'M', 0, 42] => Order::Big,
        _ => return None,
    };
    let start = order.u32(bytes, 4)? as usize;
    let count = usize::from(order.u16(bytes, start)?);
    let entry = (0..count)
        .map(|index| start.saturating_add(2 + 12 * index))
        .find(|&at| order.u16(bytes, at) == Some(TAG))?;
    let (kind, length) = (order.u16(bytes, entry + 2)?, order.u32(bytes, entry + 4)?);
    if length != 1 {
        return None;
    }
    valid(order.number(bytes, kind, entry + 8)?)
}

/// An orientation from a number in metadata.
pub(super) fn valid(number: f64) -> Option<u8> {
    (1..=8).find(|&one| f64::from(one) == number)
}

/// From an XMP packet: an attribute or an element.
pub(super) fn from_xmp(bytes: &[u8]) -> Option<u8> {
    const NAME: &[u8] = b"tiff:Orientation";
    let at = bytes.windows(NAME.len()).position(|part| part == NAME)?;
    match bytes.get(at + NAME.len()..at + NAME.len() + 3)? {
        [b'=', b'"' | b'\'', digit] | [b'>', digit, _] => {
            valid(f64::from(digit.checked_sub(b'0')?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exif(kind: u8, value: &[u8]) -> Vec<u8> {
        let mut bytes = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0".to_vec();
        bytes.extend([kind, 0, 0, 0, 1]);
        if value.len() <= 4 {
            bytes.extend(value.iter().copied().chain([0; 4]).take(4));
            bytes.extend([0; 4]);
        } else {
            bytes.extend([0, 0, 0, 26, 0, 0, 0, 0]);
            bytes.extend(value);
        }
        bytes
    }

    #[test]
    fn the_tag_may_have_any_numeric_type() {
        let types: [(u8, &[u8]); 8] = [
            (1, &[6]),
            (3, &[0, 6]),
            (4, &[0, 0, 0, 6]),
            (6, &[6]),
            (9, &[0, 0, 0, 6]),
            (5, &[0, 0, 0, 12, 0, 0, 0, 2]),
            (11, &[0x40, 0xc0, 0, 0]),
            (12, &[0x40, 0x18, 0, 0, 0, 0, 0, 0]),
        ];
        for (kind, value) in types {
            assert_eq!(from_exif(&exif(kind, value)), Some(6), "type {kind}");
        }
        assert_eq!(from_exif(&exif(3, &[0, 9])), None);
        assert_eq!(from_exif(&exif(2, b"6")), None);
    }

    #[test]
    fn xmp_is_read_where_exif_has_none() {
        let attribute = br#"<rdf:Description tiff:Orientation="8"/>"#;
        let element = b"<tiff:Orientation>3</tiff:Orientation>";
        assert_eq!(orientation(None, Some(attribute)), Orientation::Rotate270);
        assert_eq!(orientation(Some(b"II"), Some(element)), Orientation::Rotate180);
        let six = exif(3, &[0, 6]);
        assert_eq!(orientation(Some(&six), Some(element)), Orientation::Rotate90);
    }

    #[test]
    fn a_truncated_block_has_no_orientation() {
        let whole = exif(5, &[0, 0, 0, 6, 0, 0, 0, 1]);
        for length in 0..whole.len() {
            assert_eq!(from_exif(&whole[..length]), None, "{length}");
        }
    }
}
