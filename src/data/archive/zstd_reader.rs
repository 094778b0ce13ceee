//! Decompresses a zstd stream of any number of frames, with checksums verified.

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::error::Error;
use std::io::{self, BufRead, Read};

/// Bytes that a frame may refer back to and that stay in memory: as much as the `zstd` program
/// accepts without `--long`.
const WINDOW: u64 = 128 << 20;

pub(in crate::data) struct ZstdReader<R> {
    inner: R,
    decoder: FrameDecoder,
    /// Whether the decoder is in a frame.
    in_frame: bool,
}

impl<R: BufRead> ZstdReader<R> {
    pub(in crate::data) fn new(inner: R) -> ZstdReader<R> {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW);
        ZstdReader { inner, decoder, in_frame: false }
    }

    /// Begins the next frame. False at the end of the stream.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.inner.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.inner) {
                Ok(()) => {
                    self.in_frame = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped = io::copy(&mut (&mut self.inner).take(length), &mut io::sink())?;
                    if skipped < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(damaged(&error)),
            }
        }
        Ok(false)
    }

    /// Ends a frame.
    fn end(&mut self) -> io::Result<()> {
        self.in_frame = false;
        let stated = self.decoder.get_checksum_from_data();
        if stated.is_some() && stated != self.decoder.get_calculated_checksum() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its checksum is wrong"));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for ZstdReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.in_frame && !self.begin()? {
                return Ok(0);
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.inner, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(|error| damaged(&error))?;
            }
            let count = self.decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.end()?;
        }
    }
}

/// The decoder's error in plain words: its own text names types.
fn damaged(error: &FrameDecoderError) -> io::Error {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(inner) = inner.downcast_ref::<io::Error>() {
            return inner.kind().into();
        }
        source = inner.source();
    }
    io::Error::new(io::ErrorKind::InvalidData, "it is cut short or damaged")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        ZstdReader::new(bytes).read_to_end(&mut all).map(|_| all)
    }

    #[test]
    fn frames_follow_each_other_and_others_are_skipped() {
        let frame = |text: &[u8]| compress_to_vec(text, CompressionLevel::Fastest);
        let skipped = [&0x184d_2a50u32.to_le_bytes()[..], &3u32.to_le_bytes(), b"any"].concat();
        let stream = [frame(b"one"), skipped, frame(b""), frame(&[7; 300_000])].concat();
        assert_eq!(read(&stream).unwrap(), [b"one", &[7; 300_000][..]].concat());
        assert_eq!(read(b"").unwrap(), b"");
    }

    #[test]
    fn truncated_streams_are_errors() {
        let text: Vec<u8> = (0..9000u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        let stream = compress_to_vec(&text[..], CompressionLevel::Fastest);
        assert_eq!(read(&stream).unwrap(), text);
        for length in (1..stream.len()).step_by(7) {
            assert!(read(&stream[..length]).is_err(), "{length}");
        }
    }
}
