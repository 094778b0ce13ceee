//! The bytes of one strip or tile: decompressed up to a given length, and with the predictor
//! undone. What can't be decompressed is left out at the end.

use super::directory::{Directory, Layout, SampleFormat};
use crate::data::decode::bytes::Order;
use flate2::read::ZlibDecoder;
use std::borrow::Cow;
use std::io::Read;
use weezl::{BitOrder, LzwStatus};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

const JPEG: u64 = 7;

/// Whether chunks with this compression are JPEGs.
pub(super) fn is_jpeg(compression: u64) -> bool {
    compression == JPEG
}

/// Refuses a compression that isn't decoded.
pub(super) fn check(compression: u64) -> Result<(), String> {
    let name = match compression {
        1 | 5 | JPEG | 8 | 32_773 | 32_946 => return Ok(()),
        6 => "old-style JPEG",
        34_712 | 33_003 | 33_005 => "JPEG 2000",
        34_887 => "LERC",
        34_925 => "LZMA",
        50_000 => "Zstandard",
        50_001 => "WebP",
        52_546 => "JPEG XL",
        other => {
            return Err(format!("its compression {other} isn't supported: save it with LZW"));
        }
    };
    Err(format!("its compression, {name}, isn't supported: save it with LZW or Deflate"))
}

/// The compressed bytes of a chunk, as far as they are in the file.
pub(super) fn compressed<'a>(bytes: &'a [u8], layout: &Layout, index: usize) -> Cow<'a, [u8]> {
    let start = layout.offsets.get(index).copied().unwrap_or(u64::MAX);
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    let length = layout.lengths.get(index).copied().unwrap_or(u64::MAX);
    let rest = bytes.get(start..).unwrap_or_default();
    let data = &rest[..rest.len().min(usize::try_from(length).unwrap_or(usize::MAX))];
    if layout.reversed {
        return data.iter().map(|byte| byte.reverse_bits()).collect();
    }
    Cow::Borrowed(data)
}

/// At most `most` bytes of a chunk that isn't a JPEG.
pub(super) fn decompressed(data: &[u8], compression: u64, most: usize) -> Vec<u8> {
    match compression {
        5 => lzw(data, most),
        8 | 32_946 => inflated(data, most),
        32_773 => unpacked(data, most),
        _ => data[..data.len().min(most)].to_vec(),
    }
}

fn inflated(data: &[u8], most: usize) -> Vec<u8> {
    let mut out = vec![0; most];
    let (mut reader, mut length) = (ZlibDecoder::new(data), 0);
    while length < most {
        match reader.read(&mut out[length..]) {
            Ok(0) | Err(_) => break,
            Ok(count) => length += count,
        }
    }
    out.truncate(length);
    out
}

fn lzw(data: &[u8], most: usize) -> Vec<u8> {
    let mut decoder = weezl::decode::Decoder::with_tiff_size_switch(BitOrder::Msb, 8);
    let mut out = vec![0; most];
    let (mut read, mut length) = (0, 0);
    while length < most {
        let step = decoder.decode_bytes(&data[read..], &mut out[length..]);
        read += step.consumed_in;
        length += step.consumed_out;
        match step.status {
            Ok(LzwStatus::Ok) if step.consumed_in + step.consumed_out > 0 => {}
            _ => break,
        }
    }
    out.truncate(length);
    out
}

fn unpacked(data: &[u8], most: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(most);
    let mut at = 0;
    while let Some(&code) = data.get(at).filter(|_| out.len() < most) {
        at += 1;
        let code = code as i8;
        if code >= 0 {
            let end = (at + code as usize + 1).min(data.len());
            out.extend_from_slice(&data[at..end]);
            at = end;
        } else if code != i8::MIN {
            let Some(&value) = data.get(at) else { break };
            out.resize(out.len() + usize::from(code.unsigned_abs()) + 1, value);
            at += 1;
        }
    }
    out.truncate(most);
    out
}

