//! Downloads into the memo: resumed after an interruption, verified, and bounded in time. Knows no
//! weights, no images and no pipelines, but the sites whose answers need an explanation.
//!
//! Requests run on their own threads, so cancellation takes effect at once, whatever the network
//! does. Proxies are those of the environment (`HTTPS_PROXY`, `NO_PROXY`). Certificates are
//! verified against Mozilla's list, or against the file in `SSL_CERT_FILE`.

mod address;
mod cached;
mod certificates;
mod error;
mod hashes;
pub(crate) mod hub;
pub(crate) mod kaggle;
mod login;
mod questions;
mod remote;
mod request;
mod retry;
mod sigv4;
mod site;
#[cfg(test)]
mod tests;
mod transfer;
mod upload;
mod version;

pub(crate) use address::Address;
pub(crate) use cached::{Download, Expected, cached, known_digest, known_version};
pub(crate) use error::DownloadError;
pub(crate) use questions::{current_version, hub_facts, hub_files, kaggle_facts};
pub(crate) use remote::{Remote, RemoteError, Web};
pub(crate) use retry::RetryPolicy;
pub(crate) use site::Site;
pub(crate) use version::Version;
