//! Archives of images (zip, tar, tar.gz, tar.zst), recognized by their content. Images and label
//! files are unpacked one after another, whatever the size of the archive; entries that could do
//! harm make the whole archive an error that names them.

mod budget;
mod entry_name;
mod format;
mod tar_archive;
#[cfg(test)]
mod tests;
mod unpack;
mod zip_archive;
mod zstd_reader;

pub(crate) use format::{Format, format, is_named_like_archive};
pub(crate) use unpack::{Unpacked, unpack};