/// A chunk that is a JPEG: its width, height and 8-bit samples. RGB for YCbCr.
pub(super) fn jpeg(
    data: &[u8],
    directory: &Directory,
    layout: &Layout,
) -> Result<([usize; 2], Vec<u8>), String> {
    let tables =
        directory.data(347).and_then(|tables| tables.get(2..tables.len().saturating_sub(2)));
    let body = data.get(2..).unwrap_or_default();
    let whole: Vec<u8> = [&[0xff, 0xd8][..], tables.unwrap_or_default(), body].concat();
    let failed = |error: &dyn std::fmt::Debug| format!("a JPEG in it is damaged: {error:?}");
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(layout.chunk[0].max(layout.width))
        .set_max_height(layout.chunk[1].max(layout.height));
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&whole[..]), options);
    decoder.decode_headers().map_err(|error| failed(&error))?;
    let space = match (decoder.input_colorspace(), layout.samples / layout.planes) {
        (Some(ColorSpace::Luma), 1) => ColorSpace::Luma,
        // Without conversion: its components are what the directory says.
        (Some(ColorSpace::YCbCr), 3) if layout.photometric != 6 => ColorSpace::YCbCr,
        (Some(ColorSpace::YCbCr | ColorSpace::RGB), 3) => ColorSpace::RGB,
        _ => return Err("the JPEGs in it have other samples than it declares".into()),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let (width, height) = decoder.dimensions().ok_or("a JPEG in it has no size")?;
    Ok(([width, height], decoder.decode().map_err(|error| failed(&error))?))
}

/// Undoes the predictor of rows of `row` bytes whose pixels have `samples` samples. Returns the
/// order of the bytes in a sample.
pub(super) fn unpredict(
    data: &mut [u8],
    row: usize,
    samples: usize,
    layout: &Layout,
    order: Order,
) -> Result<Order, String> {
    let bytes = layout.bits / 8;
    match (layout.predictor, bytes) {
        (1, _) => Ok(order),
        (2, 1..) => {
            for line in data.chunks_mut(row) {
                add_previous(line, samples * bytes, bytes, order);
            }
            Ok(order)
        }
        (3, 2..) if layout.format == SampleFormat::Float => {
            for line in data.chunks_mut(row) {
                add_previous(line, samples, 1, order);
                let planes = line.to_vec();
                let count = line.len() / bytes;
                for (index, value) in line.chunks_exact_mut(bytes).enumerate() {
                    for (plane, byte) in value.iter_mut().enumerate() {
                        *byte = planes[plane * count + index];
                    }
                }
            }
            Ok(Order::Big)
        }
        (other, _) => Err(format!("its predictor {other} doesn't fit its samples")),
    }
}

/// Adds to each sample of `bytes` bytes the one `step` bytes earlier.
fn add_previous(line: &mut [u8], step: usize, bytes: usize, order: Order) {
    for at in (step..line.len() / bytes * bytes).step_by(bytes) {
        let mut carry = 0;
        for index in 0..bytes {
            let byte = if order == Order::Little { index } else { bytes - 1 - index };
            let sum = u16::from(line[at + byte]) + u16::from(line[at + byte - step]) + carry;
            line[at + byte] = sum as u8;
            carry = sum >> 8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_unpacked_up_to_the_given_length() {
        assert_eq!(unpacked(&[2, 7, 8, 9, 0xfe, 5, 0x80, 0, 1], 100), [7, 8, 9, 5, 5, 5, 1]);
        assert_eq!(unpacked(&[0xfe, 5, 0xfe, 6], 4), [5, 5, 5, 6]);
        assert_eq!(unpacked(&[5, 1, 2], 100), [1, 2]);
    }

    #[test]
    fn differences_are_added_with_carry_in_both_orders() {
        let mut little = [0xff, 0, 2, 0, 0, 1];
        add_previous(&mut little, 2, 2, Order::Little);
        assert_eq!(little, [0xff, 0, 1, 1, 1, 2]);
        let mut big = [0, 0xff, 0, 2, 1, 0];
        add_previous(&mut big, 2, 2, Order::Big);
        assert_eq!(big, [0, 0xff, 1, 1, 2, 1]);
    }
}
