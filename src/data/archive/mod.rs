//! Archives of images (zip, tar, tar.gz, tar.zst), recognized by their content. Images and label
//! files are unpacked one after another, whatever the size of the archive; entries that could do
//! harm make the whole archive an error that names them.

mod budget;
mod entry_name;
mod entry_use;
mod format;
mod refusal;
mod skipping;
mod tar_archive;
mod tar_entries;
#[cfg(test)]
mod tests;
mod unpack;
mod zip_archive;
mod zstd_reader;

pub(super) use budget::Budget;
pub(crate) use entry_name::relative_path;
pub(crate) use format::{Format, format, is_named_like_archive, without_ending};
pub(super) use tar_entries::{TarEntry, each_entry, open as open_tar};
pub(crate) use unpack::{Unpacked, unpack};
pub(super) use zstd_reader::ZstdReader;
