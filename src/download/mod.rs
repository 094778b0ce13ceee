//! Downloads into the memo: resumed after an interruption, verified, and bounded in time. Knows no
//! weights, no images and no pipelines.
//!
//! Requests run on their own threads, so cancellation takes effect at once, whatever the network
//! does. Proxies are those of the environment (`HTTPS_PROXY`, `NO_PROXY`). Certificates are
//! verified against Mozilla's list, or against the file in `SSL_CERT_FILE`.

mod address;
mod cached;
mod certificates;
mod error;
mod request;
#[cfg(test)]
mod tests;
mod transfer;

pub(crate) use address::Address;
pub(crate) use cached::{Download, cached};
pub(crate) use error::DownloadError;
pub(crate) use request::{RetryPolicy, Version, current_version};
